//! A transaction's stages, for callers who wait, watch and ask.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use alloy::{
    consensus::TxEip1559,
    eips::BlockNumHash,
    primitives::{B256, TxHash},
};
use async_trait::async_trait;
use futures::{StreamExt, future::join_all};
use millrace_proto::{
    Attestation, BatchPoint, BatchRecord, BatchVerdict, BoxStream, DaKind, ExecutedBlock, L1Ref,
    RejectReason, Sequencer, SequencerError, Settlement, SettlementError, SettlementStatus, Stage,
    TxPool, TxStatus,
};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;

use crate::support::{GWEI, Node, Random, Setup, sign, signer, soon, transfer};

/// Settlement as a test says it is: one batch for all blocks.
#[derive(Debug)]
pub(crate) struct TestSettlement {
    status: watch::Sender<SettlementStatus>,
    /// The chain that is derived from L1, from block 1 on.
    derived: Mutex<Vec<Arc<ExecutedBlock>>>,
    /// How often a block of it was asked for.
    asked: AtomicU64,
}

impl TestSettlement {
    pub(crate) fn new() -> Self {
        let l1_head = BlockNumHash::new(1, B256::repeat_byte(1));
        let status = watch::channel(SettlementStatus { l1_head, ..SettlementStatus::default() }).0;
        Self { status, derived: Mutex::default(), asked: AtomicU64::new(0) }
    }

    pub(crate) fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// L1 holds these blocks, from block 1 on.
    pub(crate) fn derive(&self, blocks: Vec<Arc<ExecutedBlock>>) {
        let unmatched = blocks.last().map(|last| last.num_hash());
        let last_block = unmatched.map_or(0, |last| last.number);
        *self.derived.lock() = blocks;
        let posted = BatchPoint { batch: 1, last_block, last_block_hash: None };
        self.status.send_modify(|status| {
            status.posted = Some(posted);
            status.unmatched = unmatched;
        });
    }

    pub(crate) fn say(&self, posted: u64, committed: u64, finalized: u64) {
        let point = |block: u64| {
            (block > 0).then_some(BatchPoint { batch: 1, last_block: block, last_block_hash: None })
        };
        self.status.send_replace(SettlementStatus {
            posted: point(posted),
            verified: point(committed),
            committed: point(committed),
            finalized: point(finalized),
            ..SettlementStatus::default()
        });
    }
}

fn l1(byte: u8) -> L1Ref {
    L1Ref { tx_hash: B256::repeat_byte(byte), block: BlockNumHash::new(9, B256::repeat_byte(9)) }
}

#[async_trait]
impl Settlement for TestSettlement {
    async fn settlement_status(&self) -> Result<SettlementStatus, SettlementError> {
        Ok(self.status.borrow().clone())
    }

    async fn subscribe_status(
        &self,
    ) -> Result<BoxStream<SettlementStatus, SettlementError>, SettlementError> {
        Ok(WatchStream::new(self.status.subscribe()).map(Ok).boxed())
    }

    async fn batch_of_block(&self, number: u64) -> Result<Option<BatchRecord>, SettlementError> {
        let status = self.status.borrow().clone();
        let within = |point: Option<BatchPoint>| point.is_some_and(|p| p.last_block >= number);
        Ok(within(status.posted).then(|| BatchRecord {
            number: 1,
            first_block: 1,
            last_block: number,
            digest: B256::ZERO,
            da_kind: DaKind::L1Blob,
            posted: l1(1),
            committed: within(status.committed).then(|| l1(2)),
            finalized: within(status.finalized),
        }))
    }

    async fn verdict(&self, _: u64) -> Result<Option<BatchVerdict>, SettlementError> {
        unreachable!("the sequencer does not ask")
    }

    async fn derived_block(
        &self,
        number: u64,
    ) -> Result<Option<Arc<ExecutedBlock>>, SettlementError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let index = usize::try_from(number - 1).expect("small");
        Ok(self.derived.lock().get(index).cloned())
    }

    async fn attest(&self, _: u64) -> Result<Option<Attestation>, SettlementError> {
        Err(SettlementError::NotAVerifier)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_stage_is_seen_once_and_in_order() {
    let settlement = Arc::new(TestSettlement::new());
    let mut setup = Setup::new();
    setup.settlement = Some(settlement.clone());
    let node = setup.start().await;
    let hash = node.submit(sign(&signer(0), transfer(0))).await.expect("accepted");
    let mut watched = node.handle.watch(hash).await.expect("known");
    let mut next = async || soon(watched.next()).await.expect("a stage").expect("no error");

    let accepted: TxStatus = next().await;
    assert_eq!((accepted.stage, accepted.inclusion), (Stage::Accepted, None));
    let sequenced = next().await;
    assert_eq!(sequenced.stage, Stage::Sequenced);
    let inclusion = sequenced.inclusion.expect("a place");
    assert_eq!((inclusion.block.number, inclusion.index, inclusion.gas_used), (1, 0, 21_000));
    assert!(inclusion.receipt.success && sequenced.reached_at.is_some());
    assert_eq!((sequenced.batch, sequenced.l1), (None, None));

    settlement.say(1, 0, 0);
    let posted = next().await;
    assert_eq!((posted.stage, posted.batch, posted.l1), (Stage::Posted, Some(1), Some(l1(1))));
    settlement.say(1, 1, 0);
    let committed = next().await;
    assert_eq!((committed.stage, committed.l1), (Stage::Committed, Some(l1(2))));
    settlement.say(1, 1, 1);
    let finalized = next().await;
    assert_eq!((finalized.stage, finalized.l1), (Stage::Finalized, Some(l1(2))));
    assert!(soon(watched.next()).await.is_none(), "nothing follows the last stage");

    let heads = node.handle.heads().await.expect("heads");
    assert_eq!(
        (heads.latest, heads.safe, heads.finalized),
        (inclusion.block, inclusion.block, inclusion.block)
    );
    drop(watched);
    node.stop().await.expect("a clean end");

    // After a restart it is all still known, before settlement says a word.
    setup.settlement = Some(Arc::new(TestSettlement::new()));
    let node = setup.start().await;
    let found = node.handle.transaction(hash).await.expect("no error").expect("known");
    assert_eq!(found.tx.hash(), hash);
    assert_eq!(found.status.inclusion.expect("a place").block, inclusion.block);
    assert_eq!(found.status.stage, Stage::Finalized);
    let stages: Vec<Stage> = node
        .handle
        .watch(hash)
        .await
        .expect("known")
        .map(|status| status.expect("no error").stage)
        .collect()
        .await;
    use Stage as S;
    assert_eq!(stages, [S::Accepted, S::Sequenced, S::Posted, S::Committed, S::Finalized]);
    node.stop().await.expect("a clean end");
}

/// All that is told of some transactions, to those who ask and to those who watch.
async fn told(node: &Node, hashes: &[TxHash]) -> Vec<Vec<TxStatus>> {
    let mut told = Vec::new();
    for hash in hashes {
        let stages = node.handle.stages(*hash).await.expect("no error");
        let watched = node.handle.watch(*hash).await.expect("known");
        let watched: Vec<_> = soon(watched.take(stages.len()).collect()).await;
        let watched: Vec<_> = watched.into_iter().map(|status| status.expect("no error")).collect();
        assert_eq!(watched, stages);
        assert!(stages.iter().all(|status| status.reached_at.is_some()), "{stages:?}");
        assert!(stages.is_sorted_by_key(|status| status.reached_at), "{stages:?}");
        told.push(stages);
    }
    told
}

/// Transfers that are sequenced, wait for a nonce, or are replaced, and settled step by step, on a clock that goes on by random milliseconds; with stops and kills in between.
#[tokio::test(flavor = "multi_thread")]
async fn every_stage_and_its_time_outlasts_restarts() {
    let mut random = Random::seeded();
    let settlement = Arc::new(TestSettlement::new());
    let mut setup = Setup::new();
    setup.settlement = Some(settlement.clone());
    let mut node = setup.start().await;
    let (mut hashes, mut nonces, mut fee) = (Vec::new(), [0; 3], 100 * GWEI);
    let (mut head, mut last, mut settled) = (0, TxHash::ZERO, [0; 3]);
    let mut restarts = 0;
    for step in 0..60 {
        setup.clock.1.fetch_add(1 + random.below(5_000), Ordering::Relaxed);
        // All of it happens, in an order that is random.
        match if step < 5 { step } else { random.below(6) } {
            0 | 5 => {
                let sender = random.below(3) as u8;
                let nonce = &mut nonces[usize::from(sender)];
                last =
                    node.submit(sign(&signer(sender), transfer(*nonce))).await.expect("accepted");
                *nonce += 1;
                head = node.sequenced(last).await.inclusion.expect("a place").block.number;
                hashes.push(last);
            }
            // Waits for a nonce, until the next one takes its place.
            1 | 2 => {
                fee += fee / 5;
                let tx = TxEip1559 {
                    max_fee_per_gas: fee,
                    max_priority_fee_per_gas: fee,
                    ..transfer(7)
                };
                hashes.push(node.submit(sign(&signer(3), tx)).await.expect("accepted"));
            }
            3 if settled[0] < head => {
                settled = [head, settled[0], settled[1]];
                settlement.say(settled[0], settled[1], settled[2]);
                soon(node.handle.wait_for(last, Stage::Posted)).await.expect("posted");
            }
            3 => {}
            _ => {
                let before = told(&node, &hashes).await;
                match random.below(2) {
                    0 => node.stop().await.expect("a clean end"),
                    _ => node.kill().await,
                }
                setup.clock.1.fetch_add(1 + random.below(5_000), Ordering::Relaxed);
                node = setup.start().await;
                assert_eq!(told(&node, &hashes).await, before, "at step {step}");
                restarts += 1;
            }
        }
    }
    // Something of everything was there.
    let stages = told(&node, &hashes).await;
    let count = |stage| stages.iter().flatten().filter(|status| status.stage == stage).count();
    assert!(restarts > 0 && count(Stage::Posted) > 0 && count(Stage::Dropped) > 0);
    let dropped = stages.iter().find(|stages| stages.len() == 2 && stages[1].reason.is_some());
    let [accepted, dropped] = &dropped.expect("one was replaced")[..] else { unreachable!() };
    assert_eq!((accepted.stage, &accepted.reason), (Stage::Accepted, &None));
    assert_eq!(dropped.reason.as_ref().map(RejectReason::code), Some("REPLACED"));
    node.stop().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_only_move_forward_and_never_pass_each_other() {
    let settlement = Arc::new(TestSettlement::new());
    let mut setup = Setup::new();
    setup.settlement = Some(settlement.clone());
    let node = setup.start().await;
    let mut last = TxHash::ZERO;
    for nonce in 0..3 {
        last = node.submit(sign(&signer(0), transfer(nonce))).await.expect("accepted");
        node.sequenced(last).await;
    }
    // More than there is, and a commitment beyond what is posted.
    settlement.say(2, 90, 1);
    let first = node.blocks().await[0].transactions[0].hash();
    soon(node.handle.wait_for(first, Stage::Finalized)).await.expect("final");
    let heads = node.handle.heads().await.expect("heads");
    assert_eq!((heads.latest.number, heads.safe.number, heads.finalized.number), (3, 2, 1));
    // An L1 reorg takes the batch back: the heads stay.
    settlement.say(0, 0, 0);
    settlement.say(90, 3, 0);
    soon(node.handle.wait_for(last, Stage::Committed)).await.expect("committed");
    let heads = node.handle.heads().await.expect("heads");
    assert_eq!((heads.latest.number, heads.safe.number, heads.finalized.number), (3, 3, 1));
    assert_eq!(heads.safe.hash, heads.latest.hash);
    node.stop().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_may_wait() {
    let mut setup = Setup::new();
    let node = setup.start().await;
    let key = signer(0);
    let waiting = node.submit(sign(&key, transfer(1))).await.expect("accepted");
    let waiters: Vec<_> = (0..5_000)
        .map(|_| {
            let handle = node.handle.clone();
            tokio::spawn(async move { handle.wait_for(waiting, Stage::Sequenced).await })
        })
        .collect();
    node.submit(sign(&key, transfer(0))).await.expect("accepted");
    for status in soon(join_all(waiters)).await {
        let status = status.expect("no panic").expect("a status");
        assert_eq!(status.stage, Stage::Sequenced);
    }
    node.stop().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_the_unknown_is_told_so() {
    let mut setup = Setup::new();
    let node = setup.start().await;
    let hash = TxHash::repeat_byte(7);
    assert!(node.handle.transaction(hash).await.expect("no error").is_none());
    let waited = node.handle.wait_for(hash, Stage::Sequenced).await;
    assert!(matches!(waited, Err(SequencerError::UnknownTransaction(h)) if h == hash));
    assert!(node.handle.watch(hash).await.is_err());

    // Waiting ends with the service.
    let waiting = node.submit(sign(&signer(0), transfer(1))).await.expect("accepted");
    let handle = node.handle.clone();
    let waiter = tokio::spawn(async move { handle.wait_for(waiting, Stage::Sequenced).await });
    let handle = node.handle.clone();
    node.stop().await.expect("a clean end");
    let ended = soon(waiter).await.expect("no panic");
    assert!(matches!(ended, Err(SequencerError::Unavailable(_))), "{ended:?}");
    let refused = handle.submit(sign(&signer(1), transfer(0))).await;
    assert!(refused.is_err(), "{refused:?}");
}

/// Settlement may not have seen yet that blocks were taken back: what it says of them is not said of those in their place.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_settled_of_other_blocks_settles_nothing() {
    let settlement = Arc::new(TestSettlement::new());
    let mut setup = Setup::new();
    setup.settlement = Some(settlement.clone());
    let node = setup.start().await;
    let mut blocks = Vec::new();
    for nonce in 0..2 {
        let hash = node.submit(sign(&signer(0), transfer(nonce))).await.expect("accepted");
        blocks.push(node.sequenced(hash).await.inclusion.expect("a place").block);
    }
    let point =
        |block: u64, hash| BatchPoint { batch: 1, last_block: block, last_block_hash: Some(hash) };
    let say = |point| {
        settlement.status.send_replace(SettlementStatus {
            posted: Some(point),
            verified: Some(point),
            ..SettlementStatus::default()
        });
    };
    say(point(2, B256::repeat_byte(9)));
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    say(point(1, blocks[0].hash));
    let safe = async {
        loop {
            let safe = node.handle.heads().await.expect("heads").safe;
            if safe.number > 0 {
                return safe;
            }
            tokio::task::yield_now().await;
        }
    };
    assert_eq!(soon(safe).await, blocks[0]);
    node.stop().await.expect("a clean end");
}

//! A transaction's stages, for callers who wait, watch and ask.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use alloy::{
    eips::BlockNumHash,
    primitives::{B256, TxHash},
};
use async_trait::async_trait;
use futures::{StreamExt, future::join_all};
use millrace_proto::{
    Attestation, BatchPoint, BatchRecord, BatchVerdict, BoxStream, DaKind, ExecutedBlock, L1Ref,
    Sequencer, SequencerError, Settlement, SettlementError, SettlementStatus, Stage, TxPool,
    TxStatus,
};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;

use crate::support::{Setup, sign, signer, soon, transfer};

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

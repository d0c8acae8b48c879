//! How blocks come to be: order, room, deposits, time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use alloy::{
    consensus::TxEip1559,
    eips::Encodable2718,
    primitives::{B256, Bytes, TxKind, U256, keccak256},
};
use async_trait::async_trait;
use millrace_proto::{
    DaAdapter, DaAdapterError, DaStatus, Executor, L1Inbox, OutboxBatch, PoolStatus, QueueEntry,
    QueueMark, RecoveredTx, RefusedBlocks, Sequencer, Stage, TxEnvelope, TxPool,
};
use millrace_sequencer::{OrderLog, Position, Record, ThrottleConfig};
use parking_lot::Mutex;

use crate::{
    inbox::{TestInbox, minted},
    support::{GENESIS_TIME, GWEI, Setup, sign, signer, soon, transfer},
};

#[tokio::test(flavor = "multi_thread")]
async fn transactions_come_in_the_order_of_arrival() {
    let mut setup = Setup::new();
    let node = setup.start().await;
    let mut raw = Vec::new();
    for nonce in 0..20 {
        for index in [3, 1, 2] {
            raw.push(sign(&signer(index), transfer(nonce)));
        }
    }
    let results = node.handle.submit_many(raw).await;
    let hashes: Vec<_> = results.into_iter().map(|result| result.expect("accepted")).collect();
    node.sequenced(hashes[59]).await;
    assert_eq!(node.included().await, hashes);
    node.stop().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_predecessor_revives_what_waits_for_it() {
    let mut setup = Setup::new();
    let node = setup.start().await;
    let key = signer(0);
    let third = node.submit(sign(&key, transfer(2))).await.expect("accepted");
    let second = node.submit(sign(&key, transfer(1))).await.expect("accepted");
    let status = node.handle.pool_status().await.expect("status");
    assert_eq!(status, PoolStatus { pending: 0, queued: 2 });
    let listed = async |sender, limit| {
        let content = node.handle.pool_content(sender, limit).await.expect("it tells");
        content.map(|content| {
            let hashes = |mut txs: Vec<Arc<RecoveredTx>>| {
                txs.sort_by_key(|tx| alloy::consensus::Transaction::nonce(tx.tx()));
                txs.iter().map(|tx| tx.hash()).collect::<Vec<_>>()
            };
            (hashes(content.pending), hashes(content.queued))
        })
    };
    for sender in [None, Some(key.address())] {
        assert_eq!(listed(sender, 2).await, Some((vec![], vec![second, third])));
        assert_eq!(listed(sender, 1).await, None);
    }
    assert_eq!(listed(Some(signer(1).address()), 0).await, Some((vec![], vec![])));
    assert_eq!(node.handle.pending_nonce(key.address()).await.expect("nonce"), 0);
    let first = node.submit(sign(&key, transfer(0))).await.expect("accepted");
    node.sequenced(third).await;
    assert_eq!(node.included().await, [first, second, third]);
    assert_eq!(node.handle.pending_nonce(key.address()).await.expect("nonce"), 3);
    node.stop().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_is_first_in_the_next_block() {
    let mut setup = Setup::new();
    setup.gas_limit = 1_000_000;
    let node = setup.start().await;
    // Transactions of one sender and of many that use 200,000 gas each, by EIP-7623's floor: five fit, and the sixth crosses
    // the limit.
    let large =
        |nonce| TxEip1559 { gas_limit: 200_000, input: vec![1; 4_475].into(), ..transfer(nonce) };
    let mut raw: Vec<_> = (0..12).map(|nonce| sign(&signer(0), large(nonce))).collect();
    raw.extend((1..9).map(|index| sign(&signer(index), large(0))));
    let results = node.handle.submit_many(raw).await;
    let hashes: Vec<_> = results.into_iter().map(|result| result.expect("accepted")).collect();
    node.sequenced(hashes[19]).await;
    assert_eq!(node.included().await, hashes, "nobody overtakes");
    let blocks = node.blocks().await;
    assert!(blocks.iter().all(|block| block.transactions.len() <= 5));

    let genesis = node.genesis().await;
    node.stop().await.expect("a clean end");
    let log = setup.open_log(genesis);
    let returned = log.read(Position(0)).expect("readable").any(|record| {
        matches!(record.expect("sound").1, Record::BlockSealed { returned, .. } if !returned.is_empty())
    });
    assert!(returned, "at least one transaction was sent back by the executor");
}

/// A block time in which no block that waits for its end would be seen.
const LONG: Duration = Duration::from_secs(12);

/// Sends ten transactions of a sender to a chain whose blocks end once they are full, and returns how many each block has; the last is not full.
async fn blocks_of_ten(mut setup: Setup, tx: impl Fn(u64) -> TxEip1559) -> Vec<usize> {
    setup.config.block_time = LONG;
    let node = setup.start().await;
    let raw = (0..11).map(|nonce| sign(&signer(0), tx(nonce))).collect();
    let results = node.handle.submit_many(raw).await;
    let hashes: Vec<_> = results.into_iter().map(|result| result.expect("accepted")).collect();
    let sequenced = tokio::time::timeout(LONG, node.sequenced(hashes[9])).await;
    sequenced.expect("full blocks do not wait for the end of the block time");
    let blocks = node.blocks().await.into_iter().map(|block| block.transactions.len()).collect();
    assert_eq!(node.included().await, hashes[..10], "in order");
    node.stop().await.expect("a clean end");
    blocks
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_that_is_full_is_sealed_at_once() {
    // Of gas: each uses 200,000, by EIP-7623's floor, so that five fit.
    let mut setup = Setup::new();
    setup.gas_limit = 1_000_000;
    let large =
        |nonce| TxEip1559 { gas_limit: 200_000, input: vec![1; 4_475].into(), ..transfer(nonce) };
    assert_eq!(blocks_of_ten(setup, large).await, [5, 5]);

    // Of transactions.
    let mut setup = Setup::new();
    setup.config.max_block_transactions = 2;
    assert_eq!(blocks_of_ten(setup, transfer).await, [2; 5]);

    // Of bytes: five fit into 700,000.
    let mut setup = Setup::new();
    setup.gas_limit = 300_000_000;
    setup.config.max_transaction_bytes = 200_000;
    let long = |nonce| TxEip1559 {
        gas_limit: 5_600_000,
        input: vec![0; 139_000].into(),
        ..transfer(nonce)
    };
    assert_eq!(blocks_of_ten(setup, long).await, [5, 5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_pay_in_its_turn_is_dropped_and_its_successor_waits() {
    let mut setup = Setup::new();
    let node = setup.start().await;
    // Admission counts the most that everything of a sender can cost, so its balance must go another way: through a
    // delegation that lets somebody else take it.
    let (victim, thief) = (signer(1), signer(2));
    // CALL(gas, caller, selfbalance, 0, 0, 0, 0)
    let drain = Bytes::from_static(&[0x5f, 0x5f, 0x5f, 0x5f, 0x47, 0x33, 0x5a, 0xf1, 0x00]);
    // Constructor: returns the nine bytes after it.
    let mut init = vec![0x60, 9, 0x60, 11, 0x5f, 0x39, 0x60, 9, 0x5f, 0xf3, 0x00];
    init.extend_from_slice(&drain);
    let create =
        TxEip1559 { to: TxKind::Create, input: init.into(), gas_limit: 200_000, ..transfer(0) };
    let created = node.submit(sign(&thief, create)).await.expect("accepted");
    let status = node.sequenced(created).await;
    let contract = status.inclusion.expect("included").contract_address.expect("a contract");

    let authorization = alloy::eips::eip7702::Authorization {
        chain_id: U256::from(crate::support::CHAIN_ID),
        address: contract,
        nonce: 0,
    };
    let signature =
        alloy::signers::SignerSync::sign_hash_sync(&victim, &authorization.signature_hash())
            .expect("signed");
    let delegate_and_drain = alloy::consensus::TxEip7702 {
        chain_id: crate::support::CHAIN_ID,
        nonce: 1,
        gas_limit: 200_000,
        max_fee_per_gas: 100 * GWEI,
        to: victim.address(),
        authorization_list: vec![authorization.into_signed(signature)],
        ..alloy::consensus::TxEip7702::default()
    };
    // The victim's wait for its nonce 0, which the authorization uses up.
    let raw = vec![
        sign(&victim, transfer(1)),
        sign(&victim, transfer(2)),
        sign(&thief, delegate_and_drain),
    ];
    let results = node.handle.submit_many(raw).await;
    let hashes: Vec<_> = results.into_iter().map(|result| result.expect("accepted")).collect();
    node.sequenced(hashes[2]).await;
    let dropped = soon(node.handle.wait_for(hashes[0], Stage::Sequenced)).await.expect("a status");
    assert_eq!(dropped.stage, Stage::Dropped, "{dropped:?}");
    assert_eq!(dropped.reason.expect("a reason").code(), "INSUFFICIENT_FUNDS");
    let successor = node.handle.transaction(hashes[1]).await.expect("known").expect("kept");
    assert_eq!(successor.status.stage, Stage::Accepted);
    let status = node.handle.pool_status().await.expect("status");
    assert_eq!(status, PoolStatus { pending: 0, queued: 1 });

    // The drop survives a restart, and so does the successor.
    node.stop().await.expect("a clean end");
    let node = setup.start().await;
    let again = node.handle.transaction(hashes[0]).await.expect("known").expect("kept");
    assert_eq!(again.status.stage, Stage::Dropped);
    let successor = node.handle.transaction(hashes[1]).await.expect("known").expect("kept");
    assert_eq!(successor.status.stage, Stage::Accepted);
    node.stop().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_blocks_come_with_the_heartbeat_only() {
    let mut setup = Setup::new();
    setup.config.heartbeat = Duration::from_millis(100);
    let node = setup.start().await;
    let mut blocks = node.executor.subscribe(1).await.expect("blocks");
    let started = std::time::Instant::now();
    for number in 1..=3 {
        let block = soon(futures::StreamExt::next(&mut blocks)).await.expect("a block");
        let block = block.expect("no error");
        assert_eq!((block.number(), block.transactions.len()), (number, 0));
    }
    assert!(started.elapsed() >= Duration::from_millis(300), "not faster than the heartbeat");
    drop(blocks);
    node.stop().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn time_never_goes_back() {
    let mut setup = Setup::new();
    let node = setup.start().await;
    for (nonce, clock) in [(0, 500), (1, 20), (2, 501)] {
        setup.clock.0.store(GENESIS_TIME + clock, Ordering::Relaxed);
        node.sequenced(node.submit(sign(&signer(0), transfer(nonce))).await.expect("accepted"))
            .await;
    }
    let times: Vec<u64> =
        node.blocks().await.iter().map(|block| block.header.timestamp - GENESIS_TIME).collect();
    assert_eq!(times, [500, 500, 501]);
    node.stop().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_too_long_expires() {
    let mut setup = Setup::new();
    setup.config.pool.queued_lifetime = Duration::from_millis(80);
    let node = setup.start().await;
    let hash = node.submit(sign(&signer(0), transfer(1))).await.expect("accepted");
    let status = soon(node.handle.wait_for(hash, Stage::Sequenced)).await.expect("a status");
    assert_eq!(status.reason.expect("dropped").code(), "EXPIRED");
    // It may come again.
    node.submit(sign(&signer(0), transfer(1))).await.expect("accepted");
    node.stop().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn deposits_come_once_each_and_in_order() {
    let inbox = Arc::new(TestInbox::default());
    inbox.deposit(5);
    let mut setup = Setup::new();
    setup.config.max_deposits_per_block = 2;
    setup.inbox = Some(inbox.clone());
    let node = setup.start().await;
    node.sequenced(node.submit(sign(&signer(0), transfer(0))).await.expect("accepted")).await;
    let consumed = async |node: &crate::support::Node, count: u64| {
        let mut blocks = node.executor.subscribe(1).await.expect("blocks");
        while let Some(block) = futures::StreamExt::next(&mut blocks).await {
            let header = &block.expect("no error").header;
            if QueueMark::of(header).expect("a rollup header").end >= count {
                return;
            }
        }
    };
    soon(consumed(&node, 5)).await;

    // L1 goes away: sequencing goes on. It comes back: so do deposits.
    inbox.down.store(true, Ordering::Relaxed);
    inbox.deposit(1);
    node.sequenced(node.submit(sign(&signer(0), transfer(1))).await.expect("accepted")).await;
    inbox.down.store(false, Ordering::Relaxed);
    soon(consumed(&node, 6)).await;
    node.stop().await.expect("a clean end");

    // A start goes on after the last one consumed.
    inbox.deposit(1);
    let node = setup.start().await;
    soon(consumed(&node, 7)).await;
    let mut index = 0;
    for block in node.blocks().await {
        let count = block.queued_count();
        assert!(count <= 2);
        let later = &block.transactions[count..];
        assert!(later.iter().all(|tx| !tx.tx().is_deposit()), "deposits come first");
        for tx in &block.transactions[..count] {
            let QueueEntry::Deposit(deposit) = inbox.entries.lock()[index].clone() else {
                panic!("only deposits")
            };
            assert_eq!(tx.tx().as_deposit(), Some(&deposit.to_tx(inbox.rollup())));
            index += 1;
        }
        let mark = QueueMark::of(&block.header).expect("a rollup header");
        assert_eq!(mark.end, index as u64);
    }
    assert_eq!(minted(&node.executor).await, U256::from((10..17).sum::<u64>()));
    node.stop().await.expect("a clean end");
}

/// Forced transactions come behind the block's deposits and before everything else; what is no transaction, or not a valid one at its place, is
/// consumed and left out. A restart gives the same chain.
#[tokio::test(flavor = "multi_thread")]
async fn forced_transactions_come_first_or_are_left_out() {
    let inbox = Arc::new(TestInbox::default());
    let (first, second) = (sign(&signer(1), transfer(0)), sign(&signer(1), transfer(1)));
    inbox.force(second.clone()); // its nonce is not next yet
    inbox.deposit(1);
    inbox.force(first.clone());
    inbox.force(Bytes::from_static(b"no transaction"));
    inbox.force(second.clone());
    inbox.force(second.clone()); // once is enough
    let deposit = inbox.entries.lock()[1].clone();
    let QueueEntry::Deposit(deposit) = deposit else { panic!("it is one") };
    inbox.force(TxEnvelope::from(deposit.to_tx(inbox.rollup())).encoded_2718().into());
    let mut setup = Setup::new();
    setup.inbox = Some(inbox.clone());
    let node = setup.start().await;
    node.sequenced(node.submit(sign(&signer(0), transfer(0))).await.expect("accepted")).await;
    let taken = async {
        let mut blocks = node.executor.subscribe(1).await.expect("blocks");
        loop {
            let block = futures::StreamExt::next(&mut blocks).await.expect("a block");
            let block = block.expect("no error");
            if QueueMark::of(&block.header).expect("a rollup header").end == 7 {
                return block;
            }
        }
    };
    let block = soon(taken).await;
    let hashes: Vec<_> = block.transactions.iter().map(|tx| tx.hash()).collect();
    let hash = |raw: &Bytes| keccak256(raw);
    assert_eq!(block.queued_count(), 3);
    assert!(block.transactions[0].tx().is_deposit());
    assert_eq!(hashes[1..3], [hash(&first), hash(&second)]);
    let mark = QueueMark::of(&block.header).expect("a rollup header");
    let queue = inbox.entries.lock().iter().fold(B256::ZERO, |hash, entry| entry.accumulate(hash));
    assert_eq!((mark.end, mark.hash, mark.forced), (7, queue, 2));

    // What was forced need not be submitted, and may be.
    let stale = node.submit(second.clone()).await;
    assert!(stale.is_err() || stale.is_ok_and(|known| known == hash(&second)));
    let blocks = node.blocks().await;
    node.stop().await.expect("a clean end");
    setup.forget_executor();
    let node = setup.start().await;
    assert!(node.blocks().await.starts_with(&blocks), "the order log gives the same blocks");
    node.stop().await.expect("a clean end");
}

/// Says what a test tells it.
#[derive(Debug, Default)]
pub(crate) struct TestDa {
    backlog: AtomicU64,
    /// Blocks that L1 takes no more.
    pub(crate) refused: Mutex<Option<RefusedBlocks>>,
    asked: AtomicU64,
}

impl TestDa {
    /// Waits until it has been asked a few times more.
    pub(crate) async fn asked_again(&self) {
        let before = self.asked.load(Ordering::Relaxed);
        let asked = async {
            while self.asked.load(Ordering::Relaxed) < before + 3 {
                tokio::task::yield_now().await;
            }
        };
        soon(asked).await;
    }
}

#[async_trait]
impl DaAdapter for TestDa {
    async fn da_status(&self) -> Result<DaStatus, DaAdapterError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let backlog_bytes = self.backlog.load(Ordering::Relaxed);
        let refused = *self.refused.lock();
        Ok(DaStatus { backlog_bytes, refused, ..DaStatus::default() })
    }

    async fn use_backend(&self, _: Option<&str>) -> Result<(), DaAdapterError> {
        unreachable!("the sequencer does not choose")
    }

    async fn batch(&self, _: u64) -> Result<Option<OutboxBatch>, DaAdapterError> {
        unreachable!("the sequencer reads no batches")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_posting_lags_blocks_take_little_and_then_all_of_it() {
    let da = Arc::new(TestDa::default());
    da.backlog.store(u64::MAX, Ordering::Relaxed);
    let mut setup = Setup::new();
    setup.config.throttle = ThrottleConfig {
        min_bytes_per_second: 1,
        poll_interval: Duration::from_millis(5),
        ..ThrottleConfig::default()
    };
    setup.da = Some(da.clone());
    let node = setup.start().await;
    da.asked_again().await;
    // What one block may take is saved up: seven of these.
    let large = |nonce| TxEip1559 {
        input: vec![1; 90_000].into(),
        gas_limit: 3_700_000,
        ..transfer(nonce)
    };
    let mut hashes = Vec::new();
    for nonce in 0..12 {
        let hash =
            node.submit(sign(&signer(1), large(nonce))).await.expect("it is accepted all the same");
        hashes.push(hash);
    }
    node.sequenced(hashes[6]).await;
    let head = node.executor.head().await.expect("a head").number;
    let blocks = async {
        let mut blocks = node.executor.subscribe(head + 1).await.expect("blocks");
        for _ in 0..3 {
            futures::StreamExt::next(&mut blocks).await.expect("a block").expect("no error");
        }
    };
    soon(blocks).await;
    assert_eq!(node.included().await, hashes[..7], "the others wait");

    da.backlog.store(0, Ordering::Relaxed);
    node.sequenced(hashes[11]).await;
    assert_eq!(node.included().await, hashes, "in their order");
    node.stop().await.expect("a clean end");
}

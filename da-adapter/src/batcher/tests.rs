mod diffs;
mod rejoin;

use std::path::Path;

use alloy::{
    consensus::Sealable,
    primitives::{Address, B256, Bytes, U256},
};
use millrace_proto::{AccountNames, Batch, BatchLimits};
use tokio::task::JoinHandle;

use super::*;
use crate::{
    testing::{
        CHAIN, CHAIN_ID, Chain, TestExecutor, TestExecutorHandle, accumulator, noise, open_outbox,
    },
    window::L1Window,
};

/// A batcher that runs.
struct Running {
    executor: Arc<TestExecutor>,
    outbox: Arc<Outbox>,
    halts: Arc<Halts>,
    window: watch::Sender<Option<Window>>,
    stop: CancellationToken,
    task: JoinHandle<Result<(), DaAdapterRunError>>,
}

impl Running {
    fn start(
        config: &DaAdapterConfig,
        executor: Arc<TestExecutor>,
        folder: &Path,
        begin: Cursor,
    ) -> Self {
        Self::start_of(CHAIN, config, executor, folder, begin)
    }

    fn start_of(
        chain: BatchedChain,
        config: &DaAdapterConfig,
        executor: Arc<TestExecutor>,
        folder: &Path,
        begin: Cursor,
    ) -> Self {
        let outbox = open_outbox(folder);
        let cursor = match outbox.cursor() {
            Some(cursor) => cursor,
            None => {
                outbox.begin(begin, 0).unwrap();
                begin
            }
        };
        let metrics = DaMetrics::new();
        let halts = Arc::new(Halts::new(metrics.clone()));
        let window = watch::Sender::new(None);
        let parts = BatcherParts {
            chain,
            executor: Arc::new(TestExecutorHandle(executor.clone())),
            outbox: outbox.clone(),
            halts: halts.clone(),
            metrics,
            max_size: 130_044,
            in_use: watch::channel(DaKind::L1Blob).1,
            window: window.subscribe(),
        };
        let stop = CancellationToken::new();
        let batcher = Batcher::new(config, parts, cursor).unwrap();
        let task = tokio::spawn(batcher.run(stop.clone()));
        Self { executor, outbox, halts, window, stop, task }
    }

    /// L1's queue says how long it takes what consumes so many entries, and how many a batch has to consume.
    fn window_ends_in(&self, seconds: u64, consumed: u64, due: u64) {
        let seen =
            L1Window { left: seconds, whole: 7_200, block_time: Duration::from_secs(1), due };
        self.window.send_replace(Some(Window::new(consumed, seen, Instant::now())));
    }

    /// Waits until so many batches are closed, and decodes the last one.
    async fn closed(&self, count: u64) -> Batch {
        self.wait_for(count).await;
        self.decode(count)
    }

    async fn wait_for(&self, count: u64) {
        let mut changed = self.outbox.watch();
        while self.outbox.cursor().unwrap().batch < count {
            changed.changed().await.unwrap();
        }
    }

    /// Waits until there is another batch under a number than one with a digest, and decodes it.
    async fn closed_again(&self, number: u64, digest: B256) -> Batch {
        let mut changed = self.outbox.watch();
        while self.outbox.entry(number).is_none_or(|entry| entry.digest == digest) {
            changed.changed().await.unwrap();
        }
        self.decode(number)
    }

    fn decode(&self, number: u64) -> Batch {
        let data = self.outbox.data(number).unwrap().unwrap();
        Batch::decode(&data, &BatchLimits::default()).unwrap()
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }
}

fn config() -> DaAdapterConfig {
    DaAdapterConfig {
        max_batch_age: Duration::from_secs(10),
        max_empty_batch_age: Duration::from_secs(300),
        target_size: Some(100_000),
        max_blocks: 1_000,
        zstd_level: 1,
        ..DaAdapterConfig::default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_closes_before_the_sequencing_window_does() {
    let folder = tempfile::tempdir().unwrap();
    let mut chain = Chain::new("a");
    let executor = TestExecutor::new(chain.head());
    let margin = Duration::from_secs(100);
    let hour = Duration::from_secs(3_600);
    let config = DaAdapterConfig {
        max_batch_age: 2 * hour,
        max_empty_batch_age: 2 * hour,
        window_margin: margin,
        ..config()
    };
    let running = Running::start(&config, executor, folder.path(), chain.cursor());
    let started = Instant::now();
    let ends_in = |consumed, seconds| running.window_ends_in(seconds, consumed, consumed);
    // Nothing in it moves the window's end: closing it would help nobody.
    running.executor.push(chain.block(0, &[Bytes::new()]));
    ends_in(0, 300);
    assert!(tokio::time::timeout(hour / 2, running.wait_for(1)).await.is_err());

    ends_in(0, 300);
    running.executor.push(chain.block(1, &[Bytes::new()]));
    let batch = running.closed(1).await;
    assert_eq!(batch.blocks.len(), 2);
    let waited = started.elapsed() - hour / 2;
    assert!((199..=202).contains(&waited.as_secs()), "{waited:?}");
    // The next one waits its time, as the window is that of the batch before it.
    running.executor.push(chain.block(1, &[Bytes::new()]));
    assert!(tokio::time::timeout(hour / 2, running.wait_for(2)).await.is_err());
    running.stop().await;
}

/// The contract would not take it: only a batch that reaches what is overdue is of any use.
#[tokio::test(start_paused = true)]
async fn a_batch_that_does_not_reach_what_is_overdue_stays_open() {
    let folder = tempfile::tempdir().unwrap();
    let mut chain = Chain::new("a");
    let executor = TestExecutor::new(chain.head());
    let running = Running::start(&config(), executor, folder.path(), chain.cursor());
    running.window_ends_in(0, 0, 2);
    // More than the target, and less than a batch may have.
    running.executor.push(chain.block(0, &[noise(120_000, 1)]));
    running.executor.push(chain.block(1, &[Bytes::new()]));
    let hour = Duration::from_secs(3_600);
    assert!(tokio::time::timeout(hour, running.wait_for(1)).await.is_err());
    running.executor.push(chain.block(1, &[]));
    let batch = running.closed(1).await;
    assert_eq!(batch.blocks.iter().map(|block| block.deposits_end).collect::<Vec<_>>(), [0, 1, 2]);

    // What does not fit closes all the same.
    running.window_ends_in(0, 2, 3);
    running.executor.push(chain.block(0, &[noise(120_000, 2)]));
    running.executor.push(chain.block(0, &[noise(120_000, 3)]));
    assert_eq!(running.closed(2).await.blocks.len(), 1);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_batch_closes_when_its_oldest_transaction_has_waited() {
    let folder = tempfile::tempdir().unwrap();
    let mut chain = Chain::new("a");
    let executor = TestExecutor::new(chain.head());
    let running = Running::start(&config(), executor, folder.path(), chain.cursor());
    let started = Instant::now();
    running.executor.push(chain.empty());
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(running.outbox.cursor().unwrap().batch, 0, "empty blocks wait longer");

    running.executor.push(chain.small());
    let batch = running.closed(1).await;
    let waited = started.elapsed() - Duration::from_secs(60);
    assert!((10..11).contains(&waited.as_secs()), "{waited:?}");
    assert_eq!((batch.first_block, batch.last_block(), batch.transaction_count()), (1, 2, 1));
    assert_eq!(batch.last_block_hash, chain.head().seal());
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_chain_closes_empty_batches_seldom() {
    let folder = tempfile::tempdir().unwrap();
    let mut chain = Chain::new("a");
    let executor = TestExecutor::new(chain.head());
    let running = Running::start(&config(), executor, folder.path(), chain.cursor());
    let started = Instant::now();
    running.executor.push(chain.empty());
    running.closed(1).await;
    assert!((300..301).contains(&started.elapsed().as_secs()));
    running.stop().await;
}

#[tokio::test]
async fn batches_close_at_the_target_size_and_hold_the_whole_chain() {
    let folder = tempfile::tempdir().unwrap();
    let mut chain = Chain::new("a");
    let executor = TestExecutor::new(chain.head());
    let running = Running::start(&config(), executor, folder.path(), chain.cursor());
    let blocks: Vec<_> = (0..60).map(|seed| chain.block(seed % 3, &[noise(9_000, seed)])).collect();
    for block in &blocks {
        running.executor.push(block.clone());
    }
    running.closed(5).await;

    let mut parent = blocks[0].header.parent_hash;
    let (mut next, mut deposits) = (1, 0);
    for number in 1..=5 {
        let entry = running.outbox.entry(number).unwrap();
        assert!(
            (80_000..=130_044).contains(&entry.size),
            "batch {number} has {} bytes",
            entry.size
        );
        let batch = running.decode(number);
        assert_eq!(
            (batch.first_block, batch.parent_hash, batch.deposits_start),
            (next, parent, deposits)
        );
        for (block, held) in blocks[next as usize - 1..].iter().zip(&batch.blocks) {
            let signed: Vec<_> =
                block.transactions.iter().filter(|tx| !tx.tx().is_deposit()).collect();
            assert_eq!(signed.len(), held.transactions.len());
            assert!(signed.iter().zip(&held.transactions).all(|(left, right)| left.tx() == right));
        }
        (next, parent, deposits) =
            (batch.last_block() + 1, batch.last_block_hash, batch.deposits_end());
        assert_eq!(entry.deposits_hash, accumulator(deposits));
    }
    running.stop().await;
}

/// Whether what comes compresses or not, and whichever of the two came before.
#[tokio::test]
async fn batches_are_filled_before_they_close() {
    let folder = tempfile::tempdir().unwrap();
    let mut chain = Chain::new("a");
    let executor = TestExecutor::new(chain.head());
    let config = DaAdapterConfig { max_batch_age: Duration::from_secs(600), ..config() };
    let running = Running::start(&config, executor, folder.path(), chain.cursor());
    let mut closed = 0;
    let mut seed = 0;
    for compresses in [false, true, false] {
        let before = closed;
        while closed < before + 3 {
            seed += 1;
            let input = if compresses {
                [noise(100, seed), Bytes::from(vec![seed as u8; 2_000])].concat().into()
            } else {
                noise(600, seed)
            };
            running.executor.push(chain.block(0, &[input]));
            tokio::task::yield_now().await;
            closed = running.outbox.cursor().unwrap().batch;
        }
    }
    let last = running.outbox.cursor().unwrap().batch;
    for number in 1..=last {
        let size = running.outbox.entry(number).unwrap().size;
        assert!((99_000..=100_000).contains(&size), "batch {number} has {size} bytes");
    }
    running.stop().await;
}

#[tokio::test]
async fn batches_close_at_the_most_blocks_and_a_restart_goes_on_after_the_last() {
    let folder = tempfile::tempdir().unwrap();
    let mut chain = Chain::new("a");
    let executor = TestExecutor::new(chain.head());
    let begin = chain.cursor();
    let config = DaAdapterConfig { max_blocks: 3, ..config() };
    let running = Running::start(&config, executor.clone(), folder.path(), begin);
    for _ in 0..7 {
        executor.push(chain.small());
    }
    assert_eq!(running.closed(2).await.last_block(), 6);
    running.stop().await;

    let running = Running::start(&config, executor.clone(), folder.path(), begin);
    assert_eq!(running.outbox.cursor().unwrap().batch, 2);
    executor.push(chain.small());
    executor.push(chain.small());
    let batch = running.closed(3).await;
    assert_eq!((batch.first_block, batch.last_block()), (7, 9));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_broken_stream_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut chain = Chain::new("a");
    let executor = TestExecutor::new(chain.head());
    let config = DaAdapterConfig { max_blocks: 4, ..config() };
    let running = Running::start(&config, executor.clone(), folder.path(), chain.cursor());
    for _ in 0..2 {
        executor.push(chain.small());
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    executor.break_streams();
    for _ in 0..2 {
        executor.push(chain.small());
    }
    assert_eq!(running.closed(1).await.blocks.len(), 4);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn while_l1_is_behind_batches_grow_instead() {
    let folder = tempfile::tempdir().unwrap();
    let mut chain = Chain::new("a");
    let executor = TestExecutor::new(chain.head());
    let config = DaAdapterConfig { max_backlog_batches: 1, ..config() };
    let running = Running::start(&config, executor.clone(), folder.path(), chain.cursor());
    executor.push(chain.small());
    running.closed(1).await;
    executor.push(chain.small());
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    assert_eq!(running.outbox.cursor().unwrap().batch, 1);

    let l1 = millrace_proto::L1Ref { tx_hash: B256::ZERO, block: BlockNumHash::default() };
    let post = crate::outbox::Post { l1, fee: Default::default() };
    running.outbox.mark_posted(1, post, None).unwrap();
    running.closed(2).await;
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn another_chain_halts_batching_until_the_right_one_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let (mut chain, mut other) = (Chain::new("a"), Chain::new("b"));
    let wrong = TestExecutor::new(other.head());
    wrong.push(other.small());
    let running = Running::start(&config(), wrong.clone(), folder.path(), chain.cursor());
    while running.halts.reason().is_none() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(running.halts.reason().unwrap().contains("does not follow block 0"));
    assert_eq!(running.outbox.cursor().unwrap().batch, 0);

    *wrong.genesis.lock() = chain.head().clone();
    *wrong.blocks_mut() = vec![chain.small()];
    running.closed(1).await;
    while running.halts.reason().is_some() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    running.stop().await;
}

/// With nobody named.
fn encode(cursor: &Cursor, blocks: &[Collected], sizes: Sizes) -> Result<EncodedBatch, CloseError> {
    close::encode(CHAIN_ID, cursor, &Source::new(blocks), &AccountNames::default(), sizes, 1)
}

/// A block for a batch of transactions.
fn alone(block: Arc<ExecutedBlock>) -> Collected {
    Collected { block, diff: None, arrived: Instant::now() }
}

#[test]
fn as_many_blocks_are_encoded_as_fit() {
    let mut chain = Chain::new("a");
    let cursor = chain.cursor();
    let blocks: Vec<_> = (0..4).map(|seed| alone(chain.block(1, &[noise(40_000, seed)]))).collect();
    let sizes = |target| Sizes { target, max: 130_044 };
    let encoded = encode(&cursor, &blocks, sizes(130_044)).unwrap();
    assert_eq!((encoded.blocks, encoded.transactions), (3, 3));
    assert_eq!((encoded.deposits_end, encoded.deposits_hash), (3, accumulator(3)));
    assert!(encoded.data.len() <= 130_044);

    let encoded = encode(&cursor, &blocks, sizes(30_000)).unwrap();
    assert_eq!(encoded.blocks, 1, "a block over the target has a batch of its own");

    let sizes = Sizes { target: 30_000, max: 30_000 };
    let error = encode(&cursor, &blocks, sizes).unwrap_err();
    assert!(matches!(error, CloseError::BlockTooLarge { number: 1, max: 30_000 }), "{error}");
}

/// The rule that admission and block building rely on: see `MAX_BLOCK_TX_BYTES`.
#[test]
fn the_largest_block_fits_six_blobs_even_if_nothing_compresses() {
    let chain = Chain::new("a");
    let cursor = chain.cursor();
    let size = |block: &ExecutedBlock| {
        block.transactions.iter().map(|tx| tx.encoded().len()).sum::<usize>()
    };
    let overhead = size(&chain.clone().block(0, &[Bytes::new()]));
    for each in [0, 100, 30_000] {
        // Nonces, values and lengths take some bytes more than in the first transaction.
        let count = millrace_proto::MAX_BLOCK_TX_BYTES / (overhead + each + 10);
        let inputs: Vec<_> = (0..count as u64).map(|seed| noise(each, seed)).collect();
        let block = chain.clone().block(0, &inputs);
        let limit = millrace_proto::MAX_BLOCK_TX_BYTES;
        assert!((limit * 9 / 10..=limit).contains(&size(&block)));
        let max = blob::capacity(blob::MAX_BLOBS);
        let sizes = Sizes { target: max, max };
        assert_eq!(encode(&cursor, &[alone(block)], sizes).unwrap().blocks, 1);
    }
}

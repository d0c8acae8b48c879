//! A chain in a temporary folder that can be stopped, killed and started again.

use std::{
    future::Future,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use alloy::{
    consensus::{EthereumTypedTransaction, SignableTransaction, TxEip1559, TxEip4844},
    eips::Encodable2718,
    primitives::{Address, B256, Bytes, TxHash, TxKind, U256},
    signers::{SignerSync, local::PrivateKeySigner},
};
use millrace_executor::{ExecutorConfig, ExecutorHandle, ExecutorService};
use millrace_proto::{
    BlockSelector, ChainSpec, DaAdapter, ExecutedBlock, Executor, L1Inbox, RejectReason, Sequencer,
    Settlement, Stage, SubmitError, TxEnvelope, TxPool,
};
use millrace_sequencer::{
    Clock, LogError, OpenError, OrderLog, RocksOrderLog, SequencerConfig, SequencerDeps,
    SequencerHandle, SequencerRunError, SequencerService,
};
use serde_json::json;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) const CHAIN_ID: u64 = 4_242;
pub(crate) const GENESIS_TIME: u64 = 1_700_000_000;
pub(crate) const GWEI: u128 = 1_000_000_000;
const SOON: Duration = Duration::from_secs(60);

/// Fails the test if something takes too long.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, what).await.expect("in time")
}

/// The `index`th funded account.
pub(crate) fn signer(index: u8) -> PrivateKeySigner {
    PrivateKeySigner::from_bytes(&B256::repeat_byte(index + 1)).expect("a valid key")
}

/// Signs anything.
pub(crate) fn sign(
    key: &PrivateKeySigner,
    tx: impl Into<EthereumTypedTransaction<TxEip4844>>,
) -> Bytes {
    let tx: EthereumTypedTransaction<TxEip4844> = tx.into();
    let signature = key.sign_hash_sync(&tx.signature_hash()).expect("signing in memory");
    TxEnvelope::from(tx.into_envelope(signature)).encoded_2718().into()
}

/// A transfer of 1 wei that pays enough.
pub(crate) fn transfer(nonce: u64) -> TxEip1559 {
    TxEip1559 {
        chain_id: CHAIN_ID,
        nonce,
        gas_limit: 21_000,
        max_fee_per_gas: 100 * GWEI,
        max_priority_fee_per_gas: GWEI,
        to: TxKind::Call(Address::repeat_byte(0xee)),
        value: U256::from(1),
        ..TxEip1559::default()
    }
}

pub(crate) fn hash_of(raw: &Bytes) -> TxHash {
    alloy::primitives::keccak256(raw)
}

/// The clock that a test sets: Unix seconds, and milliseconds more.
#[derive(Debug)]
pub(crate) struct TestClock(pub(crate) AtomicU64, pub(crate) AtomicU64);

impl Clock for TestClock {
    fn now(&self) -> Duration {
        let more = Duration::from_millis(self.1.load(Ordering::Relaxed));
        Duration::from_secs(self.0.load(Ordering::Relaxed)) + more
    }
}

/// Wraps the order log before the sequencer gets it.
pub(crate) type WrapLog = Box<dyn FnOnce(Arc<dyn OrderLog>) -> Arc<dyn OrderLog> + Send>;
/// Wraps the executor before the sequencer gets it.
pub(crate) type WrapExecutor = Box<dyn FnOnce(Arc<dyn Executor>) -> Arc<dyn Executor> + Send>;

/// What a chain is made of, and what a start needs besides its folder.
pub(crate) struct Setup {
    pub(crate) folder: TempDir,
    pub(crate) config: SequencerConfig,
    pub(crate) gas_limit: u64,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) inbox: Option<Arc<dyn L1Inbox>>,
    pub(crate) settlement: Option<Arc<dyn Settlement>>,
    pub(crate) da: Option<Arc<dyn DaAdapter>>,
    pub(crate) wrap_log: Option<WrapLog>,
    pub(crate) wrap_executor: Option<WrapExecutor>,
    /// Of the last start, which may have been given up.
    started: Option<ExecutorHandle>,
}

impl Setup {
    pub(crate) fn new() -> Self {
        let config = SequencerConfig {
            block_time: Duration::from_millis(20),
            frame_interval: Duration::from_millis(2),
            heartbeat: Duration::from_secs(600),
            deposit_poll_interval: Duration::from_millis(10),
            ..SequencerConfig::default()
        };
        Self {
            folder: tempfile::tempdir().expect("a temporary folder"),
            config,
            gas_limit: 30_000_000,
            clock: Arc::new(TestClock(AtomicU64::new(GENESIS_TIME + 100), AtomicU64::new(0))),
            inbox: None,
            settlement: None,
            da: None,
            wrap_log: None,
            wrap_executor: None,
            started: None,
        }
    }

    pub(crate) fn spec(&self) -> Arc<ChainSpec> {
        let mut alloc = serde_json::Map::new();
        for index in 0..16 {
            let balance = format!("{:#x}", 10_u128.pow(21));
            alloc.insert(signer(index).address().to_string(), json!({ "balance": balance }));
        }
        // An account that is a contract, and one that has little.
        alloc.insert(
            signer(CONTRACT).address().to_string(),
            json!({ "balance": "0xffffffffffffffffff", "code": "0x6001" }),
        );
        alloc.insert(signer(POOR).address().to_string(), json!({ "balance": "0x1" }));
        let genesis = json!({
            "config": {
                "chainId": CHAIN_ID, "homesteadBlock": 0, "eip150Block": 0, "eip155Block": 0,
                "eip158Block": 0, "byzantiumBlock": 0, "constantinopleBlock": 0,
                "petersburgBlock": 0, "istanbulBlock": 0, "berlinBlock": 0, "londonBlock": 0,
                "mergeNetsplitBlock": 0, "terminalTotalDifficulty": 0,
                "terminalTotalDifficultyPassed": true, "shanghaiTime": 0, "cancunTime": 0,
                "pragueTime": 0, "millrace": { "gasLimit": self.gas_limit }
            },
            "nonce": "0x0", "timestamp": format!("{GENESIS_TIME:#x}"), "extraData": "0x",
            "gasLimit": format!("{:#x}", self.gas_limit), "difficulty": "0x0",
            "baseFeePerGas": "0x3b9aca00",
            "mixHash": B256::ZERO, "coinbase": Address::ZERO, "alloc": alloc
        });
        Arc::new(ChainSpec::from_json(genesis.to_string().as_bytes()).expect("a valid genesis"))
    }

    pub(crate) fn log_path(&self) -> PathBuf {
        self.folder.path().join("sequencer/order-log")
    }

    /// The order log, while no sequencer holds it.
    pub(crate) fn open_log(&self, genesis: B256) -> RocksOrderLog {
        RocksOrderLog::open(&self.log_path(), genesis).expect("the log opens")
    }

    /// Takes the executor's data away.
    pub(crate) fn forget_executor(&self) {
        std::fs::remove_dir_all(self.folder.path().join("executor")).expect("it is there");
    }

    /// Makes sure that the log alone gives the chain.
    pub(crate) async fn log_alone_gives(&mut self, head: B256) {
        self.forget_executor();
        let node = self.start().await;
        assert_eq!(node.executor_head().await, head);
        node.stop().await.expect("a clean end");
    }

    pub(crate) fn executor(&self) -> ExecutorHandle {
        let config = ExecutorConfig {
            data_dir: self.folder.path().join("executor"),
            ..ExecutorConfig::default()
        };
        // Tasks of a node that was killed let go of the store once they are dropped.
        let started = Instant::now();
        loop {
            match ExecutorService::open(config.clone(), self.spec()) {
                Err(_) if started.elapsed() < Duration::from_secs(5) => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                opened => return opened.expect("the executor opens"),
            }
        }
    }

    pub(crate) async fn start(&mut self) -> Node {
        self.try_start().await.expect("the sequencer opens")
    }

    /// Drops what a start that was given up has left.
    pub(crate) async fn give_up(&mut self) {
        if let Some(executor) = self.started.take() {
            executor.close().await;
        }
    }

    pub(crate) async fn try_start(&mut self) -> Result<Node, OpenError> {
        let executor = self.executor();
        self.started = Some(executor.clone());
        let mut shown: Arc<dyn Executor> = Arc::new(executor.clone());
        if let Some(wrap) = self.wrap_executor.take() {
            shown = wrap(shown);
        }
        let deps = SequencerDeps {
            executor: shown,
            inbox: self.inbox.clone(),
            settlement: self.settlement.clone(),
            da: self.da.clone(),
            data_dir: self.folder.path().join("sequencer"),
        };
        let path = self.log_path();
        let wrap = self.wrap_log.take();
        let open_log = move |genesis| -> Result<Arc<dyn OrderLog>, LogError> {
            let log: Arc<dyn OrderLog> = Arc::new(open_free(&path, genesis)?);
            Ok(match wrap {
                Some(wrap) => wrap(log),
                None => log,
            })
        };
        let opened =
            SequencerService::open_with(self.config.clone(), deps, self.clock.clone(), open_log)
                .await;
        let (handle, task) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                drop(executor);
                self.give_up().await;
                return Err(error);
            }
        };
        self.started = None;
        let stop = CancellationToken::new();
        let run = tokio::spawn(task.run(stop.clone()));
        Ok(Node { executor, handle, run, stop })
    }
}

/// A start that was given up lets go of the log when its reading thread notices.
fn open_free(path: &Path, genesis: B256) -> Result<RocksOrderLog, LogError> {
    let started = Instant::now();
    loop {
        match RocksOrderLog::open(path, genesis) {
            Err(LogError::Open { .. }) if started.elapsed() < Duration::from_secs(5) => {
                std::thread::sleep(Duration::from_millis(1));
            }
            other => return other,
        }
    }
}

/// Index of the key whose account has code.
pub(crate) const CONTRACT: u8 = 100;
/// Index of the key whose account has 1 wei.
pub(crate) const POOR: u8 = 101;

/// A running chain.
pub(crate) struct Node {
    pub(crate) executor: ExecutorHandle,
    pub(crate) handle: SequencerHandle,
    pub(crate) run: JoinHandle<Result<(), SequencerRunError>>,
    stop: CancellationToken,
}

impl Node {
    /// Stops it as an operator would.
    pub(crate) async fn stop(self) -> Result<(), SequencerRunError> {
        self.stop.cancel();
        let result = soon(self.run).await.expect("no panic");
        drop(self.handle);
        self.executor.close().await;
        result
    }

    /// Drops everything where it stands.
    pub(crate) async fn kill(self) {
        self.run.abort();
        // Cancelled, or already ended on a fault.
        let _ = self.run.await;
        drop(self.handle);
        self.executor.close().await;
    }

    pub(crate) async fn submit(&self, raw: Bytes) -> Result<TxHash, SubmitError> {
        soon(self.handle.submit(raw)).await
    }

    /// Why a submission is refused.
    pub(crate) async fn refusal(&self, raw: Bytes) -> RejectReason {
        match self.submit(raw).await {
            Err(SubmitError::Rejected(reason)) => reason,
            other => panic!("not refused: {other:?}"),
        }
    }

    pub(crate) async fn sequenced(&self, hash: TxHash) -> millrace_proto::TxStatus {
        soon(self.handle.wait_for(hash, Stage::Sequenced)).await.expect("a status")
    }

    /// All blocks from 1 to the head.
    pub(crate) async fn blocks(&self) -> Vec<Arc<ExecutedBlock>> {
        loop {
            let mut next = BlockSelector::Latest;
            let mut blocks = Vec::new();
            // None is there if they are taken back meanwhile.
            while let Some(block) = self.executor.block(next).await.expect("it answers") {
                if block.number() == 0 {
                    blocks.reverse();
                    return blocks;
                }
                next = BlockSelector::Hash(block.header.parent_hash);
                blocks.push(block);
            }
        }
    }

    /// The hashes of all transactions in the chain, in order.
    pub(crate) async fn included(&self) -> Vec<TxHash> {
        let blocks = self.blocks().await;
        blocks.iter().flat_map(|block| &block.transactions).map(|tx| tx.hash()).collect()
    }

    pub(crate) async fn executor_head(&self) -> B256 {
        self.executor.head().await.expect("head").seal()
    }

    pub(crate) async fn genesis(&self) -> B256 {
        let at = BlockSelector::Number(0);
        self.executor.header(at).await.expect("header").expect("genesis").seal()
    }
}

/// The numbers of a seed: splitmix64.
#[derive(Debug, Clone)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// Another seed at every run, or that of `MILLRACE_SEED`; says which.
    pub(crate) fn seeded() -> Self {
        let seed = std::env::var("MILLRACE_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
        println!("seed {seed} (set MILLRACE_SEED to repeat)");
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

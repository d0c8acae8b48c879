//! A chain on a real executor, whose pool seals each transaction into a block of its own, and a server on it.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use alloy::{
    eips::{BlockNumHash, Encodable2718},
    network::{EthereumWallet, NetworkTransactionBuilder, TransactionBuilder},
    primitives::{Address, Bytes, TxHash, U256, address, keccak256},
    providers::{Provider, ProviderBuilder},
    rpc::types::TransactionRequest,
    signers::local::PrivateKeySigner,
};
use async_trait::async_trait;
use millrace_executor::{CallConfig, ExecutorConfig, ExecutorHandle, ExecutorService};
use millrace_proto::{
    Admission, BlockAttributes, BlockBuild, BlockSelector, ChainHeads, ChainSpec, DataPrice,
    ExecutedBlock, Executor, FrameDetail, FrameFeed, FrameStart, Noting, OpenPoint, PoolContent,
    PoolStatus, Preconfirmation, Preconfirmations, QueueMark, RecoveredTx, RejectReason,
    SequencerError, SubmitError, TxOutcome, TxPool, admitted,
};
use millrace_rpc::{RpcConfig, RpcHandle, RpcServer};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::{Mutex, Notify};

pub(crate) const CHAIN_ID: u64 = 4_242;
pub(crate) const SOMEBODY: Address = address!("00000000000000000000000000000000000a11ce");
/// The first account of anvil's mnemonic.
pub(crate) const KEY: &str = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";

/// A pool that seals what it takes at once, or, while it holds, when it is released.
#[derive(Debug)]
pub(crate) struct SealingPool {
    pub(crate) executor: ExecutorHandle,
    spec: Arc<ChainSpec>,
    held: Mutex<Option<Vec<Arc<RecoveredTx>>>>,
    /// How many transactions came together, each time that some did.
    pub(crate) admitted: Mutex<Vec<usize>>,
    /// Where what was submitted came from.
    pub(crate) senders: Mutex<Vec<Option<IpAddr>>>,
    /// While it is held, nobody is told the heads.
    pub(crate) gate: Mutex<()>,
    /// Somebody asks for the heads.
    pub(crate) asked: Notify,
    /// Wei for 1,000 bytes of batches.
    pub(crate) data_price: AtomicU64,
    pub(crate) safe: AtomicU64,
    pub(crate) finalized: AtomicU64,
    /// How far its open block is told, if it has one.
    pub(crate) open: parking_lot::Mutex<Option<OpenPoint>>,
    /// Tells of each block as one frame before it is sealed, if anybody is to be told.
    pub(crate) frames: Option<FrameFeed>,
}

impl SealingPool {
    /// Takes transactions without sealing them.
    pub(crate) async fn hold(&self) {
        self.held.lock().await.get_or_insert_default();
    }

    /// Seals what was held.
    pub(crate) async fn release(&self) {
        let held = self.held.lock().await.take().unwrap_or_default();
        self.seal(held).await.expect("held transactions were checked");
    }

    /// Whether these transactions can be a block.
    pub(crate) async fn try_out(&self, txs: Vec<Arc<RecoveredTx>>) -> Result<(), RejectReason> {
        let head = self.executor.head().await.expect("head");
        let queue = QueueMark::of(&head).unwrap_or_default();
        let attributes = BlockAttributes::rollup(&self.spec, &head, head.timestamp + 1, queue);
        let mut block = self.executor.open_block(attributes).await.expect("open");
        for outcome in block.execute(txs).await.expect("execute") {
            if let TxOutcome::Invalid(reason) = outcome {
                return Err(reason);
            }
        }
        Ok(())
    }

    /// Seals a block with these transactions, deposits first.
    pub(crate) async fn seal(
        &self,
        transactions: Vec<Arc<RecoveredTx>>,
    ) -> Result<Arc<ExecutedBlock>, RejectReason> {
        let head = self.executor.head().await.expect("head");
        let deposits = transactions.iter().filter(|tx| tx.tx().is_deposit()).count() as u64;
        let before = QueueMark::of(&head).unwrap_or_default();
        let mut queue = before;
        for index in before.end..before.end + deposits {
            queue = QueueMark { end: index + 1, hash: keccak256(queue.hash), forced: 0 };
        }
        let timestamp = head.timestamp + 1;
        let attributes = BlockAttributes::rollup(&self.spec, &head, timestamp, queue);
        let mut block = self.executor.open_block(attributes).await.expect("open");
        let mut receipts = Vec::new();
        let wants = self.frames.as_ref().is_some_and(|frames| frames.wants_diffs());
        let noting = if wants { Noting::Told } else { Noting::Nothing };
        let executed = block.execute_noting(transactions.clone(), noting).await.expect("execute");
        for outcome in executed.outcomes {
            match outcome {
                TxOutcome::Included { receipt, .. } => receipts.push(receipt),
                TxOutcome::Invalid(reason) => return Err(reason),
                TxOutcome::NoRoom => {
                    return Err(RejectReason::GasOverLimit { got: 0, limit: head.gas_limit });
                }
            }
        }
        if let Some(frames) = &self.frames {
            frames.tell(Arc::new(Preconfirmation {
                block: head.number + 1,
                parent_hash: head.seal(),
                timestamp,
                base_fee: block.base_fee().expect("London"),
                frame: 0,
                start: FrameStart::default(),
                transactions,
                receipts,
                diff: executed.diff,
            }));
        }
        Ok(block.seal().await.expect("seal"))
    }

    /// Opens a block, executes transactions that are all valid in it, and tells so far of it.
    pub(crate) async fn open(&self, transactions: Vec<Arc<RecoveredTx>>) -> Box<dyn BlockBuild> {
        let head = self.executor.head().await.expect("head");
        let queue = QueueMark::of(&head).unwrap_or_default();
        let timestamp = head.timestamp + 1;
        let attributes = BlockAttributes::rollup(&self.spec, &head, timestamp, queue);
        let mut block = self.executor.open_block(attributes).await.expect("open");
        let last = transactions.last().expect("some").hash();
        block.execute_noting(transactions, Noting::Kept).await.expect("execute");
        *self.open.lock() = Some(OpenPoint { number: head.number + 1, parent: head.seal(), last });
        block
    }

    async fn next_nonce(&self, sender: Address) -> u64 {
        let accounts = self.executor.accounts(&[sender], BlockSelector::Latest).await;
        accounts.expect("accounts")[0].unwrap_or_default().nonce
    }
}

#[async_trait]
impl TxPool for SealingPool {
    async fn submit(&self, raw: Bytes) -> Result<TxHash, SubmitError> {
        let tx = RecoveredTx::decode(raw)
            .map_err(|error| RejectReason::BadEncoding { detail: error.to_string() })?;
        if tx.tx().is_deposit() {
            return Err(RejectReason::UnsupportedType { ty: 0x7e }.into());
        }
        let hash = tx.hash();
        let mut held = self.held.lock().await;
        let known = held.iter().flatten().any(|held| held.hash() == hash)
            || self.executor.locate(hash).await.map_err(SequencerError::from)?.is_some();
        if known {
            return Err(RejectReason::AlreadyKnown { hash }.into());
        }
        match &mut *held {
            Some(held) => held.push(Arc::new(tx)),
            None => {
                self.seal(vec![Arc::new(tx)]).await?;
            }
        }
        Ok(hash)
    }

    async fn admit(&self, raw: Vec<Bytes>) -> Vec<Admission> {
        self.admitted.lock().await.push(raw.len());
        let mut results = Vec::new();
        for raw in raw {
            results.push(self.submit(raw).await);
        }
        admitted(results)
    }

    async fn submit_from(&self, raw: Bytes, from: Option<IpAddr>) -> Result<TxHash, SubmitError> {
        self.senders.lock().await.push(from);
        self.submit(raw).await
    }

    async fn admit_from(&self, raw: Vec<Bytes>, from: Option<IpAddr>) -> Vec<Admission> {
        self.senders.lock().await.push(from);
        self.admit(raw).await
    }

    async fn pending_nonce(&self, sender: Address) -> Result<u64, SequencerError> {
        let held = self.held.lock().await;
        let waiting = held.iter().flatten().filter(|tx| tx.sender() == sender).count() as u64;
        Ok(self.next_nonce(sender).await + waiting)
    }

    async fn pooled(&self, hash: TxHash) -> Result<Option<Arc<RecoveredTx>>, SequencerError> {
        let held = self.held.lock().await;
        Ok(held.iter().flatten().find(|tx| tx.hash() == hash).cloned())
    }

    /// All that is held is pending.
    async fn pool_content(
        &self,
        sender: Option<Address>,
        limit: usize,
    ) -> Result<Option<PoolContent>, SequencerError> {
        let held = self.held.lock().await;
        let held = held.iter().flatten();
        let wanted = held.filter(|tx| sender.is_none_or(|sender| tx.sender() == sender));
        let pending: Vec<_> = wanted.cloned().collect();
        let content = PoolContent { pending, ..PoolContent::default() };
        Ok((content.pending.len() <= limit).then_some(content))
    }

    async fn data_price(&self) -> Result<DataPrice, SequencerError> {
        Ok(DataPrice(self.data_price.load(Ordering::Relaxed)))
    }

    async fn pool_status(&self) -> Result<PoolStatus, SequencerError> {
        let pending = self.held.lock().await.iter().flatten().count() as u64;
        Ok(PoolStatus { pending, queued: 0 })
    }

    async fn open_point(&self) -> Result<Option<OpenPoint>, SequencerError> {
        Ok(*self.open.lock())
    }

    async fn preconfirmations(
        &self,
        detail: FrameDetail,
    ) -> Result<Option<Preconfirmations>, SequencerError> {
        let over = || SequencerError::Unavailable("over".into());
        Ok(self.frames.as_ref().map(|frames| frames.subscribe(detail, over)))
    }

    async fn heads(&self) -> Result<ChainHeads, SequencerError> {
        self.asked.notify_one();
        let _open = self.gate.lock().await;
        let head = self.executor.head().await?;
        let at = |number: &AtomicU64| {
            BlockNumHash::new(number.load(Ordering::Relaxed), Default::default())
        };
        Ok(ChainHeads {
            latest: BlockNumHash::new(head.number, head.seal()),
            safe: at(&self.safe),
            finalized: at(&self.finalized),
        })
    }
}

/// A chain and a server on it.
#[derive(Debug)]
pub(crate) struct Chain {
    pub(crate) pool: Arc<SealingPool>,
    pub(crate) rpc: RpcHandle,
    pub(crate) signer: PrivateKeySigner,
    _folder: TempDir,
}

impl Chain {
    pub(crate) async fn start() -> Self {
        Self::with(RpcConfig::default()).await
    }

    pub(crate) async fn with(config: RpcConfig) -> Self {
        Self::telling(config, Some(FrameFeed::default())).await
    }

    pub(crate) async fn telling(config: RpcConfig, frames: Option<FrameFeed>) -> Self {
        Self::of(config, frames, json!({})).await
    }

    /// A chain whose calls may take as much as this.
    pub(crate) async fn calling(config: RpcConfig, calls: CallConfig) -> Self {
        let rich = signer().address();
        Self::made(config, Some(FrameFeed::default()), spec(rich, json!({})), calls).await
    }

    /// A chain with this genesis.
    pub(crate) async fn on(genesis: &Value) -> Self {
        let spec = ChainSpec::from_json(genesis.to_string().as_bytes()).expect("genesis");
        Self::made(RpcConfig::default(), None, spec, CallConfig::default()).await
    }

    /// A chain with these rules of a rollup.
    pub(crate) async fn of(config: RpcConfig, frames: Option<FrameFeed>, rules: Value) -> Self {
        Self::made(config, frames, spec(signer().address(), rules), CallConfig::default()).await
    }

    async fn made(
        config: RpcConfig,
        frames: Option<FrameFeed>,
        spec: ChainSpec,
        calls: CallConfig,
    ) -> Self {
        let folder = tempfile::tempdir().expect("temporary folder");
        let signer = signer();
        let spec = Arc::new(spec);
        let executor = ExecutorService::open(
            ExecutorConfig { data_dir: folder.path().to_owned(), calls, ..Default::default() },
            spec.clone(),
        )
        .expect("executor");
        let pool = Arc::new(SealingPool {
            executor: executor.clone(),
            spec,
            held: Mutex::default(),
            admitted: Mutex::default(),
            senders: Mutex::default(),
            gate: Mutex::default(),
            asked: Notify::new(),
            data_price: AtomicU64::new(0),
            safe: AtomicU64::new(0),
            finalized: AtomicU64::new(0),
            open: parking_lot::Mutex::default(),
            frames,
        });
        let listen = ([127, 0, 0, 1], 0).into();
        let rpc = RpcServer::start(
            RpcConfig { listen, ..config },
            Arc::new(executor.clone()),
            pool.clone(),
            None,
        )
        .await
        .expect("server");
        Self { pool, rpc, signer, _folder: folder }
    }

    pub(crate) fn http(&self) -> String {
        format!("http://{}", self.rpc.local_addr())
    }

    pub(crate) fn ws(&self) -> String {
        format!("ws://{}", self.rpc.local_addr())
    }

    /// A wallet over HTTP.
    pub(crate) fn wallet(&self) -> impl Provider + Clone + 'static {
        ProviderBuilder::new()
            .wallet(EthereumWallet::from(self.signer.clone()))
            .connect_http(self.http().parse().expect("url"))
    }

    /// Posts a body and gives the reply's.
    pub(crate) async fn post(&self, body: &Value) -> Value {
        let reply = reqwest::Client::new().post(self.http()).json(body).send().await;
        reply.expect("reply").json().await.expect("JSON")
    }

    /// Calls a method and gives the whole reply.
    pub(crate) async fn raw(&self, method: &str, params: Value) -> Value {
        self.post(&json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})).await
    }

    /// Calls a method and gives its result.
    pub(crate) async fn result(&self, method: &str, params: Value) -> Value {
        let reply = self.raw(method, params).await;
        assert!(reply.get("error").is_none(), "{method}: {reply}");
        reply["result"].clone()
    }

    /// Calls a method that fails, and gives the error's code, message and data.
    pub(crate) async fn error(&self, method: &str, params: Value) -> (i64, String, Value) {
        let reply = self.raw(method, params).await;
        let error = reply.get("error").unwrap_or_else(|| panic!("{method} succeeded: {reply}"));
        let message = error["message"].as_str().expect("message").to_owned();
        (error["code"].as_i64().expect("code"), message, error["data"].clone())
    }
}

fn signer() -> PrivateKeySigner {
    KEY.parse().expect("key")
}

fn spec(rich: Address, rules: Value) -> ChainSpec {
    let genesis = json!({
        "config": {
            "chainId": CHAIN_ID,
            "homesteadBlock": 0, "eip150Block": 0, "eip155Block": 0, "eip158Block": 0,
            "byzantiumBlock": 0, "constantinopleBlock": 0, "petersburgBlock": 0,
            "istanbulBlock": 0, "berlinBlock": 0, "londonBlock": 0, "mergeNetsplitBlock": 0,
            "terminalTotalDifficulty": 0, "terminalTotalDifficultyPassed": true,
            "shanghaiTime": 0, "cancunTime": 0, "pragueTime": 0,
            "millrace": rules
        },
        "timestamp": "0x65000000",
        "gasLimit": "0x3938700",
        "difficulty": "0x0",
        "alloc": { rich.to_string(): { "balance": U256::from(10).pow(U256::from(24)).to_string() } }
    });
    ChainSpec::from_json(genesis.to_string().as_bytes()).expect("genesis")
}

/// A contract that counts. Called without data it adds one and emits `LOG2` with the count as data and second topic (the first
/// is 42); with `0x01` it returns the count; with anything else it reverts with `Error("not today")`.
pub(crate) fn counter() -> Bytes {
    use alloy::sol_types::{Revert, SolError};
    let reason = Revert::from("not today").abi_encode();
    let (offset, size) = (0x3f, u8::try_from(reason.len()).expect("short"));
    let mut runtime = vec![
        0x36, 0x60, 0x1a, 0x57, // data? go to 0x1a
        0x60, 0x00, 0x54, 0x60, 0x01, 0x01, 0x80, 0x60, 0x00, 0x55, // count up
        0x80, 0x60, 0x00, 0x52, 0x60, 0x2a, 0x60, 0x20, 0x60, 0x00, 0xa2, 0x00, // log, stop
        0x5b, 0x60, 0x00, 0x35, 0x60, 0xf8, 0x1c, 0x60, 0x01, 0x14, 0x60, 0x33, 0x57, // 1?
        0x60, size, 0x60, offset, 0x60, 0x00, 0x39, 0x60, size, 0x60, 0x00, 0xfd, // revert
        0x5b, 0x60, 0x00, 0x54, 0x60, 0x00, 0x52, 0x60, 0x20, 0x60, 0x00, 0xf3, // return
    ];
    assert_eq!(runtime.len(), usize::from(offset));
    runtime.extend(reason);
    deployment(&runtime)
}

/// A contract that emits a log with 128 KiB of zeros.
pub(crate) fn loud() -> Bytes {
    deployment(&[0x62, 0x02, 0x00, 0x00, 0x60, 0x00, 0xa0, 0x00])
}

/// Init code that deploys `runtime`.
pub(crate) fn deployment(runtime: &[u8]) -> Bytes {
    let length = u8::try_from(runtime.len()).expect("short");
    let mut code = vec![0x60, length, 0x60, 0x0c, 0x60, 0x00, 0x39, 0x60, length, 0x60, 0x00, 0xf3];
    code.extend(runtime);
    code.into()
}

/// A transfer of the chain's account, signed.
pub(crate) async fn signed(chain: &Chain, nonce: u64) -> Bytes {
    let request = TransactionRequest::default().with_to(SOMEBODY).with_value(U256::from(1));
    sign(chain, request.with_nonce(nonce).with_gas_limit(21_000)).await
}

/// A transaction of the chain's account, signed; where the request leaves it open, with its first nonce and much gas.
pub(crate) async fn sign(chain: &Chain, request: TransactionRequest) -> Bytes {
    let (nonce, gas) = (request.nonce.unwrap_or(0), request.gas.unwrap_or(1_000_000));
    let request = request
        .with_nonce(nonce)
        .with_chain_id(CHAIN_ID)
        .with_gas_limit(gas)
        .with_max_fee_per_gas(100_000_000_000)
        .with_max_priority_fee_per_gas(1);
    let wallet = EthereumWallet::from(chain.signer.clone());
    request.build(&wallet).await.expect("it signs").encoded_2718().into()
}

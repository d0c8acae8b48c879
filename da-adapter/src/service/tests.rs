//! The whole adapter against anvil, another implementation of L1.

mod archive;

use std::{
    path::Path,
    time::{Duration, SystemTime},
};

use alloy::{
    genesis::Genesis,
    primitives::{Address, B256, keccak256},
    sol_types::SolCall,
};
use millrace_l1::{
    DeployParams, L1Client, OneCall, Rollup, RollupEvent, TxManagerConfig, TxRequest,
    deploy_rollup, submit_once,
    testing::{Anvil, AnvilOptions, dev_signer, test_params, test_patience},
};
use millrace_proto::{
    Attestation, Batch, BatchHeader, BatchLimits, BatchRecord, BatchVerdict, BlockNumHash,
    BlockSelector, BoxStream, DaReadError, DaReader, PostedBatch, SettlementError,
    SettlementStatus, batch_digest,
};
use tokio::task::JoinHandle;
use url::Url;

use super::*;
use crate::{
    MultiReader, ObjectStoreConfig,
    testing::{CHAIN_ID, Chain, TestExecutor, TestExecutorHandle, noise},
};

const OWNER: u32 = 0;
const SECOND_BATCHER: u32 = 5;
const BATCHER: u32 = 1;
const PATIENCE: Duration = Duration::from_secs(60);

/// An L1 with the contract, and an L2 chain.
struct World {
    anvil: Anvil,
    rollup: Address,
    /// The adapter's beacon node, if it is another one than anvil.
    beacon_url: Option<Url>,
    executor: Arc<TestExecutor>,
    chain: Chain,
    folder: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        Self::on(AnvilOptions::default()).await
    }

    async fn on(options: AnvilOptions) -> Self {
        let anvil = Anvil::start(options).unwrap();
        let chain = Chain::new("anvil");
        let owner = dev_signer(OWNER);
        let batcher = dev_signer(BATCHER).address();
        let params = DeployParams {
            l2_chain_id: CHAIN_ID,
            genesis_hash: chain.head().seal(),
            ..test_params(owner.address(), batcher, owner.address())
        };
        let rollup = deploy_rollup(anvil.client(), owner, params).await.unwrap().rollup;
        let executor = TestExecutor::new(chain.head());
        let folder = tempfile::tempdir().unwrap();
        Self { anvil, rollup, beacon_url: None, executor, chain, folder }
    }

    fn contract(&self) -> RollupContract {
        let client = L1Client::new(self.anvil.url().clone(), test_patience()).unwrap();
        RollupContract::new(client, self.rollup)
    }

    fn beacon(&self) -> BeaconClient {
        let l1 = millrace_l1::L1Config::new(self.anvil.url().clone(), self.rollup);
        millrace_l1::L1Config { beacon: self.beacon_url.clone(), ..l1 }.beacon().unwrap()
    }

    async fn batcher(&self) -> TxManager {
        self.manager(BATCHER, "transactions").await
    }

    /// Gives an account the right to post.
    async fn appoint(&self, account: u32) {
        let role = keccak256("BATCHER_ROLE");
        let call = Rollup::grantRoleCall { role, account: dev_signer(account).address() };
        let call = OneCall::new(self.rollup, call.abi_encode());
        let owner = dev_signer(OWNER).into();
        submit_once(self.anvil.client(), &owner, call, PATIENCE).await.unwrap();
    }

    async fn manager(&self, account: u32, folder: &str) -> TxManager {
        let tx_config = TxManagerConfig {
            poll_interval: Duration::from_millis(20),
            resubmit_after: Duration::from_secs(1),
            ..TxManagerConfig::default()
        };
        let client = self.anvil.client().clone();
        let tx_dir = self.folder.path().join(folder);
        TxManager::open(tx_config, client, dev_signer(account), tx_dir, "da-adapter").await.unwrap()
    }

    /// Posts something else than a batch, as the next batch.
    async fn post_nonsense(&self, first_block: u64, last_block: u64) {
        let nonsense = b"this is no batch";
        let header = BatchHeader {
            number: self.contract().batch_count().await.unwrap() + 1,
            first_block,
            last_block,
            deposits_end: 0,
            deposits_hash: B256::ZERO,
            digest: batch_digest(nonsense),
            da_kind: DaKind::L1Calldata,
        };
        let call = Rollup::postBatchCall {
            epoch: 0,
            header: (&header).into(),
            daPointer: nonsense.into(),
        };
        let request = TxRequest::call("nonsense", self.rollup, call.abi_encode());
        self.batcher().await.send(request).await.unwrap();
    }

    async fn start(&self, config: DaAdapterConfig, data_dir: &Path) -> Running {
        self.start_with(config, data_dir, self.batcher().await).await
    }

    async fn start_with(
        &self,
        config: DaAdapterConfig,
        data_dir: &Path,
        tx_manager: TxManager,
    ) -> Running {
        let genesis = Genesis { config: chain_config(), ..Genesis::default() };
        let deps = DaAdapterDeps {
            executor: Arc::new(TestExecutorHandle(self.executor.clone())),
            rollup: self.contract(),
            beacon: self.beacon(),
            settlement: Arc::new(TestSettlement {
                rollup: self.contract(),
                executor: self.executor.clone(),
            }),
            tx_manager,
            data_dir: data_dir.to_owned(),
            spec: Arc::new(ChainSpec::new(genesis).unwrap()),
        };
        let (handle, service) = DaAdapterService::open(config, deps).await.unwrap();
        let stop = CancellationToken::new();
        let task = tokio::spawn(service.run(stop.clone()));
        Running { handle, stop, task }
    }

    async fn posted(&self) -> Vec<PostedBatch> {
        let contract = self.contract();
        let head = contract.client().head().await.unwrap().number;
        let events = contract.events(0, head).await.unwrap();
        let posted = events.into_iter().filter_map(|event| match event {
            RollupEvent::Posted(batch) => Some(batch),
            _ => None,
        });
        posted.collect()
    }
}

/// Finds valid what holds the executor's blocks.
#[derive(Debug)]
struct TestSettlement {
    rollup: RollupContract,
    executor: Arc<TestExecutor>,
}

#[async_trait]
impl Settlement for TestSettlement {
    async fn settlement_status(&self) -> Result<SettlementStatus, SettlementError> {
        Ok(SettlementStatus::default())
    }

    async fn subscribe_status(
        &self,
    ) -> Result<BoxStream<SettlementStatus, SettlementError>, SettlementError> {
        unreachable!("one answer is enough")
    }

    async fn batch_of_block(&self, _: u64) -> Result<Option<BatchRecord>, SettlementError> {
        unreachable!("batches are asked for")
    }

    async fn verdict(&self, batch: u64) -> Result<Option<BatchVerdict>, SettlementError> {
        let head = self.rollup.client().head().await.unwrap().number;
        let events = self.rollup.events(0, head).await.unwrap();
        let posted = events.into_iter().find_map(|event| match event {
            RollupEvent::Posted(posted) if posted.header.number == batch => Some(posted),
            _ => None,
        });
        let Some(posted) = posted else { return Ok(None) };
        let beacon =
            millrace_l1::L1Config::new(self.rollup.client().url().clone(), self.rollup.address());
        let beacon = beacon.beacon().unwrap();
        let reader = MultiReader::new(DaSources { beacon: Some(beacon), ..DaSources::default() });
        let bytes = match reader.read(&posted).await {
            Err(DaReadError::Invalid { problem, .. }) => Err(problem),
            read => Ok(read.unwrap()),
        };
        let handle = TestExecutorHandle(self.executor.clone());
        let decoded = bytes.and_then(|bytes| {
            let decoded = Batch::decode(&bytes, &BatchLimits::default());
            decoded.map_err(|error| error.to_string())
        });
        let end = match decoded {
            Err(problem) => Err(problem),
            Ok(_) => {
                let at = BlockSelector::Number(posted.header.last_block);
                let header = handle.header(at).await.unwrap().expect("the executor's own");
                Ok(BlockNumHash::new(header.number, header.seal()))
            }
        };
        Ok(Some(BatchVerdict { batch_hash: posted.batch_hash, end }))
    }

    async fn derived_block(
        &self,
        _: u64,
    ) -> Result<Option<Arc<millrace_proto::ExecutedBlock>>, SettlementError> {
        unreachable!("the sequencer asks")
    }

    async fn attest(&self, _: u64) -> Result<Option<Attestation>, SettlementError> {
        Err(SettlementError::NotAVerifier)
    }
}

fn chain_config() -> alloy::genesis::ChainConfig {
    alloy::genesis::ChainConfig { chain_id: CHAIN_ID, ..Default::default() }
}

struct Running {
    handle: DaAdapterHandle,
    stop: CancellationToken,
    task: JoinHandle<Result<(), DaAdapterRunError>>,
}

impl Running {
    /// Waits until the adapter has seen so many batches posted, and nothing waits.
    async fn posted(&self, count: u64) -> DaStatus {
        let mut changed = self.handle.outbox.watch();
        let waiting = async {
            loop {
                let status = self.handle.da_status().await.unwrap();
                if status.batches_posted == count && status.backlog_bytes == 0 {
                    return status;
                }
                changed.changed().await.unwrap();
            }
        };
        match tokio::time::timeout(PATIENCE, waiting).await {
            Ok(status) => status,
            Err(_) => panic!("not posted in time: {:?}", self.handle.da_status().await.unwrap()),
        }
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }
}

fn config() -> DaAdapterConfig {
    DaAdapterConfig {
        max_batch_age: Duration::from_millis(200),
        poll_interval: Duration::from_millis(50),
        max_retry_interval: Duration::from_millis(500),
        ..DaAdapterConfig::default()
    }
}

fn decode(data: &[u8]) -> Batch {
    Batch::decode(data, &BatchLimits::default()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn blobs_are_posted_read_back_and_posted_again_after_a_reorg() {
    let mut world = World::new().await;
    let outbox = world.folder.path().join("outbox");
    let running = world.start(config(), &outbox).await;
    let block = world.chain.block(0, &[noise(150_000, 1)]);
    world.executor.push(block.clone());
    let status = running.posted(1).await;
    assert_eq!((status.backend.as_str(), status.posted_block, status.halted), ("l1_blob", 1, None));
    assert!(status.posted_bytes > 150_000 && !status.l1_fees.is_zero());
    let mut quote = running.handle.quote.clone();
    quote.wait_for(Option::is_some).await.unwrap();
    assert!(running.handle.da_status().await.unwrap().data_price.0 > 0, "L1 asks for something");

    let reader =
        MultiReader::new(DaSources { beacon: Some(world.beacon()), ..DaSources::default() });
    let posted = world.posted().await;
    assert_eq!(posted[0].blob_hashes.len(), 2);
    let batch = decode(&reader.read(&posted[0]).await.unwrap());
    assert_eq!(batch.last_block_hash, block.hash());
    assert_eq!(&batch.blocks[0].transactions[0], block.transactions[0].tx());
    let kept = running.handle.batch(1).await.unwrap().unwrap();
    assert_eq!((kept.digest, kept.posted), (posted[0].header.digest, true));

    // The next batch and a reorg that takes both.
    world.executor.push(world.chain.small());
    running.posted(2).await;
    world.anvil.reorg(2).await.unwrap();
    world.executor.push(world.chain.small());
    running.posted(3).await;
    let again = world.posted().await;
    assert_eq!(again.iter().map(|batch| batch.header.number).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(again[0].header.digest, posted[0].header.digest);
    assert_ne!(again[0].l1.block, posted[0].l1.block);
    running.stop().await;

    // A lost folder: the adapter goes on after what the contract holds.
    let fresh = world.folder.path().join("fresh");
    let running = world.start(config(), &fresh).await;
    world.executor.push(world.chain.small());
    let status = running.posted(4).await;
    assert_eq!((status.posted_block, status.posted_transactions), (4, 1));
    let last = world.posted().await.pop().unwrap();
    let batch = decode(&reader.read(&last).await.unwrap());
    assert_eq!((batch.first_block, batch.parent_hash), (4, again_parent(&reader, &again[2]).await));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_outbox_leaves_no_gap_behind_an_invalid_batch() {
    let mut world = World::new().await;
    let running = world.start(config(), &world.folder.path().join("outbox")).await;
    let first = world.chain.small();
    world.executor.push(first.clone());
    running.posted(1).await;
    running.stop().await;
    world.post_nonsense(2, 3).await;

    world.executor.push(world.chain.small());
    world.executor.push(world.chain.small());
    let running = world.start(config(), &world.folder.path().join("fresh")).await;
    world.executor.push(world.chain.small());
    let status = running.posted(3).await;
    assert_eq!((status.posted_block, status.halted), (4, None));
    let reader =
        MultiReader::new(DaSources { beacon: Some(world.beacon()), ..DaSources::default() });
    let last = world.posted().await.pop().unwrap();
    let batch = decode(&reader.read(&last).await.unwrap());
    assert_eq!((last.header.number, batch.first_block, batch.parent_hash), (3, 2, first.hash()));
    running.stop().await;
}

/// The hash of the last block of a batch.
#[tokio::test(flavor = "multi_thread")]
async fn an_adapter_that_was_replaced_posts_no_more() {
    let mut world = World::new().await;
    let first = world.start(config(), &world.folder.path().join("first")).await;
    world.executor.push(world.chain.small());
    first.posted(1).await;
    let epoch = async || world.contract().current_epoch().await.unwrap();
    assert_eq!(epoch().await, 0);

    // Another account and another folder: it knows nothing of the first one, which goes on.
    world.appoint(SECOND_BATCHER).await;
    let manager = world.manager(SECOND_BATCHER, "second-transactions").await;
    let second = world.start_with(config(), &world.folder.path().join("second"), manager).await;
    while epoch().await == 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    world.executor.push(world.chain.small());
    second.posted(2).await;
    second.stop().await;

    world.executor.push(world.chain.small());
    let halted = async || first.handle.da_status().await.unwrap().halted;
    while !halted().await.is_some_and(|reason| reason.contains("another one has taken over")) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(world.posted().await.len(), 2);
    first.stop().await;
}

async fn again_parent(reader: &MultiReader, batch: &PostedBatch) -> B256 {
    decode(&reader.read(batch).await.unwrap()).last_block_hash
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_store_holds_what_l1_points_to() {
    let mut world = World::new().await;
    let url = Url::from_directory_path(world.folder.path().join("store")).unwrap();
    let store = ObjectStoreConfig { url, prefix: "batches".to_owned() };
    let config = DaAdapterConfig {
        backends: vec![BackendKind::ObjectStore],
        object_store: Some(store.clone()),
        ..config()
    };
    let running = world.start(config, &world.folder.path().join("outbox")).await;
    world.executor.push(world.chain.small());
    let status = running.posted(1).await;
    assert_eq!(status.backend, "object_store");
    let posted = world.posted().await.remove(0);
    assert!(posted.blob_hashes.is_empty() && posted.da_pointer.starts_with(b"batches/"));
    let kept = crate::ObjectStoreBackend::open(&store).unwrap();
    let attested = kept.attestation(&posted.da_pointer).await.unwrap().expect("it is attested");
    assert_eq!(attested.signer(), Some(dev_signer(BATCHER).address()));
    assert_eq!((attested.digest, attested.rollup), (posted.header.digest, world.rollup));
    assert_eq!(attested.key.as_bytes(), posted.da_pointer.as_ref());
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    assert!(attested.kept_until > now + 89 * 86_400);
    let other = crate::AvailabilityAttestation { kept_until: now, ..attested };
    assert_ne!(other.signer(), Some(dev_signer(BATCHER).address()), "every term is signed");
    let reader = MultiReader::new(DaSources {
        store: Some(crate::ObjectStoreBackend::open(&store).unwrap()),
        ..DaSources::default()
    });
    let data = reader.read(&posted).await.unwrap();
    assert_eq!(batch_digest(&data), posted.header.digest);
    assert_eq!(decode(&data).last_block(), 1);
    running.stop().await;
}

/// Several in a block of L1, each resting on the one before it.
#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_goes_out_several_batches_at_a_time() {
    let mut world = World::new().await;
    let config = DaAdapterConfig { max_blocks: 1, max_in_flight: 3, ..config() };
    let running = world.start(config, &world.folder.path().join("outbox")).await;
    world.anvil.set_automine(false).await.unwrap();
    for _ in 0..5 {
        world.executor.push(world.chain.small());
    }
    let pooled = async || {
        let content = world.anvil.rpc("txpool_content", serde_json::json!([])).await.unwrap();
        let batcher = format!("{:?}", dev_signer(BATCHER).address());
        let accounts = content["pending"].as_object().unwrap().clone();
        let of_batcher = |(account, txs): (String, serde_json::Value)| {
            account.eq_ignore_ascii_case(&batcher).then(|| txs.as_object().unwrap().len())
        };
        accounts.into_iter().find_map(of_batcher).unwrap_or(0)
    };
    let mut posted = 0;
    for at_a_time in [3, 2] {
        while pooled().await < at_a_time {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        world.anvil.mine(1).await.unwrap();
        posted += at_a_time as u64;
        assert_eq!(world.contract().batch_count().await.unwrap(), posted);
    }
    running.posted(5).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operators_choice_stands_until_it_is_taken_back() {
    let mut world = World::new().await;
    let backends = vec![BackendKind::L1Blob, BackendKind::L1Calldata];
    let config = DaAdapterConfig { backends, ..config() };
    let outbox = world.folder.path().join("outbox");
    let running = world.start(config.clone(), &outbox).await;
    let error = running.handle.use_backend(Some("l3_blob")).await.unwrap_err();
    assert!(
        matches!(error, DaAdapterError::UnknownBackend { known, .. } if known == "l1_blob, l1_calldata")
    );
    running.handle.use_backend(Some("l1_calldata")).await.unwrap();
    world.executor.push(world.chain.small());
    let status = running.posted(1).await;
    assert_eq!(
        (status.backend.as_str(), status.chosen.as_deref()),
        ("l1_calldata", Some("l1_calldata"))
    );
    running.stop().await;

    // It outlasts a restart.
    let running = world.start(config, &outbox).await;
    world.executor.push(world.chain.small());
    running.posted(2).await;
    running.handle.use_backend(None).await.unwrap();
    let kinds = async || {
        let posted = world.posted().await;
        posted.iter().map(|batch| batch.header.da_kind).collect::<Vec<_>>()
    };
    assert_eq!(kinds().await, [DaKind::L1Calldata; 2]);
    assert_eq!(running.handle.da_status().await.unwrap().chosen, None);
    running.stop().await;
}

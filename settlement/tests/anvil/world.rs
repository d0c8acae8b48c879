//! A rollup on anvil, and services over it.

use std::{path::Path, sync::Arc, time::Duration};

use crate::support::{
    CHAIN_ID, MESSENGER, TestChain, TestExecutor, TestReader, TestReplay, transfer,
};
use alloy::{
    primitives::{Address, Bytes},
    sol_types::SolCall,
};
use millrace_l1::{
    ClientOptions, DeployParams, FinalityRule, L1Client, Rollup, RollupContract, RollupEvent,
    TxManager, TxManagerConfig, TxRequest, deploy_rollup,
    testing::{Anvil, AnvilOptions, Fault, FaultProxy, dev_signer, test_params},
};
use millrace_proto::{
    BatchHeader, DaKind, Executor, QueueEntry, QueueMark, RecoveredTx, Settlement,
    SettlementStatus, TxEnvelope, batch_digest,
};
use millrace_settlement::{
    Duty, SettlementConfig, SettlementDeps, SettlementHandle, SettlementRunError,
    SettlementService, VerifierPeer, VerifyError, VerifyInput, VerifyReport, VerifyTarget,
    verify_chain,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) const OWNER: u32 = 0;
pub(crate) const BATCHER: u32 = 1;
pub(crate) const COMMITTER: u32 = 2;
/// Seconds.
pub(crate) const CHALLENGE_WINDOW: u64 = 3_600;
/// Commitments are final when nobody has objected.
pub(crate) const OBJECTIONS: FinalityRule =
    FinalityRule::ChallengeWindow { seconds: CHALLENGE_WINDOW };
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A rollup on anvil. The sequencer's chain is `chain`; the test posts its batches itself.
pub(crate) struct World {
    pub(crate) anvil: Anvil,
    pub(crate) rollup: RollupContract,
    pub(crate) chain: TestChain,
    pub(crate) reader: TestReader,
    pub(crate) batcher: TxManager,
    pub(crate) dir: TempDir,
}

/// A running service.
pub(crate) struct Running {
    pub(crate) handle: SettlementHandle,
    pub(crate) stop: CancellationToken,
    pub(crate) task: JoinHandle<Result<(), SettlementRunError>>,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::with(OBJECTIONS).await
    }

    pub(crate) async fn with(finality: FinalityRule) -> Self {
        let options = AnvilOptions { slots_in_an_epoch: Some(1), ..AnvilOptions::default() };
        let anvil = Anvil::start(options).expect("anvil");
        let chain = TestChain::new();
        let address = deploy(&anvil, &chain, finality).await;
        let rollup = RollupContract::new(anvil.client().clone(), address);
        let dir = tempfile::tempdir().expect("a folder");
        let batcher = manager(&anvil, BATCHER, &dir.path().join("batcher")).await;
        Self { anvil, rollup, chain, reader: TestReader::new(), batcher, dir }
    }

    /// Lets the sequencer build blocks with a transfer each, from the head on.
    pub(crate) fn sequence(&self, blocks: u64) {
        for _ in 0..blocks {
            let head = self.chain.head();
            let deposits = QueueMark::of(&head.header).expect("a rollup's").end;
            let to =
                if head.number().is_multiple_of(2) { MESSENGER } else { Address::repeat_byte(5) };
            let transactions = vec![transfer(head.number(), to)];
            self.chain.extend(head.header.timestamp + 1, deposits, transactions);
        }
    }

    /// Posts blocks of the sequencer's chain as the next batch.
    pub(crate) async fn post(&self, first: u64, last: u64) {
        let bytes = self.chain.batch(first, last).encode(3).expect("encodes");
        self.reader.publish(bytes.clone());
        self.post_bytes(first, last, &bytes).await;
    }

    pub(crate) async fn post_bytes(&self, first_block: u64, last_block: u64, bytes: &[u8]) {
        let block = self.chain.block(last_block).expect("a block");
        let deposits_end = QueueMark::of(&block.header).expect("a rollup's").end;
        let number = self.rollup.batch_count().await.expect("answers") + 1;
        let header = BatchHeader {
            number,
            first_block,
            last_block,
            deposits_end,
            deposits_hash: self.rollup.deposit_accumulator(deposits_end).await.expect("answers"),
            digest: batch_digest(bytes),
            da_kind: DaKind::ObjectStore,
        };
        let call = Rollup::postBatchCall {
            epoch: 0,
            header: (&header).into(),
            daPointer: Bytes::from(format!("batch-{number}").into_bytes()),
        };
        let id = format!("post-{number}-{}", header.digest);
        let request = TxRequest::call(id, self.rollup.address(), call.abi_encode());
        self.batcher.send(request).await.expect("posts");
    }

    /// Deposits on L1, and builds a block that takes the deposit.
    pub(crate) async fn deposit(&self) {
        let call = Rollup::depositETHCall { to: Address::repeat_byte(7) };
        let request = json!([{
            "from": dev_signer(3).address(),
            "to": self.rollup.address(),
            "value": "0xde0b6b3a7640000",
            "input": Bytes::from(call.abi_encode()),
        }]);
        let hash = self.anvil.rpc("eth_sendTransaction", request).await.expect("deposits");
        let hash = hash.as_str().and_then(|hash| hash.parse().ok()).expect("a hash");
        let included = async {
            while self.anvil.client().receipt(hash).await.expect("answers").is_none() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, included).await.expect("it is in a block");
        let start = self.rollup.deployed_at().await.expect("answers");
        let head = self.anvil.client().head().await.expect("answers").number;
        let events = self.rollup.events(start, head).await.expect("answers");
        let deposit = events
            .into_iter()
            .filter_map(|event| match event {
                RollupEvent::Queued { entry: QueueEntry::Deposit(deposit), .. } => Some(deposit),
                _ => None,
            })
            .next_back()
            .expect("it is in a block");
        let tx = TxEnvelope::from(deposit.to_tx(self.rollup.address()));
        let minted = Arc::new(RecoveredTx::new_unchecked(tx, deposit.from));
        let timestamp = self.chain.head().header.timestamp + 1;
        self.chain.extend(timestamp, deposit.index + 1, vec![minted, transfer(99, MESSENGER)]);
    }

    /// Lets the challenge window pass, and L1 finalize everything up to now.
    pub(crate) async fn pass_window(&self) {
        let wait = json!([CHALLENGE_WINDOW + 1]);
        self.anvil.rpc("evm_increaseTime", wait).await.expect("answers");
        self.anvil.mine(4).await.expect("mines");
    }

    /// Opens and runs the service on this world's folder.
    pub(crate) async fn settle(&self, replay: TestReplay) -> Running {
        self.settle_through(self.rollup.clone(), replay).await
    }

    /// The same, with another way to the contract.
    pub(crate) async fn settle_through(
        &self,
        rollup: RollupContract,
        replay: TestReplay,
    ) -> Running {
        self.settle_with(rollup, replay, Vec::new()).await
    }

    /// The same, with somebody to ask for signatures.
    pub(crate) async fn settle_with(
        &self,
        rollup: RollupContract,
        replay: TestReplay,
        verifiers: Vec<VerifierPeer>,
    ) -> Running {
        let tx_manager = manager(&self.anvil, COMMITTER, &self.dir.path().join("committer")).await;
        let duty = Duty::Commit { tx_manager: Box::new(tx_manager), verifiers };
        let executor: Arc<dyn Executor> = Arc::new(TestExecutor(self.chain.clone()));
        self.run(SettlementDeps {
            rollup,
            reader: Arc::new(self.reader.clone()),
            executor: Some(executor),
            replay: Box::new(replay),
            data_dir: self.dir.path().join("settlement"),
            spec: self.chain.spec(),
            duty,
        })
        .await
    }

    /// An independent verifier, which signs with the key of an account. It has only L1 and the batches' bytes.
    pub(crate) async fn verifier(&self, account: u32) -> (Running, VerifierPeer) {
        let name = format!("verifier-{account}");
        let running = self
            .run(SettlementDeps {
                rollup: self.rollup.clone(),
                reader: Arc::new(self.reader.clone()),
                executor: None,
                replay: Box::new(TestReplay::new()),
                data_dir: self.dir.path().join(&name),
                spec: self.chain.spec(),
                duty: Duty::Attest { signer: dev_signer(account).into() },
            })
            .await;
        let peer = VerifierPeer { name, service: Arc::new(running.handle.clone()) };
        (running, peer)
    }

    pub(crate) async fn run(&self, deps: SettlementDeps) -> Running {
        let config = SettlementConfig {
            retry_min: Duration::from_millis(10),
            retry_max: Duration::from_millis(100),
            executor_poll: Duration::from_millis(5),
            ..SettlementConfig::default()
        };
        let (handle, task) = SettlementService::open(config, deps).await.expect("opens");
        let stop = CancellationToken::new();
        Running { handle, stop: stop.clone(), task: tokio::spawn(task.run(stop)) }
    }

    pub(crate) async fn verify(&self, until: VerifyTarget) -> Result<VerifyReport, VerifyError> {
        self.verify_through(self.rollup.clone(), until).await
    }

    pub(crate) async fn verify_through(
        &self,
        rollup: RollupContract,
        until: VerifyTarget,
    ) -> Result<VerifyReport, VerifyError> {
        verify_chain(VerifyInput { until, ..self.verify_input(rollup) }, |_| {}).await
    }

    /// Everything, of all that L1 has.
    pub(crate) fn verify_input(&self, rollup: RollupContract) -> VerifyInput {
        VerifyInput {
            rollup,
            reader: Arc::new(self.reader.clone()),
            spec: self.chain.spec(),
            replay: Box::new(TestReplay::new()),
            until: VerifyTarget::Latest,
            commitments: true,
        }
    }

    /// The contract behind a node that does something else with requests.
    pub(crate) async fn behind(
        &self,
        options: ClientOptions,
        script: impl Fn(u64, &str) -> Fault + Send + Sync + 'static,
    ) -> (FaultProxy, RollupContract) {
        let by_method = move |number, request: &Value| {
            script(number, request["method"].as_str().unwrap_or_default())
        };
        self.behind_reading(options, by_method).await
    }

    /// The same, of which the script reads all of a request.
    pub(crate) async fn behind_reading(
        &self,
        options: ClientOptions,
        script: impl Fn(u64, &Value) -> Fault + Send + Sync + 'static,
    ) -> (FaultProxy, RollupContract) {
        let proxy = FaultProxy::start_reading(self.anvil.url().clone(), script).await;
        let client = L1Client::new(proxy.url.clone(), options).expect("a client");
        let rollup = RollupContract::new(client, self.rollup.address());
        (proxy, rollup)
    }

    /// The batches of the commitments that L1 shows, in order.
    pub(crate) async fn commitments(&self) -> Vec<u64> {
        let start = self.rollup.deployed_at().await.expect("answers");
        let head = self.anvil.client().head().await.expect("answers").number;
        let events = self.rollup.events(start, head).await.expect("answers");
        events
            .into_iter()
            .filter_map(|event| match event {
                RollupEvent::Committed(commitment) => Some(commitment.batch),
                _ => None,
            })
            .collect()
    }
}

/// Deploys the chain's contract.
pub(crate) async fn deploy(anvil: &Anvil, chain: &TestChain, finality: FinalityRule) -> Address {
    let genesis = chain.block(0).expect("genesis");
    let [owner, batcher, committer] =
        [OWNER, BATCHER, COMMITTER].map(|account| dev_signer(account).address());
    let params = DeployParams {
        l2_chain_id: CHAIN_ID,
        finality,
        genesis_hash: genesis.hash(),
        genesis_state_root: genesis.header.state_root,
        genesis_json: chain.spec().to_json().into(),
        ..test_params(owner, batcher, committer)
    };
    let deployment = deploy_rollup(anvil.client(), dev_signer(OWNER), params).await;
    deployment.expect("deploys").rollup
}

pub(crate) async fn manager(anvil: &Anvil, account: u32, dir: &Path) -> TxManager {
    let config = TxManagerConfig {
        poll_interval: Duration::from_millis(20),
        resubmit_after: Duration::from_millis(300),
        ..TxManagerConfig::default()
    };
    TxManager::open(config, anvil.client().clone(), dev_signer(account), dir, "test")
        .await
        .expect("a transaction manager")
}

impl Running {
    pub(crate) async fn wait(
        &self,
        mut what: impl FnMut(&SettlementStatus) -> bool,
    ) -> SettlementStatus {
        use futures::StreamExt;
        let mut statuses = self.handle.subscribe_status().await.expect("answers");
        let reached = async {
            while let Some(status) = statuses.next().await {
                let status = status.expect("answers");
                if what(&status) {
                    return status;
                }
            }
            panic!("the service ended");
        };
        match tokio::time::timeout(PATIENCE, reached).await {
            Ok(status) => status,
            Err(_) => panic!("not reached; the status is {:?}", self.handle.status()),
        }
    }

    pub(crate) async fn committed(&self, batch: u64) -> SettlementStatus {
        self.wait(|status| status.committed.is_some_and(|at| at.batch >= batch)).await
    }

    /// Waits until it has followed L1 up to its head.
    pub(crate) async fn followed(&self, world: &World) {
        let head = world.anvil.client().head().await.expect("answers").number;
        self.wait(|status| status.l1_head.number >= head).await;
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.task.await.expect("no panic").expect("no failure");
    }
}

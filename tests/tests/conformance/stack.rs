//! The real services, called directly or through gRPC.

use std::sync::Arc;

use async_trait::async_trait;
use eyre::Result;
use futures::{StreamExt, stream};
use millrace_executor::{ExecutorConfig, ExecutorHandle, ExecutorService};
use millrace_proto::{
    Attestation, BatchPoint, BatchRecord, BatchVerdict, BlockNumHash, BoxStream, DaKind,
    ExecutedBlock, Executor, L1Ref, Sequencer, Settlement, SettlementError, SettlementStatus,
    grpc::{
        ExecutorClient, ExecutorServer, SequencerClient, SequencerServer, SettlementClient,
        SettlementServer, incoming, server_builder,
    },
};
use millrace_sequencer::{SequencerConfig, SequencerDeps, SequencerService};
use tempfile::TempDir;
use tokio::{
    net::TcpListener,
    sync::watch,
    task::{JoinHandle, JoinSet},
};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::chain::spec;

/// How callers reach services.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Transport {
    Direct,
    Grpc,
}

/// gRPC servers, which end with it.
#[derive(Debug, Default)]
struct Servers(JoinSet<()>);

impl Servers {
    /// Serves on a free port and returns its URI.
    async fn add(&mut self, routes: Routes) -> Result<String> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let uri = format!("http://{}", listener.local_addr()?);
        let server = server_builder().add_routes(routes).serve_with_incoming(incoming(listener));
        self.0.spawn(async move { server.await.expect("a loopback listener accepts") });
        Ok(uri)
    }
}

/// An executor on a fresh folder.
#[derive(Debug)]
pub(crate) struct ExecutorStack {
    /// As the suite sees it.
    pub(crate) executor: Arc<dyn Executor>,
    handle: ExecutorHandle,
    servers: Servers,
    dir: TempDir,
}

impl ExecutorStack {
    pub(crate) async fn start(transport: Transport) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let config =
            ExecutorConfig { data_dir: dir.path().join("executor"), ..ExecutorConfig::default() };
        let handle = ExecutorService::open(config, spec()?)?;
        let mut servers = Servers::default();
        let executor: Arc<dyn Executor> = match transport {
            Transport::Direct => Arc::new(handle.clone()),
            Transport::Grpc => {
                let server = ExecutorServer::new(Arc::new(handle.clone())).into_service();
                let uri = servers.add(Routes::new(server)).await?;
                Arc::new(ExecutorClient::connect(&uri)?)
            }
        };
        Ok(Self { executor, handle, servers, dir })
    }

    pub(crate) async fn stop(self) -> Result<()> {
        self.handle.close().await;
        Ok(())
    }
}

/// A sequencer over an executor, and an L1 that does what the suite says.
#[derive(Debug)]
pub(crate) struct SequencerStack {
    /// As the suite sees it.
    pub(crate) sequencer: Arc<dyn Sequencer>,
    /// As the suite sees it.
    pub(crate) executor: Arc<dyn Executor>,
    /// What L1 says of the chain.
    pub(crate) l1: Arc<ScriptedL1>,
    task: JoinHandle<Result<()>>,
    shutdown: CancellationToken,
    below: ExecutorStack,
}

impl SequencerStack {
    pub(crate) async fn start(transport: Transport) -> Result<Self> {
        let mut below = ExecutorStack::start(transport).await?;
        let executor = below.executor.clone();
        let l1 = Arc::new(ScriptedL1::default());
        let settlement: Arc<dyn Settlement> = match transport {
            Transport::Direct => l1.clone(),
            Transport::Grpc => {
                let server = SettlementServer::new(l1.clone()).into_service();
                let uri = below.servers.add(Routes::new(server)).await?;
                Arc::new(SettlementClient::connect(&uri)?)
            }
        };
        let deps = SequencerDeps {
            executor: executor.clone(),
            inbox: None,
            settlement: Some(settlement),
            da: None,
            data_dir: below.dir.path().join("sequencer"),
        };
        let (handle, task) = SequencerService::open(SequencerConfig::default(), deps).await?;
        let shutdown = CancellationToken::new();
        let task = tokio::spawn({
            let shutdown = shutdown.clone();
            async move { Ok(task.run(shutdown).await?) }
        });
        let sequencer: Arc<dyn Sequencer> = match transport {
            Transport::Direct => Arc::new(handle),
            Transport::Grpc => {
                let server = SequencerServer::new(Arc::new(handle), executor.clone());
                let uri = below.servers.add(Routes::new(server.into_service())).await?;
                Arc::new(SequencerClient::connect(&uri)?)
            }
        };
        Ok(Self { sequencer, executor, l1, task, shutdown, below })
    }

    pub(crate) async fn stop(self) -> Result<()> {
        self.shutdown.cancel();
        self.task.await??;
        self.below.stop().await
    }
}

/// A settlement service that says what the suite tells it to. All blocks are in batch 1.
#[derive(Debug)]
pub(crate) struct ScriptedL1 {
    status: watch::Sender<SettlementStatus>,
}

impl Default for ScriptedL1 {
    fn default() -> Self {
        Self { status: watch::Sender::new(SettlementStatus::default()) }
    }
}

impl ScriptedL1 {
    /// Changes what it says, given the batch that ends at a block.
    pub(crate) fn say(
        &self,
        last_block: BlockNumHash,
        change: impl FnOnce(&mut SettlementStatus, Option<BatchPoint>),
    ) {
        let point = BatchPoint {
            batch: 1,
            last_block: last_block.number,
            last_block_hash: Some(last_block.hash),
        };
        self.status.send_modify(|status| change(status, Some(point)));
    }

    /// The L1 transaction that posts the batch.
    pub(crate) fn posting() -> L1Ref {
        l1_ref(5)
    }

    /// The L1 transaction that commits the batch.
    pub(crate) fn committing() -> L1Ref {
        l1_ref(6)
    }
}

fn l1_ref(byte: u8) -> L1Ref {
    let hash = alloy::primitives::B256::repeat_byte(byte);
    L1Ref { tx_hash: hash, block: BlockNumHash::new(byte.into(), hash) }
}

#[async_trait]
impl Settlement for ScriptedL1 {
    async fn settlement_status(&self) -> Result<SettlementStatus, SettlementError> {
        Ok(self.status.borrow().clone())
    }

    async fn subscribe_status(
        &self,
    ) -> Result<BoxStream<SettlementStatus, SettlementError>, SettlementError> {
        let mut status = self.status.subscribe();
        status.mark_changed();
        Ok(stream::unfold(status, |mut status| async move {
            status.changed().await.ok()?;
            let now = status.borrow_and_update().clone();
            Some((Ok(now), status))
        })
        .boxed())
    }

    async fn batch_of_block(&self, number: u64) -> Result<Option<BatchRecord>, SettlementError> {
        let status = self.status.borrow();
        let Some(posted) = status.posted.filter(|posted| number <= posted.last_block) else {
            return Ok(None);
        };
        Ok(Some(BatchRecord {
            number: posted.batch,
            first_block: 1,
            last_block: posted.last_block,
            digest: alloy::primitives::B256::ZERO,
            da_kind: DaKind::L1Blob,
            posted: Self::posting(),
            committed: status.committed.map(|_| Self::committing()),
            finalized: status.finalized.is_some(),
        }))
    }

    async fn verdict(&self, _: u64) -> Result<Option<BatchVerdict>, SettlementError> {
        unreachable!("neither users nor the sequencer ask")
    }

    async fn derived_block(&self, _: u64) -> Result<Option<Arc<ExecutedBlock>>, SettlementError> {
        unreachable!("nothing is unmatched")
    }

    async fn attest(&self, _: u64) -> Result<Option<Attestation>, SettlementError> {
        Err(SettlementError::NotAVerifier)
    }
}

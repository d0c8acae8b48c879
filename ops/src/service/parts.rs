//! Builds each service from its configuration and what it stands on.

use std::{path::PathBuf, sync::Arc};

use alloy::primitives::Address;
use eyre::{Result, WrapErr, bail, ensure, eyre};
use millrace_da_adapter::{DaAdapterDeps, DaAdapterService, DaSources, MultiReader};
use millrace_executor::{ExecutorConfig, ExecutorService, Replayer, StoreConfig};
use millrace_l1::{
    BeaconClient, DepositInbox, L1Client, L1Config, L1Error, L1Signer, RollupContract, SignError,
    TxManager, Web3Signer,
};
use millrace_proto::{
    ChainSpec, DaAdapter, DaReader, ErrorChain, Executor, L1Inbox, Sequencer, Settlement, TxPool,
    grpc::SettlementClient,
};
use millrace_rpc::{RpcHandle, RpcServer};
use millrace_sequencer::{SequencerDeps, SequencerService};
use millrace_settlement::{Duty, SettlementDeps, SettlementService, VerifierPeer};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::patience::patiently;
use crate::{
    config::Config,
    inclusion::{self, InclusionProver},
    keys::KeySource,
    supervisor::Supervisor,
};

/// The L1 as the services reach it.
#[derive(Debug, Clone)]
pub(crate) struct L1Link {
    config: L1Config,
    client: L1Client,
    rollup: RollupContract,
}

impl L1Link {
    pub(crate) fn new(config: &Config) -> Result<Self> {
        let unset = config.l1.rollup.is_zero();
        ensure!(!unset, "[l1] rollup is not set; `millrace deploy` makes a contract");
        let client = config.l1.client().wrap_err("[l1]")?;
        let rollup = RollupContract::new(client.clone(), config.l1.rollup);
        Ok(Self { config: config.l1.clone(), client, rollup })
    }

    /// Asks whether the L1 answers, and whether its contract is one that this build knows.
    pub(crate) async fn check(&self) -> Result<(), L1Error> {
        self.client.chain_id().await?;
        self.rollup.check_version().await
    }

    /// The deposit queue.
    fn inbox(&self) -> Result<Arc<dyn L1Inbox>> {
        Ok(Arc::new(DepositInbox::new(self.rollup.clone(), self.config.confirmations)))
    }

    fn beacon(&self) -> Result<BeaconClient> {
        self.config.beacon().wrap_err("[l1] beacon")
    }

    /// Reads posted batches back, wherever they are.
    fn reader(&self, config: &Config) -> Result<Arc<dyn DaReader>> {
        let sources = config.da_adapter.sources().wrap_err("[da_adapter]")?;
        Ok(Arc::new(MultiReader::new(DaSources { beacon: Some(self.beacon()?), ..sources })))
    }

    /// The same for a service that can do without: it may run where the sources are not to be had.
    fn reader_if_any(&self, config: &Config) -> Option<Arc<dyn DaReader>> {
        match self.reader(config) {
            Ok(reader) => Some(reader),
            Err(error) => {
                warn!(target: "millrace", error = %ErrorChain::new(&*error), "batches cannot be read here: no inclusion proofs are made");
                None
            }
        }
    }

    /// The transaction manager of one service, whose key needs a role on the contract.
    async fn transactions(
        &self,
        config: &Config,
        key: Option<&KeySource>,
        (service, role): (&'static str, &str),
        journal: PathBuf,
    ) -> Result<TxManager> {
        let signer = self.signer(key, service).await?;
        self.check_role(role, service, signer.address()).await?;
        TxManager::open(config.transactions.clone(), self.client.clone(), signer, &journal, service)
            .await
            .wrap_err_with(|| format!("transaction journal {}", journal.display()))
    }

    /// The key of one service, once it can be had.
    async fn signer(&self, key: Option<&KeySource>, service: &str) -> Result<L1Signer> {
        let chain_id = self.client.chain_id().await.wrap_err("the L1 does not answer")?;
        let key = key.ok_or_else(|| eyre!("[keys] has no key for the {service} service"))?;
        if let KeySource::Web3signer { url, address } = key {
            let ask = || Web3Signer::connect(url.clone(), *address);
            ensure!(
                patiently("the signing service", ask, SignError::class).await?,
                "stopped while waiting for the signing service"
            );
        }
        key.load(chain_id).await.wrap_err_with(|| format!("key of the {service} service"))
    }

    /// Refuses an account that the contract would refuse, before anything is paid for.
    async fn check_role(&self, role: &str, service: &str, account: Address) -> Result<()> {
        let rollup = self.config.rollup;
        let has_role = self.rollup.has_role(role, account).await.wrap_err_with(|| {
            format!("cannot read the rollup contract at {rollup}; is [l1] rollup right?")
        })?;
        ensure!(
            has_role,
            "{account} does not have {role} on the rollup contract {rollup}: grant it with the owner's key, or \
             give the {service} service the key that has it"
        );
        Ok(())
    }
}

/// The executor.
#[derive(Debug, Clone)]
pub(crate) struct ExecutorPart {
    pub(crate) executor: Arc<dyn Executor>,
}

impl ExecutorPart {
    pub(crate) fn open(config: &Config, spec: Arc<ChainSpec>) -> Result<Self> {
        let executor = ExecutorConfig {
            data_dir: config.chain.data_dir.join("executor"),
            store: config.executor.clone(),
            execution: config.execution.clone(),
            calls: config.calls.clone(),
            ..ExecutorConfig::default()
        };
        let handle = ExecutorService::open(executor, spec).wrap_err("cannot open the executor")?;
        Ok(Self { executor: Arc::new(handle) })
    }
}

/// The sequencer, with JSON-RPC.
#[derive(Debug)]
pub(crate) struct SequencerPart {
    pub(crate) sequencer: Arc<dyn Sequencer>,
    pub(crate) rpc: std::net::SocketAddr,
}

impl SequencerPart {
    pub(crate) async fn open(
        config: &Config,
        executor: Arc<dyn Executor>,
        link: &L1Link,
        settlement: Arc<dyn Settlement>,
        da: Arc<dyn DaAdapter>,
        supervisor: &mut Supervisor,
    ) -> Result<Self> {
        let deps = SequencerDeps {
            executor: Arc::clone(&executor),
            inbox: Some(link.inbox()?),
            settlement: Some(Arc::clone(&settlement)),
            da: Some(da),
            data_dir: config.chain.data_dir.join("sequencer"),
        };
        let (handle, task) = SequencerService::open(config.sequencer.clone(), deps)
            .await
            .wrap_err("cannot open the sequencer")?;
        let token = supervisor.token();
        supervisor.spawn("sequencer", async move { Ok(task.run(token).await?) });

        let pool: Arc<dyn TxPool> = Arc::new(handle.clone());
        let prover = InclusionProver::new(
            Arc::clone(&executor),
            Arc::clone(&pool),
            settlement,
            link.rollup.clone(),
            link.reader_if_any(config),
        );
        let proofs = inclusion::methods(prover)?;
        let rpc = RpcServer::start(config.rpc.clone(), executor, pool, Some(proofs))
            .await
            .wrap_err("cannot serve JSON-RPC")?;
        let address = rpc.local_addr();
        let token = supervisor.token();
        supervisor.spawn("JSON-RPC", serve_rpc(rpc, token));
        Ok(Self { sequencer: Arc::new(handle), rpc: address })
    }
}

/// Serves until cancelled, or until a part of the server fails.
pub(crate) async fn serve_rpc(mut rpc: RpcHandle, token: CancellationToken) -> Result<()> {
    tokio::select! {
        () = token.cancelled() => {}
        failed = rpc.failed() => failed.wrap_err("JSON-RPC failed")?,
    }
    rpc.stop().await.wrap_err("JSON-RPC did not stop cleanly")
}

/// The DA adapter.
#[derive(Debug, Clone)]
pub(crate) struct DaAdapterPart {
    pub(crate) da: Arc<dyn DaAdapter>,
}

impl DaAdapterPart {
    pub(crate) async fn open(
        config: &Config,
        spec: Arc<ChainSpec>,
        link: &L1Link,
        executor: Arc<dyn Executor>,
        settlement: Arc<dyn Settlement>,
        supervisor: &mut Supervisor,
    ) -> Result<Self> {
        let dir = config.chain.data_dir.join("da-adapter");
        let tx_manager = link
            .transactions(
                config,
                config.keys.batcher.as_ref(),
                ("da-adapter", "BATCHER_ROLE"),
                dir.join("l1-transactions"),
            )
            .await?;
        let deps = DaAdapterDeps {
            executor,
            rollup: link.rollup.clone(),
            beacon: link.beacon()?,
            settlement,
            tx_manager,
            data_dir: dir.join("outbox"),
            spec,
        };
        let (handle, task) = DaAdapterService::open(config.da_adapter.clone(), deps)
            .await
            .wrap_err("cannot open the DA adapter")?;
        let token = supervisor.token();
        supervisor.spawn("DA adapter", async move { Ok(task.run(token).await?) });
        Ok(Self { da: Arc::new(handle) })
    }
}

/// The settlement service.
#[derive(Debug, Clone)]
pub(crate) struct SettlementPart {
    pub(crate) settlement: Arc<dyn Settlement>,
}

impl SettlementPart {
    pub(crate) async fn open(
        config: &Config,
        spec: Arc<ChainSpec>,
        link: &L1Link,
        executor: Arc<dyn Executor>,
        supervisor: &mut Supervisor,
    ) -> Result<Self> {
        let duty = match config.settlement.commit {
            true => Self::committing(config, link).await?,
            false => Duty::Watch,
        };
        Self::run("settlement", config, spec, link, (Some(executor), duty), supervisor).await
    }

    /// The same as an independent verifier, which asks L1 alone.
    pub(crate) async fn open_verifier(
        config: &Config,
        spec: Arc<ChainSpec>,
        link: &L1Link,
        supervisor: &mut Supervisor,
    ) -> Result<Self> {
        let signer = link.signer(config.keys.verifier.as_ref(), "verifier").await?;
        let account = signer.address();
        let rules = link.rollup.attestation_rules().await.wrap_err("cannot read the contract")?;
        match rules {
            Some(rules) if rules.members.contains(&account) => {}
            Some(rules) => bail!(
                "{account} is none of the accounts whose signatures the contract counts: {:?}",
                rules.members
            ),
            None => bail!(
                "the contract counts no signatures; `millrace deploy --verifiers` makes one that does"
            ),
        }
        Self::run("verifier", config, spec, link, (None, Duty::Attest { signer }), supervisor).await
    }

    async fn committing(config: &Config, link: &L1Link) -> Result<Duty> {
        let tx_manager = link
            .transactions(
                config,
                config.keys.committer.as_ref(),
                ("settlement", "COMMITTER_ROLE"),
                config.chain.data_dir.join("settlement/l1-transactions"),
            )
            .await?;
        let verifiers = config.settlement.verifiers.iter().map(|url| {
            let service = SettlementClient::connect(url)
                .wrap_err_with(|| format!("[settlement] verifiers: {url}"))?;
            Ok(VerifierPeer { name: url.clone(), service: Arc::new(service) })
        });
        let verifiers = verifiers.collect::<Result<_>>()?;
        Ok(Duty::Commit { tx_manager: Box::new(tx_manager), verifiers })
    }

    async fn run(
        name: &'static str,
        config: &Config,
        spec: Arc<ChainSpec>,
        link: &L1Link,
        (executor, duty): (Option<Arc<dyn Executor>>, Duty),
        supervisor: &mut Supervisor,
    ) -> Result<Self> {
        let dir = config.chain.data_dir.join(name);
        let store = StoreConfig { name: "settlement", ..config.executor.clone() };
        let replay = Replayer::open(&dir.join("replay"), &store, Arc::clone(&spec))
            .wrap_err("cannot open the settlement service's own copy of the chain")?;
        let deps = SettlementDeps {
            rollup: link.rollup.clone(),
            reader: link.reader(config)?,
            executor,
            replay: Box::new(replay),
            data_dir: dir.join("records"),
            spec,
            duty,
        };
        let (handle, task) = SettlementService::open(config.settlement.clone(), deps)
            .await
            .wrap_err("cannot open the settlement service")?;
        let token = supervisor.token();
        supervisor.spawn(name, async move { Ok(task.run(token).await?) });
        Ok(Self { settlement: Arc::new(handle) })
    }
}

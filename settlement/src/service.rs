//! The service: opening, what others ask it, and running its tasks.

use std::{collections::HashMap, future::Future, path::PathBuf, sync::Arc, time::Duration};

use alloy::eips::BlockNumHash;
use async_trait::async_trait;
use futures::StreamExt;
use millrace_l1::{L1Signer, RollupContract, TxManager};
use millrace_proto::{
    Attestation, BatchRecord, BatchVerdict, BoxStream, ChainSpec, DaReader, ExecutedBlock,
    Executor, Replay, Settlement, SettlementError, SettlementStatus,
};
use tokio::{
    task::{Id, JoinSet},
    time::{Instant, timeout_at},
};
use tokio_stream::wrappers::WatchStream;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    SettlementConfig,
    attestations::{Attester, VerifierPeer},
    committer::Committer,
    derivation::{Derivation, DerivationHead},
    error::{SettlementOpenError, SettlementRunError},
    execution::{ReplayReader, ReplayWorker},
    halt::HaltReason,
    shared::{Shared, Stalled},
    store::{Identity, Outcome, Store, StoreError},
    verifier::Verifier,
    watcher::Watcher,
};

/// How long whoever asks for a signature is kept waiting for a batch that is not verified yet.
const ATTEST_WAIT: Duration = Duration::from_secs(5);

/// What the service works with.
#[derive(Debug)]
pub struct SettlementDeps {
    /// The contract on L1.
    pub rollup: RollupContract,
    /// Reads the batches' bytes.
    pub reader: Arc<dyn DaReader>,
    /// The sequencer's executor, with whose chain the derived one is compared. A verifier that trusts nobody has none.
    pub executor: Option<Arc<dyn Executor>>,
    /// The chain rebuilt from L1; the same one at every start.
    pub replay: Box<dyn Replay>,
    /// Where the service keeps its database; made if it is not there.
    pub data_dir: PathBuf,
    /// The rollup's genesis and rules.
    pub spec: Arc<ChainSpec>,
    /// What becomes of what is verified.
    pub duty: Duty,
}

/// What a settlement service does with what it has verified.
#[derive(Debug)]
pub enum Duty {
    /// It raises alarms alone.
    Watch,
    /// It commits.
    Commit {
        /// From an account that holds the contract's committer role. The service does not run it.
        tx_manager: Box<TxManager>,
        /// Who signs, where the contract asks for signatures.
        verifiers: Vec<VerifierPeer>,
    },
    /// It signs for whoever asks.
    Attest {
        /// With a key whose signatures the contract counts.
        signer: L1Signer,
    },
}

/// The settlement service.
#[derive(Debug)]
pub struct SettlementService;

impl SettlementService {
    /// Opens the service: checks that contract, genesis, data folder and replayed chain belong together, and takes up the work where
    /// it was left. Nothing runs yet.
    ///
    /// # Errors
    /// See [`SettlementOpenError`].
    pub async fn open(
        config: SettlementConfig,
        deps: SettlementDeps,
    ) -> Result<(SettlementHandle, SettlementTask), SettlementOpenError> {
        let SettlementDeps { rollup, reader, executor, replay, data_dir, spec, duty } = deps;
        let genesis = check_chain(&rollup, replay.as_ref(), &spec).await?;
        std::fs::create_dir_all(&data_dir)
            .map_err(|source| SettlementOpenError::DataDir { path: data_dir.clone(), source })?;
        let store = Store::open(
            &data_dir,
            Identity {
                chain_id: spec.chain_id(),
                rollup: rollup.address(),
                genesis_hash: genesis.hash,
            },
        )?;
        drop_outcomes_ahead(&store, replay.as_ref())?;
        let shared = Shared::new(store)?;
        let verifier = Verifier {
            config: config.clone(),
            shared: shared.clone(),
            derivation: Derivation::new(&spec, rollup.address()),
            genesis,
            reader,
            executor,
            replay: ReplayWorker::spawn(replay).map_err(SettlementOpenError::Thread)?,
        };
        let (committer, attester) = match duty {
            Duty::Watch => (None, None),
            Duty::Commit { tx_manager, verifiers } => {
                let committer = Committer {
                    config: config.clone(),
                    shared: shared.clone(),
                    rollup: rollup.clone(),
                    tx_manager: *tx_manager,
                    verifiers,
                };
                (Some(committer), None)
            }
            Duty::Attest { signer } => (None, Some(Attester { rollup: rollup.clone(), signer })),
        };
        let watcher = Watcher { config, rollup, shared: shared.clone() };
        let handle = SettlementHandle { shared, attester, replay: verifier.replay.reader() };
        Ok((handle, SettlementTask { watcher, verifier, committer }))
    }
}

/// Makes sure that the contract is this chain's, and returns the genesis block as a head.
async fn check_chain(
    rollup: &RollupContract,
    replay: &dyn Replay,
    spec: &ChainSpec,
) -> Result<DerivationHead, SettlementOpenError> {
    let contract = rollup.l2_chain_id().await?;
    if contract != spec.chain_id() {
        return Err(SettlementOpenError::ChainId { contract, configured: spec.chain_id() });
    }
    let genesis = replay.header(0)?.ok_or(SettlementOpenError::NoGenesis)?;
    let contract = rollup.genesis_hash().await?;
    if contract != genesis.seal() {
        return Err(SettlementOpenError::Genesis { contract, computed: genesis.seal() });
    }
    DerivationHead::of(&genesis).ok_or(SettlementOpenError::NoGenesis)
}

/// Forgets outcomes for blocks that the replayed chain does not hold: its writes are not synced with the database's, so it may have
/// fallen behind when the machine went down.
fn drop_outcomes_ahead(store: &Store, replay: &dyn Replay) -> Result<(), SettlementOpenError> {
    let mut upto = None;
    while let Some(verified) = store.last_verified(upto)? {
        let header = replay.header(verified.last_block)?;
        if header.is_some_and(|header| header.seal() == verified.last_block_hash) {
            break;
        }
        warn!(target: "millrace::settlement", batch = verified.batch, "the replayed chain lacks a verified batch; verifying it again");
        upto = Some(verified.batch - 1);
    }
    if let Some(batch) = upto {
        let kept = store.last_verified(Some(batch))?.map_or(0, |verified| verified.batch);
        store.forget_outcomes_after(kept)?;
    }
    Ok(())
}

/// Answers for the service. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SettlementHandle {
    shared: Shared,
    attester: Option<Attester>,
    replay: ReplayReader,
}

impl SettlementHandle {
    /// The status now.
    pub fn status(&self) -> SettlementStatus {
        self.shared.status().borrow().clone()
    }

    /// Why the service has halted until it is restarted, if it has. What it waits for shows in the status alone.
    pub fn halted(&self) -> Option<Arc<HaltReason>> {
        self.shared.halted()
    }

    /// Where the sequencer has had another block than is derived from L1, for longer than it may, if it has: what it should have taken over.
    pub fn differs(&self) -> Option<String> {
        let differs = |what| self.shared.stalled(what);
        differs(Stalled::Comparing).or_else(|| differs(Stalled::Watching))
    }

    fn batch(&self, block: u64) -> Result<Option<BatchRecord>, StoreError> {
        let store = &self.shared.store;
        let Some(posted) = store.batch_of_block(block)? else { return Ok(None) };
        let header = posted.header;
        let commitment = store.commitment(header.number)?;
        let verified = matches!(store.outcome(header.number)?, Some(Outcome::Verified(_)));
        let finalized = store.finalized()?.is_some_and(|last| last.batch >= header.number);
        Ok(Some(BatchRecord {
            number: header.number,
            first_block: header.first_block,
            last_block: header.last_block,
            digest: header.digest,
            da_kind: header.da_kind,
            posted: posted.l1,
            committed: commitment.filter(|_| verified).map(|commitment| commitment.l1),
            finalized,
        }))
    }

    /// What became of a batch, once that is known, or nothing after [`ATTEST_WAIT`].
    async fn awaited(&self, batch: u64) -> Result<Option<Outcome>, StoreError> {
        let mut revisions = self.shared.revisions();
        let deadline = Instant::now() + ATTEST_WAIT;
        loop {
            revisions.mark_unchanged();
            let outcome = self.shared.store.outcome(batch)?;
            if outcome.is_some() || timeout_at(deadline, revisions.changed()).await.is_err() {
                return Ok(outcome);
            }
        }
    }

    fn judged(&self, batch: u64) -> Result<Option<BatchVerdict>, StoreError> {
        let store = &self.shared.store;
        let Some(posted) = store.posted(batch)? else { return Ok(None) };
        let end = match store.outcome(batch)? {
            None => return Ok(None),
            Some(Outcome::Verified(verified)) => {
                Ok(BlockNumHash::new(verified.last_block, verified.last_block_hash))
            }
            Some(Outcome::Skipped(reason)) => Err(reason),
        };
        Ok(Some(BatchVerdict { batch_hash: posted.batch_hash, end }))
    }
}

#[async_trait]
impl Settlement for SettlementHandle {
    async fn settlement_status(&self) -> Result<SettlementStatus, SettlementError> {
        Ok(self.status())
    }

    async fn subscribe_status(
        &self,
    ) -> Result<BoxStream<SettlementStatus, SettlementError>, SettlementError> {
        Ok(WatchStream::new(self.shared.status()).map(Ok).boxed())
    }

    async fn batch_of_block(&self, number: u64) -> Result<Option<BatchRecord>, SettlementError> {
        Ok(self.batch(number)?)
    }

    async fn verdict(&self, batch: u64) -> Result<Option<BatchVerdict>, SettlementError> {
        Ok(self.judged(batch)?)
    }

    async fn derived_block(
        &self,
        number: u64,
    ) -> Result<Option<Arc<ExecutedBlock>>, SettlementError> {
        let block = self.replay.block(number).await;
        let block = block.map_err(|gone| SettlementError::Store(Box::new(gone)))?;
        block.map_err(|error| SettlementError::Store(Box::new(error)))
    }

    async fn attest(&self, batch: u64) -> Result<Option<Attestation>, SettlementError> {
        let attester = self.attester.as_ref().ok_or(SettlementError::NotAVerifier)?;
        if let Some(reason) = self.halted() {
            return Err(SettlementError::Attest(reason.to_string().into()));
        }
        match self.awaited(batch).await? {
            Some(Outcome::Verified(verified)) => {
                attester.attest(verified.outcome()).await.map(Some)
            }
            _ => Ok(None),
        }
    }
}

/// The service's work.
#[derive(Debug)]
pub struct SettlementTask {
    watcher: Watcher,
    verifier: Verifier,
    committer: Option<Committer>,
}

impl SettlementTask {
    /// Runs until `stop` is cancelled. The end of any part ends them all.
    ///
    /// A halt ([`HaltReason`]) does not end the service: it shows in the status.
    ///
    /// # Errors
    /// The first failure of a part.
    pub async fn run(self, stop: CancellationToken) -> Result<(), SettlementRunError> {
        let Self { watcher, verifier, committer } = self;
        let stop = stop.child_token();
        let mut tasks = Tasks::default();
        tasks.spawn("watcher", watcher.run(stop.clone()));
        tasks.spawn("verifier", verifier.run(stop.clone()));
        if let Some(committer) = committer {
            tasks.spawn("committer", committer.run(stop.clone()));
        }
        let mut result = Ok(());
        while let Some(ended) = tasks.next_end().await {
            stop.cancel();
            // What the others say while they are stopped is a consequence of the first failure.
            result = result.and(ended);
        }
        info!(target: "millrace::settlement", "stopped");
        result
    }
}

/// Running tasks, by name. Dropping this aborts them.
#[derive(Default)]
struct Tasks {
    running: JoinSet<Result<(), SettlementRunError>>,
    names: HashMap<Id, &'static str>,
}

impl Tasks {
    fn spawn(
        &mut self,
        name: &'static str,
        work: impl Future<Output = Result<(), SettlementRunError>> + Send + 'static,
    ) {
        let id = self.running.spawn(work).id();
        self.names.insert(id, name);
    }

    /// Waits until a task ends; `None` if none is left.
    async fn next_end(&mut self) -> Option<Result<(), SettlementRunError>> {
        let (id, result) = match self.running.join_next_with_id().await? {
            Ok((id, result)) => (id, result),
            Err(source) => {
                let task = self.names.get(&source.id()).copied().unwrap_or("unknown");
                (source.id(), Err(SettlementRunError::Panicked { task, source }))
            }
        };
        self.names.remove(&id);
        Some(result)
    }
}

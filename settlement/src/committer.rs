//! Commits verified batches on L1, in order. The contract is the truth: what it holds is not sent again, and what an L1 reorg took
//! from it is.

use std::time::{SystemTime, UNIX_EPOCH};

use alloy::{
    primitives::{Bytes, U256},
    sol_types::SolCall,
};
use millrace_l1::{
    ConfirmedTx, L1Error, RevertReason, Rollup, RollupContract, TxManager, TxManagerError,
    TxRequest, contracts::Rollup::RollupErrors,
};
use millrace_proto::ErrorClass;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    SettlementConfig,
    attestations::{GatherError, VerifierPeer, gather},
    error::SettlementRunError,
    halt::HaltReason,
    retry::{self, Backoff, Stopping},
    shared::{Shared, Stalled},
    store::{StoreError, VerifiedBatch},
};

/// The task that commits.
#[derive(Debug)]
pub(crate) struct Committer {
    pub(crate) config: SettlementConfig,
    pub(crate) shared: Shared,
    pub(crate) rollup: RollupContract,
    pub(crate) tx_manager: TxManager,
    pub(crate) verifiers: Vec<VerifierPeer>,
}

/// Why a commitment was not made.
#[derive(Debug, thiserror::Error)]
enum CommitError {
    #[error(transparent)]
    L1(#[from] L1Error),
    #[error(transparent)]
    Transaction(#[from] TxManagerError),
    #[error("the contract does not show the commitment yet")]
    NotShown,
    #[error("the guardian has paused the rollup contract; commitments go on once it is unpaused")]
    Paused,
    #[error("the commitment has {0}")]
    Unsigned(GatherError),
    #[error("{0}")]
    Refused(HaltReason),
}

impl Committer {
    /// Commits until the service stops or halts.
    ///
    /// # Errors
    /// When the store or the transaction manager fails for good.
    pub(crate) async fn run(self, stop: CancellationToken) -> Result<(), SettlementRunError> {
        match stop.run_until_cancelled(self.commit_all(&stop)).await {
            Some(Err(error)) => Err(error),
            Some(Ok(Stopping)) | None => Ok(()),
        }
    }

    async fn commit_all(&self, stop: &CancellationToken) -> Result<Stopping, SettlementRunError> {
        let mut revisions = self.shared.revisions();
        let mut backoff = Backoff::new(&self.config);
        let mut last_sent = None;
        let mut refusals = Refusals::default();
        let mut lacking = None;
        loop {
            if self.shared.is_halted() {
                stop.cancelled().await;
                return Ok(Stopping);
            }
            revisions.mark_unchanged();
            let error = match self.next().await {
                Ok(Some(batch)) if last_sent == Some(batch.batch_hash) => {
                    last_sent = None;
                    CommitError::NotShown
                }
                Ok(Some(batch)) => {
                    self.see_funds(&mut lacking).await?;
                    match self.commit(&batch).await {
                        Ok(confirmed) => {
                            self.shared.stall(Stalled::Committing, None)?;
                            self.confirmed(&batch, &confirmed)?;
                            last_sent = Some(batch.batch_hash);
                            refusals = Refusals::default();
                            backoff.reset();
                            continue;
                        }
                        Err(error) => self.failed(&batch, error).await?,
                    }
                }
                Ok(None) => {
                    self.shared.stall(Stalled::Committing, None)?;
                    // The sender lives in `shared`, so this ends only with a change.
                    let _ = revisions.changed().await;
                    continue;
                }
                Err(NextError::Store(error)) => return Err(error.into()),
                Err(NextError::Commit(error)) => error,
            };
            let error = match refusals.count(error) {
                Ok(error) => error,
                Err(reason) => {
                    self.shared.halt(reason)?;
                    continue;
                }
            };
            if let CommitError::Transaction(TxManagerError::InsufficientBalance {
                needed, ..
            }) = &error
            {
                lacking = Some(*needed);
                let account = self.tx_manager.address();
                let reason = format!("nothing is committed: {error}. Fund {account} on L1");
                self.shared.stall(Stalled::Committing, Some(reason))?;
            }
            let stands_still = match &error {
                CommitError::Paused => true,
                CommitError::Unsigned(error) => !error.comes_by_itself(),
                _ => false,
            };
            if stands_still {
                let reason = format!("nothing is committed: {error}");
                self.shared.stall(Stalled::Committing, Some(reason))?;
            }
            self.shared.metrics.retries_total.increment(1);
            let pause = backoff.pause();
            warn!(target: "millrace::settlement", %error, ?pause, "cannot commit; trying again");
            if retry::sleep(stop, pause).await.is_err() {
                return Ok(Stopping);
            }
        }
    }

    /// Says that the account is funded again once it has what it lacked.
    async fn see_funds(&self, lacking: &mut Option<U256>) -> Result<(), StoreError> {
        let Some(needed) = *lacking else { return Ok(()) };
        let account = self.tx_manager.address();
        // An L1 that does not answer shows in the commitment that follows.
        let balance = self.tx_manager.client().balance(account).await;
        if balance.is_ok_and(|balance| balance >= needed) {
            *lacking = None;
            self.shared.stall(Stalled::Committing, None)?;
        }
        Ok(())
    }

    /// The batch to commit next, if one is verified.
    async fn next(&self) -> Result<Option<VerifiedBatch>, NextError> {
        let (last_batch, committed_block) = self.rollup.last_committed().await?;
        let store = &self.shared.store;
        let Some(batch) = store.verified_after(last_batch)? else { return Ok(None) };
        if batch.first_block != committed_block.saturating_add(1) {
            return Err(CommitError::Refused(HaltReason::CommitmentsDoNotJoin {
                batch: batch.batch,
                first_block: batch.first_block,
                committed_block,
            })
            .into());
        }
        if store.was_reverted(&batch)? {
            let reason = HaltReason::CommitmentReverted { batch: batch.batch };
            return Err(CommitError::Refused(reason).into());
        }
        Ok(Some(batch))
    }

    async fn commit(&self, batch: &VerifiedBatch) -> Result<ConfirmedTx, CommitError> {
        let proof = gather(&self.rollup, &self.verifiers, &batch.outcome()).await;
        let proof = proof.map_err(|error| match error {
            GatherError::L1(error) => error.into(),
            few => CommitError::Unsigned(few),
        })?;
        let call = Rollup::commitBatchCall {
            number: batch.batch,
            batchHash: batch.batch_hash,
            firstBlock: batch.first_block,
            lastBlock: batch.last_block,
            lastBlockHash: batch.last_block_hash,
            stateRoot: batch.state_root,
            messageRoot: batch.message_root,
            proof,
        };
        let prefix = alloy::hex::encode(&batch.batch_hash[..8]);
        let request = TxRequest::call(
            format!("commit-{}-{prefix}", batch.batch),
            self.rollup.address(),
            Bytes::from(call.abi_encode()),
        );
        info!(target: "millrace::settlement", batch = batch.batch, state_root = %batch.state_root, "committing");
        Ok(self.tx_manager.send(request).await?)
    }

    fn confirmed(&self, batch: &VerifiedBatch, confirmed: &ConfirmedTx) -> Result<(), StoreError> {
        let store = &self.shared.store;
        store.add_fee(confirmed.l1.tx_hash, confirmed.fee_paid)?;
        if let Some(posted) = store.posted(batch.batch)? {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let latency = (now.as_secs_f64() - posted.l1_timestamp as f64).max(0.0);
            self.shared.metrics.commit_latency_seconds.record(latency);
        }
        info!(
            target: "millrace::settlement",
            batch = batch.batch,
            last_block = batch.last_block,
            l1_block = confirmed.l1.block.number,
            fee_wei = %confirmed.fee_paid,
            "batch committed"
        );
        self.shared.refresh(None)
    }

    /// Decides about a failed commitment: tells whether trying again can help.
    async fn failed(
        &self,
        batch: &VerifiedBatch,
        error: CommitError,
    ) -> Result<CommitError, SettlementRunError> {
        let CommitError::Transaction(source) = error else { return Ok(error) };
        match &source {
            TxManagerError::Reverted { l1, fee_paid, reason, .. } => {
                self.shared.store.add_fee(l1.tx_hash, *fee_paid)?;
                if reason.as_ref().is_some_and(is_pause) {
                    return Ok(CommitError::Paused);
                }
            }
            TxManagerError::WouldRevert { reason, .. } if is_pause(reason) => {
                return Ok(CommitError::Paused);
            }
            TxManagerError::WouldRevert { .. } | TxManagerError::IdInUse { .. } => {}
            // Whatever words a node found for it: L1 is asked again.
            TxManagerError::L1(_) => return Ok(source.into()),
            other if other.class() == ErrorClass::Fatal => {
                return Err(SettlementRunError::Transaction(source));
            }
            _ => return Ok(source.into()),
        }
        // L1 may have moved under it: the batch posted again or gone, or committed by someone else.
        let posted = match self.rollup.batch_hash(batch.batch).await {
            Ok(hash) => hash,
            Err(error) => return Ok(error.into()),
        };
        let committed = match self.rollup.last_committed().await {
            Ok((committed, _)) => committed,
            Err(error) => return Ok(error.into()),
        };
        if posted != batch.batch_hash || committed >= batch.batch {
            return Ok(source.into());
        }
        Ok(CommitError::Refused(HaltReason::CommitRefused { batch: batch.batch, source }))
    }
}

/// Whether the contract refuses because it is paused.
fn is_pause(reason: &RevertReason) -> bool {
    matches!(reason.rollup_error(), Some(RollupErrors::IsPaused(_)))
}

/// Refusals in a row. One alone may come from an L1 reorg that was under way; so many come from a cause that stays.
#[derive(Debug, Default)]
struct Refusals(u32);

impl Refusals {
    const MAX: u32 = 3;

    /// Counts a failure, and ends in a halt when it is one refusal too many.
    fn count(&mut self, error: CommitError) -> Result<CommitError, HaltReason> {
        match error {
            CommitError::Refused(reason) if self.0 + 1 >= Self::MAX => Err(reason),
            CommitError::Refused(_) => {
                self.0 += 1;
                Ok(error)
            }
            _ => Ok(error),
        }
    }
}

/// Why the next batch is not known.
#[derive(Debug, thiserror::Error)]
enum NextError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Commit(#[from] CommitError),
}

impl From<L1Error> for NextError {
    fn from(error: L1Error) -> Self {
        Self::Commit(error.into())
    }
}

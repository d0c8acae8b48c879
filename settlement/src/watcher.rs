//! Follows the rollup contract's events into the store.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use millrace_l1::{L1Follower, L1Update, RollupContract};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::{
    SettlementConfig,
    error::SettlementRunError,
    halt::HaltReason,
    retry::{self, Backoff},
    shared::Shared,
    store::{ApplyError, Outcome, StoreError},
};

/// How often the lag behind L1 is measured when L1 brings nothing new.
const LAG_SHOWN_EVERY: Duration = Duration::from_secs(5);

/// The task that follows L1.
#[derive(Debug)]
pub(crate) struct Watcher {
    pub(crate) config: SettlementConfig,
    pub(crate) rollup: RollupContract,
    pub(crate) shared: Shared,
}

impl Watcher {
    /// Follows L1 until the service stops.
    ///
    /// # Errors
    /// When the store fails. Whatever L1 does is tried again.
    pub(crate) async fn run(self, stop: CancellationToken) -> Result<(), SettlementRunError> {
        let mut backoff = Backoff::new(&self.config);
        loop {
            let Some(followed) = stop.run_until_cancelled(self.follow(&mut backoff)).await else {
                return Ok(());
            };
            let problem = match followed {
                Err(FollowError::Apply(ApplyError::Store(error))) => return Err(error.into()),
                // The update was not applied, so a new follower reads it again from where the store is.
                Err(problem) => problem,
                Ok(never) => match never {},
            };
            self.shared.metrics.retries_total.increment(1);
            let pause = backoff.pause();
            error!(target: "millrace::settlement", %problem, ?pause, "cannot follow L1; starting again from the last good block");
            if retry::sleep(&stop, pause).await.is_err() {
                return Ok(());
            }
        }
    }

    async fn follow(&self, backoff: &mut Backoff) -> Result<std::convert::Infallible, FollowError> {
        let points = self.shared.store.l1_points().map_err(ApplyError::from)?;
        let mut follower = L1Follower::resume(self.rollup.clone(), points).await?;
        let mut clock = tokio::time::interval(LAG_SHOWN_EVERY);
        let mut l1_timestamp = None;
        loop {
            let update = {
                let next = follower.next();
                tokio::pin!(next);
                loop {
                    tokio::select! {
                        update = &mut next => break update?,
                        // The lag grows while L1 stands still or does not answer.
                        _ = clock.tick() => self.show_lag(l1_timestamp),
                    }
                }
            };
            self.apply(&update)?;
            l1_timestamp = Some(update.latest.timestamp);
            self.show_lag(l1_timestamp);
            backoff.reset();
        }
    }

    /// Shows how far L1's latest block, by its timestamp, lies behind the clock.
    fn show_lag(&self, l1_timestamp: Option<u64>) {
        if let Some(timestamp) = l1_timestamp {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            self.shared.metrics.l1_lag_seconds.set(now.as_secs_f64() - timestamp as f64);
        }
    }

    /// Applies an update and shows what it changed.
    pub(crate) fn apply(&self, update: &L1Update) -> Result<(), ApplyError> {
        let shared = &self.shared;
        let applied = shared.store.apply(update)?;
        if let Some(block) = update.reverted_to {
            shared.metrics.l1_reorgs_total.increment(1);
            warn!(
                target: "millrace::settlement",
                to = block.number,
                batches = applied.reverted_batches,
                deposits = applied.reverted_deposits,
                "an L1 reorg took records back"
            );
        }
        debug!(target: "millrace::settlement", head = update.head.number, events = update.events.len(), "followed L1");
        for commitment in &applied.committed {
            info!(target: "millrace::settlement", batch = commitment.batch, last_block = commitment.last_block, "commitment on L1");
            if let Some(Outcome::Verified(verified)) = shared.store.outcome(commitment.batch)? {
                check_commitment(shared, &verified, commitment)?;
            }
        }
        Ok(shared.refresh(Some(update.latest.id()))?)
    }
}

/// Halts if a commitment on L1 is not what verification gave.
pub(crate) fn check_commitment(
    shared: &Shared,
    verified: &crate::store::VerifiedBatch,
    commitment: &millrace_proto::Commitment,
) -> Result<(), StoreError> {
    match verified.difference(commitment) {
        Some((field, expected, found)) => shared.halt(HaltReason::WrongCommitment {
            batch: verified.batch,
            field,
            expected,
            found,
        }),
        None => Ok(()),
    }
}

/// Why following L1 broke off.
#[derive(Debug, thiserror::Error)]
enum FollowError {
    #[error(transparent)]
    Apply(#[from] ApplyError),
    #[error(transparent)]
    L1(#[from] millrace_l1::L1Error),
}

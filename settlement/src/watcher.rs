//! Follows the rollup contract's events into the store.

mod problem;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use millrace_l1::{L1Follower, L1Update, RollupContract};
use millrace_proto::Commitment;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use self::problem::{FollowError, Misfit};
use crate::{
    SettlementConfig,
    error::SettlementRunError,
    halt::HaltReason,
    retry::{self, Backoff},
    shared::{Shared, Stalled},
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
        let mut misfit = None;
        loop {
            let following = self.follow(&mut backoff, &mut misfit);
            let Some(followed) = stop.run_until_cancelled(following).await else {
                return Ok(());
            };
            let problem = match followed {
                Err(FollowError::Apply(ApplyError::Store(error))) => return Err(error.into()),
                // The update was not applied, so a new follower reads it again.
                Err(problem) => problem,
                Ok(never) => match never {},
            };
            if let Some(why) = problem.stands_still(misfit.as_ref()) {
                self.shared.stall(Stalled::Following, Some(why))?;
            }
            self.shared.metrics.retries_total.increment(1);
            let pause = backoff.pause();
            let from = misfit.map(|misfit: Misfit| misfit.fits_through);
            error!(target: "millrace::settlement", %problem, ?pause, from, "cannot follow L1; starting again from the last good block");
            if retry::sleep(&stop, pause).await.is_err() {
                return Ok(());
            }
        }
    }

    /// Follows L1 from the last block whose events were applied; from further back if events did not fit.
    async fn follow(
        &self,
        backoff: &mut Backoff,
        misfit: &mut Option<Misfit>,
    ) -> Result<std::convert::Infallible, FollowError> {
        let points = self.shared.store.l1_points().map_err(ApplyError::from)?;
        let mut follower = L1Follower::resume(self.rollup.clone(), points).await?;
        let rewound = misfit.map(|misfit| {
            follower.rewind(misfit.fits_through);
            follower.cursor()
        });
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
            let reread = update.reverted_to.is_some() && update.reverted_to == rewound;
            if update.reverted_to.is_some() {
                self.check_finalized().await?;
            }
            let head = update.head.number;
            if let Err(error) = self.apply(&update, reread) {
                if !matches!(error, ApplyError::Store(_)) {
                    self.rollup.client().distrust().await;
                    let fits_through = self.shared.store.fits_through(&error);
                    let fits_through = fits_through.map_err(ApplyError::from)?;
                    *misfit = Some(Misfit::again(*misfit, fits_through, head));
                }
                return Err(error.into());
            }
            if misfit.is_none_or(|misfit| head >= misfit.head) {
                *misfit = None;
                backoff.reset();
                self.shared.stall(Stalled::Following, None).map_err(ApplyError::from)?;
            }
            l1_timestamp = Some(update.latest.timestamp);
            self.show_lag(l1_timestamp);
        }
    }

    /// Makes sure that L1 still has the block that it called final: one that has not is another L1, and nothing that was read is
    /// forgotten for it.
    async fn check_finalized(&self) -> Result<(), FollowError> {
        let finalized = self.shared.store.l1_finalized().map_err(ApplyError::from)?;
        let Some(known) = finalized.map(|point| point.block) else { return Ok(()) };
        let found = self.rollup.client().block(known.number).await?.map(|block| block.hash);
        if found == Some(known.hash) {
            return Ok(());
        }
        Err(FollowError::FinalizedGone { known, found })
    }

    /// Shows how far L1's latest block, by its timestamp, lies behind the clock.
    fn show_lag(&self, l1_timestamp: Option<u64>) {
        if let Some(timestamp) = l1_timestamp {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            self.shared.metrics.l1_lag_seconds.set(now.as_secs_f64() - timestamp as f64);
        }
    }

    /// Applies an update and shows what it changed.
    fn apply(&self, update: &L1Update, reread: bool) -> Result<(), ApplyError> {
        let shared = &self.shared;
        let applied = match reread {
            true => shared.store.apply_again(update)?,
            false => shared.store.apply(update)?,
        };
        if let Some(block) = update.reverted_to.filter(|_| !reread) {
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
            if let Some(outcome) = shared.store.outcome(commitment.batch)? {
                check_commitment(shared, &outcome, commitment)?;
            }
        }
        Ok(shared.refresh(Some(update.latest.id()))?)
    }
}

/// Halts if a commitment on L1 is not what verification gave.
pub(crate) fn check_commitment(
    shared: &Shared,
    outcome: &Outcome,
    commitment: &Commitment,
) -> Result<(), StoreError> {
    let batch = commitment.batch;
    let difference = match outcome {
        Outcome::Verified(verified) => verified.difference(commitment),
        Outcome::Skipped(_) => {
            let none = "none, as the batch is invalid".to_owned();
            Some(("state root", none, commitment.state_root.to_string()))
        }
    };
    match difference {
        Some((field, expected, found)) => {
            shared.halt(HaltReason::WrongCommitment { batch, field, expected, found })
        }
        None => Ok(()),
    }
}

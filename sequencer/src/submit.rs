//! The way of a submission: check, read the sender's account, into the pool, wait for the disk.

use std::{net::IpAddr, sync::Arc, time::Instant};

use alloy::primitives::{Bytes, TxHash};
use millrace_proto::{ExecutorError, Peer, RecoveredTx, RejectReason, SequencerError, SubmitError};

use crate::{
    admission::{Source, Submitted},
    pool::{Acceptance, Loaded, Refusal, load_accounts},
    shared::Shared,
};

/// Where one transaction of a submission stands.
pub(crate) enum Progress {
    /// Checked; not in the pool yet.
    Checked(Arc<RecoveredTx>),
    /// In the pool.
    Placed(TxHash, Acceptance),
    /// Its nonce is used, perhaps by itself.
    NonceUsed(TxHash, RejectReason),
    /// Not taken.
    Refused(SubmitError),
}

impl Shared {
    /// Takes submissions: a result for each, in order, once it is on disk or refused.
    pub(crate) async fn submit(
        &self,
        raw: Vec<Bytes>,
        from: Option<IpAddr>,
    ) -> Vec<Result<TxHash, SubmitError>> {
        let entered = self.enter(raw, from).await;
        let mut results = Vec::with_capacity(entered.len());
        for progress in entered {
            results.push(self.finish(progress).await);
        }
        results
    }

    /// Checks submissions and puts them into the pool, in order. Others may follow them then.
    pub(crate) async fn enter(&self, raw: Vec<Bytes>, from: Option<IpAddr>) -> Vec<Progress> {
        let started = Instant::now();
        self.metrics.submitted.increment(raw.len() as u64);
        let source = Source::of(from, &self.config.pool.trusted_sources);
        let mut all = self.check(raw, from, source).await;
        self.place(&mut all, source).await;
        self.work.notify_one();
        self.metrics.admission_seconds.record(started.elapsed());
        all
    }

    /// The result of a submission, once it is on disk or refused.
    pub(crate) async fn finish(&self, progress: Progress) -> Result<TxHash, SubmitError> {
        let result = self.outcome(progress).await;
        if let Err(SubmitError::Rejected(reason)) = &result {
            self.metrics.rejected(reason);
        }
        result
    }

    async fn check(
        &self,
        raw: Vec<Bytes>,
        from: Option<IpAddr>,
        source: Option<Source>,
    ) -> Vec<Progress> {
        let count = raw.len();
        let submitted = raw.into_iter().map(|raw| Submitted { raw, source }).collect();
        match self.recovery.check(submitted, from.map(Peer::from)).await {
            Some(checked) => checked
                .into_iter()
                .map(|result| match result {
                    Ok(tx) => Progress::Checked(tx),
                    Err(reason) => Progress::Refused(reason.into()),
                })
                .collect(),
            None => (0..count).map(|_| Progress::Refused(self.closed_error().into())).collect(),
        }
    }

    /// Puts what was checked into the pool, in order.
    async fn place(&self, all: &mut [Progress], source: Option<Source>) {
        loop {
            let (unknown, at, unwound) = {
                let pool = self.ledger.pool.lock();
                let senders = all.iter().filter_map(|progress| match progress {
                    Progress::Checked(tx) => Some(tx.sender()),
                    _ => None,
                });
                (pool.unknown(senders), pool.head(), pool.unwound())
            };
            let loaded = if unknown.is_empty() {
                Loaded::default()
            } else {
                match load_accounts(&*self.executor, &unknown, at).await {
                    Ok(loaded) => Loaded { unwound, ..loaded },
                    // Blocks went by or were taken back, and that state is not kept any more: ask for another one.
                    Err(ExecutorError::StatePruned { .. } | ExecutorError::UnknownBlock(_))
                        if self.ledger.pool.lock().head() != at =>
                    {
                        continue;
                    }
                    // Whatever is taken now, it is not this.
                    Err(_) if self.ledger.pool.lock().closed().is_some() => Loaded::default(),
                    Err(error) => return fail(all, error),
                }
            };
            if self.insert(all, source, &loaded) {
                return;
            }
        }
    }

    /// Puts what was checked into the pool, up to the first whose account must be read again. Returns whether all is done.
    fn insert(&self, all: &mut [Progress], source: Option<Source>, loaded: &Loaded) -> bool {
        let now = self.now();
        let mut pool = self.ledger.pool.lock();
        for progress in all {
            let Progress::Checked(tx) = progress else { continue };
            let hash = tx.hash();
            *progress = match pool.insert(tx.clone(), source, loaded, now) {
                Ok(acceptance) => Progress::Placed(hash, acceptance),
                Err(Refusal::AccountNeeded) => return false,
                Err(Refusal::Closed(closed)) => {
                    Progress::Refused(SequencerError::from(closed).into())
                }
                Err(Refusal::Rejected(reason @ RejectReason::NonceTooLow { .. })) => {
                    Progress::NonceUsed(hash, reason)
                }
                Err(Refusal::Rejected(reason)) => Progress::Refused(reason.into()),
            };
        }
        true
    }

    async fn outcome(&self, progress: Progress) -> Result<TxHash, SubmitError> {
        match progress {
            Progress::Placed(hash, acceptance) => match acceptance.await {
                Ok(result) => result.map(|()| hash),
                // The pool is gone with all that waited.
                Err(_) => Err(self.closed_error().into()),
            },
            Progress::NonceUsed(hash, reason) => {
                let included = match self.executor.locate(hash).await {
                    Ok(place) => place.is_some(),
                    Err(error) => return Err(SequencerError::from(error).into()),
                };
                Err(if included { RejectReason::AlreadyKnown { hash } } else { reason }.into())
            }
            Progress::Refused(error) => Err(error),
            Progress::Checked(_) => Err(self.closed_error().into()),
        }
    }
}

/// The executor did not answer: nothing that waits for an account can be taken.
fn fail(all: &mut [Progress], error: ExecutorError) {
    let others = format!("the executor does not answer: {error}");
    let mut error = Some(error);
    for progress in all {
        if matches!(progress, Progress::Checked(_)) {
            let error = error.take().map_or_else(
                || SequencerError::Unavailable(others.clone()),
                SequencerError::Executor,
            );
            *progress = Progress::Refused(error.into());
        }
    }
}

//! Putting a batch where it goes: through which backend, at what cost, and noting it before it is posted.

use std::sync::Arc;

use alloy::primitives::{B256, Bytes, U256};
use millrace_l1::Market;
use millrace_proto::DaKind;
use tokio::time::Instant;
use tracing::warn;

use super::{Poster, StepError, Submission, TARGET, reason, taken_back, today};
use crate::{
    backend::{Availability, BackendError, DaBackend, Prepared, SubmitRequest},
    error::DaAdapterRunError,
    outbox::Submitted,
    switch::Failure,
};

impl Poster {
    /// Whether the day's limit leaves room for a batch that goes through a backend.
    fn check_spend(
        &self,
        number: u64,
        size: usize,
        backend: &dyn DaBackend,
        market: Option<&Market>,
    ) -> Result<(), StepError> {
        let (Some(limit), Some(market)) = (self.max_spend, market) else { return Ok(()) };
        let spent = self.outbox.spent_on(today()).saturating_add(self.flying_cost);
        let cost = backend.l1_cost(size, market);
        if spent.saturating_add(cost) > limit {
            return Err(StepError::Halt(reason::spent_enough(number, spent, cost, limit)));
        }
        Ok(())
    }

    /// Counts what a batch that is on its way may cost.
    fn fly(&mut self, at: usize, size: usize, market: Option<&Market>) {
        let cost = market.map_or(U256::ZERO, |market| self.backends[at].l1_cost(size, market));
        self.flying_cost = self.flying_cost.saturating_add(cost);
    }

    /// Puts a batch where it goes, and notes where.
    pub(super) async fn submit(&mut self, request: SubmitRequest) -> Result<Submission, StepError> {
        let (number, digest) = (request.number, request.digest);
        let before = self.outbox.submitted(number)?;
        let before = before.and_then(|submitted| {
            let at = self.backends.iter().position(|backend| backend.kind() == submitted.kind)?;
            Some((at, submitted.da_pointer))
        });
        let size = request.data.len();
        let market = match self.max_spend.is_some() || self.switch.follows_prices() {
            true => Some(self.target.market().await?),
            false => None,
        };
        if let Some((at, da_pointer)) = &before
            && !da_pointer.is_empty()
        {
            self.check_spend(number, size, self.backends[*at].as_ref(), market.as_ref())?;
            self.check_availability(*at, request, da_pointer).await?;
            let prepared = Prepared { da_pointer: da_pointer.clone(), blobs: Vec::new() };
            self.fly(*at, size, market.as_ref());
            return Ok(Submission { at: *at, prepared, chosen: false });
        }
        let cost = |backend: &Arc<dyn DaBackend>| {
            let layer = backend.layer_cost(size);
            market.as_ref().map(|market| backend.l1_cost(size, market).saturating_add(layer))
        };
        let costs: Vec<Option<U256>> = self.backends.iter().map(cost).collect();
        let (mut tried, mut failed) = (Vec::new(), None);
        loop {
            let now = Instant::now();
            // It stays where it was put, whatever happens to the others; else it goes where an operator wants it, if it fits there.
            let fixed = before.as_ref().map(|(at, _)| *at).or_else(|| self.asked_for(size, now));
            let chosen = match fixed {
                Some(at) if tried.is_empty() => Some(at),
                Some(_) => None,
                None => self.switch.choose(size, &costs, &tried, now),
            };
            let Some(at) = chosen else {
                let none = || StepError::Halt(reason::no_backend_takes(number, size));
                return Err(failed.unwrap_or_else(none));
            };
            let backend = self.backends[at].clone();
            if let Err(error) = self.check_spend(number, size, backend.as_ref(), market.as_ref()) {
                tried.push(at);
                failed = Some(error);
                continue;
            }
            let kind = backend.kind();
            let error = match backend.submit(request.clone()).await {
                Ok(prepared) => {
                    self.switch.took(at);
                    self.fly(at, size, market.as_ref());
                    self.note(number, digest, kind, &prepared).await?;
                    self.report_backends();
                    return Ok(Submission { at, prepared, chosen: before.is_none() });
                }
                Err(error) => error,
            };
            let failure = match &error {
                BackendError::Retry(_) => Failure::Retry,
                BackendError::UseNext(_) => Failure::Refused,
                BackendError::Fatal(_) => Failure::Fatal,
                BackendError::TooLarge { max, .. } => Failure::TooLarge(*max),
            };
            warn!(target: TARGET, batch = number, backend = kind.as_str(), %error, "the backend did not take the batch");
            let goes_on = self.switch.failed(at, failure, now);
            self.report_backends();
            let error = not_taken(kind, number, error);
            if !goes_on {
                return Err(error);
            }
            tried.push(at);
            failed = Some(error);
        }
    }

    /// Makes sure that a batch that was put somewhere before is there still, and puts it there again where that can be done: nobody pays for a batch that
    /// is gone. A layer that does not answer has not lost it.
    async fn check_availability(
        &self,
        at: usize,
        request: SubmitRequest,
        da_pointer: &Bytes,
    ) -> Result<(), StepError> {
        let backend = &self.backends[at];
        let (number, digest) = (request.number, request.digest);
        let kind = backend.kind().as_str();
        match backend.status(digest, da_pointer).await {
            Ok(Availability::Available) => return Ok(()),
            Ok(Availability::Missing) => {}
            Err(error) => {
                warn!(target: TARGET, batch = number, backend = kind, %error, "cannot tell whether a batch still is where it was put; posting it");
                return Ok(());
            }
        }
        // Elsewhere it would be another transaction, beside the one that may be on its way.
        if backend.place_of(digest).as_ref() != Some(da_pointer) {
            return Err(StepError::Halt(reason::lost_by_backend(kind, number, da_pointer)));
        }
        warn!(target: TARGET, batch = number, backend = kind, "the DA layer has lost a batch that is not posted yet; putting it there again");
        let submitted = backend.submit(request).await;
        submitted.map(drop).map_err(|error| not_taken(backend.kind(), number, error))
    }

    /// The position of the backend that an operator has chosen, if one has and it takes as many bytes.
    fn asked_for(&mut self, size: usize, now: Instant) -> Option<usize> {
        let kind = self.outbox.chosen()?;
        let at = self.backends.iter().position(|backend| backend.kind() == kind)?;
        let takes = self.switch.use_asked(at, size, now);
        if !takes {
            let backend = kind.as_str();
            warn!(target: TARGET, backend, size, "a batch does not fit where an operator wants it, and goes elsewhere");
        }
        takes.then_some(at)
    }

    /// Notes where a batch was put, before that is posted.
    async fn note(
        &self,
        number: u64,
        digest: B256,
        kind: DaKind,
        prepared: &Prepared,
    ) -> Result<(), StepError> {
        // What is in the transaction itself can be made again.
        let carried = matches!(kind, DaKind::L1Blob | DaKind::L1Calldata);
        let da_pointer = if carried { Bytes::new() } else { prepared.da_pointer.clone() };
        let (outbox, submitted) = (self.outbox.clone(), Submitted { kind, da_pointer });
        let mark = move || outbox.mark_submitted(number, digest, &submitted);
        let noted =
            tokio::task::spawn_blocking(mark).await.map_err(DaAdapterRunError::Worker)??;
        if noted { Ok(()) } else { Err(taken_back(number)) }
    }

    /// Shows which backend is in use, and which are away.
    pub(super) fn report_backends(&self) {
        let kind = self.backends[self.switch.current()].kind();
        let before = self.in_use.send_replace(kind);
        if before != kind {
            let (from, to) = (before.as_str(), kind.as_str());
            warn!(target: TARGET, from, to, "batches go through another backend from now on");
            self.metrics.switched(before, kind);
        }
        for (at, (kind, away)) in self.switch.health(Instant::now()).enumerate() {
            self.metrics.backend(kind, at == self.switch.current(), away);
        }
    }
}

/// What it means that a backend did not take a batch, if no other one does.
fn not_taken(kind: DaKind, number: u64, error: BackendError) -> StepError {
    match error {
        BackendError::Retry(source) => StepError::Retry(source),
        error => StepError::Halt(reason::backend_refuses(kind.as_str(), number, &error)),
    }
}

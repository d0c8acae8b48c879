//! The callers that wait for transactions in flight. One of them at a time looks at L1, for all; when it has what it waited for, another does.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use millrace_proto::ErrorClass;
use parking_lot::Mutex;
use tokio::sync::{Mutex as AsyncMutex, Notify, oneshot};
use tracing::warn;

use super::{
    ConfirmedTx, TxManagerError,
    drive::{Around, Flight},
    journal::{Journal, Record},
    manager::Inner,
};

/// The longest pause between two looks while L1 does not answer.
const MAX_PAUSE: Duration = Duration::from_secs(30);

type Outcome = Result<ConfirmedTx, TxManagerError>;

/// Who waits for what.
#[derive(Debug, Default)]
pub(super) struct Crew {
    /// By the transaction's id.
    waiting: Mutex<HashMap<String, Vec<oneshot::Sender<Outcome>>>>,
    /// Held by the one who looks.
    lookout: AsyncMutex<Lookout>,
    /// There is something new to look at.
    news: Notify,
}

/// What is remembered from look to look.
#[derive(Debug, Default)]
struct Lookout {
    flights: HashMap<u64, Flight>,
    /// Looks in a row at which L1 did not answer.
    failures: u32,
}

impl Crew {
    /// What becomes of a transaction, once that is known. Closed if somebody else was told.
    pub(super) fn wait_for(&self, id: &str) -> oneshot::Receiver<Outcome> {
        let (sender, receiver) = oneshot::channel();
        let mut waiting = self.waiting.lock();
        waiting.retain(|_, senders| {
            senders.retain(|sender| !sender.is_closed());
            !senders.is_empty()
        });
        waiting.entry(id.to_owned()).or_default().push(sender);
        receiver
    }

    /// Ends the pause between two looks.
    pub(super) fn look_now(&self) {
        self.news.notify_one();
    }

    /// The ids that somebody waits for.
    fn awaited(&self) -> HashSet<String> {
        let waiting = self.waiting.lock();
        let is_awaited = |senders: &Vec<oneshot::Sender<Outcome>>| {
            senders.iter().any(|sender| !sender.is_closed())
        };
        waiting
            .iter()
            .filter(|(_, senders)| is_awaited(senders))
            .map(|(id, _)| id.clone())
            .collect()
    }

    /// Tells one of those who wait for a transaction; the others find out by themselves. `Some` if there is none.
    fn tell(&self, id: &str, mut outcome: Outcome) -> Option<Outcome> {
        for sender in self.waiting.lock().remove(id).unwrap_or_default() {
            match sender.send(outcome) {
                Ok(()) => return None,
                Err(back) => outcome = back,
            }
        }
        Some(outcome)
    }
}

impl Inner {
    /// Waits for what becomes of a transaction, and looks after all that are in flight when nobody else does. `None` if it is
    /// gone without a word.
    pub(super) async fn watch(
        &self,
        id: &str,
        mut outcome: oneshot::Receiver<Outcome>,
    ) -> Result<Option<Outcome>, TxManagerError> {
        let mut lookout = tokio::select! {
            biased;
            told = &mut outcome => return Ok(told.ok()),
            lookout = self.crew.lookout.lock() => lookout,
        };
        loop {
            let pause = self.round(&mut lookout).await?.1;
            match outcome.try_recv() {
                Ok(told) => return Ok(Some(told)),
                Err(oneshot::error::TryRecvError::Closed) => return Ok(None),
                Err(oneshot::error::TryRecvError::Empty) => {}
            }
            let known = id.to_owned();
            if self.journal(move |journal| journal.by_id(&known)).await?.is_none() {
                return Ok(None);
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.crew.news.notified() => {}
            }
        }
    }

    /// Looks after what is in flight until nothing is.
    ///
    /// # Errors
    /// Why one of them cannot go on, if nobody waits for it. One that failed for good is none: its own caller will learn of it, or has given
    /// it up.
    pub(super) async fn settle(&self) -> Result<(), TxManagerError> {
        loop {
            let next = self.client.nonce(self.signer.address()).await?;
            if self.open_records(next).await?.is_empty() {
                return Ok(());
            }
            let mut lookout = self.crew.lookout.lock().await;
            let (errors, pause) = self.round(&mut lookout).await?;
            let lasting = |error: &TxManagerError| {
                !matches!(
                    error,
                    TxManagerError::Reverted { .. } | TxManagerError::NonceTaken { .. }
                )
            };
            if let Some(error) = errors.into_iter().find(lasting) {
                return Err(error);
            }
            let next = self.client.nonce(self.signer.address()).await?;
            if self.open_records(next).await?.is_empty() {
                return Ok(());
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Records of transactions that are in no block (any more), by nonce. `next` is the account's next nonce in L1.
    pub(super) async fn open_records(&self, next: u64) -> Result<Vec<Record>, TxManagerError> {
        let records = self.journal(Journal::records).await?;
        Ok(records.into_iter().filter(|record| record.is_open(next)).collect())
    }

    /// Looks once at each transaction that is in flight or awaited, lowest nonce first. Returns the errors that nobody waited for, and how long
    /// to pause.
    async fn round(
        &self,
        lookout: &mut Lookout,
    ) -> Result<(Vec<TxManagerError>, Duration), TxManagerError> {
        let mut unheard = Vec::new();
        match self.look_at_all(lookout, &mut unheard).await {
            Ok(()) => lookout.failures = 0,
            Err(error) if error.class() == ErrorClass::Retryable => {
                lookout.failures = lookout.failures.saturating_add(1);
                let failures = lookout.failures;
                warn!(target: "millrace::l1", %error, failures, "L1 or the signing service does not answer; transactions wait");
            }
            Err(error) => return Err(error),
        }
        let pause = self.config.poll_interval.saturating_mul(1 + lookout.failures.min(8));
        Ok((unheard, pause.min(MAX_PAUSE)))
    }

    async fn look_at_all(
        &self,
        lookout: &mut Lookout,
        unheard: &mut Vec<TxManagerError>,
    ) -> Result<(), TxManagerError> {
        let next = self.client.nonce(self.signer.address()).await?;
        let records = self.journal(Journal::named_records).await?;
        let awaited = self.crew.awaited();
        lookout.flights.retain(|nonce, _| records.iter().any(|(record, _)| record.nonce == *nonce));
        // Whether there is one in flight with a lower nonce, and one of those that is not in the pool.
        let (mut is_behind, mut is_held) = (false, false);
        for (mut record, is_named) in records {
            let is_awaited = is_named && awaited.contains(&record.id);
            if !record.is_open(next) && !is_awaited {
                lookout.flights.remove(&record.nonce);
                continue;
            }
            let (nonce, id) = (record.nonce, record.id.clone());
            let around = Around { next, is_behind, is_held };
            let is_open = record.is_open(next);
            let flight = lookout.flights.entry(nonce).or_insert_with(Flight::new);
            let stepped = self.step(&mut record, flight, around).await;
            is_behind |= is_open;
            is_held |= record.inclusion.is_none() && !flight.in_pool;
            let outcome = match stepped {
                Ok(None) => continue,
                Ok(Some(confirmed)) => {
                    lookout.flights.remove(&nonce);
                    Ok(confirmed)
                }
                Err(error @ (TxManagerError::L1(_) | TxManagerError::Sign(_)))
                    if error.class() == ErrorClass::Retryable =>
                {
                    return Err(error);
                }
                Err(error) if error.class() == ErrorClass::Fatal => return Err(error),
                Err(error) => Err(error),
            };
            let unheard_of = if is_named { self.crew.tell(&id, outcome) } else { Some(outcome) };
            if let Some(Err(error)) = unheard_of {
                warn!(target: "millrace::l1", id, nonce, %error, "a transaction that nobody waits for failed");
                unheard.push(error);
            }
        }
        Ok(())
    }
}

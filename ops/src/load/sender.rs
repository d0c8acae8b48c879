//! Sends on one connection: in order, each transaction when it is due.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use eyre::{Result, WrapErr, eyre};
use millrace_proto::grpc::{
    Transport,
    pb::{
        self, sequencer_client::SequencerClient, submit_transactions_response::Result as Reply,
        transaction_result::Result as Answer,
    },
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until, timeout_at},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};

use super::{Rate, ledger::Ledger, plan::Plan, told};

/// Most transactions of a message.
const BATCH: usize = 512;
/// Most bytes of a message's transactions: a quarter of what a server reads.
const BATCH_BYTES: usize = 1 << 20;
/// Messages that wait for the connection.
const QUEUED: usize = 4;
/// Between two looks at what is still to come.
const TICK: Duration = Duration::from_millis(1);
/// How soon to come back where the server does not say.
const COME_BACK: Duration = Duration::from_millis(20);

/// One connection's share of the load.
pub(super) struct Lane {
    pub(super) plan: Arc<Plan>,
    pub(super) ledger: Arc<Ledger>,
    /// In the order in which they are sent.
    pub(super) indices: Vec<u32>,
    pub(super) rate: Rate,
    /// From the begin on: nothing new is sent after that, and nothing again after [`Self::patience`] more.
    pub(super) duration: Duration,
    pub(super) patience: Duration,
}

/// A lane whose stream is open.
pub(super) struct OpenLane {
    lane: Lane,
    requests: mpsc::Sender<pb::SubmitTransactionsRequest>,
    replies: Streaming<pb::SubmitTransactionsResponse>,
}

/// Refused for now.
struct Returned {
    indices: Vec<u32>,
    /// How long to stay away.
    wait: Duration,
}

/// What is under way.
struct Flight {
    /// The messages' transactions, in order.
    messages: mpsc::UnboundedReceiver<Vec<u32>>,
    /// To be sent again.
    again: mpsc::UnboundedSender<Returned>,
    open: Arc<AtomicUsize>,
    ledger: Arc<Ledger>,
}

impl Lane {
    /// Opens its stream.
    pub(super) async fn open(self, mut client: SequencerClient<Transport>) -> Result<OpenLane> {
        let (requests, outgoing) = mpsc::channel(QUEUED);
        let replies = client.submit_transactions(ReceiverStream::new(outgoing)).await;
        let replies = replies.wrap_err("the sequencer takes no stream")?.into_inner();
        Ok(OpenLane { lane: self, requests, replies })
    }

    /// Takes what is due, as far as it fits into a message.
    fn take(&self, waiting: &mut VecDeque<u32>, now: Duration) -> Vec<u32> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while batch.len() < BATCH
            && bytes < BATCH_BYTES
            && let Some(index) = waiting.pop_front_if(|index| self.due(*index, now) <= now)
        {
            bytes += self.plan.load[index as usize].raw.len();
            batch.push(index);
        }
        batch
    }

    /// When a transaction is due: that follows from its place alone, unless it is sent as soon as it is taken.
    fn due(&self, index: u32, now: Duration) -> Duration {
        match self.rate {
            Rate::Each(rate) => {
                Duration::try_from_secs_f64(f64::from(index) / rate).unwrap_or(Duration::MAX)
            }
            Rate::Max => now,
        }
    }

    fn request(&self, batch: &[u32]) -> pb::SubmitTransactionsRequest {
        let raw = batch.iter().map(|index| self.plan.load[*index as usize].raw.0.clone());
        pb::SubmitTransactionsRequest { batch: raw.collect(), ..Default::default() }
    }
}

impl OpenLane {
    /// Sends all, and returns once all is answered or it is time to give up.
    pub(super) async fn run(self) -> Result<()> {
        let Self { lane, requests, replies } = self;
        let begin = lane.ledger.begin();
        let end = begin + lane.duration;
        let give_up = end + lane.patience;
        let (note, messages) = mpsc::unbounded_channel();
        let (again, mut returned) = mpsc::unbounded_channel::<Returned>();
        let open = Arc::new(AtomicUsize::new(0));
        let flight = Flight { messages, again, open: open.clone(), ledger: lane.ledger.clone() };
        let reading = tokio::spawn(flight.read(replies));

        let mut waiting: VecDeque<u32> = lane.indices.iter().copied().collect();
        let mut back: VecDeque<u32> = VecDeque::new();
        while Instant::now() < give_up && !reading.is_finished() {
            if Instant::now() >= end {
                waiting.clear();
            }
            let mut wait = Duration::ZERO;
            while let Ok(more) = returned.try_recv() {
                wait = wait.max(more.wait);
                back.extend(more.indices);
            }
            sleep(wait).await;
            let now = begin.elapsed();
            // Before those that were not sent yet: a sender's transactions stay in order.
            let batch = match lane.take(&mut back, now) {
                batch if batch.is_empty() => lane.take(&mut waiting, now),
                batch => batch,
            };
            if batch.is_empty() {
                match waiting.front() {
                    Some(index) => {
                        let due = begin.checked_add(lane.due(*index, now)).unwrap_or(end);
                        sleep_until(due.min(end)).await;
                    }
                    None if open.load(Ordering::Acquire) == 0 && returned.is_empty() => break,
                    // What is answered may have to be sent again.
                    None => sleep(TICK).await,
                }
                continue;
            }
            lane.ledger.sent(batch.iter().map(|index| (*index, lane.due(*index, now))));
            let request = lane.request(&batch);
            open.fetch_add(1, Ordering::AcqRel);
            // The reader is gone only with the stream.
            let _ = note.send(batch);
            match timeout_at(give_up, requests.send(request)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => break,
            }
        }
        drop((requests, note));
        match timeout_at(give_up, reading).await {
            Ok(read) => read?,
            Err(_) => Err(eyre!("the sequencer did not answer everything in time")),
        }
    }
}

impl Flight {
    async fn read(mut self, mut replies: Streaming<pb::SubmitTransactionsResponse>) -> Result<()> {
        loop {
            let reply = match replies.message().await {
                Ok(Some(reply)) => reply,
                Ok(None) if self.open.load(Ordering::Acquire) == 0 => return Ok(()),
                Ok(None) => return Err(eyre!("the stream of submissions ended early")),
                Err(status) => {
                    return Err(told(status)).wrap_err("the stream of submissions broke");
                }
            };
            let indices = self.messages.recv().await;
            let indices = indices.ok_or_else(|| eyre!("a reply to nothing"))?;
            self.answered(indices, reply);
            self.open.fetch_sub(1, Ordering::AcqRel);
        }
    }

    fn answered(&self, indices: Vec<u32>, reply: pb::SubmitTransactionsResponse) {
        let results = match reply.result {
            Some(Reply::Batch(batch)) => batch.results,
            Some(Reply::Rejection(why)) => {
                let refused =
                    || pb::TransactionResult { result: Some(Answer::Rejection(why.clone())) };
                indices.iter().map(|_| refused()).collect()
            }
            // What has no result is without an answer.
            Some(Reply::Status(_)) | None => Vec::new(),
        };
        let mut again = Vec::new();
        let mut wait = COME_BACK;
        let answers: Vec<_> = indices
            .into_iter()
            .zip(results)
            .filter_map(|(index, result)| match result.result? {
                Answer::Status(_) => Some((index, Ok(()))),
                Answer::Rejection(why) if comes_back(&why) => {
                    again.push(index);
                    wait = wait.max(Duration::from_millis(why.retry_after_ms));
                    self.ledger.failed(why.reason);
                    None
                }
                Answer::Rejection(why) => Some((index, Err(why.reason))),
            })
            .collect();
        self.ledger.answered(answers);
        if !again.is_empty() {
            // The sender has given up.
            let _ = self.again.send(Returned { indices: again, wait });
        }
    }
}

/// Whether a refusal is one for now: the pool is full or takes nothing, or what came before had no room in it.
fn comes_back(why: &pb::Rejection) -> bool {
    let code = Code::from(why.code);
    matches!(code, Code::Unavailable | Code::ResourceExhausted) || why.reason == "NONCE_TOO_FAR"
}

//! The submission stream.
//!
//! ```text
//!  requests ─> room in the WINDOW ─> chunks of what is there ─> admit, one chunk at a time ─> each result and stage ─> replies in order
//!                                                               (keeps the client's order)    (all at once)
//! ```
//!
//! Everything happens while the client's reply stream is polled, so a client that stops reading replies stops the
//! reading of its requests, and one that goes away takes its waits with it.

use std::{net::IpAddr, sync::Arc};

use alloy::primitives::Bytes;
use futures::{FutureExt, StreamExt, future::ready, stream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Status, Streaming};

use crate::{
    grpc::{
        convert::{Parsed, Wait},
        error::{Fault, WireError, request_fault},
        pb::{
            self, submit_transactions_response::Result as Answer,
            transaction_result::Result as TxAnswer,
        },
        server::{Replies, sequencer::status_at},
    },
    service::{Admission, Sequencer, SequencerError, SubmitError, TransportError},
    types::Stage,
};

/// Most requests of one stream that are read at once, and most transactions that are handed to the sequencer at once.
const CHUNK: usize = 512;

/// Most transactions of one stream that wait for their reply; further requests are not read meanwhile.
const WINDOW: usize = 8192;

/// Most transactions of a batch.
const MAX_BATCH: usize = 4096;

/// Replies to a stream of submissions of a client at an address, in order.
pub(super) fn submit_transactions(
    sequencer: Arc<dyn Sequencer>,
    from: Option<IpAddr>,
    requests: Streaming<pb::SubmitTransactionsRequest>,
) -> Replies<pb::SubmitTransactionsResponse> {
    let submitter = sequencer.clone();
    let window = Arc::new(Semaphore::new(WINDOW));
    let replies = requests
        .then(move |request| with_room(request, window.clone()))
        .ready_chunks(CHUNK)
        .then(move |chunk| {
            // On a task of its own: what admission holds must not wait for a client to read its replies.
            let admission = tokio::spawn(admit(submitter.clone(), from, chunk));
            async move {
                admission.await.unwrap_or_else(|error| {
                    let status = Status::internal(format!("admission failed: {error}"));
                    vec![(Pending::Broken(status), None)]
                })
            }
        })
        .flat_map(stream::iter)
        .map(move |(pending, room)| {
            let reply = pending.resolve(sequencer.clone());
            async move { (reply.await, room) }
        })
        .buffered(WINDOW)
        // Replies that wait for others before them take room still.
        .map(|(reply, _room)| reply);
    Box::pin(replies)
}

/// A request's room in the window, until its reply goes out.
type Room = Option<OwnedSemaphorePermit>;

/// A request that is read.
enum Submission {
    Transactions {
        raw: Vec<Bytes>,
        reply: ReplyForm,
    },
    /// It makes no sense, but the stream goes on.
    Fault {
        tag: u64,
        error: TransportError,
    },
    /// The request stream broke.
    Broken(Status),
}

/// What the reply to some transactions looks like.
#[derive(Clone, Copy)]
struct ReplyForm {
    tag: u64,
    wait: Wait,
    is_batch: bool,
}

impl ReplyForm {
    /// Of a batch all results, else the only one.
    fn answer(self, mut results: Vec<TxAnswer>) -> Answer {
        if !self.is_batch
            && let Some(result) = results.pop()
        {
            return match result {
                TxAnswer::Status(status) => Answer::Status(status),
                TxAnswer::Rejection(why) => Answer::Rejection(why),
            };
        }
        let result = |result| pb::TransactionResult { result: Some(result) };
        Answer::Batch(pb::BatchResult { results: results.into_iter().map(result).collect() })
    }
}

/// Waits until there is room for a request's transactions.
async fn with_room(
    request: Result<pb::SubmitTransactionsRequest, Status>,
    window: Arc<Semaphore>,
) -> (Submission, Room) {
    let submission = match request {
        Ok(request) => {
            let (tag, is_batch) = (request.tag, !request.batch.is_empty());
            match parse(request) {
                Ok((raw, wait)) => {
                    Submission::Transactions { raw, reply: ReplyForm { tag, wait, is_batch } }
                }
                Err(error) => Submission::Fault { tag, error },
            }
        }
        Err(status) => Submission::Broken(status),
    };
    let transactions = match &submission {
        Submission::Transactions { raw, .. } => raw.len(),
        _ => 1,
    };
    // The window has room for the largest batch.
    let room = window.acquire_many_owned(transactions as u32).await.ok();
    (submission, room)
}

fn parse(request: pb::SubmitTransactionsRequest) -> Parsed<(Vec<Bytes>, Wait)> {
    let wait = Wait::parse(request.wait_for, Stage::Accepted)?;
    let field = "SubmitTransactionsRequest.batch";
    // Copied, since what is kept of a message keeps all of it.
    let copy = |raw: bytes::Bytes| Bytes::copy_from_slice(&raw);
    if request.batch.is_empty() {
        return Ok((vec![copy(request.raw)], wait));
    }
    if !request.raw.is_empty() {
        return Err(TransportError::malformed(field, "goes without `raw`"));
    }
    if request.batch.len() > MAX_BATCH {
        let problem = format!("{} transactions, at most {MAX_BATCH}", request.batch.len());
        return Err(TransportError::malformed(field, problem));
    }
    Ok((request.batch.into_iter().map(copy).collect(), wait))
}

/// A request after admission.
enum Pending {
    /// Reply when all have reached the stage, or are refused.
    Admitted { reply: ReplyForm, results: Vec<Admission> },
    /// Refused as a whole, but the stream goes on.
    Refused { tag: u64, error: TransportError },
    /// The request stream broke.
    Broken(Status),
}

/// Submits what the requests hold, and pairs the results with them.
async fn admit(
    sequencer: Arc<dyn Sequencer>,
    from: Option<IpAddr>,
    chunk: Vec<(Submission, Room)>,
) -> Vec<(Pending, Room)> {
    let raw = chunk.iter().filter_map(|(submission, _)| match submission {
        Submission::Transactions { raw, .. } => Some(raw),
        _ => None,
    });
    let raw: Vec<Bytes> = raw.flatten().cloned().collect();
    let mut results = Vec::with_capacity(raw.len());
    for raw in raw.chunks(CHUNK) {
        results.extend(sequencer.admit_from(raw.to_vec(), from).await);
    }
    // (A sequencer may give fewer results than it was given transactions.)
    let mut results = results.into_iter();
    let mut next = || results.next().unwrap_or_else(|| ready(Err(no_result())).boxed());
    chunk
        .into_iter()
        .map(|(submission, room)| {
            let pending = match submission {
                Submission::Transactions { raw, reply } => {
                    Pending::Admitted { reply, results: raw.iter().map(|_| next()).collect() }
                }
                Submission::Fault { tag, error } => Pending::Refused { tag, error },
                Submission::Broken(status) => Pending::Broken(status),
            };
            (pending, room)
        })
        .collect()
}

impl Pending {
    async fn resolve(
        self,
        sequencer: Arc<dyn Sequencer>,
    ) -> Result<pb::SubmitTransactionsResponse, Status> {
        let (tag, answer) = match self {
            Self::Admitted { reply, results } => {
                // One after the other: the reply waits for the last anyway.
                let mut answers = Vec::with_capacity(results.len());
                for result in results {
                    answers.push(answer(result, reply.wait, &*sequencer).await);
                }
                (reply.tag, reply.answer(answers))
            }
            Self::Refused { tag, error } => {
                (tag, Answer::Rejection(request_fault(&error).into_rejection()))
            }
            Self::Broken(status) => return Err(status),
        };
        Ok(pb::SubmitTransactionsResponse { tag, result: Some(answer) })
    }
}

/// What became of a transaction.
async fn answer(result: Admission, wait: Wait, sequencer: &dyn Sequencer) -> TxAnswer {
    let rejected = |fault: Fault| TxAnswer::Rejection(fault.into_rejection());
    match result.await {
        Err(error) => rejected(error.fault()),
        Ok(hash) => match status_at(sequencer, hash, wait).await {
            Ok(status) => TxAnswer::Status(status.into()),
            Err(error) => rejected(error.fault()),
        },
    }
}

fn no_result() -> SubmitError {
    SequencerError::Unavailable("no result for this transaction".to_owned()).into()
}

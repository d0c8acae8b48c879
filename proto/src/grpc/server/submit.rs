//! The submission stream.
//!
//! ```text
//!  requests ─> chunks of what is there ─> submit_many, one chunk at a time ─> wait for each stage ─> replies in order
//!                                         (keeps the client's order)          (all at once, up to WINDOW)
//! ```
//!
//! Everything happens while the client's reply stream is polled, so a client that stops reading replies stops the
//! reading of its requests, and one that goes away takes its waits with it.

use std::{collections::VecDeque, sync::Arc};

use alloy::primitives::{Bytes, TxHash};
use futures::{StreamExt, stream};
use tonic::{Status, Streaming};

use crate::{
    grpc::{
        convert::Wait,
        error::{WireError, request_fault},
        pb::{self, submit_transactions_response::Result as Answer},
        server::{Replies, sequencer::status_at},
    },
    service::{Sequencer, SequencerError, SubmitError},
    types::Stage,
};

/// Most transactions of one stream that are handed to the sequencer at once.
const CHUNK: usize = 512;

/// Most transactions of one stream that wait for their reply; further requests are not read meanwhile.
const WINDOW: usize = 8192;

/// Replies to a stream of submissions, in order.
pub(super) fn submit_transactions(
    sequencer: Arc<dyn Sequencer>,
    requests: Streaming<pb::SubmitTransactionsRequest>,
) -> Replies<pb::SubmitTransactionsResponse> {
    let submitter = sequencer.clone();
    let replies = requests
        .ready_chunks(CHUNK)
        .then(move |chunk| {
            // On a task of its own: what admission holds must not wait for a client to read its replies.
            let admission = tokio::spawn(admit(submitter.clone(), chunk));
            async move {
                admission.await.unwrap_or_else(|error| {
                    vec![Pending::Broken(Status::internal(format!("admission failed: {error}")))]
                })
            }
        })
        .flat_map(stream::iter)
        .map(move |pending| pending.resolve(sequencer.clone()))
        .buffered(WINDOW);
    Box::pin(replies)
}

/// A request after admission.
enum Pending {
    /// Taken: reply when it has reached the stage.
    Taken { tag: u64, hash: TxHash, wait: Wait },
    /// Not taken, but the stream goes on.
    Refused { tag: u64, rejection: pb::Rejection },
    /// The request stream broke.
    Broken(Status),
}

type RequestResult = Result<pb::SubmitTransactionsRequest, Status>;

/// Submits what the requests hold, and pairs the results with them.
async fn admit(sequencer: Arc<dyn Sequencer>, chunk: Vec<RequestResult>) -> Vec<Pending> {
    let mut raw: Vec<Bytes> = Vec::with_capacity(chunk.len());
    let mut parsed = Vec::with_capacity(chunk.len());
    for request in chunk {
        parsed.push(request.map(|request| {
            let wait = Wait::parse(request.wait_for, Stage::Accepted);
            if wait.is_ok() {
                raw.push(request.raw.into());
            }
            (request.tag, wait)
        }));
    }
    let mut results = match raw.is_empty() {
        true => VecDeque::new(),
        false => VecDeque::from(sequencer.submit_many(raw).await),
    };
    parsed
        .into_iter()
        .map(|request| match request {
            Err(status) => Pending::Broken(status),
            Ok((tag, Err(error))) => {
                Pending::Refused { tag, rejection: request_fault(&error).into_rejection() }
            }
            Ok((tag, Ok(wait))) => match results.pop_front().unwrap_or_else(|| Err(no_result())) {
                Ok(hash) => Pending::Taken { tag, hash, wait },
                Err(error) => Pending::Refused { tag, rejection: error.fault().into_rejection() },
            },
        })
        .collect()
}

impl Pending {
    async fn resolve(
        self,
        sequencer: Arc<dyn Sequencer>,
    ) -> Result<pb::SubmitTransactionsResponse, Status> {
        let (tag, answer) = match self {
            Self::Taken { tag, hash, wait } => {
                let answer = match status_at(&*sequencer, hash, wait).await {
                    Ok(status) => Answer::Status(status.into()),
                    Err(error) => Answer::Rejection(error.fault().into_rejection()),
                };
                (tag, answer)
            }
            Self::Refused { tag, rejection } => (tag, Answer::Rejection(rejection)),
            Self::Broken(status) => return Err(status),
        };
        Ok(pb::SubmitTransactionsResponse { tag, result: Some(answer) })
    }
}

/// A sequencer that gives fewer results than it was given transactions.
fn no_result() -> SubmitError {
    SequencerError::Unavailable("no result for this transaction".to_owned()).into()
}

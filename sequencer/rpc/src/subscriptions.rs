//! `eth_subscribe`: new heads, logs, and frames of the open block, over WebSocket.

use std::{sync::Arc, time::Duration};

use alloy::rpc::types::{Filter, Log};
use futures::StreamExt;
use jsonrpsee::{
    Extensions, PendingSubscriptionSink, RpcModule, SubscriptionCloseResponse, SubscriptionSink,
    core::RegisterMethodError,
    types::{ErrorObjectOwned, Params, SubscriptionId},
};
use millrace_proto::{FrameDetail, Preconfirmation, Preconfirmations, RecoveredTx, SequencerError};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::{
    sync::broadcast::{Receiver, error::RecvError},
    time::sleep,
};
use tracing::{debug, error};

use crate::{
    context::Context,
    error::CallError,
    feed::Change,
    guard::Session,
    json::{self, RpcTransaction},
};

/// Messages that may wait in a connection's queue before another frame is added to it.
const QUEUED_FRAMES: usize = 8;
/// Between two looks at a queue that is longer.
const DRAIN: Duration = Duration::from_millis(5);

/// A notification without its subscription's id and what it reports.
const ENVELOPE: &str =
    r#"{"jsonrpc":"2.0","method":"eth_subscription","params":{"subscription":"","result":}}"#;

/// A subscription's way to its client.
struct Out {
    sink: SubscriptionSink,
    session: Option<Session>,
}

impl Out {
    /// Sends a report. `false`: the client has left, or leaves too much lying, and is closed for it.
    async fn send(&self, report: Box<RawValue>) -> bool {
        if let Some(session) = &self.session {
            let id = match self.sink.subscription_id() {
                SubscriptionId::Str(id) => id.len(),
                SubscriptionId::Num(_) => 0,
            };
            if let Err(why) = session.hold_reply(ENVELOPE.len() + id + report.get().len()) {
                debug!(target: "millrace::rpc", too_many = why.what(), "closing a connection");
                session.close();
                return false;
            }
        }
        self.sink.send(report).await.is_ok()
    }
}

/// What a subscription is to.
#[derive(Debug)]
enum Topic {
    Blocks(Report),
    NewPreconfirmations(FrameDetail),
    /// Whole ones, or their hashes.
    NewPendingTransactions(bool),
}

/// What frames are reported with.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FrameOptions {
    #[serde(default)]
    state_diff: bool,
}

impl FrameOptions {
    const fn detail(&self) -> FrameDetail {
        if self.state_diff { FrameDetail::StateDiffs } else { FrameDetail::Receipts }
    }
}

/// What is reported of blocks.
#[derive(Debug)]
enum Report {
    NewHeads,
    Logs(Box<Filter>),
}

/// What is reported, and where it comes from.
enum Source {
    Blocks(Report, Receiver<Change>),
    Frames(FrameDetail, Preconfirmations),
    Transactions(bool, Preconfirmations),
}

/// Why a subscription ended that the client has not ended.
#[derive(Debug, thiserror::Error)]
enum Cut {
    #[error("{0} blocks behind")]
    Blocks(u64),
    #[error(transparent)]
    Frames(#[from] SequencerError),
    #[error("the sequencer tells no more")]
    NoMoreFrames,
}

/// Adds `eth_subscribe` and `eth_unsubscribe`.
pub(crate) fn register(module: &mut RpcModule<Arc<Context>>) -> Result<(), RegisterMethodError> {
    module.register_subscription(
        "eth_subscribe",
        "eth_subscription",
        "eth_unsubscribe",
        |params, pending, context, extensions| async move {
            serve(params, pending, &context, &extensions).await;
            SubscriptionCloseResponse::None
        },
    )?;
    Ok(())
}

async fn serve(
    params: Params<'static>,
    pending: PendingSubscriptionSink,
    context: &Context,
    extensions: &Extensions,
) {
    let topic = match parse(&params, context) {
        Ok(topic) => topic,
        Err(error) => return pending.reject(error).await,
    };
    // Before the reply, so that nothing is missed between the two.
    let source = match topic.source(context).await {
        Ok(source) => source,
        Err(error) => return pending.reject(ErrorObjectOwned::from(error)).await,
    };
    let _open = context.metrics.subscription_opened();
    let Ok(sink) = pending.accept().await else { return };
    let out = Out { sink, session: extensions.get::<Session>().cloned() };
    if let Err(cut) = run(source, &out).await {
        debug!(target: "millrace::rpc", %cut, "closing a connection whose subscription cannot go on");
        context.metrics.subscription_dropped();
        // Something is missing from here on. Closing tells the client so; going on would hide it.
        if let Some(session) = &out.session {
            session.close();
        }
    }
}

fn parse(params: &Params<'_>, context: &Context) -> Result<Topic, ErrorObjectOwned> {
    let mut params = params.sequence();
    let kind: String = params.next()?;
    match kind.as_str() {
        "newHeads" => Ok(Topic::Blocks(Report::NewHeads)),
        "newPreconfirmations" => {
            let options: Option<FrameOptions> = params.optional_next()?;
            Ok(Topic::NewPreconfirmations(options.unwrap_or_default().detail()))
        }
        "newPendingTransactions" => {
            let whole: Option<bool> = params.optional_next()?;
            Ok(Topic::NewPendingTransactions(whole.unwrap_or_default()))
        }
        "logs" => {
            let filter: Filter = params.optional_next()?.unwrap_or_default();
            context.check_criteria(&filter)?;
            Ok(Topic::Blocks(Report::Logs(Box::new(filter))))
        }
        other => Err(CallError::InvalidParams(format!(
            "unknown subscription {other:?}; there are newHeads, logs, newPendingTransactions and newPreconfirmations"
        ))
        .into()),
    }
}

/// Reports until the client leaves; an error says why it cannot go on.
async fn run(source: Source, out: &Out) -> Result<(), Cut> {
    match source {
        Source::Blocks(report, changes) => report_changes(&report, out, changes).await,
        Source::Frames(detail, frames) => {
            let whole = |frame: &Preconfirmation| {
                message(&json::RpcPreconfirmation::new(frame, detail)).into_iter().collect()
            };
            report_frames(out, frames, whole).await
        }
        Source::Transactions(whole, frames) => {
            report_frames(out, frames, |frame| transactions(frame, whole)).await
        }
    }
}

async fn report_changes(
    report: &Report,
    out: &Out,
    mut changes: Receiver<Change>,
) -> Result<(), Cut> {
    loop {
        let change = tokio::select! {
            () = out.sink.closed() => return Ok(()),
            change = changes.recv() => change,
        };
        let change = match change {
            Ok(change) => change,
            Err(RecvError::Closed) => return Ok(()),
            Err(RecvError::Lagged(missed)) => return Err(Cut::Blocks(missed)),
        };
        for message in report.messages(&change) {
            if !out.send(message).await {
                return Ok(());
            }
        }
    }
}

async fn report_frames(
    out: &Out,
    mut frames: Preconfirmations,
    messages: impl Fn(&Preconfirmation) -> Vec<Box<RawValue>>,
) -> Result<(), Cut> {
    loop {
        let frame = tokio::select! {
            () = out.sink.closed() => return Ok(()),
            frame = frames.next() => frame,
        };
        let frame = frame.ok_or(Cut::NoMoreFrames)??;
        for message in messages(&frame) {
            if !out.send(message).await {
                return Ok(());
            }
        }
        // Frames may be large: few of them wait in the connection's queue, and the others where they are shared.
        let sink = &out.sink;
        while sink.capacity() + QUEUED_FRAMES < sink.max_capacity() && !sink.is_closed() {
            sleep(DRAIN).await;
        }
    }
}

impl Topic {
    async fn source(self, context: &Context) -> Result<Source, CallError> {
        match self {
            Self::Blocks(report) => Ok(Source::Blocks(report, context.feed.subscribe())),
            Self::NewPreconfirmations(detail) => {
                Ok(Source::Frames(detail, context.pending_frames(detail).await?))
            }
            Self::NewPendingTransactions(whole) => {
                let frames = context.pending_frames(FrameDetail::Receipts).await?;
                Ok(Source::Transactions(whole, frames))
            }
        }
    }
}

impl Report {
    /// What a change means: a head for a sealed block; the logs of either, those of a block that was taken back marked as removed.
    fn messages(&self, change: &Change) -> Vec<Box<RawValue>> {
        match (self, change) {
            (Self::NewHeads, Change::Sealed(block)) => {
                message(&json::header(&block.header)).into_iter().collect()
            }
            (Self::NewHeads, Change::Removed(_)) => Vec::new(),
            (Self::Logs(filter), Change::Sealed(block)) => json::logs(block)
                .filter(|log| filter.matches(&log.inner))
                .filter_map(|log| message(&log))
                .collect(),
            (Self::Logs(filter), Change::Removed(blocks)) => blocks
                .iter()
                .flat_map(|block| json::logs(block))
                .filter(|log| filter.matches(&log.inner))
                .filter_map(|log| message(&Log { removed: true, ..log }))
                .collect(),
        }
    }
}

/// The transactions of a frame, or their hashes.
fn transactions(frame: &Preconfirmation, whole: bool) -> Vec<Box<RawValue>> {
    let shown = |tx: &Arc<RecoveredTx>| match whole {
        true => message(&RpcTransaction::pending(tx)),
        false => message(&tx.hash()),
    };
    frame.transactions.iter().filter_map(shown).collect()
}

fn message(result: &impl Serialize) -> Option<Box<RawValue>> {
    match serde_json::value::to_raw_value(result) {
        Ok(json) => Some(json),
        Err(error) => {
            error!(target: "millrace::rpc", %error, "notification does not serialize");
            None
        }
    }
}

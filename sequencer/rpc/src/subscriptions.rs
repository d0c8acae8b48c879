//! `eth_subscribe`: new heads and logs, over WebSocket.

use std::sync::Arc;

use alloy::rpc::types::{Filter, Log};
use jsonrpsee::{
    Extensions, PendingSubscriptionSink, RpcModule, SubscriptionCloseResponse, SubscriptionSink,
    core::RegisterMethodError,
    server::SubscriptionMessage,
    types::{ErrorObjectOwned, Params},
};
use serde::Serialize;
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tracing::{debug, error};

use crate::{connection::Session, context::Context, error::CallError, feed::Change, json};

/// What a subscription reports.
#[derive(Debug)]
enum Kind {
    NewHeads,
    Logs(Box<Filter>),
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
    let kind = match parse(&params, context) {
        Ok(kind) => kind,
        Err(error) => return pending.reject(error).await,
    };
    // Before the reply, so that no block is missed between the two.
    let blocks = context.feed.subscribe();
    let Ok(sink) = pending.accept().await else { return };
    let _open = context.metrics.subscription_opened();
    if let Err(lagged) = run(&kind, &sink, blocks).await {
        debug!(target: "millrace::rpc", lagged, "closing a connection whose subscription lags");
        context.metrics.subscription_dropped();
        // Blocks are missing from here on. Closing tells the client so; going on would hide it.
        if let Some(session) = extensions.get::<Session>() {
            session.close();
        }
    }
}

fn parse(params: &Params<'_>, context: &Context) -> Result<Kind, ErrorObjectOwned> {
    let mut params = params.sequence();
    let kind: String = params.next()?;
    match kind.as_str() {
        "newHeads" => Ok(Kind::NewHeads),
        "logs" => {
            let filter: Filter = params.optional_next()?.unwrap_or_default();
            context.check_criteria(&filter)?;
            Ok(Kind::Logs(Box::new(filter)))
        }
        other => Err(CallError::InvalidParams(format!(
            "unknown subscription {other:?}; there are newHeads and logs"
        ))
        .into()),
    }
}

/// Reports block after block until the client leaves; an error says how many blocks it is behind too many.
async fn run(
    kind: &Kind,
    sink: &SubscriptionSink,
    mut changes: Receiver<Change>,
) -> Result<(), u64> {
    loop {
        let change = tokio::select! {
            () = sink.closed() => return Ok(()),
            change = changes.recv() => change,
        };
        let change = match change {
            Ok(change) => change,
            Err(RecvError::Closed) => return Ok(()),
            Err(RecvError::Lagged(missed)) => return Err(missed),
        };
        for message in kind.messages(&change) {
            if sink.send(message).await.is_err() {
                return Ok(());
            }
        }
    }
}

impl Kind {
    /// What a change means: a head for a sealed block; the logs of either, those of a block that was taken back marked as removed.
    fn messages(&self, change: &Change) -> Vec<SubscriptionMessage> {
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

fn message(result: &impl Serialize) -> Option<SubscriptionMessage> {
    match serde_json::value::to_raw_value(result) {
        Ok(json) => Some(json.into()),
        Err(error) => {
            error!(target: "millrace::rpc", %error, "notification does not serialize");
            None
        }
    }
}

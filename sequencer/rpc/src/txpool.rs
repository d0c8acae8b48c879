//! What is in the pool: `txpool_…`, in geth's form.

use std::{collections::BTreeMap, sync::Arc};

use alloy::{
    consensus::Transaction,
    primitives::{Address, TxKind},
};
use jsonrpsee::{core::async_trait, proc_macros::rpc};
use millrace_proto::{PoolContent, RecoveredTx};
use serde::Serialize;

use crate::{
    api::Api,
    context::Context,
    error::CallError,
    json::{PoolCounts, RpcTransaction},
};

/// Something by nonce, in decimal.
type ByNonce<T> = BTreeMap<String, T>;

/// Pending and queued transactions, or what is said of them, in some arrangement.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Both<T> {
    pending: T,
    queued: T,
}

#[rpc(server, namespace = "txpool")]
pub(crate) trait TxPoolApi {
    #[method(name = "status")]
    async fn pool_status(&self) -> Result<PoolCounts, CallError>;

    #[method(name = "content")]
    async fn content(&self) -> Result<Both<BTreeMap<String, ByNonce<RpcTransaction>>>, CallError>;

    #[method(name = "contentFrom")]
    async fn content_from(
        &self,
        sender: Address,
    ) -> Result<Both<ByNonce<RpcTransaction>>, CallError>;

    #[method(name = "inspect")]
    async fn inspect(&self) -> Result<Both<BTreeMap<String, ByNonce<String>>>, CallError>;
}

#[async_trait]
impl TxPoolApiServer for Api {
    async fn pool_status(&self) -> Result<PoolCounts, CallError> {
        Ok(self.0.pool.pool_status().await?.into())
    }

    async fn content(&self) -> Result<Both<BTreeMap<String, ByNonce<RpcTransaction>>>, CallError> {
        let content = self.0.pool_content(None).await?;
        Ok(content.map(|txs| by_sender(txs, RpcTransaction::pending)))
    }

    async fn content_from(
        &self,
        sender: Address,
    ) -> Result<Both<ByNonce<RpcTransaction>>, CallError> {
        let content = self.0.pool_content(Some(sender)).await?;
        Ok(content
            .map(|txs| txs.iter().map(|tx| (nonce(tx), RpcTransaction::pending(tx))).collect()))
    }

    async fn inspect(&self) -> Result<Both<BTreeMap<String, ByNonce<String>>>, CallError> {
        let content = self.0.pool_content(None).await?;
        Ok(content.map(|txs| by_sender(txs, summary)))
    }
}

impl Context {
    async fn pool_content(
        &self,
        sender: Option<Address>,
    ) -> Result<Both<Vec<Arc<RecoveredTx>>>, CallError> {
        /// Bytes of JSON that a byte of a transaction becomes, about.
        const JSON: usize = 4;
        let too_many = |what: &str| {
            CallError::Limit(format!(
                "{what}: ask for one sender's with txpool_contentFrom, or only how many there are with txpool_status"
            ))
        };
        let listing = self.pool_listings.try_acquire();
        let _listing = listing.map_err(|_| too_many("others list the pool just now"))?;
        let limits = &self.config.limits;
        let content = self.pool.pool_content(sender, limits.max_pool_content as usize).await?;
        let PoolContent { pending, queued } = content.ok_or_else(|| {
            too_many(&format!("more than {} transactions wait", limits.max_pool_content))
        })?;
        let bytes: usize = pending.iter().chain(&queued).map(|tx| tx.encoded().len()).sum();
        if bytes.saturating_mul(JSON) > limits.max_response_bytes as usize {
            return Err(too_many("what waits is too large for a reply"));
        }
        Ok(Both { pending, queued })
    }
}

impl<T> Both<T> {
    fn map<U>(self, arrange: impl Fn(T) -> U) -> Both<U> {
        Both { pending: arrange(self.pending), queued: arrange(self.queued) }
    }
}

fn by_sender<T>(
    txs: Vec<Arc<RecoveredTx>>,
    show: impl Fn(&Arc<RecoveredTx>) -> T,
) -> BTreeMap<String, ByNonce<T>> {
    let mut senders: BTreeMap<Address, ByNonce<T>> = BTreeMap::new();
    for tx in txs {
        senders.entry(tx.sender()).or_default().insert(nonce(&tx), show(&tx));
    }
    senders.into_iter().map(|(sender, txs)| (sender.to_checksum(None), txs)).collect()
}

fn nonce(tx: &RecoveredTx) -> String {
    tx.tx().nonce().to_string()
}

/// In one line, in geth's words.
fn summary(tx: &Arc<RecoveredTx>) -> String {
    let tx = tx.tx();
    let to = match tx.kind() {
        TxKind::Call(to) => to.to_checksum(None),
        TxKind::Create => "contract creation".to_owned(),
    };
    format!("{to}: {} wei + {} gas × {} wei", tx.value(), tx.gas_limit(), tx.max_fee_per_gas())
}

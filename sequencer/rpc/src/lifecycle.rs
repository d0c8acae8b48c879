//! A transaction's life: waiting for its receipt (EIP-7966), and the stages that it has reached.

use std::time::Duration;

use alloy::primitives::{Bytes, TxHash, U64};
use jsonrpsee::{core::async_trait, proc_macros::rpc};
use tokio::{
    sync::broadcast::error::RecvError,
    time::{Instant, timeout_at},
};

use crate::{
    api::Api,
    context::Context,
    error::CallError,
    json::{RpcReceipt, RpcStages},
};

#[rpc(server)]
pub(crate) trait LifecycleApi {
    #[method(name = "eth_sendRawTransactionSync")]
    async fn send_and_wait(
        &self,
        raw: Bytes,
        timeout: Option<U64>,
    ) -> Result<RpcReceipt, CallError>;

    #[method(name = "millrace_getTransactionStatus")]
    async fn transaction_status(&self, hash: TxHash) -> Result<Option<RpcStages>, CallError>;
}

#[async_trait]
impl LifecycleApiServer for Api {
    async fn send_and_wait(
        &self,
        raw: Bytes,
        timeout: Option<U64>,
    ) -> Result<RpcReceipt, CallError> {
        self.0.send_and_wait(raw, timeout.map(|millis| Duration::from_millis(millis.to()))).await
    }

    async fn transaction_status(&self, hash: TxHash) -> Result<Option<RpcStages>, CallError> {
        Ok(RpcStages::new(hash, &self.0.pool.stages(hash).await?))
    }
}

impl Context {
    /// Submits a transaction, and waits for the block that holds it. A time that is none, or longer than the limit, is the default one, as EIP-7966 has it.
    async fn send_and_wait(
        &self,
        raw: Bytes,
        timeout: Option<Duration>,
    ) -> Result<RpcReceipt, CallError> {
        let limits = &self.config.limits;
        let is_valid =
            |timeout: &Duration| !timeout.is_zero() && *timeout <= limits.max_sync_timeout;
        let timeout = timeout.filter(is_valid).unwrap_or(limits.sync_timeout);
        let until = Instant::now() + timeout;
        // Before it is submitted, so that its block is not missed.
        let mut changes = self.feed.subscribe();
        let hash = self.pool.submit(raw).await?;
        if self.waits_for_another(hash).await? {
            return Err(CallError::NotReady(hash));
        }
        loop {
            if let Some(receipt) = self.receipt(hash).await? {
                return Ok(receipt);
            }
            match timeout_at(until, changes.recv()).await {
                // Blocks that were missed are looked into all the same.
                Ok(Ok(_) | Err(RecvError::Lagged(_))) => {}
                Ok(Err(RecvError::Closed)) | Err(_) => {
                    return Err(CallError::NotInTime { hash, timeout });
                }
            }
        }
    }

    /// Whether an earlier nonce of the transaction's sender is missing.
    async fn waits_for_another(&self, hash: TxHash) -> Result<bool, CallError> {
        use alloy::consensus::Transaction;
        let Some(tx) = self.pool.pooled(hash).await? else { return Ok(false) };
        Ok(self.pool.pending_nonce(tx.sender()).await? < tx.tx().nonce())
    }
}

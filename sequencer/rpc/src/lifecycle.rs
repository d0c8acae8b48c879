//! A transaction's life: waiting for its receipt (EIP-7966), and the stages that it has reached.

use std::{net::IpAddr, time::Duration};

use alloy::primitives::{Bytes, TxHash, U64};
use jsonrpsee::{Extensions, core::async_trait, proc_macros::rpc};
use millrace_proto::SubmitError;
use tokio::{
    sync::broadcast::{Receiver, error::RecvError},
    time::{Instant, timeout_at},
};

use crate::{
    api::Api,
    context::Context,
    error::CallError,
    feed::Change,
    guard::caller,
    json::{self, RpcReceipt, RpcStages},
};

#[rpc(server)]
pub(crate) trait LifecycleApi {
    #[method(name = "eth_sendRawTransactionSync", with_extensions)]
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
        extensions: &Extensions,
        raw: Bytes,
        timeout: Option<U64>,
    ) -> Result<RpcReceipt, CallError> {
        let timeout = timeout.map(|millis| Duration::from_millis(millis.to()));
        self.0.send_and_wait(raw, caller(extensions), timeout).await
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
        from: Option<IpAddr>,
        timeout: Option<Duration>,
    ) -> Result<RpcReceipt, CallError> {
        let limits = &self.config.limits;
        let is_valid =
            |timeout: &Duration| !timeout.is_zero() && *timeout <= limits.max_sync_timeout;
        let timeout = timeout.filter(is_valid).unwrap_or(limits.sync_timeout);
        let _waiting = self.sync_waits.try_acquire().map_err(|_| {
            let limit = limits.max_sync_waits;
            CallError::Limit(format!("{limit} calls wait for their transactions' blocks already: use eth_sendRawTransaction, and look for the receipt"))
        })?;
        // Before it is submitted, so that its block is not missed.
        let changes = self.feed.subscribe();
        let hash = self.pool.submit_from(raw, from).await?;
        // It is accepted: whatever cannot be answered from here on is looked at again, and the hash is told in the end.
        if self.waits_for_another(hash).await.unwrap_or(false) {
            return Err(CallError::NotReady(hash));
        }
        let in_time = timeout_at(Instant::now() + timeout, self.receipt_when_sealed(hash, changes));
        let receipt = tokio::select! {
            receipt = in_time => receipt.ok(),
            () = self.stop.cancelled() => None,
        };
        match receipt {
            Some(receipt) => Ok(receipt),
            None => self.fate(hash, timeout).await,
        }
    }

    /// The receipt, once there is one.
    async fn receipt_when_sealed(&self, hash: TxHash, mut changes: Receiver<Change>) -> RpcReceipt {
        let mut look = true;
        loop {
            if look && let Ok(Some(receipt)) = self.receipt(hash).await {
                return receipt;
            }
            look = match changes.recv().await {
                Ok(Change::Sealed(block)) => {
                    let index = block.transactions.iter().position(|tx| tx.hash() == hash);
                    let receipt =
                        index.and_then(|index| json::receipt_at(&block, &self.spec, index));
                    if let Some(receipt) = receipt {
                        return receipt;
                    }
                    false
                }
                Ok(Change::Removed(_)) => false,
                // Blocks were missed.
                Err(RecvError::Lagged(_)) => true,
                Err(RecvError::Closed) => std::future::pending().await,
            };
        }
    }

    /// What is to be said of a transaction whose block was not seen in time.
    async fn fate(&self, hash: TxHash, timeout: Duration) -> Result<RpcReceipt, CallError> {
        if let Ok(Some(receipt)) = self.receipt(hash).await {
            return Ok(receipt);
        }
        let stages = self.pool.stages(hash).await.unwrap_or_default();
        match stages.into_iter().next_back().and_then(|last| last.reason) {
            Some(reason) => Err(SubmitError::Rejected(reason).into()),
            None => Err(CallError::NotInTime { hash, timeout }),
        }
    }

    /// Whether an earlier nonce of the transaction's sender is missing.
    async fn waits_for_another(&self, hash: TxHash) -> Result<bool, CallError> {
        use alloy::consensus::Transaction;
        let Some(tx) = self.pool.pooled(hash).await? else { return Ok(false) };
        Ok(self.pool.pending_nonce(tx.sender()).await? < tx.tx().nonce())
    }
}

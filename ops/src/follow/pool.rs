//! What JSON-RPC needs of a sequencer, of a node that is none: transactions go on to the sequencer, heads are this node's own.

use std::sync::Arc;

use alloy::primitives::{Address, Bytes, TxHash};
use async_trait::async_trait;
use millrace_proto::{
    BlockSelector, ChainHeads, Executor, ExecutorError, PoolStatus, RecoveredTx, SequencerError,
    SubmitError, TxPool, grpc::SequencerClient, num_hash,
};
use millrace_settlement::SettlementHandle;

/// The sequencer's pool, if there is one, and this node's heads.
#[derive(Debug)]
pub(super) struct FollowPool {
    sequencer: Option<SequencerClient>,
    executor: Arc<dyn Executor>,
    settlement: SettlementHandle,
}

impl FollowPool {
    pub(super) const fn new(
        sequencer: Option<SequencerClient>,
        executor: Arc<dyn Executor>,
        settlement: SettlementHandle,
    ) -> Self {
        Self { sequencer, executor, settlement }
    }
}

#[async_trait]
impl TxPool for FollowPool {
    async fn submit(&self, raw: Bytes) -> Result<TxHash, SubmitError> {
        match &self.sequencer {
            Some(sequencer) => sequencer.submit(raw).await,
            None => Err(SequencerError::Unavailable(
                "this node follows L1 alone; start it with --sequencer, or queue the transaction on L1 with `millrace force-include`".to_owned(),
            )
            .into()),
        }
    }

    async fn pending_nonce(&self, sender: Address) -> Result<u64, SequencerError> {
        if let Some(sequencer) = &self.sequencer
            && let Ok(nonce) = sequencer.pending_nonce(sender).await
        {
            return Ok(nonce);
        }
        let accounts = self.executor.accounts(&[sender], BlockSelector::Latest).await?;
        Ok(accounts.into_iter().next().flatten().unwrap_or_default().nonce)
    }

    async fn pooled(&self, hash: TxHash) -> Result<Option<Arc<RecoveredTx>>, SequencerError> {
        match &self.sequencer {
            Some(sequencer) => sequencer.pooled(hash).await,
            None => Ok(None),
        }
    }

    async fn pool_status(&self) -> Result<PoolStatus, SequencerError> {
        match &self.sequencer {
            Some(sequencer) => sequencer.pool_status().await,
            None => Ok(PoolStatus::default()),
        }
    }

    /// Safe is what was derived from L1, executed here and found right; final is what L1 calls final of that.
    async fn heads(&self) -> Result<ChainHeads, SequencerError> {
        let status = self.settlement.status();
        let latest = self.executor.head().await?;
        let name = async |number: u64| {
            let at = BlockSelector::Number(number.min(latest.number));
            let header = self.executor.header(at).await?;
            let header = header.ok_or(ExecutorError::UnknownBlock(at))?;
            Ok::<_, ExecutorError>(num_hash(&header))
        };
        let last = |point: Option<millrace_proto::BatchPoint>| point.map_or(0, |p| p.last_block);
        Ok(ChainHeads {
            latest: num_hash(&latest),
            safe: name(last(status.verified)).await?,
            finalized: name(last(status.finalized).min(last(status.verified))).await?,
        })
    }
}

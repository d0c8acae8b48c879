//! Puts a proof together from what the services, the DA layer and L1 say, and checks it.

use std::sync::Arc;

use alloy::{
    eips::Encodable2718,
    primitives::{Bytes, TxHash},
    rlp,
};
use futures::{StreamExt, TryStreamExt, stream};
use millrace_da_adapter::{INCLUSION_PROOF_VERSION, InclusionProof};
use millrace_l1::{EventProof, RollupContract, RollupEvent, prove_entry};
use millrace_proto::{
    BatchRecord, BlockSelector, DaReader, Executor, L1Ref, PostedBatch, Settlement, Stage, TxPool,
};
use tokio::sync::Semaphore;

use super::ProveError;

/// Proofs that are made at the same time: each holds a batch, and asks L1 and the DA layer.
const AT_ONCE: usize = 2;
/// Headers that are asked for at the same time.
const HEADERS_AT_ONCE: usize = 16;

/// Makes inclusion proofs.
#[derive(Debug)]
pub(crate) struct InclusionProver {
    pub(crate) executor: Arc<dyn Executor>,
    pub(crate) pool: Arc<dyn TxPool>,
    pub(crate) settlement: Arc<dyn Settlement>,
    pub(crate) rollup: RollupContract,
    /// `None` where the sources of batches cannot be opened here.
    pub(crate) reader: Option<Arc<dyn DaReader>>,
    running: Semaphore,
}

impl InclusionProver {
    pub(crate) const fn new(
        executor: Arc<dyn Executor>,
        pool: Arc<dyn TxPool>,
        settlement: Arc<dyn Settlement>,
        rollup: RollupContract,
        reader: Option<Arc<dyn DaReader>>,
    ) -> Self {
        let running = Semaphore::const_new(AT_ONCE);
        Self { executor, pool, settlement, rollup, reader, running }
    }

    /// The proof of a transaction that is in a posted batch.
    pub(crate) async fn prove(&self, hash: TxHash) -> Result<InclusionProof, ProveError> {
        let _running = self.running.try_acquire().map_err(|_| ProveError::Busy)?;
        let Some(place) = self.executor.locate(hash).await? else {
            return Err(self.fate(hash).await);
        };
        let block = place.block.number;
        let record = self.settlement.batch_of_block(block).await?;
        let record = record.ok_or(ProveError::NotPosted { hash, block })?;
        let reader = self.reader.as_ref().ok_or(ProveError::NoReader)?;

        let of_batch = |event: &RollupEvent| matches!(event, RollupEvent::Posted(batch) if batch.header.number == record.number);
        let posted = self.event(record.posted, of_batch).await?;
        let batch = self.posted_batch(&posted)?;
        let committed = match record.committed {
            Some(l1) => {
                let of_batch = |event: &RollupEvent| matches!(event, RollupEvent::Committed(commitment) if commitment.batch == record.number);
                Some(self.event(l1, of_batch).await?)
            }
            None => None,
        };
        let (transaction, transaction_proof) =
            self.transaction(BlockSelector::Hash(place.block.hash), place.index).await?;
        let proof = InclusionProof {
            version: INCLUSION_PROOF_VERSION,
            l1_chain_id: self.rollup.client().chain_id().await?,
            rollup: self.rollup.address(),
            chain_id: self.executor.spec().await?.chain_id(),
            transaction_hash: hash,
            transaction_index: place.index,
            transaction: transaction.into(),
            transaction_proof,
            headers: self.headers(block, &record).await?,
            batch: reader.read(&batch).await?,
            posted,
            committed,
        };
        // Nobody is given what does not hold: blocks may have been taken back meanwhile.
        tokio::task::spawn_blocking(move || {
            proof.verify(proof.l1_chain_id, proof.rollup)?;
            Ok(proof)
        })
        .await?
    }

    /// What is to be said of a transaction that is in no block.
    async fn fate(&self, hash: TxHash) -> ProveError {
        // Where nobody tells, as on a node without a sequencer, it is unknown.
        let last = self.pool.stages(hash).await.unwrap_or_default().into_iter().next_back();
        match last {
            None => ProveError::Unknown(hash),
            Some(status) => match (status.stage, status.reason) {
                (Stage::Dropped, Some(reason)) => ProveError::Dropped { hash, reason },
                _ => ProveError::NotSequenced(hash),
            },
        }
    }

    async fn event(
        &self,
        l1: L1Ref,
        wanted: impl Fn(&RollupEvent) -> bool + Send,
    ) -> Result<EventProof, ProveError> {
        let found = self.rollup.prove_event(l1.block.hash, wanted).await?;
        found.ok_or(ProveError::Changed("L1"))
    }

    fn posted_batch(&self, proof: &EventProof) -> Result<PostedBatch, ProveError> {
        match proof.verify(self.rollup.address()).map_err(|_| ProveError::Changed("L1"))?.event {
            RollupEvent::Posted(batch) => Ok(batch),
            _ => Err(ProveError::Changed("L1")),
        }
    }

    /// A transaction of a block, with the nodes that lead to it.
    async fn transaction(
        &self,
        block: BlockSelector,
        index: u64,
    ) -> Result<(Vec<u8>, Vec<Bytes>), ProveError> {
        let changed = || ProveError::Changed("the chain");
        let block = self.executor.block(block).await?.ok_or_else(changed)?;
        let index = usize::try_from(index).map_err(|_| changed())?;
        // Of a full block, some hundred thousand hashes.
        let proved = tokio::task::spawn_blocking(move || {
            let mut raw: Vec<Vec<u8>> =
                block.transactions.iter().map(|tx| tx.tx().encoded_2718()).collect();
            let (_, nodes) = prove_entry(&raw, index)?;
            Some((raw.swap_remove(index), nodes))
        });
        proved.await?.ok_or_else(changed)
    }

    /// The headers from a block to its batch's last one.
    async fn headers(&self, first: u64, batch: &BatchRecord) -> Result<Vec<Bytes>, ProveError> {
        let header = async |number: u64| {
            let header = self.executor.header(BlockSelector::Number(number)).await?;
            let header = header.ok_or(ProveError::Changed("the chain"))?;
            Ok(rlp::encode(header.inner()).into())
        };
        stream::iter(first..=batch.last_block)
            .map(header)
            .buffered(HEADERS_AT_ONCE)
            .try_collect()
            .await
    }
}

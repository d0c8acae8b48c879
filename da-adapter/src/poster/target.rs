//! The rollup contract, as the poster uses it.

use std::{fmt, time::Duration};

use alloy::{
    consensus::Blob,
    primitives::{B256, Bytes, TxHash, U256},
    sol_types::SolCall,
};
use async_trait::async_trait;
use millrace_l1::{
    L1Error, Market, Rollup, RollupContract, RollupEvent, TxManager, TxManagerError, TxRequest,
};
use millrace_proto::{BatchHeader, Commitment, L1Ref, PostedBatch};

use crate::window::L1Window;

/// L1 blocks over which the time between two is looked at.
const BLOCK_TIME_SPAN: u64 = 64;
/// The shortest time between two L1 blocks that is believed.
const MIN_BLOCK_TIME: Duration = Duration::from_secs(1);
/// Gas that posting a batch takes at most, beside its pointer.
const POST_GAS: u64 = 250_000;
/// Gas that a byte of the pointer takes at most (EIP-7623).
const POINTER_GAS: u64 = 40;

/// Whether L1 can still take a transaction back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finality {
    /// Its block is not final yet.
    Pending,
    /// Its block is final.
    Final,
    /// Another block has become final in its block's place.
    Gone,
}

/// A batch on its way to the contract.
#[derive(Debug, Clone)]
pub(crate) struct Posting {
    /// Names the intent to the transaction manager.
    pub(crate) id: String,
    /// The epoch that this adapter posts under.
    pub(crate) epoch: u32,
    pub(crate) header: BatchHeader,
    pub(crate) da_pointer: Bytes,
    pub(crate) blobs: Vec<Blob>,
    /// Whether it goes on its way behind another one, and rests on that.
    pub(crate) is_behind: bool,
}

/// The contract, and the account that posts to it.
#[async_trait]
pub(crate) trait PostTarget: fmt::Debug + Send + Sync + 'static {
    /// Batches that the contract holds, which is also the number of the last one.
    async fn batch_count(&self) -> Result<u64, L1Error>;

    /// How long the contract still takes batches that consume so many entries of L1's queue, and how many it takes to be posted within `margin`.
    async fn window(&self, consumed: u64, margin: Duration) -> Result<L1Window, L1Error>;

    /// The epoch whose posts the contract takes.
    async fn epoch(&self) -> Result<u32, L1Error>;

    /// Begins an epoch, so that whoever posts under the one before stops; returns when L1 has confirmed it.
    async fn begin_epoch(&self, next: u32) -> Result<(), TxManagerError>;

    /// The deposit queue's accumulator over the first `count` deposits; zero if there are fewer.
    async fn deposit_accumulator(&self, count: u64) -> Result<B256, L1Error>;

    /// The contract's records of the batches `first..=last`, in order, all of them.
    async fn records(&self, first: u64, last: u64) -> Result<Vec<PostedBatch>, L1Error>;

    /// The last commitment that stands, if there is one.
    async fn last_commitment(&self) -> Result<Option<Commitment>, L1Error>;

    /// What L1 asks for gas and blobs now.
    async fn market(&self) -> Result<Market, L1Error>;

    /// Wei that a transaction in the chain paid for gas and blobs.
    async fn fee(&self, tx: TxHash) -> Result<U256, L1Error>;

    /// Whether a transaction that was seen there is final.
    async fn finality(&self, l1: &L1Ref) -> Result<Finality, L1Error>;

    /// The contract's hash of a batch, which covers all before it.
    async fn batch_hash(&self, number: u64) -> Result<B256, L1Error>;

    /// Gives a posting its place behind those that were begun before.
    async fn begin(&self, posting: &Posting) -> Result<(), TxManagerError>;

    /// Posts a batch, and returns when L1 has confirmed it. Dropped and called again, it goes on
    /// where it was.
    async fn post(&self, posting: Posting) -> Result<(), TxManagerError>;
}

/// The real contract on L1.
#[derive(Debug, Clone)]
pub(crate) struct L1Target {
    pub(crate) rollup: RollupContract,
    pub(crate) tx_manager: TxManager,
}

impl L1Target {
    fn request(&self, posting: &Posting) -> TxRequest {
        let call = Rollup::postBatchCall {
            epoch: posting.epoch,
            header: Rollup::BatchHeader::from(&posting.header),
            daPointer: posting.da_pointer.clone(),
        };
        let id = posting.id.clone();
        let request = TxRequest::call(id, self.rollup.address(), call.abi_encode())
            .with_blobs(posting.blobs.clone());
        // What it rests on is not in L1 yet, so that its gas cannot be estimated there.
        let gas_limit =
            posting.is_behind.then(|| POST_GAS + POINTER_GAS * posting.da_pointer.len() as u64);
        TxRequest { gas_limit, ..request }
    }
}

#[async_trait]
impl PostTarget for L1Target {
    async fn batch_count(&self) -> Result<u64, L1Error> {
        self.rollup.batch_count().await
    }

    async fn window(&self, consumed: u64, margin: Duration) -> Result<L1Window, L1Error> {
        let client = self.rollup.client();
        let whole = self.rollup.inclusion_window().await?;
        let head = client.head().await?;
        // Blocks until an entry is overdue.
        let left_of = async |index| {
            Ok::<_, L1Error>(match self.rollup.queued_at(index).await? {
                // Gone by a reorg, or not at this node yet.
                0 => whole,
                queued => queued.saturating_add(whole).saturating_sub(head.number),
            })
        };
        let count = self.rollup.deposit_count().await?;
        let left = if count <= consumed { whole } else { left_of(consumed).await? };
        let span = head.number.min(BLOCK_TIME_SPAN);
        let earlier = client.block(head.number - span).await?;
        let seconds = earlier.map(|block| head.timestamp.saturating_sub(block.timestamp));
        let block_time = match seconds {
            Some(seconds) if span > 0 => Duration::from_secs(seconds) / span as u32,
            _ => Duration::ZERO,
        };
        let block_time = block_time.max(MIN_BLOCK_TIME);
        let margin = (margin.as_secs_f64() / block_time.as_secs_f64()).ceil() as u64;
        let margin = margin.min(whole / 4);
        // Entries are overdue in their order.
        let (mut due, mut later) = (consumed, count.max(consumed));
        if left > margin {
            later = consumed;
        }
        while due < later {
            let middle = due + (later - due) / 2;
            if left_of(middle).await? <= margin { due = middle + 1 } else { later = middle }
        }
        Ok(L1Window { left, whole, block_time, due })
    }

    async fn epoch(&self) -> Result<u32, L1Error> {
        self.rollup.current_epoch().await
    }

    async fn begin_epoch(&self, next: u32) -> Result<(), TxManagerError> {
        let call = Rollup::beginEpochCall { next }.abi_encode();
        let request = TxRequest::call(format!("epoch-{next}"), self.rollup.address(), call);
        self.tx_manager.send(request).await.map(|_| ())
    }

    async fn deposit_accumulator(&self, count: u64) -> Result<B256, L1Error> {
        self.rollup.deposit_accumulator(count).await
    }

    async fn records(&self, first: u64, last: u64) -> Result<Vec<PostedBatch>, L1Error> {
        self.rollup.posted(first, last).await
    }

    async fn last_commitment(&self) -> Result<Option<Commitment>, L1Error> {
        let (number, last_block) = self.rollup.last_committed().await?;
        if number == 0 {
            return Ok(None);
        }
        let mut found = None;
        let find = |events: Vec<RollupEvent>| {
            // The newest one, if the guardian reverted it meanwhile.
            found = events.into_iter().rev().find_map(|event| match event {
                RollupEvent::Committed(commitment) if commitment.batch == number => {
                    Some(commitment)
                }
                _ => None,
            });
            found.is_some()
        };
        self.rollup.search_back(find).await?;
        match found {
            Some(commitment) if commitment.last_block == last_block => Ok(Some(commitment)),
            _ => Err(L1Error::Inconsistent(format!(
                "the contract has committed batch {number} up to block {last_block}, the node has no such event"
            ))),
        }
    }

    async fn market(&self) -> Result<Market, L1Error> {
        Market::read(self.rollup.client(), true).await
    }

    async fn fee(&self, tx: TxHash) -> Result<U256, L1Error> {
        let receipt = self.rollup.client().receipt(tx).await?;
        let receipt = receipt
            .ok_or_else(|| L1Error::Inconsistent(format!("transaction {tx} has no receipt")))?;
        let gas = U256::from(receipt.gas_used) * U256::from(receipt.effective_gas_price);
        let blob_gas = U256::from(receipt.blob_gas_used.unwrap_or(0));
        Ok(gas + blob_gas * U256::from(receipt.blob_gas_price.unwrap_or(0)))
    }

    async fn finality(&self, l1: &L1Ref) -> Result<Finality, L1Error> {
        let client = self.rollup.client();
        match client.finalized().await? {
            Some(finalized) if finalized.number >= l1.block.number => {}
            _ => return Ok(Finality::Pending),
        }
        Ok(match client.block(l1.block.number).await? {
            Some(block) if block.hash == l1.block.hash => Finality::Final,
            Some(_) => Finality::Gone,
            None => Finality::Pending,
        })
    }

    async fn batch_hash(&self, number: u64) -> Result<B256, L1Error> {
        self.rollup.batch_hash(number).await
    }

    async fn begin(&self, posting: &Posting) -> Result<(), TxManagerError> {
        self.tx_manager.begin(self.request(posting)).await
    }

    async fn post(&self, posting: Posting) -> Result<(), TxManagerError> {
        self.tx_manager.send(self.request(&posting)).await.map(|_| ())
    }
}

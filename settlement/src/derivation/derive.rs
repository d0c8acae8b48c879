//! The rules of derivation.

use std::sync::Arc;

use alloy::{
    consensus::Sealable,
    eips::BlockNumHash,
    primitives::{Address, B256},
};
use millrace_proto::{
    Batch, BatchHeader, BatchLimits, BatchPayload, BlockMark, ChainSpec, DecodedBatch,
    DerivedBlock, DerivedStretch, PostedBatch, QueueEntry, QueueMark, QueuedTxs, RecoveredTx,
    SealedHeader, TxEnvelope, Unsigned, batch_digest,
};
use rayon::prelude::*;

use super::{DeriveError, SkipReason};

/// Transactions whose senders a thread recovers at once.
const CHUNK: usize = 256;

/// The end of the chain derived so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DerivationHead {
    /// The last block.
    pub number: u64,
    /// Its hash.
    pub hash: B256,
    /// Its timestamp, Unix seconds.
    pub timestamp: u64,
    /// Deposits that the chain has consumed.
    pub deposits_end: u64,
}

impl DerivationHead {
    /// The head that a block of a rollup makes; `None` if its `extraData` is not a rollup's.
    pub fn of(header: &SealedHeader) -> Option<Self> {
        Some(Self {
            number: header.number,
            hash: header.seal(),
            timestamp: header.timestamp,
            deposits_end: QueueMark::of(header)?.end,
        })
    }

    /// The block.
    pub const fn block(&self) -> BlockNumHash {
        BlockNumHash { number: self.number, hash: self.hash }
    }
}

/// Deposits and forced transactions as L1 queued them, from [`DerivationHead::deposits_end`] on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuedDeposits {
    /// The queue's accumulator before the first of them.
    pub before: B256,
    /// In the queue's order.
    pub entries: Vec<QueueEntry>,
}

/// A valid batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DerivedBatch {
    /// The batch.
    pub number: u64,
    /// What it holds, by the chain's payload.
    pub content: DerivedContent,
}

/// What of a batch its bytes alone tell.
#[derive(Debug)]
pub(crate) struct PreparedBatch {
    digest: B256,
    /// Without its blocks' transactions, or why there is none.
    batch: Result<DecodedBatch, SkipReason>,
    transactions: Transactions,
}

/// The transactions of a batch's blocks.
#[derive(Debug)]
enum Transactions {
    /// As the batch has them. The first block's number is what the batch says.
    Signed { first_block: u64, blocks: Vec<Vec<TxEnvelope>> },
    /// With their senders.
    Recovered(Result<Vec<Vec<Arc<RecoveredTx>>>, SkipReason>),
}

impl Transactions {
    fn recover(self) -> Self {
        Self::Recovered(self.recovered())
    }

    fn recovered(self) -> Result<Vec<Vec<Arc<RecoveredTx>>>, SkipReason> {
        match self {
            Self::Signed { first_block, blocks } => recover(first_block, blocks),
            Self::Recovered(recovered) => recovered,
        }
    }
}

/// What a valid batch holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DerivedContent {
    /// Blocks to execute.
    Blocks {
        /// In order; at least one.
        blocks: Vec<DerivedBlock>,
        /// The hash that the batch claims for the last one. Execution shows whether it is true.
        claimed_hash: B256,
    },
    /// What blocks changed.
    Stretch {
        /// The blocks together. Applying it shows whether its state root is true.
        stretch: Box<DerivedStretch>,
        /// How many transactions they hold, as the batch says.
        transactions: u64,
    },
}

/// The rules of one chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Derivation {
    chain_id: u64,
    rollup: Address,
    payload: BatchPayload,
    limits: BatchLimits,
}

impl Derivation {
    /// The rules of the rollup that `spec` describes and whose L1 contract is `rollup`.
    pub fn new(spec: &ChainSpec, rollup: Address) -> Self {
        let payload = spec.rollup().batch_payload;
        Self { chain_id: spec.chain_id(), rollup, payload, limits: BatchLimits::default() }
    }

    /// Whether all of a chain's blocks are known, and not just what they changed together.
    pub(crate) fn knows_blocks(&self) -> bool {
        self.payload == BatchPayload::Transactions
    }

    /// The rollup's chain id.
    pub(crate) const fn chain_id(&self) -> u64 {
        self.chain_id
    }

    /// Checks all that a batch's posted header alone can tell, so that the bytes of a batch that cannot continue the chain need
    /// not be read.
    ///
    /// # Errors
    /// Why the batch is skipped.
    pub fn join(&self, head: &DerivationHead, header: &BatchHeader) -> Result<(), SkipReason> {
        let expected = head.number.saturating_add(1);
        if header.first_block != expected {
            return Err(SkipReason::NotContiguous { first_block: header.first_block, expected });
        }
        if header.deposits_end < head.deposits_end {
            return Err(SkipReason::DepositsBackwards {
                deposits_end: header.deposits_end,
                consumed: head.deposits_end,
            });
        }
        Ok(())
    }

    /// Derives what a posted batch holds from its bytes. `deposits` are those from the head's on, through the header's end at
    /// least as far as L1 has shown them.
    ///
    /// Recovers senders on rayon's threads; call it off the async ones.
    ///
    /// # Errors
    /// [`DeriveError::Skip`] if the batch is invalid, which is the same for everyone.
    pub fn derive(
        &self,
        head: &DerivationHead,
        posted: &PostedBatch,
        bytes: &[u8],
        deposits: &QueuedDeposits,
    ) -> Result<DerivedBatch, DeriveError> {
        self.join(head, &posted.header)?;
        self.finish(head, posted, self.decode(&posted.header, bytes), deposits)
    }

    /// Does what of deriving a batch needs its bytes alone: it can be done before the batches before it are executed.
    ///
    /// Recovers senders on rayon's threads; call it off the async ones.
    pub(crate) fn prepare(&self, header: &BatchHeader, bytes: &[u8]) -> PreparedBatch {
        let mut prepared = self.decode(header, bytes);
        // What is skipped for this anyway is not worth it.
        let is_worth_it = |batch: &DecodedBatch| self.agrees(header, batch).is_ok();
        if prepared.batch.as_ref().is_ok_and(is_worth_it) {
            prepared.transactions = prepared.transactions.recover();
        }
        prepared
    }

    fn decode(&self, header: &BatchHeader, bytes: &[u8]) -> PreparedBatch {
        let digest = batch_digest(bytes);
        let mut transactions = Transactions::Signed { first_block: 0, blocks: Vec::new() };
        if digest != header.digest {
            let batch = Err(SkipReason::Digest { posted: header.digest, computed: digest });
            return PreparedBatch { digest, batch, transactions };
        }
        let mut batch = DecodedBatch::decode(bytes, self.payload, &self.limits)
            .map_err(|error| SkipReason::Undecodable(error.to_string()));
        if let Ok(DecodedBatch::Transactions(batch)) = &mut batch {
            let blocks = batch.blocks.iter_mut();
            let blocks = blocks.map(|block| std::mem::take(&mut block.transactions)).collect();
            transactions = Transactions::Signed { first_block: batch.first_block, blocks };
        }
        PreparedBatch { digest, batch, transactions }
    }

    /// Derives a batch that was prepared, which [joins](Self::join) the head.
    ///
    /// # Errors
    /// As [`Self::derive`], and the same of them where there are several.
    pub(crate) fn finish(
        &self,
        head: &DerivationHead,
        posted: &PostedBatch,
        prepared: PreparedBatch,
        deposits: &QueuedDeposits,
    ) -> Result<DerivedBatch, DeriveError> {
        let header = &posted.header;
        let PreparedBatch { digest, batch, transactions } = prepared;
        let batch = batch?;
        self.check(head, header, &batch)?;
        let entries = covered(head, header, deposits)?;
        let content = match batch {
            DecodedBatch::Transactions(batch) => DerivedContent::Blocks {
                claimed_hash: batch.last_block_hash,
                blocks: self.blocks(
                    head,
                    batch,
                    transactions.recovered()?,
                    deposits.before,
                    entries,
                ),
            },
            DecodedBatch::StateDiffs(batch) => DerivedContent::Stretch {
                transactions: batch.transactions.saturating_add(entries.len() as u64),
                stretch: Box::new(DerivedStretch {
                    first_block: batch.first_block,
                    header: batch.header.seal_slow(),
                    delta: batch.delta,
                    messages: batch.messages,
                    digest,
                }),
            },
        };
        Ok(DerivedBatch { number: header.number, content })
    }

    /// Checks the batch's own words against the posted header.
    fn agrees(&self, header: &BatchHeader, batch: &DecodedBatch) -> Result<(), SkipReason> {
        let outline = batch.outline();
        if outline.chain_id != self.chain_id {
            return Err(SkipReason::ChainId { found: outline.chain_id, expected: self.chain_id });
        }
        let agree = |field, found, posted| {
            if found == posted { Ok(()) } else { Err(SkipReason::Header { field, found, posted }) }
        };
        agree("first block", outline.first_block, header.first_block)?;
        agree("last block", outline.last_block, header.last_block)?;
        agree("deposits end", outline.deposits_end, header.deposits_end)
    }

    /// Checks the batch's own words against the posted header and the head.
    fn check(
        &self,
        head: &DerivationHead,
        header: &BatchHeader,
        batch: &DecodedBatch,
    ) -> Result<(), SkipReason> {
        self.agrees(header, batch)?;
        let outline = batch.outline();
        if outline.parent_hash != head.hash {
            return Err(SkipReason::ParentHash { found: outline.parent_hash, expected: head.hash });
        }
        if outline.deposits_start != head.deposits_end {
            return Err(SkipReason::DepositsStart {
                found: outline.deposits_start,
                expected: head.deposits_end,
            });
        }
        if let DecodedBatch::StateDiffs(batch) = batch {
            // Of executed blocks it follows.
            let named = batch.header.parent_beacon_block_root.unwrap_or_default();
            if named != header.deposits_hash {
                return Err(SkipReason::Queue { found: named, expected: header.deposits_hash });
            }
        }
        let (mut parent, mut consumed) = (head.timestamp, head.deposits_end);
        for BlockMark { number, timestamp, deposits_end } in batch.marks() {
            if timestamp < parent {
                return Err(SkipReason::Timestamp { block: number, timestamp, parent });
            }
            if deposits_end < consumed {
                return Err(SkipReason::DepositsBackwards { deposits_end, consumed });
            }
            (parent, consumed) = (timestamp, deposits_end);
        }
        Ok(())
    }

    /// The batch's blocks, with their transactions and what they take of the queue.
    fn blocks(
        &self,
        head: &DerivationHead,
        batch: Batch,
        transactions: Vec<Vec<Arc<RecoveredTx>>>,
        before: B256,
        entries: &[QueueEntry],
    ) -> Vec<DerivedBlock> {
        debug_assert_eq!(batch.blocks.len(), transactions.len(), "one list a block");
        let mut entries = entries.iter();
        let mut mark = QueueMark { end: head.deposits_end, hash: before, forced: 0 };
        (batch.first_block..)
            .zip(batch.blocks.into_iter().zip(transactions))
            .map(|(number, (block, transactions))| {
                let count = block.deposits_end.saturating_sub(mark.end);
                let taken = entries.by_ref().take(usize::try_from(count).unwrap_or(usize::MAX));
                let queued = QueuedTxs::new(mark, taken, self.rollup);
                mark = queued.mark;
                DerivedBlock { number, timestamp: block.timestamp, queued, transactions }
            })
            .collect()
    }
}

/// The entries that the header covers, which must give the accumulator that the contract accepted.
fn covered<'a>(
    head: &DerivationHead,
    header: &BatchHeader,
    queued: &'a QueuedDeposits,
) -> Result<&'a [QueueEntry], DeriveError> {
    let count = usize::try_from(header.deposits_end.saturating_sub(head.deposits_end))
        .unwrap_or(usize::MAX)
        .min(queued.entries.len());
    let entries = &queued.entries[..count];
    let computed =
        entries.iter().fold(queued.before, |accumulator, entry| entry.accumulate(accumulator));
    if computed != header.deposits_hash {
        return Err(DeriveError::Deposits {
            deposits_end: header.deposits_end,
            posted: header.deposits_hash,
            computed,
        });
    }
    Ok(entries)
}

/// Each block's transactions with their senders: recovered on rayon's threads, several at a time where the processor can.
fn recover(
    first_block: u64,
    blocks: Vec<Vec<TxEnvelope>>,
) -> Result<Vec<Vec<Arc<RecoveredTx>>>, SkipReason> {
    let counts: Vec<usize> = blocks.iter().map(Vec::len).collect();
    // Transactions of several blocks make a chunk, as blocks can be small.
    let (mut chunks, mut chunk) = (Vec::new(), Chunk::default());
    // The number may be anything yet.
    let numbers = (0..).map(|offset| first_block.saturating_add(offset));
    for (number, txs) in numbers.zip(blocks) {
        for tx in txs {
            chunk.blocks.push(number);
            chunk.txs.push(tx);
            if chunk.txs.len() == CHUNK {
                chunks.push(std::mem::take(&mut chunk));
            }
        }
    }
    chunks.push(chunk);
    let recovered: Vec<_> = chunks.into_par_iter().map(recover_chunk).collect();
    // The first bad one in order, whichever thread was first: everyone names the same.
    let recovered = recovered.into_iter().collect::<Result<Vec<_>, _>>()?;
    let mut recovered = recovered.into_iter().flatten();
    Ok(counts.into_iter().map(|count| recovered.by_ref().take(count).collect()).collect())
}

/// Some transactions, and for each the number of its block.
#[derive(Default)]
struct Chunk {
    blocks: Vec<u64>,
    txs: Vec<TxEnvelope>,
}

/// Recovers the senders of some transactions.
fn recover_chunk(chunk: Chunk) -> Result<Vec<Arc<RecoveredTx>>, SkipReason> {
    let Chunk { blocks, txs } = chunk;
    RecoveredTx::recover_all(txs).map_err(|Unsigned { index, hash, .. }| SkipReason::Signature {
        block: blocks[index],
        hash,
    })
}

//! Blocks: Ethereum headers and bodies, and what executing them gave.

use std::sync::Arc;

use alloy::{
    consensus::{EthereumReceipt, Header, Sealed},
    eips::BlockNumHash,
    primitives::{Address, B256, Bytes, keccak256},
};

use crate::types::{ChainSpec, QueueMark, QueuedTxs, RecoveredTx, TxType};

/// A receipt. Its EIP-2718 form is the standard one for every type, `0x7E` included (no deposit nonce).
pub type Receipt = EthereumReceipt<TxType>;

/// A header with its hash.
pub type SealedHeader = Sealed<Header>;

/// A header's number and hash.
pub fn num_hash(header: &SealedHeader) -> BlockNumHash {
    BlockNumHash::new(header.number, header.seal())
}

/// A block with its senders and receipts: a sealed one, unless an open one was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecutedBlock {
    /// The header and its hash.
    pub header: SealedHeader,
    /// The transactions in order; deposits come first, then forced ones.
    pub transactions: Vec<Arc<RecoveredTx>>,
    /// One receipt a transaction.
    pub receipts: Vec<Receipt>,
}

impl ExecutedBlock {
    /// The block's number.
    pub fn number(&self) -> u64 {
        self.header.number
    }

    /// The block's hash.
    pub fn hash(&self) -> B256 {
        self.header.seal()
    }

    /// Whether it is open still: its header has no roots, and so no hash that counts.
    pub fn is_open(&self) -> bool {
        self.header.state_root.is_zero()
    }

    /// Number and hash.
    pub fn num_hash(&self) -> BlockNumHash {
        num_hash(&self.header)
    }

    /// How many of its transactions come from L1's queue: its deposits, and the forced ones behind them.
    pub fn queued_count(&self) -> usize {
        let deposits = self.transactions.iter().take_while(|tx| tx.tx().is_deposit()).count();
        let forced = QueueMark::of(&self.header).map_or(0, |mark| mark.forced);
        let forced = usize::try_from(forced).unwrap_or(usize::MAX);
        deposits.saturating_add(forced).min(self.transactions.len())
    }

    /// Its transactions that come from L1's queue.
    pub fn queued(&self) -> &[Arc<RecoveredTx>] {
        &self.transactions[..self.queued_count()]
    }

    /// Its other transactions, which come behind those.
    pub fn signed(&self) -> &[Arc<RecoveredTx>] {
        &self.transactions[self.queued_count()..]
    }

    /// About what it takes in memory, in bytes: its transactions as bytes and decoded, and its logs.
    pub fn memory(&self) -> usize {
        memory(&self.transactions, &self.receipts)
    }

    /// Gas that the transaction at `index` used alone; `None` past the end.
    pub fn gas_used_by(&self, index: usize) -> Option<u64> {
        let cumulative = self.receipts.get(index)?.cumulative_gas_used;
        let before = match index.checked_sub(1) {
            Some(previous) => self.receipts.get(previous)?.cumulative_gas_used,
            None => 0,
        };
        cumulative.checked_sub(before)
    }
}

/// About what transactions and receipts take in memory, in bytes.
pub(super) fn memory<'a>(
    transactions: &[Arc<RecoveredTx>],
    receipts: impl IntoIterator<Item = &'a Receipt>,
) -> usize {
    /// What a transaction takes beside its bytes, with its receipt and its place in an index.
    const TRANSACTION: usize = 1024;
    /// What a log takes beside its data.
    const LOG: usize = 256;
    let bytes = transactions.iter().map(|tx| 2 * tx.encoded().len());
    let logs = receipts.into_iter().flat_map(|receipt| &receipt.logs);
    TRANSACTION * transactions.len()
        + bytes.sum::<usize>()
        + logs.map(|log| LOG + log.data.data.len()).sum::<usize>()
}

/// Everything that an executor must be told to open a block; the rest follows from the parent and the chain's rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockAttributes {
    /// The parent's number plus one.
    pub number: u64,
    /// Must be the executor's head.
    pub parent_hash: B256,
    /// Unix seconds, not before the parent's. Blocks may share a second.
    pub timestamp: u64,
    /// Gets the priority fees (and the base fee, where the chain's rules say so).
    pub fee_recipient: Address,
    /// Most gas that the block's transactions may use together.
    pub gas_limit: u64,
    /// `PREVRANDAO`.
    pub prev_randao: B256,
    /// EIP-4788 root, from Cancun on.
    pub parent_beacon_block_root: B256,
    /// At most 32 bytes.
    pub extra_data: Bytes,
}

impl BlockAttributes {
    /// The attributes of a rollup's block, which derivation and sequencing must agree on: all of it follows from
    /// the parent, the chain's rules, the timestamp, and how far L1's queue is consumed.
    pub fn rollup(
        spec: &ChainSpec,
        parent: &SealedHeader,
        timestamp: u64,
        queue: QueueMark,
    ) -> Self {
        Self {
            number: parent.number + 1,
            parent_hash: parent.seal(),
            timestamp: timestamp.max(parent.timestamp),
            fee_recipient: spec.rollup().fee_recipient,
            gas_limit: spec.rollup().gas_limit,
            prev_randao: keccak256(parent.seal()),
            parent_beacon_block_root: queue.hash,
            extra_data: queue.extra_data(),
        }
    }
}

impl QueueMark {
    /// The version of [`Self::extra_data`].
    const VERSION: u8 = 1;

    /// Reads a rollup's header. At the genesis block nothing is consumed, whatever its fields say.
    ///
    /// Returns `None` if `extraData` is not of the form of [`Self::extra_data`], or there is no parent beacon block root.
    pub fn of(header: &Header) -> Option<Self> {
        if header.number == 0 {
            return Some(Self::default());
        }
        let (version, rest) = header.extra_data.split_first()?;
        let (end, forced) = rest.split_first_chunk()?;
        let forced = forced.try_into().ok()?;
        (*version == Self::VERSION).then_some(Self {
            end: u64::from_be_bytes(*end),
            forced: u32::from_be_bytes(forced),
            hash: header.parent_beacon_block_root?,
        })
    }

    /// A rollup's `extraData`: version byte 1, then `end` as a `u64` and `forced` as a `u32`, both big-endian. The accumulator is the
    /// header's parent beacon block root, which contracts can read (EIP-4788).
    pub fn extra_data(self) -> Bytes {
        [&[Self::VERSION][..], &self.end.to_be_bytes(), &self.forced.to_be_bytes()].concat().into()
    }
}

/// A sealed block as a sequencer publishes it: whoever follows executes it, and comes to the same header or does not follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedBlock {
    /// The header, with the hash that its bytes have.
    pub header: SealedHeader,
    /// Its transactions' EIP-2718 bytes, in order: deposits, forced ones, then the others.
    pub transactions: Vec<Bytes>,
}

/// A block as it is derived from L1 and DA: enough to execute it and know its hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DerivedBlock {
    /// Its number.
    pub number: u64,
    /// Unix seconds.
    pub timestamp: u64,
    /// What it takes of L1's queue. Forced transactions that are invalid at their place are left out.
    pub queued: QueuedTxs,
    /// Its other transactions, all of which have to be valid.
    pub transactions: Vec<Arc<RecoveredTx>>,
}

impl DerivedBlock {
    /// Whether an executed block has this one's inputs, apart from forced transactions that it leaves out as invalid at their place.
    pub fn is_in(&self, executed: &ExecutedBlock) -> bool {
        let queued = executed.queued();
        // Deposits are all there; of the forced ones, some may not be.
        let mut candidates = self.queued.txs.iter();
        let deposits =
            |txs: &[Arc<RecoveredTx>]| txs.iter().take_while(|tx| tx.tx().is_deposit()).count();
        self.is_in_but_for_the_queue(executed)
            && deposits(queued) == deposits(&self.queued.txs)
            && queued.iter().all(|tx| candidates.any(|candidate| candidate.hash() == tx.hash()))
    }

    /// Whether an executed block has this one's inputs, whatever it holds of what it says to take of L1's queue.
    pub fn is_in_but_for_the_queue(&self, executed: &ExecutedBlock) -> bool {
        let expected = self.queued.mark;
        let has_mark = QueueMark::of(&executed.header)
            .is_some_and(|mark| (mark.end, mark.hash) == (expected.end, expected.hash));
        let signed = executed.signed();
        executed.header.timestamp == self.timestamp
            && has_mark
            && signed.len() == self.transactions.len()
            && signed.iter().zip(&self.transactions).all(|(a, b)| a.hash() == b.hash())
    }

    /// Whether an executed block has exactly this one's inputs: on the same parent it is the same block, whoever has made it. One that leaves forced
    /// transactions out has to be executed to know.
    pub fn is_all_in(&self, executed: &ExecutedBlock) -> bool {
        self.is_in(executed) && executed.queued_count() == self.queued.txs.len()
    }
}

#[cfg(test)]
mod tests {
    use alloy::{
        consensus::{Sealable, SignableTransaction, TxLegacy},
        primitives::{Signature, U256},
    };

    use super::*;
    use crate::types::{Deposit, TxEnvelope};

    fn deposit(value: u64) -> Arc<RecoveredTx> {
        let deposit = Deposit {
            index: 0,
            from: Address::ZERO,
            to: Address::ZERO,
            value: U256::from(value),
            gas_limit: 21_000,
            data: Bytes::new(),
        };
        Arc::new(RecoveredTx::new_unchecked(deposit.to_tx(Address::ZERO).into(), Address::ZERO))
    }

    fn signed(nonce: u64) -> Arc<RecoveredTx> {
        let tx = TxLegacy { nonce, ..TxLegacy::default() };
        let tx = TxEnvelope::Legacy(tx.into_signed(Signature::test_signature()));
        Arc::new(RecoveredTx::new_unchecked(tx, Address::ZERO))
    }

    /// Whoever has made a block may have put other deposits into it than L1's queue holds, under the queue's own accumulator.
    #[test]
    fn what_a_block_takes_of_the_queue_is_compared_too() {
        let mark = QueueMark { end: 3, hash: B256::repeat_byte(1), forced: 2 };
        let queued = QueuedTxs { mark, txs: vec![deposit(1), signed(10), signed(11)] };
        let derived =
            DerivedBlock { number: 1, timestamp: 5, queued, transactions: vec![signed(20)] };
        let executed = |queued: Vec<Arc<RecoveredTx>>, forced: u32| {
            let mark = QueueMark { forced, ..mark };
            let header = Header {
                timestamp: 5,
                number: 1,
                extra_data: mark.extra_data(),
                parent_beacon_block_root: Some(mark.hash),
                ..Header::default()
            };
            let transactions = [queued, vec![signed(20)]].concat();
            ExecutedBlock { header: header.seal_slow(), transactions, receipts: Vec::new() }
        };
        let is = |executed: &ExecutedBlock| (derived.is_in(executed), derived.is_all_in(executed));
        assert_eq!(is(&executed(vec![deposit(1), signed(10), signed(11)], 2)), (true, true));
        // Forced transactions may be invalid at their place: only executing them tells.
        assert_eq!(is(&executed(vec![deposit(1), signed(11)], 1)), (true, false));
        for forged in [
            executed(vec![deposit(1_000_000), signed(10), signed(11)], 2),
            executed(vec![deposit(1), deposit(1), signed(10), signed(11)], 2),
            executed(vec![signed(10), signed(11)], 2),
            executed(vec![deposit(1), signed(11), signed(10)], 2),
            executed(vec![deposit(1), signed(12)], 1),
        ] {
            assert_eq!(is(&forged), (false, false), "{forged:?}");
        }
    }
}

//! The L1 contract's queue: deposits and forced transactions, and the L2 transactions that they become.

use std::sync::Arc;

use alloy::{
    consensus::Transaction,
    primitives::{Address, B256, Bytes, TxKind, U256, keccak256},
    sol_types::SolValue,
};
use op_alloy_consensus::TxDeposit;

use crate::types::{RecoveredTx, TxEnvelope};

/// A deposit. Its index in the queue, not the L1 block that holds it, is its identity: a deposit that an L1 reorg
/// moves to another block is still the same deposit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deposit {
    /// Position in the queue, from 0.
    pub index: u64,
    /// The sender on L2: the L1 sender, aliased if that is a contract.
    pub from: Address,
    /// The recipient on L2.
    pub to: Address,
    /// Wei locked on L1, minted on L2.
    pub value: U256,
    /// Gas that the L2 call may use; paid for on L1.
    pub gas_limit: u64,
    /// Call data on L2.
    pub data: Bytes,
}

impl Deposit {
    /// The queue's accumulator after this entry, given the one before it (zero before the first), as the contract computes it:
    /// `keccak256(abi.encode(before, keccak256(abi.encode(index, from, to, value, gasLimit, keccak256(data)))))`.
    pub fn accumulate(&self, before: B256) -> B256 {
        let entry = keccak256(
            (self.index, self.from, self.to, self.value, self.gas_limit, keccak256(&self.data))
                .abi_encode(),
        );
        keccak256((before, entry).abi_encode())
    }

    /// The L2 transaction. `rollup` is the L1 contract: with the index it makes the source hash unique.
    pub fn to_tx(&self, rollup: Address) -> TxDeposit {
        TxDeposit {
            source_hash: keccak256((rollup, self.index).abi_encode()),
            from: self.from,
            to: TxKind::Call(self.to),
            mint: u128::try_from(self.value).unwrap_or(u128::MAX),
            value: self.value,
            gas_limit: self.gas_limit,
            is_system_transaction: false,
            input: self.data.clone(),
        }
    }
}

/// The most gas that a forced transaction may ask for: as much as a deposit. Blocks have room for as many entries of the queue as their gas limits
/// leave, so one that asked for a whole block, and paid for none of it, would hold up all behind it.
pub const MAX_FORCED_GAS: u64 = 1_000_000;

/// A signed L2 transaction that somebody queued on L1, so that the sequencer cannot leave it out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForcedTx {
    /// Position in the queue, from 0.
    pub index: u64,
    /// What was queued: an EIP-2718 transaction, or any other bytes.
    pub raw: Bytes,
}

impl ForcedTx {
    /// The queue's accumulator after this entry, given the one before it, as the contract computes it:
    /// `keccak256(abi.encode(before, keccak256(abi.encode(index, keccak256(raw)))))`.
    pub fn accumulate(&self, before: B256) -> B256 {
        let entry = keccak256((self.index, keccak256(&self.raw)).abi_encode());
        keccak256((before, entry).abi_encode())
    }

    /// The transaction, if the bytes are one that somebody has signed for a chain, and it asks for [`MAX_FORCED_GAS`] at most. Whether it can be
    /// included shows where it is executed.
    pub fn to_tx(&self) -> Option<RecoveredTx> {
        let tx = RecoveredTx::decode(self.raw.clone()).ok()?;
        let is_taken = !tx.tx().is_deposit()
            && tx.tx().chain_id().is_some()
            && tx.tx().gas_limit() <= MAX_FORCED_GAS;
        is_taken.then_some(tx)
    }
}

/// An entry of the contract's queue. L2 consumes entries in their order, each once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QueueEntry {
    /// Ether, a call, or both.
    Deposit(Deposit),
    /// A signed transaction.
    Forced(ForcedTx),
}

impl From<Deposit> for QueueEntry {
    fn from(deposit: Deposit) -> Self {
        Self::Deposit(deposit)
    }
}

impl QueueEntry {
    /// Position in the queue, from 0.
    pub const fn index(&self) -> u64 {
        match self {
            Self::Deposit(deposit) => deposit.index,
            Self::Forced(forced) => forced.index,
        }
    }

    /// The queue's accumulator after this entry, given the one before it (zero before the first).
    pub fn accumulate(&self, before: B256) -> B256 {
        match self {
            Self::Deposit(deposit) => deposit.accumulate(before),
            Self::Forced(forced) => forced.accumulate(before),
        }
    }

    /// Gas that the entry may use on L2.
    pub fn gas_limit(&self) -> u64 {
        match self {
            Self::Deposit(deposit) => deposit.gas_limit,
            Self::Forced(forced) => forced.to_tx().map_or(0, |tx| tx.tx().gas_limit()),
        }
    }

    /// How many of the first of these one block takes that has so much gas: always one, if there is one.
    pub fn fitting(entries: &[Self], gas: u64) -> usize {
        let mut left = gas;
        let fitting = entries.iter().enumerate().take_while(|(index, entry)| {
            let fits = left.checked_sub(entry.gas_limit());
            left = fits.unwrap_or(0);
            fits.is_some() || *index == 0
        });
        fitting.count()
    }
}

/// How far a chain has consumed the queue, and with how many forced transactions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueMark {
    /// Entries consumed up to and including a block, which is the index of the next one.
    pub end: u64,
    /// The queue's accumulator there.
    pub hash: B256,
    /// Forced transactions at the beginning of the block, behind its deposits. While it is built, those that may turn out to be
    /// invalid at their place count too.
    pub forced: u32,
}

/// Entries of the queue as a block's first transactions: the deposits, then the forced transactions, each in the queue's order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueuedTxs {
    /// Where the queue is after them.
    pub mark: QueueMark,
    /// Deposits, as type `0x7E` transactions, and behind them [`QueueMark::forced`] signed ones.
    pub txs: Vec<Arc<RecoveredTx>>,
}

impl QueuedTxs {
    /// Entries behind a mark become transactions. `rollup` is the L1 contract.
    pub fn new<'a>(
        before: QueueMark,
        entries: impl IntoIterator<Item = &'a QueueEntry>,
        rollup: Address,
    ) -> Self {
        let mut mark = QueueMark { forced: 0, ..before };
        let (mut txs, mut forced) = (Vec::new(), Vec::new());
        for entry in entries {
            mark.end = entry.index().saturating_add(1);
            mark.hash = entry.accumulate(mark.hash);
            match entry {
                QueueEntry::Deposit(deposit) => {
                    let tx = TxEnvelope::from(deposit.to_tx(rollup));
                    txs.push(Arc::new(RecoveredTx::new_unchecked(tx, deposit.from)));
                }
                QueueEntry::Forced(tx) => forced.extend(tx.to_tx().map(Arc::new)),
            }
        }
        mark.forced = u32::try_from(forced.len()).unwrap_or(u32::MAX);
        txs.append(&mut forced);
        Self { mark, txs }
    }
}

#[cfg(test)]
mod tests {
    use alloy::{
        consensus::{SignableTransaction, TxLegacy},
        eips::eip2718::Encodable2718,
        signers::{SignerSync, local::PrivateKeySigner},
    };

    use super::*;

    fn forced(tx: TxLegacy) -> QueueEntry {
        let signature =
            PrivateKeySigner::random().sign_hash_sync(&tx.signature_hash()).expect("signs");
        let raw = TxEnvelope::Legacy(tx.into_signed(signature)).encoded_2718().into();
        QueueEntry::Forced(ForcedTx { index: 0, raw })
    }

    #[test]
    fn what_cannot_be_forced_takes_no_room() {
        let good = TxLegacy { chain_id: Some(1), gas_limit: MAX_FORCED_GAS, ..TxLegacy::default() };
        for (tx, taken, gas) in [
            (good.clone(), 1, MAX_FORCED_GAS),
            (TxLegacy { gas_limit: MAX_FORCED_GAS + 1, ..good.clone() }, 0, 0),
            (TxLegacy { chain_id: None, ..good }, 0, 0),
        ] {
            let entry = forced(tx);
            let queued = QueuedTxs::new(QueueMark::default(), [&entry], Address::ZERO);
            assert_eq!((queued.mark.forced, queued.txs.len()), (taken, taken as usize));
            assert_eq!((queued.mark.end, entry.gas_limit()), (1, gas));
        }
    }
}

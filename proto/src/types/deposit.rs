//! Deposits: entries of the L1 contract's queue, and the L2 transactions that they become.

use alloy::{
    primitives::{Address, B256, Bytes, TxKind, U256, keccak256},
    sol_types::SolValue,
};
use op_alloy_consensus::TxDeposit;

/// An entry of the deposit queue. Its index, not the L1 block that holds it, is its identity: a deposit that an L1 reorg
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

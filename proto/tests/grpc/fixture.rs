//! Small services whose state the tests hold in their hands.

mod executor;
mod sequencer;

use std::sync::Arc;

use alloy::{
    consensus::{Header, Sealable, Signed, TxEip1559},
    primitives::{Address, B256, Log, Signature, TxKind, U256},
};
use millrace_proto::{
    BlockAttributes, ChainSpec, ExecutedBlock, QueueMark, Receipt, RecoveredTx, SealedHeader,
    TxDeposit, TxEnvelope, TxType,
};

pub use self::{
    executor::{MemoryExecutor, UNEXECUTABLE, diff},
    sequencer::ScriptedSequencer,
};

pub const ALICE: Address = Address::repeat_byte(0xa1);
pub const BOB: Address = Address::repeat_byte(0xb0);

pub fn spec() -> ChainSpec {
    let json = r#"{
        "config": {"chainId": 7077, "londonBlock": 0, "terminalTotalDifficulty": 0, "shanghaiTime": 0, "cancunTime": 0, "millrace": {"gasLimit": 30000000}},
        "difficulty": "0x0", "gasLimit": "0x1c9c380",
        "alloc": {"0x00000000000000000000000000000000000000a1": {"balance": "0xde0b6b3a7640000"}}
    }"#;
    ChainSpec::from_json(json.as_bytes()).unwrap()
}

pub fn transfer(nonce: u64) -> Arc<RecoveredTx> {
    tx(nonce, TxKind::Call(BOB))
}

pub fn tx(nonce: u64, to: TxKind) -> Arc<RecoveredTx> {
    let tx = TxEip1559 { chain_id: 7077, nonce, gas_limit: 21_000, to, ..TxEip1559::default() };
    let signed = Signed::new_unhashed(tx, Signature::test_signature());
    Arc::new(RecoveredTx::new_unchecked(TxEnvelope::Eip1559(signed), ALICE))
}

pub fn deposit() -> Arc<RecoveredTx> {
    let tx = TxDeposit { from: BOB, mint: 5, value: U256::from(5), ..TxDeposit::default() };
    Arc::new(RecoveredTx::new_unchecked(tx.into(), BOB))
}

pub fn receipt(tx: &RecoveredTx, cumulative_gas_used: u64) -> Receipt {
    let log = Log::new_unchecked(BOB, vec![B256::repeat_byte(1)], b"hello".to_vec().into());
    let tx_type = if tx.tx().is_deposit() { TxType::Deposit } else { TxType::Eip1559 };
    Receipt { tx_type, success: true, cumulative_gas_used, logs: vec![log] }
}

/// A block over a parent, each transaction using 21000 gas.
pub fn block(parent: &SealedHeader, transactions: Vec<Arc<RecoveredTx>>) -> Arc<ExecutedBlock> {
    let gas = |count: usize| 21_000 * count as u64;
    let receipts =
        transactions.iter().enumerate().map(|(index, tx)| receipt(tx, gas(index + 1))).collect();
    let header = Header {
        number: parent.number + 1,
        parent_hash: parent.seal(),
        timestamp: parent.timestamp + 1,
        gas_limit: 30_000_000,
        gas_used: gas(transactions.len()),
        base_fee_per_gas: Some(7),
        ..Header::default()
    };
    Arc::new(ExecutedBlock { header: header.seal_slow(), transactions, receipts })
}

pub fn genesis() -> Arc<ExecutedBlock> {
    let header = Header { gas_limit: 30_000_000, ..Header::default() };
    Arc::new(ExecutedBlock { header: header.seal_slow(), transactions: vec![], receipts: vec![] })
}

pub fn attributes(parent: &SealedHeader) -> BlockAttributes {
    BlockAttributes::rollup(&spec(), parent, parent.timestamp + 1, QueueMark::default())
}

//! A small chain, its keys, and transactions on it.

use std::sync::Arc;

use alloy::{
    consensus::{SignableTransaction, Signed, TxEip1559},
    primitives::{Address, B256, Bytes, Signature, TxKind, U256, address, bytes},
    signers::{SignerSync, local::PrivateKeySigner},
};
use eyre::Result;
use millrace_proto::{
    BlockAttributes, ChainSpec, ExecutedBlock, Executor, QueueMark, RecoveredTx, SealedHeader,
    TxDeposit, TxEnvelope,
};
use serde_json::json;

pub(crate) const CHAIN_ID: u64 = 7077;
pub(crate) const BOB: Address = Address::repeat_byte(0xb0);
pub(crate) const ETHER: u128 = 1_000_000_000_000_000_000;
pub(crate) const GAS_LIMIT: u64 = 30_000_000;

/// `sstore(0, calldataload(0))`
pub(crate) const STORE: Address = address!("00000000000000000000000000000000000a0001");
/// `log1(0, 0, calldataload(0))`
pub(crate) const LOG: Address = address!("00000000000000000000000000000000000a0002");
/// Reverts with its call data.
pub(crate) const REVERT: Address = address!("00000000000000000000000000000000000a0003");

/// A funded key.
pub(crate) fn alice() -> PrivateKeySigner {
    key(1)
}

/// A key without funds.
pub(crate) fn pauper() -> PrivateKeySigner {
    key(2)
}

fn key(number: u64) -> PrivateKeySigner {
    PrivateKeySigner::from_bytes(&B256::from(U256::from(number)))
        .expect("small numbers are valid keys")
}

/// Prague from genesis on.
pub(crate) fn spec() -> Result<Arc<ChainSpec>> {
    let genesis = json!({
        "config": {
            "chainId": CHAIN_ID,
            "homesteadBlock": 0, "eip150Block": 0, "eip155Block": 0, "eip158Block": 0,
            "byzantiumBlock": 0, "constantinopleBlock": 0, "petersburgBlock": 0, "istanbulBlock": 0,
            "berlinBlock": 0, "londonBlock": 0, "mergeNetsplitBlock": 0,
            "terminalTotalDifficulty": 0, "terminalTotalDifficultyPassed": true,
            "shanghaiTime": 0, "cancunTime": 0, "pragueTime": 0,
            "millrace": { "gasLimit": GAS_LIMIT, "feeRecipient": "0x00000000000000000000000000000000000000fe" },
        },
        "nonce": "0x0", "timestamp": "0x65000000", "extraData": "0x", "gasLimit": "0x1c9c380",
        "difficulty": "0x0", "mixHash": B256::ZERO, "coinbase": Address::ZERO,
        "alloc": {
            (alice().address().to_string()): { "balance": U256::from(1000 * ETHER) },
            (STORE.to_string()): { "balance": "0x0", "code": bytes!("60003560005500") },
            (LOG.to_string()): { "balance": "0x0", "code": bytes!("60003560006000a100") },
            (REVERT.to_string()): { "balance": "0x0", "code": bytes!("366000600037366000fd") },
        },
    });
    Ok(Arc::new(ChainSpec::from_json(genesis.to_string().as_bytes())?))
}

/// A transfer of one wei to [`BOB`] that any other can be made from.
pub(crate) fn plain(nonce: u64) -> TxEip1559 {
    TxEip1559 {
        chain_id: CHAIN_ID,
        nonce,
        gas_limit: 21_000,
        max_fee_per_gas: 10_000_000_000,
        max_priority_fee_per_gas: 1_000_000,
        to: TxKind::Call(BOB),
        value: U256::from(1),
        ..TxEip1559::default()
    }
}

/// A call of a contract with one word.
pub(crate) fn call(nonce: u64, to: Address, word: u64) -> TxEip1559 {
    TxEip1559 {
        gas_limit: 100_000,
        to: TxKind::Call(to),
        value: U256::ZERO,
        input: word_bytes(word),
        ..plain(nonce)
    }
}

pub(crate) fn word_bytes(word: u64) -> Bytes {
    U256::from(word).to_be_bytes::<32>().into()
}

pub(crate) fn sign_as<T: SignableTransaction<Signature>>(
    key: &PrivateKeySigner,
    tx: T,
    envelope: fn(Signed<T>) -> TxEnvelope,
) -> Result<Arc<RecoveredTx>> {
    let signature = key.sign_hash_sync(&tx.signature_hash())?;
    Ok(Arc::new(RecoveredTx::recover(envelope(tx.into_signed(signature)))?))
}

/// Signed by [`alice`].
pub(crate) fn signed(tx: TxEip1559) -> Result<Arc<RecoveredTx>> {
    sign_as(&alice(), tx, TxEnvelope::Eip1559)
}

pub(crate) fn deposit(value: u128) -> Arc<RecoveredTx> {
    let tx = TxDeposit {
        source_hash: B256::from(U256::from(value)),
        from: BOB,
        to: TxKind::Call(BOB),
        mint: value,
        value: U256::from(value),
        gas_limit: 21_000,
        is_system_transaction: false,
        input: Bytes::new(),
    };
    Arc::new(RecoveredTx::new_unchecked(tx.into(), BOB))
}

/// The attributes of the block after `parent`.
pub(crate) fn attributes(
    spec: &ChainSpec,
    parent: &SealedHeader,
    deposits_end: u64,
) -> BlockAttributes {
    let hash = B256::from(U256::from(deposits_end));
    let queue = QueueMark { end: deposits_end, hash, forced: 0 };
    BlockAttributes::rollup(spec, parent, parent.timestamp + 1, queue)
}

/// Builds a block of transactions by [`alice`], all of which must fit.
pub(crate) async fn extend(
    executor: &dyn Executor,
    transactions: Vec<TxEip1559>,
) -> Result<Arc<ExecutedBlock>> {
    let spec = executor.spec().await?;
    let count = transactions.len();
    let mut build = executor.open_block(attributes(&spec, &executor.head().await?, 0)).await?;
    build.execute(transactions.into_iter().map(signed).collect::<Result<_>>()?).await?;
    let block = build.seal().await?;
    eyre::ensure!(block.transactions.len() == count, "a transaction was left out");
    Ok(block)
}

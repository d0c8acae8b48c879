//! What the executor's tests share: chains, wallets, contracts.

#![allow(dead_code, reason = "each test binary uses a part of it")]

pub(crate) mod contracts;
pub(crate) mod wallet;

use std::sync::Arc;

use alloy::primitives::{Address, B256, Bytes, U256, address};
use millrace_proto::{ChainSpec, RecoveredTx, TxDeposit, TxEnvelope};
use serde_json::{Value, json};

use self::wallet::Wallet;

pub(crate) const CHAIN_ID: u64 = 7357;
pub(crate) const FEE_RECIPIENT: Address = address!("00000000000000000000000000000000000000fe");
pub(crate) const ETHER: u128 = 1_000_000_000_000_000_000;

/// A chain at `fork` ("shanghai", "cancun", "prague", "osaka") from genesis on, where wallets 0 to 9 have 1000 ether each
/// and `contracts` hold code.
pub(crate) fn spec(fork: &str, rollup: bool, contracts: &[(Address, Bytes)]) -> Arc<ChainSpec> {
    let mut alloc = serde_json::Map::new();
    for index in 0..10 {
        let balance = U256::from(1000 * ETHER);
        alloc.insert(Wallet::new(index).address().to_string(), json!({ "balance": balance }));
    }
    for (address, code) in contracts {
        alloc
            .insert(address.to_string(), json!({ "balance": "0x0", "nonce": "0x1", "code": code }));
    }
    let mut config = json!({
        "chainId": CHAIN_ID,
        "homesteadBlock": 0, "eip150Block": 0, "eip155Block": 0, "eip158Block": 0,
        "byzantiumBlock": 0, "constantinopleBlock": 0, "petersburgBlock": 0, "istanbulBlock": 0,
        "berlinBlock": 0, "londonBlock": 0, "mergeNetsplitBlock": 0,
        "terminalTotalDifficulty": 0, "terminalTotalDifficultyPassed": true,
    });
    for name in ["shanghai", "cancun", "prague", "osaka"] {
        config[format!("{name}Time")] = json!(0);
        if name == fork {
            break;
        }
    }
    if rollup {
        config["millrace"] = json!({ "feeRecipient": FEE_RECIPIENT, "gasLimit": 30_000_000 });
    }
    let genesis: Value = json!({
        "config": config,
        "nonce": "0x0",
        "timestamp": "0x65000000",
        "extraData": "0x",
        "gasLimit": "0x1c9c380",
        "difficulty": "0x0",
        "mixHash": B256::ZERO,
        "coinbase": Address::ZERO,
        "alloc": alloc,
    });
    Arc::new(ChainSpec::from_json(genesis.to_string().as_bytes()).expect("a valid genesis"))
}

/// A deposit; `index` makes it unique.
pub(crate) fn deposit(
    index: u64,
    from: Address,
    to: Address,
    value: u128,
    gas: u64,
    data: &[u8],
) -> Arc<RecoveredTx> {
    let tx = TxDeposit {
        source_hash: B256::from(U256::from(index + 1)),
        from,
        to: to.into(),
        mint: value,
        value: U256::from(value),
        gas_limit: gas,
        is_system_transaction: false,
        input: Bytes::copy_from_slice(data),
    };
    Arc::new(RecoveredTx::new_unchecked(TxEnvelope::from(tx), from))
}

/// A 32-byte word.
pub(crate) fn word(value: u64) -> Bytes {
    Bytes::copy_from_slice(&U256::from(value).to_be_bytes::<32>())
}

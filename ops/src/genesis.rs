//! The development chains' genesis.

use std::collections::BTreeMap;

use alloy::{
    eips::{eip2935, eip4788},
    genesis::{Genesis, GenesisAccount},
    primitives::{Address, B256, Bytes, U256, address, bytes},
};
use eyre::{Result, WrapErr};
use millrace_l1::contracts::{BridgedToken, L2TokenBridge, MessagePasser};
use millrace_proto::{
    BRIDGED_TOKEN, BatchPayload, ChainSpec, MESSAGE_PASSER, RollupParams, TOKEN_BRIDGE,
};
use serde_json::json;

use crate::keys::{DEV_KEYS, DEV_L1_CHAIN_ID, DEV_ROLLUP_CHAIN_ID, dev_signer};

/// The deterministic deployment proxy (github.com/Arachnid/deterministic-deployment-proxy), where deploy tools expect it.
const CREATE2_FACTORY: Address = address!("4e59b44847b379578588920cA78FbF26c0B4956C");
const CREATE2_FACTORY_CODE: Bytes = bytes!(
    "7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffe03601600081602082378035828234f58015156039578182fd5b8082525050506014600cf3"
);

/// Ether that each development key has on each development chain.
const DEV_BALANCE_ETH: u64 = 10_000;

/// The dev rollup. Every start on a fresh folder gives the same genesis block for a payload and a gas limit, which is a default one if there is none.
pub(crate) fn dev_rollup(batch_payload: BatchPayload, gas_limit: Option<u64>) -> Result<ChainSpec> {
    let params = RollupParams {
        fee_recipient: address!("4200000000000000000000000000000000000011"),
        batch_payload,
        gas_limit: gas_limit.unwrap_or(match batch_payload {
            BatchPayload::Transactions => RollupParams::default().gas_limit,
            BatchPayload::StateDiffs => 40_000_000,
        }),
        ..RollupParams::default()
    };
    let mut genesis = base(DEV_ROLLUP_CHAIN_ID, params.gas_limit)?;
    genesis.base_fee_per_gas = Some(u128::from(params.min_base_fee));
    genesis.config.extra_fields.insert(
        "millrace".into(),
        serde_json::to_value(params).wrap_err("rollup parameters are not JSON")?,
    );
    let predeploys = [
        (MESSAGE_PASSER, &MessagePasser::DEPLOYED_BYTECODE),
        (TOKEN_BRIDGE, &L2TokenBridge::DEPLOYED_BYTECODE),
        (BRIDGED_TOKEN, &BridgedToken::DEPLOYED_BYTECODE),
    ];
    genesis.alloc.extend(predeploys.map(|(address, code)| (address, contract(code))));
    Ok(ChainSpec::new(genesis)?)
}

/// The embedded dev L1: an Ethereum chain with Osaka's rules.
pub(crate) fn dev_l1() -> Result<ChainSpec> {
    let mut genesis = base(DEV_L1_CHAIN_ID, 60_000_000)?;
    genesis.config.osaka_time = Some(0);
    Ok(ChainSpec::new(genesis)?)
}

/// A contract that is there from the beginning.
fn contract(code: &Bytes) -> GenesisAccount {
    GenesisAccount { nonce: Some(1), code: Some(code.clone()), ..GenesisAccount::default() }
}

fn base(chain_id: u64, gas_limit: u64) -> Result<Genesis> {
    let mut genesis: Genesis = serde_json::from_value(json!({
        "config": {
            "chainId": chain_id,
            "homesteadBlock": 0, "eip150Block": 0, "eip155Block": 0, "eip158Block": 0, "byzantiumBlock": 0,
            "constantinopleBlock": 0, "petersburgBlock": 0, "istanbulBlock": 0, "berlinBlock": 0,
            "londonBlock": 0, "mergeNetsplitBlock": 0, "shanghaiTime": 0, "cancunTime": 0, "pragueTime": 0,
            "terminalTotalDifficulty": 0, "terminalTotalDifficultyPassed": true,
        },
        "nonce": "0x0", "timestamp": "0x0", "extraData": "0x", "difficulty": "0x0",
        "gasLimit": format!("{gas_limit:#x}"), "mixHash": B256::ZERO, "coinbase": Address::ZERO, "alloc": {},
    }))
    .wrap_err("the built-in genesis does not parse")?;
    let mut alloc = BTreeMap::from([
        (eip4788::BEACON_ROOTS_ADDRESS, contract(&eip4788::BEACON_ROOTS_CODE)),
        (eip2935::HISTORY_STORAGE_ADDRESS, contract(&eip2935::HISTORY_STORAGE_CODE)),
        (CREATE2_FACTORY, contract(&CREATE2_FACTORY_CODE)),
    ]);
    let balance = U256::from(DEV_BALANCE_ETH) * U256::from(10).pow(U256::from(18));
    for index in 0..DEV_KEYS {
        alloc.insert(
            dev_signer(index)?.address(),
            GenesisAccount { balance, ..GenesisAccount::default() },
        );
    }
    genesis.alloc = alloc;
    Ok(genesis)
}

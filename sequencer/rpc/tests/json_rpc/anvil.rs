//! The same transactions on anvil, another implementation, and on a chain of ours: what each answers.

use alloy::{
    eips::Encodable2718,
    network::{EthereumWallet, NetworkTransactionBuilder, TransactionBuilder},
    primitives::{Address, Bytes, TxHash, U256, address, bytes},
    rpc::types::TransactionRequest,
};
use millrace_l1::testing::{Anvil, AnvilOptions};
use millrace_rpc::RpcConfig;
use serde_json::{Value, json};

use crate::support::{CHAIN_ID, Chain, SOMEBODY, counter};

pub(crate) const FEE_RECIPIENT: Address = address!("00000000000000000000000000000000000000fe");
pub(crate) const GAS_LIMIT: u64 = 60_000_000;
/// Of the first block, where the genesis block has 1 gwei and uses no gas.
const FIRST_BASE_FEE: &str = "875000000";
pub(crate) const GAS_PRICE: u128 = 5_000_000_000;

/// Both chains, with the same account that pays, the same fee recipient, and the base fee's rules of L1.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) ours: Chain,
    pub(crate) anvil: Anvil,
    nonce: u64,
}

impl Pair {
    pub(crate) async fn start() -> Self {
        let rules = json!({
            "feeRecipient": FEE_RECIPIENT, "gasLimit": GAS_LIMIT, "baseFeeChangeDenominator": 8, "minBaseFee": 1
        });
        let ours = Chain::of(RpcConfig::default(), None, rules).await;
        let gas_limit = GAS_LIMIT.to_string();
        let anvil = Anvil::start(AnvilOptions {
            hardfork: Some("prague".to_owned()),
            chain_id: Some(CHAIN_ID),
            args: ["--gas-limit", &gas_limit, "--base-fee", FIRST_BASE_FEE, "--steps-tracing"]
                .map(str::to_owned)
                .to_vec(),
            ..AnvilOptions::default()
        })
        .expect("anvil runs");
        let pair = Self { ours, anvil, nonce: 0 };
        let (rich, balance) = (pair.sender(), U256::from(10).pow(U256::from(24)));
        pair.anvil("anvil_setBalance", json!([rich, balance])).await;
        pair.anvil("anvil_setCoinbase", json!([FEE_RECIPIENT])).await;
        pair
    }

    pub(crate) fn sender(&self) -> Address {
        self.ours.signer.address()
    }

    /// The address of the contract that the next transaction creates.
    pub(crate) fn next_contract(&self) -> Address {
        self.sender().create(self.nonce)
    }

    /// Sends a transaction, at a price that does not follow the base fee, to both; each makes a block of it.
    pub(crate) async fn send(&mut self, request: TransactionRequest) -> TxHash {
        let gas_limit = request.gas.unwrap_or(3_000_000);
        let priced = request.max_fee_per_gas.is_some() || request.gas_price.is_some();
        let mut request =
            request.with_nonce(self.nonce).with_chain_id(CHAIN_ID).with_gas_limit(gas_limit);
        if !priced {
            request = request.with_gas_price(GAS_PRICE);
        }
        self.nonce += 1;
        let wallet = EthereumWallet::from(self.ours.signer.clone());
        let raw: Bytes = request.build(&wallet).await.expect("it signs").encoded_2718().into();
        let ours = self.ours.result("eth_sendRawTransaction", json!([raw])).await;
        let theirs = self.anvil("eth_sendRawTransaction", json!([raw])).await;
        assert_eq!(ours, theirs, "hashes");
        // Anvil answers before it has made the block.
        while self.anvil("eth_getTransactionReceipt", json!([theirs])).await.is_null() {
            tokio::task::yield_now().await;
        }
        serde_json::from_value(ours).expect("a hash")
    }

    pub(crate) async fn anvil(&self, method: &'static str, params: Value) -> Value {
        let result = self.anvil.rpc(method, params).await;
        result.unwrap_or_else(|error| panic!("anvil: {method}: {error}"))
    }

    /// What both answer: ours first.
    pub(crate) async fn both(&self, method: &'static str, params: Value) -> (Value, Value) {
        (self.ours.result(method, params.clone()).await, self.anvil(method, params).await)
    }
}

/// Where two answers differ: paths such as `calls.0.gasUsed`, with what is there in each.
pub(crate) fn differences(ours: &Value, theirs: &Value) -> Vec<(String, Value, Value)> {
    fn at(path: &str, key: &str) -> String {
        if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
    }
    fn collect(path: &str, ours: &Value, theirs: &Value, all: &mut Vec<(String, Value, Value)>) {
        match (ours, theirs) {
            (Value::Object(a), Value::Object(b)) => {
                for key in a.keys().chain(b.keys().filter(|key| !a.contains_key(*key))) {
                    let missing = json!("(missing)");
                    let (a, b) = (a.get(key).unwrap_or(&missing), b.get(key).unwrap_or(&missing));
                    collect(&at(path, key), a, b, all);
                }
            }
            (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
                for (index, (a, b)) in a.iter().zip(b).enumerate() {
                    collect(&at(path, &index.to_string()), a, b, all);
                }
            }
            (a, b) if a == b => {}
            (a, b) => all.push((path.to_owned(), a.clone(), b.clone())),
        }
    }
    let mut all = Vec::new();
    collect("", ours, theirs, &mut all);
    all
}

/// A difference that there is to be: its path, where `*` stands for any one part, and why.
pub(crate) type Allowed = (&'static str, &'static str);

fn fits(path: &str, pattern: &str) -> bool {
    let (path, pattern) = (path.split('.'), pattern.split('.'));
    path.clone().count() == pattern.clone().count()
        && path.zip(pattern).all(|(part, wanted)| wanted == "*" || part == wanted)
}

/// Checks that answers differ only where they may.
#[track_caller]
pub(crate) fn assert_same(what: &str, ours: &Value, theirs: &Value, allowed: &[Allowed]) {
    let mut found = differences(ours, theirs);
    found.retain(|(path, ..)| !allowed.iter().any(|(pattern, _)| fits(path, pattern)));
    let shown: Vec<_> = found
        .iter()
        .take(10)
        .map(|(path, ours, theirs)| format!("{path}: ours {ours}, anvil's {theirs}"))
        .collect();
    assert!(found.is_empty(), "{what}: {} differences\n{}", found.len(), shown.join("\n"));
}

/// A contract that does all that a tracer tells of, with the contract whose address is the first word of its input: it calls, reads and
/// borrows it, calls it so that it reverts, calls a precompile, pays an account that does not exist, creates one contract that destroys itself and
/// one whose creation reverts, writes a slot and reads it again, and returns the word that it was told.
pub(crate) fn caller() -> Bytes {
    let runtime = alloy::primitives::hex!(
        "60006000600060006000600035 5af150" // call(target, no data)
        "6001600053 6020602060016000600035 5afa50" // mem[0] = 1; staticcall(target, 1 byte, to 32)
        "6000600060006000600035 5af450" // delegatecall(target, no data)
        "6002600053 600060006001600060006000355af150" // mem[0] = 2; call(target, 1 byte)
        "60206040602060206000600 45af150" // call(identity, 32 bytes)
        "600060006000600060016 1beef5af150" // call(0xbeef, 1 wei)
        "6133ff600052 6002601e6001f050" // create(1 wei, selfdestruct(caller()))
        "6460006000fd600052 6005601b6000f050" // create(0, revert)
        "602051600155 60015450" // sstore(1, mem[32]); sload(1)
        "60206020f3"
    );
    crate::support::deployment(&runtime)
}

/// Transactions of all kinds, a block each.
pub(crate) async fn history(pair: &mut Pair) -> Vec<(&'static str, TxHash)> {
    let plain = TransactionRequest::default;
    let to = |address: Address| plain().with_to(address);
    let counter_at = pair.next_contract();
    let mut sent = vec![("deployment", pair.send(plain().with_deploy_code(counter())).await)];
    let caller_at = pair.next_contract();
    let target = counter_at.into_word().to_vec();
    let (everything, value) = (to(caller_at).with_input(target), U256::from(10));
    let poor = everything.clone().with_gas_limit(70_000);
    for (what, request) in [
        ("deployment of the caller", plain().with_deploy_code(caller())),
        ("log", to(counter_at)),
        ("revert", to(counter_at).with_input(bytes!("02"))),
        ("everything", everything.clone().with_value(value)),
        ("everything again", everything.with_value(value)),
        ("out of gas", poor.with_value(value)),
        ("transfer", to(SOMEBODY).with_value(value)),
        ("transfer again", to(SOMEBODY).with_value(value)),
        ("failed deployment", plain().with_deploy_code(bytes!("60006000fd"))),
        ("precompile", to(Address::with_last_byte(2)).with_input(bytes!("1234"))),
    ] {
        sent.push((what, pair.send(request).await));
    }
    sent
}

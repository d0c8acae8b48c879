//! Calls, estimates and access lists.

use alloy::{
    primitives::{Address, B256, Bytes, KECCAK256_EMPTY, TxKind, U256, hex},
    rpc::types::{
        BlockOverrides, TransactionRequest,
        state::{AccountOverride, StateOverride},
    },
};
use millrace_proto::{
    BlockSelector, CallOutcome, CallRequest, CallStatus, Executor, ExecutorError, GasEstimate,
};

use crate::{
    chain::Chain,
    support::{
        ETHER,
        contracts::{ENV, LOOP, NESTED, REVERT, STORE, deploy},
        wallet::{MAX_FEE, Wallet},
        word,
    },
};

const LATEST: BlockSelector = BlockSelector::Latest;

fn request(to: Address, input: impl Into<Bytes>) -> TransactionRequest {
    TransactionRequest::default().from(Wallet::new(0).address()).to(to).input(input.into().into())
}

fn plain(transaction: TransactionRequest) -> CallRequest {
    CallRequest { transaction, ..CallRequest::default() }
}

async fn call(chain: &Chain, transaction: TransactionRequest) -> CallOutcome {
    chain.executor.call(plain(transaction), LATEST).await.expect("it runs")
}

async fn estimate(chain: &Chain, transaction: TransactionRequest) -> u64 {
    match chain.executor.estimate_gas(plain(transaction), LATEST).await.expect("it runs") {
        GasEstimate::Gas(gas) => gas,
        GasEstimate::Fails(outcome) => panic!("it fails: {outcome:?}"),
    }
}

/// The words that ENV returns.
fn words(outcome: &CallOutcome) -> Vec<U256> {
    assert_eq!(outcome.status, CallStatus::Success);
    outcome.output.chunks(32).map(U256::from_be_slice).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_sees_the_block_that_it_names() {
    let chain = Chain::new();
    let a = Wallet::new(0);
    let first = chain.valid_block(&[a.transfer(0, ENV, 7)]).await;
    let second = chain.block(&[]).await;
    let env = words(&call(&chain, request(ENV, Bytes::new())).await);
    assert_eq!(env[0], U256::from(2));
    assert_eq!(env[1], U256::from(second.header.timestamp));
    // Without a gas price the call costs nothing, and sees no base fee.
    assert_eq!((env[2], env[5]), (U256::ZERO, U256::ZERO));
    assert_eq!(env[6], U256::from_be_bytes(first.hash().0));

    let at_first = plain(request(ENV, Bytes::new()));
    let at = BlockSelector::Hash(first.hash());
    let env = words(&chain.executor.call(at_first, at).await.expect("it runs"));
    assert_eq!(env[0], U256::from(1));

    let priced = request(ENV, Bytes::new()).gas_price(MAX_FEE);
    let env = words(&call(&chain, priced).await);
    assert_eq!(env[2], U256::from(second.header.base_fee_per_gas.expect("after London")));
    assert_eq!(env[5], U256::from(MAX_FEE));
    let unknown = chain.executor.call(plain(request(ENV, Bytes::new())), BlockSelector::Number(9));
    assert!(matches!(unknown.await, Err(ExecutorError::UnknownBlock(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_changes_nothing() {
    let chain = Chain::new();
    assert_eq!(call(&chain, request(STORE, word(5))).await.status, CallStatus::Success);
    let slot = chain.executor.storage(STORE, B256::ZERO, LATEST).await.expect("it reads");
    assert_eq!(slot, U256::ZERO);
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_say_why() {
    let chain = Chain::new();
    let reverted = call(&chain, request(REVERT, b"because".to_vec())).await;
    assert_eq!(reverted.status, CallStatus::Reverted);
    assert_eq!(reverted.output.as_ref(), b"because");
    let halted = call(&chain, request(LOOP, Bytes::new()).gas_limit(50_000)).await;
    assert!(matches!(halted.status, CallStatus::Halted(_)), "{halted:?}");
    assert_eq!(halted.gas_used, 50_000);

    let poor = TransactionRequest::default().from(Address::repeat_byte(9)).to(STORE);
    let invalid = [
        poor.clone().value(U256::from(1)),
        poor.gas_price(MAX_FEE),
        request(STORE, Bytes::new()).gas_limit(20_000),
        request(STORE, Bytes::new()).gas_price(1),
        request(STORE, Bytes::new()).gas_price(MAX_FEE).max_fee_per_gas(MAX_FEE),
        TransactionRequest { chain_id: Some(1), ..request(STORE, Bytes::new()) },
    ];
    for transaction in invalid {
        let result = chain.executor.call(plain(transaction.clone()), LATEST).await;
        assert!(
            matches!(result, Err(ExecutorError::InvalidRequest(_))),
            "{transaction:?}: {result:?}"
        );
    }
    // The nonce does not matter, and a contract may be the sender.
    let odd = TransactionRequest { nonce: Some(77), ..request(STORE, word(1)).from(LOOP) };
    assert_eq!(call(&chain, odd).await.status, CallStatus::Success);
}

#[tokio::test(flavor = "multi_thread")]
async fn estimates_are_enough_and_no_less_would_be() {
    let chain = Chain::new();
    let a = Wallet::new(0);
    let cases = [
        (request(Address::repeat_byte(1), Bytes::new()).value(U256::from(5)), "transfer"),
        (request(STORE, word(1)), "store"),
        (request(NESTED, word(1)), "nested"),
        (
            TransactionRequest {
                to: Some(TxKind::Create),
                ..request(Address::ZERO, deploy(&hex!("6001600055")))
            },
            "create",
        ),
        // Bound by EIP-7623's floor, not by execution.
        (request(Address::repeat_byte(1), vec![1; 500]), "data"),
    ];
    for (nonce, (transaction, name)) in (0..).zip(cases) {
        let gas = estimate(&chain, transaction.clone()).await;
        let mut less = call(&chain, transaction.clone().gas_limit(gas)).await;
        assert_eq!(less.status, CallStatus::Success, "{name}");
        let short = plain(transaction.clone().gas_limit(gas - 1));
        if let Ok(outcome) = chain.executor.call(short, LATEST).await {
            less = outcome;
            assert_ne!(less.status, CallStatus::Success, "{name}");
        }
        // It holds for a real transaction.
        let input = transaction.input.input().cloned().unwrap_or_default();
        let value = transaction.value.unwrap_or_default().to::<u128>();
        let to = transaction.to.expect("it has a recipient");
        let block = chain.valid_block(&[a.send(nonce, to, value, gas, &input)]).await;
        assert!(block.receipts[0].success, "{name}");
    }
    assert_eq!(estimate(&chain, request(Address::repeat_byte(2), Bytes::new())).await, 21_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_estimate_of_what_fails_says_how() {
    let chain = Chain::new();
    let failing = plain(request(REVERT, b"because".to_vec()));
    let result = chain.executor.estimate_gas(failing, LATEST).await.expect("it runs");
    let GasEstimate::Fails(outcome) = result else { panic!("{result:?}") };
    assert_eq!(outcome.status, CallStatus::Reverted);
    assert_eq!(outcome.output.as_ref(), b"because");
    // What the sender can pay for bounds the search.
    let poor = Address::repeat_byte(9);
    let balance = U256::from(MAX_FEE * 30_000);
    let state_overrides =
        StateOverride::from_iter([(poor, AccountOverride::default().with_balance(balance))]);
    let too_dear = CallRequest {
        transaction: request(STORE, word(1)).from(poor).gas_price(MAX_FEE),
        state_overrides: Some(state_overrides),
        ..CallRequest::default()
    };
    let result = chain.executor.estimate_gas(too_dear, LATEST).await.expect("it runs");
    let GasEstimate::Fails(outcome) = result else { panic!("{result:?}") };
    assert_eq!(outcome.gas_used, 30_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn access_lists_name_what_a_call_touches() {
    let chain = Chain::new();
    let result = chain
        .executor
        .create_access_list(plain(request(NESTED, word(1))), LATEST)
        .await
        .expect("it runs");
    assert_eq!(result.error, None);
    let list = &result.access_list.0;
    assert_eq!(list.len(), 1);
    assert_eq!(list[0].address, STORE);
    assert_eq!(list[0].storage_keys, [B256::ZERO]);
    // The gas is that of the call with the list.
    let mut with_list = request(NESTED, word(1));
    with_list.access_list = Some(result.access_list.clone());
    assert_eq!(U256::from(call(&chain, with_list).await.gas_used), result.gas_used);

    let failing = plain(request(REVERT, Bytes::new()));
    let result = chain.executor.create_access_list(failing, LATEST).await.expect("it runs");
    assert_eq!(result.error.as_deref(), Some("execution reverted"));
}

#[tokio::test(flavor = "multi_thread")]
async fn state_can_be_assumed() {
    let chain = Chain::new();
    let a = Wallet::new(0);
    chain.valid_block(&[a.send(0, STORE, 0, 100_000, &word(5))]).await;
    let nobody = Address::repeat_byte(9);
    // ENV's code in the place of STORE: it returns the caller's balance and slot 0.
    let code = chain.executor.code(ENV, LATEST).await.expect("it reads");
    let run = |account: AccountOverride| {
        let balance = AccountOverride::default().with_balance(U256::from(ETHER)).with_nonce(3);
        let account = account.with_code(code.clone());
        let request = CallRequest {
            transaction: request(STORE, Bytes::new()).from(nobody),
            state_overrides: Some(StateOverride::from_iter([(nobody, balance), (STORE, account)])),
            block_overrides: None,
        };
        chain.executor.call(request, LATEST)
    };
    let slot = (B256::ZERO, B256::from(U256::from(8)));
    let other = (B256::repeat_byte(1), B256::from(U256::from(8)));
    for (account, expected) in [
        (AccountOverride::default(), 5),
        (AccountOverride::default().with_state_diff([slot]), 8),
        (AccountOverride::default().with_state_diff([other]), 5),
        (AccountOverride::default().with_state([other]), 0),
    ] {
        let env = words(&run(account).await.expect("it runs"));
        assert_eq!((env[3], env[4]), (U256::from(ETHER), U256::from(expected)));
    }
    let both = AccountOverride::default().with_state([slot]).with_state_diff([slot]);
    assert!(matches!(run(both).await, Err(ExecutorError::InvalidRequest(_))));
    // The chain's own state is what it was.
    assert_eq!(chain.account(nobody, LATEST).await, None);
    let account = chain.account(a.address(), LATEST).await.expect("it exists");
    assert_eq!(account.code_hash, KECCAK256_EMPTY);
}

#[tokio::test(flavor = "multi_thread")]
async fn block_fields_can_be_assumed() {
    let chain = Chain::new();
    let block_overrides = BlockOverrides {
        number: Some(U256::from(1000)),
        time: Some(2000),
        base_fee: Some(U256::from(3000)),
        block_hash: Some([(999, B256::repeat_byte(4))].into()),
        ..BlockOverrides::default()
    };
    let request = CallRequest {
        transaction: request(ENV, Bytes::new()).gas_price(3000),
        state_overrides: None,
        block_overrides: Some(block_overrides),
    };
    let env = words(&chain.executor.call(request, LATEST).await.expect("it runs"));
    let expected = [1000, 2000, 3000].map(U256::from);
    assert_eq!(env[..3], expected);
    assert_eq!(env[6], U256::from_be_bytes(B256::repeat_byte(4).0));
}

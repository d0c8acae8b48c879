//! Traces: what is executed again is what was executed.

use std::{collections::BTreeMap, sync::Arc};

use alloy::{
    primitives::{Address, B256, Bytes, U256, hex},
    rpc::types::{
        BlockOverrides, TransactionRequest,
        state::{AccountOverride, StateOverride},
        trace::geth::{
            AccountState, CallConfig, CallFrame, DefaultFrame, DiffMode, GethDebugTracingOptions,
            PreStateConfig,
        },
    },
};
use millrace_executor::{CallConfig as Limits, ExecutorConfig, StoreConfig};
use millrace_proto::{
    BlockSelector, CallRequest, ExecutedBlock, Executor, ExecutorError, RecoveredTx, TraceLimit,
    TraceTarget,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::{
    chain::{Chain, store_config},
    support::{
        ETHER, FEE_RECIPIENT,
        contracts::{ENV, FACTORY, LOG, LOOP, NESTED, REVERT, STORE, deploy, mortal},
        deposit,
        wallet::Wallet,
        word,
    },
};

fn options(options: Value) -> GethDebugTracingOptions {
    serde_json::from_value(options).expect("options")
}

fn calls_with_logs() -> GethDebugTracingOptions {
    GethDebugTracingOptions::call_tracer(CallConfig::default().with_log())
}

fn diffs() -> GethDebugTracingOptions {
    let config = PreStateConfig { diff_mode: Some(true), ..PreStateConfig::default() };
    GethDebugTracingOptions::prestate_tracer(config)
}

async fn trace<T: DeserializeOwned>(
    chain: &Chain,
    target: TraceTarget,
    options: GethDebugTracingOptions,
) -> Result<T, ExecutorError> {
    let json = chain.executor.trace(target, options).await?;
    Ok(serde_json::from_str(json.get()).expect("the tracer's result"))
}

fn transaction(block: &ExecutedBlock, index: usize) -> TraceTarget {
    TraceTarget::Transaction { block: BlockSelector::Hash(block.hash()), index: index as u64 }
}

/// One block's trace of a transaction.
#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Traced<T> {
    tx_hash: B256,
    result: T,
}

/// Deposits that work, revert, create and cannot start; forced transactions, one of them invalid; and all that others do.
async fn eventful() -> (Chain, Arc<ExecutedBlock>) {
    let chain = Chain::new();
    let (a, b, c) = (Wallet::new(0), Wallet::new(1), Wallet::new(2));
    chain.valid_block(&[a.send(0, STORE, 0, 100_000, &word(3))]).await;
    let queued = vec![
        deposit(1, b.address(), STORE, 5, 100_000, &word(9)),
        deposit(2, b.address(), REVERT, 7, 100_000, b"no"),
        deposit(3, Address::repeat_byte(0xd0), FACTORY, ETHER, 500_000, &mortal()),
        // Its gas does not pay for its data.
        deposit(4, c.address(), STORE, 11, 21_000, &word(1)),
        c.send(1, STORE, 0, 100_000, &word(8)),
        c.send(7, STORE, 0, 100_000, &word(8)),
    ];
    let transactions = [
        a.transfer(1, Address::repeat_byte(7), 3),
        a.create(2, &deploy(&hex!("600160005500"))),
        a.create(3, &hex!("60006000fd")),
        b.send(2, NESTED, 0, 200_000, &word(4)),
        b.send(3, NESTED, 0, 30_000, &word(5)),
        b.send(4, LOOP, 0, 60_000, &[]),
        a.send(4, LOG, 2, 100_000, &word(6)),
        a.send(5, REVERT, 0, 100_000, &hex!("08c379a0")),
        a.send(6, STORE, 0, 100_000, &word(0)),
        a.send(7, FACTORY, 0, 500_000, &mortal()),
        a.send(8, FACTORY, 0, 500_000, &mortal()),
    ];
    let (block, _) = chain.block_with_queued(queued, &transactions).await;
    assert_eq!(block.transactions.len(), 5 + transactions.len(), "all but an invalid forced one");
    assert!(block.receipts.iter().filter(|receipt| !receipt.success).count() >= 5);
    (chain, block)
}

#[tokio::test(flavor = "multi_thread")]
async fn gas_status_and_logs_are_the_receipts() {
    let (chain, block) = eventful().await;
    let later = chain.valid_block(&[Wallet::new(0).send(9, STORE, 0, 100_000, &word(77))]).await;
    assert_eq!(later.number(), block.number() + 1);
    let whole: Vec<Traced<CallFrame>> =
        trace(&chain, TraceTarget::Block(BlockSelector::Number(block.number())), calls_with_logs())
            .await
            .expect("it traces");
    assert_eq!(whole.len(), block.transactions.len());
    let mut gas_before = 0;
    for (index, (tx, receipt)) in block.transactions.iter().zip(&block.receipts).enumerate() {
        let gas = receipt.cumulative_gas_used - gas_before;
        gas_before = receipt.cumulative_gas_used;
        let frame: CallFrame =
            trace(&chain, transaction(&block, index), calls_with_logs()).await.expect("it traces");
        assert_eq!(whole[index].tx_hash, tx.hash());
        assert_eq!(whole[index].result, frame, "transaction {index}: alone and with its block");
        assert_eq!(frame.gas_used, U256::from(gas), "transaction {index}");
        assert_eq!(frame.error.is_none(), receipt.success, "transaction {index}: {frame:?}");
        assert_eq!(frame.from, tx.sender());
        assert_eq!(logs(&frame), receipt.logs, "transaction {index}");

        let steps: DefaultFrame =
            trace(&chain, transaction(&block, index), options(json!({}))).await.expect("it traces");
        assert_eq!((steps.gas, steps.failed), (gas, !receipt.success), "transaction {index}");
    }
}

/// All logs of a call and what it called, in order.
fn logs(frame: &CallFrame) -> Vec<alloy::primitives::Log> {
    fn collect(frame: &CallFrame, all: &mut Vec<(u64, alloy::primitives::Log)>) {
        for log in &frame.logs {
            let topics = log.topics.clone().unwrap_or_default();
            let data = log.data.clone().unwrap_or_default();
            let address = log.address.expect("an address");
            let log_data = alloy::primitives::Log::new(address, topics, data).expect("a log");
            all.push((log.index.expect("an index"), log_data));
        }
        frame.calls.iter().for_each(|call| collect(call, all));
    }
    let mut all = Vec::new();
    collect(frame, &mut all);
    all.sort_by_key(|(index, _)| *index);
    all.into_iter().map(|(_, log)| log).collect()
}

/// The differences of a block's transactions, put one after the other on the state before it, give the state after it.
#[tokio::test(flavor = "multi_thread")]
async fn differences_lead_from_the_parents_state_to_the_blocks() {
    let (chain, block) = eventful().await;
    let at = BlockSelector::Number(block.number());
    let traced: Vec<Traced<DiffMode>> =
        trace(&chain, TraceTarget::Block(at), diffs()).await.expect("it traces");
    let mut accounts: BTreeMap<Address, AccountState> = BTreeMap::new();
    for Traced { result: DiffMode { pre, post }, .. } in traced {
        for (address, before) in &pre {
            if let Some(known) = accounts.get(address) {
                assert_eq!(known.balance, before.balance, "{address} before a transaction");
                assert_eq!(known.nonce.unwrap_or(0), before.nonce.unwrap_or(0), "{address}");
            }
            // What is in `pre` alone is gone.
            accounts.insert(*address, before.clone());
            if !post.contains_key(address) {
                accounts.insert(*address, AccountState::default());
            }
        }
        for (address, after) in post {
            let account = accounts.entry(address).or_default();
            account.balance = after.balance.or(account.balance);
            account.nonce = after.nonce.or(account.nonce);
        }
    }
    assert!(accounts.contains_key(&FEE_RECIPIENT), "whom the fees are paid to");
    for (address, account) in accounts {
        let real = chain.account(address, at).await.unwrap_or_default();
        assert_eq!(account.balance.unwrap_or_default(), real.balance, "{address}");
        assert_eq!(account.nonce.unwrap_or_default(), real.nonce, "{address}");
    }
}

fn call(to: Address, input: Bytes) -> CallRequest {
    let transaction =
        TransactionRequest::default().from(Wallet::new(5).address()).to(to).input(input.into());
    CallRequest { transaction, ..CallRequest::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_run_where_they_are_told_to() {
    let (chain, block) = eventful().await;
    let at = BlockSelector::Hash(block.hash());
    // What STORE holds, as ENV's code at its address tells it.
    let overrides = StateOverride::from_iter([(
        STORE,
        AccountOverride {
            code: Some(chain.executor.code(ENV, at).await.expect("code")),
            ..AccountOverride::default()
        },
    )]);
    let request = CallRequest {
        state_overrides: Some(overrides),
        block_overrides: Some(BlockOverrides { time: Some(12_345), ..BlockOverrides::default() }),
        ..call(STORE, Bytes::new())
    };
    let word_at = |frame: &CallFrame, index: usize| {
        let output = frame.output.clone().expect("output");
        U256::from_be_slice(&output[32 * index..32 * (index + 1)])
    };
    // Before the transactions 0, 1 and 5, and after all: 3, 9, 8 (forced), and 0 in the end.
    for (index, stored) in [(Some(0), 3), (Some(1), 9), (Some(5), 8), (None, 0)] {
        let target = TraceTarget::Call { request: Box::new(request.clone()), at, index };
        let frame: CallFrame = trace(&chain, target, calls_with_logs()).await.expect("it traces");
        assert_eq!(word_at(&frame, 4), U256::from(stored), "before {index:?}");
        assert_eq!(word_at(&frame, 1), U256::from(12_345));
        assert_eq!(word_at(&frame, 0), U256::from(block.number()));
    }
    let plain = call(NESTED, word(2));
    let outcome = chain.executor.call(plain.clone(), at).await.expect("it runs");
    let target = TraceTarget::Call { request: Box::new(plain), at, index: None };
    let frame: CallFrame = trace(&chain, target, calls_with_logs()).await.expect("it traces");
    assert_eq!(frame.gas_used, U256::from(outcome.gas_used));
    assert_eq!(frame.calls.len(), 1);
}

/// The largest depth that the gas of a call allows: what tells of it nests as deeply.
#[tokio::test(flavor = "multi_thread")]
async fn deep_calls_are_traced() {
    let chain = Chain::new();
    let at = BlockSelector::Latest;
    // Calls itself with all gas.
    let code = Bytes::from(hex!("60006000600060006000305af100").to_vec());
    let here = Address::repeat_byte(0xcc);
    let account = AccountOverride { code: Some(code), ..AccountOverride::default() };
    let state_overrides = Some(StateOverride::from_iter([(here, account)]));
    let request = Box::new(CallRequest { state_overrides, ..call(here, Bytes::new()) });
    let target = TraceTarget::Call { request, at, index: None };
    let traced = chain.executor.trace(target, calls_with_logs()).await.expect("it traces");
    let depth = traced.get().matches("\"type\":\"CALL\"").count();
    assert!(depth > 400, "{depth}");
}

async fn limited(limits: Limits) -> (Chain, Arc<ExecutedBlock>) {
    let chain = Chain::with_config(ExecutorConfig {
        store: store_config(),
        calls: limits,
        ..ExecutorConfig::default()
    });
    let a = Wallet::new(0);
    let transactions: Vec<Arc<RecoveredTx>> =
        (0..4).map(|nonce| a.send(nonce, LOOP, 0, 200_000, &[])).collect();
    let block = chain.valid_block(&transactions).await;
    (chain, block)
}

/// The limit that a trace of a transaction goes over.
async fn over(chain: &Chain, target: TraceTarget, asked: Value) -> TraceLimit {
    match trace::<Value>(chain, target, options(asked)).await {
        Err(ExecutorError::TraceLimit(limit)) => limit,
        Err(other) => panic!("{other}"),
        Ok(trace) => panic!("a trace of {} bytes", trace.to_string().len()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_trace_records_is_bounded() {
    let max_trace_bytes = 1 << 20;
    let (chain, block) = limited(Limits { max_trace_bytes, ..Limits::default() }).await;
    let expected = TraceLimit::Bytes(max_trace_bytes);
    assert_eq!(over(&chain, transaction(&block, 0), json!({})).await, expected);
    let every = TraceTarget::Block(BlockSelector::Latest);
    assert_eq!(over(&chain, every.clone(), json!({ "limit": 2_500 })).await, expected);
    for asked in [json!({ "limit": 1_000 }), json!({ "tracer": "callTracer" })] {
        let traced: Value =
            trace(&chain, transaction(&block, 3), options(asked)).await.expect("it is small");
        assert!(traced.to_string().len() < max_trace_bytes as usize);
    }
    let small: Vec<Traced<DefaultFrame>> =
        trace(&chain, every, options(json!({ "limit": 100 }))).await.expect("it is small");
    assert!(small.iter().all(|traced| traced.result.struct_logs.len() == 100));

    // Memory that grows, the code of accounts, and what calls carry.
    let at = BlockSelector::Latest;
    let traced = |code: Vec<u8>| {
        let here = Address::repeat_byte(0xcc);
        let account = AccountOverride { code: Some(code.into()), ..AccountOverride::default() };
        let state_overrides = Some(StateOverride::from_iter([(here, account)]));
        let mut request = Box::new(CallRequest { state_overrides, ..call(here, Bytes::new()) });
        request.transaction.gas = Some(3_000_000);
        TraceTarget::Call { request, at, index: None }
    };
    // Writes a byte at 100,000, then jumps about.
    let grown = traced(hex!("6001620186a053 5b600756").to_vec());
    assert_eq!(over(&chain, grown.clone(), json!({ "enableMemory": true })).await, expected);
    let few = json!({ "enableMemory": true, "limit": 3 });
    trace::<Value>(&chain, grown, options(few)).await.expect("nothing is recorded of it");
    // Calls the identity precompile with 100,000 bytes again and again.
    let loud = traced(hex!("5b 6000 6000 620186a0 6000 6000 6004 5a f1 50 6000 56").to_vec());
    assert_eq!(over(&chain, loud, json!({ "tracer": "callTracer" })).await, expected);
    let coded = traced(vec![0x5b; 1 << 20]);
    assert_eq!(over(&chain, coded.clone(), json!({ "tracer": "prestateTracer" })).await, expected);
    let codeless = json!({ "tracer": "prestateTracer", "tracerConfig": { "disableCode": true } });
    trace::<Value>(&chain, coded, options(codeless)).await.expect("it is small");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_and_the_gas_of_a_trace_are_bounded() {
    let max_trace_gas = 500_000;
    let (chain, block) = limited(Limits { max_trace_gas, ..Limits::default() }).await;
    let noop = json!({ "tracer": "noopTracer" });
    for index in [0, 1] {
        let traced = trace::<Value>(&chain, transaction(&block, index), options(noop.clone()));
        assert_eq!(traced.await.expect("it is within the limit"), json!({}));
    }
    let expected = TraceLimit::Gas(max_trace_gas);
    assert_eq!(over(&chain, transaction(&block, 2), noop.clone()).await, expected);
    let every = TraceTarget::Block(BlockSelector::Latest);
    assert_eq!(over(&chain, every, noop).await, expected);

    // A hundred million gas of jumps.
    let request = Box::new(call(LOOP, Bytes::new()));
    let forever = TraceTarget::Call { request, at: BlockSelector::Latest, index: None };
    let short = json!({ "tracer": "noopTracer", "timeout": "1us" });
    let limit = over(&chain, forever, short).await;
    assert!(matches!(limit, TraceLimit::Time(_)), "{limit}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_traced_is_refused() {
    let (chain, block) = limited(Limits::default()).await;
    let refused = |target, asked: Value| {
        let chain = &chain;
        async move { trace::<Value>(chain, target, options(asked)).await.expect_err("refused") }
    };
    let genesis = TraceTarget::Block(BlockSelector::Number(0));
    let error = refused(genesis, json!({})).await;
    assert!(matches!(&error, ExecutorError::InvalidRequest(why) if why.contains("genesis")));
    let error = refused(transaction(&block, 4), json!({})).await;
    assert!(matches!(&error, ExecutorError::InvalidRequest(why) if why.contains("index 4")));
    let error = refused(transaction(&block, 0), json!({ "tracer": "{}" })).await;
    assert!(matches!(&error, ExecutorError::InvalidRequest(why) if why.contains("JavaScript")));
    let error = refused(TraceTarget::Block(BlockSelector::Number(9)), json!({})).await;
    assert!(matches!(error, ExecutorError::UnknownBlock(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn state_that_is_not_kept_is_said_to_be() {
    let store = StoreConfig { history_blocks: Some(2), ..store_config() };
    let chain = Chain::with_config(ExecutorConfig { store, ..ExecutorConfig::default() });
    let a = Wallet::new(0);
    let first = chain.valid_block(&[a.transfer(0, STORE, 0)]).await;
    for nonce in 1..5 {
        chain.valid_block(&[a.transfer(nonce, STORE, 0)]).await;
    }
    let error = trace::<Value>(&chain, transaction(&first, 0), options(json!({}))).await;
    assert!(matches!(error, Err(ExecutorError::StatePruned { block: 0, .. })), "{error:?}");
}

//! L1 nodes that fail: everything waits, nothing is missed, doubled or sent twice.

mod common;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use alloy::primitives::Address;
use common::{BATCHER, Chain, Fault, FaultProxy, quick, soon, until};
use millrace_l1::{
    ClientOptions, L1Client, L1Error, L1Follower, RollupContract, TxManager, TxRequest,
    testing::{AnvilOptions, dev_signer, test_patience},
};
use serde_json::{Value, json};

/// Every 13th request fails, each time in another way.
fn mixed(number: u64, _: &str) -> Fault {
    if !number.is_multiple_of(13) {
        return Fault::None;
    }
    match (number / 13) % 5 {
        0 => Fault::Status(429),
        1 => Fault::Status(503),
        2 => Fault::Close,
        3 => Fault::Truncate,
        _ => Fault::LoseReply,
    }
}

fn client(proxy: &FaultProxy, options: ClientOptions) -> L1Client {
    L1Client::new(proxy.url.clone(), options).expect("client")
}

#[tokio::test]
async fn transient_errors_are_tried_again_and_others_are_not() {
    let chain = Chain::start(AnvilOptions::default()).await;
    for fault in [Fault::Status(429), Fault::Status(500), Fault::Close, Fault::Truncate] {
        let first = fault.clone();
        let script = move |number, _: &str| if number == 0 { first.clone() } else { Fault::None };
        let proxy = FaultProxy::start(chain.anvil.url().clone(), script).await;
        let id = client(&proxy, test_patience()).chain_id().await.expect("the second try");
        assert_eq!((id, proxy.requests()), (31_337, 2), "{fault:?}");
    }
    for fault in [Fault::Status(401), Fault::Error(-32601, "no such method")] {
        let always = fault.clone();
        let proxy =
            FaultProxy::start(chain.anvil.url().clone(), move |_, _: &str| always.clone()).await;
        let error = client(&proxy, test_patience()).chain_id().await.expect_err("refused");
        assert!(!error.is_retryable(), "{error}");
        assert_eq!(proxy.requests(), 1, "{fault:?}");
    }
    let proxy = FaultProxy::start(chain.anvil.url().clone(), |_, _| Fault::Status(503)).await;
    let error = client(&proxy, test_patience()).chain_id().await.expect_err("never");
    assert!(error.is_retryable(), "{error}");
    assert_eq!(proxy.requests(), 3, "as many tries as configured");
}

#[tokio::test]
async fn a_node_that_gives_few_blocks_logs_at_once_is_asked_for_fewer() {
    let chain = Chain::start(AnvilOptions::default()).await;
    chain.anvil.mine(20).await.expect("mined");
    let script = |_, request: &Value| {
        let block = |name: &str| {
            let text = request["params"][0][name].as_str()?;
            u64::from_str_radix(text.trim_start_matches("0x"), 16).ok()
        };
        match (block("fromBlock"), block("toBlock")) {
            (Some(from), Some(to)) if to - from >= 3 => {
                Fault::Error(-32602, "block range is too wide")
            }
            _ => Fault::None,
        }
    };
    let proxy = FaultProxy::start_reading(chain.anvil.url().clone(), script).await;
    let client = client(&proxy, test_patience());
    assert_eq!(millrace_l1::messages_in(&client, 1, 20).await.expect("in pieces"), []);
    assert!(proxy.requests() > 7, "{}", proxy.requests());
    let never = |_, _: &Value| Fault::Error(-32602, "no logs here");
    let proxy = FaultProxy::start_reading(chain.anvil.url().clone(), never).await;
    let client = L1Client::new(proxy.url.clone(), test_patience()).expect("client");
    millrace_l1::messages_in(&client, 1, 20).await.expect_err("not for ever");
}

#[tokio::test]
async fn a_node_that_hangs_is_a_timeout() {
    let chain = Chain::start(AnvilOptions::default()).await;
    let options = ClientOptions {
        request_timeout: Duration::from_millis(100),
        retries: 0,
        ..test_patience()
    };
    let client = L1Client::new(chain.anvil.url().clone(), options).expect("client");
    chain.anvil.pause().expect("pause");
    // It may still answer what comes before the signal arrives.
    let hang = async {
        loop {
            if let Err(error) = client.head().await {
                break error;
            }
        }
    };
    let error = soon("the timeout", hang).await;
    assert!(error.is_retryable(), "{error}");
    chain.anvil.resume().expect("resume");
    soon("the head", chain.client().head()).await.expect("head");
}

#[tokio::test]
async fn refused_log_ranges_are_halved() {
    let chain = Chain::start(AnvilOptions::default()).await;
    for value in 1..=4 {
        chain.deposit(Address::repeat_byte(7), value).await;
    }
    let head = chain.client().head().await.expect("head").number;
    let expected = chain.rollup.events(0, head).await.expect("events");
    let refused = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&refused);
    // Refuses until it has been asked for less twice.
    let logs = AtomicU64::new(0);
    let script = move |_, method: &str| {
        if method == "eth_getLogs" && logs.fetch_add(1, Ordering::SeqCst) < 2 {
            seen.store(true, Ordering::SeqCst);
            return Fault::Error(-32602, "query returned more than 10000 results");
        }
        Fault::None
    };
    let proxy = FaultProxy::start(chain.anvil.url().clone(), script).await;
    let rollup = RollupContract::new(client(&proxy, test_patience()), chain.rollup.address());
    assert_eq!(rollup.events(0, head).await.expect("events"), expected);
    assert!(refused.load(Ordering::SeqCst));
    assert!(proxy.requests() > 4, "in pieces");
}

/// A contract behind a node that answers some of its log queries with an error, and how many it was asked.
async fn refusing(
    chain: &Chain,
    log_range: u64,
    refusal: impl Fn(u64) -> Option<Fault> + Send + Sync + 'static,
) -> (FaultProxy, RollupContract, Arc<AtomicU64>) {
    let queries = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&queries);
    let script = move |_, method: &str| match method {
        "eth_getLogs" => refusal(counter.fetch_add(1, Ordering::SeqCst)).unwrap_or(Fault::None),
        _ => Fault::None,
    };
    let proxy = FaultProxy::start(chain.anvil.url().clone(), script).await;
    let options = ClientOptions { log_range, ..test_patience() };
    let rollup = RollupContract::new(client(&proxy, options), chain.rollup.address());
    (proxy, rollup, queries)
}

#[tokio::test]
async fn a_log_range_that_was_refused_once_grows_back() {
    let chain = Chain::start(AnvilOptions::default()).await;
    chain.deposit(Address::repeat_byte(7), 1).await;
    chain.anvil.mine(400).await.expect("mine");
    let first = |number| (number == 0).then_some(Fault::Error(-32000, "block range is too wide"));
    let (_proxy, rollup, queries) = refusing(&chain, 20, first).await;
    assert_eq!(rollup.events(0, 399).await.expect("events").len(), 1);
    // One refused, eight of 10 blocks, and the rest by 20.
    assert_eq!(queries.load(Ordering::SeqCst), 1 + 8 + 16);
}

#[tokio::test]
async fn an_error_that_is_not_about_size_leaves_the_log_range_as_it_is() {
    let chain = Chain::start(AnvilOptions::default()).await;
    chain.anvil.mine(100).await.expect("mine");
    let first = |number| (number == 0).then_some(Fault::Error(-32603, "internal error"));
    let (_proxy, rollup, queries) = refusing(&chain, 50, first).await;
    let error = rollup.events(0, 99).await.expect_err("the node fails");
    assert!(error.to_string().contains("internal error"), "{error}");
    rollup.events(0, 99).await.expect("events");
    assert_eq!(queries.load(Ordering::SeqCst), 1 + 2);
}

#[tokio::test]
async fn a_follower_behind_a_failing_node_misses_and_doubles_nothing() {
    let chain = Chain::start(AnvilOptions::default()).await;
    let proxy = FaultProxy::start(chain.anvil.url().clone(), mixed).await;
    let options = ClientOptions { retries: 0, ..test_patience() };
    let rollup = RollupContract::new(client(&proxy, options), chain.rollup.address());
    let mut follower = loop {
        match L1Follower::from_start(rollup.clone()).await {
            Ok(follower) => break follower,
            Err(error) => assert!(error.is_retryable(), "{error}"),
        }
    };
    let mut events = Vec::new();
    for round in 1..=12u64 {
        chain.deposit(Address::repeat_byte(7), round).await;
        if round % 4 == 0 {
            chain.anvil.reorg(2).await.expect("reorg");
        }
        let head = chain.client().head().await.expect("head");
        while follower.cursor() != head.id() {
            let update = soon("an update", follower.next()).await.expect("update");
            if let Some(block) = update.reverted_to {
                events.retain(|event: &millrace_l1::RollupEvent| {
                    event.l1().block.number <= block.number
                });
            }
            events.extend(update.events);
        }
    }
    let head = chain.client().head().await.expect("head").number;
    assert_eq!(events, chain.rollup.events(0, head).await.expect("events"));
    assert!(proxy.requests() > 30);
}

#[tokio::test]
async fn a_stale_head_is_waited_out_and_is_no_reorg() {
    let chain = Chain::start(AnvilOptions::default()).await;
    for value in 1..=3 {
        chain.deposit(Address::repeat_byte(7), value).await;
    }
    let old =
        chain.anvil.rpc("eth_getBlockByNumber", json!(["latest", false])).await.expect("block");
    let stale = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&stale);
    let asked = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&asked);
    // Only the two questions for a tag are answered by the node that lags behind.
    let script = move |_, method: &str| {
        if method == "eth_getBlockByNumber" && switch.load(Ordering::SeqCst) {
            seen.store(true, Ordering::SeqCst);
            return Fault::Result(old.clone());
        }
        Fault::None
    };
    let proxy = FaultProxy::start(chain.anvil.url().clone(), script).await;
    let rollup = RollupContract::new(client(&proxy, test_patience()), chain.rollup.address());
    let mut follower = L1Follower::from_start(rollup).await.expect("follower");
    chain.deposit(Address::repeat_byte(7), 4).await;
    let update = soon("an update", follower.next()).await.expect("update");
    assert_eq!(update.events.len(), 4);

    stale.store(true, Ordering::SeqCst);
    let update = soon("a look", follower.poll()).await.expect("poll");
    assert!(asked.load(Ordering::SeqCst));
    assert!(update.is_none_or(|update| update.reverted_to.is_none() && update.events.is_empty()));
    stale.store(false, Ordering::SeqCst);
    chain.deposit(Address::repeat_byte(7), 5).await;
    loop {
        let update = soon("an update", follower.next()).await.expect("update");
        assert_eq!(update.reverted_to, None);
        if !update.events.is_empty() {
            assert_eq!(update.events.len(), 1);
            break;
        }
    }
}

/// It answers, and says nothing wrong: only that others go on tells.
#[tokio::test]
async fn a_node_that_is_stuck_is_left_for_one_that_is_not() {
    let chain = Chain::start(AnvilOptions::default()).await;
    let old =
        chain.anvil.rpc("eth_getBlockByNumber", json!(["latest", false])).await.expect("block");
    let number = old["number"].clone();
    let script = move |_, method: &str| match method {
        "eth_getBlockByNumber" => Fault::Result(old.clone()),
        "eth_blockNumber" => Fault::Result(number.clone()),
        _ => Fault::None,
    };
    let proxy = FaultProxy::start(chain.anvil.url().clone(), script).await;
    let options = ClientOptions { stuck_after: Duration::from_millis(100), ..test_patience() };
    let others = vec![chain.anvil.url().clone()];
    let client = L1Client::over(proxy.url.clone(), others, options).expect("client");
    let before = client.head().await.expect("a head").number;
    chain.anvil.mine(3).await.expect("mined");
    until("the other one is asked", async || {
        client.head().await.is_ok_and(|head| head.number >= before + 3)
    })
    .await;
    let asked = proxy.requests();
    client.head().await.expect("a head");
    assert_eq!(proxy.requests(), asked, "it is not asked any more");
}

#[tokio::test]
async fn transactions_through_a_failing_node_are_included_once_each() {
    let chain = Chain::start(AnvilOptions::default()).await;
    let dir = tempfile::tempdir().expect("folder");
    let proxy = FaultProxy::start(chain.anvil.url().clone(), mixed).await;
    let options = ClientOptions { retries: 0, ..test_patience() };
    let manager = loop {
        let client = client(&proxy, options);
        match TxManager::open(quick(), client, dev_signer(BATCHER), dir.path(), "test").await {
            Ok(manager) => break manager,
            Err(error) => assert_retryable(&error),
        }
    };
    for index in 0..8u64 {
        let request = TxRequest {
            value: alloy::primitives::U256::from(1),
            ..TxRequest::call(format!("t-{index}"), Address::repeat_byte(9), vec![])
        };
        let confirmed = soon("a transfer", async {
            loop {
                match manager.send(request.clone()).await {
                    Ok(confirmed) => break confirmed,
                    Err(error) => assert_retryable(&error),
                }
            }
        })
        .await;
        assert_eq!(confirmed.nonce, index);
    }
    let received = chain.client().balance(Address::repeat_byte(9)).await.expect("balance");
    assert_eq!(received.to::<u64>(), 8);
    assert_eq!(chain.client().nonce(manager.address()).await.expect("nonce"), 8);
    until("an empty journal", async || {
        manager.in_flight().await.is_ok_and(|in_flight| in_flight.is_empty())
    })
    .await;
}

fn assert_retryable(error: &millrace_l1::TxManagerError) {
    let class = error.class();
    assert_eq!(class, millrace_proto::ErrorClass::Retryable, "{error}");
}

#[tokio::test]
async fn another_chain_than_the_contracts_is_noticed() {
    let chain = Chain::start(AnvilOptions::default()).await;
    // Two anvils that start in the same second are the same chain.
    let args = vec!["--timestamp".to_owned(), "1700000000".to_owned()];
    let other = Chain::start(AnvilOptions { args, ..AnvilOptions::default() }).await;
    chain.anvil.mine(5).await.expect("mine");
    other.anvil.mine(9).await.expect("mine");
    let mut follower = L1Follower::from_start(chain.rollup.clone()).await.expect("follower");
    soon("an update", follower.next()).await.expect("update");
    let points: Vec<_> = follower.points().collect();
    // The same address on another L1: nothing of what was followed is there.
    let mut follower = L1Follower::resume(other.rollup.clone(), points).await.expect("follower");
    match follower.poll().await {
        Ok(Some(update)) => {
            let start = other.rollup.start().await.expect("start");
            assert_eq!(update.reverted_to, Some(start));
        }
        Ok(None) => panic!("the chain is another one"),
        Err(error) => assert!(matches!(error, L1Error::Inconsistent(_)), "{error}"),
    }
}

//! L1 nodes that lie about what is far back, and nodes of another chain.

mod common;

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use alloy::{
    primitives::{Address, B256, U256},
    rpc::types::Log,
    sol_types::SolEvent,
};
use common::{BATCHER, Chain, Fault, FaultProxy, quick, until};
use millrace_l1::{
    ClientOptions, DepositError, DepositInbox, L1Client, L1Error, L1Follower, Rollup,
    RollupContract, RollupEvent,
    testing::{Anvil, AnvilOptions, test_patience},
};
use millrace_proto::{Deposit, QueueMark};
use serde_json::{Value, json};

const TO: Address = Address::repeat_byte(7);

/// The contract behind a node that does something else with requests.
async fn behind(
    chain: &Chain,
    script: impl Fn(&str) -> Fault + Send + Sync + 'static,
) -> (FaultProxy, RollupContract) {
    let script = move |_, method: &str| script(method);
    let proxy = FaultProxy::start(chain.anvil.url().clone(), script).await;
    let client = L1Client::new(proxy.url.clone(), test_patience()).expect("client");
    (proxy, RollupContract::new(client, chain.rollup.address()))
}

/// A chain with three deposits, all of them too far back for blocks to be read one by one.
async fn old_deposits() -> Chain {
    let chain = Chain::start(AnvilOptions::default()).await;
    for value in 1..=3 {
        chain.deposit(TO, value).await;
    }
    chain.anvil.mine(50).await.expect("mine");
    chain
}

/// All events up to the head, and what the contract is said to hold there.
async fn follow(rollup: &RollupContract) -> Result<(Vec<RollupEvent>, Option<u64>), L1Error> {
    let mut follower = L1Follower::from_start(rollup.clone()).await?;
    let (mut events, mut held) = (Vec::new(), None);
    while let Some(update) = follower.poll().await? {
        events.extend(update.events);
        held = update.state.map(|state| state.counters.deposits).or(held);
    }
    Ok((events, held))
}

const NO_SUCH_METHOD: Fault = Fault::Error(-32_601, "the method does not exist/is not available");

/// Every log of a deposit but the last.
fn without_the_last(logs: &mut Value) {
    logs.as_array_mut().expect("logs").pop();
}

/// The last deposit with another value, and the accumulator that goes with it.
fn with_another_value(logs: &mut Value) {
    let logs = logs.as_array_mut().expect("logs");
    let read = |log: &Value| -> Log { serde_json::from_value(log.clone()).expect("a log") };
    let decoded = |log: &Log| Rollup::DepositQueued::decode_log_data(&log.inner.data);
    let [.., before, last] = &logs[..] else { return };
    let (before, mut log) = (read(before), read(last));
    let (Ok(before), Ok(mut event)) = (decoded(&before), decoded(&log)) else { return };
    event.value = U256::from(1_000_000);
    let deposit = Deposit {
        index: event.index,
        from: event.from,
        to: event.to,
        value: event.value,
        gas_limit: event.gasLimit,
        data: event.data.clone(),
    };
    event.accumulator = deposit.accumulate(before.accumulator);
    log.inner.data = event.encode_log_data();
    *logs.last_mut().expect("the last") = serde_json::to_value(log).expect("json");
}

#[tokio::test]
async fn what_the_contract_holds_is_proved() {
    let chain = Chain::start(AnvilOptions::default()).await;
    let dir = tempfile::tempdir().expect("folder");
    let batcher = chain.manager(BATCHER, dir.path(), quick()).await;
    let rollup = &chain.rollup;
    let state = async || {
        let head = chain.client().head().await.expect("head");
        let state = rollup.state_at(head.hash).await.expect("a proof").expect("anvil proves");
        let counters = rollup.counters_at(head.number).await.expect("counters");
        assert_eq!((state.block, state.counters), (head.number, counters));
        state
    };
    let empty = state().await;
    assert_eq!((empty.batch_hash, empty.accumulator), (B256::ZERO, B256::ZERO));
    for number in 1..=2 {
        chain.deposit(TO, number).await;
        batcher.send(chain.post(number, vec![common::blob(1)])).await.expect("posted");
    }
    let state = state().await;
    assert_eq!((state.counters.batches, state.counters.deposits), (2, 2));
    assert_eq!(state.batch_hash, rollup.batch_hash(2).await.expect("hash"));
    assert_eq!(state.accumulator, rollup.deposit_accumulator(2).await.expect("accumulator"));
    assert_eq!(state.commitment, B256::ZERO);
}

/// Whatever a node says of the contract's storage has to lead to the header's state root; and a genesis that it says the contract was made with is looked at too.
#[tokio::test]
async fn proofs_that_do_not_hold_are_refused() {
    type Lie = (&'static str, fn(&mut Value));
    let lies: [Lie; 6] = [
        ("eth_getProof", |proof| proof["storageProof"][0]["value"] = json!("0x5")),
        ("eth_getProof", |proof| proof["storageProof"] = json!([])),
        ("eth_getProof", |proof| proof["storageProof"][1]["proof"] = json!([])),
        ("eth_getProof", |proof| proof["storageHash"] = json!(B256::repeat_byte(1))),
        ("eth_getProof", |proof| proof["accountProof"] = json!([])),
        // Every constant of the contract, its version being the one that is known.
        ("eth_call", |word| *word = json!(B256::with_last_byte(2))),
    ];
    let chain = Chain::start(AnvilOptions::default()).await;
    chain.deposit(TO, 1).await;
    let head = chain.client().head().await.expect("head").hash;
    for (method, lie) in lies {
        let script = move |asked: &str| match asked == method {
            true => Fault::Change(lie),
            false => Fault::None,
        };
        let (_proxy, rollup) = behind(&chain, script).await;
        let error = rollup.state_at(head).await.expect_err("it does not hold");
        assert!(matches!(error, L1Error::Unproven(_)), "{method}: {error}");
    }
}

#[tokio::test]
async fn another_node_proves_what_the_first_does_not() {
    let chain = old_deposits().await;
    let head = chain.client().head().await.expect("head").hash;
    let script = |method: &str| match method {
        "eth_getProof" => NO_SUCH_METHOD,
        _ => Fault::None,
    };
    let (proxy, alone) = behind(&chain, script).await;
    assert_eq!(alone.state_at(head).await.expect("an answer"), None);

    let others = vec![chain.anvil.url().clone()];
    let client = L1Client::over(proxy.url.clone(), others, test_patience()).expect("client");
    let rollup = RollupContract::new(client, chain.rollup.address());
    let state = rollup.state_at(head).await.expect("an answer").expect("the other proves it");
    assert_eq!(state.counters.deposits, 3);
    assert_eq!(
        rollup
            .client()
            .agreed(chain.client().head().await.expect("head").id())
            .await
            .expect("agreed"),
        1
    );
}

/// What lies too far back for blocks to be read one by one is compared with what the contract's storage holds.
#[tokio::test]
async fn what_a_node_leaves_out_or_changes_far_back_is_noticed() {
    let chain = old_deposits().await;
    let (events, held) = follow(&chain.rollup).await.expect("events");
    assert_eq!((events.len(), held), (3, Some(3)));

    // Altered, and consistent in itself.
    let script = |method: &str| match method {
        "eth_getLogs" => Fault::Change(with_another_value),
        _ => Fault::None,
    };
    let (_proxy, rollup) = behind(&chain, script).await;
    let error = follow(&rollup).await.expect_err("another value");
    assert!(matches!(&error, L1Error::Unproven(why) if why.contains("entry 2")), "{error}");

    // Left out at the end, where it leaves no gap.
    let lying = Arc::new(AtomicBool::new(true));
    let told = Arc::clone(&lying);
    let script = move |method: &str| match method {
        "eth_getLogs" if told.load(Ordering::SeqCst) => Fault::Change(without_the_last),
        _ => Fault::None,
    };
    let (_proxy, rollup) = behind(&chain, script).await;
    let (events, held) = follow(&rollup).await.expect("events");
    assert_eq!(
        (events.len(), held),
        (2, Some(3)),
        "whoever follows is told what it has to come to"
    );
    let inbox = DepositInbox::new(rollup, 2);
    let error = inbox.confirmed(QueueMark::default(), 9).await.expect_err("one is missing");
    assert!(matches!(error, DepositError::Chain { index: 2 }), "{error}");
    lying.store(false, Ordering::SeqCst);
    assert_eq!(inbox.confirmed(QueueMark::default(), 9).await.expect("all").len(), 3);
}

/// Some nodes sort the slots that they prove.
#[tokio::test]
async fn proofs_may_come_in_any_order() {
    let chain = old_deposits().await;
    let head = chain.client().head().await.expect("head").hash;
    let script = |method: &str| match method {
        "eth_getProof" => Fault::Change(|proof| {
            proof["storageProof"].as_array_mut().expect("slots").reverse();
        }),
        _ => Fault::None,
    };
    let (_proxy, rollup) = behind(&chain, script).await;
    let state = rollup.state_at(head).await.expect("an answer").expect("a proof");
    assert_eq!(state, chain.rollup.state_at(head).await.expect("an answer").expect("a proof"));
}

/// What was read in ranges is read again block by block, with what was left out of the ranges, if it cannot be compared any more; also where a gateway takes too long
/// for proofs alone.
#[tokio::test]
async fn proofs_that_end_are_not_waited_for() {
    let chain = old_deposits().await;
    for refusal in [504, 400] {
        let proofs = AtomicU64::new(0);
        let script = move |method: &str| match method {
            // Those before the range and after it.
            "eth_getProof" if proofs.fetch_add(1, Ordering::SeqCst) >= 3 => Fault::Status(refusal),
            "eth_getLogs" => Fault::Change(without_the_last),
            _ => Fault::None,
        };
        let (_proxy, rollup) = behind(&chain, script).await;
        let mut follower = L1Follower::from_start(rollup).await.expect("a follower");
        let mut events: Vec<RollupEvent> = Vec::new();
        loop {
            let update = follower.next().await.expect("it goes on");
            if let Some(point) = update.reverted_to {
                events.retain(|event| event.l1().block.number <= point.number);
            }
            events.extend(update.events);
            if update.head == update.latest {
                break;
            }
        }
        assert_eq!(events.len(), 3, "HTTP {refusal}");
    }
}

#[tokio::test]
async fn events_of_other_blocks_than_were_asked_for_are_refused() {
    let chain = old_deposits().await;
    let script = |method: &str| match method {
        "eth_getLogs" => Fault::Change(|logs| logs[0]["blockNumber"] = json!("0xffffff")),
        _ => Fault::None,
    };
    let (_proxy, rollup) = behind(&chain, script).await;
    let error = follow(&rollup).await.expect_err("such a block is not there");
    assert!(matches!(error, L1Error::Unproven(_)), "{error}");
}

/// Where no node proves anything, blocks are read one by one: a node that refuses proofs gains nothing by it.
#[tokio::test]
async fn without_proofs_every_block_is_checked() {
    type Lie = (&'static str, fn(&mut Value));
    let lies: [Lie; 4] = [
        ("eth_getBlockReceipts", |receipts| {
            receipts[0]["logs"] = json!([]);
        }),
        ("eth_getBlockReceipts", |receipts| *receipts = json!([])),
        ("eth_getBlockByNumber", |block| {
            block["logsBloom"] = json!(alloy::primitives::Bloom::ZERO);
        }),
        ("eth_getBlockByNumber", |block| block["parentHash"] = json!(B256::repeat_byte(1))),
    ];
    let chain = old_deposits().await;
    let script = |method: &str| match method {
        "eth_getProof" => NO_SUCH_METHOD,
        // Nobody asks for these.
        "eth_getLogs" => Fault::Result(json!([])),
        _ => Fault::None,
    };
    let (_proxy, rollup) = behind(&chain, script).await;
    let (events, held) = follow(&rollup).await.expect("events");
    assert_eq!((events.len(), held), (3, None));

    for (method, lie) in lies {
        let asked_for = AtomicU64::new(0);
        let script = move |asked: &str| match asked {
            "eth_getProof" => NO_SUCH_METHOD,
            // What comes before the blocks of the deposits is right.
            _ if asked == method && asked_for.fetch_add(1, Ordering::SeqCst) >= 5 => {
                Fault::Change(lie)
            }
            _ if asked == method && method == "eth_getBlockReceipts" => Fault::Change(lie),
            _ => Fault::None,
        };
        let (_proxy, rollup) = behind(&chain, script).await;
        let error = follow(&rollup).await.expect_err("it does not fit");
        assert!(matches!(error, L1Error::Unproven(_)), "{method}: {error}");
    }
}

#[tokio::test]
async fn a_node_of_another_chain_is_refused_if_the_chain_is_known() {
    let chain = Chain::start(AnvilOptions::default()).await;
    let other = Anvil::start(AnvilOptions { chain_id: Some(4_711), ..AnvilOptions::default() });
    let other = other.expect("another chain");
    let options = ClientOptions { chain_id: Some(31_337), ..test_patience() };
    let client = L1Client::new(other.url().clone(), options).expect("client");
    for error in [
        client.chain_id().await.expect_err("another chain"),
        client.head().await.expect_err("another chain"),
    ] {
        assert!(
            matches!(error, L1Error::WrongChain { id: 4_711, expected: 31_337, .. }),
            "{error}"
        );
        assert!(!error.is_retryable());
        let words = error.to_string();
        assert!(words.contains("4711") && words.contains("31337"), "{words}");
    }

    // The next one is of the right chain.
    let right = vec![chain.anvil.url().clone()];
    let client = L1Client::over(other.url().clone(), right, options).expect("client");
    assert_eq!(client.chain_id().await.expect("id"), 31_337);
    let rollup = RollupContract::new(client, chain.rollup.address());
    assert_eq!(rollup.l2_chain_id().await.expect("the contract"), 42_042);

    // A single node that is away when it is asked first is asked later.
    let away = Arc::new(AtomicBool::new(true));
    let told = Arc::clone(&away);
    let script = move |_, _: &str| match told.load(Ordering::SeqCst) {
        true => Fault::Status(503),
        false => Fault::None,
    };
    let proxy = FaultProxy::start(chain.anvil.url().clone(), script).await;
    let options = ClientOptions { retries: 0, ..options };
    let client = L1Client::new(proxy.url.clone(), options).expect("client");
    assert!(client.head().await.expect_err("it is away").is_retryable());
    away.store(false, Ordering::SeqCst);
    until("its head", async || client.head().await.is_ok()).await;
}

//! L1 nodes that leave events out, and an L1 that starts anew.

mod common;

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use alloy::{
    consensus::EMPTY_ROOT_HASH,
    primitives::{Address, B256, Bloom},
};
use common::{Chain, Fault, FaultProxy, soon, until};
use millrace_l1::{
    ClientOptions, DepositError, DepositInbox, L1Client, L1Error, L1Follower, RollupContract,
    RollupEvent,
    testing::{Anvil, AnvilOptions, test_patience},
};
use millrace_proto::QueueMark;
use serde_json::{Value, json};

const TO: Address = Address::repeat_byte(7);

/// The contract behind a node that leaves all events out while it is told to, and whose blocks are not checked.
async fn forgetful(chain: &Chain) -> (FaultProxy, RollupContract, Arc<AtomicBool>) {
    let forget = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&forget);
    let script = move |_, method: &str| {
        let forget = method == "eth_getLogs" && told.load(Ordering::SeqCst);
        if forget { Fault::Result(json!([])) } else { Fault::None }
    };
    let proxy = FaultProxy::start(chain.anvil.url().clone(), script).await;
    let options = ClientOptions { check_blocks: false, ..test_patience() };
    let client = L1Client::new(proxy.url.clone(), options).expect("client");
    (proxy, RollupContract::new(client, chain.rollup.address()), forget)
}

#[tokio::test]
async fn a_deposit_that_a_node_left_out_at_first_is_found_again() {
    let chain = Chain::start(AnvilOptions::default()).await;
    let (_proxy, rollup, forget) = forgetful(&chain).await;
    let inbox = DepositInbox::new(rollup, 0);
    forget.store(true, Ordering::SeqCst);
    chain.deposit(TO, 1).await;
    // Everything up to here is read, and noted as a place to go on from.
    assert!(inbox.confirmed(QueueMark::default(), 9).await.expect("nothing").is_empty());
    forget.store(false, Ordering::SeqCst);
    chain.deposit(TO, 2).await;
    let complaints = AtomicU64::new(0);
    until("both deposits", async || match inbox.confirmed(QueueMark::default(), 9).await {
        Ok(deposits) => deposits.len() == 2,
        Err(error) => {
            assert!(matches!(error, DepositError::Chain { index: 0 }), "{error}");
            complaints.fetch_add(1, Ordering::SeqCst);
            false
        }
    })
    .await;
    assert_eq!(complaints.into_inner(), 1);
}

/// A node that leaves out the events of what the chain has taken does not make the chain believe that it has vanished.
#[tokio::test]
async fn what_the_contract_has_has_not_vanished_whatever_the_events_say() {
    let chain = Chain::start(AnvilOptions::default()).await;
    let (_proxy, rollup, forget) = forgetful(&chain).await;
    chain.deposit(TO, 1).await;
    let hash = rollup.deposit_accumulator(1).await.expect("the contract answers");
    let taken = QueueMark { end: 1, hash, forced: 0 };
    forget.store(true, Ordering::SeqCst);
    let inbox = DepositInbox::new(rollup, 0);
    let error = inbox.confirmed(taken, 9).await.expect_err("its event is missing");
    assert!(matches!(error, DepositError::Chain { index: 0 }), "{error}");
    forget.store(false, Ordering::SeqCst);
    assert!(inbox.confirmed(taken, 9).await.expect("it is there again").is_empty());
}

#[tokio::test]
async fn a_follower_that_goes_back_delivers_again() {
    let chain = Chain::start(AnvilOptions::default()).await;
    let mut follower = L1Follower::from_start(chain.rollup.clone()).await.expect("follower");
    for value in 1..=4 {
        chain.deposit(TO, value).await;
    }
    let first = soon("an update", follower.next()).await.expect("update");
    let head = first.head.number;
    follower.rewind(head - 2);
    let again = soon("an update", follower.next()).await.expect("update");
    assert_eq!(again.reverted_to.map(|block| block.number), Some(head - 2));
    assert_eq!(again.head, first.head);
    assert_eq!(again.events, first.events[first.events.len() - 2..]);

    // Further than it remembers is the start.
    follower.rewind(0);
    let again = soon("an update", follower.next()).await.expect("update");
    let start = chain.rollup.start().await.expect("start");
    assert_eq!((again.reverted_to, again.events), (Some(start), first.events));
}

#[tokio::test]
async fn an_l1_that_starts_anew_is_no_reorg() {
    let chain = Chain::start(AnvilOptions::default()).await;
    let mut follower = L1Follower::from_start(chain.rollup.clone()).await.expect("follower");
    chain.deposit(TO, 1).await;
    soon("an update", follower.next()).await.expect("update");
    let points: Vec<_> = follower.points().collect();

    chain.anvil.rpc("anvil_reset", json!([])).await.expect("reset");
    assert_eq!(chain.client().head().await.expect("head").number, 0);
    let lost = |error: &L1Error| matches!(error, L1Error::NoContract { .. } | L1Error::Replaced(_));
    let error = soon("the loss", follower.next()).await.expect_err("the contract is gone");
    assert!(lost(&error), "{error}");
    let resumed = L1Follower::resume(chain.rollup.clone(), points).await;
    let error = resumed.expect_err("the contract is gone");
    assert!(lost(&error), "{error}");
    // Also when it has grown past what was seen.
    chain.anvil.mine(9).await.expect("mine");
    let error = soon("the loss", follower.next()).await.expect_err("the contract is gone");
    assert!(lost(&error), "{error}");
}

#[tokio::test]
async fn a_head_before_the_deployment_is_told() {
    let chain = Chain::start(AnvilOptions::default()).await;
    chain.anvil.mine(3).await.expect("mine");
    let late = common::deploy(chain.client()).await;
    let rollup = RollupContract::new(chain.client().clone(), late);
    let mut follower = L1Follower::from_start(rollup).await.expect("follower");
    chain.anvil.rpc("anvil_reset", json!([])).await.expect("reset");
    let error = follower.poll().await.expect_err("the deployment is gone");
    assert!(matches!(error, L1Error::Replaced(_)), "{error}");
}

/// Whatever a node says of a block has to fit the block's hash: what it leaves out, makes up or swaps is noticed at once, nothing of it is delivered,
/// and everything is once it tells the truth.
#[tokio::test]
async fn what_does_not_fit_the_blocks_hash_is_not_believed() {
    type Lie = (&'static str, fn(&mut Value));
    let lies: [Lie; 6] = [
        ("eth_getBlockReceipts", |receipts| *receipts = json!([])),
        ("eth_getBlockReceipts", |receipts| {
            // Another recipient, in the topic that names it.
            for log in receipts[0]["logs"].as_array_mut().expect("logs") {
                log["topics"][3] = json!(B256::repeat_byte(3));
            }
        }),
        ("eth_getBlockReceipts", |receipts| receipts[0]["logs"] = json!([])),
        ("eth_getBlockByHash", |block| {
            block["logsBloom"] = json!(Bloom::ZERO);
        }),
        ("eth_getBlockByHash", |block| block["receiptsRoot"] = json!(EMPTY_ROOT_HASH)),
        ("eth_getBlockByNumber", |block| block["timestamp"] = json!("0x1")),
    ];
    let chain = Chain::start(AnvilOptions::default()).await;
    for (number, (method, lie)) in lies.into_iter().enumerate() {
        let lying = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&lying);
        let script = move |_, asked: &str| match asked == method && told.load(Ordering::SeqCst) {
            true => Fault::Change(lie),
            false => Fault::None,
        };
        let proxy = FaultProxy::start(chain.anvil.url().clone(), script).await;
        let client = L1Client::new(proxy.url.clone(), test_patience()).expect("client");
        let rollup = RollupContract::new(client, chain.rollup.address());
        let mut follower = L1Follower::from_start(rollup).await.expect("follower");
        // Up to here it has told the truth.
        while follower.poll().await.expect("an update").is_some() {}

        // One block is read by its number, and the one before it by its hash.
        chain.deposit(TO, 1 + number as u64).await;
        chain.anvil.mine(1).await.expect("mine");
        lying.store(true, Ordering::SeqCst);
        for _ in 0..3 {
            let error = follower.poll().await.expect_err("it does not fit");
            assert!(matches!(error, L1Error::Unproven(_)), "{method}: {error}");
            assert!(error.is_retryable());
        }
        lying.store(false, Ordering::SeqCst);
        let update = follower.poll().await.expect("an update").expect("what was held back");
        let [RollupEvent::Queued { entry, .. }] = &update.events[..] else {
            panic!("{:?}", update.events)
        };
        assert_eq!(entry.index(), number as u64);
    }
}

/// A node that fails, or says what is not so, is left for the next; one of another chain is never asked.
#[tokio::test]
async fn another_node_is_asked_when_one_fails() {
    let chain = Chain::start(AnvilOptions::default()).await;
    let other = Anvil::start(AnvilOptions { chain_id: Some(4_711), ..AnvilOptions::default() });
    let other = other.expect("another chain");
    let mode = Arc::new(AtomicU64::new(0));
    let told = Arc::clone(&mode);
    let script = move |_, asked: &str| match (told.load(Ordering::SeqCst), asked) {
        (1, _) => Fault::Status(503),
        (2, "eth_getBlockReceipts") => Fault::Result(json!([])),
        _ => Fault::None,
    };
    let first = FaultProxy::start(chain.anvil.url().clone(), script).await;
    let second = FaultProxy::start(chain.anvil.url().clone(), |_, _: &str| Fault::None).await;
    let fallbacks = vec![other.url().clone(), second.url.clone()];
    let client = L1Client::over(first.url.clone(), fallbacks, test_patience()).expect("client");
    assert_eq!(client.chain_id().await.expect("id"), 31_337);
    let rollup = RollupContract::new(client, chain.rollup.address());
    let mut follower = L1Follower::from_start(rollup).await.expect("follower");
    while follower.poll().await.expect("an update").is_some() {}
    assert_eq!(second.requests(), 0, "nobody asks it without need");

    // It is away.
    mode.store(1, Ordering::SeqCst);
    chain.deposit(TO, 1).await;
    let update = follower.poll().await.expect("an update").expect("the deposit");
    assert_eq!((update.events.len(), update.reverted_to), (1, None));
    assert!(second.requests() > 0);

    // The first is asked again once the second fails, and lies: the second has to answer once more.
    mode.store(2, Ordering::SeqCst);
    let away = FaultProxy::start(chain.anvil.url().clone(), |_, _: &str| Fault::Close).await;
    let fallbacks = vec![second.url.clone()];
    let client = L1Client::over(
        away.url.clone(),
        [vec![first.url.clone()], fallbacks].concat(),
        test_patience(),
    );
    let rollup = RollupContract::new(client.expect("client"), chain.rollup.address());
    let mut follower = L1Follower::from_start(rollup).await.expect("follower");
    let error = follower.poll().await.expect_err("it does not fit");
    assert!(matches!(error, L1Error::Unproven(_)), "{error}");
    let update = follower.poll().await.expect("an update").expect("the deposit");
    assert_eq!(update.events.len(), 1);
}

//! L1 nodes that leave out or change what is far back, and verification.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use alloy::{
    primitives::{B256, Bytes},
    rpc::types::Log,
    sol_types::{SolCall, SolEvent},
};
use millrace_l1::{
    ClientOptions, Rollup,
    testing::{Fault, test_patience},
};
use millrace_settlement::{Difference, L1Check, VerifyError, VerifyReport, VerifyTarget};
use serde_json::{Value, json};

use crate::{support::TestReplay, world::World};

#[tokio::test(flavor = "multi_thread")]
async fn events_that_the_l1_node_leaves_out_at_the_end_fail_verification() {
    let world = World::start().await;
    world.sequence(4);
    world.post(1, 2).await;
    // Verifies without the last block's events.
    let difference = async || {
        let start = world.rollup.deployed_at().await.expect("answers");
        let head = world.anvil.client().head().await.expect("answers").number;
        let (last, queries) = (head - start, AtomicU64::new(0));
        let script = move |_, method: &str| {
            if method == "eth_getLogs" && queries.fetch_add(1, Ordering::SeqCst) == last {
                return Fault::Result(json!([]));
            }
            Fault::None
        };
        let options = ClientOptions { log_range: 1, ..test_patience() };
        let (_proxy, rollup) = world.behind(options, script).await;
        differs(world.verify_through(rollup, VerifyTarget::Latest).await)
    };
    let found = difference().await;
    assert_eq!((found.what, &*found.expected, &*found.got), ("number of posted batches", "1", "0"));
    world.deposit().await;
    let found = difference().await;
    assert_eq!((found.what, &*found.expected, &*found.got), ("number of deposits", "1", "0"));
    let running = world.settle(TestReplay::new()).await;
    running.committed(1).await;
    running.stop().await;
    let found = difference().await;
    assert_eq!((found.what, &*found.expected, &*found.got), ("last committed batch", "1", "0"));
    world.verify(VerifyTarget::Latest).await.expect("a right chain");
}

fn differs(result: Result<VerifyReport, VerifyError>) -> Difference {
    match result {
        Err(VerifyError::Differs(difference)) => difference,
        other => panic!("a difference expected, got {other:?}"),
    }
}

/// Does something with every log of an event, and leaves it out if that says so.
fn each<E: SolEvent>(logs: &mut Value, mut change: impl FnMut(&mut E) -> bool) {
    let Some(logs) = logs.as_array_mut() else { return };
    logs.retain_mut(|json| {
        let mut log: Log = serde_json::from_value(json.clone()).expect("a log");
        let Ok(mut event) = E::decode_log_data(&log.inner.data) else { return true };
        let stays = change(&mut event);
        log.inner.data = event.encode_log_data();
        *json = serde_json::to_value(log).expect("json");
        stays
    });
}

/// A node that leaves out the event of the second batch, and lets the contract count one.
fn forgets_the_second_batch(request: &Value) -> Fault {
    let counts = Bytes::from(Rollup::batchCountCall {}.abi_encode()).to_string();
    match request["method"].as_str() {
        Some("eth_getLogs") => Fault::Change(|logs| {
            each::<Rollup::BatchPosted>(logs, |event| event.number != 2);
        }),
        Some("eth_call") if request["params"].to_string().contains(&counts) => {
            Fault::Result(json!(B256::with_last_byte(1)))
        }
        _ => Fault::None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_l1_node_leaves_out_far_back_shows_in_the_contracts_storage() {
    let world = World::start().await;
    world.sequence(4);
    world.post(1, 2).await;
    world.post(3, 4).await;
    // Too far back for blocks to be read one by one.
    world.anvil.mine(50).await.expect("mines");
    let report = world.verify(VerifyTarget::Latest).await.expect("a right chain");
    assert_eq!((report.batches, report.l1_checked), (2, L1Check::Proof));

    let lying = Arc::new(AtomicBool::new(true));
    let told = Arc::clone(&lying);
    let script = move |_, request: &Value| match told.load(Ordering::SeqCst) {
        true => forgets_the_second_batch(request),
        false => Fault::None,
    };
    let (_proxy, rollup) = world.behind_reading(test_patience(), script).await;
    let found = differs(world.verify_through(rollup.clone(), VerifyTarget::Latest).await);
    assert_eq!((found.what, &*found.expected, &*found.got), ("number of posted batches", "2", "1"));

    let running = world.settle_through(rollup, TestReplay::new()).await;
    let status = running.wait(|status| status.halted.is_some()).await;
    let reason = status.halted.expect("it says why");
    assert!(reason.contains("the last batch that the rollup contract has"), "{reason}");
    lying.store(false, Ordering::SeqCst);
    running.committed(2).await;
    running.wait(|status| status.halted.is_none()).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commitments_that_an_l1_node_changes_are_differences() {
    let world = World::start().await;
    world.sequence(4);
    world.post(1, 2).await;
    world.post(3, 4).await;
    let running = world.settle(TestReplay::new()).await;
    running.committed(2).await;
    running.stop().await;
    let script = |_, method: &str| match method {
        "eth_getLogs" => Fault::Change(|logs| {
            each::<Rollup::BatchCommitted>(logs, |event| {
                if event.number == 1 {
                    event.commitment.finalAt -= 1;
                }
                true
            });
        }),
        _ => Fault::None,
    };
    let (_proxy, rollup) = world.behind(test_patience(), script).await;
    let found = differs(world.verify_through(rollup, VerifyTarget::Latest).await);
    assert_eq!(found.what, "hash");
    assert!(found.at.contains("the commitment of batch 1"), "{found}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_l1_node_that_proves_nothing_is_read_block_by_block() {
    let world = World::start().await;
    world.sequence(3);
    world.deposit().await;
    world.post(1, 4).await;
    world.anvil.mine(50).await.expect("mines");
    let refuses = |method: &str| method == "eth_getProof";
    let script = move |_, method: &str| match method {
        _ if refuses(method) => Fault::Error(-32_000, "missing trie node"),
        // Nobody asks for these.
        "eth_getLogs" => Fault::Result(json!([])),
        _ => Fault::None,
    };
    let (_proxy, rollup) = world.behind(test_patience(), script).await;
    // The genesis is given here; `millrace verify` reads it from events.
    let report = world.verify_through(rollup, VerifyTarget::Latest).await.expect("a right chain");
    assert_eq!((report.batches, report.deposits), (1, 1));
    assert_eq!(report.l1_checked, L1Check::Receipts);

    let script = move |_, method: &str| match method {
        _ if refuses(method) => Fault::Error(-32_000, "missing trie node"),
        "eth_getBlockReceipts" => Fault::Change(|receipts| {
            for receipt in receipts.as_array_mut().into_iter().flatten() {
                receipt["logs"] = json!([]);
            }
        }),
        _ => Fault::None,
    };
    let (_proxy, rollup) = world.behind(test_patience(), script).await;
    match world.verify_through(rollup, VerifyTarget::Latest).await {
        Err(VerifyError::L1(error)) => {
            assert!(error.to_string().contains("receipts of block"), "{error}")
        }
        other => panic!("an L1 error expected, got {other:?}"),
    }
}

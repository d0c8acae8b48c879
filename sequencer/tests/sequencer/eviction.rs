//! What becomes of acknowledged transactions that give way in a full pool.

use alloy::{
    consensus::TxEip1559,
    primitives::{Bytes, TxHash},
};
use futures::StreamExt;
use millrace_proto::{PoolStatus, RejectReason, Sequencer, Stage, TxPool};

use crate::support::{GWEI, Node, Setup, hash_of, sign, signer, soon, transfer};

fn offer(sender: u8, nonce: u64, gwei: u128) -> Bytes {
    let tx = TxEip1559 { max_fee_per_gas: gwei * GWEI, ..transfer(nonce) };
    sign(&signer(sender), tx)
}

/// A pool that takes three, and is full of those that wait for an earlier nonce.
async fn full() -> (Setup, Node, Vec<Bytes>) {
    let mut setup = Setup::new();
    setup.config.pool.max_transactions = 3;
    let node = setup.start().await;
    let waiting = vec![offer(0, 1, 100), offer(1, 1, 200), offer(1, 2, 300)];
    for raw in &waiting {
        node.submit(raw.clone()).await.expect("accepted");
    }
    (setup, node, waiting)
}

async fn dropped_as(node: &Node, hash: TxHash) -> Option<RejectReason> {
    soon(node.handle.wait_for(hash, Stage::Sequenced)).await.expect("a status").reason
}

#[tokio::test(flavor = "multi_thread")]
async fn who_watches_what_is_evicted_is_told_and_it_stays_so_after_a_restart() {
    let (mut setup, node, waiting) = full().await;
    let hashes: Vec<_> = waiting.iter().map(hash_of).collect();
    let watched = node.handle.watch(hashes[0]).await.expect("it is known");
    assert_eq!(
        node.refusal(offer(2, 1, 109)).await,
        RejectReason::PoolFull { limit: 3 },
        "it would wait, and does not offer a tenth more"
    );
    // It does not wait: it has to offer more at all.
    let first = node.submit(offer(2, 0, 101)).await.expect("accepted");
    node.sequenced(first).await;
    let stages: Vec<_> = soon(watched.map(|status| status.expect("a status")).collect()).await;
    let last = stages.last().expect("a stage");
    assert_eq!((last.stage, last.reason.clone()), (Stage::Dropped, Some(RejectReason::Evicted)));

    // Its room was taken for a moment only.
    let second = node.submit(offer(3, 1, 400)).await.expect("there is room again");
    let third = node.submit(offer(4, 1, 220)).await.expect("it offers a tenth more than 200");
    assert_eq!(dropped_as(&node, hashes[2]).await, Some(RejectReason::Evicted), "the last nonce");
    node.kill().await;

    setup.config.pool.max_transactions = 10;
    let node = setup.start().await;
    let status = node.handle.pool_status().await.expect("status");
    assert_eq!(status, PoolStatus { pending: 0, queued: 3 });
    for hash in [hashes[0], hashes[2]] {
        assert_eq!(dropped_as(&node, hash).await, Some(RejectReason::Evicted));
    }
    // What was acknowledged and not dropped comes into blocks, and what was evicted may come again.
    for (sender, gwei) in [(1, 200), (3, 400), (4, 220)] {
        node.submit(offer(sender, 0, gwei)).await.expect("accepted");
    }
    for hash in [hashes[1], second, third] {
        node.sequenced(hash).await;
    }
    node.submit(waiting[0].clone()).await.expect("accepted");
    node.stop().await.expect("a clean end");
}

/// What was acknowledged is taken back whatever the limits are now; only then do they count.
#[tokio::test(flavor = "multi_thread")]
async fn smaller_limits_after_a_restart_take_nothing_away() {
    let (mut setup, node, waiting) = full().await;
    node.kill().await;
    setup.config.pool.max_transactions = 1;
    setup.config.pool.max_bytes = setup.config.max_transaction_bytes;
    setup.config.pool.max_per_sender = 1;
    setup.config.pool.max_nonce_gap = 0;
    let node = setup.start().await;
    let status = node.handle.pool_status().await.expect("status");
    assert_eq!(status, PoolStatus { pending: 0, queued: 3 });
    let too_far = RejectReason::NonceTooFar { got: 1, expected: 0, limit: 0 };
    assert_eq!(node.refusal(offer(2, 1, 900)).await, too_far);
    for raw in &waiting {
        assert!(node.handle.pooled(hash_of(raw)).await.expect("no error").is_some());
    }
    // A newcomer takes the place of one, not of all that are too many.
    node.sequenced(node.submit(offer(2, 0, 101)).await.expect("accepted")).await;
    assert_eq!(dropped_as(&node, hash_of(&waiting[0])).await, Some(RejectReason::Evicted));
    let status = node.handle.pool_status().await.expect("status");
    assert_eq!(status, PoolStatus { pending: 0, queued: 2 });
    node.stop().await.expect("a clean end");

    setup.config.pool = Default::default();
    let node = setup.start().await;
    node.submit(offer(1, 0, 100)).await.expect("accepted");
    for raw in &waiting[1..] {
        node.sequenced(hash_of(raw)).await;
    }
    node.stop().await.expect("a clean end");
}

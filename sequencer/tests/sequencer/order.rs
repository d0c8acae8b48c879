//! The order of a block's transactions, by each policy.

use std::{collections::HashMap, sync::Arc};

use alloy::{
    consensus::{Transaction, TxEip1559},
    primitives::{Address, Bytes, TxHash},
};
use millrace_proto::{ExecutedBlock, RecoveredTx, Sequencer};
use millrace_sequencer::OrderBy;

use crate::{
    inbox::TestInbox,
    support::{GWEI, Node, Setup, hash_of, sign, signer, transfer},
};

/// Senders, with the tips in gwei that their transactions offer, nonce by nonce.
const TIPS: [&[u128]; 4] = [&[1, 9, 3], &[5, 5], &[2, 50, 4, 1], &[5, 7]];

/// What a sender sends at a nonce.
fn bid(sender: usize, nonce: usize) -> Bytes {
    let tx = TxEip1559 {
        max_fee_per_gas: 1_000 * GWEI,
        max_priority_fee_per_gas: TIPS[sender][nonce] * GWEI,
        ..transfer(nonce as u64)
    };
    sign(&signer(sender as u8), tx)
}

/// Everything but the first nonces, which it all waits for.
async fn submit_what_waits(node: &Node) -> Vec<Bytes> {
    let later =
        (0..TIPS.len()).flat_map(|sender| (1..TIPS[sender].len()).map(move |n| (sender, n)));
    let raw: Vec<_> = later.map(|(sender, nonce)| bid(sender, nonce)).collect();
    for result in node.handle.submit_many(raw.clone()).await {
        result.expect("accepted");
    }
    raw
}

/// The first nonces, together: everything can be taken at once from then on.
async fn submit_first(node: &Node) -> Vec<Bytes> {
    let raw: Vec<_> = (0..TIPS.len()).map(|sender| bid(sender, 0)).collect();
    for result in node.handle.submit_many(raw.clone()).await {
        result.expect("accepted");
    }
    raw
}

/// The last block's transactions but those of L1, once all of these are in it.
async fn sealed_together(node: &Node, raw: &[Bytes]) -> Vec<Arc<RecoveredTx>> {
    let mut blocks: Vec<_> = Vec::new();
    for raw in raw {
        let status = node.sequenced(hash_of(raw)).await;
        blocks.push(status.inclusion.expect("included").block.number);
    }
    assert!(blocks.iter().all(|number| *number == blocks[0]), "in one block: {blocks:?}");
    let block: Arc<ExecutedBlock> = node.blocks().await[blocks[0] as usize - 1].clone();
    block.signed().to_vec()
}

fn hashes(txs: &[Arc<RecoveredTx>]) -> Vec<TxHash> {
    txs.iter().map(|tx| tx.hash()).collect()
}

/// By sender and nonce, as TIPS has them.
fn named(order: &[(usize, usize)]) -> Vec<TxHash> {
    order.iter().map(|(sender, nonce)| hash_of(&bid(*sender, *nonce))).collect()
}

/// The best head, again and again; of equals, the one that could be taken first.
const BY_FEE: [(usize, usize); 11] =
    [(1, 0), (1, 1), (3, 0), (3, 1), (2, 0), (2, 1), (2, 2), (0, 0), (0, 1), (0, 2), (2, 3)];

/// Sender by sender, since each one's later transactions can be taken as soon as its first one has come.
const BY_ARRIVAL: [(usize, usize); 11] =
    [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (2, 0), (2, 1), (2, 2), (2, 3), (3, 0), (3, 1)];

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_is_in_the_order_that_was_chosen() {
    for (order, expected) in [(OrderBy::Arrival, BY_ARRIVAL), (OrderBy::PriorityFee, BY_FEE)] {
        let mut setup = Setup::new();
        setup.config.order = order;
        let node = setup.start().await;
        let mut raw = submit_what_waits(&node).await;
        raw.extend(submit_first(&node).await);
        let txs = sealed_together(&node, &raw).await;
        assert_eq!(hashes(&txs), named(&expected), "{order:?}");
        let head = node.executor_head().await;
        node.stop().await.expect("a clean end");
        // The order is in the log: nobody has to find it again.
        setup.config.order = OrderBy::default();
        setup.log_alone_gives(head).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_from_l1_is_first_whatever_others_pay() {
    let inbox = Arc::new(TestInbox::default());
    inbox.deposit(2);
    let forced = TxEip1559 { max_priority_fee_per_gas: 0, ..transfer(0) };
    inbox.force(sign(&signer(9), forced));
    let mut setup = Setup::new();
    setup.config.order = OrderBy::PriorityFee;
    setup.inbox = Some(inbox);
    let node = setup.start().await;
    submit_what_waits(&node).await;
    let raw = submit_first(&node).await;
    for raw in &raw {
        node.sequenced(hash_of(raw)).await;
    }
    let dearest = TxEip1559 { max_priority_fee_per_gas: 99 * GWEI, ..transfer(0) };
    node.sequenced(node.submit(sign(&signer(8), dearest)).await.expect("accepted")).await;
    for block in node.blocks().await {
        let queued = block.queued_count();
        let from_l1 =
            |tx: &Arc<RecoveredTx>| tx.tx().is_deposit() || tx.sender() == signer(9).address();
        assert!(block.transactions[..queued].iter().all(from_l1));
        assert!(!block.transactions[queued..].iter().any(from_l1));
    }
    node.stop().await.expect("a clean end");
}

/// What was acknowledged before a restart is ordered as everything else after it, also by another policy.
#[tokio::test(flavor = "multi_thread")]
async fn what_waited_through_a_restart_is_in_the_order_too() {
    for order in [OrderBy::Arrival, OrderBy::PriorityFee] {
        let mut setup = Setup::new();
        let node = setup.start().await;
        let mut raw = submit_what_waits(&node).await;
        node.kill().await;
        setup.config.order = order;
        let node = setup.start().await;
        raw.extend(submit_first(&node).await);
        let txs = sealed_together(&node, &raw).await;
        let expected = if order == OrderBy::Arrival { BY_ARRIVAL } else { BY_FEE };
        assert_eq!(hashes(&txs), named(&expected), "{order:?}");
        node.stop().await.expect("a clean end");
    }
}

/// Blocks that have room for a few: those who pay more come first, and each sender's by nonce.
#[tokio::test(flavor = "multi_thread")]
async fn where_blocks_are_full_tips_decide_who_is_first() {
    let mut setup = Setup::new();
    setup.config.order = OrderBy::PriorityFee;
    setup.config.max_block_transactions = 3;
    let node = setup.start().await;
    let mut raw = submit_what_waits(&node).await;
    raw.extend(submit_first(&node).await);
    for raw in &raw {
        node.sequenced(hash_of(raw)).await;
    }
    // Base fees of these blocks are nearly the same, so that tips are what was offered.
    let mut next: HashMap<Address, u64> = HashMap::new();
    let blocks = node.blocks().await;
    let mut order = Vec::new();
    for block in &blocks {
        assert!(block.transactions.len() <= 3);
        for tx in &block.transactions {
            let nonce = next.entry(tx.sender()).or_default();
            assert_eq!(tx.tx().nonce(), *nonce);
            *nonce += 1;
            order.push(tx.hash());
        }
    }
    assert_eq!(order, named(&BY_FEE));
    node.stop().await.expect("a clean end");
}

//! L1 takes blocks no more, as they leave out what is overdue in its queue.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use alloy::primitives::{B256, TxHash};
use millrace_proto::{BlockNumHash, ExecutedBlock, Executor, QueueMark, RefusedBlocks};
use millrace_sequencer::ThrottleConfig;

use crate::{
    adopt::signed,
    blocks::TestDa,
    inbox::{TestInbox, mints_what_l1_has},
    support::{Node, Setup, sign, signer, soon, transfer},
};

/// A sequencer that takes one entry a block, and can be told what L1 refuses.
fn told(inbox: &Arc<TestInbox>) -> (Setup, Arc<TestDa>) {
    let mut setup = Setup::new();
    let da = Arc::new(TestDa::default());
    setup.inbox = Some(inbox.clone());
    setup.da = Some(da.clone());
    setup.config.max_deposits_per_block = 1;
    setup.config.throttle =
        ThrottleConfig { poll_interval: Duration::from_millis(5), ..ThrottleConfig::default() };
    (setup, da)
}

/// A block of its own for a transaction.
async fn send(node: &Node, nonce: u64) -> TxHash {
    let hash = node.submit(sign(&signer(0), transfer(nonce))).await.expect("accepted");
    node.sequenced(hash).await;
    hash
}

async fn height(node: &Node) -> u64 {
    node.executor.head().await.expect("a head").number
}

/// How far each block has taken the queue, and how many transactions it has beside.
fn shape(blocks: &[Arc<ExecutedBlock>]) -> Vec<(u64, usize)> {
    let end = |block: &ExecutedBlock| QueueMark::of(&block.header).unwrap_or_default().end;
    blocks.iter().map(|block| (end(block), block.signed().len())).collect()
}

fn hashes(blocks: &[Arc<ExecutedBlock>]) -> Vec<TxHash> {
    blocks.iter().map(|block| block.hash()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_overdue_is_taken_before_anything_else() {
    let inbox = Arc::new(TestInbox::default());
    let (mut setup, da) = told(&inbox);
    let node = setup.start().await;
    let mut sent = vec![send(&node, 0).await, send(&node, 1).await];
    inbox.deposit(3);
    mints_what_l1_has(&node.executor, &inbox).await;
    sent.push(send(&node, 2).await);
    let before = node.blocks().await;
    assert_eq!(shape(&before)[..2], [(0, 1), (0, 1)]);

    // L1 does not answer while they are taken back: nothing is put into their place then.
    inbox.down.store(true, Ordering::Relaxed);
    let last = before[2].num_hash();
    *da.refused.lock() = Some(RefusedBlocks { after: 1, last, due: 3 });
    let taken_back = async {
        while height(&node).await != 1 {
            tokio::task::yield_now().await;
        }
    };
    soon(taken_back).await;
    let polls = inbox.polls.load(Ordering::Relaxed);
    let asked = async {
        while inbox.polls.load(Ordering::Relaxed) < polls + 3 {
            tokio::task::yield_now().await;
        }
    };
    soon(asked).await;
    assert_eq!(height(&node).await, 1);
    inbox.down.store(false, Ordering::Relaxed);
    mints_what_l1_has(&node.executor, &inbox).await;
    let last = node.submit(sign(&signer(0), transfer(3))).await.expect("accepted");
    node.sequenced(last).await;
    sent.push(last);
    assert_eq!(signed(&node).await, sent, "each once, in its order");
    let after = node.blocks().await;
    assert_eq!(after[0].hash(), before[0].hash());
    assert_eq!(shape(&after)[..3], [(0, 1), (1, 0), (2, 0)]);

    // It is told until another batch is there, and nothing is taken back for it again.
    da.asked_again().await;
    assert_eq!(hashes(&node.blocks().await)[..after.len()], hashes(&after));
    let head = node.executor_head().await;
    node.stop().await.expect("a clean end");
    setup.log_alone_gives(head).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_that_begin_with_what_is_overdue_stay() {
    let inbox = Arc::new(TestInbox::default());
    let (mut setup, da) = told(&inbox);
    let node = setup.start().await;
    send(&node, 0).await;
    inbox.deposit(2);
    mints_what_l1_has(&node.executor, &inbox).await;
    send(&node, 1).await;
    let blocks = node.blocks().await;
    let (before, last) = (hashes(&blocks), blocks[2].num_hash());
    for refused in [
        RefusedBlocks { after: 1, last, due: 2 },
        // Blocks that are not here any more, or not yet.
        RefusedBlocks { after: 0, last: BlockNumHash { hash: B256::ZERO, ..last }, due: 2 },
        RefusedBlocks { after: 0, last: BlockNumHash { number: 1_000, ..last }, due: 2 },
    ] {
        *da.refused.lock() = Some(refused);
        da.asked_again().await;
        da.asked_again().await;
    }
    assert_eq!(hashes(&node.blocks().await), before);
    node.stop().await.expect("a clean end");
}

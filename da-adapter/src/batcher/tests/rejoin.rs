//! Blocks that the sequencer takes back.

use millrace_proto::L1Ref;

use super::*;
use crate::outbox::{Post, Submitted};

/// Blocks that the sequencer takes back leave the closed batches too, with all that is known of them.
#[tokio::test(start_paused = true)]
async fn batches_of_blocks_that_are_taken_back_are_closed_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut chain = Chain::new("a");
    let executor = TestExecutor::new(chain.head());
    let running = Running::start(&config(), executor.clone(), folder.path(), chain.cursor());
    for count in 1..=2 {
        executor.push(chain.small());
        executor.push(chain.small());
        running.closed(count).await;
    }
    let (first, mut other) = (running.decode(1), chain.clone());
    executor.push(chain.small());
    executor.push(chain.small());
    running.closed(3).await;
    executor.push(chain.small());
    let digest = |number| running.outbox.entry(number).unwrap().digest;
    let (kept, gone) = (digest(2), digest(3));
    let put = Submitted { kind: DaKind::AltDa, da_pointer: Bytes::from_static(b"there") };
    assert!(running.outbox.mark_submitted(3, gone, &put).unwrap());

    // All but the blocks of the first two batches; the open one is gone too.
    executor.unwind(4);
    executor.push(other.noisy());
    let again = running.closed_again(3, gone).await;
    assert_eq!((again.first_block, again.blocks.len()), (5, 1));
    assert_eq!(again.last_block_hash, other.head().seal());
    assert_eq!((digest(2), running.outbox.submitted(3).unwrap()), (kept, None));
    // What was under way with the other one is not noted for this one.
    assert!(!running.outbox.mark_submitted(3, gone, &put).unwrap());
    running.stop().await;

    // While the adapter is away, and into the middle of a batch.
    executor.unwind(3);
    let mut third = Chain::new("c");
    third.follow(&executor.last());
    executor.push(third.noisy());
    let running = Running::start(&config(), executor.clone(), folder.path(), chain.cursor());
    let again = running.closed_again(2, kept).await;
    assert_eq!((again.first_block, again.last_block()), (3, 4));
    assert_eq!(again.parent_hash, first.last_block_hash);
    assert_eq!(running.outbox.entry(3), None);
    assert_eq!(running.halts.reason(), None);

    // An executor that has lost blocks, and gets the same ones again, has not taken them back.
    running.stop().await;
    let lost: Vec<_> = executor.blocks_mut().split_off(1);
    let running = Running::start(&config(), executor.clone(), folder.path(), chain.cursor());
    tokio::time::sleep(Duration::from_secs(60)).await;
    let count = lost.len();
    lost.into_iter().for_each(|block| executor.push(block));
    executor.push(third.noisy());
    running.wait_for(3).await;
    assert_eq!(running.decode(2), again);
    assert_eq!(running.decode(3).first_block, 2 + count as u64);

    // L1 holds batches of others up to the fifth block; what was open is collected from there.
    let fifth = executor.last();
    let elsewhere = Cursor {
        batch: 7,
        block: BlockNumHash::new(fifth.number, fifth.seal()),
        ..running.outbox.cursor().unwrap()
    };
    let l1 = L1Ref { tx_hash: B256::ZERO, block: elsewhere.block };
    running.outbox.mark_posted(1, Post { l1, fee: U256::ZERO }, None).unwrap();
    running.outbox.rejoin(elsewhere, B256::ZERO).unwrap();
    executor.push(third.noisy());
    executor.push(third.noisy());
    running.wait_for(8).await;
    assert_eq!(running.decode(8).first_block, fifth.number + 1);
    assert_eq!(running.outbox.entry(3), None);

    // What is final does not go.
    running.outbox.prune(8).unwrap();
    executor.unwind(1);
    let mut fourth = Chain::new("d");
    fourth.follow(&executor.last());
    for _ in 0..8 {
        executor.push(fourth.noisy());
    }
    while running.halts.reason().is_none() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(running.outbox.cursor().unwrap().batch, 8);
    running.stop().await;
}

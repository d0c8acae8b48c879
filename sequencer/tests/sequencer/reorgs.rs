//! L1 reorgs that take what blocks hold.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use alloy::primitives::{B256, TxHash, U256, map::B256Set};
use futures::StreamExt;
use millrace_proto::{
    Executor, L1Inbox, QueueMark, SealedHeader, Sequencer, Stage, Standing, TxPool,
};
use millrace_sequencer::SequencerRunError;
use parking_lot::Mutex;

use crate::{
    crashes::{Book, describe, random_fault, start_with, struck, submit_all},
    faults::Place,
    inbox::{TestInbox, minted, mints_what_l1_has},
    lifecycle::TestSettlement,
    support::{GENESIS_TIME, Node, Random, Setup, sign, signer, soon, transfer},
};

/// The next block of a chain that satisfies a condition, and all that came before it.
async fn reaches(node: &Node, from: u64, condition: impl Fn(&SealedHeader) -> bool) -> Vec<u64> {
    let mut blocks = node.executor.subscribe(from).await.expect("blocks");
    let mut seen = Vec::new();
    let reached = async {
        while let Some(block) = blocks.next().await {
            let block = block.expect("no error");
            seen.push(block.number());
            if condition(&block.header) {
                return;
            }
        }
    };
    soon(reached).await;
    seen
}

fn consumed(header: &SealedHeader) -> u64 {
    QueueMark::of(header).expect("a rollup header").end
}

/// A chain with an inbox that gives up vanished entries at once.
fn setup() -> (Setup, Arc<TestInbox>) {
    let inbox = Arc::new(TestInbox::default());
    let mut setup = Setup::new();
    setup.inbox = Some(inbox.clone());
    setup.config.deposit_patience = Duration::ZERO;
    inbox.time.store(GENESIS_TIME + 1_000, Ordering::Relaxed);
    (setup, inbox)
}

/// When transactions were accepted.
async fn accepted_at(node: &Node, hashes: &[TxHash]) -> Vec<Duration> {
    let mut times = Vec::new();
    for hash in hashes {
        let stages = node.handle.stages(*hash).await.expect("no error");
        times.push(stages[0].reached_at.expect("it is known"));
    }
    times
}

/// Sends transfers of senders 0 to 2 with a nonce, one block a sender.
async fn blocks_of(node: &Node, nonce: u64) -> Vec<TxHash> {
    let mut sent = Vec::new();
    for index in 0..3 {
        let hash = node.submit(sign(&signer(index), transfer(nonce))).await.expect("accepted");
        node.sequenced(hash).await;
        sent.push(hash);
    }
    sent
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_are_taken_back_when_their_deposits_vanish_and_all_else_comes_again() {
    let (mut setup, inbox) = setup();
    let node = setup.start().await;
    inbox.deposit(1);
    reaches(&node, 1, |header| consumed(header) == 1).await;
    let before = blocks_of(&node, 0).await;
    let stays = node.executor.head().await.expect("head");
    inbox.deposit(2);
    reaches(&node, 1, |header| consumed(header) == 3).await;
    let after = [blocks_of(&node, 1).await, blocks_of(&node, 2).await].concat();
    // One that waits for a nonce, before and after.
    let early = node.submit(sign(&signer(3), transfer(1))).await.expect("accepted");
    let moved = [&after[..], &[early]].concat();
    let accepted = accepted_at(&node, &moved).await;
    setup.clock.1.store(4_321, Ordering::Relaxed);
    let void = node.blocks().await;
    let mut feed = node.executor.subscribe(stays.number + 1).await.expect("blocks");
    for block in &void[stays.number as usize..] {
        assert_eq!(soon(feed.next()).await.expect("a block").expect("no error"), *block);
    }

    inbox.reorg(1, 0);
    // The feed goes on with what takes the place of the first that is void.
    let again = soon(feed.next()).await.expect("a block").expect("no error");
    assert_eq!((again.number(), again.header.parent_hash), (stays.number + 1, stays.seal()));
    for hash in &after {
        assert_eq!(node.sequenced(*hash).await.stage, Stage::Sequenced);
    }
    let late = node.submit(sign(&signer(3), transfer(0))).await.expect("accepted");
    node.sequenced(early).await;
    let signed = async |node: &Node| -> Vec<TxHash> {
        let blocks = node.blocks().await;
        let txs = blocks.iter().flat_map(|block| &block.transactions);
        txs.filter(|tx| !tx.tx().is_deposit()).map(|tx| tx.hash()).collect()
    };
    let expected = [before, after, vec![late, early]].concat();
    assert_eq!(signed(&node).await, expected, "each once, in its order");
    assert_eq!(accepted_at(&node, &moved).await, accepted, "when it was accepted first");
    assert_eq!(minted(&node.executor).await, inbox.total());

    // What L1 has instead comes too; and a deeper reorg takes everything.
    inbox.reorg(1, 3);
    reaches(&node, 1, |header| consumed(header) == 4).await;
    assert_eq!(minted(&node.executor).await, inbox.total());
    inbox.reorg(0, 1);
    let replaced = async |node: &Node| {
        let head = node.executor.head().await.expect("head");
        consumed(&head) == 1 && minted(&node.executor).await == inbox.total()
    };
    soon(async {
        while !replaced(&node).await {
            tokio::task::yield_now().await;
        }
    })
    .await;
    for hash in &expected {
        assert_eq!(node.sequenced(*hash).await.stage, Stage::Sequenced);
    }
    let again: B256Set = signed(&node).await.into_iter().collect();
    assert_eq!(again, expected.iter().copied().collect::<B256Set>());
    let head = node.executor_head().await;
    drop(feed);
    node.stop().await.expect("a clean end");

    // A start finds the same chain; and so does one that has only the log.
    let node = setup.start().await;
    assert_eq!(node.executor_head().await, head);
    assert_eq!(accepted_at(&node, &moved).await, accepted);
    node.stop().await.expect("a clean end");
    setup.log_alone_gives(head).await;
}

/// A reorg mostly brings the same transactions again, a little later: blocks stay as they are for that long.
#[tokio::test(flavor = "multi_thread")]
async fn deposits_that_come_back_as_they_were_change_nothing() {
    let (mut setup, inbox) = setup();
    setup.config.deposit_patience = Duration::from_secs(60);
    let node = setup.start().await;
    inbox.deposit(2);
    reaches(&node, 1, |header| consumed(header) == 2).await;
    let taken_at = node.executor.head().await.expect("head").timestamp;
    let kept = inbox.entries.lock().clone();
    // L1's chain is younger than the block, but not by enough.
    inbox.time.store(taken_at + 59, Ordering::Relaxed);
    inbox.reorg(1, 0);
    let polls = inbox.polls.load(Ordering::Relaxed);
    soon(async {
        while inbox.polls.load(Ordering::Relaxed) < polls + 5 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let hashes = blocks_of(&node, 0).await;
    *inbox.entries.lock() = kept;
    inbox.deposit(1);
    reaches(&node, 1, |header| consumed(header) == 3).await;
    let blocks = node.blocks().await;
    let numbers: Vec<u64> = blocks.iter().map(|block| block.number()).collect();
    assert_eq!(numbers, reaches(&node, 1, |header| header.number == blocks.len() as u64).await);
    assert_eq!(minted(&node.executor).await, inbox.total());
    assert_eq!(hashes.len(), 3);
    // From the sixtieth second on it is gone.
    inbox.time.store(taken_at + 1_000, Ordering::Relaxed);
    inbox.reorg(1, 0);
    mints_what_l1_has(&node.executor, &inbox).await;
    node.stop().await.expect("a clean end");
}

/// However young the head is: it counts how long ago the lost entries were taken.
#[tokio::test(flavor = "multi_thread")]
async fn blocks_that_go_on_coming_do_not_keep_lost_deposits() {
    let (mut setup, inbox) = setup();
    setup.config.deposit_patience = Duration::from_secs(60);
    let node = setup.start().await;
    inbox.deposit(2);
    reaches(&node, 1, |header| consumed(header) == 2).await;
    let taken_at = node.executor.head().await.expect("head").timestamp;
    setup.clock.0.store(taken_at + 59, Ordering::Relaxed);
    let hashes = blocks_of(&node, 0).await;
    assert_eq!(node.executor.head().await.expect("head").timestamp, taken_at + 59);
    inbox.time.store(taken_at + 61, Ordering::Relaxed);
    inbox.reorg(1, 0);
    mints_what_l1_has(&node.executor, &inbox).await;
    for hash in hashes {
        assert_eq!(node.sequenced(hash).await.stage, Stage::Sequenced);
    }
    node.stop().await.expect("a clean end");
}

/// What is final does not go: the L1 node is wrong, or L1 is.
#[tokio::test(flavor = "multi_thread")]
async fn final_blocks_are_not_taken_back() {
    let (mut setup, inbox) = setup();
    let settlement = Arc::new(TestSettlement::new());
    setup.settlement = Some(settlement.clone());
    let node = setup.start().await;
    inbox.deposit(1);
    let last = *reaches(&node, 1, |header| consumed(header) == 1).await.last().expect("a block");
    let hash = node.submit(sign(&signer(0), transfer(0))).await.expect("accepted");
    node.sequenced(hash).await;
    settlement.say(last, last, last);
    soon(async {
        while node.handle.heads().await.expect("heads").finalized.number < last {
            tokio::task::yield_now().await;
        }
    })
    .await;
    inbox.reorg(0, 1);
    let ended = soon(node.run).await.expect("no panic").expect_err("it cannot go on");
    assert!(
        matches!(ended, SequencerRunError::FinalVanished { block, finalized } if block <= finalized),
        "{ended}"
    );
    node.executor.close().await;
}

/// Reorgs, faults and kills at random: what was acknowledged is included once, what L1 has is minted, and the log alone gives the same chain.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_or_doubled_whatever_l1_takes_back() {
    let mut random = Random::seeded();
    let (mut setup, inbox) = setup();
    setup.config.block_time = Duration::from_millis(10);
    setup.config.frame_interval = Duration::from_millis(1);
    setup.config.deposit_poll_interval = Duration::from_millis(1);
    let book = Arc::new(Mutex::new(Book::default()));
    for cycle in 0..40 {
        let places = [Place::Append, Place::Execute, Place::Close, Place::Seal, Place::Unwind];
        let fault = random_fault(&mut random, &places);
        let kill_after = Duration::from_micros(random.below(60_000));
        let Some(node) = start_with(&mut setup, &fault, cycle).await else { continue };
        book.lock().sign(4);
        let mut other = random.clone();
        random.next();
        let work = async {
            loop {
                inbox.deposit(other.below(4));
                submit_all(&node, &book).await;
                let count = inbox.entries.lock().len() as u64;
                let keeps = count - other.below(count.min(6) + 1);
                inbox.reorg(keeps as usize, other.below(4));
                if other.below(4) == 0 || node.run.is_finished() {
                    break;
                }
                tokio::time::sleep(Duration::from_micros(other.below(30_000))).await;
            }
            let acknowledged = book.lock().acknowledged.clone();
            for hash in acknowledged {
                match node.handle.wait_for(hash, Stage::Sequenced).await {
                    Ok(status) => assert_eq!(status.stage, Stage::Sequenced),
                    // Blocks are being taken back, or it ends with an error.
                    Err(error) => assert!(!error.to_string().contains("unknown"), "{error}"),
                }
            }
        };
        tokio::select! {
            () = work => {}
            () = struck(&fault, kill_after) => {}
        }
        node.kill().await;
        println!("cycle {cycle}: {}", describe(&fault));
    }
    let node = setup.start().await;
    soon(async {
        let waits = || {
            let book = book.lock();
            book.all.len() > book.acknowledged.len()
        };
        while waits() {
            submit_all(&node, &book).await;
        }
        while minted(&node.executor).await != inbox.total()
            || inbox.standing(mark(&node).await).await.expect("it answers") != Standing::Whole
        {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let book = std::mem::take(&mut *book.lock());
    for hash in &book.acknowledged {
        assert_eq!(node.sequenced(*hash).await.stage, Stage::Sequenced);
    }
    let blocks = node.blocks().await;
    let txs = blocks.iter().flat_map(|block| &block.transactions);
    let signed: Vec<TxHash> = txs.filter(|tx| !tx.tx().is_deposit()).map(|tx| tx.hash()).collect();
    let unique: B256Set = signed.iter().copied().collect();
    assert_eq!((signed.len(), &unique), (book.all.len(), &book.acknowledged));
    let head = node.executor_head().await;
    node.stop().await.expect("a clean end");

    setup.forget_executor();
    let node = setup.start().await;
    assert_eq!(node.executor_head().await, head);
    assert_ne!((minted(&node.executor).await, head), (U256::ZERO, B256::ZERO));
    node.stop().await.expect("a clean end");
}

async fn mark(node: &Node) -> QueueMark {
    QueueMark::of(&node.executor.head().await.expect("head")).expect("a rollup header")
}

//! L1 holds other blocks than were sequenced here, or more.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use alloy::primitives::{B256, Bytes, TxHash, map::B256Set};
use futures::StreamExt;
use millrace_proto::{
    BlockNumHash, BlockSelector, ExecutedBlock, Executor, L1Inbox, QueueMark, Sequencer,
    SequencerError, Stage, Standing, SubmitError, TxPool, num_hash,
};
use millrace_sequencer::SequencerRunError;
use parking_lot::Mutex;

use crate::{
    crashes::{Book, describe, random_fault, start_with, struck, submit_all},
    faults::Place,
    inbox::{TestInbox, minted, mints_what_l1_has},
    lifecycle::TestSettlement,
    support::{GENESIS_TIME, Node, Random, Setup, hash_of, sign, signer, soon, transfer},
};

/// A sequencer that can be told what L1 holds.
fn told(inbox: &Arc<TestInbox>) -> (Setup, Arc<TestSettlement>) {
    let mut setup = Setup::new();
    let settlement = Arc::new(TestSettlement::new());
    setup.inbox = Some(inbox.clone());
    setup.settlement = Some(settlement.clone());
    setup.config.deposit_patience = Duration::ZERO;
    (setup, settlement)
}

/// Waits until a block is in the chain of a node.
async fn has(node: &Node, block: BlockNumHash) {
    let at = BlockSelector::Number(block.number);
    soon(async {
        while node.executor.header(at).await.expect("it answers").map(|header| header.seal())
            != Some(block.hash)
        {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

/// The chain of one node becomes what the other's settlement derives, and is taken over there.
async fn taken_over(from: &Node, by: &Node, settlement: &TestSettlement) -> BlockNumHash {
    let blocks = from.blocks().await;
    let end = blocks.last().expect("a block").num_hash();
    settlement.derive(blocks);
    has(by, end).await;
    end
}

/// Submits a transaction to a node that may be taking blocks back still.
async fn submit(node: &Node, raw: Bytes) -> TxHash {
    soon(async {
        loop {
            match node.submit(raw.clone()).await {
                Err(SubmitError::Failed(SequencerError::Unavailable(_))) => {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                submitted => return submitted.expect("accepted"),
            }
        }
    })
    .await
}

async fn send(node: &Node, sender: u8, nonce: u64) -> TxHash {
    let hash = submit(node, sign(&signer(sender), transfer(nonce))).await;
    node.sequenced(hash).await;
    hash
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_that_l1_holds_replace_those_that_were_sequenced() {
    let inbox = Arc::new(TestInbox::default());
    let (mut setup, settlement) = told(&inbox);
    let (mut others, theirs) = told(&inbox);
    let (node, other) = (setup.start().await, others.start().await);
    inbox.deposit(1);
    let first = send(&node, 0, 0).await;
    taken_over(&node, &other, &theirs).await;
    let common = other.executor.head().await.expect("head");

    // The same transaction, another one, and a deposit there; and here what is not there.
    inbox.deposit(1);
    let both = sign(&signer(0), transfer(1));
    let shared = submit(&other, both.clone()).await;
    other.sequenced(shared).await;
    let foreign = send(&other, 3, 0).await;
    let only_here = send(&node, 1, 0).await;
    assert_eq!(node.submit(both).await.expect("accepted"), shared);
    node.sequenced(shared).await;
    let waiting = node.submit(sign(&signer(4), transfer(1))).await.expect("accepted");
    let mut feed = node.executor.subscribe(common.number + 1).await.expect("blocks");
    // What only this one has, in a block after those that both may have made alike.
    let mut void = Vec::new();
    soon(async {
        loop {
            let block = feed.next().await.expect("a block").expect("no error");
            void.push(block.clone());
            if block.transactions.iter().any(|tx| tx.hash() == only_here) {
                return;
            }
        }
    })
    .await;
    assert_eq!(void[0].header.parent_hash, common.seal());

    let end = taken_over(&other, &node, &settlement).await;
    let last = void[void.len() - 1].number();
    let again = soon(async {
        loop {
            let block = feed.next().await.expect("a block").expect("no error");
            if block.number() <= last {
                return block;
            }
        }
    })
    .await;
    let at = (again.number() - void[0].number()) as usize;
    assert_ne!(again.hash(), void[at].hash());
    let before = if at == 0 { common.seal() } else { void[at - 1].hash() };
    assert_eq!(again.header.parent_hash, before, "the others stand");
    assert_eq!(node.sequenced(only_here).await.stage, Stage::Sequenced);
    let late = send(&node, 4, 0).await;
    node.sequenced(waiting).await;
    for hash in [shared, foreign] {
        let status = node.sequenced(hash).await;
        let block = status.inclusion.expect("a place").block.number;
        assert!(block <= end.number, "{block}");
    }
    let signed: Vec<TxHash> = signed(&node).await;
    let mut sorted = signed.clone();
    sorted.sort_unstable();
    let mut expected = vec![first, shared, foreign, only_here, late, waiting];
    expected.sort_unstable();
    assert_eq!(sorted, expected, "each once");
    assert_eq!(signed.last(), Some(&waiting), "in its order");
    assert_eq!(minted(&node.executor).await, inbox.total());
    // What L1 holds is told again for a while, and is not taken over again.
    settlement.derive(other.blocks().await);
    assert_eq!(minted(&node.executor).await, inbox.total());
    let head = node.executor_head().await;
    drop(feed);
    node.stop().await.expect("a clean end");
    other.stop().await.expect("a clean end");

    // A start finds the same chain; and so does one that has only the log.
    let node = setup.start().await;
    assert_eq!(node.executor_head().await, head);
    node.stop().await.expect("a clean end");
    setup.log_alone_gives(head).await;
}

/// What users signed, in the order of the chain.
pub(crate) async fn signed(node: &Node) -> Vec<TxHash> {
    let blocks = node.blocks().await;
    let txs = blocks.iter().flat_map(|block| &block.transactions);
    txs.filter(|tx| !tx.tx().is_deposit()).map(|tx| tx.hash()).collect()
}

/// Its machine was lost: it goes on after what L1 holds, not beside it.
#[tokio::test(flavor = "multi_thread")]
async fn a_sequencer_without_data_begins_where_l1_ends() {
    let inbox = Arc::new(TestInbox::default());
    let (mut others, _) = told(&inbox);
    let other = others.start().await;
    inbox.deposit(3);
    // A forced transaction that is valid, and one that is not.
    inbox.force(sign(&signer(5), transfer(0)));
    inbox.force(sign(&signer(5), transfer(7)));
    for nonce in 0..70 {
        send(&other, 0, nonce).await;
    }
    let blocks = other.blocks().await;
    assert!(
        blocks
            .iter()
            .any(|block| QueueMark::of(&block.header).is_some_and(|mark| mark.forced == 1))
    );
    let end = blocks.last().expect("a block").num_hash();

    let (mut setup, settlement) = told(&inbox);
    let middle = blocks[..blocks.len() / 2].to_vec();
    settlement.derive(middle.clone());
    let mut node = setup.start().await;
    has(&node, middle.last().expect("a block").num_hash()).await;
    inbox.deposit(1);
    let hash = soon(async {
        loop {
            match node.submit(sign(&signer(1), transfer(0))).await {
                // The blocks show before the pool is open again.
                Err(SubmitError::Failed(_)) => tokio::task::yield_now().await,
                accepted => break accepted.expect("accepted"),
            }
        }
    })
    .await;
    settlement.derive(blocks.clone());
    has(&node, end).await;
    // Also after a start in between.
    let block = node.sequenced(hash).await.inclusion.expect("a place").block;
    node.stop().await.expect("a clean end");
    node = setup.start().await;
    assert_eq!(node.blocks().await[..blocks.len()], blocks);
    assert!(block.number > end.number, "{block:?}");
    node.stop().await.expect("a clean end");
    other.stop().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_final_is_not_replaced() {
    let inbox = Arc::new(TestInbox::default());
    let (mut setup, settlement) = told(&inbox);
    let (mut others, _) = told(&inbox);
    let (node, other) = (setup.start().await, others.start().await);
    send(&node, 0, 0).await;
    send(&other, 1, 0).await;
    settlement.say(1, 1, 1);
    soon(async {
        while node.handle.heads().await.expect("heads").finalized.number < 1 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    settlement.derive(other.blocks().await);
    let ended = soon(node.run).await.expect("no panic").expect_err("it cannot go on");
    assert!(matches!(ended, SequencerRunError::FinalDiffers { block: 1, finalized: 1 }), "{ended}");
    node.executor.close().await;
    other.stop().await.expect("a clean end");
}

/// Settlement has not seen a reorg yet that took the deposits of what it has derived.
#[tokio::test(flavor = "multi_thread")]
async fn what_l1_does_not_hold_any_more_is_not_taken_over() {
    let inbox = Arc::new(TestInbox::default());
    inbox.time.store(GENESIS_TIME + 1_000, Ordering::Relaxed);
    let (mut setup, settlement) = told(&inbox);
    let node = setup.start().await;
    inbox.deposit(1);
    let hash = send(&node, 0, 0).await;
    mints_what_l1_has(&node.executor, &inbox).await;
    let derived = node.blocks().await;
    inbox.reorg(0, 1);
    mints_what_l1_has(&node.executor, &inbox).await;
    node.sequenced(hash).await;
    let head = num_hash(&node.executor.head().await.expect("head"));
    settlement.derive(derived);
    let asked = settlement.asked();
    soon(async {
        while settlement.asked() < asked + 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    has(&node, head).await;
    assert_eq!(minted(&node.executor).await, inbox.total());
    node.stop().await.expect("a clean end");
}

/// Two sequencers whose chains L1 holds in turn, while one of them is killed and fails at random: what it acknowledged is included once, and the log alone gives the
/// same chain.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_or_doubled_whatever_l1_holds() {
    let mut random = Random::seeded();
    let inbox = Arc::new(TestInbox::default());
    let (mut setup, settlement) = told(&inbox);
    let (mut others, theirs) = told(&inbox);
    for setup in [&mut setup, &mut others] {
        setup.config.block_time = Duration::from_millis(10);
        setup.config.frame_interval = Duration::from_millis(1);
        setup.config.deposit_poll_interval = Duration::from_millis(1);
    }
    let other = others.start().await;
    let book = Arc::new(Mutex::new(Book::default()));
    let mut replaced = 0;
    for cycle in 0..30 {
        let places = [Place::Append, Place::Execute, Place::Close, Place::Seal, Place::Unwind];
        let fault = random_fault(&mut random, &places);
        let kill_after = Duration::from_micros(random.below(80_000));
        let Some(node) = start_with(&mut setup, &fault, cycle).await else { continue };
        book.lock().sign(3);
        let work = async {
            // L1 has this one's chain, and then the other's, which has other blocks on a part of it.
            inbox.deposit(1);
            submit_all(&node, &book).await;
            let blocks = node.blocks().await;
            if !blocks.is_empty() && random.below(2) == 0 {
                let agreed = agreed(&blocks, &other).await;
                let keeps = agreed + random.below(blocks.len() as u64 - agreed + 1);
                if keeps > agreed {
                    let some = blocks[..keeps as usize].to_vec();
                    let end = some.last().expect("a block").num_hash();
                    theirs.derive(some);
                    has(&other, end).await;
                }
            }
            let acknowledged: Vec<_> = {
                let book = book.lock();
                let all = book.all.iter();
                let all = all.filter(|(_, raw)| book.acknowledged.contains(&hash_of(raw)));
                all.map(|(_, raw)| raw.clone()).collect()
            };
            let some = random.below(acknowledged.len() as u64 + 1) as usize;
            // It may have them already, or lack one before them.
            let _ = other.handle.submit_many(acknowledged[..some].to_vec()).await;
            inbox.deposit(1);
            mints_what_l1_has(&other.executor, &inbox).await;
            taken_over(&other, &node, &settlement).await;
        };
        let done = tokio::select! {
            () = work => true,
            () = struck(&fault, kill_after) => false,
        };
        replaced += u64::from(done);
        node.kill().await;
        println!(
            "cycle {cycle}: {}",
            if done { "taken over".to_owned() } else { describe(&fault) }
        );
    }
    println!("{replaced} times taken over to the end");
    let node = setup.start().await;
    taken_over(&other, &node, &settlement).await;
    soon(async {
        let waits = || {
            let book = book.lock();
            book.all.len() > book.acknowledged.len()
        };
        while waits() {
            submit_all(&node, &book).await;
        }
    })
    .await;
    mints_what_l1_has(&node.executor, &inbox).await;
    let mark = QueueMark::of(&node.executor.head().await.expect("head")).expect("a rollup header");
    assert_eq!(inbox.standing(mark).await.expect("it answers"), Standing::Whole);
    let book = std::mem::take(&mut *book.lock());
    for hash in &book.acknowledged {
        let stage = node.sequenced(*hash).await.stage;
        assert!(matches!(stage, Stage::Sequenced | Stage::Posted), "{stage:?}");
    }
    let signed = signed(&node).await;
    let unique: B256Set = signed.iter().copied().collect();
    assert_eq!((signed.len(), &unique), (book.all.len(), &book.acknowledged));
    let head = node.executor_head().await;
    node.stop().await.expect("a clean end");
    other.stop().await.expect("a clean end");

    assert_ne!(head, B256::ZERO);
    setup.log_alone_gives(head).await;
}

/// The last of a chain's blocks that a node has.
async fn agreed(blocks: &[Arc<ExecutedBlock>], other: &Node) -> u64 {
    let others = other.blocks().await;
    blocks.iter().zip(&others).take_while(|(one, other)| one == other).count() as u64
}

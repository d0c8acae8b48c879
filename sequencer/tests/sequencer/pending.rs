//! The open block as readers see it: as far as it is told, and never less than the head.

use std::{sync::Arc, time::Duration};

use alloy::primitives::{Address, U256};
use futures::{FutureExt, StreamExt};
use millrace_proto::{
    BlockSelector, Executor, ExecutorError, FrameDetail, Preconfirmations, TxPool,
};
use parking_lot::Mutex;

use crate::{
    crashes::{Book, describe, random_fault, start_with, struck, submit_all},
    faults::Place,
    inbox::TestInbox,
    support::{Node, Random, Setup, sign, signer, soon, transfer},
};

const PAYEE: Address = Address::repeat_byte(0xee);

/// An account's balance in the open block, as JSON-RPC reads it.
async fn pending(node: &Node, address: Address) -> U256 {
    soon(async {
        loop {
            let point = node.handle.open_point().await.expect("it answers");
            let at = point.map_or(BlockSelector::Latest, BlockSelector::Open);
            match node.executor.accounts(&[address], at).await {
                Ok(accounts) => return accounts[0].unwrap_or_default().balance,
                // It is sealed, or built again.
                Err(ExecutorError::BuildDiscarded) => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        }
    })
    .await
}

async fn latest(node: &Node, address: Address) -> U256 {
    let accounts = node.executor.accounts(&[address], BlockSelector::Latest).await;
    accounts.expect("it answers")[0].unwrap_or_default().balance
}

async fn frames(node: &Node) -> Preconfirmations {
    let frames = node.handle.preconfirmations(FrameDetail::Receipts).await;
    frames.expect("it answers").expect("a sequencer tells")
}

/// Whoever is told of a frame finds it there, whether anybody has read before or not; and the sealed block has the same.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_told_can_be_read_and_is_what_is_sealed() {
    let mut setup = Setup::new();
    // No block ends meanwhile.
    setup.config.block_time = Duration::from_secs(12);
    let inbox = Arc::new(TestInbox::default());
    inbox.deposit(2);
    setup.inbox = Some(inbox.clone());
    let node = setup.start().await;
    let mut told = frames(&node).await;
    assert_eq!(pending(&node, PAYEE).await, U256::ZERO);
    // The deposits open the block; what was sent before they are seen would, without them.
    soon(async {
        while pending(&node, Address::repeat_byte(0xdd)).await != inbox.total() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let mut sent = 0..;
    let mut send = async || {
        let nonce = sent.next().expect("endless");
        let hash = node.submit(sign(&signer(0), transfer(nonce))).await.expect("accepted");
        loop {
            let frame = soon(told.next()).await.expect("a frame").expect("not lagged");
            if frame.transactions.iter().any(|tx| tx.hash() == hash) {
                return;
            }
        }
    };
    for count in 1..=4_u64 {
        send().await;
        assert_eq!(pending(&node, PAYEE).await, U256::from(count));
        assert_eq!(latest(&node, PAYEE).await, U256::ZERO);
    }
    assert_eq!(pending(&node, Address::repeat_byte(0xdd)).await, inbox.total());
    let point = node.handle.open_point().await.expect("it answers").expect("it is open");
    let at = BlockSelector::Open(point);
    let open = node.executor.block(at).await.expect("it answers").expect("it is open");
    assert!(open.is_open());
    let executor = node.executor.clone();
    node.stop().await.expect("a clean end");
    // It is sealed now, and nothing else came.
    let sealed = executor.block(BlockSelector::Latest).await.expect("it answers").expect("a head");
    assert_eq!((&open.transactions, &open.receipts), (&sealed.transactions, &sealed.receipts));
    assert_eq!(executor.block(at).await.expect("it answers"), Some(sealed));
    let accounts = executor.accounts(&[PAYEE], BlockSelector::Latest).await.expect("it answers");
    assert_eq!(accounts[0].unwrap_or_default().balance, U256::from(4));
}

/// The first reader comes in the middle of a block of which nothing was kept.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_reader_finds_what_was_told_before_it_asked() {
    let mut setup = Setup::new();
    setup.config.block_time = Duration::from_secs(12);
    let node = setup.start().await;
    let mut told = frames(&node).await;
    for nonce in 0..3 {
        node.submit(sign(&signer(0), transfer(nonce))).await.expect("accepted");
        soon(told.next()).await.expect("a frame").expect("not lagged");
    }
    assert_eq!(pending(&node, PAYEE).await, U256::from(3));
    node.submit(sign(&signer(0), transfer(3))).await.expect("accepted");
    soon(told.next()).await.expect("a frame").expect("not lagged");
    assert_eq!(pending(&node, PAYEE).await, U256::from(4));
    node.stop().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn under_load_nobody_reads_less_than_the_head_or_than_was_told() {
    let mut setup = Setup::new();
    setup.config.block_time = Duration::from_millis(20);
    setup.config.frame_interval = Duration::from_millis(1);
    let node = Arc::new(setup.start().await);
    let senders = 4;
    let each = 150;
    let load: Vec<_> = (0..senders)
        .map(|sender| {
            let node = node.clone();
            tokio::spawn(async move {
                for nonce in 0..each {
                    let raw = sign(&signer(sender), transfer(nonce));
                    node.submit(raw).await.expect("accepted");
                }
            })
        })
        .collect();
    let mut told = frames(&node).await;
    let total = U256::from(u64::from(senders) * each);
    let (mut before, mut counted) = (U256::ZERO, U256::ZERO);
    let mut open_reads = 0;
    while before < total {
        let head = latest(&node, PAYEE).await;
        let now = pending(&node, PAYEE).await;
        assert!(now >= head, "{now} in the open block, {head} in the head before that");
        assert!(now >= before, "{now} after {before}");
        open_reads += u64::from(now > head);
        before = now;
        while let Some(frame) = told.next().now_or_never() {
            let frame = frame.expect("it goes on").expect("not lagged");
            counted += U256::from(frame.transactions.len());
        }
        assert!(pending(&node, PAYEE).await >= counted, "{counted} were told");
    }
    assert!(open_reads > 0, "the open block was read");
    for load in load {
        load.await.expect("no panic");
    }
    let node = Arc::into_inner(node).expect("the load is over");
    node.stop().await.expect("a clean end");
}

/// A block that is taken back while it is open leaves no trace.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_taken_back_is_not_read_any_more() {
    let mut setup = Setup::new();
    setup.config.block_time = Duration::from_secs(12);
    setup.config.deposit_patience = Duration::ZERO;
    let inbox = Arc::new(TestInbox::default());
    inbox.time.store(crate::support::GENESIS_TIME + 1_000, std::sync::atomic::Ordering::Relaxed);
    setup.inbox = Some(inbox.clone());
    let node = setup.start().await;
    let minted = Address::repeat_byte(0xdd);
    inbox.deposit(1);
    soon(async {
        while pending(&node, minted).await.is_zero() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(latest(&node, minted).await, U256::ZERO, "it is in the open block");
    inbox.reorg(0, 0);
    soon(async {
        while !pending(&node, minted).await.is_zero() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    node.stop().await.expect("a clean end");
}

/// Whatever breaks, what was read in the open block is in the sealed one.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_holds() {
    let mut random = Random::seeded();
    let mut setup = Setup::new();
    setup.config.frame_interval = Duration::from_millis(1);
    let book = Arc::new(Mutex::new(Book::default()));
    let mut most = U256::ZERO;
    for cycle in 0..12 {
        let places = [Place::Append, Place::Execute, Place::Close, Place::Seal];
        let fault = random_fault(&mut random, &places);
        let kill_after = Duration::from_micros(random.below(60_000));
        let Some(node) = start_with(&mut setup, &fault, cycle).await else { continue };
        book.lock().sign(6);
        let reads = async {
            while !node.run.is_finished() {
                let at = node.handle.open_point().await.ok();
                let at = at.map(|point| point.map_or(BlockSelector::Latest, BlockSelector::Open));
                if let Some(at) = at
                    && let Ok(accounts) = node.executor.accounts(&[PAYEE], at).await
                {
                    most = most.max(accounts[0].unwrap_or_default().balance);
                }
                tokio::task::yield_now().await;
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = submit_all(&node, &book) => {}
            () = struck(&fault, kill_after) => {}
            () = reads => {}
        }
        node.kill().await;
        println!("cycle {cycle}: {}, {most} read", describe(&fault));
    }
    let node = setup.start().await;
    soon(submit_all(&node, &book)).await;
    let acknowledged = book.lock().acknowledged.clone();
    for hash in acknowledged {
        node.sequenced(hash).await;
    }
    assert!(latest(&node, PAYEE).await >= most);
    node.stop().await.expect("a clean end");
}

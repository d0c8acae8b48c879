//! What subscribers are told of open blocks is on disk, and is what the sealed blocks hold, whatever breaks.

use std::{sync::Arc, time::Duration};

use alloy::{
    consensus::TxEip1559,
    primitives::{Address, TxKind, U256, hex},
};
use futures::{FutureExt, StreamExt};
use millrace_proto::{
    ExecutedBlock, Executor, FrameDetail, FrameStart, Preconfirmation, Preconfirmations, Sequencer,
    SequencerError, Stage, StateDiff, TxPool,
};
use millrace_sequencer::{OrderLog, Position, Record};
use parking_lot::{Mutex, RwLock};

use crate::{
    crashes::{Book, describe, random_fault, start_with, struck, submit_all},
    faults::{Fault, FaultyExecutor, FaultyLog, How, Place},
    inbox::TestInbox,
    support::{Node, Random, Setup, sign, signer, soon, transfer},
};

async fn subscribe_to(node: &Node, detail: FrameDetail) -> Preconfirmations {
    node.handle.preconfirmations(detail).await.expect("it answers").expect("a sequencer tells")
}

async fn subscribe(node: &Node) -> Preconfirmations {
    subscribe_to(node, FrameDetail::StateDiffs).await
}

/// What has been told by now.
fn drain(frames: &mut Preconfirmations, told: &mut Vec<Arc<Preconfirmation>>) {
    while let Some(Some(frame)) = frames.next().now_or_never() {
        match frame {
            Ok(frame) => told.push(frame),
            Err(error @ SequencerError::Lagged { .. }) => panic!("not read fast enough: {error}"),
            // It ends with the service.
            Err(_) => break,
        }
    }
}

/// A frame is in its block as it was told.
fn check(frame: &Preconfirmation, block: &ExecutedBlock) {
    let header = &block.header;
    assert_eq!(
        (frame.block, frame.parent_hash, frame.timestamp, Some(frame.base_fee)),
        (header.number, header.parent_hash, header.timestamp, header.base_fee_per_gas)
    );
    let start = frame.start.index as usize;
    let end = start + frame.transactions.len();
    assert!(end > start, "a frame that is told has transactions");
    assert_eq!(frame.transactions, block.transactions[start..end], "block {}", frame.block);
    let receipts: Vec<_> = frame.receipts.iter().map(|receipt| (**receipt).clone()).collect();
    assert_eq!(receipts, block.receipts[start..end], "block {}", frame.block);
    for index in start..end {
        assert_eq!(frame.gas_used_by(index - start), block.gas_used_by(index));
    }
    let logs: usize = block.receipts[..start].iter().map(|receipt| receipt.logs.len()).sum();
    assert_eq!(frame.start.log_index, logs as u64);
}

/// What the frames of these blocks changed, one after the other, is what the blocks changed. More may have been told.
async fn check_diffs(node: &Node, told: &[Arc<Preconfirmation>], blocks: &[Arc<ExecutedBlock>]) {
    let last = blocks.len() as u64;
    let told: Vec<_> = told.iter().filter(|frame| frame.block <= last).collect();
    for frames in told.chunk_by(|before, next| before.block == next.block) {
        let mut total = StateDiff::default();
        for frame in frames {
            let diff = frame.diff.as_deref().expect("it was asked for").clone();
            total.extend(diff).expect("it follows the frame before");
        }
        let block = frames[0].block;
        let sealed = node.executor.state_diff(block).await.expect("it answers");
        assert_eq!(total.net(), *sealed.expect("it is kept"), "block {block}");
    }
}

/// What one subscription was told is without gaps, and nothing comes twice.
fn follows(told: &[Arc<Preconfirmation>]) {
    for pair in told.windows(2) {
        let [before, next] = [&pair[0], &pair[1]];
        if next.block == before.block {
            let start = before.start.after(&before.receipts);
            assert_eq!((next.frame, next.start), (before.frame + 1, start));
        } else {
            assert_eq!((next.frame, next.start), (0, FrameStart::default()));
            assert!(next.block > before.block);
        }
    }
}

/// Deploys code that logs twice and stops.
fn loud(nonce: u64) -> TxEip1559 {
    let input = hex!("60006000a060006000a000").into();
    TxEip1559 { to: TxKind::Create, gas_limit: 200_000, input, ..transfer(nonce) }
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_are_told_frame_by_frame_before_they_are_sealed() {
    let mut setup = Setup::new();
    let inbox = Arc::new(TestInbox::default());
    setup.inbox = Some(inbox.clone());
    let node = setup.start().await;
    let (mut frames, mut told) = (subscribe(&node).await, Vec::new());
    for round in 0..5 {
        inbox.deposit(2);
        let mut raw: Vec<_> = (0..4).map(|index| sign(&signer(index), transfer(round))).collect();
        raw.push(sign(&signer(4), loud(round)));
        for result in node.handle.submit_many(raw).await {
            let hash = result.expect("accepted");
            assert_eq!(node.sequenced(hash).await.stage, Stage::Sequenced);
            drain(&mut frames, &mut told);
            let mut all = told.iter().flat_map(|frame| &frame.transactions);
            assert!(all.any(|tx| tx.hash() == hash), "it was told before its block was sealed");
        }
    }
    let blocks = node.blocks().await;
    assert!(blocks.iter().any(|block| block.queued_count() > 0), "some hold deposits");
    for block in &blocks {
        let frames: Vec<_> = told.iter().filter(|frame| frame.block == block.number()).collect();
        frames.iter().for_each(|frame| check(frame, block));
        assert!(frames.iter().zip(0..).all(|(frame, number)| frame.frame == number));
        let count: usize = frames.iter().map(|frame| frame.transactions.len()).sum();
        assert_eq!(count, block.transactions.len(), "all of block {}", block.number());
    }
    check_diffs(&node, &told, &blocks).await;
    node.stop().await.expect("a clean end");
    drain(&mut frames, &mut told);
    let ended = soon(frames.next()).await;
    assert!(matches!(ended, None | Some(Err(SequencerError::Unavailable(_)))), "{ended:?}");
}

/// An executor that loses the open block gets it again, and what was told of it stands: nothing is told twice, and what follows follows it.
#[tokio::test(flavor = "multi_thread")]
async fn a_block_that_is_built_again_is_told_on() {
    for how in [How::Before, How::After] {
        let mut setup = Setup::new();
        // No block ends meanwhile.
        setup.config.block_time = Duration::from_secs(2);
        let inbox = Arc::new(TestInbox::default());
        inbox.deposit(2);
        setup.inbox = Some(inbox);
        // The deposits, a frame, and then.
        let fault = Fault::new(Place::Execute, how, 2);
        let armed = fault.clone();
        setup.wrap_executor =
            Some(Box::new(|inner| Arc::new(FaultyExecutor { inner, fault: armed })));
        let node = setup.start().await;
        let (mut frames, mut told) = (subscribe(&node).await, Vec::new());
        let mut last = None;
        for nonce in 0..4 {
            let hash = node.submit(sign(&signer(0), transfer(nonce))).await.expect("accepted");
            // One frame a transaction.
            while !told.iter().any(|frame: &Arc<Preconfirmation>| {
                frame.transactions.iter().any(|tx| tx.hash() == hash)
            }) {
                told.push(soon(frames.next()).await.expect("a frame").expect("not lagged"));
            }
            last = Some(hash);
        }
        node.sequenced(last.expect("some were sent")).await;
        drain(&mut frames, &mut told);
        follows(&told);
        let blocks = node.blocks().await;
        // The next block may be open.
        told.retain(|frame| frame.block <= blocks.len() as u64);
        told.iter().for_each(|frame| check(frame, &blocks[frame.block as usize - 1]));
        let count: usize = told.iter().map(|frame| frame.transactions.len()).sum();
        assert_eq!(count, node.included().await.len(), "{how:?}: all, once");
        check_diffs(&node, &told, &blocks).await;
        assert!(told.iter().map(|frame| frame.frame).max() >= Some(3), "{how:?}: after the fault");
        node.stop().await.expect("a clean end");
    }
}

/// What the block leaves out is not told, and what it takes later is told there.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_block_has_no_room_for_is_told_of_the_next() {
    let mut setup = Setup::new();
    setup.gas_limit = 1_000_000;
    let node = setup.start().await;
    let (mut frames, mut told) = (subscribe(&node).await, Vec::new());
    // Of EIP-7623's 200,000 gas five fit; the sixth is tried, and returned.
    let large =
        |nonce| TxEip1559 { gas_limit: 200_000, input: vec![1; 4_475].into(), ..transfer(nonce) };
    let raw = (0..12).map(|nonce| sign(&signer(0), large(nonce))).collect();
    for result in node.handle.submit_many(raw).await {
        node.sequenced(result.expect("accepted")).await;
    }
    drain(&mut frames, &mut told);
    let blocks = node.blocks().await;
    let included = told.iter().flat_map(|frame| &frame.transactions).map(|tx| tx.hash());
    assert_eq!(included.collect::<Vec<_>>(), node.included().await);
    check_diffs(&node, &told, &blocks).await;
    told.iter().for_each(|frame| check(frame, &blocks[frame.block as usize - 1]));
    node.stop().await.expect("a clean end");
}

/// Whoever asks for state diffs in the middle of a block begins with a frame whose diff is that frame's; nobody who does not ask has them made.
#[tokio::test(flavor = "multi_thread")]
async fn state_diffs_can_be_asked_for_in_the_middle_of_a_block() {
    let mut setup = Setup::new();
    // No block ends meanwhile.
    setup.config.block_time = Duration::from_secs(12);
    let node = setup.start().await;
    let mut plain = subscribe_to(&node, FrameDetail::Receipts).await;
    let payee = Address::repeat_byte(0xee);
    // The balance before and after one transfer of 1 wei; `None` where the diff is not told.
    let balances = |frame: &Preconfirmation| {
        let diff = frame.diff.as_ref()?;
        assert!(diff.accounts.len() <= 3, "sender, payee, fee recipient: {diff:?}");
        let payee = &diff.accounts[&payee];
        Some([payee.before, payee.after].map(|info| info.unwrap_or_default().balance))
    };
    let mut nonces = 0..;
    let mut send = async || {
        let raw = sign(&signer(0), transfer(nonces.next().expect("endless")));
        node.submit(raw).await.expect("accepted");
        soon(plain.next()).await.expect("a frame").expect("not lagged")
    };
    for _ in 0..3 {
        assert_eq!(send().await.diff, None);
    }
    let mut diffs = subscribe(&node).await;
    for count in 3..5_u64 {
        send().await;
        let frame = soon(diffs.next()).await.expect("a frame").expect("not lagged");
        assert_eq!(frame.frame, count);
        assert_eq!(balances(&frame), Some([count, count + 1].map(U256::from)));
    }
    drop(diffs);
    assert_eq!(send().await.diff, None);
    let mut diffs = subscribe(&node).await;
    send().await;
    let frame = soon(diffs.next()).await.expect("a frame").expect("not lagged");
    assert_eq!(balances(&frame), Some([6, 7].map(U256::from)));
    node.stop().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_told_before_it_is_on_disk() {
    let mut setup = Setup::new();
    // No block ends meanwhile.
    setup.config.block_time = Duration::from_secs(12);
    let disk = Arc::new(RwLock::new(()));
    let log: Arc<Mutex<Option<Arc<dyn OrderLog>>>> = Arc::default();
    let executed = Fault::new(Place::Execute, How::Before, i64::MAX);
    let (shared, slow, fault) = (log.clone(), disk.clone(), executed.clone());
    setup.wrap_log = Some(Box::new(move |inner| {
        *shared.lock() = Some(inner.clone());
        Arc::new(FaultyLog { inner, fault, disk: slow })
    }));
    let fault = executed.clone();
    setup.wrap_executor = Some(Box::new(|inner| Arc::new(FaultyExecutor { inner, fault })));
    let node = setup.start().await;
    let mut frames = subscribe(&node).await;

    let (held, release) = std::sync::mpsc::channel::<()>();
    let (holding, is_held) = tokio::sync::oneshot::channel();
    let holder = std::thread::spawn(move || {
        let _disk = disk.write();
        holding.send(()).expect("the test waits");
        release.recv().expect("the test goes on");
    });
    is_held.await.expect("the disk is held up");
    let mut submissions = Vec::new();
    for nonce in 0..2 {
        let (handle, raw) = (node.handle.clone(), sign(&signer(0), transfer(nonce)));
        submissions.push(tokio::spawn(async move { handle.submit(raw).await }));
        // One frame is executed before the next is given.
        soon(executed.called(nonce + 1)).await;
    }
    assert!(frames.next().now_or_never().is_none(), "the first frame is not on disk");
    held.send(()).expect("the disk is still held up");
    for _ in 0..2 {
        let frame = soon(frames.next()).await.expect("a frame").expect("not lagged");
        let log = log.lock().clone().expect("it is open");
        let written = log.read(Position(0)).expect("readable").any(|record| {
            matches!(record.expect("sound").1, Record::Frame { block, txs, .. } if block == frame.block && txs == frame.transactions)
        });
        assert!(written, "what is told is in the log");
    }
    for submission in submissions {
        submission.await.expect("no panic").expect("accepted");
    }
    holder.join().expect("no panic");
    node.stop().await.expect("a clean end");
}

/// Whatever breaks, and whenever: a block is sealed as it was told, by this start or a later one.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_told_holds() {
    let mut random = Random::seeded();
    let mut setup = Setup::new();
    let inbox = Arc::new(TestInbox::default());
    setup.inbox = Some(inbox.clone());
    setup.config.frame_interval = Duration::from_millis(1);
    let book = Arc::new(Mutex::new(Book::default()));
    let mut told = Vec::new();
    for cycle in 0..25 {
        let fault =
            random_fault(&mut random, &[Place::Append, Place::Execute, Place::Close, Place::Seal]);
        let kill_after = Duration::from_micros(random.below(60_000));
        let Some(node) = start_with(&mut setup, &fault, cycle).await else { continue };
        let mut frames = subscribe(&node).await;
        inbox.deposit(random.below(3));
        book.lock().sign(6);
        tokio::select! {
            () = submit_all(&node, &book) => {}
            () = struck(&fault, kill_after) => {}
        }
        let mut this = Vec::new();
        drain(&mut frames, &mut this);
        follows(&this);
        told.append(&mut this);
        node.kill().await;
        println!("cycle {cycle}: {}, {} frames told", describe(&fault), told.len());
    }
    let node = setup.start().await;
    soon(submit_all(&node, &book)).await;
    let acknowledged = book.lock().acknowledged.clone();
    for hash in acknowledged {
        node.sequenced(hash).await;
    }
    let blocks = node.blocks().await;
    assert!(!told.is_empty());
    told.iter().for_each(|frame| check(frame, &blocks[frame.block as usize - 1]));
    node.stop().await.expect("a clean end");
}

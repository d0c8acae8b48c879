//! What a start makes of a log and an executor.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use alloy::primitives::B256;
use futures::StreamExt;
use millrace_proto::{Executor, PoolStatus, QueueMark, QueuedTxs, Stage, TxPool};
use millrace_sequencer::{
    BlockOpened, BlockTimes, LogError, OpenError, OrderLog, Position, Record, RocksOrderLog,
};

use crate::{
    faults::{Fault, FaultyExecutor, How, Place},
    support::{Setup, sign, signer, soon, transfer},
};

/// A chain of a few blocks that was stopped; gives its head and genesis hashes.
async fn stopped_chain(setup: &mut Setup) -> (millrace_proto::SealedHeader, B256) {
    let node = setup.start().await;
    for nonce in 0..3 {
        let hash = node.submit(sign(&signer(0), transfer(nonce))).await.expect("accepted");
        node.sequenced(hash).await;
    }
    let found = (node.executor.head().await.expect("head"), node.genesis().await);
    node.stop().await.expect("a clean end");
    found
}

async fn refused(setup: &mut Setup) -> OpenError {
    match setup.try_start().await {
        Err(error) => error,
        Ok(node) => {
            node.kill().await;
            panic!("it opened");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clean_stop_seals_and_a_start_goes_on() {
    let mut setup = Setup::new();
    let node = setup.start().await;
    let queued = node.submit(sign(&signer(1), transfer(2))).await.expect("accepted");
    let pending = node.submit(sign(&signer(0), transfer(0))).await.expect("accepted");
    node.stop().await.expect("a clean end");

    let node = setup.start().await;
    assert_eq!(node.sequenced(pending).await.stage, Stage::Sequenced);
    let status = node.handle.pool_status().await.expect("status");
    assert_eq!(status, PoolStatus { pending: 0, queued: 1 });
    assert!(node.handle.pooled(queued).await.expect("no error").is_some());
    for nonce in [0, 1] {
        node.submit(sign(&signer(1), transfer(nonce))).await.expect("accepted");
    }
    node.sequenced(queued).await;
    assert_eq!(node.included().await.len(), 4);
    node.stop().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_executor_without_data_gets_the_same_chain_again() {
    let mut setup = Setup::new();
    let (head, _) = stopped_chain(&mut setup).await;
    setup.log_alone_gives(head.seal()).await;
}

/// Blocks are stored beside the next ones: wherever the executor fails once, with or without effect, a start finds out and goes on.
#[tokio::test(flavor = "multi_thread")]
async fn an_executor_that_fails_at_a_start_gets_the_same_chain() {
    let mut setup = Setup::new();
    let (head, _) = stopped_chain(&mut setup).await;
    for place in [Place::Execute, Place::Close, Place::Seal] {
        for how in [How::Before, How::After] {
            for call in 0..3 {
                setup.forget_executor();
                let fault = Fault::new(place, how, call);
                let wrapped = fault.clone();
                setup.wrap_executor =
                    Some(Box::new(|inner| Arc::new(FaultyExecutor { inner, fault: wrapped })));
                let node = setup.start().await;
                soon(fault.fired.notified()).await;
                assert_eq!(node.executor_head().await, head.seal(), "{place:?} {how:?} {call}");
                node.stop().await.expect("a clean end");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_executor_ahead_of_the_log_is_refused() {
    let mut setup = Setup::new();
    stopped_chain(&mut setup).await;
    std::fs::remove_dir_all(setup.log_path()).expect("it is there");
    let error = refused(&mut setup).await;
    assert!(matches!(error, OpenError::ExecutorAhead { executor: 3, log: 0 }), "{error}");
}

fn opened(head: &millrace_proto::SealedHeader) -> BlockOpened {
    BlockOpened {
        number: head.number + 1,
        parent_hash: head.seal(),
        timestamp: head.timestamp + 1,
        queued: QueuedTxs {
            mark: QueueMark::of(head).expect("a rollup header"),
            ..QueuedTxs::default()
        },
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_block_than_the_log_says_is_refused() {
    let mut setup = Setup::new();
    let (head, genesis) = stopped_chain(&mut setup).await;
    let number = head.number + 1;
    let wrong = B256::repeat_byte(1);
    setup
        .open_log(genesis)
        .append(&[
            Record::BlockOpened(opened(&head)),
            Record::BlockSealed {
                number,
                hash: wrong,
                returned: vec![],
                times: BlockTimes::default(),
            },
        ])
        .expect("appended");
    let error = refused(&mut setup).await;
    assert!(
        matches!(error, OpenError::Diverged { number: n, log, executor } if n == number && log == wrong && executor != wrong),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_block_is_sealed_as_the_log_has_it() {
    let mut setup = Setup::new();
    let (head, genesis) = stopped_chain(&mut setup).await;
    let tx = millrace_proto::RecoveredTx::decode(sign(&signer(5), transfer(0))).expect("signed");
    let late = millrace_proto::RecoveredTx::decode(sign(&signer(6), transfer(0))).expect("signed");
    let (tx, late) = (Arc::new(tx), Arc::new(late));
    let (block, accepted_at) = (head.number + 1, Vec::new());
    let frame = Record::Frame { block, txs: vec![tx.clone()], accepted_at: accepted_at.clone() };
    let pooled = Record::Pooled { txs: vec![late.clone()], accepted_at };
    setup
        .open_log(genesis)
        .append(&[Record::BlockOpened(opened(&head)), frame, pooled])
        .expect("appended");
    let node = setup.start().await;
    let status = node.sequenced(tx.hash()).await;
    assert_eq!(status.inclusion.expect("a place").block.number, head.number + 1);
    let status = node.sequenced(late.hash()).await;
    assert_eq!(status.inclusion.expect("a place").block.number, head.number + 2);
    let sealed = node.blocks().await[head.number as usize].clone();
    assert_eq!(sealed.header.timestamp, head.timestamp + 1);
    node.stop().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_log_is_refused() {
    let mut setup = Setup::new();
    let (head, genesis) = stopped_chain(&mut setup).await;
    let other = RocksOrderLog::open(&setup.log_path(), B256::repeat_byte(3));
    assert!(matches!(other, Err(LogError::OtherChain { found, .. }) if found == genesis));

    let log = setup.open_log(genesis);
    let held = RocksOrderLog::open(&setup.log_path(), genesis);
    assert!(matches!(held, Err(LogError::Open { .. })), "one process at a time");
    let end = log.end();
    let (txs, accepted_at) = (vec![], vec![]);
    log.append(&[Record::Frame { block: head.number + 1, txs, accepted_at }]).expect("appended");
    drop(log);
    let error = refused(&mut setup).await;
    let OpenError::Log(LogError::Corrupt { position, .. }) = error else { panic!("{error}") };
    assert_eq!(position, end);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_is_refused() {
    let mut setup = Setup::new();
    let (_, genesis) = stopped_chain(&mut setup).await;
    let files = std::fs::read_dir(setup.log_path()).expect("the log's folder");
    let mut wals: Vec<_> = files
        .map(|file| file.expect("a file").path())
        .filter(|path| path.extension().is_some_and(|end| end == "log"))
        .filter(|path| path.metadata().is_ok_and(|meta| meta.len() > 0))
        .collect();
    wals.sort();
    let wal = wals.first().expect("a write-ahead log");
    let mut bytes = std::fs::read(wal).expect("readable");
    // In the middle: what follows is sound, so it is no torn tail.
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    std::fs::write(wal, bytes).expect("writable");
    let broken = RocksOrderLog::open(&setup.log_path(), genesis);
    assert!(matches!(broken, Err(LogError::Open { .. })), "{broken:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_tail_is_cut_off() {
    let mut setup = Setup::new();
    let (head, genesis) = stopped_chain(&mut setup).await;
    let log = setup.open_log(genesis);
    let whole = log.end();
    drop(log);
    let log = setup.open_log(genesis);
    log.append(&[Record::BlockOpened(opened(&head))]).expect("appended");
    drop(log);
    let files = std::fs::read_dir(setup.log_path()).expect("the log's folder");
    let newest = files
        .map(|file| file.expect("a file").path())
        .filter(|path| path.extension().is_some_and(|end| end == "log"))
        .filter(|path| path.metadata().is_ok_and(|meta| meta.len() > 0))
        .max()
        .expect("a write-ahead log");
    let len = newest.metadata().expect("metadata").len();
    let file = std::fs::OpenOptions::new().write(true).open(newest).expect("writable");
    file.set_len(len - 5).expect("cut");
    drop(file);
    let log = setup.open_log(genesis);
    assert_eq!(log.end(), whole);
    drop(log);
    let node = setup.start().await;
    assert_eq!(node.executor_head().await, head.seal());
    node.stop().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cursor_follows_and_what_waits_is_kept() {
    let mut setup = Setup::new();
    setup.config.block_time = Duration::from_millis(10);
    setup.config.frame_interval = Duration::from_millis(5);
    setup.config.heartbeat = Duration::from_millis(10);
    let node = setup.start().await;
    let queued = node.submit(sign(&signer(0), transfer(1))).await.expect("accepted");
    let accepted = node.handle.stages(queued).await.expect("known")[0].reached_at;
    setup.clock.1.store(777, Ordering::Relaxed);
    let mut blocks = node.executor.subscribe(1).await.expect("blocks");
    soon(async {
        while let Some(block) = blocks.next().await {
            if block.expect("no error").number() > 200 {
                return;
            }
        }
    })
    .await;
    drop(blocks);
    let genesis = node.genesis().await;
    node.stop().await.expect("a clean end");

    let log = setup.open_log(genesis);
    let cursor = log.cursor().expect("readable");
    assert!(cursor > Position(0), "the cursor has moved");
    let kept = log.read(cursor).expect("readable").any(|record| {
        matches!(record.expect("sound").1, Record::Pooled { txs, .. } if txs[0].hash() == queued)
    });
    assert!(kept, "what waits was written again");
    drop(log);
    setup.config.heartbeat = Duration::from_secs(600);
    let node = setup.start().await;
    let again = node.handle.stages(queued).await.expect("known")[0].reached_at;
    assert!(accepted.is_some() && again == accepted, "{again:?}, was {accepted:?}");
    node.submit(sign(&signer(0), transfer(0))).await.expect("accepted");
    node.sequenced(queued).await;
    assert_eq!(node.handle.stages(queued).await.expect("known")[0].reached_at, accepted);
    node.stop().await.expect("a clean end");
}

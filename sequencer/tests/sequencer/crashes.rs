//! Whatever breaks, and whenever: what was acknowledged is included, once.

use std::{collections::HashMap, sync::Arc, time::Duration};

use alloy::{
    consensus::TxEip1559,
    primitives::{Bytes, map::B256Set},
};
use futures::future::join_all;
use millrace_proto::{RejectReason, Sequencer, Stage, SubmitError, TxPool};
use millrace_sequencer::{LogError, OpenError, OrderBy, SequencerRunError};
use parking_lot::Mutex;

use crate::{
    faults::{Fault, FaultyExecutor, FaultyLog, How, Place},
    support::{GWEI, Node, Random, Setup, hash_of, sign, signer, soon, transfer},
};

const SENDERS: u8 = 5;

/// Transactions that were signed, and what is known of them.
#[derive(Debug, Default)]
pub(crate) struct Book {
    pub(crate) acknowledged: B256Set,
    pub(crate) all: Vec<(u8, Bytes)>,
    nonces: HashMap<u8, u64>,
}

impl Book {
    /// More transactions of every sender.
    pub(crate) fn sign(&mut self, count: u64) {
        for index in 0..SENDERS {
            let nonce = self.nonces.entry(index).or_default();
            for _ in 0..count {
                // Tips differ, so that an order by what is paid is another one.
                let tip = 1 + (*nonce * 7 + u64::from(index)) % 5;
                let max_priority_fee_per_gas = u128::from(tip) * GWEI;
                let tx = TxEip1559 { max_priority_fee_per_gas, ..transfer(*nonce) };
                self.all.push((index, sign(&signer(index), tx)));
                *nonce += 1;
            }
        }
    }

    fn waiting(&self, sender: u8) -> Vec<Bytes> {
        let open = self
            .all
            .iter()
            .filter(|(index, raw)| *index == sender && !self.acknowledged.contains(&hash_of(raw)));
        open.map(|(_, raw)| raw.clone()).collect()
    }
}

/// Every sender submits what is not acknowledged yet, a few at a time, until an error that is no refusal.
pub(crate) async fn submit_all(node: &Node, book: &Arc<Mutex<Book>>) {
    let senders = (0..SENDERS).map(async |index| {
        let waiting = book.lock().waiting(index);
        for some in waiting.chunks(3) {
            for (raw, result) in some.iter().zip(node.handle.submit_many(some.to_vec()).await) {
                match result {
                    Ok(hash) | Err(SubmitError::Rejected(RejectReason::AlreadyKnown { hash })) => {
                        assert_eq!(hash, hash_of(raw));
                        book.lock().acknowledged.insert(hash);
                    }
                    Err(SubmitError::Failed(_)) => return,
                    Err(SubmitError::Rejected(reason)) => panic!("refused: {reason}"),
                }
            }
        }
    });
    join_all(senders).await;
}

/// All that was signed is included exactly once, and each sender's in the order of its nonces.
async fn check(node: &Node, book: &Book) {
    for (_, raw) in &book.all {
        let hash = hash_of(raw);
        assert!(book.acknowledged.contains(&hash));
        let status = node.sequenced(hash).await;
        assert_eq!(status.stage, Stage::Sequenced, "{:?}", status.reason);
    }
    let included = node.included().await;
    let unique: B256Set = included.iter().copied().collect();
    assert_eq!(included.len(), unique.len(), "nothing is doubled");
    assert_eq!(included.len(), book.all.len(), "nothing is there that was not signed");
}

/// Resolves when a fault leaves a start hanging; any other is the start's to deal with.
async fn struck_at_start(fault: &Option<Arc<Fault>>) {
    match fault {
        Some(fault) if fault.how == How::Hang => fault.hung.notified().await,
        _ => std::future::pending().await,
    }
}

/// Starts a node whose fault may strike meanwhile: then `None`, as when the start fails in a way that the fault excuses.
async fn try_start(
    setup: &mut Setup,
    fault: &Option<Arc<Fault>>,
    excused: impl Fn(&OpenError) -> bool,
) -> Option<Node> {
    let started = tokio::select! {
        opened = setup.try_start() => match opened {
            Ok(node) => Some(node),
            Err(error) if excused(&error) => None,
            Err(error) => panic!("{error}"),
        },
        () = struck_at_start(fault) => None,
    };
    if started.is_none() {
        setup.give_up().await;
    }
    started
}

/// Resolves when the fault has struck; or, if nothing is to break, when the process is to die.
pub(crate) async fn struck(fault: &Option<Arc<Fault>>, kill_after: Duration) {
    match fault {
        Some(fault) => fault.fired.notified().await,
        None => tokio::time::sleep(kill_after).await,
    }
}

/// A fault in one of some places; sometimes nothing breaks but the process dies.
pub(crate) fn random_fault(random: &mut Random, places: &[Place]) -> Option<Arc<Fault>> {
    let place = places[random.below(places.len() as u64) as usize];
    let how = [How::Before, How::After, How::Hang][random.below(3) as usize];
    // Blocks are taken back once or twice in a cycle.
    let countdown = random.below(if place == Place::Unwind { 2 } else { 12 });
    (random.below(5) > 0).then(|| Fault::new(place, how, countdown as i64))
}

/// [`try_start`] with a fault anywhere, of which it is told if there is no node.
pub(crate) async fn start_with(
    setup: &mut Setup,
    fault: &Option<Arc<Fault>>,
    cycle: u32,
) -> Option<Node> {
    arm(setup, fault);
    let excused = |error: &OpenError| {
        matches!(error, OpenError::Log(LogError::Storage(_)) | OpenError::Executor(_))
    };
    let node = try_start(setup, fault, excused).await;
    if node.is_none() {
        println!("cycle {cycle}: {}, while starting", describe(fault));
    }
    node
}

pub(crate) fn describe(fault: &Option<Arc<Fault>>) -> String {
    fault.as_ref().map_or("killed".to_owned(), |fault| format!("{:?} {:?}", fault.place, fault.how))
}

fn arm(setup: &mut Setup, fault: &Option<Arc<Fault>>) {
    if let Some(fault) = fault.clone() {
        let other = fault.clone();
        setup.wrap_log =
            Some(Box::new(|inner| Arc::new(FaultyLog { inner, fault, disk: Arc::default() })));
        setup.wrap_executor =
            Some(Box::new(|inner| Arc::new(FaultyExecutor { inner, fault: other })));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_or_doubled() {
    let mut random = Random::seeded();
    let mut setup = Setup::new();
    setup.config.block_time = Duration::from_millis(10);
    setup.config.frame_interval = Duration::from_millis(1);
    let book = Arc::new(Mutex::new(Book::default()));
    for cycle in 0..30 {
        let fault =
            random_fault(&mut random, &[Place::Append, Place::Execute, Place::Close, Place::Seal]);
        arm(&mut setup, &fault);
        let order = random.below(2);
        setup.config.order = [OrderBy::Arrival, OrderBy::PriorityFee][order as usize];
        let kill_after = Duration::from_micros(random.below(60_000));
        // The block that was open could not be recorded as sealed.
        let excused = |error: &OpenError| matches!(error, OpenError::Log(LogError::Storage(_)));
        let Some(node) = try_start(&mut setup, &fault, excused).await else {
            println!("cycle {cycle}: {}, while starting", describe(&fault));
            continue;
        };
        book.lock().sign(6);
        let work = async {
            submit_all(&node, &book).await;
            let acknowledged = book.lock().acknowledged.clone();
            for hash in acknowledged {
                // It may end with an error: then the log has failed.
                if node.handle.wait_for(hash, Stage::Sequenced).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = work => {}
            () = struck(&fault, kill_after) => {}
        }
        node.kill().await;
        println!(
            "cycle {cycle}: {}, {} acknowledged",
            describe(&fault),
            book.lock().acknowledged.len()
        );
    }
    let node = setup.start().await;
    soon(submit_all(&node, &book)).await;
    let book = std::mem::take(&mut *book.lock());
    check(&node, &book).await;
    let head = node.executor_head().await;
    node.stop().await.expect("a clean end");

    // The log alone gives the same chain again.
    setup.forget_executor();
    let node = setup.start().await;
    assert_eq!(node.executor_head().await, head);
    check(&node, &book).await;
    node.stop().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_executor_that_loses_the_open_block_gets_it_again() {
    for (place, how) in [
        (Place::Execute, How::Before),
        (Place::Execute, How::After),
        (Place::Close, How::Before),
        (Place::Close, How::After),
        (Place::Seal, How::Before),
        (Place::Seal, How::After),
    ] {
        let mut setup = Setup::new();
        arm(&mut setup, &Some(Fault::new(place, how, 1)));
        let node = setup.start().await;
        let book = Arc::new(Mutex::new(Book::default()));
        book.lock().sign(20);
        soon(submit_all(&node, &book)).await;
        let book = std::mem::take(&mut *book.lock());
        check(&node, &book).await;
        node.stop().await.expect("a clean end");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_stops_everything_and_acknowledges_nothing() {
    let mut setup = Setup::new();
    arm(&mut setup, &Some(Fault::new(Place::Append, How::Before, 0)));
    let node = setup.start().await;
    let raw = sign(&signer(0), transfer(0));
    let first = node.submit(raw.clone()).await;
    assert!(
        matches!(&first, Err(SubmitError::Failed(error)) if error.to_string().contains("no space left")),
        "{first:?}"
    );
    let ended = soon(node.run).await.expect("no panic");
    assert!(matches!(ended, Err(SequencerRunError::Log(_))), "{ended:?}");
    let later = soon(node.handle.submit(sign(&signer(1), transfer(0)))).await;
    assert!(matches!(&later, Err(SubmitError::Failed(_))), "{later:?}");
    let known = node.handle.transaction(hash_of(&raw)).await.expect("no error");
    assert!(known.is_none(), "it was never acknowledged");
    drop(node.handle);
    node.executor.close().await;
}

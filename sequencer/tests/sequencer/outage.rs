//! An executor that is gone: blocks wait for it, a stop does not, and the log is not full of it.

use std::{
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use millrace_proto::Stage;
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

use crate::{
    faults::{Fault, FaultyExecutor, How, Place},
    support::{Setup, sign, signer, transfer},
};

fn break_executor(setup: &mut Setup, place: Place, how: How) -> Arc<Fault> {
    let fault = Fault::new(place, how, 0);
    let armed = fault.clone();
    setup.wrap_executor = Some(Box::new(|inner| Arc::new(FaultyExecutor { inner, fault: armed })));
    fault
}

/// The sequencer acknowledges without the executor, and stops without it; the next start sequences what it acknowledged.
async fn stops_soon(place: Place, how: How) {
    let mut setup = Setup::new();
    let fault = break_executor(&mut setup, place, how);
    let node = setup.start().await;
    let hash = node.submit(sign(&signer(0), transfer(0))).await.expect("accepted");
    fault.fired.notified().await;
    let stopping = Instant::now();
    node.stop().await.expect("a clean end");
    assert!(stopping.elapsed() < Duration::from_secs(8), "{how:?} at {place:?}");

    let node = setup.start().await;
    let status = node.sequenced(hash).await;
    assert_eq!((status.stage, node.included().await), (Stage::Sequenced, vec![hash]));
    node.stop().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_does_not_wait_for_an_executor_that_is_gone() {
    tokio::join!(
        stops_soon(Place::Execute, How::Gone),
        stops_soon(Place::Close, How::Gone),
        stops_soon(Place::Close, How::Hang),
        stops_soon(Place::Seal, How::Gone),
        stops_soon(Place::Execute, How::Hang),
        stops_soon(Place::Seal, How::Hang),
    );
}

/// Counts what is logged about the executor.
#[derive(Debug, Clone, Default)]
struct Counts(Arc<Counted>);

#[derive(Debug, Default)]
struct Counted {
    warnings: AtomicU64,
    recoveries: AtomicU64,
    texts: Mutex<Vec<String>>,
}

impl Subscriber for Counts {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("millrace") && *metadata.level() <= Level::INFO
    }

    fn event(&self, event: &Event<'_>) {
        struct Text(String);
        impl Visit for Text {
            fn record_debug(&mut self, _: &Field, value: &dyn fmt::Debug) {
                self.0.push_str(&format!("{value:?} "));
            }
        }
        let mut text = Text(String::new());
        event.record(&mut text);
        let level = *event.metadata().level();
        if level == Level::WARN {
            self.0.warnings.fetch_add(1, Ordering::SeqCst);
        }
        if level == Level::INFO && text.0.contains("the executor answers again") {
            self.0.recoveries.fetch_add(1, Ordering::SeqCst);
        }
        self.0.texts.lock().expect("no panic").push(format!("{level} {}", text.0));
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// On one thread, so that all of the sequencer's tasks log here.
#[tokio::test(flavor = "current_thread")]
async fn an_outage_is_one_warning_and_one_line_at_its_end() {
    let counts = Counts::default();
    let _logging = tracing::subscriber::set_default(counts.clone());
    let mut setup = Setup::new();
    let fault = break_executor(&mut setup, Place::Execute, How::Gone);
    let node = setup.start().await;
    let hash = node.submit(sign(&signer(0), transfer(0))).await.expect("accepted");
    fault.refused(5).await;
    fault.bring_back();
    node.sequenced(hash).await;
    let texts = counts.0.texts.lock().expect("no panic").join("\n");
    assert_eq!(counts.0.warnings.load(Ordering::SeqCst), 1, "{texts}");
    assert_eq!(counts.0.recoveries.load(Ordering::SeqCst), 1, "{texts}");
    node.stop().await.expect("a clean end");
}

//! Ready means making progress, not just alive.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use millrace_proto::{DaAdapter, Executor, Sequencer, Settlement};
use parking_lot::Mutex;

use crate::telemetry::Probe;

/// L1 must show a new block to the settlement service within this time.
const L1_STALE: Duration = Duration::from_secs(120);
/// A backlog must shrink, or grow its posted part, within this time.
const POSTING_STALE: Duration = Duration::from_secs(300);

/// Remembers a value and when it last changed.
#[derive(Debug, Default)]
struct Changed<T>(Mutex<Option<(T, Instant)>>);

impl<T: PartialEq> Changed<T> {
    /// How long the value has been what it is.
    fn unchanged_for(&self, value: T) -> Duration {
        let mut seen = self.0.lock();
        match &*seen {
            Some((old, since)) if *old == value => since.elapsed(),
            _ => {
                *seen = Some((value, Instant::now()));
                Duration::ZERO
            }
        }
    }
}

/// The executor is ready when its store answers.
pub(crate) fn executor(executor: Arc<dyn Executor>) -> Probe {
    Probe::new(move || {
        let executor = Arc::clone(&executor);
        async move { executor.head().await.map(drop).map_err(|error| error.to_string()) }
    })
}

/// The sequencer is ready when it answers and its head moves at least once in three heartbeats.
pub(crate) fn sequencer(
    sequencer: Arc<dyn Sequencer>,
    executor: Arc<dyn Executor>,
    heartbeat: Duration,
) -> Probe {
    let head = Arc::new(Changed::default());
    Probe::new(move || {
        let (sequencer, executor, head) =
            (Arc::clone(&sequencer), Arc::clone(&executor), Arc::clone(&head));
        async move {
            sequencer.pool_status().await.map_err(|error| error.to_string())?;
            let number = executor.head().await.map_err(|error| error.to_string())?.number;
            let since = head.unchanged_for(number);
            if since > heartbeat * 3 {
                return Err(format!("no block for {} s", since.as_secs()));
            }
            Ok(())
        }
    })
}

/// The DA adapter is ready unless posting has halted or does not move while there is something to post.
pub(crate) fn da_adapter(da: Arc<dyn DaAdapter>) -> Probe {
    let posted = Arc::new(Changed::default());
    Probe::new(move || {
        let (da, posted) = (Arc::clone(&da), Arc::clone(&posted));
        async move {
            let status = da.da_status().await.map_err(|error| error.to_string())?;
            if let Some(why) = status.halted {
                return Err(why);
            }
            let idle = status.backlog_bytes == 0;
            let since = posted.unchanged_for((status.batches_posted, idle));
            if !idle && since > POSTING_STALE {
                return Err(format!("nothing posted for {} s with a backlog", since.as_secs()));
            }
            Ok(())
        }
    })
}

/// The settlement service is ready unless it has halted or L1 stands still.
pub(crate) fn settlement(settlement: Arc<dyn Settlement>) -> Probe {
    let l1_head = Arc::new(Changed::default());
    Probe::new(move || {
        let (settlement, l1_head) = (Arc::clone(&settlement), Arc::clone(&l1_head));
        async move {
            let status = settlement.settlement_status().await.map_err(|error| error.to_string())?;
            if let Some(why) = status.halted {
                return Err(why);
            }
            let since = l1_head.unchanged_for(status.l1_head);
            if since > L1_STALE {
                return Err(format!("L1 shows no new block for {} s", since.as_secs()));
            }
            Ok(())
        }
    })
}

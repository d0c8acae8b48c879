//! The alarm: the sequencer's chain and L1's differ, or either differs from what executing it gives.

use std::sync::Arc;

use eyre::{Result, bail};
use futures::StreamExt;
use metrics::{Gauge, gauge};
use millrace_proto::Settlement;
use millrace_settlement::SettlementHandle;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

/// Raised by whoever sees a difference, and taken back when it is gone.
#[derive(Debug)]
pub(super) struct Alarm {
    why: Mutex<Option<String>>,
    raised: Notify,
    exits: bool,
    gauge: DifferenceGauge,
}

struct DifferenceGauge(Gauge);

impl std::fmt::Debug for DifferenceGauge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DifferenceGauge")
    }
}

impl Alarm {
    /// `exits`: the process ends with an error when it is raised.
    pub(super) fn new(exits: bool) -> Self {
        metrics::describe_gauge!(
            "millrace_follow_difference",
            "1 while the sequencer's chain and the one derived from L1 differ"
        );
        let gauge = gauge!("millrace_follow_difference");
        gauge.set(0.0);
        Self { why: Mutex::default(), raised: Notify::new(), exits, gauge: DifferenceGauge(gauge) }
    }

    /// Says that there is a difference.
    pub(super) fn raise(&self, why: String) {
        let mut raised = self.why.lock();
        if raised.as_ref() != Some(&why) {
            error!(target: "millrace::follow", why, "the chains differ");
        }
        *raised = Some(why);
        self.gauge.0.set(1.0);
        self.raised.notify_one();
    }

    /// Says that the sequencer's feed joins the chain.
    pub(super) fn clear(&self) {
        if self.why.lock().take().is_some() {
            info!(target: "millrace::follow", "the chains are the same again");
            self.gauge.0.set(0.0);
        }
    }

    /// What differs, if anything does.
    pub(super) fn raised(&self) -> Option<String> {
        self.why.lock().clone()
    }

    /// Raises the alarm when derivation halts. Ends with an error on any alarm, if it is to.
    pub(super) async fn run(
        self: Arc<Self>,
        settlement: SettlementHandle,
        stop: CancellationToken,
    ) -> Result<()> {
        let mut statuses = settlement.subscribe_status().await?;
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                status = statuses.next() => {
                    if status.is_none() {
                        stop.cancelled().await;
                        return Ok(());
                    }
                    if let Some(reason) = settlement.halted() {
                        self.raise(format!("derivation from L1 has halted: {reason}"));
                    }
                }
                () = self.raised.notified() => {}
            }
            if let Some(why) = self.raised().filter(|_| self.exits) {
                bail!("{why}");
            }
        }
    }
}

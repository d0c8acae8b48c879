//! The alarm: the sequencer's chain and L1's differ, or either differs from what executing it gives.

use std::{sync::Arc, time::Duration};

use eyre::{Result, bail};
use futures::StreamExt;
use metrics::{Gauge, gauge};
use millrace_proto::Settlement;
use millrace_settlement::SettlementHandle;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

/// How often it is looked whether derivation stands still.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Raised by whoever sees a difference, and taken back when it is gone.
#[derive(Debug)]
pub(super) struct Alarm {
    why: Mutex<Reasons>,
    raised: Notify,
    exits: bool,
    gauge: DifferenceGauge,
}

/// Who has raised it, and why.
#[derive(Debug, Default)]
struct Reasons {
    feed: Option<String>,
    derivation: Option<String>,
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

    /// Says that the sequencer's feed differs.
    pub(super) fn raise(&self, why: String) {
        self.set(|reasons| &mut reasons.feed, why);
    }

    fn set(&self, reason: impl Fn(&mut Reasons) -> &mut Option<String>, why: String) {
        let mut reasons = self.why.lock();
        let reason = reason(&mut reasons);
        if reason.as_ref() == Some(&why) {
            return;
        }
        error!(target: "millrace::follow", why, "the chains differ");
        *reason = Some(why);
        self.gauge.0.set(1.0);
        self.raised.notify_one();
    }

    /// Says that the sequencer's feed joins the chain. What derivation has to say stays.
    pub(super) fn clear(&self) {
        self.take_back(|reasons| &mut reasons.feed);
    }

    fn take_back(&self, reason: impl Fn(&mut Reasons) -> &mut Option<String>) {
        let mut reasons = self.why.lock();
        if let Some(why) = reason(&mut reasons).take() {
            info!(target: "millrace::follow", why, "the chains do not differ there any more");
            let is_raised = reasons.feed.is_some() || reasons.derivation.is_some();
            self.gauge.0.set(if is_raised { 1.0 } else { 0.0 });
        }
    }

    /// What differs, if anything does.
    pub(super) fn raised(&self) -> Option<String> {
        let reasons = self.why.lock();
        reasons.derivation.clone().or_else(|| reasons.feed.clone())
    }

    /// Raises the alarm when derivation halts. Ends with an error on any alarm, if it is to.
    pub(super) async fn run(
        self: Arc<Self>,
        settlement: SettlementHandle,
        stop: CancellationToken,
    ) -> Result<()> {
        let mut statuses = settlement.subscribe_status().await?;
        // That something else stands still may hide in the status that this does.
        let mut again = tokio::time::interval(LOOK_EVERY);
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                status = statuses.next() => {
                    if status.is_none() {
                        stop.cancelled().await;
                        return Ok(());
                    }
                }
                _ = again.tick() => {}
                () = self.raised.notified() => {}
            }
            let halted = settlement.halted();
            let halted = halted.map(|why| format!("derivation from L1 has halted: {why}"));
            match halted.or_else(|| settlement.differs()) {
                Some(why) => self.set(|reasons| &mut reasons.derivation, why),
                None => self.take_back(|reasons| &mut reasons.derivation),
            }
            if let Some(why) = self.raised().filter(|_| self.exits) {
                bail!("{why}");
            }
        }
    }
}

//! Why the adapter stands still, if it does.

use parking_lot::Mutex;
use tracing::{error, info};

use crate::metrics::DaMetrics;

/// What can halt on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Closing batches.
    Batching,
    /// Posting them.
    Posting,
}

/// Conditions that need an operator. Each part looks again from time to time and goes on when its
/// condition is gone.
#[derive(Debug)]
pub(crate) struct Halts {
    reasons: Mutex<[Option<String>; 2]>,
    metrics: DaMetrics,
}

impl Halts {
    pub(crate) fn new(metrics: DaMetrics) -> Self {
        Self { reasons: Mutex::default(), metrics }
    }

    /// Says why a part stands still, or that it does not. Loud once for each reason.
    pub(crate) fn set(&self, part: Part, reason: Option<String>) {
        let mut reasons = self.reasons.lock();
        let slot = &mut reasons[part as usize];
        if *slot == reason {
            return;
        }
        match &reason {
            Some(reason) => error!(target: "millrace::da_adapter", ?part, reason, "HALTED"),
            None => info!(target: "millrace::da_adapter", ?part, "goes on"),
        }
        *slot = reason;
        self.metrics.halted(reasons.iter().any(Option::is_some));
    }

    /// What to tell an operator.
    pub(crate) fn reason(&self) -> Option<String> {
        self.reasons.lock().iter().flatten().next().cloned()
    }
}

//! The open batch, and when it closes.

use std::{io, sync::Arc, time::Duration};

use millrace_proto::{ExecutedBlock, QueueMark, StateDiff};
use tokio::time::Instant;

use super::estimate::SizeEstimator;
use crate::window::Window;

/// Transactions after which a batch closes, whatever its size. State diffs of so many may be small, but their blocks are all in memory until then, and the format has a limit:
/// [`BatchLimits::max_transactions`](millrace_proto::BatchLimits).
const MAX_TRANSACTIONS: usize = 240_000;

/// Why a batch was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CloseReason {
    /// It had the target size.
    Size,
    /// Its oldest transaction, or its oldest block, had waited long enough.
    Age,
    /// It had as many blocks as a batch may.
    Blocks,
    /// It had nearly as many transactions as a batch may.
    Transactions,
    /// The contract would not have taken it much longer.
    Window,
}

impl CloseReason {
    pub(crate) const ALL: [Self; 5] =
        [Self::Size, Self::Age, Self::Blocks, Self::Transactions, Self::Window];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Size => "size",
            Self::Age => "age",
            Self::Blocks => "blocks",
            Self::Transactions => "transactions",
            Self::Window => "window",
        }
    }
}

/// When batches close.
#[derive(Debug, Clone, Copy)]
pub(super) struct CloseRules {
    /// Estimated bytes.
    pub(super) target_size: usize,
    pub(super) max_blocks: usize,
    /// From the arrival of the first block that holds a transaction.
    pub(super) max_age: Duration,
    /// From the arrival of the first block.
    pub(super) max_empty_age: Duration,
    /// Before the end of the sequencing window.
    pub(super) window_margin: Duration,
}

/// A block for a batch.
#[derive(Debug, Clone)]
pub(super) struct Collected {
    pub(super) block: Arc<ExecutedBlock>,
    /// What it changed, where batches hold that.
    pub(super) diff: Option<Arc<StateDiff>>,
    /// When it came.
    pub(super) arrived: Instant,
}

/// Blocks that are in no closed batch yet.
#[derive(Debug)]
pub(super) struct OpenBatch {
    blocks: Vec<Collected>,
    estimator: SizeEstimator,
    transactions: usize,
    /// When the first block came.
    opened: Option<Instant>,
    /// When the first block that holds a transaction came.
    filled: Option<Instant>,
}

impl OpenBatch {
    pub(super) fn new(correction: f64) -> io::Result<Self> {
        let estimator = SizeEstimator::new(correction)?;
        Ok(Self { blocks: Vec::new(), estimator, transactions: 0, opened: None, filled: None })
    }

    /// Adds the next block.
    pub(super) fn push(&mut self, block: Collected) -> io::Result<()> {
        self.estimator.add(&block)?;
        self.transactions += block.block.transactions.len();
        self.opened.get_or_insert(block.arrived);
        if !block.block.transactions.is_empty() {
            self.filled.get_or_insert(block.arrived);
        }
        self.blocks.push(block);
        Ok(())
    }

    pub(super) fn blocks(&self) -> &[Collected] {
        &self.blocks
    }

    pub(super) fn size(&self) -> usize {
        self.estimator.size()
    }

    /// Takes note of how large the batch, as it is, really is. Returns the correction for the next one.
    pub(super) fn measured(&mut self, size: usize) -> f64 {
        let correction = self.estimator.correction(size);
        self.estimator.correct(correction);
        // One odd batch does not make the next one burst, or close empty.
        correction.clamp(0.25, 8.0)
    }

    /// How long its blocks have been coming.
    pub(super) fn age(&self, now: Instant) -> Duration {
        self.opened.map_or(Duration::ZERO, |opened| now.saturating_duration_since(opened))
    }

    /// When the batch has to close for its age; `None` if it is empty.
    pub(super) fn deadline(&self, rules: &CloseRules) -> Option<Instant> {
        let idle = self.opened? + rules.max_empty_age;
        Some(self.filled.map_or(idle, |filled| idle.min(filled + rules.max_age)))
    }

    /// How many entries of L1's queue are consumed behind it; `None` if it is empty.
    fn consumed(&self) -> Option<u64> {
        Some(QueueMark::of(&self.blocks.last()?.block.header)?.end)
    }

    /// Whether the contract would not take it as it is, as it does not reach what is overdue.
    pub(super) fn is_short(&self, window: &Window) -> bool {
        self.consumed().is_some_and(|consumed| consumed < window.due)
    }

    /// When the batch has to close for the sequencing window; `None` if it does not move its end.
    pub(super) fn window_deadline(&self, rules: &CloseRules, window: &Window) -> Option<Instant> {
        if self.consumed()? <= window.consumed {
            return None;
        }
        // It may be too late already.
        Some(window.close_at(rules.window_margin).unwrap_or_else(Instant::now))
    }

    /// Why the batch has to close before another block is added, if it has to.
    pub(super) fn is_full(&self, rules: &CloseRules) -> Option<CloseReason> {
        if self.size() >= rules.target_size {
            Some(CloseReason::Size)
        } else if self.blocks.len() >= rules.max_blocks {
            Some(CloseReason::Blocks)
        } else if self.transactions >= MAX_TRANSACTIONS {
            Some(CloseReason::Transactions)
        } else {
            None
        }
    }
}

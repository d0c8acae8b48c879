//! The executor's metrics.

use metrics::{Counter, Gauge, Histogram, Unit};

use crate::evm::ParallelStats;

/// Metrics of building blocks.
#[derive(Clone)]
pub(super) struct ExecutorMetrics {
    /// Blocks sealed.
    pub(super) blocks: Counter,
    /// Transactions included in sealed blocks.
    pub(super) transactions: Counter,
    /// Transactions refused as invalid while a block was built.
    pub(super) invalid: Counter,
    /// Gas used by sealed blocks.
    pub(super) gas: Counter,
    /// Number of the sealed head.
    pub(super) head: Gauge,
    /// Blocks taken back.
    pub(super) unwound: Counter,
    /// Gas used of the gas limit in the last block, 0 to 1.
    pub(super) fill: Gauge,
    /// Seconds to execute one batch of transactions.
    pub(super) execute: Histogram,
    /// Seconds to close a block: roots, header and commit.
    pub(super) seal: Histogram,
    /// Seconds to compute a state root.
    pub(super) root: Histogram,
    /// Seconds to commit a block to the store.
    pub(super) commit: Histogram,
    /// Plain transfers, which take the short path.
    plain: Counter,
    /// Transactions that were executed ahead of their turn, with a result that held.
    held: Counter,
    /// Transactions that were executed ahead of their turn, and again in it.
    failed: Counter,
    /// Transactions that were executed in their turn.
    inline: Counter,
    /// Blocks that were executed in order after a thread panicked.
    fallbacks: Counter,
}

impl ExecutorMetrics {
    /// `chain` is the label that tells this chain from others in the same process.
    pub(super) fn new(chain: &'static str) -> Self {
        let counter = |name, unit, text| {
            metrics::describe_counter!(name, unit, text);
            metrics::counter!(name, "chain" => chain)
        };
        let gauge = |name, text| {
            metrics::describe_gauge!(name, text);
            metrics::gauge!(name, "chain" => chain)
        };
        let seconds = |name, text| {
            metrics::describe_histogram!(name, Unit::Seconds, text);
            metrics::histogram!(name, "chain" => chain)
        };
        let executions = |kind| {
            let name = "millrace_executor_executions_total";
            let text = "Transactions by how they were executed: plain transfers, ahead of their turn, \
                        again because what was read ahead had changed, in their turn";
            metrics::describe_counter!(name, Unit::Count, text);
            metrics::counter!(name, "chain" => chain, "kind" => kind)
        };
        Self {
            plain: executions("plain"),
            held: executions("ahead"),
            failed: executions("again"),
            inline: executions("in_turn"),
            unwound: counter(
                "millrace_executor_unwound_blocks_total",
                Unit::Count,
                "Blocks taken back, because L1 had taken back what they were made of",
            ),
            fallbacks: counter(
                "millrace_executor_fallbacks_total",
                Unit::Count,
                "Blocks that were executed in order after a thread panicked",
            ),
            blocks: counter("millrace_executor_blocks_sealed_total", Unit::Count, "Blocks sealed"),
            transactions: counter(
                "millrace_executor_transactions_total",
                Unit::Count,
                "Transactions included in sealed blocks",
            ),
            invalid: counter(
                "millrace_executor_transactions_invalid_total",
                Unit::Count,
                "Transactions refused as invalid while a block was built",
            ),
            gas: counter(
                "millrace_executor_gas_used_total",
                Unit::Count,
                "Gas used by sealed blocks",
            ),
            head: gauge("millrace_executor_head_number", "Number of the sealed head"),
            fill: gauge(
                "millrace_executor_block_fill_ratio",
                "Gas used of the gas limit in the last block, 0 to 1",
            ),
            execute: seconds(
                "millrace_executor_execute_duration_seconds",
                "Time to execute one batch of transactions",
            ),
            seal: seconds(
                "millrace_executor_seal_duration_seconds",
                "Time to close a block: roots, header and commit",
            ),
            root: seconds(
                "millrace_executor_state_root_duration_seconds",
                "Time to compute a state root",
            ),
            commit: seconds(
                "millrace_executor_commit_duration_seconds",
                "Time to commit a block to the store",
            ),
        }
    }

    /// Counts how a block's transactions were executed.
    pub(super) fn count(&self, stats: Option<ParallelStats>) {
        let Some(stats) = stats else { return self.fallbacks.increment(1) };
        self.plain.increment(stats.plain);
        self.held.increment(stats.held);
        self.failed.increment(stats.failed);
        self.inline.increment(stats.inline - stats.failed);
    }
}

//! What the sequencer measures. Names start with `millrace_sequencer_`; times are seconds.

use std::time::Duration;

use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram,
    gauge, histogram,
};
use millrace_proto::{DataPrice, ExecutedBlock, PoolStatus, RejectReason};

const REJECTED: &str = "millrace_sequencer_rejected_transactions_total";
const DROPPED: &str = "millrace_sequencer_dropped_transactions_total";

/// Admission, pool, blocks and heads.
#[derive(Clone)]
pub(crate) struct SequencerMetrics {
    /// Transactions submitted, taken or not.
    pub(crate) submitted: Counter,
    /// Transactions accepted.
    pub(crate) accepted: Counter,
    /// From the arrival of a submission to its place in the pool, or its rejection.
    pub(crate) admission_seconds: Histogram,
    /// From a transaction's place in the pool to its acknowledgement.
    pub(crate) accept_seconds: Histogram,
    /// From a transaction's place in the pool to its sealed block.
    pub(crate) sequence_seconds: Histogram,
    /// Transactions in a frame.
    pub(crate) frame_transactions: Histogram,
    /// Execution of a frame.
    pub(crate) frame_seconds: Histogram,
    /// From the cut of a frame until it is both on disk and executed.
    pub(crate) preconfirm_seconds: Histogram,
    /// Sealing a block: roots and storage.
    pub(crate) seal_seconds: Histogram,
    /// From one sealed block to the next.
    pub(crate) block_interval_seconds: Histogram,
    /// Transactions in a block, deposits included.
    pub(crate) block_transactions: Histogram,
    /// Gas used of the gas limit, 0 to 1.
    pub(crate) block_gas_fill: Histogram,
    /// Blocks sealed.
    pub(crate) blocks: Counter,
    /// Transactions in sealed blocks, deposits included.
    pub(crate) transactions: Counter,
    /// Gas used by sealed blocks.
    pub(crate) gas: Counter,
    /// Deposits in sealed blocks.
    pub(crate) deposits: Counter,
    /// Failed reads of L1's deposit queue.
    pub(crate) inbox_errors: Counter,
    unwound: Counter,
    adopted: Counter,
    pool_pending: Gauge,
    pool_queued: Gauge,
    head_unsafe: Gauge,
    head_safe: Gauge,
    head_finalized: Gauge,
    throttle_pressure: Gauge,
    data_price: Gauge,
}

impl std::fmt::Debug for SequencerMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SequencerMetrics").finish_non_exhaustive()
    }
}

macro_rules! described {
    ($describe:ident, $make:ident, $name:literal, $unit:expr, $help:literal) => {{
        $describe!(concat!("millrace_sequencer_", $name), $unit, $help);
        $make!(concat!("millrace_sequencer_", $name))
    }};
    ($describe:ident, $make:ident, $name:literal, $help:literal) => {{
        $describe!(concat!("millrace_sequencer_", $name), $help);
        $make!(concat!("millrace_sequencer_", $name))
    }};
}

macro_rules! total {
    ($name:literal, $help:literal) => {
        described!(describe_counter, counter, $name, $help)
    };
}

macro_rules! seconds {
    ($name:literal, $help:literal) => {
        described!(describe_histogram, histogram, $name, Unit::Seconds, $help)
    };
}

macro_rules! distribution {
    ($name:literal, $help:literal) => {
        described!(describe_histogram, histogram, $name, $help)
    };
}

impl SequencerMetrics {
    /// Registers everything with the recorder that is installed.
    pub(crate) fn new() -> Self {
        describe_counter!(REJECTED, "Transactions refused at admission, by reason");
        describe_counter!(DROPPED, "Accepted transactions that were dropped, by reason");
        describe_gauge!(
            "millrace_sequencer_pool_transactions",
            "Transactions in the pool, by state"
        );
        describe_gauge!("millrace_sequencer_head_block", "Block number of each head");
        describe_histogram!(
            "millrace_sequencer_stage_seconds",
            Unit::Seconds,
            "From a transaction's place in the pool to each stage"
        );
        // Alerts on these need a series before the first one happens.
        counter!(REJECTED, "reason" => RejectReason::PoolFull { limit: 0 }.code()).increment(0);
        counter!(REJECTED, "reason" => RejectReason::SourceLimit { limit: 0 }.code()).increment(0);
        counter!(DROPPED, "reason" => RejectReason::Expired.code()).increment(0);
        counter!(DROPPED, "reason" => RejectReason::Evicted.code()).increment(0);
        let stage = |stage| histogram!("millrace_sequencer_stage_seconds", "stage" => stage);
        let pool = |state| gauge!("millrace_sequencer_pool_transactions", "state" => state);
        let head = |head| gauge!("millrace_sequencer_head_block", "head" => head);
        Self {
            submitted: total!(
                "submitted_transactions_total",
                "Transactions submitted, taken or not"
            ),
            accepted: total!(
                "accepted_transactions_total",
                "Transactions acknowledged as accepted"
            ),
            admission_seconds: seconds!(
                "admission_seconds",
                "From the arrival of a submission to its place in the pool, or its rejection"
            ),
            accept_seconds: stage("accepted"),
            sequence_seconds: stage("sequenced"),
            frame_transactions: distribution!("frame_transactions", "Transactions in a frame"),
            frame_seconds: seconds!("frame_seconds", "Execution of a frame"),
            preconfirm_seconds: seconds!(
                "preconfirm_seconds",
                "From the cut of a frame until it is both on disk and executed"
            ),
            seal_seconds: seconds!("seal_seconds", "Sealing a block: roots and storage"),
            block_interval_seconds: seconds!(
                "block_interval_seconds",
                "From one sealed block to the next"
            ),
            block_transactions: distribution!(
                "block_transactions",
                "Transactions in a block, deposits included"
            ),
            block_gas_fill: distribution!(
                "block_gas_fill_ratio",
                "Gas used of the gas limit, 0 to 1"
            ),
            blocks: total!("blocks_total", "Blocks sealed"),
            transactions: total!(
                "transactions_total",
                "Transactions in sealed blocks, deposits included"
            ),
            gas: total!("gas_total", "Gas used by sealed blocks"),
            deposits: total!("deposits_total", "Deposits and forced transactions in sealed blocks"),
            unwound: total!(
                "unwound_blocks_total",
                "Sealed blocks taken back, because an L1 reorg took deposits or forced transactions that they held, or L1 held other blocks"
            ),
            adopted: total!(
                "adopted_blocks_total",
                "Blocks taken over from what settlement has derived from L1"
            ),
            inbox_errors: total!("inbox_errors_total", "Failed reads of L1's deposit queue"),
            pool_pending: pool("pending"),
            pool_queued: pool("queued"),
            head_unsafe: head("unsafe"),
            head_safe: head("safe"),
            head_finalized: head("finalized"),
            throttle_pressure: {
                const PRESSURE: &str = "millrace_sequencer_throttle_pressure";
                describe_gauge!(
                    PRESSURE,
                    "How much sequencing is slowed down since posting lags: 0 not at all, 1 to the least"
                );
                gauge!(PRESSURE)
            },
            data_price: {
                const PRICE: &str = "millrace_sequencer_data_price_wei";
                describe_gauge!(
                    PRICE,
                    "What priority fees have to pay for 1,000 bytes of batches, wei; 0 where nothing is asked"
                );
                gauge!(PRICE)
            },
        }
    }

    pub(crate) fn throttle(&self, pressure: f64) {
        self.throttle_pressure.set(pressure);
    }

    pub(crate) fn data_price(&self, price: DataPrice) {
        self.data_price.set(price.0 as f64);
    }

    /// A refusal.
    pub(crate) fn rejected(&self, reason: &RejectReason) {
        counter!(REJECTED, "reason" => reason.code()).increment(1);
    }

    /// A drop.
    pub(crate) fn dropped(&self, reason: &RejectReason) {
        counter!(DROPPED, "reason" => reason.code()).increment(1);
    }

    /// The pool as it is.
    pub(crate) fn pool(&self, status: PoolStatus) {
        self.pool_pending.set(status.pending as f64);
        self.pool_queued.set(status.queued as f64);
    }

    /// The heads as they are.
    pub(crate) fn heads(&self, latest: u64, safe: u64, finalized: u64) {
        self.head_unsafe.set(latest as f64);
        self.head_safe.set(safe as f64);
        self.head_finalized.set(finalized as f64);
    }

    /// Sealed blocks were taken back.
    pub(crate) fn unwound(&self, blocks: u64) {
        self.unwound.increment(blocks);
    }

    /// Blocks were taken over from L1.
    pub(crate) fn adopted(&self, blocks: u64) {
        self.adopted.increment(blocks);
    }

    /// A sealed block, and the time since the one before, unless it is the first.
    pub(crate) fn sealed(&self, block: &ExecutedBlock, interval: Option<Duration>) {
        self.blocks.increment(1);
        self.transactions.increment(block.transactions.len() as u64);
        self.gas.increment(block.header.gas_used);
        self.deposits.increment(block.queued_count() as u64);
        self.block_transactions.record(block.transactions.len() as f64);
        self.block_gas_fill
            .record(block.header.gas_used as f64 / block.header.gas_limit.max(1) as f64);
        if let Some(interval) = interval {
            self.block_interval_seconds.record(interval);
        }
    }
}

/// The order log's thread.
pub(crate) struct LogMetrics {
    /// From the queueing of an append to its end on disk.
    pub(crate) append_seconds: Histogram,
    /// One synced write.
    pub(crate) fsync_seconds: Histogram,
    /// Records in one synced write.
    pub(crate) group_records: Histogram,
    /// Records written.
    pub(crate) records: Counter,
}

impl LogMetrics {
    pub(crate) fn new() -> Self {
        Self {
            append_seconds: seconds!(
                "log_append_seconds",
                "From the queueing of an append to its end on disk"
            ),
            fsync_seconds: seconds!("log_fsync_seconds", "One synced write to the order log"),
            group_records: distribution!("log_group_records", "Records in one synced write"),
            records: total!("log_records_total", "Records written to the order log"),
        }
    }
}

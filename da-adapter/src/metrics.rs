//! What the DA adapter counts.

use std::time::Duration;

use alloy::primitives::U256;
use metrics::{Counter, Gauge, Histogram, counter, describe_counter, describe_gauge, gauge};
use metrics_derive::Metrics;
use millrace_proto::{DaKind, WindowLeft};

use crate::batcher::CloseReason;

/// Metrics of the DA adapter.
#[derive(Clone, Metrics)]
#[metrics(scope = "millrace_da")]
pub(crate) struct DaMetrics {
    /// Number of the last closed batch
    closed_batch: Gauge,
    /// The last L2 block that a closed batch holds
    batched_block: Gauge,
    /// Transactions in closed batches
    batch_transactions_total: Counter,
    /// EIP-2718 bytes of the transactions in closed batches
    batch_raw_bytes_total: Counter,
    /// Bytes of closed batches, encoded
    batch_bytes_total: Counter,
    /// Bytes of the last closed batch divided by its transactions
    batch_bytes_per_transaction: Gauge,
    /// EIP-2718 bytes of the last closed batch's transactions divided by its encoded bytes
    batch_compression_ratio: Gauge,
    /// Bytes of the last closed batch divided by what its blobs could carry
    blob_fill_ratio: Gauge,
    /// Seconds that encoding a batch took
    batch_encode_seconds: Histogram,
    /// zstd's level of the last closed batch
    batch_compression_level: Gauge,
    /// Estimated bytes of the open batch
    open_batch_bytes: Gauge,
    /// L2 blocks in the open batch
    open_batch_blocks: Gauge,
    /// Closed batches that the contract has not recorded yet
    backlog_batches: Gauge,
    /// Bytes of closed batches that the contract has not recorded yet
    backlog_bytes: Gauge,
    /// Number of the last batch that the contract has recorded
    posted_batch: Gauge,
    /// Last L2 block of the last batch that the contract has recorded
    posted_block: Gauge,
    /// Batches seen to be recorded by the contract
    posted_batches_total: Counter,
    /// Bytes of batches seen to be recorded by the contract
    posted_bytes_total: Counter,
    /// Transactions of batches seen to be recorded by the contract
    posted_transactions_total: Counter,
    /// L1 fees paid for posting, in gwei
    posting_fees_gwei_total: Counter,
    /// L1 fees for posting on this day (UTC), in gwei
    spent_today_gwei: Gauge,
    /// Seconds from the closing of a batch to the sight of its record in the contract
    post_latency_seconds: Histogram,
    /// The last final batch up to which the archive has the blobs of all
    archived_batch: Gauge,
    /// Final batches whose blobs the beacon node does not have now, asked for again later
    archive_missing_batches: Gauge,
    /// Looks at what is to be archived that failed or left something out, repeated later
    archive_retries_total: Counter,
    /// Batches whose blobs are not in the archive and that no beacon node has to keep any more
    archive_lost_batches_total: Counter,
    /// Batches whose record an L1 reorg removed
    reorged_batches_total: Counter,
    /// Failed looks at L1 and failed posts, repeated later
    post_retries_total: Counter,
    /// Failures of the block stream, repeated later
    source_retries_total: Counter,
    /// Closed batches taken back, because the sequencer took their blocks back
    unwound_batches_total: Counter,
    /// Times that batches went on after those that L1 holds and that were not closed here
    rejoined_total: Counter,
    /// Seconds for which the contract still takes what waits to be posted, given what is in L1's queue
    window_left_seconds: Gauge,
    /// The whole of that window, seconds
    window_seconds: Gauge,
    /// 1 while batching or posting has halted and waits for an operator, 0 otherwise
    halted: Gauge,
}

/// A batch as it was closed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClosedStats {
    pub(crate) number: u64,
    pub(crate) last_block: u64,
    pub(crate) transactions: u64,
    pub(crate) raw_bytes: u64,
    pub(crate) bytes: u64,
    /// Bytes that its blobs could carry; `None` if it goes elsewhere.
    pub(crate) blob_capacity: Option<u64>,
    pub(crate) encode_time: Duration,
    /// zstd's level.
    pub(crate) level: i32,
}

const BATCHES: &str = "millrace_da_batches_total";
const BACKEND_IN_USE: &str = "millrace_da_backend_in_use";
const BACKEND_AWAY: &str = "millrace_da_backend_away";
const SWITCHES: &str = "millrace_da_backend_switches_total";

impl DaMetrics {
    /// Describes and makes all series, so that they can be queried before anything happens.
    pub(crate) fn new() -> Self {
        Self::describe();
        describe_counter!(
            BATCHES,
            "Batches closed, by reason (size, age, blocks, transactions, window)"
        );
        describe_gauge!(
            BACKEND_IN_USE,
            "1 for the backend that batches go through, 0 for the others of the list"
        );
        describe_gauge!(
            BACKEND_AWAY,
            "1 for a backend that failed and is left alone for a while, 0 for others"
        );
        describe_counter!(SWITCHES, "Switches from one backend to another");
        for reason in CloseReason::ALL {
            counter!(BATCHES, "reason" => reason.as_str()).increment(0);
        }
        let metrics = Self::default();
        for counter in [
            &metrics.batch_transactions_total,
            &metrics.batch_raw_bytes_total,
            &metrics.batch_bytes_total,
            &metrics.posted_batches_total,
            &metrics.posted_bytes_total,
            &metrics.posted_transactions_total,
            &metrics.posting_fees_gwei_total,
            &metrics.archive_retries_total,
            &metrics.archive_lost_batches_total,
            &metrics.reorged_batches_total,
            &metrics.post_retries_total,
            &metrics.source_retries_total,
            &metrics.unwound_batches_total,
            &metrics.rejoined_total,
        ] {
            counter.increment(0);
        }
        metrics.archive_missing(0);
        metrics.halted(false);
        metrics
    }

    pub(crate) fn closed(&self, reason: CloseReason, stats: ClosedStats) {
        let ratio = |part: u64, whole: u64| part as f64 / whole.max(1) as f64;
        counter!(BATCHES, "reason" => reason.as_str()).increment(1);
        self.batch_transactions_total.increment(stats.transactions);
        self.batch_raw_bytes_total.increment(stats.raw_bytes);
        self.batch_bytes_total.increment(stats.bytes);
        self.batch_encode_seconds.record(stats.encode_time.as_secs_f64());
        self.batch_compression_level.set(f64::from(stats.level));
        if stats.transactions > 0 {
            self.batch_bytes_per_transaction.set(ratio(stats.bytes, stats.transactions));
            self.batch_compression_ratio.set(ratio(stats.raw_bytes, stats.bytes));
        }
        if let Some(capacity) = stats.blob_capacity {
            self.blob_fill_ratio.set(ratio(stats.bytes, capacity));
        }
        self.batched(stats.number, stats.last_block);
    }

    pub(crate) fn batched(&self, number: u64, last_block: u64) {
        self.closed_batch.set(number as f64);
        self.batched_block.set(last_block as f64);
    }

    pub(crate) fn open(&self, bytes: usize, blocks: usize) {
        self.open_batch_bytes.set(bytes as f64);
        self.open_batch_blocks.set(blocks as f64);
    }

    pub(crate) fn backlog(&self, batches: u64, bytes: u64) {
        self.backlog_batches.set(batches as f64);
        self.backlog_bytes.set(bytes as f64);
    }

    pub(crate) fn posted_head(&self, batch: u64, block: u64) {
        self.posted_batch.set(batch as f64);
        self.posted_block.set(block as f64);
    }

    pub(crate) fn posted(&self, bytes: u64, transactions: u64, fee: U256, latency: Duration) {
        self.posted_batches_total.increment(1);
        self.posted_bytes_total.increment(bytes);
        self.posted_transactions_total.increment(transactions);
        let gwei = u64::try_from(fee / U256::from(1_000_000_000)).unwrap_or(u64::MAX);
        self.posting_fees_gwei_total.increment(gwei);
        self.post_latency_seconds.record(latency.as_secs_f64());
    }

    pub(crate) fn spent_today(&self, fees: U256) {
        let gwei = u64::try_from(fees / U256::from(1_000_000_000)).unwrap_or(u64::MAX);
        self.spent_today_gwei.set(gwei as f64);
    }

    pub(crate) fn archived(&self, batch: u64) {
        self.archived_batch.set(batch as f64);
    }

    pub(crate) fn archive_missing(&self, batches: usize) {
        self.archive_missing_batches.set(batches as f64);
    }

    pub(crate) fn archive_lost(&self, batches: u64) {
        self.archive_lost_batches_total.increment(batches);
    }

    pub(crate) fn archive_retried(&self) {
        self.archive_retries_total.increment(1);
    }

    pub(crate) fn reorged(&self, batches: u64) {
        self.reorged_batches_total.increment(batches);
    }

    pub(crate) fn post_retried(&self) {
        self.post_retries_total.increment(1);
    }

    pub(crate) fn backend(&self, kind: DaKind, in_use: bool, away: bool) {
        for (name, value) in [(BACKEND_IN_USE, in_use), (BACKEND_AWAY, away)] {
            gauge!(name, "backend" => kind.as_str()).set(f64::from(u8::from(value)));
        }
    }

    pub(crate) fn switched(&self, from: DaKind, to: DaKind) {
        counter!(SWITCHES, "from" => from.as_str(), "to" => to.as_str()).increment(1);
    }

    pub(crate) fn rejoined(&self) {
        self.rejoined_total.increment(1);
    }

    pub(crate) fn unwound(&self, batches: u64) {
        self.unwound_batches_total.increment(batches);
    }

    pub(crate) fn source_retried(&self) {
        self.source_retries_total.increment(1);
    }

    pub(crate) fn window(&self, left: WindowLeft) {
        self.window_left_seconds.set(left.seconds as f64);
        self.window_seconds.set(left.whole as f64);
    }

    pub(crate) fn halted(&self, halted: bool) {
        self.halted.set(f64::from(u8::from(halted)));
    }
}

//! Metrics of the settlement service.

use alloy::primitives::U256;
use metrics::{Counter, Gauge, Histogram};
use metrics_derive::Metrics;
use millrace_proto::{BatchPoint, SettlementStatus};

/// Metrics of the settlement service.
#[derive(Clone, Metrics)]
#[metrics(scope = "millrace_settlement", separator = "_")]
pub(crate) struct SettlementMetrics {
    /// The last batch posted on L1
    posted_batch: Gauge,
    /// Last L2 block of the last batch posted on L1
    posted_block: Gauge,
    /// The last batch derived from L1, executed again and found right
    verified_batch: Gauge,
    /// Last L2 block of the last verified batch
    verified_block: Gauge,
    /// The last batch committed on L1
    committed_batch: Gauge,
    /// Last L2 block of the last committed batch
    committed_block: Gauge,
    /// The last batch whose commitment is final
    finalized_batch: Gauge,
    /// Last L2 block of the last batch whose commitment is final
    finalized_block: Gauge,
    /// Seconds from the start of reading a batch's bytes to its verification
    pub(crate) verify_seconds: Histogram,
    /// Seconds from a batch's L1 timestamp to the confirmation of its commitment
    pub(crate) commit_latency_seconds: Histogram,
    /// Transactions executed again and found right
    pub(crate) verified_transactions_total: Counter,
    /// Posted batches that derivation skipped because they are invalid
    pub(crate) skipped_batches_total: Counter,
    /// Failed attempts to read a batch's bytes from DA
    pub(crate) da_read_failures_total: Counter,
    /// Failed attempts to follow L1, to commit, or to ask the executor, that will be repeated
    pub(crate) retries_total: Counter,
    /// L1 reorgs that took records back
    pub(crate) l1_reorgs_total: Counter,
    /// 1 if the service has halted: what it verifies differs, or something that it needs has to be mended; else 0
    pub(crate) halted: Gauge,
    /// Number of L1's latest block
    l1_head: Gauge,
    /// Seconds that the timestamp of L1's latest block lies behind the clock
    pub(crate) l1_lag_seconds: Gauge,
    /// L1 fees paid for commitments, in ether
    l1_fees_ether: Gauge,
}

impl SettlementMetrics {
    /// Shows a status.
    pub(crate) fn show(&self, status: &SettlementStatus) {
        let point = |point: Option<BatchPoint>, batch: &Gauge, block: &Gauge| {
            batch.set(point.map_or(0, |point| point.batch) as f64);
            block.set(point.map_or(0, |point| point.last_block) as f64);
        };
        point(status.posted, &self.posted_batch, &self.posted_block);
        point(status.verified, &self.verified_batch, &self.verified_block);
        point(status.committed, &self.committed_batch, &self.committed_block);
        point(status.finalized, &self.finalized_batch, &self.finalized_block);
        self.halted.set(if status.halted.is_some() { 1.0 } else { 0.0 });
        self.l1_head.set(status.l1_head.number as f64);
        self.l1_fees_ether.set(ether(status.l1_fees));
    }
}

/// Wei as ether, as near as a float comes.
fn ether(wei: U256) -> f64 {
    f64::from(wei) / 1e18
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wei_become_ether() {
        assert_eq!(ether(U256::from(1_500_000_000_000_000_000u64)), 1.5);
    }
}

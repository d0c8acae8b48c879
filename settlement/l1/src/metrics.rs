//! What the L1 side counts.

use std::{sync::Once, time::Duration};

use metrics::{
    Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};

/// Requests to L1 nodes.
#[derive(Debug, Clone)]
pub(crate) struct ClientMetrics(());

impl Default for ClientMetrics {
    fn default() -> Self {
        static DESCRIBED: Once = Once::new();
        DESCRIBED.call_once(|| {
            describe_counter!(
                "millrace_l1_requests_total",
                "Requests to L1, by method and result (ok, error)"
            );
            describe_counter!(
                "millrace_l1_request_retries_total",
                "Requests to L1 that were tried again, by method"
            );
            describe_histogram!(
                "millrace_l1_request_seconds",
                Unit::Seconds,
                "Time to the answer of an L1 request, retries included, by method"
            );
            describe_counter!(
                "millrace_l1_node_switches_total",
                "Times that another L1 node was asked from then on, as the one before failed"
            );
            describe_counter!(
                "millrace_l1_unproven_total",
                "Answers of the L1 node that do not fit the block's hash: it lies or is broken"
            );
        });
        counter!("millrace_l1_unproven_total").increment(0);
        counter!("millrace_l1_node_switches_total").increment(0);
        Self(())
    }
}

impl ClientMetrics {
    pub(crate) fn answered(&self, method: &'static str, took: Duration, ok: bool) {
        // Every series exists from a method's first use on, so that a rate sees its first failure.
        for (result, count) in [("ok", u64::from(ok)), ("error", u64::from(!ok))] {
            counter!("millrace_l1_requests_total", "method" => method, "result" => result)
                .increment(count);
        }
        counter!("millrace_l1_request_retries_total", "method" => method).increment(0);
        histogram!("millrace_l1_request_seconds", "method" => method).record(took.as_secs_f64());
    }

    pub(crate) fn unproven(&self) {
        counter!("millrace_l1_unproven_total").increment(1);
    }

    pub(crate) fn switched(&self) {
        counter!("millrace_l1_node_switches_total").increment(1);
    }

    pub(crate) fn retried(&self, method: &'static str) {
        counter!("millrace_l1_request_retries_total", "method" => method).increment(1);
    }
}

/// Following L1's head; every series has the label `follower`: `events` or `deposits`.
#[derive(Debug, Clone)]
pub(crate) struct FollowerMetrics {
    follower: &'static str,
}

impl FollowerMetrics {
    pub(crate) fn new(follower: &'static str) -> Self {
        static DESCRIBED: Once = Once::new();
        DESCRIBED.call_once(|| {
            describe_gauge!("millrace_l1_head", "Number of L1's latest block, as last seen");
            describe_gauge!(
                "millrace_l1_followed",
                "Number of the last L1 block whose events were delivered"
            );
            describe_counter!(
                "millrace_l1_reorgs_total",
                "L1 reorgs that reverted blocks already delivered"
            );
            describe_gauge!(
                "millrace_l1_reorg_depth_blocks",
                "Depth of the last L1 reorg, in blocks"
            );
            describe_counter!(
                "millrace_l1_stale_heads_total",
                "Times that the node's head lay behind one it had shown before"
            );
            describe_counter!(
                "millrace_l1_follow_errors_total",
                "Failed looks at L1, repeated later"
            );
        });
        // From the start, so that a panel shows 0 and not "no data".
        counter!("millrace_l1_reorgs_total", "follower" => follower).increment(0);
        counter!("millrace_l1_stale_heads_total", "follower" => follower).increment(0);
        counter!("millrace_l1_follow_errors_total", "follower" => follower).increment(0);
        gauge!("millrace_l1_reorg_depth_blocks", "follower" => follower).increment(0.0);
        Self { follower }
    }

    pub(crate) fn head(&self, number: u64) {
        gauge!("millrace_l1_head", "follower" => self.follower).set(number as f64);
    }

    pub(crate) fn followed(&self, number: u64) {
        gauge!("millrace_l1_followed", "follower" => self.follower).set(number as f64);
    }

    pub(crate) fn reorg(&self, depth: u64) {
        counter!("millrace_l1_reorgs_total", "follower" => self.follower).increment(1);
        gauge!("millrace_l1_reorg_depth_blocks", "follower" => self.follower).set(depth as f64);
    }

    pub(crate) fn stale_head(&self) {
        counter!("millrace_l1_stale_heads_total", "follower" => self.follower).increment(1);
    }

    pub(crate) fn failed(&self) {
        counter!("millrace_l1_follow_errors_total", "follower" => self.follower).increment(1);
    }
}

/// A transaction manager; every series has the label `service`.
#[derive(Debug, Clone)]
pub(crate) struct TxMetrics {
    service: &'static str,
}

impl TxMetrics {
    pub(crate) fn new(service: &'static str) -> Self {
        describe_counter!(
            "millrace_l1_tx_confirmed_total",
            "Transactions that L1 has confirmed, by service and result (ok, reverted)"
        );
        describe_counter!(
            "millrace_l1_tx_resubmissions_total",
            "Replacements sent with higher fees, by service"
        );
        describe_counter!(
            "millrace_l1_tx_rebroadcasts_total",
            "Transactions sent again as they were, by service"
        );
        describe_counter!(
            "millrace_l1_tx_reorged_total",
            "Transactions that an L1 reorg took out of a block, by service"
        );
        describe_counter!(
            "millrace_l1_tx_fee_capped_total",
            "Replacements held back by a fee cap or the balance, by service"
        );
        describe_counter!(
            "millrace_l1_fees_paid_gwei_total",
            "L1 fees paid in gwei, blobs included, by service"
        );
        describe_gauge!(
            "millrace_l1_balance_ether",
            "Balance of the sending account in ether, by service"
        );
        describe_gauge!(
            "millrace_l1_days_of_fees_left",
            "Days for which the sending account's balance lasts at the fees of the last days, by service"
        );
        describe_counter!(
            "millrace_l1_tx_cancellations_total",
            "Nonces used up by transactions that do nothing, by service"
        );
        describe_gauge!("millrace_l1_tx_pending", "Transactions in flight, by service");
        describe_histogram!(
            "millrace_l1_tx_confirm_seconds",
            Unit::Seconds,
            "From the first broadcast to confirmation, by service"
        );
        // From the start, so that a panel shows 0 and not "no data".
        for name in [
            "millrace_l1_tx_resubmissions_total",
            "millrace_l1_tx_rebroadcasts_total",
            "millrace_l1_tx_reorged_total",
            "millrace_l1_tx_fee_capped_total",
            "millrace_l1_tx_cancellations_total",
            "millrace_l1_fees_paid_gwei_total",
        ] {
            counter!(name, "service" => service).increment(0);
        }
        for result in ["ok", "reverted"] {
            counter!("millrace_l1_tx_confirmed_total", "service" => service, "result" => result)
                .increment(0);
        }
        Self { service }
    }

    pub(crate) fn confirmed(&self, ok: bool, took: Duration, fee_gwei: u64) {
        let result = if ok { "ok" } else { "reverted" };
        counter!("millrace_l1_tx_confirmed_total", "service" => self.service, "result" => result)
            .increment(1);
        counter!("millrace_l1_fees_paid_gwei_total", "service" => self.service).increment(fee_gwei);
        histogram!("millrace_l1_tx_confirm_seconds", "service" => self.service)
            .record(took.as_secs_f64());
    }

    pub(crate) fn resubmitted(&self) {
        counter!("millrace_l1_tx_resubmissions_total", "service" => self.service).increment(1);
    }

    pub(crate) fn rebroadcast(&self) {
        counter!("millrace_l1_tx_rebroadcasts_total", "service" => self.service).increment(1);
    }

    pub(crate) fn reorged(&self) {
        counter!("millrace_l1_tx_reorged_total", "service" => self.service).increment(1);
    }

    pub(crate) fn capped(&self) {
        counter!("millrace_l1_tx_fee_capped_total", "service" => self.service).increment(1);
    }

    pub(crate) fn cancelled(&self) {
        counter!("millrace_l1_tx_cancellations_total", "service" => self.service).increment(1);
    }

    pub(crate) fn days_left(&self, days: f64) {
        gauge!("millrace_l1_days_of_fees_left", "service" => self.service).set(days);
    }

    pub(crate) fn balance(&self, ether: f64) {
        gauge!("millrace_l1_balance_ether", "service" => self.service).set(ether);
    }

    pub(crate) fn pending(&self, count: usize) {
        gauge!("millrace_l1_tx_pending", "service" => self.service).set(count as f64);
    }
}

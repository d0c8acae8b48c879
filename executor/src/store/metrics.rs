//! What the store measures. Times of roots and commits are the service's.

use std::fmt;

use metrics::{Counter, Gauge, Unit, counter, describe_counter, describe_gauge, gauge};

use crate::state::RootUpdate;

/// What the store measures.
pub(super) struct StoreMetrics {
    commit_bytes: Counter,
    nodes: Counter,
    oldest_state: Gauge,
}

impl fmt::Debug for StoreMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreMetrics").finish_non_exhaustive()
    }
}

impl StoreMetrics {
    pub(super) fn new(chain: &'static str) -> Self {
        const BYTES: &str = "millrace_executor_commit_bytes_total";
        const NODES: &str = "millrace_executor_trie_nodes_changed_total";
        const OLDEST: &str = "millrace_executor_oldest_state_number";
        describe_counter!(BYTES, Unit::Bytes, "Bytes that blocks wrote to the write-ahead log");
        describe_counter!(NODES, "Trie nodes written or removed");
        describe_gauge!(OLDEST, "Number of the oldest block whose state can be read");
        Self {
            commit_bytes: counter!(BYTES, "chain" => chain),
            nodes: counter!(NODES, "chain" => chain),
            oldest_state: gauge!(OLDEST, "chain" => chain),
        }
    }

    pub(super) fn committed(&self, bytes: usize, update: &RootUpdate) {
        self.commit_bytes.increment(bytes as u64);
        let storage: usize = update.storage_nodes.iter().map(|(_, nodes)| nodes.len()).sum();
        self.nodes.increment((update.account_nodes.len() + storage) as u64);
    }

    pub(super) fn oldest(&self, number: u64) {
        self.oldest_state.set(number as f64);
    }
}

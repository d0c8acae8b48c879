//! What the store measures. Times of roots and commits are the service's.

use std::{
    fmt,
    time::{Duration, Instant},
};

use metrics::{Counter, Gauge, Unit, counter, describe_counter, describe_gauge, gauge};
use parking_lot::Mutex;

use super::db::Memory;
use crate::state::RootUpdate;

/// How often memory is looked at, which takes locks of RocksDB's.
const LOOK: Duration = Duration::from_secs(1);

/// What the store measures.
pub(super) struct StoreMetrics {
    commit_bytes: Counter,
    nodes: Counter,
    oldest_state: Gauge,
    cache: Gauge,
    writes: Gauge,
    files: Gauge,
    looked: Mutex<Option<Instant>>,
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
        const MEMORY: &str = "millrace_executor_store_memory_bytes";
        describe_counter!(BYTES, Unit::Bytes, "Bytes that blocks wrote to the write-ahead log");
        describe_counter!(NODES, "Trie nodes written or removed");
        describe_gauge!(OLDEST, "Number of the oldest block whose state can be read");
        describe_gauge!(
            MEMORY,
            Unit::Bytes,
            "Memory that RocksDB uses: the block cache, writes that are not in files yet, what open files need"
        );
        let memory = |part| gauge!(MEMORY, "chain" => chain, "part" => part);
        Self {
            commit_bytes: counter!(BYTES, "chain" => chain),
            nodes: counter!(NODES, "chain" => chain),
            oldest_state: gauge!(OLDEST, "chain" => chain),
            cache: memory("cache"),
            writes: memory("writes"),
            files: memory("files"),
            looked: Mutex::new(None),
        }
    }

    /// Notes the memory that is used, which `look` tells, once in a while.
    pub(super) fn memory<E>(&self, look: impl FnOnce() -> Result<Memory, E>) {
        let now = Instant::now();
        let mut looked = self.looked.lock();
        if looked.is_some_and(|looked| now - looked < LOOK) {
            return;
        }
        *looked = Some(now);
        let Ok(memory) = look() else { return };
        self.cache.set(memory.cache as f64);
        self.writes.set(memory.writes as f64);
        self.files.set(memory.files as f64);
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

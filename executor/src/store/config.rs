//! The store's settings.

use serde::{Deserialize, Serialize};

/// The store's settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoreConfig {
    /// Bytes for the block cache that all tables share, their indexes and filters included.
    pub cache_bytes: usize,
    /// Bytes that writes of all tables may take up in memory before they are flushed to files.
    pub write_buffer_bytes: usize,
    /// How many blocks back from the head state, proofs and diffs can be read; `None` keeps everything.
    pub history_blocks: Option<u64>,
    /// Whether transactions are found by their hashes, which nobody asks where a chain is only verified.
    #[serde(skip)]
    pub transaction_index: bool,
    /// Whether the chain's threads give way to others of the machine, as of a chain that is only verified.
    #[serde(skip)]
    pub gives_way: bool,
    /// The `chain` label of this chain's metrics: a process may hold several chains.
    #[serde(skip)]
    pub name: &'static str,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            cache_bytes: 512 << 20,
            write_buffer_bytes: 128 << 20,
            history_blocks: Some(10_000),
            transaction_index: true,
            gives_way: false,
            name: "rollup",
        }
    }
}

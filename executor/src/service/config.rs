//! The executor's settings.

use std::{num::NonZeroUsize, path::PathBuf, thread};

use serde::{Deserialize, Serialize};

use crate::store::StoreConfig;

/// The executor's settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ExecutorConfig {
    /// Folder of the store; made if it is not there.
    pub data_dir: PathBuf,
    /// The store.
    pub store: StoreConfig,
    /// How blocks are executed.
    pub execution: ExecutionConfig,
    /// Most gas that a call, or one try of an estimate, may use.
    pub max_call_gas: u64,
    /// How many calls run at the same time; more wait.
    pub max_concurrent_calls: usize,
    /// How many blocks one search for logs may walk.
    pub max_log_blocks: u64,
}

/// How blocks are executed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ExecutionConfig {
    /// Threads that execute blocks, the one that builds them included; 0 takes one a core. With 1, blocks are executed in order.
    pub threads: usize,
}

impl ExecutionConfig {
    pub(crate) fn count(&self) -> NonZeroUsize {
        let cores = || thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        NonZeroUsize::new(self.threads).unwrap_or_else(cores)
    }
}

impl Default for ExecutorConfig {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("data/executor"),
            store: StoreConfig::default(),
            execution: ExecutionConfig::default(),
            max_call_gas: 100_000_000,
            max_concurrent_calls: thread::available_parallelism().map_or(1, Into::into),
            max_log_blocks: 100_000,
        }
    }
}

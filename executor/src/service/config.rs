//! The executor's settings.

use std::{num::NonZeroUsize, path::PathBuf, thread, time::Duration};

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
    /// Calls and traces.
    pub calls: CallConfig,
    /// How many blocks one search for logs may walk.
    pub max_log_blocks: u64,
}

/// What calls and traces may take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CallConfig {
    /// Most gas that a call, one try of an estimate, a traced call, or all calls of a simulation may use.
    pub max_gas: u64,
    /// How many calls and simulations run at the same time, each on a thread of its own; more wait. 0 takes one a core.
    pub max_concurrent: usize,
    /// How many traces run at the same time, beside the calls; more wait.
    pub max_concurrent_traces: usize,
    /// Most gas of sealed transactions that one trace may execute again.
    pub max_trace_gas: u64,
    /// Most bytes that a simulation may return, and that one trace may record: of its result as JSON, or of what is kept in memory to make it, whichever is more. While
    /// the result is put together, a few times as much memory is used.
    pub max_trace_bytes: u64,
    /// How long a simulation may take, and a trace that does not say.
    #[serde(with = "humantime_serde")]
    pub trace_timeout: Duration,
    /// The longest that one may ask for. Less than the services wait for each other, which is 30 seconds.
    #[serde(with = "humantime_serde")]
    pub max_trace_timeout: Duration,
}

impl CallConfig {
    pub(crate) fn concurrent(&self) -> usize {
        match self.max_concurrent {
            0 => thread::available_parallelism().map_or(1, Into::into),
            calls => calls,
        }
    }
}

impl Default for CallConfig {
    fn default() -> Self {
        Self {
            max_gas: 100_000_000,
            max_concurrent: 0,
            max_concurrent_traces: 2,
            max_trace_gas: 1_000_000_000,
            max_trace_bytes: 64 << 20,
            trace_timeout: Duration::from_secs(5),
            max_trace_timeout: Duration::from_secs(20),
        }
    }
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
            calls: CallConfig::default(),
            max_log_blocks: 100_000,
        }
    }
}

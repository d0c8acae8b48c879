//! Settings of the settlement service.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Settings of the settlement service. What it works on (contract, wallet, DA readers, executors) comes as
/// [`SettlementDeps`](crate::SettlementDeps).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SettlementConfig {
    /// Whether verified batches are committed. Without, the service only derives, verifies and raises alarms.
    pub commit: bool,
    /// The verifiers that sign commitments, where the contract asks for that: the gRPC URLs of `millrace verifier`.
    pub verifiers: Vec<String>,
    /// First pause before something that failed (L1, DA, executor) is tried again; it doubles up to `retry_max`.
    #[serde(with = "humantime_serde")]
    pub retry_min: Duration,
    /// Longest pause before something that failed is tried again; and how long the sequencer may have other blocks than L1 holds before an operator
    /// is told.
    #[serde(with = "humantime_serde")]
    pub retry_max: Duration,
    /// How often the executor is asked for a block that L1 already shows and the executor does not have yet.
    #[serde(with = "humantime_serde")]
    pub executor_poll: Duration,
}

impl Default for SettlementConfig {
    fn default() -> Self {
        Self {
            commit: true,
            verifiers: Vec::new(),
            retry_min: Duration::from_millis(250),
            retry_max: Duration::from_secs(30),
            executor_poll: Duration::from_millis(100),
        }
    }
}

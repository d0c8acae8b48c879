//! What the manager may bid and how patient it is.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::TxManagerError;

/// Which proofs blobs are sent with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BlobProofs {
    /// What today's L1 wants: cell proofs.
    #[default]
    Auto,
    /// Cell proofs (EIP-7594), from the Osaka fork on.
    Cells,
    /// One proof a blob (EIP-4844), before the Osaka fork.
    Blob,
}

/// Limits and patience of a [`super::TxManager`]. Fees are in wei a unit of gas.
///
/// An offer that a cap leaves no room to replace is made at the caps at once, as far as the balance allows: these are ceilings, of
/// which L1 takes what it asks. Only the tip is paid as it is offered; it goes up by one step then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TxManagerConfig {
    /// The least priority fee to offer.
    pub min_tip: u64,
    /// The highest priority fee to offer.
    pub max_tip: u64,
    /// The highest fee, base fee and tip together, to offer. While L1 is dearer, transactions wait.
    pub max_fee: u64,
    /// The least blob fee to offer. It is a ceiling: what is paid is L1's blob base fee.
    pub min_blob_fee: u64,
    /// The highest blob fee to offer. While L1 is dearer, transactions wait.
    pub max_blob_fee: u64,
    /// While an offer covers what L1 asks at the time, no replacement offers more than so many times that, unless it is below `fee_limit_threshold`. The last offer that the caps leave room for is made at the caps
    /// all the same.
    pub fee_limit_multiplier: u64,
    /// Up to this offer, `fee_limit_multiplier` limits nothing.
    pub fee_limit_threshold: u64,
    /// The first offer covers this percentage of the current base fee, and of the blob base fee. At least 100.
    pub fee_percent: u64,
    /// Percent by which a replacement raises every fee. At least 10, or L1 nodes refuse it.
    pub bump_percent: u64,
    /// The same for transactions with blobs. At least 100, or L1 nodes refuse it.
    pub blob_bump_percent: u64,
    /// How long a transaction may wait for its inclusion before it is replaced by one with higher fees.
    #[serde(with = "humantime_serde")]
    pub resubmit_after: Duration,
    /// L1 blocks, its own included, that confirm a transaction. At least 1.
    pub confirmations: u64,
    /// Percentage of the estimated gas that becomes the gas limit. At least 100.
    pub gas_percent: u64,
    /// Proofs that blobs are sent with.
    pub blob_proofs: BlobProofs,
    /// Time between two looks at a transaction in flight.
    #[serde(with = "humantime_serde")]
    pub poll_interval: Duration,
}

const GWEI: u64 = 1_000_000_000;

impl Default for TxManagerConfig {
    fn default() -> Self {
        Self {
            min_tip: GWEI / 100,
            max_tip: 20 * GWEI,
            max_fee: 500 * GWEI,
            min_blob_fee: GWEI,
            max_blob_fee: 1_000 * GWEI,
            fee_limit_multiplier: 5,
            fee_limit_threshold: 100 * GWEI,
            fee_percent: 200,
            bump_percent: 10,
            blob_bump_percent: 100,
            resubmit_after: Duration::from_secs(48),
            confirmations: 1,
            gas_percent: 120,
            blob_proofs: BlobProofs::Auto,
            poll_interval: Duration::from_secs(1),
        }
    }
}

impl TxManagerConfig {
    /// Refuses what cannot work.
    pub(super) fn validate(&self) -> Result<(), TxManagerError> {
        let problem = if self.bump_percent < 10 {
            "bump_percent is below 10: L1 nodes refuse such replacements"
        } else if self.blob_bump_percent < 100 {
            "blob_bump_percent is below 100: L1 nodes refuse such replacements"
        } else if self.fee_percent < 100 {
            "fee_percent is below 100: such offers do not pay the current base fee"
        } else if self.fee_limit_multiplier.saturating_mul(100) < self.fee_percent {
            "fee_limit_multiplier is below what fee_percent offers at first"
        } else if self.gas_percent < 100 {
            "gas_percent is below 100: such transactions run out of gas"
        } else if self.confirmations == 0 {
            "confirmations is 0; 1 is the inclusion itself"
        } else if self.min_tip > self.max_tip || self.max_tip > self.max_fee {
            "min_tip <= max_tip <= max_fee does not hold"
        } else if self.min_blob_fee > self.max_blob_fee || self.min_blob_fee == 0 {
            "1 <= min_blob_fee <= max_blob_fee does not hold"
        } else if self.poll_interval.is_zero() {
            "poll_interval is 0"
        } else {
            return Ok(());
        };
        Err(TxManagerError::Config(problem))
    }
}

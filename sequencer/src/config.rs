//! Settings of the sequencer.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    num::NonZeroUsize,
    thread,
    time::Duration,
};

use ipnet::{IpNet, Ipv4Net};
use millrace_proto::{BatchLimits, MAX_BLOCK_TX_BYTES};
use serde::{Deserialize, Serialize};

use crate::{data_fee::DataFeeConfig, throttle::ThrottleConfig};

/// Settings of the sequencer. Everything has a default; unknown keys are errors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SequencerConfig {
    /// Time between blocks that hold transactions, 10 ms to 12 s.
    #[serde(with = "humantime_serde")]
    pub block_time: Duration,
    /// A block that is full is sealed before the block time is over, so long after the last block was due at the soonest; at the block time or above: never sooner.
    #[serde(with = "humantime_serde")]
    pub min_block_time: Duration,
    /// Most transactions in a block, without deposits and forced ones.
    pub max_block_transactions: usize,
    /// An empty block is made when none was for this long; at least the block time.
    #[serde(with = "humantime_serde")]
    pub heartbeat: Duration,
    /// Least time between two frames of a block; at most the block time.
    #[serde(with = "humantime_serde")]
    pub frame_interval: Duration,
    /// Most transactions in a frame.
    pub max_frame_transactions: usize,
    /// Most bytes of a transaction's EIP-2718 form.
    pub max_transaction_bytes: usize,
    /// Transactions that offer less are refused, wei per gas. The next block's base fee is a floor as well.
    pub min_fee_per_gas: u64,
    /// Most deposits in a block.
    pub max_deposits_per_block: usize,
    /// How often L1's deposit queue is read.
    #[serde(with = "humantime_serde")]
    pub deposit_poll_interval: Duration,
    /// For how long L1 may lack deposits that blocks hold, and have nothing in their place, before these blocks are taken back: a reorg may bring
    /// them again, in later blocks.
    #[serde(with = "humantime_serde")]
    pub deposit_patience: Duration,
    /// Threads that decode transactions and recover their senders; 0: one a core. Clients take turns there.
    pub recovery_threads: usize,
    /// In which order transactions are taken into blocks.
    pub order: OrderBy,
    /// What the fee floor asks for data.
    pub data_fee: DataFeeConfig,
    /// Limits of the pool.
    pub pool: PoolConfig,
    /// When sequencing slows down.
    pub throttle: ThrottleConfig,
}

/// In which order transactions are taken into frames, and so into blocks. A sender's follow each other by nonce in any case, and what comes from L1 is
/// first in its block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderBy {
    /// As they became executable: first come, first served.
    #[default]
    Arrival,
    /// By what they pay above the base fee, a gas; as they became executable where that is the same.
    PriorityFee,
}

impl OrderBy {
    /// Its name in the settings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Arrival => "arrival",
            Self::PriorityFee => "priority_fee",
        }
    }
}

/// Limits of the pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PoolConfig {
    /// Most transactions in total.
    pub max_transactions: usize,
    /// Most bytes of transactions in total.
    pub max_bytes: usize,
    /// Most transactions of one sender.
    pub max_per_sender: usize,
    /// Most transactions of one client: an IPv4 address, or the network (/64) of an IPv6 address.
    pub max_per_source: usize,
    /// Most bytes of transactions of one client.
    pub max_bytes_per_source: usize,
    /// Networks whose machines no such limit counts for: this machine, proxies, full nodes that pass on what others send.
    pub trusted_sources: Vec<IpNet>,
    /// How far a nonce may lie above the sender's next one.
    pub max_nonce_gap: u64,
    /// How long a transaction that cannot be executed yet is kept.
    #[serde(with = "humantime_serde")]
    pub queued_lifetime: Duration,
    /// What a replacement must offer more than what it replaces, percent.
    pub replacement_bump_percent: u32,
    /// Senders without pooled transactions whose account is kept in memory.
    pub cached_senders: usize,
}

impl Default for SequencerConfig {
    fn default() -> Self {
        Self {
            block_time: Duration::from_millis(250),
            min_block_time: Duration::from_millis(100),
            max_block_transactions: 20_000,
            heartbeat: Duration::from_secs(10),
            frame_interval: Duration::from_millis(5),
            max_frame_transactions: 4096,
            max_transaction_bytes: 128 * 1024,
            min_fee_per_gas: 0,
            max_deposits_per_block: 64,
            deposit_poll_interval: Duration::from_secs(1),
            deposit_patience: Duration::from_secs(60),
            recovery_threads: 0,
            order: OrderBy::default(),
            data_fee: DataFeeConfig::default(),
            pool: PoolConfig::default(),
            throttle: ThrottleConfig::default(),
        }
    }
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self {
            max_transactions: 100_000,
            max_bytes: 256 * 1024 * 1024,
            max_per_sender: 4096,
            max_per_source: 25_000,
            max_bytes_per_source: 64 * 1024 * 1024,
            trusted_sources: loopback(),
            max_nonce_gap: 64,
            queued_lifetime: Duration::from_secs(600),
            replacement_bump_percent: 10,
            cached_senders: 100_000,
        }
    }
}

/// This machine.
fn loopback() -> Vec<IpNet> {
    let v4 = Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8);
    vec![v4.into(), IpNet::from(IpAddr::from(Ipv6Addr::LOCALHOST))]
}

impl SequencerConfig {
    /// The shortest block time.
    pub const MIN_BLOCK_TIME: Duration = Duration::from_millis(10);
    /// The longest block time.
    pub const MAX_BLOCK_TIME: Duration = Duration::from_secs(12);

    /// Checks what the types cannot say.
    ///
    /// # Errors
    /// Names the first setting that makes no sense.
    pub fn validate(&self) -> Result<(), SequencerConfigError> {
        let check = |ok: bool, setting, must| {
            if ok { Ok(()) } else { Err(SequencerConfigError { setting, must }) }
        };
        check(
            (Self::MIN_BLOCK_TIME..=Self::MAX_BLOCK_TIME).contains(&self.block_time),
            "block_time",
            "be between 10ms and 12s",
        )?;
        check(self.min_block_time >= Self::MIN_BLOCK_TIME, "min_block_time", "be at least 10ms")?;
        check(
            (1..=BatchLimits::default().max_transactions).contains(&self.max_block_transactions),
            "max_block_transactions",
            "be between 1 and 262144, which is what a batch may hold",
        )?;
        check(self.heartbeat >= self.block_time, "heartbeat", "be at least block_time")?;
        check(
            !self.frame_interval.is_zero() && self.frame_interval <= self.block_time,
            "frame_interval",
            "be above zero and at most block_time",
        )?;
        check(self.max_frame_transactions > 0, "max_frame_transactions", "be above zero")?;
        check(
            (1..=MAX_BLOCK_TX_BYTES - 64).contains(&self.max_transaction_bytes),
            "max_transaction_bytes",
            "be between 1 and 699936, which is what one block may bring into a batch less a signature",
        )?;
        check(self.max_deposits_per_block > 0, "max_deposits_per_block", "be above zero")?;
        check(!self.deposit_poll_interval.is_zero(), "deposit_poll_interval", "be above zero")?;
        check(self.recovery_threads <= 1024, "recovery_threads", "be at most 1024")?;
        check(
            self.data_fee.scalar_percent <= 10_000,
            "data_fee.scalar_percent",
            "be at most 10000",
        )?;
        let throttle = &self.throttle;
        check(
            throttle.lower_bytes < throttle.upper_bytes,
            "throttle.lower_bytes",
            "be below throttle.upper_bytes",
        )?;
        check(
            throttle.min_bytes_per_second > 0,
            "throttle.min_bytes_per_second",
            "be above zero, as transactions would never be taken",
        )?;
        check(!throttle.poll_interval.is_zero(), "throttle.poll_interval", "be above zero")?;
        check(self.pool.max_transactions > 0, "pool.max_transactions", "be above zero")?;
        check(
            self.pool.max_bytes >= self.max_transaction_bytes,
            "pool.max_bytes",
            "be at least max_transaction_bytes",
        )?;
        check(self.pool.max_per_sender > 0, "pool.max_per_sender", "be above zero")?;
        check(self.pool.max_per_source > 0, "pool.max_per_source", "be above zero")?;
        check(
            self.pool.max_bytes_per_source >= self.max_transaction_bytes,
            "pool.max_bytes_per_source",
            "be at least max_transaction_bytes",
        )?;
        check(
            self.pool.replacement_bump_percent > 0,
            "pool.replacement_bump_percent",
            "be above zero",
        )
    }

    /// How many recovery threads to start.
    pub(crate) fn recovery_thread_count(&self) -> usize {
        match self.recovery_threads {
            0 => thread::available_parallelism().map_or(1, NonZeroUsize::get),
            count => count,
        }
    }
}

/// A setting that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("sequencer setting {setting} must {must}")]
pub struct SequencerConfigError {
    /// Its name.
    pub setting: &'static str,
    /// What it has to do.
    pub must: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid() {
        assert_eq!(SequencerConfig::default().validate(), Ok(()));
    }

    #[test]
    fn block_time_has_bounds() {
        for (millis, ok) in [(9, false), (10, true), (10_000, true), (12_001, false)] {
            let config = SequencerConfig {
                block_time: Duration::from_millis(millis),
                frame_interval: Duration::from_millis(1),
                heartbeat: Duration::from_secs(20),
                ..SequencerConfig::default()
            };
            assert_eq!(config.validate().is_ok(), ok, "{millis} ms");
        }
    }

    #[test]
    fn unknown_keys_are_errors() {
        let unknown = serde_json::from_str::<SequencerConfig>(r#"{"blocktime": "1s"}"#);
        assert!(unknown.is_err());
        let known: SequencerConfig =
            serde_json::from_str(r#"{"block_time": "1s", "pool": {"max_nonce_gap": 7}}"#)
                .expect("both keys exist");
        assert_eq!(known.block_time, Duration::from_secs(1));
        assert_eq!(known.pool.max_nonce_gap, 7);
    }
}

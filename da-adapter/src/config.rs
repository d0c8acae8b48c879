//! Settings.

use std::{path::PathBuf, sync::Arc, time::Duration};

use alloy::primitives::{FixedBytes, U256};
use millrace_proto::{BatchLimits, DaKind};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::{
    archive::BlobArchive,
    backend::{AltDaBackend, DaBackend, ObjectStoreBackend},
    blob::{MAX_BLOBS, capacity},
    error::DaAdapterOpenError,
    reader::DaSources,
    switch::{Switch, SwitchRules},
};

/// Settings of the DA adapter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DaAdapterConfig {
    /// Where batches go: through the first that takes them.
    pub backends: Vec<BackendKind>,
    /// When another one is used.
    pub switching: SwitchingConfig,
    /// The object store; needed for the backend of that name, and to read batches that are on one.
    pub object_store: Option<ObjectStoreConfig>,
    /// The alt-DA server; needed for the backend `alt_da`, and to read batches that are on one.
    pub alt_da: Option<AltDaConfig>,
    /// The Celestia node; needed for the backend `celestia`, and to read batches that are there.
    pub celestia: Option<CelestiaConfig>,
    /// Ether that posting may cost in a day (UTC), L1's fees together, for example `"0.5"`. What is over it waits for the next day. Without it,
    /// there is no limit.
    #[serde(with = "ether")]
    pub max_ether_per_day: Option<U256>,
    /// Where the blobs of all batches are kept, each under its versioned hash, for when beacon nodes have dropped them.
    pub archive: Option<ObjectStoreConfig>,
    /// For how long batches on the object store are promised to be kept, in the attestation that is signed of each. The store has to keep to it:
    /// nothing is deleted from here.
    #[serde(with = "humantime_serde")]
    pub kept_for: Duration,
    /// A batch is closed when its first block with a transaction has waited this long.
    #[serde(with = "humantime_serde")]
    pub max_batch_age: Duration,
    /// The same for a batch of empty blocks alone: an idle chain posts no more often than this.
    #[serde(with = "humantime_serde")]
    pub max_empty_batch_age: Duration,
    /// A batch that consumes an entry of L1's queue is closed this long before the contract takes no batch without that entry any more.
    #[serde(with = "humantime_serde")]
    pub window_margin: Duration,
    /// A batch is closed when it is filled to this many encoded bytes, or to 99 hundredths of them if no further block fits. One blob takes
    /// 130,044, six take 780,284. A block that is larger has a batch of its own. Where it is not given: as many as the
    /// backend takes, but six blobs' at most.
    pub target_size: Option<usize>,
    /// A batch is closed when it holds this many blocks.
    pub max_blocks: usize,
    /// While this many closed batches wait to be posted (L1 is down or slow), batches are not
    /// closed for their age: they grow to the target size instead, which drains faster.
    pub max_backlog_batches: usize,
    /// Batches that may be on their way to the contract at a time, 1 to 16.
    pub max_in_flight: usize,
    /// zstd's level, 1 to 22. Lower ones are taken while batches cannot be encoded as fast as their blocks come.
    pub zstd_level: i32,
    /// Time between two looks at what L1 asks, which the sequencer's fee floor may follow.
    #[serde(with = "humantime_serde")]
    pub price_interval: Duration,
    /// Time between two looks at the contract.
    #[serde(with = "humantime_serde")]
    pub poll_interval: Duration,
    /// The longest pause between two tries while L1, the DA layer or the executor does not answer, and between two looks for what is to be archived.
    #[serde(with = "humantime_serde")]
    pub max_retry_interval: Duration,
}

impl Default for DaAdapterConfig {
    fn default() -> Self {
        Self {
            backends: vec![BackendKind::L1Blob],
            switching: SwitchingConfig::default(),
            object_store: None,
            alt_da: None,
            celestia: None,
            archive: None,
            max_ether_per_day: None,
            // More than any challenge window, and than beacon nodes keep blobs for.
            kept_for: Duration::from_secs(90 * 86_400),
            max_batch_age: Duration::from_secs(10),
            max_empty_batch_age: Duration::from_secs(300),
            window_margin: Duration::from_secs(3_600),
            target_size: None,
            max_blocks: 4_096,
            max_backlog_batches: 4,
            max_in_flight: 1,
            zstd_level: 15,
            price_interval: Duration::from_secs(12),
            poll_interval: Duration::from_secs(1),
            max_retry_interval: Duration::from_secs(15),
        }
    }
}

/// Ether as decimal text, in wei here.
mod ether {
    use alloy::primitives::{
        U256,
        utils::{format_ether, parse_ether},
    };
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(
        wei: &Option<U256>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        wei.map(format_ether).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<U256>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        let wei = |text: String| {
            parse_ether(&text).map_err(|_| {
                D::Error::custom(format!("{text:?} is no number of ether, such as \"0.5\""))
            })
        };
        text.map(wei).transpose()
    }
}

/// When another backend of the list is used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SwitchingConfig {
    /// Batches that go through a backend at least, as long as it takes them: what comes and goes does not take the batches with it.
    pub sticky_batches: u64,
    /// Failures in a row after which a backend is away.
    pub failures: u32,
    /// How long it is left alone then, the first time. Doubles each time it is still away.
    #[serde(with = "humantime_serde")]
    pub pause: Duration,
    /// The longest such pause.
    #[serde(with = "humantime_serde")]
    pub max_pause: Duration,
    /// Hundredths by which another backend has to be cheaper than the one in use to be switched to. Without it, prices do not count.
    pub cheaper_percent: Option<u8>,
}

impl SwitchingConfig {
    pub(crate) fn switch(&self, backends: &[Arc<dyn DaBackend>]) -> Switch {
        let rules = SwitchRules {
            sticky_batches: self.sticky_batches,
            failures: self.failures,
            pause: self.pause,
            max_pause: self.max_pause,
            cheaper_percent: self.cheaper_percent,
        };
        Switch::new(rules, backends.iter().map(|backend| (backend.kind(), backend.max_size())))
    }
}

impl Default for SwitchingConfig {
    fn default() -> Self {
        Self {
            sticky_batches: 20,
            failures: 3,
            pause: Duration::from_secs(60),
            max_pause: Duration::from_secs(1_800),
            cheaper_percent: None,
        }
    }
}

/// A backend that batches can be posted through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackendKind {
    /// EIP-4844 blobs of the posting transaction.
    L1Blob,
    /// Calldata of the posting transaction.
    L1Calldata,
    /// A server of the OP Stack's alt-DA interface, with the commitment on L1.
    AltDa,
    /// Celestia, with height, commitment and namespace on L1; where built with the feature `celestia`.
    Celestia,
    /// An object store, with the object's key on L1.
    ObjectStore,
}

impl From<BackendKind> for DaKind {
    fn from(kind: BackendKind) -> Self {
        match kind {
            BackendKind::L1Blob => Self::L1Blob,
            BackendKind::L1Calldata => Self::L1Calldata,
            BackendKind::AltDa => Self::AltDa,
            BackendKind::Celestia => Self::Celestia,
            BackendKind::ObjectStore => Self::ObjectStore,
        }
    }
}

/// An object store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObjectStoreConfig {
    /// `file:///folder`, or `s3://bucket/path`, `gs://bucket/path`, `az://container/path` where the
    /// binary is built with the features `aws`, `gcp`, `azure`. How these are reached, and with which credentials, comes from the
    /// environment, in variables that begin with `AWS_`, `GOOGLE_` and `AZURE_`: `docs/operating.md`.
    pub url: Url,
    /// Put in front of every key; of batches, part of what is posted on L1. Empty for none.
    #[serde(default)]
    pub prefix: String,
}

impl ObjectStoreConfig {
    /// A store at this URL, whose keys have no prefix.
    pub const fn at(url: Url) -> Self {
        Self { url, prefix: String::new() }
    }
}

/// A server of the OP Stack's alt-DA interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AltDaConfig {
    /// Where it is; `/put` and `/get` are added.
    pub url: Url,
    /// What it is asked to commit with.
    #[serde(default)]
    pub commitment: AltDaCommitment,
    /// Bytes of the largest batch that it takes.
    #[serde(default = "default_alt_da_size")]
    pub max_size: usize,
    /// What the DA layer behind it asks for a byte, in wei: compared with what others cost.
    #[serde(default)]
    pub wei_per_byte: u64,
    /// How long it may take to answer; DA layers behind it can take minutes.
    #[serde(default = "default_alt_da_timeout", with = "humantime_serde")]
    pub timeout: Duration,
}

impl AltDaConfig {
    /// A server at this URL, with the defaults for all else.
    pub const fn at(url: Url) -> Self {
        Self {
            url,
            commitment: AltDaCommitment::Generic,
            max_size: default_alt_da_size(),
            wei_per_byte: 0,
            timeout: default_alt_da_timeout(),
        }
    }
}

const fn default_alt_da_size() -> usize {
    1_000_000
}

const fn default_alt_da_timeout() -> Duration {
    Duration::from_secs(120)
}

/// What an alt-DA server commits with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AltDaCommitment {
    /// The Keccak-256 hash: the server is a plain store.
    Keccak,
    /// What the server answers: a DA layer is behind it.
    #[default]
    Generic,
}

/// A Celestia node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CelestiaConfig {
    /// Its JSON-RPC: http, https, ws or wss.
    pub url: Url,
    /// Where its auth token is, which has to allow writing for batches to be posted. Without it, none is sent.
    #[serde(default)]
    pub token: Option<TokenSource>,
    /// What batches are posted under: the ten bytes, in hexadecimal, that tell namespaces of version 0 apart. Read is whatever L1 names.
    #[serde(default = "default_celestia_namespace")]
    pub namespace: FixedBytes<10>,
    /// What a unit of Celestia's gas may cost, in utia. Without it, the node decides.
    #[serde(default)]
    pub gas_price: Option<f64>,
    /// Bytes of the largest batch that goes there.
    #[serde(default = "default_celestia_size")]
    pub max_size: usize,
    /// What Celestia asks for a byte, in wei: compared with what others cost.
    #[serde(default)]
    pub wei_per_byte: u64,
    /// How long the node may take to answer, which it does to a batch when a block holds it; and then to find it there.
    #[serde(default = "default_celestia_timeout", with = "humantime_serde")]
    pub timeout: Duration,
}

impl CelestiaConfig {
    /// A node at this URL, with the defaults for all else.
    pub const fn at(url: Url) -> Self {
        Self {
            url,
            token: None,
            namespace: default_celestia_namespace(),
            gas_price: None,
            max_size: MAX_CELESTIA_SIZE,
            wei_per_byte: 0,
            timeout: default_celestia_timeout(),
        }
    }
}

/// Bytes of the largest batch that can go to Celestia: celestia-app takes transactions of 8 MiB (`MaxTxSize` since its version 6), and the client sends
/// requests of up to 10 MiB, in which a batch takes four thirds of its size.
const MAX_CELESTIA_SIZE: usize = 7_800_000;

const fn default_celestia_namespace() -> FixedBytes<10> {
    FixedBytes(*b"millrace\0\0")
}

const fn default_celestia_size() -> usize {
    MAX_CELESTIA_SIZE
}

const fn default_celestia_timeout() -> Duration {
    Duration::from_secs(120)
}

/// Where a token is. It is in no configuration itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenSource {
    /// The environment variable of this name.
    Env(String),
    /// This file.
    File(PathBuf),
}

/// A setting that cannot work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("da-adapter setting {field}: {problem}")]
pub struct InvalidConfig {
    /// The setting.
    pub field: &'static str,
    /// What is wrong, and what would be right.
    pub problem: String,
}

impl DaAdapterConfig {
    /// Bytes that a batch is filled to, for a backend that takes batches of `max_size`.
    pub(crate) fn target(&self, max_size: usize) -> usize {
        self.target_size.unwrap_or_else(|| max_size.min(capacity(MAX_BLOBS)))
    }

    /// Opens all sources of batches that are configured here: all but L1's beacon node.
    ///
    /// # Errors
    /// When a URL cannot be used, a token cannot be read, or this build has no client for one of them.
    pub fn sources(&self) -> Result<DaSources, DaAdapterOpenError> {
        #[cfg(not(feature = "celestia"))]
        if self.celestia.is_some() {
            let problem = "this build has no client for it: build with the feature celestia";
            return Err(InvalidConfig { field: "celestia", problem: problem.to_owned() }.into());
        }
        Ok(DaSources {
            beacon: None,
            store: self.object_store.as_ref().map(ObjectStoreBackend::open).transpose()?,
            alt_da: self.alt_da.as_ref().map(AltDaBackend::new).transpose()?,
            #[cfg(feature = "celestia")]
            celestia: self.celestia.as_ref().map(crate::CelestiaBackend::new).transpose()?,
            archive: self.archive.as_ref().map(BlobArchive::open).transpose()?,
        })
    }

    /// Checks everything that can be told before anything is opened. `max_size` is the backend's.
    pub(crate) fn validate(&self, max_size: usize) -> Result<(), InvalidConfig> {
        let within = |field, value: usize, low: usize, high: usize| {
            if (low..=high).contains(&value) {
                return Ok(());
            }
            Err(InvalidConfig {
                field,
                problem: format!("{value} is not between {low} and {high}"),
            })
        };
        within("target_size", self.target(max_size), 1_000, max_size)?;
        within("switching.failures", self.switching.failures as usize, 1, usize::MAX)?;
        let percent = self.switching.cheaper_percent.map_or(1, usize::from);
        within("switching.cheaper_percent", percent, 1, 99)?;
        if let Some(alt_da) = &self.alt_da {
            within("alt_da.max_size", alt_da.max_size, 1_000, BatchLimits::default().max_encoded)?;
            if alt_da.timeout.is_zero() {
                let problem = "must be more than zero".to_owned();
                return Err(InvalidConfig { field: "alt_da.timeout", problem });
            }
        }
        if let Some(celestia) = &self.celestia {
            within("celestia.max_size", celestia.max_size, 1_000, MAX_CELESTIA_SIZE)?;
            let invalid = |field, problem: &str| InvalidConfig { field, problem: problem.into() };
            if celestia.timeout.is_zero() {
                return Err(invalid("celestia.timeout", "must be more than zero"));
            }
            if celestia.gas_price.is_some_and(|price| !(price.is_finite() && price > 0.0)) {
                return Err(invalid("celestia.gas_price", "must be a number of more than zero"));
            }
        }
        for (at, backend) in self.backends.iter().enumerate() {
            if self.backends[..at].contains(backend) {
                let problem = "a backend is in it twice".to_owned();
                return Err(InvalidConfig { field: "backends", problem });
            }
        }
        within("max_blocks", self.max_blocks, 1, BatchLimits::default().max_blocks)?;
        within("zstd_level", usize::try_from(self.zstd_level).unwrap_or(0), 1, 22)?;
        within("max_backlog_batches", self.max_backlog_batches, 1, usize::MAX)?;
        within("max_in_flight", self.max_in_flight, 1, 16)?;
        for (field, value) in [
            ("max_batch_age", self.max_batch_age),
            ("price_interval", self.price_interval),
            ("poll_interval", self.poll_interval),
            ("max_retry_interval", self.max_retry_interval),
        ] {
            if value.is_zero() {
                return Err(InvalidConfig { field, problem: "must be more than zero".to_owned() });
            }
        }
        if self.max_empty_batch_age < self.max_batch_age {
            return Err(InvalidConfig {
                field: "max_empty_batch_age",
                problem: "must not be less than max_batch_age".to_owned(),
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        DaAdapterConfig::default().validate(crate::blob::capacity(6)).unwrap();
    }

    #[test]
    fn a_target_over_the_backends_size_is_refused() {
        let config = DaAdapterConfig { target_size: Some(200_000), ..Default::default() };
        assert_eq!(config.validate(crate::blob::capacity(1)).unwrap_err().field, "target_size");
    }
}

//! How to reach L1.

use std::time::Duration;

use alloy::primitives::Address;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::{BeaconClient, L1Client, L1Error, RollupContract};

/// Which L1, which contract on it, and how patient to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct L1Config {
    /// The node's JSON-RPC endpoint, http (https with the crate's feature `tls`).
    pub url: Url,
    /// Other nodes of the same L1, asked in turn when the one that is asked fails or says what its blocks do not hold.
    #[serde(default)]
    pub fallbacks: Vec<Url>,
    /// The L1's chain id. A node of another chain is refused; where it is not given, the first node that answers tells it.
    #[serde(default)]
    pub chain_id: Option<u64>,
    /// The beacon node's API, from which blobs are read; the same as `url` if not given.
    #[serde(default)]
    pub beacon: Option<Url>,
    /// The rollup contract.
    pub rollup: Address,
    /// Time between two looks at L1's head.
    #[serde(with = "humantime_serde", default = "defaults::poll_interval")]
    pub poll_interval: Duration,
    /// How long one request may take.
    #[serde(with = "humantime_serde", default = "defaults::request_timeout")]
    pub request_timeout: Duration,
    /// Tries after the first that a request gets when the node does not answer, answers 429 or 5xx.
    #[serde(default = "defaults::retries")]
    pub retries: usize,
    /// L1 blocks in one `eth_getLogs`, at most. Halved by itself where the node finds that too much, and doubled again while it
    /// takes what is asked for.
    #[serde(default = "defaults::log_range")]
    pub log_range: u64,
    /// Whether what L1 says is checked against its blocks: a header has the hash that names it, a block's events are those of receipts that its header commits to, or none
    /// if its bloom rules them out, and events read over many blocks add up to what the contract holds by the state root of a header. Off for an L1 whose headers,
    /// receipts or states are not Ethereum's, or whose node has no `eth_getBlockReceipts`.
    #[serde(default = "defaults::check_blocks")]
    pub check_blocks: bool,
    /// L1 blocks that have to follow the block of a deposit before L2 takes it. 0 takes it from L1's head.
    #[serde(default = "defaults::confirmations")]
    pub confirmations: u64,
}

mod defaults {
    use std::time::Duration;

    pub(super) const fn poll_interval() -> Duration {
        Duration::from_secs(2)
    }
    pub(super) const fn request_timeout() -> Duration {
        Duration::from_secs(15)
    }
    pub(super) const fn retries() -> usize {
        4
    }
    pub(super) const fn log_range() -> u64 {
        2_000
    }
    pub(super) const fn check_blocks() -> bool {
        true
    }
    pub(super) const fn confirmations() -> u64 {
        2
    }
}

impl L1Config {
    /// Default patience.
    pub const fn new(url: Url, rollup: Address) -> Self {
        Self {
            url,
            fallbacks: Vec::new(),
            chain_id: None,
            beacon: None,
            rollup,
            poll_interval: defaults::poll_interval(),
            request_timeout: defaults::request_timeout(),
            retries: defaults::retries(),
            log_range: defaults::log_range(),
            check_blocks: defaults::check_blocks(),
            confirmations: defaults::confirmations(),
        }
    }

    /// A client for the node, which knows where the beacon API is.
    pub fn client(&self) -> Result<L1Client, L1Error> {
        let client = L1Client::over(
            self.url.clone(),
            self.fallbacks.clone(),
            ClientOptions {
                poll_interval: self.poll_interval,
                request_timeout: self.request_timeout,
                retries: self.retries,
                log_range: self.log_range,
                check_blocks: self.check_blocks,
                chain_id: self.chain_id,
                ..ClientOptions::default()
            },
        )?;
        Ok(match &self.beacon {
            Some(beacon) => client.with_beacon(beacon.clone()),
            None => client,
        })
    }

    /// The contract, through a client of its own.
    pub fn rollup(&self) -> Result<RollupContract, L1Error> {
        Ok(RollupContract::new(self.client()?, self.rollup))
    }

    /// A client for the beacon API.
    pub fn beacon(&self) -> Result<BeaconClient, crate::BeaconError> {
        let url = self.beacon.as_ref().unwrap_or(&self.url);
        BeaconClient::new(url.clone(), self.request_timeout, self.retries)
    }
}

/// How patient a client is; the part of [`L1Config`] that needs no contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientOptions {
    /// Time between two looks at L1's head.
    pub poll_interval: Duration,
    /// How long one request may take.
    pub request_timeout: Duration,
    /// Tries after the first.
    pub retries: usize,
    /// L1 blocks in one `eth_getLogs`, at most.
    pub log_range: u64,
    /// Whether what L1 says is checked against its blocks.
    pub check_blocks: bool,
    /// The L1's chain id, if nodes of others are to be refused.
    pub chain_id: Option<u64>,
    /// How long a node may show no new block before it is looked whether another one has one.
    pub stuck_after: Duration,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            poll_interval: defaults::poll_interval(),
            request_timeout: defaults::request_timeout(),
            retries: defaults::retries(),
            log_range: defaults::log_range(),
            check_blocks: defaults::check_blocks(),
            chain_id: None,
            // Ten slots.
            stuck_after: Duration::from_secs(120),
        }
    }
}

/// Refuses URLs that no request could go to, which would otherwise look like a node that is down.
pub(crate) fn check_scheme(url: &Url) -> Result<(), String> {
    match url.scheme() {
        "http" => Ok(()),
        "https" if cfg!(feature = "tls") => Ok(()),
        "https" => Err(
            "this build speaks no HTTPS: build it with the cargo feature `tls`, or use an http \
                        endpoint"
                .to_owned(),
        ),
        other => Err(format!("L1 is reached over http or https, and not over {other}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_that_cannot_work_are_refused_at_once() {
        let check = |url: &str| check_scheme(&Url::parse(url).expect("url"));
        assert!(check("http://127.0.0.1:8545").is_ok());
        assert_eq!(check("https://l1.example").is_ok(), cfg!(feature = "tls"));
        assert!(check("ws://127.0.0.1:8545").is_err());
        assert!(check("mailto:somebody").is_err());
    }

    #[test]
    fn the_contract_is_required_and_unknown_keys_are_errors() {
        let rollup = Address::repeat_byte(1);
        let full = serde_json::json!({ "url": "http://127.0.0.1:8545", "rollup": rollup });
        let config: L1Config = serde_json::from_value(full.clone()).expect("defaults for the rest");
        assert_eq!(config, L1Config::new(config.url.clone(), rollup));
        let mut unknown = full.clone();
        unknown["rolup"] = serde_json::json!(rollup);
        assert!(serde_json::from_value::<L1Config>(unknown).is_err());
        let missing = serde_json::json!({ "url": "http://127.0.0.1:8545" });
        assert!(serde_json::from_value::<L1Config>(missing).is_err());
    }
}

//! What to bid.

use alloy::{
    consensus::BlockHeader,
    eips::eip4844::calc_blob_gasprice,
    primitives::{U128, U256},
};
use serde::{Deserialize, Serialize};

use super::TxManagerConfig;
use crate::{L1Client, L1Error};

/// What a transaction offers, in wei a unit of gas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Fees {
    #[serde(with = "alloy::serde::quantity")]
    pub(super) tip: u128,
    /// Base fee and tip together.
    #[serde(with = "alloy::serde::quantity")]
    pub(super) max_fee: u128,
    /// For a unit of blob gas; 0 without blobs.
    #[serde(with = "alloy::serde::quantity")]
    pub(super) blob_fee: u128,
}

/// What L1 asks now.
#[derive(Debug, Clone, Copy)]
pub(super) struct Market {
    base_fee: u128,
    tip: u128,
    blob_base_fee: u128,
}

impl Market {
    pub(super) async fn read(client: &L1Client, with_blobs: bool) -> Result<Self, L1Error> {
        let head = client.latest_header().await?;
        let tip = match client.request::<_, U128>("eth_maxPriorityFeePerGas", ()).await {
            Ok(tip) => tip.to(),
            Err(error) if error.response().is_some() => 0,
            Err(error) => return Err(error),
        };
        let blob_base_fee = if with_blobs {
            match client.request::<_, U128>("eth_blobBaseFee", ()).await {
                Ok(fee) => fee.to(),
                // By the first and steepest schedule: later forks only made blobs cheaper.
                Err(error) if error.response().is_some() => {
                    calc_blob_gasprice(head.excess_blob_gas().unwrap_or_default())
                }
                Err(error) => return Err(error),
            }
        } else {
            0
        };
        Ok(Self {
            base_fee: head.base_fee_per_gas().unwrap_or_default().into(),
            tip,
            blob_base_fee,
        })
    }
}

impl Fees {
    /// The first offer: enough for the market and some growth of it, within the caps.
    pub(super) fn first(market: &Market, with_blobs: bool, config: &TxManagerConfig) -> Self {
        let scale = |fee: u128| fee.saturating_mul(config.fee_percent.into()) / 100;
        let tip = market.tip.clamp(config.min_tip.into(), config.max_tip.into());
        let max_fee = scale(market.base_fee).saturating_add(tip).min(config.max_fee.into());
        let blob_fee = if with_blobs {
            scale(market.blob_base_fee)
                .clamp(config.min_blob_fee.into(), config.max_blob_fee.into())
        } else {
            0
        };
        Self { tip: tip.min(max_fee), max_fee, blob_fee }
    }

    /// The next offer: every fee higher by what nodes ask of a replacement, and at least what the market asks. `None` if a
    /// cap is in the way of that.
    pub(super) fn replacement(&self, market: &Market, config: &TxManagerConfig) -> Option<Self> {
        let with_blobs = self.blob_fee != 0;
        let percent = if with_blobs { config.blob_bump_percent } else { config.bump_percent };
        let raise = |fee: u128| {
            fee.saturating_add(fee.saturating_mul(percent.into()).div_ceil(100))
                .max(fee.saturating_add(1))
        };
        let market = Self::first(market, with_blobs, config);
        let next = Self {
            tip: raise(self.tip).max(market.tip),
            max_fee: raise(self.max_fee).max(market.max_fee),
            blob_fee: if with_blobs { raise(self.blob_fee).max(market.blob_fee) } else { 0 },
        };
        let within = next.tip <= config.max_tip.into()
            && next.max_fee <= config.max_fee.into()
            && (!with_blobs || next.blob_fee <= config.max_blob_fee.into());
        within.then_some(Self { tip: next.tip.min(next.max_fee), ..next })
    }

    /// The most that a transaction with this offer can take from the account.
    pub(super) fn cost(&self, gas_limit: u64, blob_gas: u64, value: U256) -> U256 {
        let gas = U256::from(gas_limit) * U256::from(self.max_fee);
        let blobs = U256::from(blob_gas) * U256::from(self.blob_fee);
        gas.saturating_add(blobs).saturating_add(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GWEI: u128 = 1_000_000_000;

    fn market(base_fee: u128, tip: u128, blob_base_fee: u128) -> Market {
        Market { base_fee, tip, blob_base_fee }
    }

    #[test]
    fn the_first_offer_leaves_room_for_growth_and_stays_below_the_caps() {
        let config = TxManagerConfig::default();
        let fees = Fees::first(&market(10 * GWEI, GWEI, 7 * GWEI), true, &config);
        assert_eq!(fees, Fees { tip: GWEI, max_fee: 21 * GWEI, blob_fee: 14 * GWEI });
        let spike =
            Fees::first(&market(100_000 * GWEI, 9_000 * GWEI, 90_000 * GWEI), true, &config);
        assert_eq!(spike, Fees { tip: 20 * GWEI, max_fee: 500 * GWEI, blob_fee: 1_000 * GWEI });
        assert_eq!(Fees::first(&market(GWEI, 0, 1), false, &config).blob_fee, 0);
    }

    #[test]
    fn a_replacement_raises_every_fee_by_what_nodes_ask() {
        let config = TxManagerConfig::default();
        let calm = market(1, 1, 1);
        let plain = Fees { tip: 101, max_fee: 1_001, blob_fee: 0 };
        let next = plain
            .replacement(&calm, &TxManagerConfig { min_tip: 1, ..config.clone() })
            .expect("within caps");
        assert_eq!(next, Fees { tip: 112, max_fee: 1_102, blob_fee: 0 });
        let blobs = Fees { tip: GWEI, max_fee: 5 * GWEI, blob_fee: 3 * GWEI };
        let next = blobs.replacement(&calm, &config).expect("within caps");
        assert_eq!(next, Fees { tip: 2 * GWEI, max_fee: 10 * GWEI, blob_fee: 6 * GWEI });
    }

    #[test]
    fn a_replacement_follows_the_market() {
        let config = TxManagerConfig::default();
        let old = Fees { tip: GWEI, max_fee: 5 * GWEI, blob_fee: 0 };
        let next = old.replacement(&market(100 * GWEI, 2 * GWEI, 0), &config).expect("within caps");
        assert_eq!(next, Fees { tip: 2 * GWEI, max_fee: 202 * GWEI, blob_fee: 0 });
    }

    #[test]
    fn no_replacement_beyond_a_cap() {
        let config = TxManagerConfig::default();
        let calm = market(1, 1, 1);
        let at_fee_cap = Fees { tip: GWEI, max_fee: 460 * GWEI, blob_fee: 0 };
        assert_eq!(at_fee_cap.replacement(&calm, &config), None);
        let at_tip_cap = Fees { tip: 19 * GWEI, max_fee: 100 * GWEI, blob_fee: 0 };
        assert_eq!(at_tip_cap.replacement(&calm, &config), None);
        let at_blob_cap = Fees { tip: GWEI, max_fee: 10 * GWEI, blob_fee: 501 * GWEI };
        assert_eq!(at_blob_cap.replacement(&calm, &config), None);
    }

    #[test]
    fn the_cost_counts_everything() {
        let fees = Fees { tip: 1, max_fee: 10, blob_fee: 3 };
        assert_eq!(fees.cost(100, 1_000, U256::from(7)), U256::from(100 * 10 + 3_000 + 7));
    }
}

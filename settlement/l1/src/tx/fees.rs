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

/// What L1 asks now, in wei a unit of gas.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Market {
    /// For a unit of gas, burnt.
    pub base_fee: u128,
    /// For a unit of gas, to the block's proposer.
    pub tip: u128,
    /// For a unit of blob gas; 0 where it was not asked for.
    pub blob_base_fee: u128,
}

impl Market {
    /// Asks L1.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn read(client: &L1Client, with_blobs: bool) -> Result<Self, L1Error> {
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
    /// cap is in the way of that, or it would be too many times what the market asks while this offer covers that.
    pub(super) fn replacement(&self, market: &Market, config: &TxManagerConfig) -> Option<Self> {
        let first = Self::first(market, self.blob_fee != 0, config);
        let raised = self.raised(config);
        let next = Self {
            tip: raised.tip.max(first.tip),
            max_fee: raised.max_fee.max(first.max_fee),
            blob_fee: raised.blob_fee.max(first.blob_fee),
        };
        let sensible =
            next.within(config) && (!self.covers(market) || next.is_near(market, config));
        sensible.then(|| Self { tip: next.tip.min(next.max_fee), ..next })
    }

    /// Whether the offer is as much as the market asks, of each fee.
    const fn covers(&self, market: &Market) -> bool {
        self.tip >= market.tip
            && self.max_fee >= market.base_fee.saturating_add(market.tip)
            && (self.blob_fee == 0 || self.blob_fee >= market.blob_base_fee)
    }

    /// Whether no fee is more than so many times what the market asks, or low all the same.
    fn is_near(&self, market: &Market, config: &TxManagerConfig) -> bool {
        let near = |fee: u128, asked: u128, least: u64| {
            fee <= asked
                .max(least.into())
                .saturating_mul(config.fee_limit_multiplier.into())
                .max(config.fee_limit_threshold.into())
        };
        near(self.tip, market.tip, config.min_tip)
            && near(self.max_fee, market.base_fee.saturating_add(market.tip), config.min_tip)
            && near(self.blob_fee, market.blob_base_fee, config.min_blob_fee)
    }

    /// The same offer, or, if a cap leaves no room for a replacement of it, the offer to make instead, as it is the last
    /// one: the fees that are ceilings, of which L1 takes what it asks and no more, at their caps; the tip, which is paid as it
    /// is, where the replacement would have had it.
    pub(super) fn or_last(self, config: &TxManagerConfig) -> Self {
        let raised = self.raised(config);
        if raised.within(config) {
            return self;
        }
        let max_fee = self.max_fee.max(config.max_fee.into());
        Self {
            tip: raised.tip.min(config.max_tip.into()).max(self.tip).min(max_fee),
            max_fee,
            blob_fee: match self.blob_fee {
                0 => 0,
                blob_fee => blob_fee.max(config.max_blob_fee.into()),
            },
        }
    }

    /// Every fee higher by what nodes ask of a replacement.
    fn raised(&self, config: &TxManagerConfig) -> Self {
        let with_blobs = self.blob_fee != 0;
        let percent = if with_blobs { config.blob_bump_percent } else { config.bump_percent };
        let raise = |fee: u128| {
            fee.saturating_add(fee.saturating_mul(percent.into()).div_ceil(100))
                .max(fee.saturating_add(1))
        };
        Self {
            tip: raise(self.tip),
            max_fee: raise(self.max_fee),
            blob_fee: if with_blobs { raise(self.blob_fee) } else { 0 },
        }
    }

    fn within(&self, config: &TxManagerConfig) -> bool {
        self.tip <= config.max_tip.into()
            && self.max_fee <= config.max_fee.into()
            && self.blob_fee <= config.max_blob_fee.into()
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
    fn no_replacement_beyond_so_many_times_what_l1_asks() {
        let config = TxManagerConfig::default();
        let plain = |max_fee: u128| Fees { tip: GWEI, max_fee: max_fee * GWEI, blob_fee: 0 };
        let goes = |offer: Fees, market: Market| offer.replacement(&market, &config).is_some();
        let asks = market(50 * GWEI, GWEI, 60 * GWEI);
        assert!(goes(plain(231), asks), "254.1 of 255");
        assert!(!goes(plain(232), asks), "255.2 of 255");
        assert!(goes(plain(232), market(51 * GWEI, GWEI, 0)), "L1 has become dearer");
        // Where it is cheap, a few times as much is still cheap.
        assert!(goes(plain(90), market(1, 1, 1)) && !goes(plain(91), market(1, 1, 1)));
        let blobs = |blob_fee: u128| Fees { blob_fee: blob_fee * GWEI, ..plain(60) };
        assert!(goes(blobs(150), asks) && !goes(blobs(151), asks));
        // What L1 asks of one fee is met, however far above it the others get.
        let dear_blobs = Fees { blob_fee: 8 * GWEI, ..plain(84) };
        assert!(!goes(dear_blobs, market(GWEI, GWEI, 7 * GWEI)), "168 of 100");
        assert!(goes(dear_blobs, market(GWEI, GWEI, 9 * GWEI)));
        let zero = TxManagerConfig { fee_limit_threshold: 0, ..config.clone() };
        let small = Fees { tip: config.min_tip.into(), max_fee: GWEI, blob_fee: 0 };
        assert!(small.replacement(&market(GWEI, 0, 0), &zero).is_some(), "nobody asks for a tip");
    }

    #[test]
    fn an_offer_that_cannot_be_raised_again_is_made_at_the_caps() {
        let config = TxManagerConfig::default();
        // Twice the blob fee, and twice that, are within the caps.
        let room = Fees { tip: GWEI, max_fee: 10 * GWEI, blob_fee: 500 * GWEI };
        assert_eq!(room.or_last(&config), room);
        let at_caps = Fees { tip: 2 * GWEI, max_fee: 500 * GWEI, blob_fee: 1_000 * GWEI };
        for last in [
            Fees { tip: GWEI, max_fee: 10 * GWEI, blob_fee: 501 * GWEI },
            Fees { tip: GWEI, max_fee: 251 * GWEI, blob_fee: 3 * GWEI },
            at_caps,
        ] {
            assert_eq!(last.or_last(&config), Fees { tip: 2 * last.tip, ..at_caps });
        }
        // What is paid as it is goes up by one step, and not beyond its cap.
        let dear_tip = Fees { tip: 11 * GWEI, max_fee: 30 * GWEI, blob_fee: GWEI };
        assert_eq!(dear_tip.or_last(&config), Fees { tip: 20 * GWEI, ..at_caps });

        let plain = Fees { tip: GWEI, max_fee: 460 * GWEI, blob_fee: 0 };
        let last = Fees { tip: 11 * GWEI / 10, max_fee: 500 * GWEI, blob_fee: 0 };
        assert_eq!(plain.or_last(&config), last);
    }

    #[test]
    fn no_blob_offer_waits_below_its_cap() {
        let config = TxManagerConfig::default();
        for blob_fee in [GWEI, 3 * GWEI, 400 * GWEI, 777 * GWEI] {
            let first = Fees::first(&market(GWEI, GWEI, blob_fee / 2), true, &config);
            let mut offer = first.or_last(&config);
            // L1's blobs get dearer than any offer, and only those.
            let dear = |offer: &Fees| market(GWEI, GWEI, offer.blob_fee + 1);
            while let Some(next) = offer.replacement(&dear(&offer), &config) {
                offer = next.or_last(&config);
            }
            assert_eq!((offer.max_fee, offer.blob_fee), (500 * GWEI, 1_000 * GWEI));
        }
    }

    #[test]
    fn the_cost_counts_everything() {
        let fees = Fees { tip: 1, max_fee: 10, blob_fee: 3 };
        assert_eq!(fees.cost(100, 1_000, U256::from(7)), U256::from(100 * 10 + 3_000 + 7));
    }
}

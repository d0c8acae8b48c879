//! What a transaction's place in a batch costs on the DA layer, as far as its bytes tell before it is there.
//!
//! The size is estimated as the OP Stack does since Fjord: a linear function of what FastLZ makes of the signed transaction, and 100 bytes at least
//! ([specification](https://specs.optimism.io/protocol/fjord/exec-engine.html#fjord-l1-cost-fee-changes-fastlz-estimator)). Batches take a little less here.

use op_alloy_flz::tx_estimated_size_fjord_bytes;

/// The least that is estimated, bytes.
const LEAST_BYTES: u64 = 100;
/// FastLZ makes no more of what is no longer than this than what comes to the least, whatever the bytes.
const SURELY_LEAST: usize = 160;
/// Gas of a plain transfer.
const TRANSFER_GAS: u128 = 21_000;
/// Of a transaction's gas limit, so much counts at most, and so much more for each of its bytes.
const COUNTED_GAS: u64 = 100_000;
const COUNTED_GAS_A_BYTE: u64 = 64;

/// Bytes that a signed transaction (EIP-2718) takes in a batch, about.
pub fn estimated_batch_bytes(encoded: &[u8]) -> u64 {
    if encoded.len() <= SURELY_LEAST {
        return LEAST_BYTES;
    }
    tx_estimated_size_fjord_bytes(encoded)
}

/// The most that [`estimated_batch_bytes`] gives for so many bytes: FastLZ adds a byte to 32 that it finds nowhere before.
pub const fn most_batch_bytes(len: usize) -> u64 {
    let most = (len as u64 + len as u64 / 32 + 1) * 8_365 / 10_000;
    if most > LEAST_BYTES { most } else { LEAST_BYTES }
}

/// The least priority fee with which a signed transaction of `len` bytes pays a fee for its data, wei per gas, if it uses its gas limit.
///
/// A gas limit is only an upper bound, and what is not used is not paid for: so no more of it counts than 100,000, and 64 a byte, whatever it is.
pub fn tip_for_data(data_fee: u128, len: usize, gas_limit: u64) -> u128 {
    let most = COUNTED_GAS + COUNTED_GAS_A_BYTE * len as u64;
    data_fee.div_ceil(u128::from(gas_limit.clamp(1, most)))
}

/// What bytes of batches cost, wei for 1,000 of them. Zero: it is not known, or nothing is asked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct DataPrice(pub u64);

impl DataPrice {
    /// So many percent of it.
    pub fn percent(self, percent: u32) -> Self {
        let price = u128::from(self.0) * u128::from(percent) / 100;
        Self(u64::try_from(price).unwrap_or(u64::MAX))
    }

    /// What so many bytes of batches cost, wei, rounded up.
    pub fn of_bytes(self, bytes: u64) -> u128 {
        (u128::from(bytes) * u128::from(self.0)).div_ceil(1_000)
    }

    /// What a signed transaction (EIP-2718) costs, wei.
    pub fn of(self, encoded: &[u8]) -> u128 {
        if self.0 == 0 { 0 } else { self.of_bytes(estimated_batch_bytes(encoded)) }
    }

    /// The least priority fee with which a signed transaction pays for its data, wei per gas: [`tip_for_data`].
    pub fn least_tip(self, encoded: &[u8], gas_limit: u64) -> u128 {
        tip_for_data(self.of(encoded), encoded.len(), gas_limit)
    }

    /// A priority fee with which a plain transfer pays for its data also when that has become a quarter dearer, wei per gas.
    pub fn tip_of_transfer(self) -> u128 {
        self.of_bytes(LEAST_BYTES + LEAST_BYTES / 4).div_ceil(TRANSFER_GAS)
    }
}

#[cfg(test)]
mod tests {
    use op_alloy_flz::flz_compress_len;
    use proptest::prelude::*;

    use super::*;

    /// 1 gwei a byte.
    const PRICE: DataPrice = DataPrice(1_000_000_000_000);

    proptest! {
        #[test]
        fn what_is_short_is_not_compressed_for_nothing(
            bytes in prop::collection::vec(any::<u8>(), 0..=SURELY_LEAST),
        ) {
            prop_assert_eq!(tx_estimated_size_fjord_bytes(&bytes), LEAST_BYTES);
        }

        #[test]
        fn no_estimate_is_above_the_most(bytes in prop::collection::vec(any::<u8>(), 0..3_000)) {
            let most = most_batch_bytes(bytes.len());
            prop_assert!(estimated_batch_bytes(&bytes) <= most);
            prop_assert!(estimated_batch_bytes(&bytes[..bytes.len() / 2].repeat(2)) <= most);
        }

        #[test]
        fn the_tip_pays_for_the_data_and_no_more_than_that(
            bytes in prop::collection::vec(any::<u8>(), 0..2_000),
            price in 0..u64::MAX,
            gas in 0..200_000_u64,
        ) {
            let price = DataPrice(price);
            let (fee, tip) = (price.of(&bytes), price.least_tip(&bytes, gas));
            let gas = u128::from(gas.max(1));
            let counted = gas.min(100_000 + 64 * bytes.len() as u128);
            prop_assert!(tip * counted >= fee);
            prop_assert!(tip == 0 || (tip - 1) * counted < fee);
        }
    }

    #[test]
    fn sizes_are_those_of_the_specification() {
        // max(100, -42.5856 + 0.8365 × FastLZ), for what compresses well and for what does not at all.
        let zeros = [0; 1_000];
        assert_eq!((flz_compress_len(&zeros), estimated_batch_bytes(&zeros)), (21, 100));
        let mut state = 1_u64;
        let noise: Vec<u8> = (0..1_000)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 56) as u8
            })
            .collect();
        let fastlz = f64::from(flz_compress_len(&noise));
        assert!(fastlz > 1_000.0);
        assert_eq!(estimated_batch_bytes(&noise), (0.8365 * fastlz - 42.5856) as u64);
    }

    #[test]
    fn a_high_gas_limit_does_not_make_data_cheap() {
        let transfer = [1; 110];
        assert_eq!(PRICE.of(&transfer), 100_000_000_000);
        assert_eq!(PRICE.least_tip(&transfer, 21_000), 4_761_905);
        assert_eq!(PRICE.least_tip(&transfer, 30_000_000), PRICE.least_tip(&transfer, 107_040));
        assert!(PRICE.tip_of_transfer() > 4_761_905 * 124 / 100);
        assert_eq!(DataPrice::default().least_tip(&transfer, 21_000), 0);
    }

    #[test]
    fn percents_of_a_price() {
        assert_eq!(PRICE.percent(150), DataPrice(1_500_000_000_000));
        assert_eq!(PRICE.percent(0), DataPrice(0));
        assert_eq!(DataPrice(u64::MAX).percent(200), DataPrice(u64::MAX));
    }
}

//! What the fee floor asks for a transaction's place in a batch: its estimated bytes at the price of the DA layer, as the DA adapter tells it.

use std::sync::atomic::{AtomicU64, Ordering};

use alloy::consensus::Transaction;
use millrace_proto::{
    BatchPayload, DataPrice, RejectReason, TxEnvelope, most_batch_bytes, tip_for_data,
};
use serde::{Deserialize, Serialize};

/// Where batches hold what changed, a transaction takes about so much of what it takes itself, percent.
const DIFFS_PERCENT: u32 = 25;

/// What the fee floor asks for data.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DataFeeConfig {
    /// Percent of what the DA layer asks for a transaction's estimated bytes that its priority fee has to cover; 0: the floor asks nothing for data.
    pub scalar_percent: u32,
}

/// The price that counts now.
#[derive(Debug)]
pub(crate) struct DataFees {
    /// Of the DA layer's price.
    percent: u32,
    /// Wei for 1,000 bytes; 0: none.
    price: AtomicU64,
}

impl DataFees {
    pub(crate) fn new(config: &DataFeeConfig, payload: BatchPayload) -> Self {
        let percent = match payload {
            BatchPayload::Transactions => config.scalar_percent,
            BatchPayload::StateDiffs => (config.scalar_percent * DIFFS_PERCENT).div_ceil(100),
        };
        Self { percent, price: AtomicU64::new(0) }
    }

    /// Takes over what the DA layer asks; nothing if it is not known any more.
    pub(crate) fn see(&self, price: DataPrice) {
        self.price.store(price.percent(self.percent).0, Ordering::Relaxed);
    }

    /// What counts now.
    pub(crate) fn price(&self) -> DataPrice {
        DataPrice(self.price.load(Ordering::Relaxed))
    }

    /// Whether a transaction's priority fee pays for its data at a base fee, wei per gas.
    pub(crate) fn check(
        &self,
        tx: &TxEnvelope,
        encoded: &[u8],
        base_fee: u64,
    ) -> Result<(), RejectReason> {
        let price = self.price();
        // Nothing is compressed where nothing is asked.
        if price == DataPrice::default() {
            return Ok(());
        }
        let above = tx.max_fee_per_gas().saturating_sub(base_fee.into());
        let got = above.min(tx.priority_fee_or_price());
        let floor_of = |data_fee| tip_for_data(data_fee, encoded.len(), tx.gas_limit());
        // Compressing costs more than what comes after this, where there are many bytes.
        if got >= floor_of(price.of_bytes(most_batch_bytes(encoded.len()))) {
            return Ok(());
        }
        let data_fee = price.of(encoded);
        let floor = floor_of(data_fee);
        if got < floor {
            return Err(RejectReason::TipBelowFloor { got, floor, data_fee });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_batches_hold_what_changed_a_quarter_is_asked() {
        let config = DataFeeConfig { scalar_percent: 120 };
        for (payload, expected) in
            [(BatchPayload::Transactions, 1_200), (BatchPayload::StateDiffs, 300)]
        {
            let fees = DataFees::new(&config, payload);
            assert_eq!(fees.price(), DataPrice::default(), "it is not known yet");
            fees.see(DataPrice(1_000));
            assert_eq!(fees.price(), DataPrice(expected));
            fees.see(DataPrice::default());
            assert_eq!(fees.price(), DataPrice::default());
        }
    }
}

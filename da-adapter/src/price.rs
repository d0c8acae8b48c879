//! What batches cost now: the backend in use, at what L1 asks, for a batch of the size that is aimed at.

use std::{sync::Arc, time::Duration};

use alloy::primitives::U256;
use millrace_l1::Market;
use millrace_proto::{DaKind, DataPrice, Outage, PastOutage};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{backend::DaBackend, poster::PostTarget};

/// For how long a price is told that could not be read again.
const KEPT: Duration = Duration::from_secs(600);
const TARGET: &str = "millrace::da_adapter";

/// A price, and when it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Quote {
    price: DataPrice,
    at: Instant,
}

impl Quote {
    /// The price, unless it is too old.
    pub(crate) fn at(self, now: Instant) -> DataPrice {
        if now.saturating_duration_since(self.at) < KEPT {
            self.price
        } else {
            DataPrice::default()
        }
    }
}

/// Keeps the price.
#[derive(Debug)]
pub(crate) struct Pricing {
    pub(crate) target: Arc<dyn PostTarget>,
    pub(crate) backends: Vec<Arc<dyn DaBackend>>,
    pub(crate) in_use: watch::Receiver<DaKind>,
    /// Bytes of a batch, where the backend takes as many.
    pub(crate) batch_size: usize,
    /// Time between two looks at L1.
    pub(crate) interval: Duration,
    pub(crate) quote: watch::Sender<Option<Quote>>,
}

impl Pricing {
    /// Asks L1 until it is told to stop.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut outage = Outage::new();
        loop {
            let market = tokio::select! {
                market = self.target.market() => market,
                () = stop.cancelled() => return,
            };
            match market {
                Ok(market) => {
                    if let Some(PastOutage { failures, lasted }) = outage.over() {
                        info!(target: TARGET, failures, ?lasted, "L1 tells its prices again");
                    }
                    let kind = *self.in_use.borrow_and_update();
                    let backend = self.backends.iter().find(|backend| backend.kind() == kind);
                    let price =
                        backend.map(|backend| price(backend.as_ref(), self.batch_size, &market));
                    let quote = price.map(|price| Quote { price, at: Instant::now() });
                    self.quote.send_replace(quote);
                }
                Err(error) if outage.failed() => {
                    warn!(target: TARGET, %error, "L1 does not tell its prices; the last ones are told for ten minutes");
                }
                Err(error) => debug!(target: TARGET, %error, "L1 does not tell its prices"),
            }
            tokio::select! {
                () = tokio::time::sleep(self.interval) => {}
                // Another backend has another price. An end of it is the end of the poster, and so of this.
                changed = self.in_use.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                () = stop.cancelled() => return,
            }
        }
    }
}

/// What bytes cost in a batch of so many, L1's part and the layer's together.
fn price(backend: &dyn DaBackend, size: usize, market: &Market) -> DataPrice {
    let size = size.clamp(1, backend.max_size().max(1));
    let cost = backend.l1_cost(size, market).saturating_add(backend.layer_cost(size));
    let price = cost.saturating_mul(U256::from(1_000)).div_ceil(U256::from(size));
    DataPrice(u64::try_from(price).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{L1BlobBackend, L1CalldataBackend};

    const GWEI: u128 = 1_000_000_000;

    #[test]
    fn a_full_blob_costs_its_gas_and_the_transaction() {
        let market = Market { base_fee: GWEI, tip: GWEI, blob_base_fee: 3 * GWEI };
        // One blob holds 130,044 bytes; its gas is 2^17, and the posting transaction's 95,000.
        let price = price(&L1BlobBackend::default(), 130_044, &market);
        let cost = 131_072 * 3 * GWEI + 95_000 * 2 * GWEI;
        assert_eq!(u128::from(price.0), (cost * 1_000).div_ceil(130_044));
    }

    #[test]
    fn calldata_costs_the_floor_of_eip_7623_in_batches_no_larger_than_it_takes() {
        let market = Market { base_fee: 2 * GWEI, tip: 0, blob_base_fee: 0 };
        let price = price(&L1CalldataBackend, 500_000, &market);
        let cost = (21_000 + 40 * 130_000) * 2 * GWEI;
        assert_eq!(u128::from(price.0), (cost * 1_000).div_ceil(130_000));
    }

    #[test]
    fn an_old_price_is_none() {
        let quote = Quote { price: DataPrice(7), at: Instant::now() };
        assert_eq!(quote.at(quote.at + KEPT / 2), DataPrice(7));
        assert_eq!(quote.at(quote.at + KEPT), DataPrice(0));
    }
}

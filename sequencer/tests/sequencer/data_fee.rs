//! The fee floor follows what the DA layer asks for data.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use alloy::{
    consensus::{TxEip1559, TxLegacy},
    primitives::{Address, Bytes, TxKind},
};
use async_trait::async_trait;
use millrace_proto::{
    DaAdapter, DaAdapterError, DaStatus, DataPrice, OutboxBatch, RejectReason, Sequencer, Stage,
    TransportError, TxPool,
};

use crate::support::{CHAIN_ID, GWEI, Node, Setup, hash_of, sign, signer, soon, transfer};

/// A DA adapter that tells a price, and can go away.
#[derive(Debug, Default)]
struct Prices {
    price: AtomicU64,
    is_away: AtomicBool,
}

#[async_trait]
impl DaAdapter for Prices {
    async fn da_status(&self) -> Result<DaStatus, DaAdapterError> {
        if self.is_away.load(Ordering::Relaxed) {
            return Err(TransportError::Closed.into());
        }
        let data_price = DataPrice(self.price.load(Ordering::Relaxed));
        Ok(DaStatus { data_price, ..DaStatus::default() })
    }

    async fn use_backend(&self, _: Option<&str>) -> Result<(), DaAdapterError> {
        unreachable!("nobody asks")
    }

    async fn batch(&self, _: u64) -> Result<Option<OutboxBatch>, DaAdapterError> {
        unreachable!("nobody asks")
    }
}

/// What 100 bytes cost with which a transfer has to bid 2 gwei: 21,000 gas of them.
const TWO_GWEI_A_TRANSFER: u64 = 420_000_000_000_000;

fn priced(scalar_percent: u32) -> (Setup, Arc<Prices>) {
    let prices = Arc::new(Prices::default());
    let mut setup = Setup::new();
    setup.config.data_fee.scalar_percent = scalar_percent;
    setup.config.throttle.poll_interval = Duration::from_millis(5);
    setup.da = Some(prices.clone());
    (setup, prices)
}

/// Waits until the sequencer counts a price.
async fn counts(node: &Node, price: u64) {
    let seen = async {
        while node.handle.data_price().await.expect("it answers") != DataPrice(price) {
            tokio::task::yield_now().await;
        }
    };
    soon(seen).await;
    assert_eq!(node.handle.status().await.expect("status").data_price, DataPrice(price));
}

fn bid(sender: u8, nonce: u64, tip: u128) -> Bytes {
    sign(&signer(sender), TxEip1559 { max_priority_fee_per_gas: tip, ..transfer(nonce) })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_floor_follows_the_price_and_what_was_accepted_stays() {
    let (mut setup, prices) = priced(100);
    let node = setup.start().await;
    // Nothing is known of a price.
    let early = node.submit(bid(0, 1, 0)).await.expect("accepted");
    node.sequenced(node.submit(bid(1, 0, 0)).await.expect("accepted")).await;

    prices.price.store(TWO_GWEI_A_TRANSFER, Ordering::Relaxed);
    counts(&node, TWO_GWEI_A_TRANSFER).await;
    let data_fee = 42_000 * GWEI;
    let floor = 2 * GWEI;
    let below = RejectReason::TipBelowFloor { got: floor - 1, floor, data_fee };
    assert_eq!(node.refusal(bid(1, 1, floor - 1)).await, below);
    node.submit(bid(1, 1, floor)).await.expect("it pays as much as was said");
    // A tip is worth what the maximum fee leaves of it.
    let capped =
        TxEip1559 { max_fee_per_gas: 2 * GWEI, max_priority_fee_per_gas: 2 * GWEI, ..transfer(2) };
    let reason = node.refusal(sign(&signer(1), capped)).await;
    assert!(
        matches!(reason, RejectReason::TipBelowFloor { got, .. } if got > GWEI && got < 2 * GWEI),
        "{reason:?}"
    );
    let legacy = |gas_price| {
        let tx = TxLegacy {
            chain_id: Some(CHAIN_ID),
            nonce: 0,
            gas_price,
            gas_limit: 21_000,
            to: TxKind::Call(Address::repeat_byte(1)),
            ..TxLegacy::default()
        };
        sign(&signer(2), tx)
    };
    assert!(matches!(node.refusal(legacy(2 * GWEI)).await, RejectReason::TipBelowFloor { .. }));
    node.submit(legacy(4 * GWEI)).await.expect("accepted");
    // Who has more gas needs less of a tip, but not however high a limit is that will not be used.
    let roomy = |gas_limit, tip| {
        let tx = TxEip1559 { gas_limit, max_priority_fee_per_gas: tip, ..transfer(0) };
        sign(&signer(3), tx)
    };
    assert!(matches!(
        node.refusal(roomy(20_000_000, GWEI / 5)).await,
        RejectReason::TipBelowFloor { .. }
    ));
    node.submit(roomy(42_000, GWEI)).await.expect("accepted");
    // What was accepted before is in the next block.
    node.kill().await;
    let node = setup.start().await;
    counts(&node, TWO_GWEI_A_TRANSFER).await;
    node.submit(bid(0, 0, floor)).await.expect("accepted");
    assert_eq!(node.sequenced(early).await.stage, Stage::Sequenced);

    prices.price.store(TWO_GWEI_A_TRANSFER / 2, Ordering::Relaxed);
    counts(&node, TWO_GWEI_A_TRANSFER / 2).await;
    node.submit(bid(4, 0, GWEI)).await.expect("accepted");
    // A price that cannot be read now is that of a moment ago.
    prices.is_away.store(true, Ordering::Relaxed);
    prices.price.store(0, Ordering::Relaxed);
    assert!(matches!(node.refusal(bid(4, 1, GWEI - 1)).await, RejectReason::TipBelowFloor { .. }));
    prices.is_away.store(false, Ordering::Relaxed);
    counts(&node, 0).await;
    let last = node.submit(bid(4, 1, 0)).await.expect("nothing is asked where nothing is known");
    node.sequenced(last).await;
    node.stop().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_asks_for_more_than_the_price_or_for_nothing() {
    let (mut setup, prices) = priced(150);
    prices.price.store(TWO_GWEI_A_TRANSFER, Ordering::Relaxed);
    let node = setup.start().await;
    counts(&node, TWO_GWEI_A_TRANSFER / 2 * 3).await;
    assert!(matches!(
        node.refusal(bid(0, 0, 3 * GWEI - 1)).await,
        RejectReason::TipBelowFloor { floor, .. } if floor == 3 * GWEI
    ));
    node.submit(bid(0, 0, 3 * GWEI)).await.expect("accepted");
    node.stop().await.expect("a clean end");

    let (mut setup, prices) = priced(0);
    prices.price.store(TWO_GWEI_A_TRANSFER, Ordering::Relaxed);
    let node = setup.start().await;
    let raw = bid(0, 0, 0);
    node.submit(raw.clone()).await.expect("accepted");
    node.sequenced(hash_of(&raw)).await;
    counts(&node, 0).await;
    node.stop().await.expect("a clean end");
}

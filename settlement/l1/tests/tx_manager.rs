//! The transaction manager on bad days, on anvil.

mod common;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use alloy::{
    consensus::{Transaction, TxEnvelope},
    eips::Decodable2718,
    primitives::{Address, U256},
};
use common::{BATCHER, Chain, Fault, FaultProxy, blob, quick, soon, until};
use millrace_l1::{
    ClientOptions, L1Client, TxManager, TxManagerConfig, TxManagerError, TxRequest,
    testing::{AnvilOptions, dev_signer, test_patience},
};
use millrace_proto::ErrorClass;
use serde_json::{Value, json};

fn transfer(id: &str, wei: u64) -> TxRequest {
    TxRequest { value: U256::from(wei), ..TxRequest::call(id, Address::repeat_byte(9), vec![]) }
}

/// Transactions of the account in anvil's pool, as (nonce, max fee), whatever their state.
async fn pooled(chain: &Chain, account: u32) -> Vec<(u64, u64)> {
    let content = chain.anvil.rpc("txpool_content", json!([])).await.expect("pool");
    let sender = dev_signer(account).address();
    let mut found = Vec::new();
    for part in ["pending", "queued"] {
        let Some(accounts) = content[part].as_object() else { continue };
        let own = accounts.iter().filter(|(address, _)| address.parse::<Address>() == Ok(sender));
        for (nonce, tx) in own.flat_map(|(_, txs)| txs.as_object().into_iter().flatten()) {
            let fee = tx["maxFeePerGas"].as_str().expect("fee").trim_start_matches("0x");
            found.push((nonce.parse().expect("nonce"), u64::from_str_radix(fee, 16).expect("fee")));
        }
    }
    found
}

fn spawn_send(
    manager: &TxManager,
    request: TxRequest,
) -> tokio::task::JoinHandle<Result<millrace_l1::ConfirmedTx, TxManagerError>> {
    let manager = manager.clone();
    tokio::spawn(async move { manager.send(request).await })
}

#[tokio::test]
async fn a_stuck_transaction_is_replaced_with_higher_fees() {
    for blobs in [vec![], vec![blob(1)]] {
        let chain = Chain::start(AnvilOptions { no_mining: true, ..AnvilOptions::default() }).await;
        let dir = tempfile::tempdir().expect("folder");
        let manager = chain.manager(BATCHER, dir.path(), quick()).await;
        let with_blobs = !blobs.is_empty();
        let request = if with_blobs { chain.post(1, blobs) } else { transfer("t", 5) };
        let sending = spawn_send(&manager, request);
        until("the first version", async || pooled(&chain, BATCHER).await.len() == 1).await;
        let first = pooled(&chain, BATCHER).await[0].1;
        let factor = if with_blobs { 2.0 } else { 1.1 };
        until("a replacement", async || {
            let now = pooled(&chain, BATCHER).await;
            assert_eq!((now.len(), now[0].0), (1, 0), "one nonce only");
            now[0].1 as f64 >= first as f64 * factor
        })
        .await;
        chain.anvil.mine(1).await.expect("mine");
        let confirmed = soon("the confirmation", sending).await.expect("task").expect("confirmed");
        assert!(confirmed.attempts >= 2, "{confirmed:?}");
        assert_eq!(confirmed.nonce, 0);
        assert_eq!(chain.client().nonce(manager.address()).await.expect("nonce"), 1);
        assert!(manager.in_flight().await.expect("journal").is_empty());
    }
}

#[tokio::test]
async fn fees_stop_at_the_cap() {
    let chain = Chain::start(AnvilOptions { no_mining: true, ..AnvilOptions::default() }).await;
    let dir = tempfile::tempdir().expect("folder");
    let cap = 3_000_000_000;
    let config = TxManagerConfig {
        max_fee: cap,
        max_tip: cap,
        resubmit_after: Duration::from_millis(30),
        ..quick()
    };
    let manager = chain.manager(BATCHER, dir.path(), config).await;
    let sending = spawn_send(&manager, transfer("t", 5));
    until("a bid at the cap", async || {
        let pooled = pooled(&chain, BATCHER).await;
        pooled.first().is_some_and(|(_, fee)| {
            assert!(*fee <= cap);
            *fee > cap * 10 / 11
        })
    })
    .await;
    chain.anvil.mine(1).await.expect("mine");
    soon("the confirmation", sending).await.expect("task").expect("confirmed");
}

#[tokio::test]
async fn an_offer_that_cannot_be_doubled_any_more_is_made_at_the_caps() {
    let chain = Chain::start(AnvilOptions { no_mining: true, ..AnvilOptions::default() }).await;
    let dir = tempfile::tempdir().expect("folder");
    // Twice anvil's base fee of 1 gwei, and a tip: twice that is beyond the cap.
    let cap = 3_500_000_000;
    let config = TxManagerConfig { max_fee: cap, max_tip: cap, ..quick() };
    let manager = chain.manager(BATCHER, dir.path(), config).await;
    let sending = spawn_send(&manager, chain.post(1, vec![blob(1)]));
    until("the broadcast", async || !pooled(&chain, BATCHER).await.is_empty()).await;
    assert_eq!(pooled(&chain, BATCHER).await, [(0, cap)]);
    chain.anvil.mine(1).await.expect("mine");
    let confirmed = soon("the confirmation", sending).await.expect("task").expect("confirmed");
    assert_eq!(confirmed.attempts, 1);
}

#[tokio::test]
async fn an_account_that_cannot_pay_the_caps_offers_what_the_market_asks() {
    let chain = Chain::start(AnvilOptions { no_mining: true, ..AnvilOptions::default() }).await;
    let dir = tempfile::tempdir().expect("folder");
    let cap = 5_000_000_000;
    let config = TxManagerConfig { max_fee: cap, max_tip: cap, bump_percent: 200, ..quick() };
    let manager = chain.manager(BATCHER, dir.path(), config).await;
    // For 25,200 gas: enough for some 3.9 gwei.
    let balance = json!([manager.address(), U256::from(100_000_000_000_000u64)]);
    chain.anvil.rpc("anvil_setBalance", balance).await.expect("balance");
    let sending = spawn_send(&manager, transfer("t", 5));
    until("the broadcast", async || !pooled(&chain, BATCHER).await.is_empty()).await;
    let offer = pooled(&chain, BATCHER).await[0].1;
    assert!((1_500_000_000..3_900_000_000).contains(&offer), "{offer}");
    chain.anvil.mine(1).await.expect("mine");
    soon("the confirmation", sending).await.expect("task").expect("confirmed");
}

#[tokio::test]
async fn a_restart_after_the_broadcast_leads_to_one_inclusion() {
    let chain = Chain::start(AnvilOptions { no_mining: true, ..AnvilOptions::default() }).await;
    let dir = tempfile::tempdir().expect("folder");
    let manager = chain.manager(BATCHER, dir.path(), quick()).await;
    let request = chain.post(1, vec![blob(1)]);
    let sending = spawn_send(&manager, request.clone());
    until("the broadcast", async || !pooled(&chain, BATCHER).await.is_empty()).await;
    sending.abort();
    assert!(sending.await.expect_err("aborted").is_cancelled());
    drop(manager);

    // The node has lost it as well.
    chain.anvil.rpc("anvil_dropAllTransactions", json!([])).await.expect("drop");
    assert!(pooled(&chain, BATCHER).await.is_empty());
    let manager = soon("the journal", chain.manager(BATCHER, dir.path(), quick())).await;
    assert_eq!(manager.in_flight().await.expect("journal"), ["post-1"]);
    let sending = spawn_send(&manager, request.clone());
    until("the broadcast", async || !pooled(&chain, BATCHER).await.is_empty()).await;
    chain.anvil.mine(1).await.expect("mine");
    let confirmed = soon("the confirmation", sending).await.expect("task").expect("confirmed");
    assert_eq!(confirmed.nonce, 0);
    assert_eq!(chain.rollup.batch_count().await.expect("count"), 1);
    drop(manager);

    // And once more when it is confirmed already.
    let manager = soon("the journal", chain.manager(BATCHER, dir.path(), quick())).await;
    let again = soon("the record", manager.send(request)).await.expect("known");
    assert_eq!(again.l1, confirmed.l1);
    assert_eq!(chain.client().nonce(manager.address()).await.expect("nonce"), 1);
}

#[tokio::test]
async fn what_a_restart_left_behind_goes_first() {
    let chain = Chain::start(AnvilOptions { no_mining: true, ..AnvilOptions::default() }).await;
    let dir = tempfile::tempdir().expect("folder");
    let manager = chain.manager(BATCHER, dir.path(), quick()).await;
    let sending = spawn_send(&manager, transfer("first", 5));
    until("the broadcast", async || !pooled(&chain, BATCHER).await.is_empty()).await;
    sending.abort();
    assert!(sending.await.expect_err("aborted").is_cancelled());

    chain.anvil.rpc("anvil_dropAllTransactions", json!([])).await.expect("drop");
    chain.anvil.set_automine(true).await.expect("automine");
    let second = soon("the second", manager.send(transfer("second", 6))).await.expect("confirmed");
    assert_eq!(second.nonce, 1);
    let received = chain.client().balance(Address::repeat_byte(9)).await.expect("balance");
    assert_eq!(received, U256::from(11));
}

#[tokio::test]
async fn a_transaction_that_a_reorg_takes_comes_back() {
    let chain = Chain::start(AnvilOptions { no_mining: true, ..AnvilOptions::default() }).await;
    let dir = tempfile::tempdir().expect("folder");
    let config = TxManagerConfig { confirmations: 3, ..quick() };
    let manager = chain.manager(BATCHER, dir.path(), config).await;
    let request = chain.post(1, vec![blob(1)]);
    let sending = spawn_send(&manager, request.clone());
    until("the broadcast", async || !pooled(&chain, BATCHER).await.is_empty()).await;
    chain.anvil.mine(1).await.expect("mine");
    until("the journal to know", async || manager.in_flight().await.expect("journal").is_empty())
        .await;

    chain.anvil.reorg(1).await.expect("reorg");
    assert_eq!(chain.rollup.batch_count().await.expect("count"), 0);
    until("the broadcast", async || !pooled(&chain, BATCHER).await.is_empty()).await;
    chain.anvil.mine(3).await.expect("mine");
    let confirmed = soon("the confirmation", sending).await.expect("task").expect("confirmed");
    assert_eq!(chain.rollup.batch_count().await.expect("count"), 1);

    // The same after it was confirmed: whoever misses the batch sends the same request again.
    chain.anvil.reorg(4).await.expect("reorg");
    assert_eq!(chain.rollup.batch_count().await.expect("count"), 0);
    let sending = spawn_send(&manager, request);
    until("the broadcast", async || !pooled(&chain, BATCHER).await.is_empty()).await;
    chain.anvil.mine(3).await.expect("mine");
    let again = soon("the confirmation", sending).await.expect("task").expect("confirmed");
    assert_eq!(again.nonce, confirmed.nonce);
    assert_ne!(again.l1.block, confirmed.l1.block);
    assert_eq!(chain.rollup.batch_count().await.expect("count"), 1);
}

#[tokio::test]
async fn a_reorg_that_takes_earlier_transactions_too_leaves_no_nonce_gap() {
    let chain = Chain::start(AnvilOptions::default()).await;
    let dir = tempfile::tempdir().expect("folder");
    let manager = chain.manager(BATCHER, dir.path(), quick()).await;
    for (id, wei) in [("a", 1), ("b", 2)] {
        soon("a transfer", manager.send(transfer(id, wei))).await.expect("confirmed");
    }
    chain.anvil.set_automine(false).await.expect("automine off");
    let sending = spawn_send(&manager, transfer("c", 4));
    until("the broadcast", async || pooled(&chain, BATCHER).await.len() == 1).await;
    chain.anvil.reorg(2).await.expect("reorg");
    assert_eq!(chain.client().nonce(manager.address()).await.expect("nonce"), 0);
    until("everything to be back", async || {
        chain.anvil.mine(1).await.expect("mine");
        chain.client().nonce(manager.address()).await.expect("nonce") == 3
    })
    .await;
    let confirmed = soon("the confirmation", sending).await.expect("task").expect("confirmed");
    assert_eq!(confirmed.nonce, 2);
    let received = chain.client().balance(Address::repeat_byte(9)).await.expect("balance");
    assert_eq!(received, U256::from(7));
}

#[tokio::test]
async fn reverts_are_reported_before_and_after_they_are_paid_for() {
    let chain = Chain::start(AnvilOptions { no_mining: true, ..AnvilOptions::default() }).await;
    let dir = tempfile::tempdir().expect("folder");
    let manager = chain.manager(BATCHER, &dir.path().join("a"), quick()).await;
    let error = manager.send(chain.post(2, vec![blob(1)])).await.expect_err("batch 1 is missing");
    let TxManagerError::WouldRevert { reason, .. } = &error else { panic!("{error:?}") };
    assert_eq!(reason.rollup_error_name(), Some("UnexpectedBatchNumber"));
    let error = manager.send(chain.post(1, vec![])).await.expect_err("no blobs");
    let TxManagerError::WouldRevert { reason, .. } = &error else { panic!("{error:?}") };
    assert_eq!(reason.rollup_error_name(), Some("BlobsMissing"));
    assert_eq!(chain.client().nonce(manager.address()).await.expect("nonce"), 0);
    assert!(manager.in_flight().await.expect("journal").is_empty());

    // It is right when it is signed and wrong when it is included: too little gas.
    let starved = TxRequest { gas_limit: Some(40_000), ..chain.post(1, vec![blob(1)]) };
    let sending = spawn_send(&manager, starved);
    until("the broadcast", async || !pooled(&chain, BATCHER).await.is_empty()).await;
    chain.anvil.mine(1).await.expect("mine");
    let error = soon("the outcome", sending).await.expect("task").expect_err("out of gas");
    let TxManagerError::Reverted { fee_paid, .. } = &error else { panic!("{error:?}") };
    assert!(*fee_paid > U256::ZERO);

    // The id is free again.
    chain.anvil.set_automine(true).await.expect("automine");
    let confirmed = soon("the second try", manager.send(chain.post(1, vec![blob(1)])))
        .await
        .expect("confirmed");
    assert_eq!(confirmed.nonce, 1);
    assert_eq!(chain.rollup.batch_count().await.expect("count"), 1);
}

#[tokio::test]
async fn a_nonce_that_another_transaction_took_is_reported() {
    let chain = Chain::start(AnvilOptions { no_mining: true, ..AnvilOptions::default() }).await;
    let dir = tempfile::tempdir().expect("folder");
    let config = TxManagerConfig { resubmit_after: Duration::from_secs(3600), ..quick() };
    let manager = chain.manager(BATCHER, dir.path(), config).await;
    let sending = spawn_send(&manager, transfer("t", 5));
    until("the broadcast", async || !pooled(&chain, BATCHER).await.is_empty()).await;
    chain.anvil.rpc("anvil_dropAllTransactions", json!([])).await.expect("drop");
    let foreign = json!([{
        "from": manager.address(), "to": Address::repeat_byte(8), "value": "0x1", "nonce": "0x0", "gas": "0x5208",
    }]);
    chain.anvil.rpc("eth_sendTransaction", foreign).await.expect("foreign transaction");
    chain.anvil.mine(1).await.expect("mine");
    let error = soon("the outcome", sending).await.expect("task").expect_err("displaced");
    assert!(matches!(error, TxManagerError::NonceTaken { nonce: 0, .. }), "{error:?}");

    chain.anvil.set_automine(true).await.expect("automine");
    let confirmed =
        soon("the second try", manager.send(transfer("t", 5))).await.expect("confirmed");
    assert_eq!(confirmed.nonce, 1);
}

#[tokio::test]
async fn an_account_that_cannot_pay_is_told_before_anything_is_signed() {
    let chain = Chain::start(AnvilOptions::default()).await;
    let dir = tempfile::tempdir().expect("folder");
    let manager = chain.manager(BATCHER, dir.path(), quick()).await;
    let balance = json!([manager.address(), "0x2386f26fc10000"]);
    chain.anvil.rpc("anvil_setBalance", balance).await.expect("balance");
    let error = manager.send(transfer("t", 10_000_000_000_000_000)).await.expect_err("too poor");
    assert!(matches!(error, TxManagerError::InsufficientBalance { .. }), "{error:?}");
    assert!(manager.in_flight().await.expect("journal").is_empty());

    // Of one with nothing, nodes do not even estimate what blobs take.
    let balance = json!([manager.address(), "0x0"]);
    chain.anvil.rpc("anvil_setBalance", balance).await.expect("balance");
    let error = manager.send(chain.post(1, vec![blob(1)])).await.expect_err("too poor");
    assert!(matches!(error, TxManagerError::InsufficientBalance { .. }), "{error:?}");

    let balance = json!([manager.address(), "0xde0b6b3a7640000"]);
    chain.anvil.rpc("anvil_setBalance", balance).await.expect("balance");
    soon("the second try", manager.send(transfer("t", 10_000_000_000_000_000)))
        .await
        .expect("confirmed");
}

#[tokio::test]
async fn callers_queue_and_an_l1_that_hangs_is_waited_for() {
    let chain = Chain::start(AnvilOptions::default()).await;
    let dir = tempfile::tempdir().expect("folder");
    let hasty =
        ClientOptions { request_timeout: Duration::from_secs(1), retries: 0, ..test_patience() };
    let client = L1Client::new(chain.anvil.url().clone(), hasty).expect("client");
    let manager = TxManager::open(quick(), client.clone(), dev_signer(BATCHER), dir.path(), "test")
        .await
        .expect("transaction manager");
    let sends: Vec<_> =
        (0..5).map(|index| spawn_send(&manager, transfer(&format!("t-{index}"), index))).collect();
    let mut nonces = Vec::new();
    for send in sends {
        nonces.push(soon("a transfer", send).await.expect("task").expect("confirmed").nonce);
    }
    nonces.sort_unstable();
    assert_eq!(nonces, [0, 1, 2, 3, 4]);

    chain.anvil.set_automine(false).await.expect("automine off");
    let sending = spawn_send(&manager, transfer("late", 7));
    until("the broadcast", async || !pooled(&chain, BATCHER).await.is_empty()).await;
    chain.anvil.pause().expect("pause");
    // It may still answer what comes before the signal arrives. The manager looks every 20 ms, so a look of its own hangs in
    // the time that this one takes to fail.
    let hang = async {
        loop {
            if let Err(error) = client.head().await {
                break error;
            }
        }
    };
    let error = soon("the timeout", hang).await;
    assert!(error.is_retryable(), "{error}");
    chain.anvil.resume().expect("resume");
    chain.anvil.mine(1).await.expect("mine");
    let confirmed = soon("the confirmation", sending).await.expect("task").expect("confirmed");
    assert_eq!(confirmed.nonce, 5);
}

/// A transfer that does not wait for those before it.
fn joining(id: &str, wei: u64) -> TxRequest {
    TxRequest { gas_limit: Some(21_000), ..transfer(id, wei) }
}

async fn nonces(chain: &Chain) -> Vec<u64> {
    let mut nonces: Vec<_> =
        pooled(chain, BATCHER).await.into_iter().map(|(nonce, _)| nonce).collect();
    nonces.sort_unstable();
    nonces
}

#[tokio::test]
async fn several_are_in_flight_and_each_caller_learns_of_its_own() {
    let chain = Chain::start(AnvilOptions { no_mining: true, ..AnvilOptions::default() }).await;
    let dir = tempfile::tempdir().expect("folder");
    let config = TxManagerConfig { resubmit_after: Duration::from_secs(3600), ..quick() };
    let manager = chain.manager(BATCHER, dir.path(), config).await;
    let mut sending = Vec::new();
    for index in 0..4_u64 {
        sending.push(spawn_send(&manager, joining(&format!("t-{index}"), 10 + index)));
        until("the broadcast", async || nonces(&chain).await.len() as u64 == index + 1).await;
    }
    assert_eq!(nonces(&chain).await, [0, 1, 2, 3]);
    // One that needs an estimate waits for all of them.
    let waiting = spawn_send(&manager, transfer("waits", 5));
    // Who looks after them may go: another takes over.
    let first = sending.remove(0);
    first.abort();
    chain.anvil.mine(1).await.expect("mine");
    for (sending, nonce) in sending.into_iter().zip(1..) {
        let confirmed = soon("a transfer", sending).await.expect("task").expect("confirmed");
        assert_eq!(confirmed.nonce, nonce);
    }
    until("the one that waited", async || nonces(&chain).await == [4]).await;
    chain.anvil.mine(1).await.expect("mine");
    assert_eq!(soon("it", waiting).await.expect("task").expect("confirmed").nonce, 4);
    // The aborted caller's transaction is there too, under its id.
    let again = soon("the first", manager.send(joining("t-0", 10))).await.expect("confirmed");
    assert_eq!(again.nonce, 0);
    assert_eq!(chain.client().nonce(manager.address()).await.expect("nonce"), 5);
}

#[tokio::test]
async fn a_restart_takes_up_all_that_were_in_flight() {
    let chain = Chain::start(AnvilOptions { no_mining: true, ..AnvilOptions::default() }).await;
    let dir = tempfile::tempdir().expect("folder");
    let manager = chain.manager(BATCHER, dir.path(), quick()).await;
    let mut sending = Vec::new();
    for index in 0..3 {
        sending.push(spawn_send(&manager, joining(&format!("t-{index}"), 1)));
        until("the broadcast", async || nonces(&chain).await.len() == index + 1).await;
    }
    for sending in sending {
        sending.abort();
        let _ = sending.await;
    }
    drop(manager);
    chain.anvil.rpc("anvil_dropAllTransactions", json!([])).await.expect("drop");
    let manager = chain.manager(BATCHER, dir.path(), quick()).await;
    assert_eq!(manager.in_flight().await.expect("journal"), ["t-0", "t-1", "t-2"]);
    // Whoever sends brings them back, lowest nonce first.
    let last = spawn_send(&manager, joining("t-2", 1));
    until("all of them", async || nonces(&chain).await == [0, 1, 2]).await;
    chain.anvil.mine(1).await.expect("mine");
    assert_eq!(soon("the last", last).await.expect("task").expect("confirmed").nonce, 2);
    assert!(manager.in_flight().await.expect("journal").is_empty());
}

#[tokio::test]
async fn what_is_in_flight_is_never_dearer_than_the_account_together() {
    let chain = Chain::start(AnvilOptions { no_mining: true, ..AnvilOptions::default() }).await;
    let dir = tempfile::tempdir().expect("folder");
    let config = TxManagerConfig { resubmit_after: Duration::from_secs(3600), ..quick() };
    let manager = chain.manager(BATCHER, dir.path(), config).await;
    let balance = json!([manager.address(), "0x16345785d8a0000"]);
    chain.anvil.rpc("anvil_setBalance", balance).await.expect("balance");
    // 0.1 ether: it has room for one of these, not for two.
    let first = spawn_send(&manager, joining("first", 60_000_000_000_000_000));
    until("the broadcast", async || nonces(&chain).await == [0]).await;
    let second = manager.send(joining("second", 60_000_000_000_000_000)).await;
    let error = second.expect_err("the account has that much once only");
    assert!(matches!(error, TxManagerError::InsufficientBalance { .. }), "{error:?}");
    let third = spawn_send(&manager, joining("third", 1));
    until("the broadcast", async || nonces(&chain).await == [0, 1]).await;
    chain.anvil.mine(1).await.expect("mine");
    soon("the first", first).await.expect("task").expect("confirmed");
    soon("the third", third).await.expect("task").expect("confirmed");
}

/// A transaction manager whose L1 node is the proxy.
async fn behind(proxy: &FaultProxy, dir: &Path, config: TxManagerConfig) -> TxManager {
    let client = L1Client::new(proxy.url.clone(), test_patience()).expect("client");
    TxManager::open(config, client, dev_signer(BATCHER), dir, "test")
        .await
        .expect("transaction manager")
}

/// Whether a request hands in a transaction of a type, and with a nonce below 128.
fn hands_in(request: &Value, ty: u8, nonce: Option<u64>) -> bool {
    if request["method"] != "eth_sendRawTransaction" {
        return false;
    }
    let raw = request["params"][0].as_str().expect("hexadecimal");
    let raw = alloy::primitives::hex::decode(raw).expect("hexadecimal");
    let tx = TxEnvelope::decode_2718(&mut raw.as_slice());
    raw[0] == ty && nonce.is_none_or(|nonce| tx.is_ok_and(|tx| tx.nonce() == nonce))
}

/// As after a lost journal: the pool has a blob transaction that nobody here knows, and so takes no other kind from the account (as geth, reth and
/// nethermind do).
#[tokio::test]
async fn a_transaction_of_the_other_kind_that_blocks_the_account_is_cancelled() {
    let chain = Chain::start(AnvilOptions { no_mining: true, ..AnvilOptions::default() }).await;
    let [lost, dir] = [(); 2].map(|()| tempfile::tempdir().expect("folder"));
    let before = chain.manager(BATCHER, lost.path(), quick()).await;
    let sending = spawn_send(&before, chain.post(1, vec![blob(1)]));
    until("the broadcast", async || nonces(&chain).await == [0]).await;
    sending.abort();
    drop((before, lost));

    let reserved = Arc::new(AtomicBool::new(true));
    let is_reserved = reserved.clone();
    let proxy = FaultProxy::start_reading(chain.anvil.url().clone(), move |_, request| {
        match is_reserved.load(Ordering::SeqCst) && hands_in(request, 2, None) {
            true => Fault::Error(-32_000, "address already reserved"),
            false => Fault::None,
        }
    })
    .await;
    let manager = behind(&proxy, dir.path(), quick()).await;
    let error = soon("the outcome", manager.send(transfer("t", 5))).await.expect_err("blocked");
    assert!(matches!(error, TxManagerError::Blocked { nonce: 0, .. }), "{error:?}");
    assert_eq!(error.class(), ErrorClass::Retryable);

    let sending = spawn_send(&manager, transfer("t", 5));
    let in_flight = async || manager.in_flight().await.expect("journal");
    until("the cancellation", async || {
        in_flight().await.iter().any(|id| id.starts_with("cancel-"))
    })
    .await;
    let dearer = async || {
        let content = chain.anvil.rpc("txpool_content", json!([])).await.expect("pool");
        content.to_string().contains(&format!("\"to\":\"{:?}\"", manager.address()))
    };
    until("it to replace what blocks", dearer).await;
    chain.anvil.mine(1).await.expect("mine");
    reserved.store(false, Ordering::SeqCst);
    until("the transfer", async || nonces(&chain).await == [1]).await;
    chain.anvil.mine(1).await.expect("mine");
    assert_eq!(soon("it", sending).await.expect("task").expect("confirmed").nonce, 1);
    assert_eq!(chain.rollup.batch_count().await.expect("count"), 0, "the lost one was cancelled");
}

/// Whose nonce nobody would use any more, with others behind it.
#[tokio::test]
async fn a_refused_transaction_leaves_no_nonce_gap() {
    let chain = Chain::start(AnvilOptions { no_mining: true, ..AnvilOptions::default() }).await;
    let dir = tempfile::tempdir().expect("folder");
    // The first answer to the second transaction is lost, so that a third one comes behind it; after that it is refused.
    let seen = AtomicU32::new(0);
    let proxy = FaultProxy::start_reading(chain.anvil.url().clone(), move |_, request| {
        let to_nine = request.to_string().contains("0909090909090909090909090909090909090909");
        if !(hands_in(request, 2, Some(1)) && to_nine) {
            return Fault::None;
        }
        match seen.fetch_add(1, Ordering::SeqCst) {
            0..6 => Fault::Status(503),
            _ => Fault::Error(-32_000, "this sender is not welcome"),
        }
    })
    .await;
    let config = TxManagerConfig { resubmit_after: Duration::from_secs(3600), ..quick() };
    let manager = behind(&proxy, dir.path(), config).await;
    let first = spawn_send(&manager, joining("first", 1));
    until("the first", async || nonces(&chain).await == [0]).await;
    let second = spawn_send(&manager, joining("second", 2));
    let in_flight = async || manager.in_flight().await.expect("journal");
    until("the second", async || in_flight().await.len() == 2).await;
    let third = spawn_send(&manager, joining("third", 3));
    until("the third", async || in_flight().await.iter().any(|id| id == "third")).await;

    let error = soon("the second", second).await.expect("task").expect_err("refused");
    assert!(matches!(error, TxManagerError::Refused { .. }), "{error:?}");
    until("a way past the gap", async || nonces(&chain).await == [0, 1, 2]).await;
    chain.anvil.mine(1).await.expect("mine");
    soon("the first", first).await.expect("task").expect("confirmed");
    assert_eq!(soon("the third", third).await.expect("task").expect("confirmed").nonce, 2);
}

/// Pools keep what comes too early, and take no other kind from the account then.
#[tokio::test]
async fn nothing_is_handed_in_before_what_is_ahead_of_it() {
    let chain = Chain::start(AnvilOptions { no_mining: true, ..AnvilOptions::default() }).await;
    let dir = tempfile::tempdir().expect("folder");
    let (dear, early) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU32::new(0)));
    let (is_dear, handed_in) = (dear.clone(), early.clone());
    let proxy = FaultProxy::start_reading(chain.anvil.url().clone(), move |_, request| {
        if is_dear.load(Ordering::SeqCst) && hands_in(request, 2, Some(0)) {
            return Fault::Error(-32_000, "transaction underpriced");
        }
        if is_dear.load(Ordering::SeqCst) && hands_in(request, 2, Some(1)) {
            handed_in.fetch_add(1, Ordering::SeqCst);
        }
        Fault::None
    })
    .await;
    // No room to raise: the first one waits for L1 to get cheaper.
    let config = TxManagerConfig { max_fee: 30_000_000_000, ..quick() };
    let manager = behind(&proxy, dir.path(), config).await;
    let first = spawn_send(&manager, joining("first", 1));
    let in_flight = async || manager.in_flight().await.expect("journal");
    until("the first", async || in_flight().await.len() == 1).await;
    let second = spawn_send(&manager, joining("second", 2));
    until("the second", async || in_flight().await.len() == 2).await;
    let looks = proxy.requests() + 60;
    until("some looks", async || proxy.requests() > looks).await;
    assert_eq!(early.load(Ordering::SeqCst), 0);
    dear.store(false, Ordering::SeqCst);
    until("both", async || nonces(&chain).await == [0, 1]).await;
    chain.anvil.mine(1).await.expect("mine");
    soon("the first", first).await.expect("task").expect("confirmed");
    soon("the second", second).await.expect("task").expect("confirmed");
}

/// A node that takes no blobs at all: not even what is to use up their nonces.
#[tokio::test]
async fn a_refused_cancellation_is_tried_as_the_other_kind() {
    let chain = Chain::start(AnvilOptions { no_mining: true, ..AnvilOptions::default() }).await;
    let dir = tempfile::tempdir().expect("folder");
    let proxy = FaultProxy::start_reading(chain.anvil.url().clone(), |_, request| {
        match hands_in(request, 3, None) {
            true => Fault::Error(-32_000, "transaction type not supported"),
            false => Fault::None,
        }
    })
    .await;
    let manager = behind(&proxy, dir.path(), quick()).await;
    let post = |number| TxRequest { gas_limit: Some(250_000), ..chain.post(number, vec![blob(1)]) };
    manager.begin(post(1)).await.expect("journaled");
    manager.begin(post(2)).await.expect("journaled");
    let error = soon("the first", manager.send(post(1))).await.expect_err("refused");
    assert!(matches!(error, TxManagerError::Refused { .. }), "{error:?}");
    let second = spawn_send(&manager, post(2));
    until("the plain cancellation", async || nonces(&chain).await == [0]).await;
    chain.anvil.mine(1).await.expect("mine");
    let error = soon("the second", second).await.expect("task").expect_err("refused too");
    assert!(matches!(error, TxManagerError::Refused { .. }), "{error:?}");
    let plain = spawn_send(&manager, transfer("plain", 5));
    until("what comes after", async || nonces(&chain).await == [1]).await;
    chain.anvil.mine(1).await.expect("mine");
    assert_eq!(soon("it", plain).await.expect("task").expect("confirmed").nonce, 1);
}

//! The transaction manager on bad days, on anvil.

mod common;

use std::time::Duration;

use alloy::primitives::{Address, U256};
use common::{BATCHER, Chain, blob, quick, soon, until};
use millrace_l1::{
    ClientOptions, L1Client, TxManager, TxManagerConfig, TxManagerError, TxRequest,
    testing::{AnvilOptions, dev_signer, test_patience},
};
use serde_json::json;

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
    assert!((2_000_000_000..3_900_000_000).contains(&offer), "{offer}");
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

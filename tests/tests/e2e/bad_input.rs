//! Malformed, oversize, foreign, unsigned and duplicate input on gRPC and JSON-RPC: the documented error, and nothing lost.

use alloy::{
    consensus::{SignableTransaction, TxEip1559, TxEip4844, TxEnvelope, TxLegacy},
    eips::Encodable2718,
    network::TxSignerSync,
    primitives::{Address, B256, Bytes, TxKind, U256},
    providers::Provider,
    signers::local::PrivateKeySigner,
};
use eyre::{Result, bail, ensure};
use millrace_proto::{Stage, SubmitError, TxPool};
use millrace_tests::{Chain, ChainOptions, Wallet, dev_key, fresh_address};
use serde_json::json;

const FEE: u128 = 10_000_000_000;

fn transfer(chain_id: u64, nonce: u64) -> TxEip1559 {
    TxEip1559 {
        chain_id,
        nonce,
        gas_limit: 21_000,
        max_fee_per_gas: FEE,
        to: TxKind::Call(Address::repeat_byte(1)),
        value: U256::from(1),
        ..TxEip1559::default()
    }
}

fn sign(key: &PrivateKeySigner, mut tx: TxEip1559) -> Result<Bytes> {
    let signature = key.sign_transaction_sync(&mut tx)?;
    Ok(TxEnvelope::from(tx.into_signed(signature)).encoded_2718().into())
}

/// Every bad input with the reason that it must be refused for.
fn cases(chain_id: u64) -> Result<Vec<(&'static str, Bytes)>> {
    let key = dev_key(5);
    let good = sign(&key, transfer(chain_id, 0))?;
    let mut high_s = good.to_vec();
    let at = high_s.len() - 32;
    // n - s is the other, malleable form of the same signature.
    let n = U256::from_be_bytes(alloy::primitives::hex!(
        "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141"
    ));
    let s = U256::from_be_slice(&high_s[at..]);
    high_s[at..].copy_from_slice(&(n - s).to_be_bytes::<32>());

    let mut legacy = TxLegacy {
        chain_id: None,
        nonce: 0,
        gas_price: FEE,
        gas_limit: 21_000,
        to: TxKind::Call(Address::ZERO),
        ..TxLegacy::default()
    };
    let signature = key.sign_transaction_sync(&mut legacy)?;
    let unprotected = TxEnvelope::from(legacy.into_signed(signature)).encoded_2718();

    let mut blob = TxEip4844 {
        chain_id,
        gas_limit: 21_000,
        max_fee_per_gas: FEE,
        max_fee_per_blob_gas: FEE,
        blob_versioned_hashes: vec![B256::with_last_byte(1)],
        ..TxEip4844::default()
    };
    let signature = key.sign_transaction_sync(&mut blob)?;
    let blob = TxEnvelope::from(blob.into_signed(signature)).encoded_2718();

    Ok(vec![
        ("BAD_ENCODING", Bytes::new()),
        ("BAD_ENCODING", Bytes::from_static(b"\x02garbage")),
        ("BAD_ENCODING", good[..good.len() - 1].to_vec().into()),
        ("BAD_ENCODING", [&good[..], &[0]].concat().into()),
        ("OVERSIZE", vec![2; 200_000].into()),
        ("UNSUPPORTED_TYPE", blob.into()),
        ("WRONG_CHAIN_ID", sign(&key, transfer(1, 0))?),
        ("UNPROTECTED", unprotected.into()),
        ("BAD_SIGNATURE", high_s.into()),
        ("NONCE_TOO_FAR", sign(&key, transfer(chain_id, 10_000))?),
        ("INSUFFICIENT_FUNDS", sign(&PrivateKeySigner::random(), transfer(chain_id, 0))?),
        ("FEE_BELOW_FLOOR", sign(&key, TxEip1559 { max_fee_per_gas: 1, ..transfer(chain_id, 0) })?),
        (
            "TIP_ABOVE_MAX_FEE",
            sign(&key, TxEip1559 { max_priority_fee_per_gas: FEE + 1, ..transfer(chain_id, 0) })?,
        ),
        (
            "GAS_OVER_LIMIT",
            sign(&key, TxEip1559 { gas_limit: 900_000_000, ..transfer(chain_id, 0) })?,
        ),
        ("INTRINSIC_GAS", sign(&key, TxEip1559 { gas_limit: 20_999, ..transfer(chain_id, 0) })?),
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_gets_its_documented_error_and_harms_nothing() -> Result<()> {
    let chain = Chain::start(ChainOptions::default()).await?;
    let client = chain.sequencer()?;
    let provider = chain.provider();
    let mut wallet = Wallet::new(dev_key(0), chain.provider()).await?;
    let to = fresh_address();
    let before = wallet.transfer(to, U256::from(1)).await?;
    for (reason, raw) in cases(chain.ready().chain_id)? {
        match client.submit(raw.clone()).await {
            Err(SubmitError::Rejected(got)) => {
                ensure!(got.code() == reason, "gRPC: {reason} expected, got {}: {got}", got.code());
            }
            other => bail!("gRPC: {reason} expected, got {other:?}"),
        }
        let Err(error) = provider.send_raw_transaction(&raw).await else {
            bail!("JSON-RPC took what must be refused for {reason}");
        };
        let Some(payload) = error.as_error_resp() else { bail!("JSON-RPC: {reason}: {error}") };
        let data: serde_json::Value = payload.try_data_as().unwrap_or(Ok(json!(null)))?;
        ensure!(data["reason"] == reason, "JSON-RPC: {reason} expected, got {payload:?}");
    }
    // The same transaction twice.
    let (raw, hash) = wallet.sign(to.into(), U256::from(2), Bytes::new(), 21_000);
    ensure!(client.submit(raw.clone()).await? == hash);
    match client.submit(raw).await {
        Err(SubmitError::Rejected(got)) => {
            ensure!(matches!(got.code(), "ALREADY_KNOWN" | "NONCE_TOO_LOW"), "{got}");
        }
        other => bail!("a duplicate gave {other:?}"),
    }
    for hash in [before, hash] {
        chain.wait_for(hash, Stage::Sequenced).await?;
    }
    ensure!(provider.get_balance(to).await? == U256::from(3));
    ensure!(!chain.log_contains("panicked")?, "{}", chain.log());
    Ok(())
}

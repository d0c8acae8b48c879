//! A transaction without a journal, for set-up work that a person watches.

use std::time::{Duration, Instant};

use alloy::{
    primitives::{Bytes, TxKind, U64, U256},
    rpc::types::{TransactionReceipt, TransactionRequest},
};

use super::{
    TxManagerConfig,
    fees::{Fees, Market},
    signed::Unsigned,
};
use crate::{L1Client, L1Error, L1Signer, revert::RevertReason};

/// Signs and sends a transaction, and waits until it is in a block.
pub(crate) async fn submit_once(
    client: &L1Client,
    signer: &L1Signer,
    to: TxKind,
    input: Bytes,
    patience: Duration,
) -> Result<TransactionReceipt, L1Error> {
    let call = if to.is_create() { "the constructor" } else { "the contract" };
    let mut request =
        TransactionRequest::default().from(signer.address()).input(input.clone().into());
    request.to = Some(to);
    let gas = match client.request::<_, U64>("eth_estimateGas", (request,)).await {
        Ok(gas) => gas.to::<u64>(),
        Err(error) => {
            return Err(match error.revert_data() {
                Some(data) => L1Error::Reverted { call, reason: RevertReason::new(data) },
                None => error,
            });
        }
    };
    let config = TxManagerConfig::default();
    let fees = Fees::first(&Market::read(client, false).await?, false, &config);
    let unsigned = Unsigned {
        chain_id: client.chain_id().await?,
        nonce: client.nonce(signer.address()).await?,
        gas_limit: gas.saturating_mul(config.gas_percent) / 100,
        to,
        value: U256::ZERO,
        input,
        blob_hashes: Vec::new(),
    };
    let attempt = unsigned
        .sign(fees, signer)
        .await
        .map_err(|error| L1Error::InvalidRequest(format!("cannot sign: {error}")))?;
    client.send_raw_transaction(&attempt.raw).await?;

    let started = Instant::now();
    let poll = client.options().poll_interval.min(Duration::from_secs(1));
    loop {
        if let Some(receipt) = client.receipt(attempt.hash).await? {
            if receipt.status() {
                return Ok(receipt);
            }
            return Err(L1Error::Reverted { call, reason: RevertReason::new(Bytes::new()) });
        }
        if started.elapsed() > patience {
            return Err(L1Error::Timeout {
                what: format!("transaction {}", attempt.hash),
                waited: started.elapsed(),
            });
        }
        tokio::time::sleep(poll).await;
    }
}

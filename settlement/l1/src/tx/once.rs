//! Transactions without a journal, for work that a person watches.

use std::time::{Duration, Instant};

use alloy::{
    primitives::{Address, Bytes, TxKind, U64, U256},
    rpc::types::{TransactionReceipt, TransactionRequest},
};

use super::{
    TxManagerConfig,
    drive::is_known,
    fees::{Fees, Market},
    signed::Unsigned,
};
use crate::{L1Client, L1Error, L1Signer, revert::RevertReason};

/// What is sent once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OneCall {
    /// The contract or account; none makes a contract.
    pub to: Option<Address>,
    /// Wei sent along.
    pub value: U256,
    /// The call's input, or the contract's creation code.
    pub input: Bytes,
    /// Most gas that it may use; the node's estimate and some more if there is none, which a call that rests on one before it in
    /// the same go cannot have.
    pub gas_limit: Option<u64>,
}

impl OneCall {
    /// A call without ether.
    pub fn new(to: Address, input: impl Into<Bytes>) -> Self {
        Self { to: Some(to), value: U256::ZERO, input: input.into(), gas_limit: None }
    }

    /// A new contract.
    pub fn create(code: impl Into<Bytes>) -> Self {
        Self { to: None, value: U256::ZERO, input: code.into(), gas_limit: None }
    }

    fn to(&self) -> TxKind {
        self.to.map_or(TxKind::Create, TxKind::Call)
    }

    const fn name(&self) -> &'static str {
        if self.to.is_some() { "the contract" } else { "the constructor" }
    }
}

/// Signs and sends a transaction, and waits until it is in a block.
///
/// # Errors
/// [`L1Error::Reverted`] if it reverts, or would: it is not sent then. [`L1Error::Timeout`] if it is in no block after `patience`; it may
/// still come.
pub async fn submit_once(
    client: &L1Client,
    signer: &L1Signer,
    call: OneCall,
    patience: Duration,
) -> Result<TransactionReceipt, L1Error> {
    let account = signer.address();
    let nonce = client.nonce(account).await?;
    let next = client.pending_nonce(account).await?;
    if next > nonce {
        return Err(L1Error::InvalidRequest(format!(
            "{account} has {} transactions that wait to be in a block, one of which this would replace; try again once they are",
            next - nonce
        )));
    }
    let mut receipts = submit_all(client, signer, nonce, vec![call], patience).await?;
    receipts
        .pop()
        .ok_or_else(|| L1Error::Inconsistent("a transaction without a receipt".to_owned()))
}

/// Signs and sends transactions one behind the other, from a nonce on, and waits until all are in blocks.
pub(crate) async fn submit_all(
    client: &L1Client,
    signer: &L1Signer,
    first_nonce: u64,
    calls: Vec<OneCall>,
    patience: Duration,
) -> Result<Vec<TransactionReceipt>, L1Error> {
    let config = TxManagerConfig::default();
    let fees = Fees::first(&Market::read(client, false).await?, false, &config);
    let chain_id = client.chain_id().await?;
    let mut sent = Vec::with_capacity(calls.len());
    for (nonce, call) in (first_nonce..).zip(calls) {
        let gas_limit = match call.gas_limit {
            Some(gas_limit) => gas_limit,
            None => {
                estimate(client, signer.address(), &call).await?.saturating_mul(config.gas_percent)
                    / 100
            }
        };
        let name = call.name();
        let unsigned = Unsigned {
            chain_id,
            nonce,
            gas_limit,
            to: call.to(),
            value: call.value,
            input: call.input,
            blob_hashes: Vec::new(),
        };
        let attempt = unsigned
            .sign(fees, signer)
            .await
            .map_err(|error| L1Error::InvalidRequest(format!("cannot sign: {error}")))?;
        match client.send_raw_transaction(&attempt.raw).await {
            // By a try whose answer was lost.
            Err(error) if is_known(&error) => {}
            sent => drop(sent?),
        }
        sent.push((attempt.hash, name));
    }
    let started = Instant::now();
    let poll = client.options().poll_interval.min(Duration::from_secs(1));
    let mut receipts = Vec::with_capacity(sent.len());
    for (hash, name) in sent {
        loop {
            let receipt = match client.receipt(hash).await {
                Err(error) if !error.is_retryable() => return Err(error),
                // It is sent, and may be in a block, whether the node tells or not.
                answer => answer.ok().flatten(),
            };
            if let Some(receipt) = receipt {
                if !receipt.status() {
                    let reason = RevertReason::new(Bytes::new());
                    return Err(L1Error::Reverted { call: name, reason });
                }
                receipts.push(receipt);
                break;
            }
            if started.elapsed() > patience {
                let what = format!("transaction {hash}");
                return Err(L1Error::Timeout { what, waited: started.elapsed() });
            }
            tokio::time::sleep(poll).await;
        }
    }
    Ok(receipts)
}

/// Gas that a call takes now.
async fn estimate(client: &L1Client, from: Address, call: &OneCall) -> Result<u64, L1Error> {
    let mut request =
        TransactionRequest::default().from(from).value(call.value).input(call.input.clone().into());
    request.to = Some(call.to());
    match client.request::<_, U64>("eth_estimateGas", (request,)).await {
        Ok(gas) => Ok(gas.to::<u64>()),
        Err(error) => Err(match error.revert_data() {
            Some(data) => L1Error::Reverted { call: call.name(), reason: RevertReason::new(data) },
            None => error,
        }),
    }
}

//! A chain whose fee floor asks for data: what L1 asks comes to admission, and clients that know nothing of it pay.

use alloy::{
    network::TransactionBuilder,
    primitives::U256,
    providers::{Provider, ProviderBuilder, RootProvider},
    rpc::types::TransactionRequest,
};
use eyre::{Result, ensure, eyre};
use millrace_tests::{Chain, ChainOptions, Follower, dev_key, eventually, fresh_address};
use serde_json::{Value, json};

/// The fees of a transfer, once data costs something.
async fn fees(provider: &RootProvider) -> Result<Value> {
    let transfer = json!({ "from": dev_key(3).address(), "to": fresh_address(), "value": "0x1" });
    let fees: Value = provider.raw_request("millrace_estimateFees".into(), (transfer,)).await?;
    Ok(fees)
}

#[tokio::test(flavor = "multi_thread")]
async fn data_is_paid_for_by_clients_that_know_nothing_of_it() -> Result<()> {
    let options = ["--data-fee-percent", "100", "--order", "priority_fee"];
    let chain = Chain::start(ChainOptions::default().args(options)).await?;
    let follower = Follower::start(chain.ready(), Some(&chain.ready().grpc), &[]).await?;
    for provider in [chain.provider(), follower.provider()] {
        let fees = eventually("a price of data", async || {
            let fees = fees(&provider).await?;
            Ok((fees["dataFee"] != "0x0").then_some(fees))
        })
        .await?;
        ensure!(fees["gas"] == "0x5208" && fees["dataBytes"] == "0x64", "{fees}");
    }

    // Over the sequencer and over a full node, with the fees that the client finds by itself.
    for client in [chain.provider(), follower.provider()] {
        let wallet = ProviderBuilder::new().wallet(dev_key(3)).connect_provider(client);
        let transfer =
            TransactionRequest::default().with_to(fresh_address()).with_value(U256::from(1));
        let receipt = wallet.send_transaction(transfer.clone()).await?.get_receipt().await?;
        ensure!(receipt.status());
        let cheap = transfer.with_max_fee_per_gas(10_000_000_000).with_max_priority_fee_per_gas(1);
        let Err(refused) = wallet.send_transaction(cheap).await else {
            return Err(eyre!("a priority fee of 1 wei pays for no data"));
        };
        let error = refused.as_error_resp().ok_or_else(|| eyre!("no answer: {refused}"))?;
        let told = "transaction underpriced: gas tip cap 1, minimum needed";
        ensure!(error.message.starts_with(told), "{error}");
        let data: Value =
            serde_json::from_str(error.data.as_ref().ok_or_else(|| eyre!("no data"))?.get())?;
        ensure!(data["reason"] == "TIP_BELOW_FLOOR", "{data}");
    }
    Ok(())
}

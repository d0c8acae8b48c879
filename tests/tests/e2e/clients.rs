//! The clients that people use, unchanged, against a running chain.

use eyre::{Result, ensure};
use millrace_tests::{Chain, ChainOptions, Wallet, cast, dev_key, node_client, python_client};

fn key(index: u32) -> String {
    dev_key(index).to_bytes().to_string()
}

/// Each client with an account of its own, all at once on one chain.
#[tokio::test(flavor = "multi_thread")]
async fn ethers_viem_web3_cast_and_grpc_work() -> Result<()> {
    let chain = Chain::start(ChainOptions::default()).await?;
    let rpc = chain.ready().rpc.to_string();
    let rpc = rpc.trim_end_matches('/');
    let chain_id = chain.ready().chain_id.to_string();
    let nonce = Wallet::new(dev_key(4), chain.provider()).await?.nonce().to_string();
    let keys: Vec<_> = (0..6).map(key).collect();
    let ethers_args = [rpc, &keys[0]];
    let viem_args = [rpc, &keys[1]];
    let web3_args = [rpc, &keys[2]];
    let contract_args = [rpc, &keys[3]];
    let grpc_args = [chain.ready().grpc.as_str(), &keys[4], &chain_id, "40", &nonce];
    let (ethers, viem, contracts, web3, grpc, cast) = tokio::join!(
        node_client("ethers.mjs", &ethers_args),
        node_client("viem.mjs", &viem_args),
        node_client("contracts.mjs", &contract_args),
        python_client("web3_client.py", &web3_args),
        python_client("grpc_client.py", &grpc_args),
        cast_session(rpc, &keys[5]),
    );
    for (client, output) in [
        ("ethers", ethers),
        ("viem", viem),
        ("contracts", contracts),
        ("web3.py", web3),
        ("gRPC", grpc),
    ] {
        let output = output.map_err(|error| error.wrap_err(client))?;
        ensure!(output.last_json()?["ok"] == true, "{client}: {}", output.stdout);
    }
    cast.map_err(|error| error.wrap_err("cast"))
}

/// transfer, deploy, call, revert with reason, logs, fee estimate, receipt.
async fn cast_session(rpc: &str, key: &str) -> Result<()> {
    let on = ["--rpc-url", rpc];
    let to = "0x00000000000000000000000000000000000000aa";
    let transfer =
        cast(&["send", on[0], on[1], "--private-key", key, to, "--value", "1gwei", "--json"])
            .await?;
    let receipt: serde_json::Value = serde_json::from_str(&transfer)?;
    ensure!(receipt["status"] == "0x1" && receipt["gasUsed"] == "0x5208", "{transfer}");
    ensure!(cast(&["balance", on[0], on[1], to]).await? == "1000000000");
    ensure!(cast(&["gas-price", on[0], on[1]]).await?.parse::<u128>()? > 0);

    // Logs, or reverts with a reason when it is called with data: hand-written, so that it needs no compiler.
    // Without data: LOG1 with topic 0x2a, STOP. With data: REVERT with Error("no").
    let error = format!("08c379a0{}", "00".repeat(28));
    let no = format!("6e6f{}", "00".repeat(30));
    let runtime = format!(
        "36600c57602a60006000a1005b7f{error}60005260206004526002602452 7f{no}60445260646000fd"
    )
    .replace(' ', "");
    let size = runtime.len() / 2;
    let init = format!("0x60{size:02x}600c60003960{size:02x}6000f3{runtime}");
    let deployed =
        cast(&["send", on[0], on[1], "--private-key", key, "--json", "--create", &init]).await?;
    let deployed: serde_json::Value = serde_json::from_str(&deployed)?;
    let contract = deployed["contractAddress"].as_str().unwrap_or_default().to_owned();
    ensure!(cast(&["code", on[0], on[1], &contract]).await?.len() > 2, "no code at {contract}");

    let called = cast(&["send", on[0], on[1], "--private-key", key, "--json", &contract]).await?;
    let called: serde_json::Value = serde_json::from_str(&called)?;
    ensure!(
        called["status"] == "0x1" && called["logs"].as_array().is_some_and(|logs| logs.len() == 1),
        "{called}"
    );
    let block = called["blockNumber"].as_str().unwrap_or_default().to_owned();
    let logs =
        cast(&["logs", on[0], on[1], "--address", &contract, "--from-block", &block, "--json"])
            .await?;
    ensure!(logs.contains(&contract.to_lowercase()), "{logs}");
    ensure!(cast(&["estimate", on[0], on[1], &contract]).await?.parse::<u64>()? > 21_000);
    let reverted = cast(&["call", on[0], on[1], &contract, "0x01"]).await;
    let message = format!("{:?}", reverted.err());
    ensure!(message.contains("no") && message.contains("revert"), "{message}");
    Ok(())
}

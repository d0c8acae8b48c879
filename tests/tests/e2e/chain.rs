//! The whole chain, from submission to finality and back from L1: on the embedded L1, on anvil, and with batches in every place
//! where they can be.

use alloy::{
    primitives::{U256, utils::parse_ether},
    providers::{Provider, ProviderBuilder},
};
use eyre::{Result, WrapErr, ensure, eyre};
use millrace_da_adapter::{
    alt_da_server::{AltDaFault, AltDaServer},
    celestia_server::CelestiaServer,
};
use millrace_l1::Rollup;
use millrace_proto::Stage;
use millrace_tests::{
    BlobArchive, Chain, ChainOptions, Ready, Wallet, anvil, cast, dev_key, eventually,
    fresh_address, l1_accounts, millrace, run, verify,
};
use serde_json::Value;

/// A `cast send` shows its receipt, gets to `FINALIZED`; a deposit arrives; L1 alone gives the same chain.
async fn lives(chain: &Chain, verify_args: &[&str]) -> Result<()> {
    let ready = chain.ready();
    let to = fresh_address();
    let key = dev_key(0).to_bytes().to_string();
    let sent = cast(&[
        "send",
        "--json",
        "--rpc-url",
        ready.rpc.as_str(),
        "--private-key",
        &key,
        &to.to_string(),
        "--value",
        "1ether",
    ])
    .await?;
    let receipt: Value = serde_json::from_str(&sent)?;
    ensure!(receipt["status"] == "0x1", "cast's receipt: {sent}");
    let hash =
        receipt["transactionHash"].as_str().ok_or_else(|| eyre!("no hash: {sent}"))?.parse()?;

    let finalized = chain.wait_for(hash, Stage::Finalized).await?;
    let inclusion = finalized.inclusion.ok_or_else(|| eyre!("finalized without a block"))?;
    ensure!(finalized.batch.is_some() && finalized.l1.is_some(), "finalized without its batch");
    let provider = chain.provider();
    let tagged = provider
        .get_block(alloy::eips::BlockId::finalized())
        .await?
        .ok_or_else(|| eyre!("no finalized block"))?;
    ensure!(
        tagged.header.number >= inclusion.block.number,
        "the finalized tag lags behind the stage"
    );

    deposit_arrives(chain).await?;

    let summary = verify(ready, verify_args).await?;
    ensure!(summary["ok"] == true, "{summary}");
    ensure!(summary["transactions"].as_u64() > Some(0), "{summary}");
    let head = summary["head"]["number"].as_u64().ok_or_else(|| eyre!("{summary}"))?;
    ensure!(head >= inclusion.block.number, "{summary}");
    let ours = provider
        .get_block_by_number(head.into())
        .await?
        .ok_or_else(|| eyre!("the sequencer has no block {head}"))?;
    ensure!(summary["head"]["hash"] == ours.header.hash.to_string(), "{summary}");
    Ok(())
}

/// Ether locked on L1 is minted on L2.
async fn deposit_arrives(chain: &Chain) -> Result<()> {
    let l1 = ProviderBuilder::new().wallet(dev_key(1)).connect_http(chain.ready().l1.clone());
    let to = fresh_address();
    let value = parse_ether("2.5")?;
    let receipt = Rollup::new(chain.ready().rollup, l1)
        .depositETH(to)
        .value(value)
        .send()
        .await?
        .get_receipt()
        .await?;
    ensure!(receipt.status(), "the deposit failed on L1");
    let provider = chain.provider();
    eventually("the deposit on L2", || async {
        Ok((provider.get_balance(to).await? == value).then_some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn lives_on_the_embedded_l1() -> Result<()> {
    let chain = Chain::start(ChainOptions::default()).await?;
    lives(&chain, &[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn lives_on_anvil() -> Result<()> {
    let anvil = anvil(2)?;
    let chain = Chain::start(ChainOptions::default().on(anvil.url().clone())).await?;
    lives(&chain, &[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn lives_with_batches_on_an_object_store() -> Result<()> {
    let chain = Chain::start(ChainOptions::default().args(["--da", "object_store"])).await?;
    let store = chain.ready().da_store.clone().ok_or_else(|| eyre!("no object store is told"))?;
    lives(&chain, &[]).await?;

    // Who keeps the batches has signed that they are there; and is held to it.
    let mut arguments = vec!["da".to_owned(), "attestation".to_owned(), "1".to_owned()];
    arguments.extend(chain.ready().options());
    arguments.extend(["--json", "--da-store", store.as_str()].map(String::from));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let told = run(&millrace()?, &arguments).await?.success()?.last_json()?;
    ensure!(told["signer"] == serde_json::json!(l1_accounts()[0]), "{told}");
    let digest = told["attestation"]["digest"].as_str().ok_or_else(|| eyre!("{told}"))?;
    let batch = chain.ready().data_dir.join("da").join(digest.trim_start_matches("0x"));
    std::fs::remove_file(&batch).wrap_err_with(|| format!("{}", batch.display()))?;
    let told = run(&millrace()?, &arguments).await?;
    ensure!(told.code == Some(1) && told.stderr.contains("attests batch 1, but"), "{told:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn lives_with_batches_in_calldata() -> Result<()> {
    let chain = Chain::start(ChainOptions::default().args(["--da", "l1_calldata"])).await?;
    lives(&chain, &[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn lives_with_batches_on_an_alt_da_server() -> Result<()> {
    let server = AltDaServer::start().await?;
    let url = server.url();
    let options = ChainOptions::default().args(["--da", "alt_da", "--alt-da", url.as_str()]);
    let chain = Chain::start(options).await?;
    lives(&chain, &["--alt-da", url.as_str()]).await?;
    ensure!(!server.is_empty(), "no batch is there");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn lives_with_batches_on_celestia() -> Result<()> {
    let node = CelestiaServer::start(Some("secret")).await?;
    let folder = tempfile::tempdir()?;
    let token = folder.path().join("token");
    std::fs::write(&token, "secret\n")?;
    let (url, token) = (node.url().to_string(), token.display().to_string());
    let place = ["--celestia", &url, "--celestia-token", &token];
    let options = ChainOptions::default().args(["--da", "celestia"]).args(place);
    lives(&Chain::start(options).await?, &place).await?;
    ensure!(node.height() > 0, "no batch is there");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn lives_with_batches_of_state_diffs() -> Result<()> {
    let options = ChainOptions::default().args(["--batch-payload", "state-diffs"]);
    let chain = Chain::start(options).await?;
    lives(&chain, &[]).await?;
    // The replica that was begun from diffs goes on from them, and what blocks changed is batched after a restart too.
    let mut chain = chain;
    let status = chain.interrupt().await?;
    ensure!(status.code() == Some(0), "exit {status}; the log:\n{}", chain.log());
    let chain = chain.restart().await?;
    lives(&chain, &[]).await?;
    let verified = verify(chain.ready(), &[]).await?;
    ensure!(verified["payload"] == "stateDiffs", "{verified}");
    ensure!(!chain.log_contains("cannot be named")?, "the log:\n{}", chain.log());
    Ok(())
}

/// Nobody who sends transactions notices, and whoever verifies reads both places.
#[tokio::test(flavor = "multi_thread")]
async fn a_da_layer_that_goes_away_is_left_for_the_next() -> Result<()> {
    let server = AltDaServer::start().await?;
    let url = server.url();
    let da = ["--da", "alt_da,l1_blob", "--alt-da", url.as_str()];
    let chain = Chain::start(ChainOptions::default().args(da)).await?;
    let mut wallet = Wallet::new(dev_key(0), chain.provider()).await?;
    let hash = wallet.transfer(fresh_address(), U256::from(1)).await?;
    chain.wait_for(hash, Stage::Finalized).await?;
    let there = server.len();
    ensure!(there > 0, "no batch is there");

    server.set_fault(Some(AltDaFault::Status(503)));
    let hash = wallet.transfer(fresh_address(), U256::from(2)).await?;
    chain.wait_for(hash, Stage::Finalized).await?;
    let url = chain.ready().metrics.da_adapter.clone();
    let page = reqwest::get(url).await?.error_for_status()?.text().await?;
    let used = page.lines().any(|line| {
        line.starts_with("millrace_da_backend_in_use{")
            && line.contains(r#"backend="l1_blob""#)
            && line.ends_with(" 1")
    });
    ensure!(used, "blobs are not in use:\n{page}");
    server.set_fault(None);
    let verified = verify(chain.ready(), &["--alt-da", server.url().as_str()]).await?;
    ensure!(verified["ok"] == true, "{verified}");
    Ok(())
}

/// Whoever comes when the beacon nodes have dropped the blobs needs the archive, and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn the_archive_has_what_beacon_nodes_have_dropped() -> Result<()> {
    let archive = BlobArchive::new()?;
    let chain = Chain::start(ChainOptions::default().args(archive.options())).await?;
    let mut wallet = Wallet::new(dev_key(0), chain.provider()).await?;
    let hash = wallet.transfer(fresh_address(), U256::from(1)).await?;
    chain.wait_for(hash, Stage::Finalized).await?;
    archive.complete(chain.ready()).await?;

    // A beacon API that has no blobs of this chain.
    let empty = anvil(2)?;
    let late = Ready { beacon: empty.url().clone(), ..chain.ready().clone() };
    let verified = verify(&late, &archive.options()).await?;
    ensure!(verified["ok"] == true && verified["batches"].as_u64() > Some(0), "{verified}");
    ensure!(verified["head"] == verify(chain.ready(), &[]).await?["head"], "{verified}");

    let options = late.options();
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let without = run(&millrace()?, &[&["verify"], &options[..]].concat()).await?;
    ensure!(without.code == Some(1), "{without:?}");
    let told = without.stderr.contains("the beacon node does not have blob");
    ensure!(told && without.stderr.contains("`--archive`"), "{}", without.stderr);
    Ok(())
}

async fn raw(
    chain: &Chain,
    method: &'static str,
    parameters: impl alloy::rpc::json_rpc::RpcSend,
) -> Result<Value> {
    Ok(chain.provider().raw_request(method.into(), parameters).await?)
}

/// JSON-RPC tells every stage of a final transaction, with its block, batch and L1 transactions.
async fn stages_are_told(chain: &Chain, hash: alloy::primitives::B256) -> Result<()> {
    let life = raw(chain, "millrace_getTransactionStatus", (hash,)).await?;
    ensure!(life["transactionHash"] == hash.to_string() && life["stage"] == "FINALIZED", "{life}");
    let stages = life["stages"].as_array().ok_or_else(|| eyre!("no stages: {life}"))?;
    let names: Vec<_> = stages.iter().filter_map(|stage| stage["stage"].as_str()).collect();
    ensure!(names == ["ACCEPTED", "SEQUENCED", "POSTED", "COMMITTED", "FINALIZED"], "{life}");
    let receipt = chain.provider().get_transaction_receipt(hash).await?;
    let receipt = receipt.ok_or_else(|| eyre!("no receipt of {hash}"))?;
    let number = format!("{:#x}", receipt.block_number.unwrap_or_default());
    for (index, stage) in stages.iter().enumerate() {
        let is_in_block = stage["blockNumber"] == number.as_str();
        ensure!(is_in_block == (index >= 1), "{stage}");
        let on_l1 = stage["l1TransactionHash"].is_string() && stage["batch"].is_string();
        ensure!(on_l1 == (index >= 2), "{stage}");
        if let Some(l1) = stage["l1TransactionHash"].as_str() {
            let mined = chain.l1_provider().get_transaction_receipt(l1.parse()?).await?;
            let mined = mined.ok_or_else(|| eyre!("L1 does not have {l1}"))?;
            let block = format!("{:#x}", mined.block_number.unwrap_or_default());
            ensure!(stage["l1BlockNumber"] == block.as_str(), "{stage}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_drains_and_a_second_start_resumes() -> Result<()> {
    let mut chain = Chain::start(ChainOptions::default()).await?;
    let mut wallet = Wallet::new(dev_key(0), chain.provider()).await?;
    let to = fresh_address();
    let hash = wallet.transfer(to, U256::from(1)).await?;
    chain.wait_for(hash, Stage::Sequenced).await?;
    // Accepted, and perhaps not yet in a block when the signal comes.
    let last = wallet.transfer(to, U256::from(2)).await?;
    let status = chain.interrupt().await?;
    ensure!(status.code() == Some(0), "exit {status}; the log:\n{}", chain.log());

    let chain = chain.restart().await?;
    chain.wait_for(last, Stage::Sequenced).await?;
    let provider = chain.provider();
    ensure!(provider.get_balance(to).await? == U256::from(3), "balance after the restart");
    wallet.reconnect(chain.provider());
    let after = wallet.transfer(to, U256::from(4)).await?;
    chain.wait_for(after, Stage::Finalized).await?;
    let earlier = chain.wait_for(hash, Stage::Finalized).await?;
    ensure!(earlier.batch.is_some(), "a transaction from before the restart has its batch");
    for hash in [hash, after] {
        stages_are_told(&chain, hash).await?;
    }
    let unknown = (alloy::primitives::B256::ZERO,);
    let unknown: Value = raw(&chain, "millrace_getTransactionStatus", unknown).await?;
    ensure!(unknown.is_null(), "{unknown}");
    ensure!(verify(chain.ready(), &[]).await?["ok"] == true);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_names_what_is_wrong_and_fails() -> Result<()> {
    let chain = Chain::start(ChainOptions::default()).await?;
    let mut wallet = Wallet::new(dev_key(0), chain.provider()).await?;
    let hash = wallet.transfer(fresh_address(), U256::from(1)).await?;
    chain.wait_for(hash, Stage::Committed).await?;
    // Another genesis than the contract's: the first difference is named, and the exit code says so.
    let genesis = tempfile::NamedTempFile::new()?;
    let other = serde_json::json!({
        "config": { "chainId": 1, "terminalTotalDifficulty": 0, "shanghaiTime": 0, "cancunTime": 0, "pragueTime": 0,
            "millrace": {} },
        "gasLimit": "0x1c9c380", "difficulty": "0x0", "alloc": {}
    });
    std::fs::write(genesis.path(), other.to_string())?;
    let ready = chain.ready();
    let output = millrace_tests::run(
        &millrace_tests::millrace()?,
        &[
            "verify",
            "--l1",
            ready.l1.as_str(),
            "--beacon",
            ready.beacon.as_str(),
            "--rollup",
            &ready.rollup.to_string(),
            "--genesis",
            &genesis.path().to_string_lossy(),
        ],
    )
    .await?;
    ensure!(output.code == Some(1), "exit {:?}", output.code);
    ensure!(output.stderr.contains("genesis"), "{}", output.stderr);
    Ok(())
}

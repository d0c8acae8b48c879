//! What the public ports serve, and to whom.

use std::path::{Path, PathBuf};

use alloy::{
    eips::BlockNumHash,
    primitives::{B256, Bytes, U256},
    providers::Provider,
};
use eyre::{Result, ensure, eyre};
use millrace_l1::TxManagerConfig;
use millrace_proto::{
    DaAdapter, Executor, RejectReason, Settlement, SubmitError, TxPool,
    grpc::{
        ClientConfig, DaAdapterClient, ExecutorClient, SettlementClient, Transport,
        pb::{self, da_adapter_client, executor_client, settlement_client},
    },
};
use millrace_tests::{
    Chain, ChainOptions, Output, Service, Services, ServicesOptions, Wallet, anvil, dev_key,
    fresh_address, millrace, run,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tonic::Code;

fn transport(url: &str) -> Result<Transport> {
    Ok(ClientConfig::default().connect(url)?.transport())
}

/// Only what is for users is served to the public: neither what services ask of each other, nor what operators do.
#[tokio::test(flavor = "multi_thread")]
async fn the_public_ports_have_no_calls_of_services_and_operators() -> Result<()> {
    let chain = Chain::start(ChainOptions::default()).await?;
    let public = chain.ready().grpc.as_str();
    let mut executor = executor_client::ExecutorClient::new(transport(public)?);
    let mut da = da_adapter_client::DaAdapterClient::new(transport(public)?);
    let mut settlement = settlement_client::SettlementClient::new(transport(public)?);
    let unwind = pb::UnwindRequest { number: 0, hash: vec![0; 32].into() };
    let refused = [
        executor.unwind(unwind).await.err(),
        executor.build(futures::stream::empty()).await.err(),
        executor.get_head(pb::GetHeadRequest {}).await.err(),
        da.use_backend(pb::UseBackendRequest::default()).await.err(),
        da.get_da_status(pb::GetDaStatusRequest {}).await.err(),
        settlement.attest(pb::AttestRequest::default()).await.err(),
    ];
    for status in refused {
        let status = status.ok_or_else(|| eyre!("a call was answered"))?;
        ensure!(status.code() == Code::Unimplemented, "{status:?}");
    }
    // The same, as our own clients see it.
    ensure!(
        ExecutorClient::connect(public)?.unwind(BlockNumHash::new(0, B256::ZERO)).await.is_err()
    );
    ensure!(DaAdapterClient::connect(public)?.use_backend(None).await.is_err());
    ensure!(SettlementClient::connect(public)?.settlement_status().await.is_err());

    let client = reqwest::Client::new();
    for method in [
        "admin_addPeer",
        "admin_nodeInfo",
        "anvil_mine",
        "debug_setHead",
        "engine_forkchoiceUpdatedV3",
        "evm_mine",
        "miner_start",
        "personal_unlockAccount",
        "millrace_unwind",
        "millrace_useBackend",
    ] {
        let call = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": [] });
        let answer = client.post(chain.ready().rpc.clone()).json(&call).send().await?;
        let answer: Value = answer.json().await?;
        ensure!(answer["error"]["code"] == -32601, "{method}: {answer}");
    }
    Ok(())
}

/// A certificate, its key and some tokens.
struct Files {
    dir: TempDir,
}

impl Files {
    fn new() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let pair = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()])?;
        std::fs::write(dir.path().join("cert.pem"), pair.cert.pem())?;
        std::fs::write(dir.path().join("key.pem"), pair.signing_key.serialize_pem())?;
        std::fs::write(
            dir.path().join("tokens"),
            "# two of them\nthe-first-of-two-tokens\nthe-other-of-two-tokens\n",
        )?;
        std::fs::write(dir.path().join("token"), "the-other-of-two-tokens\n")?;
        std::fs::write(dir.path().join("wrong"), "a-token-that-nobody-knows\n")?;
        Ok(Self { dir })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn config(&self, key: &Path) -> String {
        let (tokens, certificate) = (self.path("tokens"), self.path("cert.pem"));
        format!(
            "[grpc]\ntokens = {tokens:?}\n[grpc.tls]\ncertificate = {certificate:?}\nkey = {key:?}\n"
        )
    }
}

/// `millrace load` with what it trusts and shows.
async fn load(url: &str, ca: &Path, token: Option<&Path>) -> Result<Output> {
    let ca = ca.to_string_lossy();
    let token = token.map(|token| token.to_string_lossy());
    let mut arguments = vec!["load", "--json", "--url", url, "--sequencer-ca", &ca];
    arguments.extend(["--rate", "100", "--transactions", "20", "--senders", "5"]);
    if let Some(token) = &token {
        arguments.extend(["--sequencer-token-file", token]);
    }
    run(&millrace()?, &arguments).await
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_come_in_with_tls_and_a_token_and_are_told_what_is_missing() -> Result<()> {
    let files = Files::new()?;
    let anvil = anvil(2)?;
    let mut chain = Services::start(ServicesOptions {
        l1: anvil.url().clone(),
        beacon: anvil.url().clone(),
        transactions: TxManagerConfig::default(),
        verifier: false,
        more: files.config(&files.path("key.pem")),
    })
    .await?;
    let (plain, ca, token) =
        (chain.grpc(Service::Sequencer), files.path("cert.pem"), files.path("token"));
    let tls = plain.replace("http://", "https://");
    // JSON-RPC may answer before gRPC does.
    let report = millrace_tests::eventually("a load over TLS", || async {
        load(&tls, &ca, Some(&token)).await?.success()?.last_json().map(Some)
    })
    .await?;
    ensure!(report["ok"] == true && report["accepted"] == 20, "{report}");
    for (url, token, wanted) in [
        (&tls, None, "this port wants a token"),
        (&tls, Some(files.path("wrong")), "this port wants a token"),
        (&plain, Some(token.clone()), "this port speaks TLS: use https://"),
    ] {
        let refused = load(url, &ca, token.as_deref()).await?;
        ensure!(refused.code == Some(1) && refused.stderr.contains(wanted), "{}", refused.stderr);
    }

    // What operators do is not done on the port that services use.
    let services = transport(&chain.grpc(Service::DaAdapter))?;
    let mut services = da_adapter_client::DaAdapterClient::new(services);
    services.get_da_status(pb::GetDaStatusRequest {}).await?;
    let refused = services.use_backend(pb::UseBackendRequest::default()).await;
    let refused = refused.err().ok_or_else(|| eyre!("it was done"))?;
    ensure!(refused.code() == Code::PermissionDenied, "{refused:?}");
    chain.da_adapter()?.use_backend(None).await?;
    chain.still_run()
}

/// The pool knows whose a transaction is, whichever port it came to.
#[tokio::test(flavor = "multi_thread")]
async fn a_clients_share_of_the_pool_counts_at_both_ports() -> Result<()> {
    let anvil = anvil(2)?;
    let chain = Services::start(ServicesOptions {
        l1: anvil.url().clone(),
        beacon: anvil.url().clone(),
        transactions: TxManagerConfig::default(),
        verifier: false,
        more: "[sequencer.pool]\nmax_per_source = 1\ntrusted_sources = []\n".to_owned(),
    })
    .await?;
    let mut wallet = Wallet::new(dev_key(0), chain.ready().provider()).await?;
    // Without the first, the others wait.
    let _first = wallet.sign(fresh_address().into(), U256::ZERO, Bytes::new(), 21_000);
    let mut waiting = || wallet.sign(fresh_address().into(), U256::ZERO, Bytes::new(), 21_000);
    let sequencer = chain.ready().sequencer()?;
    sequencer.submit(waiting().0).await?;
    let refused = sequencer.submit(waiting().0).await;
    let limit = RejectReason::SourceLimit { limit: 1 };
    ensure!(matches!(&refused, Err(SubmitError::Rejected(why)) if *why == limit), "{refused:?}");
    let refused = chain.ready().provider().send_raw_transaction(&waiting().0).await.err();
    let refused = refused.ok_or_else(|| eyre!("it was taken"))?.to_string();
    ensure!(refused.contains("in the pool (1)"), "{refused}");
    Ok(())
}

#[tokio::test]
async fn a_certificate_that_is_of_no_use_is_named_at_the_start() -> Result<()> {
    let (files, other) = (Files::new()?, Files::new()?);
    let example = run(&millrace()?, &["config"]).await?.success()?.stdout;
    let config = files.path("millrace.toml");
    let heading = "[grpc]\n";
    for (key, wanted) in [
        (files.path("nowhere.pem"), "cannot read"),
        (other.path("key.pem"), "does not belong to the certificate in"),
        (files.path("cert.pem"), "holds no private key in PEM form"),
    ] {
        // The tables behind it belong to none of these.
        let (before, after) = example.split_once(heading).ok_or_else(|| eyre!("no {heading}"))?;
        let (_, after) = after.split_once("[grpc.limits]").ok_or_else(|| eyre!("no limits"))?;
        let text = format!("{before}{}[grpc.limits]{after}", files.config(&key));
        std::fs::write(&config, text)?;
        let config = config.to_string_lossy();
        let refused = run(&millrace()?, &["sequencer", "--config", &config]).await?;
        ensure!(refused.code == Some(1) && refused.stderr.contains(wanted), "{}", refused.stderr);
        ensure!(refused.stderr.contains("[grpc]"), "{}", refused.stderr);
    }
    Ok(())
}

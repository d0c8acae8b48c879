//! Each service in a process of its own, talking gRPC, on anvil: the same chain as in one process, which an independent verifier signs.

use alloy::{primitives::U256, providers::Provider};
use eyre::{Result, WrapErr, ensure};
use millrace_l1::TxManagerConfig;
use millrace_proto::Stage;
use millrace_tests::{
    Service, Services, ServicesOptions, Wallet, anvil, dev_key, eventually, fresh_address,
    millrace, run, verify,
};

const SERVICES: [Service; 5] = [
    Service::Executor,
    Service::Sequencer,
    Service::DaAdapter,
    Service::Settlement,
    Service::Verifier,
];

#[tokio::test(flavor = "multi_thread")]
async fn five_processes_make_one_chain() -> Result<()> {
    let anvil = anvil(2)?;
    let options = ServicesOptions {
        l1: anvil.url().clone(),
        beacon: anvil.url().clone(),
        transactions: TxManagerConfig::default(),
        verifier: true,
        more: String::new(),
    };
    let mut chain = Services::start(options).await?;
    let provider = chain.ready().provider();
    let mut wallet = Wallet::new(dev_key(0), provider.clone()).await?;
    let to = fresh_address();
    let hash = wallet.transfer(to, U256::from(7)).await?;
    chain.wait_for(hash, Stage::Finalized).await?;
    ensure!(provider.get_balance(to).await? == U256::from(7));
    ensure!(verify(chain.ready(), &[]).await?["ok"] == true);

    for service in SERVICES {
        for path in ["health", "ready", "metrics"] {
            let answer = reqwest::get(format!("{}/{path}", chain.telemetry(service))).await?;
            let name = service.name();
            ensure!(answer.status().is_success(), "{name} /{path}: {}", answer.text().await?);
        }
    }

    let da = chain.admin();
    let used = run(&millrace()?, &["da", "use", "l1_calldata", "--json", "--url", &da])
        .await?
        .success()?;
    ensure!(used.last_json()?["chosen"] == "l1_calldata", "{}", used.stdout);
    let refused = run(&millrace()?, &["da", "use", "l3_blob", "--url", &da]).await?;
    ensure!(
        refused.code == Some(1) && refused.stderr.contains("l1_blob, l1_calldata"),
        "{}",
        refused.stderr
    );
    let auto = run(&millrace()?, &["da", "use", "auto", "--url", &da]).await?.success()?;
    ensure!(auto.stdout.contains("by order, health and price"), "{}", auto.stdout);
    let status = run(&millrace()?, &["da", "status", "--json", "--url", &da]).await?.success()?;
    ensure!(status.last_json()?["chosen"].is_null(), "{}", status.stdout);

    // A service that is killed and started again goes on where it was.
    for service in SERVICES {
        chain.kill(service).await?;
        chain.spawn(service)?;
    }
    eventually("JSON-RPC after the restart", || async { Ok(Some(provider.get_chain_id().await?)) })
        .await
        .wrap_err_with(|| chain.log())?;
    let hash = eventually("a transaction after the restart", || {
        let mut wallet = wallet.clone();
        async move { Ok(Some(wallet.transfer(to, U256::from(7)).await?)) }
    })
    .await?;
    eventually("finality after the restart", || async {
        Ok(Some(chain.ready().wait_for(hash, Stage::Finalized).await?))
    })
    .await
    .wrap_err_with(|| chain.log())?;
    chain.still_run()
}

#[tokio::test]
async fn a_wrong_configuration_is_named() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let config = dir.path().join("millrace.toml");
    let config_arg = config.to_string_lossy().into_owned();
    let missing = run(&millrace()?, &["executor", "--config", &config_arg]).await?;
    ensure!(
        missing.code == Some(1) && missing.stderr.contains("millrace config"),
        "{}",
        missing.stderr
    );

    std::fs::write(&config, "[chain]\ngenesis = \"dev\"\ndata_dir = \"d\"\nspeed = 9\n")?;
    let unknown = run(&millrace()?, &["executor", "--config", &config_arg]).await?;
    ensure!(unknown.code == Some(1) && unknown.stderr.contains("speed"), "{}", unknown.stderr);

    let usage = run(&millrace()?, &["executor"]).await?;
    ensure!(usage.code == Some(2), "{}", usage.stderr);
    Ok(())
}

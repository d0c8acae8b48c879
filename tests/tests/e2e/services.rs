//! Each service in a process of its own, talking gRPC, on anvil: the same chain as in one process, which an independent verifier signs.

use std::{path::Path, process::Stdio, time::Duration};

use alloy::{
    primitives::{Address, U256},
    providers::{Provider, ProviderBuilder},
};
use eyre::{Result, WrapErr, ensure};
use millrace_l1::testing::{Anvil, AnvilOptions};
use millrace_proto::{Sequencer, Stage, grpc::SequencerClient};
use millrace_tests::{Wallet, dev_key, eventually, fresh_address, millrace, run};
use serde_json::Value;
use tokio::{
    net::TcpListener,
    process::{Child, Command},
};

const SERVICES: [&str; 5] = ["executor", "sequencer", "da-adapter", "settlement", "verifier"];

/// Ports that are free now.
async fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let mut held = Vec::new();
    for _ in 0..N {
        held.push(TcpListener::bind(("127.0.0.1", 0)).await?);
    }
    let mut ports = [0; N];
    for (port, listener) in ports.iter_mut().zip(&held) {
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}

fn spawn(service: &str, config: &Path) -> Result<Child> {
    let log = std::fs::File::create(config.with_file_name(format!("{service}.log")))?;
    Command::new(millrace()?)
        .args([service, "--config"])
        .arg(config)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .wrap_err_with(|| format!("cannot start {service}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn five_processes_make_one_chain() -> Result<()> {
    let anvil = Anvil::start(AnvilOptions {
        block_time: Some(Duration::from_secs(1)),
        slots_in_an_epoch: Some(2),
        ..AnvilOptions::default()
    })?;
    let dir = tempfile::tempdir()?;
    let config = dir.path().join("millrace.toml");
    let [rpc, g1, g2, g3, g4, g5, m1, m2, m3, m4, m5] = free_ports().await?;
    // What the verifier of another operator has differs in where it listens.
    let verifier_config = dir.path().join("verifier.toml");
    let write = |config: &Path, rollup: Address, g4: u16, m4: u16| {
        std::fs::write(
            config,
            format!(
                r#"
[chain]
genesis = "dev"
data_dir = "{data}"
[l1]
url = "{l1}"
rollup = "{rollup}"
poll_interval = "250ms"
confirmations = 1
[keys]
owner = {{ dev = 9 }}
batcher = {{ dev = 8 }}
committer = {{ dev = 7 }}
verifier = {{ dev = 6 }}
[listen.grpc]
sequencer = "127.0.0.1:{g1}"
executor = "127.0.0.1:{g2}"
da_adapter = "127.0.0.1:{g3}"
settlement = "127.0.0.1:{g4}"
[listen.metrics]
sequencer = "127.0.0.1:{m1}"
executor = "127.0.0.1:{m2}"
da_adapter = "127.0.0.1:{m3}"
settlement = "127.0.0.1:{m4}"
[peers]
executor = "http://127.0.0.1:{g2}"
settlement = "http://127.0.0.1:{g4}"
da_adapter = "http://127.0.0.1:{g3}"
[settlement]
verifiers = ["http://127.0.0.1:{g5}"]
[rpc]
listen = "127.0.0.1:{rpc}"
[da_adapter]
backends = ["l1_blob", "l1_calldata"]
max_batch_age = "2s"
"#,
                data = dir.path().join("data").display(),
                l1 = anvil.url(),
            ),
        )
    };
    write(&config, Address::ZERO, g4, m4)?;
    let config_arg = config.to_string_lossy().into_owned();
    let deployed = run(
        &millrace()?,
        &[
            "deploy",
            "--json",
            "--challenge-window",
            "2s",
            "--verifiers",
            &[dev_key(5), dev_key(6)].map(|key| key.address().to_string()).join(","),
            "--threshold",
            "1",
            "--config",
            &config_arg,
        ],
    )
    .await?
    .success()?
    .last_json()?;
    let rollup: Address = serde_json::from_value(deployed["rollup"].clone())?;
    write(&config, rollup, g4, m4)?;
    write(&verifier_config, rollup, g5, m5)?;

    // In an order that makes each wait for another.
    let mut processes = Vec::new();
    let start =
        |service| spawn(service, if service == "verifier" { &verifier_config } else { &config });
    for service in ["settlement", "da-adapter", "sequencer", "executor", "verifier"] {
        processes.push((service, start(service)?));
    }
    let provider =
        ProviderBuilder::default().connect_http(format!("http://127.0.0.1:{rpc}").parse()?);
    let logs = || {
        SERVICES
            .map(|service| {
                let log = std::fs::read_to_string(dir.path().join(format!("{service}.log")));
                format!("-- {service}\n{}", log.unwrap_or_default())
            })
            .join("\n")
    };
    eventually("JSON-RPC", || async { Ok(Some(provider.get_chain_id().await?)) })
        .await
        .wrap_err_with(logs)?;

    let mut wallet = Wallet::new(dev_key(0), provider.clone()).await?;
    let to = fresh_address();
    let hash = wallet.transfer(to, U256::from(7)).await?;
    let sequencer = SequencerClient::connect(&format!("http://127.0.0.1:{g1}"))?;
    let waiting = sequencer.wait_for(hash, Stage::Finalized);
    let status = tokio::time::timeout(Duration::from_secs(180), waiting)
        .await
        .wrap_err_with(|| format!("not finalized\n{}", logs()))??;
    ensure!(status.stage == Stage::Finalized, "{status:?}\n{}", logs());
    ensure!(provider.get_balance(to).await? == U256::from(7));

    let l1 = anvil.url().to_string();
    let verified =
        run(&millrace()?, &["verify", "--json", "--l1", &l1, "--rollup", &rollup.to_string()])
            .await?
            .success()?;
    ensure!(verified.last_json()?["ok"] == Value::Bool(true));

    for (service, port) in [
        ("sequencer", m1),
        ("executor", m2),
        ("da_adapter", m3),
        ("settlement", m4),
        ("verifier", m5),
    ] {
        for path in ["health", "ready", "metrics"] {
            let answer = reqwest::get(format!("http://127.0.0.1:{port}/{path}")).await?;
            ensure!(answer.status().is_success(), "{service} /{path}: {}", answer.text().await?);
        }
    }

    let da = format!("http://127.0.0.1:{g3}");
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
        let (_, process) = processes
            .iter_mut()
            .find(|(name, _)| *name == service)
            .expect("every service was started");
        process.kill().await?;
        *process = start(service)?;
    }
    eventually("JSON-RPC after the restart", || async { Ok(Some(provider.get_chain_id().await?)) })
        .await
        .wrap_err_with(logs)?;
    let hash = eventually("a transaction after the restart", || {
        let mut wallet = wallet.clone();
        async move { Ok(Some(wallet.transfer(to, U256::from(7)).await?)) }
    })
    .await?;
    let status = eventually("finality after the restart", || async {
        Ok(Some(sequencer.wait_for(hash, Stage::Finalized).await?))
    })
    .await
    .wrap_err_with(logs)?;
    ensure!(status.stage == Stage::Finalized, "{status:?}");
    Ok(())
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

//! `millrace load`: what it says of a chain is so.

use std::path::Path;

use alloy::{eips::BlockId, providers::Provider};
use eyre::{Result, ensure, eyre};
use millrace_l1::testing::{Anvil, AnvilOptions};
use millrace_tests::{Chain, ChainOptions, millrace, occurrences, repository, run, verify};
use serde_json::{Value, json};

async fn load(chain: &Chain, more: &[&str]) -> Result<millrace_tests::Output> {
    let contracts = repository().join(".tools/node_modules");
    let url = chain.ready().grpc.as_str();
    let arguments = ["load", "--json", "--url", url];
    // What is replayed brings its contracts along.
    let contracts = ["--contracts", path(&contracts)?];
    run(&millrace()?, &[&arguments[..], &contracts, more].concat()).await
}

fn path(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| eyre!("{} is not text", path.display()))
}

/// All was acknowledged and is in blocks once, and there are latencies for it.
fn is_whole(report: &Value, transactions: u64) -> Result<()> {
    let all = json!(transactions);
    for count in ["transactions", "sent", "accepted", "sequenced"] {
        ensure!(report[count] == all, "{count}: {report}");
    }
    ensure!(report["ok"] == true && report["errors"] == json!({}), "{report}");
    for stage in ["accepted", "preconfirmed", "sequenced"] {
        let latency = &report["latency_ms"][stage];
        ensure!(latency["count"] == all, "{stage}: {report}");
        let at = ["p50", "p90", "p99", "p99.9", "max"].map(|name| latency[name].as_f64());
        ensure!(at.is_sorted() && at[0] > Some(0.0), "{stage}: {report}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_load_is_sent_timed_and_in_blocks_once() -> Result<()> {
    let chain = Chain::start(ChainOptions::default().args(["--batch-age", "1s"])).await?;
    let l2 = chain.provider();
    for (kind, more) in [
        ("transfer", &["--until", "posted"][..]),
        ("conflict", &[]),
        ("erc20", &["--connections", "3"]),
        ("swap", &[]),
        ("mixed", &["--rate", "max"]),
    ] {
        let before = l2.get_block_number().await?;
        let arguments = ["--kind", kind, "--senders", "20", "--transactions", "200"];
        let rate = if more.contains(&"--rate") { &[][..] } else { &["--rate", "500"] };
        let output = load(&chain, &[&arguments[..], rate, more].concat()).await?;
        let report = output.success()?.last_json()?;
        is_whole(&report, 200)?;
        let posted = report["latency_ms"]["posted"]["count"] == 200;
        ensure!(kind != "transfer" || posted, "{report}");
        // Each does what it is to do: none of them has failed.
        for number in before + 1..=l2.get_block_number().await? {
            let receipts = l2.get_block_receipts(BlockId::number(number)).await?;
            let receipts = receipts.ok_or_else(|| eyre!("no block {number}"))?;
            ensure!(receipts.iter().all(|receipt| receipt.status()), "{kind}: block {number}");
        }
    }
    ensure!(occurrences(&chain).await?.values().all(|count| *count == 1));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_signed_ahead_of_time_is_sent_later() -> Result<()> {
    let chain = Chain::start(ChainOptions::default()).await?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("load");
    let file = path(&file)?;
    let arguments = ["--kind", "erc20", "--senders", "10", "--transactions", "100"];
    let saved = load(&chain, &[&arguments[..], &["--save", file]].concat()).await?.success()?;
    ensure!(saved.stdout.is_empty() && saved.stderr.contains("100 transactions"), "{saved:?}");
    ensure!(chain.provider().get_block_number().await? == 0, "nothing is sent");

    let replay = ["--replay", file, "--rate", "1000"];
    is_whole(&load(&chain, &replay).await?.success()?.last_json()?, 100)?;
    // All is there already: nothing is acknowledged again.
    let report = load(&chain, &replay).await?.success()?.last_json()?;
    ensure!(report["refused"] == 100 && report["accepted"] == 0, "{report}");
    let reasons =
        ["ALREADY_KNOWN", "NONCE_TOO_LOW"].map(|reason| report["errors"][reason].as_u64());
    ensure!(reasons.iter().flatten().sum::<u64>() == 100, "{report}");
    ensure!(occurrences(&chain).await?.values().all(|count| *count == 1));

    std::fs::write(folder.path().join("other"), b"something else")?;
    let other = folder.path().join("other");
    let refused = load(&chain, &["--replay", path(&other)?]).await?;
    ensure!(refused.code == Some(1) && refused.stderr.contains("load --save"), "{refused:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_work_is_said_before_anything_is_sent() -> Result<()> {
    let chain = Chain::start(ChainOptions::default()).await?;
    let arguments = ["--senders", "3", "--transactions", "60", "--rate", "1000"];
    let poor = load(&chain, &[&arguments[..], &["--max-fee", "0.0000001"]].concat()).await?;
    ensure!(poor.code == Some(1) && poor.stderr.contains("below the base fee"), "{poor:?}");
    ensure!(chain.provider().get_block_number().await? == 0, "nothing is sent");
    let nobody = ["load", "--url", "http://127.0.0.1:1", "--transactions", "1"];
    let nobody = run(&millrace()?, &nobody).await?;
    ensure!(nobody.code == Some(1) && nobody.stderr.contains("--url"), "{nobody:?}");
    Ok(())
}

/// A chain whose blocks are a hundredth of a second apart is a chain like others: everything is in blocks once, on L1, and rebuilt from there.
#[tokio::test(flavor = "multi_thread")]
async fn blocks_of_ten_milliseconds_work_as_well() -> Result<()> {
    let options = ["--block-time", "10ms", "--batch-age", "1s"];
    let chain = Chain::start(ChainOptions::default().args(options)).await?;
    let arguments = ["--senders", "20", "--transactions", "600", "--rate", "300"];
    let report = load(&chain, &[&arguments[..], &["--until", "posted"]].concat()).await?;
    is_whole(&report.success()?.last_json()?, 600)?;
    // Two seconds of transactions, a few in each block.
    let blocks = chain.provider().get_block_number().await?;
    ensure!(blocks > 60, "{blocks} blocks");
    ensure!(occurrences(&chain).await?.values().all(|count| *count == 1));
    ensure!(verify(chain.ready(), &[]).await?["ok"] == true);
    Ok(())
}

/// The same file goes to anybody's node over JSON-RPC: to ours, and to anvil.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_signed_is_sent_over_json_rpc_to_any_node() -> Result<()> {
    let chain = Chain::start(ChainOptions::default()).await?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("load");
    let file = path(&file)?;
    let arguments = ["--senders", "10", "--transactions", "100", "--max-fee", "20"];
    load(&chain, &[&arguments[..], &["--save", file]].concat()).await?.success()?;
    let chain_id = Some(chain.ready().chain_id);
    let anvil = Anvil::start(AnvilOptions { chain_id, ..AnvilOptions::default() })?;
    for url in [chain.ready().rpc.clone(), anvil.url().clone()] {
        let how = ["--connections", "3", "--batch", "7"];
        let what = ["--replay", file, "--rpc", url.as_str()];
        let report = load(&chain, &[&how[..], &what].concat()).await?.success()?.last_json()?;
        let counts = (report["sent"].as_u64(), report["accepted"].as_u64());
        ensure!(counts == (Some(100), Some(100)) && report["errors"] == json!({}), "{report}");
    }
    // Known there by now.
    let again = ["--replay", file, "--rpc", chain.ready().rpc.as_str()];
    let report = load(&chain, &again).await?.success()?.last_json()?;
    ensure!(report["accepted"] == 0 && report["sent"] == 100, "{report}");
    let errors = report["errors"].as_object().map(|errors| errors.len());
    ensure!(errors > Some(0), "{report}");
    Ok(())
}

/// The benchmark runs, and its figures add up.
#[tokio::test(flavor = "multi_thread")]
async fn ingress_is_measured_beside_bare_recoveries() -> Result<()> {
    let arguments = ["bench", "ingress", "--json", "--seconds", "2", "--half-seconds", "2"];
    let output = run(&millrace()?, &[&arguments[..], &["--senders", "50"]].concat()).await?;
    let report = output.success()?.last_json()?;
    let number = |value: &Value| value.as_f64().ok_or_else(|| eyre!("{report}"));
    let (transfers, bare) =
        (number(&report["transfers_per_s"])?, number(&report["recover_per_s"])?);
    ensure!((number(&report["ratio"])? - transfers / bare).abs() < 1e-6, "{report}");
    let cpu = &report["cpu_us"];
    let stages = ["decode", "recover", "pool", "log", "execute", "root", "persist", "batch"];
    let mut sum = number(&cpu["verify"])? + number(&cpu["other"])?;
    for stage in stages {
        sum += number(&cpu[stage])?;
    }
    ensure!((sum - number(&cpu["all"])?).abs() < 1.0, "{report}");
    ensure!(report["half"]["latency_ms"]["preconfirmed"]["p99"].is_number(), "{report}");
    Ok(())
}

//! The DA layer goes away while a chain is under full load, and comes back: memory and disk stay bounded, sequencing slows down, the backlog drains while transactions go on coming, and
//! nothing that was acknowledged is lost.
//!
//! `MILLRACE_AWAY` sets for how many seconds it is away (default 15; 1800 is the half hour of the full suite, on a release build).

use std::{
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use alloy::{
    primitives::{Address, Bytes, U256, utils::parse_ether},
    providers::Provider,
};
use eyre::{Result, WrapErr, ensure, eyre};
use futures::future::try_join_all;
use millrace_da_adapter::alt_da_server::{AltDaFault, AltDaServer};
use millrace_proto::{Sequencer, Stage, SubmitError, TxPool};
use millrace_tests::{
    Chain, ChainOptions, Wallet, dev_key, eventually_within, fresh_address, occurrences, setting,
    verify,
};

/// Accounts that send at the same time.
const SENDERS: u32 = 6;
/// Transactions in one call.
const CALL: usize = 64;
/// Bytes that wait to be posted at which sequencing is slowest: half as many again is what may still come.
const UPPER_BYTES: f64 = (512_u64 << 20) as f64 * 1.5;

/// Resident memory of all services in one process, MiB.
const MOST_MEMORY: u64 = 2_048;
/// On disk for each transaction, bytes, and besides, MiB.
const DISK_EACH: u64 = 1_024;
const DISK: u64 = 2_048;

/// What one account sends until it is told to stop. Returns how many transactions were acknowledged, and the last.
async fn load(
    chain: &Chain,
    sender: u32,
    to: Address,
    stop: &AtomicBool,
    count: &AtomicU64,
) -> Result<alloy::primitives::B256> {
    let client = chain.sequencer()?;
    let mut wallet = Wallet::new(dev_key(sender), chain.provider()).await?;
    let mut waiting: Vec<Bytes> = Vec::new();
    let mut last = None;
    while !stop.load(Ordering::Relaxed) || !waiting.is_empty() {
        while waiting.len() < CALL && !stop.load(Ordering::Relaxed) {
            waiting.push(wallet.sign(to.into(), U256::from(1), Bytes::new(), 21_000).0);
        }
        let mut again = Vec::new();
        for (raw, answer) in waiting.iter().zip(client.submit_many(waiting.clone()).await) {
            match answer {
                Ok(hash) => {
                    last = Some(hash);
                    count.fetch_add(1, Ordering::Relaxed);
                }
                // The pool is full, or what came before it had no room.
                Err(SubmitError::Rejected(reason))
                    if matches!(reason.code(), "POOL_FULL" | "NONCE_TOO_FAR") =>
                {
                    again.push(raw.clone());
                }
                Err(error) => return Err(eyre!("refused: {error}")),
            }
        }
        if !again.is_empty() {
            // As a client that was told to come back.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        waiting = again;
    }
    last.ok_or_else(|| eyre!("nothing was acknowledged"))
}

/// What is looked at meanwhile.
#[derive(Debug, Clone, Copy, Default)]
struct Sample {
    /// Resident memory, MiB.
    memory: u64,
    /// Bytes below the data folder, MiB.
    disk: u64,
    /// Bytes of closed batches that wait.
    backlog: f64,
    /// Of sequencing, 0 to 1.
    pressure: f64,
    /// Acknowledged.
    count: u64,
}

/// What came of it.
#[derive(Debug)]
struct Watched {
    /// The highest.
    pressure: f64,
    /// Transactions a second that were acknowledged.
    rate: f64,
    took: Duration,
    /// Whether the condition held in the end.
    ended: bool,
}

struct Suite<'a> {
    chain: &'a Chain,
    count: &'a AtomicU64,
}

impl Suite<'_> {
    async fn sample(&self) -> Result<Sample> {
        let status =
            tokio::fs::read_to_string(format!("/proc/{}/status", self.chain.pid()?)).await?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let memory =
            resident.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        let ready = self.chain.ready();
        let (da, sequencer) = (ready.metrics.da_adapter.clone(), ready.metrics.sequencer.clone());
        Ok(Sample {
            memory: memory.ok_or_else(|| eyre!("no VmRSS in {status}"))? >> 10,
            disk: folder_bytes(&ready.data_dir)? >> 20,
            backlog: gauge(da, "millrace_da_backlog_bytes").await?,
            pressure: gauge(sequencer, "millrace_sequencer_throttle_pressure").await?,
            count: self.count.load(Ordering::Relaxed),
        })
    }

    /// Samples now and then for some time, or until a condition holds, and checks that memory and disk stay bounded.
    async fn watch(
        &self,
        what: &str,
        time: Duration,
        until: impl Fn(&Sample) -> bool,
    ) -> Result<Watched> {
        let began = Instant::now();
        let first = self.sample().await?;
        let mut most = first;
        let (mut said, mut ended) = (Instant::now(), false);
        while began.elapsed() < time {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let now = self.sample().await?;
            ensure!(now.backlog <= UPPER_BYTES, "{what}: {now:?}");
            ensure!(now.memory <= MOST_MEMORY, "{what}: {now:?}");
            ensure!(now.disk <= ((now.count * DISK_EACH) >> 20) + DISK, "{what}: {now:?}");
            most = Sample {
                memory: most.memory.max(now.memory),
                disk: most.disk.max(now.disk),
                backlog: most.backlog.max(now.backlog),
                pressure: most.pressure.max(now.pressure),
                count: now.count,
            };
            if said.elapsed() > Duration::from_secs(60) {
                said = Instant::now();
                println!("{what}, {:?}: {now:?}", began.elapsed());
            }
            ended = until(&now);
            if ended {
                break;
            }
        }
        let rate = (most.count - first.count) as f64 / began.elapsed().as_secs_f64();
        println!(
            "{what}: {:?}, {rate:.0} transactions a second acknowledged; at most {most:?}",
            began.elapsed()
        );
        Ok(Watched { pressure: most.pressure, rate, took: began.elapsed(), ended })
    }
}

fn folder_bytes(folder: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        // Databases remove files meanwhile.
        let Ok(metadata) = entry.metadata() else { continue };
        sum += if metadata.is_dir() {
            folder_bytes(&entry.path()).unwrap_or(0)
        } else {
            metadata.len()
        };
    }
    Ok(sum)
}

/// The value of a metric without labels, or the sum over its labels.
async fn gauge(url: url::Url, name: &str) -> Result<f64> {
    let text = reqwest::get(url).await?.text().await?;
    let values = text.lines().filter_map(|line| {
        let (series, value) = line.split_once(' ')?;
        (series.split('{').next() == Some(name)).then(|| value.parse::<f64>().ok())?
    });
    Ok(values.sum())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_da_layer_goes_away_and_comes_back() -> Result<()> {
    let away: u64 = setting("MILLRACE_AWAY", 15);
    let server = AltDaServer::start().await?;
    let url = server.url().to_string();
    let options = ChainOptions::default().args(["--da", "alt_da", "--alt-da", &url]);
    let chain = Chain::start(options).await?;
    let (to, stop, count) = (fresh_address(), AtomicBool::new(false), AtomicU64::new(0));
    let loads = (0..SENDERS).map(|sender| load(&chain, sender, to, &stop, &count));
    let suite = Suite { chain: &chain, count: &count };
    let scene = async {
        let before = Duration::from_secs((away / 10).clamp(5, 60));
        let before = suite.watch("before", before, |_| false).await?;
        server.set_fault(Some(AltDaFault::Status(503)));
        let gone = suite.watch("away", Duration::from_secs(away), |_| false).await?;
        // As many bytes as sequencing slows down for take some minutes.
        ensure!(away < 600 || gone.pressure > 0.0 && gone.rate < before.rate, "{gone:?}");
        server.set_fault(None);
        // With as much coming as before.
        let drained = |sample: &Sample| sample.backlog < (4 << 20) as f64;
        let after = suite.watch("back", Duration::from_secs(away.max(120)), drained).await?;
        ensure!(after.ended, "it is not drained as fast as it came: {after:?}");
        ensure!(away < 600 || after.took < gone.took, "{after:?}");
        Ok(())
    };
    let scene = async {
        let ended = scene.await;
        stop.store(true, Ordering::Relaxed);
        ended
    };
    let (last, scene) = tokio::join!(try_join_all(loads), scene);
    let last = scene.and(last).wrap_err_with(|| chain.log())?;
    let client = chain.sequencer()?;
    for hash in last {
        let waiting = client.wait_for(hash, Stage::Finalized);
        let status = tokio::time::timeout(Duration::from_secs(600), waiting).await??;
        ensure!(status.stage == Stage::Finalized, "{status:?}");
    }
    let backlog = || gauge(chain.ready().metrics.da_adapter.clone(), "millrace_da_backlog_bytes");
    eventually_within(Duration::from_secs(120), "everything is posted", || async {
        Ok((backlog().await? == 0.0).then_some(()))
    })
    .await?;
    let paid = chain.provider().get_balance(to).await?;
    let acknowledged = count.load(Ordering::Relaxed);
    ensure!(paid == U256::from(acknowledged), "{paid} of {acknowledged}");
    println!("{acknowledged} transactions acknowledged: each is final, once");
    ensure!(verify(chain.ready(), &["--alt-da", &url]).await?["ok"] == true);
    Ok(())
}

/// Bytes that nothing compresses.
fn noise(length: usize) -> Bytes {
    let mut bytes = vec![0; length];
    rand::fill(&mut bytes[..]);
    bytes.into()
}

/// Without a batch that reaches the overdue deposit there is no way to post what comes before it: L2 reorgs, and only then.
#[tokio::test(flavor = "multi_thread")]
async fn the_da_layer_may_be_away_for_longer_than_the_sequencing_window() -> Result<()> {
    let server = AltDaServer::start().await?;
    let url = server.url().to_string();
    let options = ChainOptions::default().args([
        "--da",
        "alt_da",
        "--alt-da",
        &url,
        "--batch-age",
        "1s",
        "--inclusion-window",
        "10",
    ]);
    let chain = Chain::start(options).await?;
    let (client, l2, metrics) = (chain.sequencer()?, chain.provider(), &chain.ready().metrics);
    let l1 = chain.l1_provider();
    let mut wallet = Wallet::new(dev_key(0), chain.provider()).await?;
    let mut sent = 0;
    // Three batches that fit into one, and more than fits into one.
    let large = std::iter::repeat_with(|| noise(90_000)).take(14).collect();
    for (inputs, reorgs) in [(vec![Bytes::new(); 3], false), (large, true)] {
        let before = wallet.transfer(fresh_address(), U256::from(1)).await?;
        chain.wait_for(before, Stage::Posted).await?;
        server.set_fault(Some(AltDaFault::Status(503)));
        let mut hashes = Vec::new();
        for input in inputs {
            let to = fresh_address();
            let (raw, hash) = wallet.sign(to.into(), U256::from(1), input, 4_000_000);
            client.submit(raw).await?;
            chain.wait_for(hash, Stage::Sequenced).await?;
            hashes.push(hash);
        }
        let rich = fresh_address();
        chain.deposit(rich, "2").await?;
        let minted =
            || async { Ok((l2.get_balance(rich).await? == parse_ether("2")?).then_some(())) };
        eventually_within(Duration::from_secs(60), "the deposit is minted", minted).await?;
        let overdue = l1.get_block_number().await? + 11;
        eventually_within(Duration::from_secs(60), "the window ends", || async {
            Ok((l1.get_block_number().await? >= overdue).then_some(()))
        })
        .await?;

        server.set_fault(None);
        for hash in &hashes {
            chain.wait_for(*hash, Stage::Finalized).await?;
        }
        eventually_within(Duration::from_secs(60), "the deposit is minted", minted).await?;
        let unwound =
            gauge(metrics.sequencer.clone(), "millrace_sequencer_unwound_blocks_total").await?;
        ensure!((unwound > 0.0) == reorgs, "{unwound}: {}", chain.log());
        sent += hashes.len();
    }
    let nonce = l2.get_transaction_count(dev_key(0).address()).await?;
    ensure!(nonce == sent as u64 + 2, "{nonce}");
    ensure!(occurrences(&chain).await?.values().all(|count| *count == 1));
    ensure!(verify(chain.ready(), &["--alt-da", &url]).await?["ok"] == true);
    Ok(())
}

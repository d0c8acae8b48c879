//! A flood from other addresses, several times what the chain takes, while an honest client submits: malformed, underpriced and duplicate transactions, idle
//! connections and half heads, calls taken back at once.

mod attack;

use std::time::{Duration, Instant};

use alloy::primitives::{B256, Bytes, U256};
use eyre::{Result, ensure, eyre};
use millrace_proto::{
    RejectReason, Sequencer, SequencerError, Stage, SubmitError, TxPool, grpc::SequencerClient,
};
use millrace_tests::{
    Chain, ChainOptions, Wallet, dev_key, eventually, fresh_address, occurrences, setting,
};

use self::attack::{Attackers, Target};

/// What the whole process may take more under the flood than before: what unread requests and messages that are not whole may take of six addresses' connections,
/// the pool's bounded bytes, and the allocator's slack.
const BUDGET: u64 = 768 << 20;

/// Transactions of the honest client in each part, at least.
const LEAST: usize = 100;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_honest_client_is_served_through_a_flood() -> Result<()> {
    let seconds: u64 = setting("MILLRACE_FLOOD", 5);
    let chain = Chain::start(ChainOptions::default()).await?;
    let mut honest = Honest {
        client: chain.sequencer()?,
        wallet: Wallet::new(dev_key(0), chain.provider()).await?,
        sent: Vec::new(),
    };
    let calm = honest.submit(Duration::from_secs(seconds)).await?;
    let before = resident(&chain)?;

    let ready = chain.ready();
    let (grpc, rpc, chain_id) = (ready.grpc.clone(), ready.rpc.clone(), ready.chain_id);
    let attackers = Attackers::start(&Target { grpc, rpc, chain_id }).await?;
    let mut most = 0;
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut flooded = Vec::new();
    while Instant::now() < end || flooded.len() < LEAST {
        flooded.extend(honest.submit_some(10).await?);
        most = most.max(resident(&chain)?);
        for (port, cap) in [("grpc", 1_024.0), ("rpc", 1_000.0)] {
            let open = metric(&chain, &format!("millrace_{port}_connections")).await?;
            ensure!(open <= cap, "{port}: {open} connections are open");
        }
    }
    // Whoever comes while the flood lasts is served as well.
    honest.client = chain.sequencer()?;
    flooded.extend(honest.submit_some(10).await?);
    let counts = attackers.stop().await?;
    for sent in &honest.sent {
        chain.wait_for(*sent, Stage::Sequenced).await?;
    }
    println!("the flood: {counts}");
    println!(
        "the honest client: p50 {:?} and p99 {:?} before, {:?} and {:?} in the flood: {:.2} and {:.2} times as long; memory {} MiB before, {} MiB at most",
        percentile(&calm, 50),
        percentile(&calm, 99),
        percentile(&flooded, 50),
        percentile(&flooded, 99),
        ratio(&calm, &flooded, 50),
        ratio(&calm, &flooded, 99),
        before >> 20,
        most >> 20,
    );
    ensure!(most <= before + BUDGET, "{} MiB over {} MiB before", most >> 20, before >> 20);

    // What was over the caps was refused and counted, whichever port it came to.
    for series in [
        r#"millrace_grpc_connections_refused_total{server="rollup",reason="peer"}"#,
        r#"millrace_rpc_connections_refused_total{server="rollup",reason="peer"}"#,
        r#"millrace_sequencer_rejected_transactions_total{reason="BAD_ENCODING"}"#,
        r#"millrace_sequencer_rejected_transactions_total{reason="FEE_BELOW_FLOOR"}"#,
        r#"millrace_sequencer_rejected_transactions_total{reason="ALREADY_KNOWN"}"#,
    ] {
        ensure!(metric(&chain, series).await? > 0.0, "{series} counts nothing");
    }
    // Afterwards all is as before: the places are free, and the honest client's transactions are there once.
    eventually("the places to be free", || async {
        let grpc = metric(&chain, "millrace_grpc_connections").await?;
        let rpc = metric(&chain, "millrace_rpc_connections").await?;
        ensure!(grpc <= 4.0 && rpc <= 16.0, "{grpc} gRPC and {rpc} JSON-RPC connections are open");
        Ok(Some(()))
    })
    .await?;
    honest.submit_some(10).await?;
    for sent in &honest.sent {
        chain.wait_for(*sent, Stage::Sequenced).await?;
    }
    let occurrences = occurrences(&chain).await?;
    for sent in &honest.sent {
        ensure!(occurrences.get(sent) == Some(&1), "{sent}: {:?}", occurrences.get(sent));
    }
    Ok(())
}

/// Submits one transfer after another, each once the one before is acknowledged.
struct Honest {
    client: SequencerClient,
    wallet: Wallet,
    sent: Vec<B256>,
}

impl Honest {
    async fn submit(&mut self, time: Duration) -> Result<Vec<Duration>> {
        let end = Instant::now() + time;
        let mut latencies = Vec::new();
        while Instant::now() < end || latencies.len() < LEAST {
            latencies.extend(self.submit_some(10).await?);
        }
        Ok(latencies)
    }

    /// Submits until there is an answer, as `docs/wire.md` says: a new connection may have to be tried again while thousands are opened.
    async fn acknowledged(&self, raw: Bytes) -> Result<()> {
        loop {
            match self.client.submit(raw.clone()).await {
                Ok(_) | Err(SubmitError::Rejected(RejectReason::AlreadyKnown { .. })) => {
                    return Ok(());
                }
                Err(SubmitError::Failed(SequencerError::Transport(_))) => {}
                Err(refused) => return Err(refused.into()),
            }
        }
    }

    /// How long each acknowledgement took.
    async fn submit_some(&mut self, count: usize) -> Result<Vec<Duration>> {
        let mut latencies = Vec::new();
        for _ in 0..count {
            let to = fresh_address().into();
            let (raw, hash) = self.wallet.sign(to, U256::from(1), Default::default(), 21_000);
            let start = Instant::now();
            self.acknowledged(raw).await?;
            latencies.push(start.elapsed());
            self.sent.push(hash);
        }
        // The pool holds so many of one sender.
        if let Some(last) = self.sent.last() {
            eventually("the last to be sequenced", || async {
                Ok(Some(self.client.wait_for(*last, Stage::Sequenced).await?))
            })
            .await?;
        }
        Ok(latencies)
    }
}

fn percentile(latencies: &[Duration], percent: usize) -> Duration {
    let mut sorted = latencies.to_vec();
    sorted.sort_unstable();
    let at = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(at).copied().unwrap_or_default()
}

fn ratio(calm: &[Duration], flooded: &[Duration], percent: usize) -> f64 {
    percentile(flooded, percent).as_secs_f64() / percentile(calm, percent).as_secs_f64()
}

/// Bytes of memory that the process has (`VmRSS`).
fn resident(chain: &Chain) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", chain.pid()?))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    Ok(kilobytes.ok_or_else(|| eyre!("no VmRSS in {status}"))? << 10)
}

/// The sum of a series of the sequencer's, given by its name with or without labels.
async fn metric(chain: &Chain, series: &str) -> Result<f64> {
    let page = reqwest::get(chain.ready().metrics.sequencer.clone()).await?.text().await?;
    let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
    let labels = labels.trim_end_matches('}');
    let values = page.lines().filter_map(|line| {
        let (key, value) = line.rsplit_once(' ')?;
        let rest = key.strip_prefix(name)?;
        let all = labels.split(',').filter(|label| !label.is_empty());
        let matches = rest.is_empty() || rest.starts_with('{');
        (matches && all.into_iter().all(|label| rest.contains(label))).then(|| value.parse::<f64>())
    });
    values.sum::<Result<f64, _>>().map_err(Into::into)
}

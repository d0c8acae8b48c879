//! One live line: heads, rate, batches, cost, lag.

use std::{
    collections::VecDeque,
    io::IsTerminal,
    sync::Arc,
    time::{Duration, Instant},
};

use alloy::primitives::{U256, utils::format_ether};
use eyre::Result;
use futures::StreamExt;
use indicatif::{ProgressBar, ProgressStyle};
use millrace_proto::{DaAdapter, DaStatus, Executor, Sequencer, Settlement, SettlementStatus};
use serde_json::json;
use tokio_util::sync::CancellationToken;

/// The rate is an average over this long.
const RATE_WINDOW: Duration = Duration::from_secs(5);

/// Watches the services and tells a person, or a program, how they are.
#[derive(Debug)]
pub(super) struct StatusLine {
    executor: Arc<dyn Executor>,
    sequencer: Arc<dyn Sequencer>,
    da: Arc<dyn DaAdapter>,
    settlement: Arc<dyn Settlement>,
    json: bool,
}

struct Snapshot {
    latest: u64,
    safe: u64,
    finalized: u64,
    rate: f64,
    da: DaStatus,
    settlement: SettlementStatus,
}

impl StatusLine {
    pub(super) fn new(
        executor: Arc<dyn Executor>,
        sequencer: Arc<dyn Sequencer>,
        da: Arc<dyn DaAdapter>,
        settlement: Arc<dyn Settlement>,
        json: bool,
    ) -> Self {
        Self { executor, sequencer, da, settlement, json }
    }

    /// Runs until cancelled.
    pub(super) async fn run(self, cancel: CancellationToken) -> Result<()> {
        let terminal = !self.json && std::io::stderr().is_terminal();
        let period = Duration::from_secs(if terminal { 1 } else { 5 });
        let bar = terminal.then(|| {
            let style =
                ProgressStyle::with_template("{spinner} {msg}").expect("the template is constant");
            ProgressBar::new_spinner().with_style(style)
        });
        let mut blocks = self.executor.subscribe(self.executor.head().await?.number + 1).await?;
        let mut recent: VecDeque<(Instant, usize)> = VecDeque::new();
        let mut clock = tokio::time::interval(period);
        loop {
            tokio::select! {
                () = cancel.cancelled() => break,
                block = blocks.next() => match block {
                    Some(block) => recent.push_back((Instant::now(), block?.transactions.len())),
                    None => break,
                },
                _ = clock.tick() => {
                    while recent.front().is_some_and(|(at, _)| at.elapsed() > RATE_WINDOW) {
                        recent.pop_front();
                    }
                    let count: usize = recent.iter().map(|(_, count)| count).sum();
                    let rate = count as f64 / RATE_WINDOW.as_secs_f64();
                    let Ok(snapshot) = self.snapshot(rate).await else { continue };
                    match &bar {
                        Some(bar) => {
                            bar.set_message(snapshot.line());
                            bar.tick();
                        }
                        None if self.json => println!("{}", snapshot.json()),
                        None => eprintln!("{}", snapshot.line()),
                    }
                }
            }
        }
        if let Some(bar) = bar {
            bar.finish_and_clear();
        }
        Ok(())
    }

    async fn snapshot(&self, rate: f64) -> Result<Snapshot> {
        let heads = self.sequencer.heads().await?;
        Ok(Snapshot {
            latest: heads.latest.number,
            safe: heads.safe.number,
            finalized: heads.finalized.number,
            rate,
            da: self.da.da_status().await?,
            settlement: self.settlement.settlement_status().await?,
        })
    }
}

impl Snapshot {
    fn bytes_per_transaction(&self) -> Option<f64> {
        (self.da.posted_transactions > 0)
            .then(|| self.da.posted_bytes as f64 / self.da.posted_transactions as f64)
    }

    fn l1_fees(&self) -> U256 {
        self.da.l1_fees.saturating_add(self.settlement.l1_fees)
    }

    fn halted(&self) -> Option<&str> {
        self.da.halted.as_deref().or(self.settlement.halted.as_deref())
    }

    fn line(&self) -> String {
        let per_tx = self
            .bytes_per_transaction()
            .map_or_else(|| "–".to_owned(), |bytes| format!("{bytes:.0}"));
        let mut line = format!(
            "unsafe {} · safe {} · finalized {} │ {:.0} tx/s │ {} batches, {per_tx} B/tx │ L1 {:.6} ETH │ lag {} blocks to safe, {} to finalized",
            self.latest,
            self.safe,
            self.finalized,
            self.rate,
            self.da.batches_posted,
            format_ether(self.l1_fees()).parse::<f64>().unwrap_or_default(),
            self.latest.saturating_sub(self.safe),
            self.latest.saturating_sub(self.finalized),
        );
        if let Some(why) = self.halted() {
            line.push_str(&format!(" │ HALTED: {why}"));
        }
        line
    }

    fn json(&self) -> serde_json::Value {
        json!({
            "status": {
                "unsafe": self.latest, "safe": self.safe, "finalized": self.finalized,
                "transactions_per_second": self.rate,
                "batches_posted": self.da.batches_posted,
                "da_bytes_per_transaction": self.bytes_per_transaction(),
                "l1_fees_wei": self.l1_fees().to_string(),
                "backlog_bytes": self.da.backlog_bytes,
                "halted": self.halted(),
            }
        })
    }
}

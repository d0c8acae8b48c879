//! What a chain's CPU time goes to: by the clocks of its threads, and by what it measures of itself.

use std::{collections::BTreeMap, fs};

use eyre::{Result, WrapErr};
use serde::Serialize;

use super::chain::Chain;
use crate::load::cpu_time;

/// Seconds that batches took to be encoded.
const ENCODED: &str = "millrace_da_batch_encode_seconds_sum";

/// The threads' clocks by name, and what batches took, microseconds.
pub(super) struct Clocks {
    threads: BTreeMap<String, f64>,
    encoded: f64,
}

/// Microseconds a transaction.
#[derive(Debug, Default, Serialize)]
pub(super) struct StageCpu {
    /// Decoding and hashing, as measured alone.
    decode: f64,
    /// Recovering signers.
    recover: f64,
    /// gRPC, the pool, and everything else on async threads.
    pool: f64,
    /// The order log.
    log: f64,
    execute: f64,
    /// Roots of state, transactions and receipts.
    root: f64,
    /// The executor's store, with RocksDB's own threads for all stores.
    persist: f64,
    /// Encoding batches.
    batch: f64,
    /// Settlement, which executes everything a second time.
    verify: f64,
    other: f64,
    all: f64,
}

impl StageCpu {
    /// With names, in their order.
    pub(super) fn stages(&self) -> [(&'static str, f64); 11] {
        let Self { decode, recover, pool, log, execute, root, persist, batch, verify, other, all } =
            *self;
        [
            ("decode", decode),
            ("recover", recover),
            ("pool", pool),
            ("log", log),
            ("execute", execute),
            ("root", root),
            ("persist", persist),
            ("batch", batch),
            ("verify", verify),
            ("other", other),
            ("all", all),
        ]
    }
}

impl Clocks {
    pub(super) fn read(chain: &Chain) -> Result<Self> {
        let mut threads = BTreeMap::<String, f64>::new();
        for task in fs::read_dir(format!("/proc/{}/task", chain.pid())).wrap_err("the chain")? {
            let task = task?.path();
            // One may end meanwhile.
            let (Ok(name), Ok(stat)) =
                (fs::read_to_string(task.join("comm")), fs::read_to_string(task.join("stat")))
            else {
                continue;
            };
            let time = cpu_time(&stat).unwrap_or_default();
            *threads.entry(name.trim().to_owned()).or_default() += time.as_secs_f64() * 1e6;
        }
        let text = get(&chain.ready.metrics.da_adapter)?;
        let seconds = |line: &str| -> Option<f64> {
            line.strip_prefix(ENCODED)?.split_whitespace().last()?.parse().ok()
        };
        let encoded = text.lines().filter_map(seconds).sum::<f64>() * 1e6;
        Ok(Self { threads, encoded })
    }

    /// What went on since, of so many transactions, of which each takes `decode` microseconds to decode.
    pub(super) fn since(&self, before: &Self, transactions: f64, decode: f64) -> StageCpu {
        let mut cpu = StageCpu::default();
        for (name, now) in &self.threads {
            let time = (now - before.threads.get(name).unwrap_or(&0.0)) / transactions;
            *cpu.of(name) += time;
            cpu.all += time;
        }
        let encoded = (self.encoded - before.encoded) / transactions;
        (cpu.decode, cpu.recover) = (decode, cpu.recover - decode);
        (cpu.batch, cpu.pool) = (encoded, cpu.pool - encoded);
        cpu
    }
}

impl StageCpu {
    /// What a thread of this name does. Names are cut off at 15 bytes.
    fn of(&mut self, name: &str) -> &mut f64 {
        let begins = |with: &str| name.starts_with(with);
        match name {
            _ if begins("millrace-recove") => &mut self.recover,
            _ if begins("tokio-rt-worker") => &mut self.pool,
            _ if begins("millrace-log") => &mut self.log,
            _ if begins("executor-store") || begins("rocksdb:") => &mut self.persist,
            _ if begins("executor") || begins("execute-") => &mut self.execute,
            _ if begins("rollup-root") => &mut self.root,
            _ if begins("replay-root") || begins("settlement") => &mut self.verify,
            _ => &mut self.other,
        }
    }
}

fn get(url: &str) -> Result<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async { Ok(reqwest::get(url).await?.error_for_status()?.text().await?) })
}

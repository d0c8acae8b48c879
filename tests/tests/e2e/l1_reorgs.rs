//! L1 reorgs of any depth under load, across batches, commitments and deposits, some with a kill -9 while blocks are being taken back: nothing acknowledged is lost or doubled,
//! L2 mints what L1's queue holds in the end, and L1 gives the sequencer's chain.
//!
//! `MILLRACE_REORGS` sets their number (default 12, the full suite has 500), with a kill in the midst of taking blocks back for every fifth; `MILLRACE_SEED` repeats a run.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use alloy::{
    primitives::{Address, B256, Bytes, U256},
    providers::{Provider, RootProvider},
    sol_types::SolCall,
};
use eyre::{Result, WrapErr, ensure, eyre};
use futures::{StreamExt, stream};
use millrace_l1::{
    Rollup, RollupContract, RollupEvent,
    testing::{Anvil, AnvilOptions},
};
use millrace_proto::{QueueEntry, Sequencer, Stage, SubmitError, TxPool};
use millrace_tests::{
    Chain, ChainOptions, Wallet, dev_key, eventually, eventually_within, fresh_address,
    occurrences, setting, transactions, verify,
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::json;
use tokio::{sync::Mutex, task::JoinHandle};

/// The deepest reorg, in L1 blocks.
const DEEPEST: u64 = 64;
/// Reorgs of one L1.
const SESSION: usize = 15;
/// What the log says when blocks are being taken back, and when others are in their place.
const BEGINS: &str = "L2 reorg: ";
const ENDS: &str = "blocks replaced";
/// The account on L1 that deposits.
const DEPOSITOR: u32 = 1;

/// What becomes of the transactions that a reorg takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Mode {
    /// They are gone.
    Lost,
    /// All come again as they were, in other blocks.
    Again,
    /// Deposits are gone, and others come in their place; everything else comes again.
    Replaced,
}

/// What was done.
#[derive(Debug, Default)]
struct Figures {
    reorgs: BTreeMap<Mode, u32>,
    /// By the next power of two of their depths.
    depths: BTreeMap<u64, u32>,
    kills: u32,
    /// Of these, while blocks were being taken back.
    inside: u32,
    /// Of the reorgs, those after which blocks were taken back before the next one.
    unwinds: u32,
    /// Transactions that are final, each once.
    acknowledged: usize,
}

impl Figures {
    fn add(&mut self, other: Self) {
        for (mode, count) in other.reorgs {
            *self.reorgs.entry(mode).or_default() += count;
        }
        for (depth, count) in other.depths {
            *self.depths.entry(depth).or_default() += count;
        }
        self.kills += other.kills;
        self.inside += other.inside;
        self.unwinds += other.unwinds;
        self.acknowledged += other.acknowledged;
    }
}

struct Suite {
    anvil: Arc<Anvil>,
    /// Held by whoever changes L1's blocks: anvil's own clock would go on during a reorg, and lose some.
    mining: Arc<Mutex<()>>,
    miner: JoinHandle<()>,
    chain: Chain,
    l1: RootProvider,
    /// The first L1 block that a reorg may take.
    floor: u64,
    wallet: Wallet,
    paid: Address,
    minted: Address,
    acknowledged: Vec<B256>,
    /// Signed, and not acknowledged yet.
    open: Option<(Bytes, B256)>,
    random: StdRng,
    figures: Figures,
}

impl Suite {
    async fn start(seed: u64) -> Result<Self> {
        // Nothing that the reorgs take is final on L1.
        let anvil = Arc::new(Anvil::start(AnvilOptions {
            no_mining: true,
            slots_in_an_epoch: Some(DEEPEST * 4),
            ..AnvilOptions::default()
        })?);
        let mining = Arc::new(Mutex::new(()));
        let miner = tokio::spawn(mine(anvil.clone(), mining.clone()));
        let options = ChainOptions::default().on(anvil.url().clone()).args([
            "--batch-age",
            "1s",
            "--block-time",
            "50ms",
            "--da",
            "l1_calldata",
        ]);
        let chain = Chain::start(options).await?;
        let l1 = chain.l1_provider();
        let floor = l1.get_block_number().await? + 1;
        let wallet = Wallet::new(dev_key(0), chain.provider()).await?;
        Ok(Self {
            anvil,
            mining,
            miner,
            chain,
            l1,
            floor,
            wallet,
            paid: fresh_address(),
            minted: fresh_address(),
            acknowledged: Vec::new(),
            open: None,
            random: StdRng::seed_from_u64(seed),
            figures: Figures::default(),
        })
    }

    /// Submits transfers until so many are acknowledged.
    async fn transfer(&mut self, count: u64) -> Result<()> {
        let client = self.chain.sequencer()?;
        for _ in 0..count {
            let (raw, hash) = match self.open.clone() {
                Some(open) => open,
                None => {
                    let to = self.paid.into();
                    self.wallet.sign(to, U256::from(1), Bytes::new(), 21_000)
                }
            };
            self.open = Some((raw.clone(), hash));
            let submitted = eventually("an answer", || async {
                match client.submit(raw.clone()).await {
                    // It is away, or takes blocks back.
                    Err(SubmitError::Failed(error)) => Err(error.into()),
                    Err(SubmitError::Rejected(reason)) => Ok(Some(Err(reason))),
                    Ok(hash) => Ok(Some(Ok(hash))),
                }
            })
            .await?;
            if let Err(reason) = submitted {
                let taken = matches!(reason.code(), "ALREADY_KNOWN" | "NONCE_TOO_LOW");
                ensure!(taken, "{hash} was refused: {reason}");
            }
            self.acknowledged.push(hash);
            self.open = None;
        }
        Ok(())
    }

    /// Deposits on L1.
    async fn deposit(&mut self) -> Result<()> {
        let rollup = self.chain.ready().rollup;
        let value = U256::from(self.random.random_range(1..u64::MAX >> 8));
        let input = Rollup::depositETHCall { to: self.minted }.abi_encode();
        // A reorg may have taken its last ones.
        let mut wallet = Wallet::new(dev_key(DEPOSITOR), self.l1.clone()).await?;
        let (raw, _) = wallet.sign(rollup.into(), value, input.into(), 300_000);
        let _pending = self.l1.send_raw_transaction(&raw).await?;
        Ok(())
    }

    /// What L1's queue mints.
    async fn queued(&self) -> Result<U256> {
        let rollup = RollupContract::new(self.anvil.client().clone(), self.chain.ready().rollup);
        let head = self.l1.get_block_number().await?;
        let events = rollup.events(self.floor.saturating_sub(1), head).await?;
        let values = events.into_iter().filter_map(|event| match event {
            RollupEvent::Queued { entry: QueueEntry::Deposit(deposit), .. } => Some(deposit.value),
            _ => None,
        });
        Ok(values.fold(U256::ZERO, |sum, value| sum + value))
    }

    /// Waits until L2 has minted what L1's queue holds.
    async fn mints_what_is_queued(&self) -> Result<()> {
        let l2 = self.chain.provider();
        eventually_within(Duration::from_secs(180), "what L1's queue holds on L2", || async {
            let (minted, queued) = (l2.get_balance(self.minted).await?, self.queued().await?);
            (minted == queued).then_some(Some(())).ok_or_else(|| eyre!("{minted} of {queued}"))
        })
        .await
        .wrap_err_with(|| self.chain.log())
    }

    /// A reorg that takes the L1 block `from` at least, if it can. Returns how many deposits are gone.
    async fn reorg(&mut self, mode: Mode, from: u64) -> Result<usize> {
        let _mining = self.mining.lock().await;
        let head = self.l1.get_block_number().await?;
        let deepest = DEEPEST.min(head + 1 - self.floor).max(1);
        let depth =
            self.random.random_range((head + 1).saturating_sub(from).clamp(1, deepest)..=deepest);
        let held = transactions(&self.l1, head + 1 - depth, head).await?;
        let depositor = dev_key(DEPOSITOR).address();
        let comes = |from: &Address| match mode {
            Mode::Lost => false,
            Mode::Again => true,
            Mode::Replaced => *from != depositor,
        };
        // As many blocks later as there is room for all.
        let room = held.last().map_or(0, |(_, _, last)| depth - 1 - last);
        let later = self.random.random_range(0..=room);
        let gone = held.iter().filter(|(from, _, _)| *from == depositor && !comes(from)).count();
        let held: Vec<_> = held
            .into_iter()
            .filter(|(from, _, _)| comes(from))
            .map(|(_, raw, before)| (raw, before + later))
            .collect();
        self.anvil.reorg_to(depth, &held).await?;
        // Its clock went back with the blocks.
        let block = self.l1.get_block_by_number(Default::default()).await?;
        let time = block.ok_or_else(|| eyre!("no L1 block"))?.header.timestamp;
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        self.anvil.rpc("evm_increaseTime", json!([now.saturating_sub(time)])).await?;
        *self.figures.reorgs.entry(mode).or_default() += 1;
        *self.figures.depths.entry(depth.next_power_of_two()).or_default() += 1;
        Ok(gone)
    }

    /// One reorg, with what goes before and comes after.
    async fn round(&mut self, kills: bool) -> Result<()> {
        let transfers = self.random.random_range(1..6);
        self.transfer(transfers).await?;
        // With a kill, what blocks hold is to be taken.
        let from = if kills { self.l1.get_block_number().await? } else { u64::MAX };
        if kills || self.random.random_bool(0.5) {
            self.deposit().await?;
            self.mints_what_is_queued().await?;
        }
        self.transfer(1).await?;
        let last = *self.acknowledged.last().ok_or_else(|| eyre!("nothing was acknowledged"))?;
        let stage = [Stage::Sequenced, Stage::Posted, Stage::Committed];
        let stage = stage[self.random.random_range(0..3)];
        self.chain.wait_for(last, stage).await?;
        let modes = [Mode::Lost, Mode::Again, Mode::Replaced];
        let mode = if kills { Mode::Replaced } else { modes[self.random.random_range(0..3)] };
        let before = self.chain.log_length()?;
        let mut gone = self.reorg(mode, from).await?;
        // Rarely, nothing comes in the place of the last: blocks are taken back only after `deposit_patience` then.
        if self.random.random_bool(0.02) && !kills {
            gone = gone.saturating_sub(1);
        }
        for _ in 0..gone {
            self.deposit().await?;
        }
        if kills {
            self.kill(before).await?;
        }
        self.figures.unwinds += u32::from(self.chain.log_from(before)?.contains(BEGINS));
        Ok(())
    }

    /// Kills the chain once its log from `before` on says that it takes blocks back, or after some seconds, and starts it again.
    async fn kill(&mut self, before: u64) -> Result<()> {
        let chain = &self.chain;
        let begins = async {
            while chain.log_from(before).is_ok_and(|log| !log.contains(BEGINS)) {
                tokio::time::sleep(Duration::from_micros(200)).await;
            }
        };
        let _ = tokio::time::timeout(Duration::from_secs(6), begins).await;
        // Not a wait for a condition: the instant of the kill is what the test varies.
        let more = self.random.random_range(0..4_000);
        tokio::time::sleep(Duration::from_micros(more)).await;
        self.chain.kill().await?;
        self.figures.kills += 1;
        let log = self.chain.log_from(before)?;
        self.figures.inside += u32::from(log.contains(BEGINS) && !log.contains(ENDS));
        self.chain = self.chain.restart().await?;
        self.wallet.reconnect(self.chain.provider());
        Ok(())
    }

    /// Everything has come to its end, once.
    async fn check(mut self) -> Result<Figures> {
        self.transfer(1).await?;
        self.mints_what_is_queued().await?;
        let client = self.chain.sequencer()?;
        let last = *self.acknowledged.last().ok_or_else(|| eyre!("nothing was acknowledged"))?;
        self.chain.wait_for(last, Stage::Committed).await?;
        // A second apart, as windows are counted in L1's time.
        self.anvil.rpc("anvil_mine", json!([DEEPEST * 10, 1])).await?;
        self.chain.wait_for(last, Stage::Finalized).await?;
        let mut waiting = stream::iter(&self.acknowledged)
            .map(async |hash| (hash, client.wait_for(*hash, Stage::Finalized).await))
            .buffer_unordered(64);
        while let Some((hash, status)) = waiting.next().await {
            let status =
                status.map_err(|error| eyre!("{hash} was acknowledged, and now: {error}"))?;
            ensure!(status.stage == Stage::Finalized, "{hash} was acknowledged, and is {status:?}");
        }
        let counts: HashMap<B256, u32> = occurrences(&self.chain).await?;
        for hash in &self.acknowledged {
            let count = counts.get(hash);
            ensure!(count == Some(&1), "{hash} is {count:?} times in the chain");
        }
        let paid = self.chain.provider().get_balance(self.paid).await?;
        ensure!(paid == U256::from(self.acknowledged.len()), "{paid} were paid");
        self.mints_what_is_queued().await?;
        ensure!(verify(self.chain.ready(), &[]).await?["ok"] == true);
        self.figures.acknowledged = self.acknowledged.len();
        Ok(std::mem::take(&mut self.figures))
    }
}

impl Drop for Suite {
    fn drop(&mut self) {
        self.miner.abort();
    }
}

/// Mines a block every quarter of a second.
async fn mine(anvil: Arc<Anvil>, mining: Arc<Mutex<()>>) {
    let mut clock = tokio::time::interval(Duration::from_millis(250));
    loop {
        clock.tick().await;
        let _mining = mining.lock().await;
        // A block that is not mined comes a little later.
        let _ = anvil.mine(1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reorgs_lose_and_double_nothing() -> Result<()> {
    let reorgs: u32 = setting("MILLRACE_REORGS", 12);
    let seed: u64 = setting("MILLRACE_SEED", rand::random());
    println!("{reorgs} reorgs, MILLRACE_SEED={seed}");
    let mut figures = Figures::default();
    // Anvil keeps the state of so many blocks alone: another L1 and another chain now and then.
    for first in (0..reorgs).step_by(SESSION) {
        let last = reorgs.min(first + SESSION as u32);
        let about = || format!("reorgs {first} to {last}, MILLRACE_SEED={seed}");
        let mut suite = Suite::start(seed.wrapping_add(first.into())).await.wrap_err_with(about)?;
        let mut reorg = first;
        // A kill that comes too early or too late is made up for.
        let due = |reorg: u32, inside: u32| inside < reorg.saturating_add(1) / 5;
        while reorg < last
            || last == reorgs && due(reorgs - 1, figures.inside + suite.figures.inside)
        {
            let kills = due(reorg, figures.inside + suite.figures.inside);
            suite.round(kills).await.wrap_err_with(about)?;
            reorg += 1;
        }
        figures.add(suite.check().await.wrap_err_with(about)?);
        println!("{last} reorgs: {figures:?}");
    }
    Ok(())
}

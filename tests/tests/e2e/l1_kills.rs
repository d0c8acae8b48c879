//! kill -9 of each of the two services that send to L1, alone and while all others run on, between what it does for a transaction: signing and journaling it, sending it, and seeing it
//! included. No batch is lost or posted twice, no transaction is sent for nothing, and no nonce is used for two.
//!
//! `MILLRACE_KILLS` sets their number (default 8, the full suite has 400: 200 of each service, the da-adapter's with blobs and with calldata in turn),
//! `MILLRACE_SEED` repeats a run.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use alloy::primitives::{Address, B256, U256};
use eyre::{Result, WrapErr, ensure};
use millrace_l1::{
    TxManagerConfig,
    testing::{Anvil, Fault, FaultProxy},
};
use millrace_proto::{DaAdapter, Stage};
use millrace_tests::{
    Bids, Service, Services, ServicesOptions, Wallet, anvil, dev_key, eventually, fresh_address,
    l1_accounts, posted_once, setting, verify,
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::Value;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Time between what there is to post until the trap springs.
const LURE: Duration = Duration::from_secs(2);
/// How long that may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where a kill falls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// It has asked for all that it needs to know: before it is signed, between that and the journal, or before it is sent.
    Signing,
    /// It is in the journal and arrives nowhere.
    NotSent,
    /// L1 has it, and the answer does not come.
    Sent,
    /// It is included, and its receipt asked for.
    LookedFor,
}

impl Place {
    /// The longest time from there to the kill: what happens until then is what the places do not tell apart.
    const fn span(self) -> Duration {
        match self {
            Self::Signing => Duration::from_millis(12),
            Self::NotSent | Self::Sent | Self::LookedFor => Duration::from_millis(3),
        }
    }
}

const PLACES: [Place; 4] = [Place::Signing, Place::NotSent, Place::Sent, Place::LookedFor];

/// Whose transaction, of which kind, is waited for, and what has been seen of it.
#[derive(Debug)]
struct Aim {
    place: Place,
    account: Address,
    with_blobs: bool,
    is_estimated: bool,
    sent: Vec<B256>,
}

/// When to strike next.
#[derive(Debug, Default)]
struct Trap {
    armed: Mutex<Option<Aim>>,
    sprung: Notify,
    bids: Bids,
}

impl Trap {
    fn arm(&self, place: Place, account: Address, with_blobs: bool) {
        let aim = Aim { place, account, with_blobs, is_estimated: false, sent: Vec::new() };
        *self.armed.lock().unwrap_or_else(PoisonError::into_inner) = Some(aim);
    }

    /// What happens to a request.
    fn fault(&self, request: &Value) -> Fault {
        let bid = self.bids.note(request);
        let mut armed = self.armed.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(aim) = armed.as_mut() else { return Fault::None };
        let method = request["method"].as_str().unwrap_or_default();
        let first = &request["params"][0];
        let bid =
            bid.filter(|bid| (bid.sender, bid.blob_fee.is_some()) == (aim.account, aim.with_blobs));
        aim.sent.extend(bid.as_ref().map(|bid| bid.hash));
        aim.is_estimated |= method == "eth_estimateGas" && aim.is_of(first);
        let (springs, fault) = match aim.place {
            Place::Signing => {
                let asks = method == "eth_getBalance" && parsed(first) == Some(aim.account);
                (aim.is_estimated && asks, Fault::None)
            }
            Place::NotSent => (bid.is_some(), Fault::Hang),
            Place::Sent => (bid.is_some(), Fault::LoseReply),
            Place::LookedFor => {
                let is_sent = parsed(first).is_some_and(|hash| aim.sent.contains(&hash));
                (method == "eth_getTransactionReceipt" && is_sent, Fault::None)
            }
        };
        if !springs {
            return Fault::None;
        }
        *armed = None;
        self.sprung.notify_one();
        fault
    }
}

impl Aim {
    /// Whether a call that is tried is the one that is waited for.
    fn is_of(&self, call: &Value) -> bool {
        let has_blobs = call["blobVersionedHashes"].as_array().is_some_and(|all| !all.is_empty());
        parsed(&call["from"]) == Some(self.account) && has_blobs == self.with_blobs
    }
}

fn parsed<T: std::str::FromStr>(value: &Value) -> Option<T> {
    value.as_str()?.parse().ok()
}

struct Suite {
    anvil: Anvil,
    trap: Arc<Trap>,
    chain: Services,
    wallet: Wallet,
    caps: TxManagerConfig,
    _proxy: FaultProxy,
}

impl Suite {
    async fn start() -> Result<Self> {
        let anvil = anvil(8)?;
        let trap = Arc::new(Trap::default());
        let told = trap.clone();
        let script = move |_, request: &Value| told.fault(request);
        let proxy = FaultProxy::start_reading(anvil.url().clone(), script).await;
        let caps = TxManagerConfig {
            resubmit_after: Duration::from_secs(10),
            poll_interval: Duration::from_millis(250),
            ..TxManagerConfig::default()
        };
        let options = ServicesOptions::behind(&proxy, &anvil, caps.clone());
        let chain = Services::start(options).await?;
        let wallet = Wallet::new(dev_key(0), chain.ready().provider()).await?;
        Ok(Self { anvil, trap, chain, wallet, caps, _proxy: proxy })
    }

    /// Has batches go into blobs, or calldata, from the next one on.
    async fn post_with(&self, blobs: bool) -> Result<()> {
        let backend = if blobs { "l1_blob" } else { "l1_calldata" };
        let da = self.chain.da_adapter()?;
        // It may have been started this moment.
        let told = || async { Ok(Some(da.use_backend(Some(backend)).await?)) };
        eventually("the da-adapter takes a choice", told).await
    }

    /// A kill of a service when the trap springs, and a little later. There is something to post until then.
    async fn kill(&mut self, service: Service, later: Duration) -> Result<()> {
        let Self { trap, chain, wallet, .. } = self;
        let (ready, over) = (chain.ready().clone(), CancellationToken::new());
        let lure = async {
            while !over.is_cancelled() {
                let last = wallet.transfer(fresh_address(), U256::from(1)).await?;
                ready.wait_for(last, Stage::Sequenced).await?;
                // Not a wait for a condition: for so long there is nothing more to post.
                let _ = tokio::time::timeout(LURE, over.cancelled()).await;
            }
            Ok::<_, eyre::Report>(())
        };
        let strike = async {
            let sprung = tokio::time::timeout(PATIENCE, trap.sprung.notified()).await;
            if sprung.is_ok() {
                // Not a wait for a condition: the instant of the kill is what the test varies.
                tokio::time::sleep(later).await;
                chain.kill(service).await?;
            }
            over.cancel();
            sprung.wrap_err_with(|| format!("nothing came: {}", chain.log()))?;
            chain.spawn(service)
        };
        let (lured, struck) = tokio::join!(lure, strike);
        lured?;
        struck
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_around_l1_transactions_lose_and_double_nothing() -> Result<()> {
    let kills: usize = setting("MILLRACE_KILLS", 8);
    let seed: u64 = setting("MILLRACE_SEED", rand::random());
    println!("{kills} kills, MILLRACE_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let begins_with_blobs = random.random_bool(0.5);
    let mut suite = Suite::start().await?;
    let mut done = BTreeMap::new();
    for kill in 0..kills {
        let (round, batcher) = (kill / 2, kill.is_multiple_of(2));
        let place = PLACES[round % 4];
        // In turn, and the other way around in the next four.
        let with_blobs = batcher && (round + round / 4).is_multiple_of(2) == begins_with_blobs;
        let (service, account, data) = match (batcher, with_blobs) {
            (true, true) => (Service::DaAdapter, l1_accounts()[0], "blobs"),
            (true, false) => (Service::DaAdapter, l1_accounts()[0], "calldata"),
            (false, _) => (Service::Settlement, l1_accounts()[1], "a commitment"),
        };
        if batcher {
            suite.post_with(with_blobs).await?;
        }
        suite.trap.arm(place, account, with_blobs);
        let share = random.random_range(0.0..1.0) * f64::from(random.random_bool(0.7));
        suite.kill(service, place.span().mul_f64(share)).await.wrap_err_with(|| {
            format!("kill {kill}, {place:?} of {service:?} with {data}, MILLRACE_SEED={seed}")
        })?;
        *done.entry((service, place, data)).or_insert(0) += 1;
    }
    let last = suite.wallet.transfer(fresh_address(), U256::from(1)).await?;
    suite.chain.wait_for(last, Stage::Finalized).await?;
    suite.chain.still_run()?;
    let posted = posted_once(suite.chain.ready(), &suite.anvil, &suite.caps).await?;
    let (versions, replacements) = suite.trap.bids.check(&suite.caps, &posted.sent)?;
    for ((service, place, data), count) in &done {
        println!("{count} kills of {}: {place:?}, with {data}", service.name());
    }
    let (batches, sent) = (posted.batches, posted.sent.len());
    println!("{batches} batches, each once; {sent} transactions on L1, none reverted");
    println!("{versions} versions broadcast, {replacements} of them replacements");
    let summary = verify(suite.chain.ready(), &[]).await?;
    ensure!(summary["ok"] == true, "{summary}");
    Ok(())
}

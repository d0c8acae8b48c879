//! Every kind of fault that an L1 node has, and fees and wallets that get in the way, while a chain is used: no batch is lost or posted twice, no bid is above the cap, and
//! all comes to its end. The caps are low enough for what L1 asks to go above them: what is to be posted waits then, at the cap.
//!
//! `MILLRACE_FAULTS` sets how many of each kind there are at least (default 1, the full suite has 50), `MILLRACE_SEED` repeats which requests are hit, and in which order the kinds come.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use alloy::{
    primitives::{Address, B256, U256},
    providers::{Provider, ProviderBuilder, RootProvider},
};
use eyre::{Result, WrapErr, ensure, eyre};
use millrace_l1::{
    TxManagerConfig,
    testing::{Anvil, Fault, FaultProxy},
};
use millrace_proto::{DaAdapter, Settlement, Stage};
use millrace_tests::{
    Bid, Bids, Services, ServicesOptions, Wallet, anvil, dev_key, eventually_within, fresh_address,
    l1_accounts, posted_once, setting, verify,
};
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::SliceRandom};
use serde_json::{Value, json};

const GWEI: u64 = 1_000_000_000;
/// What L1 asks for a unit of gas, and of blob gas, on a calm day, wei.
const BASE_FEE: u64 = GWEI;
const BLOB_BASE_FEE: u64 = GWEI;
/// How many times as much it asks in a spike.
const SPIKE: u64 = 50;
const BLOB_SPIKE: u64 = 1_000;
/// What the services may bid at most: half of a spike, and a tenth.
const MAX_FEE: u64 = 25 * GWEI;
const MAX_BLOB_FEE: u64 = 100 * GWEI;

/// How long one fault may take to have its effect.
const PATIENCE: Duration = Duration::from_secs(60);

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// No answer until the client gives up.
    Hangs,
    /// HTTP 429.
    TooMany,
    /// HTTP 503.
    Unavailable,
    /// Half a reply.
    Truncated,
    /// A result that is not of the method's type.
    Wrong,
    /// Receipts that are not the block's.
    Swapped,
    /// An old block as the newest.
    Stale,
    /// No events, where there are some.
    Omitted,
    /// A transaction that is taken, and whose reply is lost.
    ReplyLost,
    /// A transaction that the node forgets before it is mined.
    Dropped,
    /// A transaction that is taken and never mined, so that it has to be replaced by a dearer one.
    Unmined,
    /// A base fee 50 times as high, above the cap.
    FeeSpike,
    /// A blob base fee 1,000 times as high, above the cap.
    BlobFeeSpike,
    /// An account without ether.
    EmptyWallet,
}

const KINDS: [Kind; 14] = [
    Kind::Hangs,
    Kind::TooMany,
    Kind::Unavailable,
    Kind::Truncated,
    Kind::Wrong,
    Kind::Swapped,
    Kind::Stale,
    Kind::Omitted,
    Kind::ReplyLost,
    Kind::Dropped,
    Kind::Unmined,
    Kind::FeeSpike,
    Kind::BlobFeeSpike,
    Kind::EmptyWallet,
];

/// What the proxy does.
#[derive(Debug)]
struct Script {
    seed: u64,
    bids: Bids,
    state: Mutex<State>,
}

/// What it does now, and how often it has.
#[derive(Debug)]
struct State {
    kind: Option<Kind>,
    done: u64,
    /// A block that was the newest a while ago.
    old: Value,
    /// What it says that L1 asks for blobs, wei. Anvil itself asks for next to nothing, and cannot be told to ask for more.
    blob_base_fee: u64,
    /// How often each version was broadcast that bids as much as it may, in this spike.
    at_cap: HashMap<B256, u64>,
    /// The newest version of each transaction that was taken and not passed on.
    unmined: HashMap<(Address, u64), Bid>,
    /// The account without ether, and how often its balance was asked for.
    empty: Option<(Address, u64)>,
}

impl Script {
    fn new(seed: u64) -> Self {
        let state = State {
            kind: None,
            done: 0,
            old: Value::Null,
            blob_base_fee: BLOB_BASE_FEE,
            at_cap: HashMap::new(),
            unmined: HashMap::new(),
            empty: None,
        };
        Self { seed, bids: Bids::default(), state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, kind: Option<Kind>) {
        let mut state = self.state();
        (state.kind, state.done) = (kind, 0);
        state.unmined.clear();
    }

    fn count(&self) {
        self.state().done += 1;
    }

    fn done(&self) -> u64 {
        self.state().done
    }

    /// What happens to a request.
    fn fault(&self, number: u64, request: &Value) -> Fault {
        let bid = self.bids.note(request).filter(|bid| l1_accounts().contains(&bid.sender));
        // What befalls a request follows from the seed and its number alone.
        let mut lot = StdRng::seed_from_u64(self.seed.wrapping_add(number));
        let mut state = self.state();
        let method = request["method"].as_str().unwrap_or_default();
        if let Some(fault) = state.node(&mut lot, method, request) {
            state.done += 1;
            return fault;
        }
        if let Some(fault) = bid.and_then(|bid| state.pool(&mut lot, bid)) {
            return fault;
        }
        state.look(method, request);
        match method {
            // The only thing that is asked for it: nobody looks at the headers, as this is answered.
            "eth_blobBaseFee" => Fault::Result(json!(U256::from(state.blob_base_fee))),
            // Anvil suggests what its last blocks paid, which is what the services themselves have offered: they would follow themselves up to their caps.
            "eth_maxPriorityFeePerGas" => Fault::Result(json!(U256::from(GWEI))),
            _ => Fault::None,
        }
    }
}

impl State {
    /// What a node does wrong. Other requests get through, as at one that is overloaded: work goes on, and asks again.
    fn node(&self, lot: &mut StdRng, method: &str, request: &Value) -> Option<Fault> {
        let newest = method == "eth_getBlockByNumber" && request["params"][0] == "latest";
        let events = matches!(method, "eth_getLogs" | "eth_getBlockReceipts");
        let (often, fault) = match self.kind? {
            Kind::Hangs => (0.2, Fault::Hang),
            Kind::TooMany => (0.33, Fault::Status(429)),
            Kind::Unavailable => (0.33, Fault::Status(503)),
            Kind::Truncated => (0.33, Fault::Truncate),
            Kind::Wrong => (0.33, Fault::Result(json!({ "no": "sense" }))),
            Kind::Swapped if method == "eth_getBlockReceipts" => (0.5, Fault::Change(swap)),
            Kind::Stale if newest => (0.33, Fault::Result(self.old.clone())),
            Kind::Omitted if events => (0.5, Fault::Result(json!([]))),
            Kind::ReplyLost if method == "eth_sendRawTransaction" => (0.5, Fault::LoseReply),
            _ => return None,
        };
        lot.random_bool(often).then_some(fault)
    }

    /// What L1's pool does with a version: `Some` if it takes it and does not mine it.
    fn pool(&mut self, lot: &mut StdRng, bid: Bid) -> Option<Fault> {
        let taken = Fault::Result(json!(bid.hash));
        match self.kind? {
            Kind::FeeSpike => {
                // Anvil itself refuses what bids less than it asks.
                if bid.max_fee == MAX_FEE.into() {
                    *self.at_cap.entry(bid.hash).or_default() += 1;
                }
                None
            }
            Kind::BlobFeeSpike => {
                let fee = bid.blob_fee?;
                if fee == MAX_BLOB_FEE.into() {
                    *self.at_cap.entry(bid.hash).or_default() += 1;
                }
                (fee < self.blob_base_fee.into()).then_some(taken)
            }
            Kind::Unmined => {
                let key = (bid.sender, bid.nonce);
                let earlier = self.unmined.get(&key);
                match earlier {
                    // It is not replaced: it is mined after all.
                    Some(earlier) if earlier.hash == bid.hash => return None,
                    Some(earlier) if bid.outbids(earlier) => self.done += 1,
                    _ => {}
                }
                // Some replacements are in for the same.
                let stays = earlier.is_none() || lot.random_bool(0.3);
                self.unmined.insert(key, bid);
                stays.then_some(taken)
            }
            _ => None,
        }
    }

    /// Notes that somebody has seen that an account is empty.
    fn look(&mut self, method: &str, request: &Value) {
        let Some((account, looks)) = &mut self.empty else { return };
        let of = request["params"][0].as_str().and_then(|of| of.parse().ok());
        if method == "eth_getBalance" && of == Some(*account) {
            *looks += 1;
        }
    }
}

/// Says of all transactions that they have failed.
fn swap(receipts: &mut Value) {
    for receipt in receipts.as_array_mut().into_iter().flatten() {
        receipt["status"] = json!("0x0");
    }
}

struct Suite {
    anvil: Anvil,
    l1: RootProvider,
    script: Arc<Script>,
    caps: TxManagerConfig,
    chain: Services,
    wallet: Wallet,
    _proxy: FaultProxy,
}

impl Suite {
    async fn start(seed: u64) -> Result<Self> {
        let anvil = anvil(8)?;
        let script = Arc::new(Script::new(seed));
        let told = script.clone();
        let faults = move |number, request: &Value| told.fault(number, request);
        let proxy = FaultProxy::start_reading(anvil.url().clone(), faults).await;
        let caps = TxManagerConfig {
            max_tip: 10 * GWEI,
            max_fee: MAX_FEE,
            max_blob_fee: MAX_BLOB_FEE,
            // L1 blocks are a second apart.
            resubmit_after: Duration::from_secs(3),
            poll_interval: Duration::from_millis(250),
            ..TxManagerConfig::default()
        };
        let options = ServicesOptions::behind(&proxy, &anvil, caps.clone());
        let chain = Services::start(options).await?;
        let wallet = Wallet::new(dev_key(0), chain.ready().provider()).await?;
        let l1 = ProviderBuilder::default().connect_http(anvil.url().clone());
        Ok(Self { anvil, l1, script, caps, chain, wallet, _proxy: proxy })
    }

    /// Something to post.
    async fn transfer(&mut self) -> Result<B256> {
        let hash = self.wallet.transfer(fresh_address(), U256::from(1)).await?;
        self.chain.wait_for(hash, Stage::Sequenced).await?;
        Ok(hash)
    }

    /// Waits until L1 asks a base fee as is wanted, and has it ask that until it does.
    async fn ask(&self, fee: u64, is_asked: impl Fn(u64) -> bool) -> Result<()> {
        eventually_within(PATIENCE, "L1 asks another fee", || async {
            let head = self.l1.get_block_by_number(Default::default()).await?;
            let asked = head.and_then(|head| head.header.base_fee_per_gas);
            if is_asked(asked.ok_or_else(|| eyre!("no base fee"))?) {
                return Ok(Some(()));
            }
            let params = json!([U256::from(fee)]);
            self.anvil.rpc("anvil_setNextBlockBaseFeePerGas", params).await?;
            Ok(None)
        })
        .await
    }

    async fn calm(&self) -> Result<()> {
        self.ask(BASE_FEE, |asked| asked <= 2 * BASE_FEE).await
    }

    /// Waits until what is to be posted has been broadcast at the cap, and once more without a change.
    async fn held_at_cap(&self) -> Result<()> {
        eventually_within(PATIENCE, "something waits at the cap", || async {
            // A spike lasts: the base fee would fall by an eighth with every block.
            if self.script.state().kind == Some(Kind::FeeSpike) {
                self.ask(SPIKE * BASE_FEE, |asked| asked > SPIKE * BASE_FEE * 3 / 4).await?;
            }
            let held = self.script.state().at_cap.values().any(|times| *times > 1);
            Ok(held.then_some(()))
        })
        .await
    }

    /// L1 asks more than the services may bid: what is to be posted waits at the cap, and is posted when L1 has become cheaper.
    async fn fee_spike(&mut self) -> Result<()> {
        self.ask(SPIKE * BASE_FEE, |asked| asked > SPIKE * BASE_FEE * 3 / 4).await?;
        self.script.state().at_cap.clear();
        let waits = self.transfer().await?;
        self.held_at_cap().await?;
        self.script.count();
        // It falls by itself.
        self.chain.wait_for(waits, Stage::Posted).await?;
        self.calm().await
    }

    /// The same of the fee for blobs.
    async fn blob_fee_spike(&mut self) -> Result<()> {
        {
            let mut state = self.script.state();
            state.blob_base_fee = BLOB_SPIKE * BLOB_BASE_FEE;
            state.at_cap.clear();
        }
        let waits = self.transfer().await?;
        self.held_at_cap().await?;
        self.script.count();
        self.script.state().blob_base_fee = BLOB_BASE_FEE;
        self.chain.wait_for(waits, Stage::Posted).await?;
        Ok(())
    }

    /// Each account in turn has nothing until it was found so by the service that wants to send from it.
    async fn empty_wallets(&mut self) -> Result<()> {
        for account in l1_accounts() {
            let balance = self.l1.get_balance(account).await?;
            self.script.state().empty = Some((account, 0));
            self.anvil.rpc("anvil_setBalance", json!([account, "0x0"])).await?;
            self.transfer().await?;
            eventually_within(PATIENCE, "the empty account is in the way", || async {
                // Once it may have been looked at for the metrics alone.
                let looks = self.script.state().empty.map_or(0, |(_, looks)| looks);
                Ok((looks > 1).then_some(()))
            })
            .await?;
            self.script.state().empty = None;
            self.script.count();
            self.anvil.rpc("anvil_setBalance", json!([account, balance])).await?;
        }
        Ok(())
    }

    /// A block that the node says is the newest, later on.
    async fn remember_a_block(&self) -> Result<()> {
        let head = self.l1.get_block_number().await?;
        let at = format!("{:#x}", head.saturating_sub(5));
        let old = self.anvil.rpc("eth_getBlockByNumber", json!([at, false])).await?;
        self.script.state().old = old;
        Ok(())
    }

    /// The node forgets all that waits to be mined.
    async fn drop_what_waits(&self) -> Result<()> {
        let pool = self.anvil.rpc("txpool_content", json!([])).await?;
        let accounts = pool["pending"].as_object().into_iter().flat_map(|map| map.values());
        for tx in accounts.flat_map(|account| account.as_object().into_iter().flatten()) {
            let gone = self.anvil.rpc("anvil_dropTransaction", json!([tx.1["hash"]])).await?;
            if !gone.is_null() {
                self.script.count();
            }
        }
        Ok(())
    }

    /// So many faults of a kind, while the chain is used, and the end of what was sent meanwhile.
    async fn trouble(&mut self, kind: Kind, count: u64) -> Result<u64> {
        self.calm().await?;
        self.remember_a_block().await?;
        self.script.begin(Some(kind));
        let mut last = self.transfer().await?;
        let (began, mut sent) = (Instant::now(), Instant::now());
        let patience = PATIENCE * u32::try_from(count + 1)?;
        let mut clock = tokio::time::interval(Duration::from_millis(100));
        while self.script.done() < count {
            ensure!(began.elapsed() < patience, "only {} in {patience:?}", self.script.done());
            match kind {
                Kind::FeeSpike => self.fee_spike().await?,
                Kind::BlobFeeSpike => self.blob_fee_spike().await?,
                Kind::EmptyWallet => self.empty_wallets().await?,
                Kind::Stale => self.remember_a_block().await?,
                Kind::Dropped => self.drop_what_waits().await?,
                _ => {}
            }
            clock.tick().await;
            if sent.elapsed() > Duration::from_secs(1) {
                last = self.transfer().await?;
                sent = Instant::now();
            }
        }
        let done = self.script.done();
        self.script.begin(None);
        self.chain.wait_for(last, Stage::Committed).await?;
        Ok(done)
    }

    /// Whether no service has halted, or ended.
    async fn none_halts(&mut self) -> Result<()> {
        let (da, settlement) = (self.chain.da_adapter()?, self.chain.settlement()?);
        eventually_within(3 * PATIENCE, "nothing halts", || async {
            let halted =
                (da.da_status().await?.halted, settlement.settlement_status().await?.halted);
            ensure!(halted == (None, None), "{halted:?}");
            Ok(Some(()))
        })
        .await?;
        self.chain.still_run()
    }

    /// All batches and bids are as they should be.
    async fn check(&mut self) -> Result<()> {
        let last = self.transfer().await?;
        self.chain.wait_for(last, Stage::Finalized).await?;
        let posted = posted_once(self.chain.ready(), &self.anvil, &self.caps).await?;
        let (batches, sent) = (posted.batches, posted.sent.len());
        println!("{batches} batches, each once; {sent} transactions on L1, none reverted");
        let (versions, replacements) = self.script.bids.check(&self.caps, &posted.sent)?;
        println!(
            "{versions} versions broadcast, {replacements} of them replacements, no bid above its cap"
        );
        ensure!(verify(self.chain.ready(), &[]).await?["ok"] == true);
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_l1_does_batches_are_posted_once_below_the_caps() -> Result<()> {
    let count: u64 = setting("MILLRACE_FAULTS", 1);
    let seed: u64 = setting("MILLRACE_SEED", rand::random());
    println!("{count} of each kind, MILLRACE_SEED={seed}");
    let mut kinds = KINDS;
    kinds.shuffle(&mut StdRng::seed_from_u64(seed));
    let mut suite = Suite::start(seed).await?;
    // The chain has its place on L1 before anything goes wrong.
    let first = suite.transfer().await?;
    suite.chain.wait_for(first, Stage::Committed).await?;
    let mut done = BTreeMap::new();
    for kind in kinds {
        let began = Instant::now();
        let faults = suite
            .trouble(kind, count)
            .await
            .wrap_err_with(|| format!("{kind:?}, MILLRACE_SEED={seed}\n{}", suite.chain.log()))?;
        println!("{kind:?}: {faults} in {:?}", began.elapsed());
        done.insert(kind, faults);
    }
    suite.none_halts().await.wrap_err_with(|| suite.chain.log())?;
    suite.check().await.wrap_err_with(|| suite.chain.log())?;
    println!("{done:?}");
    Ok(())
}

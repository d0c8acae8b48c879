//! Every kind of fault that an L1 node has, and fees and wallets that get in the way, while a chain is used: no batch is lost or posted twice, no bid is above the cap, and
//! all comes to its end.
//!
//! `MILLRACE_FAULTS` sets how many of each kind there are at least (default 1, the full suite has 50).

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use alloy::{
    primitives::U256,
    providers::{Provider, ProviderBuilder, RootProvider},
};
use eyre::{Result, WrapErr, ensure};
use millrace_l1::testing::{Anvil, Fault, FaultProxy};
use millrace_proto::Stage;
use millrace_tests::{
    Chain, ChainOptions, Wallet, anvil, dev_key, eventually_within, fresh_address, l1_accounts,
    posted_once, setting, verify,
};
use serde_json::{Value, json};

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u64)]
enum Kind {
    /// Nothing.
    None,
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
    /// A base fee 50 times as high.
    FeeSpike,
    /// A blob base fee 1,000 times as high.
    BlobFeeSpike,
    /// An account without ether.
    EmptyWallet,
}

const KINDS: [Kind; 13] = [
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
    Kind::FeeSpike,
    Kind::BlobFeeSpike,
    Kind::EmptyWallet,
];

/// What the proxy does now, and how often it has.
#[derive(Debug, Default)]
struct Script {
    kind: AtomicU64,
    done: AtomicU64,
    /// A block that was the newest a while ago.
    old: std::sync::Mutex<Value>,
}

impl Script {
    fn set(&self, kind: Kind) {
        self.kind.store(kind as u64, Ordering::SeqCst);
        self.done.store(0, Ordering::SeqCst);
    }

    fn count(&self) {
        self.done.fetch_add(1, Ordering::SeqCst);
    }

    /// What happens to a request.
    fn fault(&self, number: u64, request: &Value) -> Fault {
        let method = request["method"].as_str().unwrap_or_default();
        let kind = self.kind.load(Ordering::SeqCst);
        let is = |wanted: Kind| kind == wanted as u64;
        // Others get through, as at a node that is overloaded.
        let some = number.is_multiple_of(3);
        let newest = method == "eth_getBlockByNumber" && request["params"][0] == "latest";
        let fault = if is(Kind::Hangs) && number.is_multiple_of(5) {
            Fault::Hang
        } else if is(Kind::TooMany) && some {
            Fault::Status(429)
        } else if is(Kind::Unavailable) && some {
            Fault::Status(503)
        } else if is(Kind::Truncated) && some {
            Fault::Truncate
        } else if is(Kind::Wrong) && some {
            Fault::Result(json!({ "no": "sense" }))
        } else if is(Kind::Swapped) && method == "eth_getBlockReceipts" {
            Fault::Change(|receipts| {
                for receipt in receipts.as_array_mut().into_iter().flatten() {
                    receipt["status"] = json!("0x0");
                }
            })
        } else if is(Kind::Stale) && newest && some {
            Fault::Result(self.old.lock().expect("no panic").clone())
        } else if is(Kind::Omitted)
            // Enough is shown for work to go on, and to ask again.
            && number.is_multiple_of(2)
            && matches!(method, "eth_getLogs" | "eth_getBlockReceipts")
        {
            Fault::Result(json!([]))
        } else if is(Kind::ReplyLost) && method == "eth_sendRawTransaction" {
            Fault::LoseReply
        } else if is(Kind::BlobFeeSpike) && method == "eth_blobBaseFee" {
            Fault::Change(|fee| {
                let now: U256 = serde_json::from_value(fee.clone()).unwrap_or_default();
                *fee = json!(now * U256::from(1_000));
            })
        } else {
            Fault::None
        };
        if !matches!(fault, Fault::None) {
            self.count();
        }
        fault
    }
}

struct Suite {
    anvil: Anvil,
    l1: RootProvider,
    script: Arc<Script>,
    chain: Chain,
    wallet: Wallet,
    _proxy: FaultProxy,
}

impl Suite {
    async fn start() -> Result<Self> {
        let anvil = anvil(8)?;
        let script = Arc::new(Script::default());
        let told = script.clone();
        let faults = move |number, request: &Value| told.fault(number, request);
        let proxy = FaultProxy::start_reading(anvil.url().clone(), faults).await;
        let beacon = anvil.url().to_string();
        let options = ChainOptions::default().on(proxy.url.clone());
        let options = options.args(["--beacon", &beacon, "--batch-age", "1s"]);
        let chain = Chain::start(options).await?;
        let wallet = Wallet::new(dev_key(0), chain.provider()).await?;
        let l1 = ProviderBuilder::default().connect_http(anvil.url().clone());
        Ok(Self { anvil, l1, script, chain, wallet, _proxy: proxy })
    }

    /// What a kind does that the proxy does not.
    async fn beside(&self, kind: Kind) -> Result<()> {
        match kind {
            Kind::Stale => {
                let head = self.l1.get_block_number().await?;
                let at = format!("{:#x}", head.saturating_sub(5));
                let old = self.anvil.rpc("eth_getBlockByNumber", json!([at, false])).await?;
                *self.script.old.lock().expect("no panic") = old;
            }
            Kind::Dropped => {
                let pool = self.anvil.rpc("txpool_content", json!([])).await?;
                for account in pool["pending"].as_object().into_iter().flat_map(|map| map.values())
                {
                    for tx in account.as_object().into_iter().flat_map(|map| map.values()) {
                        let gone =
                            self.anvil.rpc("anvil_dropTransaction", json!([tx["hash"]])).await?;
                        if !gone.is_null() {
                            self.script.count();
                        }
                    }
                }
            }
            Kind::FeeSpike => {
                let block = self.l1.get_block_by_number(Default::default()).await?;
                let fee = block.and_then(|block| block.header.base_fee_per_gas).unwrap_or(1);
                // It falls by an eighth a block: another one comes when it is over.
                if fee < 10_000_000_000 {
                    let spike = json!([U256::from(fee.max(1_000_000_000)) * U256::from(50)]);
                    self.anvil.rpc("anvil_setNextBlockBaseFeePerGas", spike).await?;
                    self.script.count();
                }
            }
            Kind::EmptyWallet => {
                for account in l1_accounts() {
                    let balance = self.l1.get_balance(account).await?;
                    self.anvil.rpc("anvil_setBalance", json!([account, "0x0"])).await?;
                    self.script.count();
                    // Not a wait for a condition: for so long it is empty.
                    tokio::time::sleep(Duration::from_millis(700)).await;
                    self.anvil.rpc("anvil_setBalance", json!([account, balance])).await?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// So many faults of a kind, while the chain is used, and the end of what was sent meanwhile.
    async fn trouble(&mut self, kind: Kind, count: u64) -> Result<u64> {
        self.beside(Kind::Stale).await?;
        self.script.set(kind);
        let mut last = self.wallet.transfer(fresh_address(), U256::from(1)).await?;
        let script = self.script.clone();
        let mut idle = 0;
        while script.done.load(Ordering::SeqCst) < count {
            self.beside(kind).await?;
            tokio::time::sleep(Duration::from_millis(100)).await;
            idle += 1;
            // Something to post.
            if idle % 10 == 0 {
                last = self.wallet.transfer(fresh_address(), U256::from(1)).await?;
                self.chain.wait_for(last, Stage::Sequenced).await?;
            }
            ensure!(idle < 6_000, "only {} of {kind:?}", script.done.load(Ordering::SeqCst));
        }
        let done = self.script.done.load(Ordering::SeqCst);
        self.script.set(Kind::None);
        self.chain.wait_for(last, Stage::Committed).await?;
        Ok(done)
    }

    /// All batches and bids are as they should be.
    async fn check(&mut self) -> Result<()> {
        let last = self.wallet.transfer(fresh_address(), U256::from(1)).await?;
        self.chain.wait_for(last, Stage::Finalized).await?;
        let (batches, sent) = posted_once(&self.chain, &self.anvil).await?;
        println!("{batches} batches, each once; {sent} transactions on L1, none reverted");
        ensure!(verify(self.chain.ready(), &[]).await?["ok"] == true);
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_l1_does_batches_are_posted_once_below_the_caps() -> Result<()> {
    let count: u64 = setting("MILLRACE_FAULTS", 1);
    let mut suite = Suite::start().await?;
    let mut done = BTreeMap::new();
    for kind in KINDS {
        let began = std::time::Instant::now();
        let faults = suite.trouble(kind, count).await;
        let faults = faults.wrap_err_with(|| format!("{kind:?}\n{}", suite.chain.log()))?;
        println!("{kind:?}: {faults} in {:?}", began.elapsed());
        done.insert(kind, faults);
    }
    eventually_within(Duration::from_secs(180), "nothing halts", || async {
        let status = suite.chain.status();
        Ok(status["status"]["halted"].is_null().then_some(()))
    })
    .await?;
    suite.check().await.wrap_err_with(|| suite.chain.log())?;
    println!("{done:?}");
    Ok(())
}

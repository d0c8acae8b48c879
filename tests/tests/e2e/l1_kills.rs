//! kill -9 of the services that send to L1, each between what they do for a transaction: asking for its gas, signing and journaling it, sending it, and seeing it included. No batch is lost
//! or posted twice, and no transaction is sent for nothing.
//!
//! `MILLRACE_KILLS` sets their number (default 8, the full suite has 400: 200 of each service), `MILLRACE_SEED` repeats a run.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use alloy::{
    consensus::{TxEnvelope, transaction::SignerRecoverable},
    eips::Decodable2718,
    primitives::{Address, Bytes, U256},
};
use eyre::{Result, WrapErr, ensure, eyre};
use millrace_l1::testing::{Fault, FaultProxy};
use millrace_proto::Stage;
use millrace_tests::{
    Chain, ChainOptions, Wallet, anvil, dev_key, fresh_address, l1_accounts, posted_once, setting,
    verify,
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::Value;
use tokio::sync::Notify;

/// Where a kill falls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// After it has asked for its gas: before it is signed, between that and the journal, or before it is sent.
    Estimated,
    /// It is in the journal and arrives nowhere.
    NotSent,
    /// L1 has it, and the answer does not come.
    Sent,
    /// It is in flight or included, and looked for.
    LookedFor,
}

const PLACES: [Place; 4] = [Place::Estimated, Place::NotSent, Place::Sent, Place::LookedFor];

/// When to strike next.
#[derive(Debug, Default)]
struct Trap {
    /// The place and whose transaction; and whether that one was sent.
    armed: std::sync::Mutex<Option<(Place, Address, bool)>>,
    sprung: Notify,
}

impl Trap {
    fn arm(&self, place: Place, account: Address) {
        *self.armed.lock().expect("no panic") = Some((place, account, false));
    }

    /// What happens to a request.
    fn fault(&self, request: &Value) -> Fault {
        let mut armed = self.armed.lock().expect("no panic");
        let Some((place, account, sent)) = armed.as_mut() else { return Fault::None };
        let method = request["method"].as_str().unwrap_or_default();
        let sends = method == "eth_sendRawTransaction" && sender(request) == Some(*account);
        *sent |= sends;
        let (springs, fault) = match place {
            Place::Estimated => {
                let from = request["params"][0]["from"].as_str().and_then(|from| from.parse().ok());
                (method == "eth_estimateGas" && from == Some(*account), Fault::None)
            }
            Place::NotSent => (sends, Fault::Hang),
            Place::Sent => (sends, Fault::LoseReply),
            Place::LookedFor => (*sent && method == "eth_getTransactionReceipt", Fault::None),
        };
        if !springs {
            return Fault::None;
        }
        *armed = None;
        self.sprung.notify_one();
        fault
    }
}

/// Who has signed what is sent.
fn sender(request: &Value) -> Option<Address> {
    let raw: Bytes = request["params"][0].as_str()?.parse().ok()?;
    TxEnvelope::decode_2718(&mut raw.as_ref()).ok()?.recover_signer().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_around_l1_transactions_lose_and_double_nothing() -> Result<()> {
    let kills: usize = setting("MILLRACE_KILLS", 8);
    let seed: u64 = setting("MILLRACE_SEED", rand::random());
    println!("{kills} kills, MILLRACE_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let anvil = anvil(8)?;
    let trap = Arc::new(Trap::default());
    let told = trap.clone();
    let script = move |_, request: &Value| told.fault(request);
    let proxy = FaultProxy::start_reading(anvil.url().clone(), script).await;
    let beacon = anvil.url().to_string();
    let options = ChainOptions::default().on(proxy.url.clone());
    // What is sent can be read: it has no blobs beside it.
    let options = options.args(["--beacon", &beacon, "--batch-age", "1s", "--da", "l1_calldata"]);
    let mut chain = Chain::start(options).await?;
    let mut wallet = Wallet::new(dev_key(0), chain.provider()).await?;
    let mut done = BTreeMap::new();
    for kill in 0..kills {
        let about = || format!("kill {kill}, MILLRACE_SEED={seed}");
        let (place, account) = (PLACES[kill / 2 % 4], l1_accounts()[kill % 2]);
        let last = wallet.transfer(fresh_address(), U256::from(1)).await?;
        chain.wait_for(last, Stage::Sequenced).await?;
        trap.arm(place, account);
        let sprung = tokio::time::timeout(Duration::from_secs(60), trap.sprung.notified()).await;
        sprung.wrap_err_with(|| format!("{place:?}: {}; {}", about(), chain.log()))?;
        // Not a wait for a condition: the instant of the kill is what the test varies.
        let more = random.random_range(0..3_000) * u64::from(random.random_bool(0.7));
        tokio::time::sleep(Duration::from_micros(more)).await;
        chain.kill().await?;
        chain = chain.restart().await.wrap_err_with(about)?;
        wallet.reconnect(chain.provider());
        *done.entry((place, kill % 2 == 0)).or_insert(0) += 1;
    }
    let last = wallet.transfer(fresh_address(), U256::from(1)).await?;
    chain.wait_for(last, Stage::Finalized).await?;
    let (batches, sent) = posted_once(&chain, &anvil).await?;
    let by = |batcher: bool| if batcher { "da-adapter" } else { "settlement" };
    for ((place, batcher), count) in &done {
        println!("{count} kills of {}: {place:?}", by(*batcher));
    }
    println!("{batches} batches, each once; {sent} transactions on L1, none reverted");
    let summary = verify(chain.ready(), &[]).await?;
    ensure!(summary["ok"] == true, eyre!("{summary}"));
    Ok(())
}

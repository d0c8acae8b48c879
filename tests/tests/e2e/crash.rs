//! kill -9 of the all-in-one at random moments under load: nothing acknowledged is lost or doubled, and L1 still gives the same
//! chain.
//!
//! `MILLRACE_KILLS` sets the number of cycles (default 100), `MILLRACE_SEED` repeats a run.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use alloy::{
    primitives::{Address, B256, Bytes, U256},
    providers::Provider,
};
use eyre::{Result, ensure, eyre};
use futures::{StreamExt, stream};
use millrace_proto::{Sequencer, Stage, SubmitError, TxPool};
use millrace_tests::{
    Chain, ChainOptions, Wallet, dev_key, fresh_address, occurrences, setting, verify,
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::sync::Mutex;

/// Accounts that send at the same time.
const SENDERS: u32 = 4;

/// One account's transactions: signed once, offered again after a crash until they are acknowledged.
struct Sender {
    wallet: Wallet,
    /// Signed, and not acknowledged yet.
    open: Option<(Bytes, B256)>,
}

/// Sends until told to stop. Returns what was acknowledged.
async fn load(
    chain: &Chain,
    sender: &Mutex<Sender>,
    to: Address,
    stop: &AtomicBool,
) -> Result<Vec<B256>> {
    let client = chain.sequencer()?;
    let mut sender = sender.lock().await;
    let mut acknowledged = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let (raw, hash) = match sender.open.clone() {
            Some(open) => open,
            None => {
                let signed = sender.wallet.sign(to.into(), U256::from(1), Bytes::new(), 21_000)?;
                sender.open = Some(signed.clone());
                signed
            }
        };
        match client.submit(raw).await {
            Ok(accepted) => {
                ensure!(accepted == hash, "acknowledged {accepted} for {hash}");
                acknowledged.push(hash);
                sender.open = None;
            }
            Err(SubmitError::Rejected(reason)) => {
                // It was taken before the crash, without an answer that arrived.
                let taken = matches!(reason.code(), "ALREADY_KNOWN" | "NONCE_TOO_LOW");
                ensure!(taken, "{hash} was refused: {reason}");
                acknowledged.push(hash);
                sender.open = None;
            }
            // The process is gone: the same transaction is offered again to the next one.
            Err(SubmitError::Failed(_)) => break,
        }
    }
    Ok(acknowledged)
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_lose_and_double_nothing() -> Result<()> {
    let kills: u32 = setting("MILLRACE_KILLS", 100);
    let seed: u64 = setting("MILLRACE_SEED", rand::random());
    println!("{kills} kills, MILLRACE_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let to = fresh_address();

    let options = ChainOptions::default().args(["--batch-age", "2s"]);
    let mut chain = Chain::start(options).await?;
    let mut senders = Vec::new();
    for index in 0..SENDERS {
        let wallet = Wallet::new(dev_key(index), chain.provider()).await?;
        senders.push(Arc::new(Mutex::new(Sender { wallet, open: None })));
    }
    let mut acknowledged = Vec::new();
    for kill in 0..kills {
        let stop = AtomicBool::new(false);
        let lifetime = Duration::from_millis(random.random_range(0..1_500));
        let loads = futures::future::try_join_all(
            senders.iter().map(|sender| load(&chain, sender, to, &stop)),
        );
        // Not a wait for a condition: the instant of the kill is what the test varies.
        let (done, ()) = tokio::join!(loads, async {
            tokio::time::sleep(lifetime).await;
            stop.store(true, Ordering::Relaxed);
        });
        acknowledged.extend(done?.into_iter().flatten());
        chain.kill().await?;
        chain = chain
            .restart()
            .await
            .map_err(|error| error.wrap_err(format!("kill {kill}, MILLRACE_SEED={seed}")))?;
    }
    ensure!(!acknowledged.is_empty(), "nothing was acknowledged");

    let client = chain.sequencer()?;
    let mut waiting = stream::iter(&acknowledged)
        .map(async |hash| (hash, client.wait_for(*hash, Stage::Sequenced).await))
        .buffer_unordered(64);
    while let Some((hash, status)) = waiting.next().await {
        let status = status.map_err(|error| eyre!("{hash} was acknowledged, and now: {error}"))?;
        ensure!(status.inclusion.is_some(), "{hash} was acknowledged, and is {status:?}");
    }
    let counts = occurrences(&chain).await?;
    for hash in &acknowledged {
        ensure!(
            counts.get(hash) == Some(&1),
            "{hash} is {:?} times in the chain",
            counts.get(hash)
        );
    }
    let received = chain.provider().get_balance(to).await?;
    let unacknowledged = U256::from(SENDERS);
    let expected = U256::from(acknowledged.len());
    ensure!(
        received >= expected && received <= expected + unacknowledged,
        "{received} arrived of {expected}"
    );
    let last = acknowledged.last().ok_or_else(|| eyre!("nothing was acknowledged"))?;
    chain.wait_for(*last, Stage::Finalized).await?;
    ensure!(verify(chain.ready(), &[]).await?["ok"] == true);
    println!("{} transactions acknowledged through {kills} kills", acknowledged.len());
    Ok(())
}

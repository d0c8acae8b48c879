//! kill -9 of the all-in-one at random moments under load: nothing acknowledged is lost or doubled, and L1 still gives the same
//! chain.
//!
//! `MILLRACE_KILLS` sets the number of cycles (default 100), `MILLRACE_BATCH` how many transactions each sender has under way (default 1: a call each;
//! 1024 is more than the chain takes, and L1's blobs do not hold that much: it goes to an object store then), `MILLRACE_SEED` repeats a run.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use alloy::{
    primitives::{Address, B256, Bytes, U256},
    providers::Provider,
};
use eyre::{Result, bail, ensure, eyre};
use millrace_proto::{
    Sequencer, Stage,
    grpc::pb::{
        self, sequencer_client::SequencerClient, submit_transactions_response::Result as Reply,
        transaction_result::Result as Answer,
    },
};
use millrace_tests::{
    Chain, ChainOptions, Wallet, dev_key, eventually, fresh_address, occurrences, setting, verify,
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::sync::{Mutex, mpsc};
use tokio_stream::wrappers::ReceiverStream;

/// Accounts that send at the same time.
const SENDERS: u32 = 4;
/// Batches that each has signed before it begins: at full load, what the chain takes in a second and a half.
const SIGNED_AHEAD: usize = 24;

/// One account's transactions: signed once, offered again after a crash until they are acknowledged.
struct Sender {
    wallet: Wallet,
    to: Address,
    batch: usize,
    /// Signed, and not acknowledged yet; by nonce.
    open: VecDeque<(Bytes, B256)>,
    acknowledged: Vec<B256>,
}

impl Sender {
    fn sign(&mut self, count: usize) {
        while self.open.len() < count {
            let signed = self.wallet.sign(self.to.into(), U256::from(1), Bytes::new(), 21_000);
            self.open.push_back(signed);
        }
    }

    /// Sends until told to stop, or the process is gone: the same transactions are offered again to the next one.
    async fn send(&mut self, chain: &Chain, stop: &AtomicBool) -> Result<()> {
        let mut client = SequencerClient::connect(chain.ready().grpc.to_string()).await?;
        let (requests, sent) = mpsc::channel(1);
        let Ok(replies) = client.submit_transactions(ReceiverStream::new(sent)).await else {
            return Ok(());
        };
        let mut replies = replies.into_inner();
        while !stop.load(Ordering::Relaxed) {
            self.sign(self.batch);
            let batch = self.open.iter().take(self.batch).map(|(raw, _)| raw.0.clone()).collect();
            let request = pb::SubmitTransactionsRequest { batch, ..Default::default() };
            if requests.send(request).await.is_err() {
                break;
            }
            // The next ones meanwhile.
            self.sign(2 * self.batch);
            match replies.message().await {
                Ok(Some(reply)) => self.answered(reply)?,
                Ok(None) | Err(_) => break,
            }
        }
        Ok(())
    }

    fn answered(&mut self, reply: pb::SubmitTransactionsResponse) -> Result<()> {
        let Some(Reply::Batch(answers)) = reply.result else { bail!("{reply:?}") };
        let mut kept = VecDeque::new();
        for answer in answers.results {
            let (raw, hash) = self.open.pop_front().ok_or_else(|| eyre!("too many answers"))?;
            match answer.result {
                Some(Answer::Status(status)) => {
                    ensure!(*status.hash == hash.0, "acknowledged {status:?} for {hash}");
                    self.acknowledged.push(hash);
                }
                // It was taken before the crash, without an answer that arrived.
                Some(Answer::Rejection(why))
                    if matches!(why.reason.as_str(), "ALREADY_KNOWN" | "NONCE_TOO_LOW") =>
                {
                    self.acknowledged.push(hash);
                }
                Some(Answer::Rejection(why)) if why.retry_after_ms > 0 => {
                    kept.push_back((raw, hash));
                }
                // One before it was told to come again.
                Some(Answer::Rejection(why))
                    if why.reason == "NONCE_TOO_FAR" && !kept.is_empty() =>
                {
                    kept.push_back((raw, hash));
                }
                other => bail!("{hash} was refused: {other:?}"),
            }
        }
        kept.append(&mut self.open);
        self.open = kept;
        Ok(())
    }
}

/// Of one sender.
fn transactions_at_once() -> usize {
    setting("MILLRACE_BATCH", 1)
}

async fn senders(chain: &Chain, to: Address) -> Result<Vec<Arc<Mutex<Sender>>>> {
    let batch = transactions_at_once();
    let mut senders = Vec::new();
    for index in 0..SENDERS {
        let wallet = Wallet::new(dev_key(index), chain.provider()).await?;
        let (open, acknowledged) = (VecDeque::new(), Vec::new());
        senders.push(Arc::new(Mutex::new(Sender { wallet, to, batch, open, acknowledged })));
    }
    Ok(senders)
}

/// Has all send at the same time until `ended`, which begins when enough is signed.
async fn send_until(
    chain: &Chain,
    senders: &[Arc<Mutex<Sender>>],
    ended: impl Future<Output = ()>,
) -> Result<()> {
    let sign = senders.iter().map(|sender| {
        let sender = sender.clone();
        tokio::task::spawn_blocking(move || {
            let mut sender = sender.blocking_lock();
            let count = SIGNED_AHEAD * sender.batch;
            sender.sign(count);
        })
    });
    futures::future::try_join_all(sign).await?;
    let stop = AtomicBool::new(false);
    let loads = senders.iter().map(async |sender| sender.lock().await.send(chain, &stop).await);
    let (done, ()) = tokio::join!(futures::future::try_join_all(loads), async {
        ended.await;
        stop.store(true, Ordering::Relaxed);
    });
    done.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_lose_and_double_nothing() -> Result<()> {
    let kills: u32 = setting("MILLRACE_KILLS", 100);
    let seed: u64 = setting("MILLRACE_SEED", rand::random());
    println!("{kills} kills, MILLRACE_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let to = fresh_address();

    let mut options = ChainOptions::default().args(["--batch-age", "2s"]);
    if transactions_at_once() > 1 {
        options = options.args(["--da", "object_store"]);
    }
    let mut chain = Chain::start(options).await?;
    let senders = senders(&chain, to).await?;
    let mut restarts = Vec::new();
    for kill in 0..kills {
        let lifetime = Duration::from_millis(random.random_range(0..1_500));
        // Not a wait for a condition: the instant of the kill is what the test varies.
        send_until(&chain, &senders, tokio::time::sleep(lifetime)).await?;
        chain.kill().await?;
        let killed = Instant::now();
        chain = chain
            .restart()
            .await
            .map_err(|error| error.wrap_err(format!("kill {kill}, MILLRACE_SEED={seed}")))?;
        restarts.push(killed.elapsed());
        if (kill + 1) % 10 == 0 {
            println!("{} kills, the last one's restart {:?}", kill + 1, killed.elapsed());
        }
    }
    restarts.sort_unstable();
    let percentile = |percent: usize| restarts.get(restarts.len() * percent / 100);
    println!(
        "from the kill until the chain is ready again: p50 {:?}, p99 {:?}, at most {:?}",
        percentile(50),
        percentile(99),
        restarts.last()
    );
    all_is_there(&chain, &senders, to).await
}

/// Whatever was acknowledged is in a block once, final, and what L1 gives is the same chain.
async fn all_is_there(chain: &Chain, senders: &[Arc<Mutex<Sender>>], to: Address) -> Result<()> {
    let client = chain.sequencer()?;
    let (mut acknowledged, mut ends) = (Vec::new(), Vec::new());
    for sender in senders {
        let sender = sender.lock().await;
        if let Some(last) = sender.acknowledged.last() {
            let status = client.wait_for(*last, Stage::Sequenced).await;
            let status = status.map_err(|error| eyre!("{last} was acknowledged: {error}"))?;
            ensure!(status.inclusion.is_some(), "{last} was acknowledged, and is {status:?}");
            ends.push(*last);
        }
        acknowledged.extend(sender.acknowledged.iter().copied());
    }
    ensure!(!acknowledged.is_empty(), "nothing was acknowledged");
    println!("{} acknowledged", acknowledged.len());
    let counts = occurrences(chain).await?;
    for hash in &acknowledged {
        ensure!(
            counts.get(hash) == Some(&1),
            "{hash} is {:?} times in the chain",
            counts.get(hash)
        );
    }
    ensure!(counts.values().all(|count| *count == 1), "one that nobody was told of is doubled");
    println!("each is in a block once");
    let received = chain.provider().get_balance(to).await?;
    let expected = U256::from(acknowledged.len());
    // Each has one batch under way.
    let unacknowledged = U256::from(senders.len() * transactions_at_once());
    ensure!(
        received >= expected && received <= expected + unacknowledged,
        "{received} arrived of {expected}"
    );
    for last in ends {
        chain.wait_for(last, Stage::Finalized).await?;
    }
    println!("all are final");
    ensure!(verify(chain.ready(), &[]).await?["ok"] == true);
    println!("L1 gives the same chain");
    Ok(())
}

/// The executor's store may be far behind the order log, as after a crash of the machine: what follows is executed again from there, and comes to the same blocks.
/// `MILLRACE_BEHIND` sets by how many blocks (default 100).
#[tokio::test(flavor = "multi_thread")]
async fn an_executor_that_is_far_behind_comes_to_the_same_blocks() -> Result<()> {
    let behind: u64 = setting("MILLRACE_BEHIND", 100);
    let to = fresh_address();
    let mut chain = Chain::start(ChainOptions::default().args(["--block-time", "25ms"])).await?;
    let senders = senders(&chain, to).await?;
    let has_blocks = async |chain: &Chain, count: u64| {
        let provider = chain.provider();
        eventually("the blocks", || async {
            Ok((provider.get_block_number().await? >= count).then_some(()))
        })
        .await
    };
    let sent = |reached: Result<()>| reached.expect("blocks are sealed");
    send_until(&chain, &senders, async { sent(has_blocks(&chain, 3).await) }).await?;
    chain.kill().await?;
    let early = chain.keep("executor")?;
    chain = chain.restart().await?;
    let from = chain.provider().get_block_number().await?;
    send_until(&chain, &senders, async { sent(has_blocks(&chain, from + behind).await) }).await?;
    let provider = chain.provider();
    let last = provider.get_block_number().await?;
    let hash = async |provider: &dyn Provider| -> Result<B256> {
        let block = provider.get_block_by_number(last.into()).await?;
        Ok(block.ok_or_else(|| eyre!("block {last} is missing"))?.header.hash)
    };
    let before = hash(&provider).await?;
    chain.kill().await?;
    chain.put_back("executor", &early)?;
    let started = Instant::now();
    chain = chain.restart().await?;
    println!("{behind} blocks behind: ready {:?} after the start", started.elapsed());
    ensure!(hash(&chain.provider()).await? == before, "block {last} is another one");
    all_is_there(&chain, &senders, to).await
}

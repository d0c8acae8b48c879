//! Those who flood, in a process of their own. Each is at an address of its own, all of which are this machine's.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use alloy::{
    consensus::{SignableTransaction, TxEip1559, TxEnvelope},
    eips::Encodable2718,
    network::TxSignerSync,
    primitives::{Address, Bytes, U256},
    providers::{Provider, RootProvider},
};
use eyre::{Result, eyre};
use futures::{StreamExt, future::join_all, stream};
use millrace_proto::grpc::pb::{self, sequencer_client::SequencerClient};
use millrace_tests::{Wallet, dev_key, eventually};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines},
    net::{TcpSocket, TcpStream},
    process::{Child, ChildStdout, Command},
    sync::Semaphore,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tonic::transport::Endpoint;
use url::Url;

/// Tasks that hold connections open, of each way to do so at each port, and connections of each: several times what one address may have.
const HOLDERS: usize = 33;
const HELD: usize = 10;
/// Transactions of each kind, all of which are in each message; and messages that wait for their reply.
const BATCH: u64 = 64;
const WAITING: usize = 16;

/// Where the attackers' process finds what to attack.
const TARGET: &str = "MILLRACE_FLOOD_TARGET";
/// What that process says once every kind of attack has done something.
const UNDER_WAY: &str = "the flood is under way";

/// The attackers' process, as the test sees it.
pub(super) struct Attackers {
    process: Child,
    says: Lines<BufReader<ChildStdout>>,
}

impl Attackers {
    /// Starts them, and waits until all are under way. They have the processor's time that nobody else wants: elsewhere they have machines of their own.
    pub(super) async fn start(target: &Target) -> Result<Self> {
        let mut process = Command::new("nice")
            .args(["-n", "19"])
            .arg(std::env::current_exe()?)
            .args(["--exact", "flood::attack::attackers", "--nocapture"])
            .env(TARGET, serde_json::to_string(target)?)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let says = process.stdout.take().ok_or_else(|| eyre!("no standard output"))?;
        let mut attackers = Self { process, says: BufReader::new(says).lines() };
        attackers.heard(|line| line.contains(UNDER_WAY)).await?;
        Ok(attackers)
    }

    /// Ends them. Returns what they did.
    pub(super) async fn stop(mut self) -> Result<String> {
        drop(self.process.stdin.take());
        let counts = self.heard(|line| line.contains("Counts")).await?;
        self.process.wait().await?;
        Ok(counts)
    }

    async fn heard(&mut self, what: impl Fn(&str) -> bool) -> Result<String> {
        loop {
            let line = self.says.next_line().await?;
            match line.ok_or_else(|| eyre!("the attackers are gone"))? {
                line if what(&line) => return Ok(line),
                _ => {}
            }
        }
    }
}

/// What is attacked.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Target {
    pub(super) grpc: Url,
    pub(super) rpc: Url,
    pub(super) chain_id: u64,
}

/// The attackers' process: until its standard input ends. Anywhere else there is nothing to attack.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn attackers() -> Result<()> {
    let Ok(target) = std::env::var(TARGET) else { return Ok(()) };
    let attack = Attack::start(&serde_json::from_str(&target)?).await?;
    attack.all_under_way().await?;
    println!("{UNDER_WAY}");
    tokio::io::stdin().read_to_end(&mut Vec::new()).await?;
    println!("{:?}", attack.stop().await);
    Ok(())
}

/// What the flood did.
#[derive(Debug, Default)]
struct Counts {
    transactions: AtomicU64,
    calls: AtomicU64,
    connections: AtomicU64,
    resets: AtomicU64,
    reset_connections: AtomicU64,
}

/// A flood that goes on until it is stopped.
struct Attack {
    counts: Arc<Counts>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Attack {
    async fn start(target: &Target) -> Result<Self> {
        let bad: Arc<[Bytes]> = bad_transactions(target).await?.into();
        let Target { grpc, rpc, .. } = target;
        let mut attack =
            Self { counts: Arc::default(), stop: CancellationToken::new(), tasks: JoinSet::new() };
        let body = Arc::new(calls(&bad));
        for _ in 0..4 {
            let (url, bad) = (grpc.clone(), bad.clone());
            attack.repeat(move |counts| submit(url.clone(), bad.clone(), counts));
            let client = reqwest::Client::builder().local_address(from(3)).build()?;
            let (url, body) = (rpc.clone(), body.clone());
            attack.repeat(move |counts| call(client.clone(), url.clone(), body.clone(), counts));
        }
        for (url, holder, resetter) in [(grpc, 4, 5), (rpc, 6, 7)] {
            let to = address(url)?;
            // Nothing, half of a request's head, and half of how HTTP/2 begins.
            for start in
                [&b""[..], b"POST / HTTP/1.1\r\nhost: x\r\nx: ", b"PRI * HTTP/2.0\r\n\r\nSM"]
            {
                for _ in 0..HOLDERS {
                    attack.repeat(move |counts| hold(to, holder, start, counts));
                }
            }
            for _ in 0..2 {
                attack.repeat(move |counts| reset(to, resetter, counts));
            }
        }
        Ok(attack)
    }

    /// Does something again and again.
    fn repeat<F>(&mut self, what: impl Fn(Arc<Counts>) -> F + Send + Sync + 'static)
    where
        F: Future<Output = Result<()>> + Send,
    {
        let (counts, stop) = (self.counts.clone(), self.stop.clone());
        self.tasks.spawn(async move {
            let again = async {
                loop {
                    // To be refused is what it is for.
                    let _ = what(counts.clone()).await;
                    tokio::task::yield_now().await;
                }
            };
            let _: Option<()> = stop.run_until_cancelled(again).await;
        });
    }

    /// Waits until every kind has done something.
    async fn all_under_way(&self) -> Result<()> {
        eventually("all to be under way", || async {
            let Counts { transactions, calls, connections, resets, reset_connections } =
                &*self.counts;
            let each = [transactions, calls, connections, resets, reset_connections];
            let begun = each.into_iter().all(|count| count.load(Ordering::Relaxed) > 0);
            let idle = connections.load(Ordering::Relaxed) as usize > HOLDERS * HELD;
            Ok((begun && idle).then_some(()))
        })
        .await
    }

    async fn stop(mut self) -> Arc<Counts> {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
        self.counts
    }
}

/// Malformed, underpriced, and known already; in turn.
async fn bad_transactions(target: &Target) -> Result<Vec<Bytes>> {
    let provider = RootProvider::new_http(target.rpc.clone());
    let mut wallet = Wallet::new(dev_key(5), provider.clone()).await?;
    let (known, _) = wallet.sign(Address::ZERO.into(), U256::ZERO, Bytes::new(), 21_000);
    let _pending = provider.send_raw_transaction(&known).await?;
    let mut cheap = TxEip1559 {
        chain_id: target.chain_id,
        gas_limit: 21_000,
        to: Address::ZERO.into(),
        max_fee_per_gas: 1,
        ..TxEip1559::default()
    };
    let mut bad = Vec::new();
    for nonce in 0..BATCH {
        cheap.nonce = nonce;
        let signature = dev_key(6).sign_transaction_sync(&mut cheap)?;
        let signed = TxEnvelope::from(cheap.clone().into_signed(signature)).encoded_2718();
        let malformed = signed.get(..40).unwrap_or_default().to_vec();
        bad.extend([malformed.into(), signed.into(), known.clone()]);
    }
    Ok(bad)
}

/// This machine under another address.
fn from(octet: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 0, octet).into()
}

fn address(url: &Url) -> Result<SocketAddr> {
    let port = url.port().ok_or_else(|| eyre!("{url} has no port"))?;
    Ok((Ipv4Addr::LOCALHOST, port).into())
}

async fn connect(to: SocketAddr, octet: u8) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((from(octet), 0).into())?;
    Ok(socket.connect(to).await?)
}

/// Ends a stream of requests with the call: its connection would stay for as long as there may be another request.
struct EndsWithCall(Arc<Semaphore>);

impl Drop for EndsWithCall {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Submits over one stream until it breaks, without waiting for replies more than has to be.
async fn submit(url: Url, bad: Arc<[Bytes]>, counts: Arc<Counts>) -> Result<()> {
    let channel =
        Endpoint::from_shared(url.to_string())?.local_address(Some(from(2))).connect().await?;
    let room = Arc::new(Semaphore::new(WAITING));
    let waiting = EndsWithCall(room.clone());
    let requests = stream::unfold((bad, room), |(bad, room)| async move {
        room.acquire().await.ok()?.forget();
        let batch = bad.iter().map(|raw| raw.0.clone()).collect();
        let request = pb::SubmitTransactionsRequest { batch, ..Default::default() };
        Some((request, (bad, room)))
    });
    let mut client = SequencerClient::new(channel);
    let mut replies = client.submit_transactions(requests).await?.into_inner();
    while replies.next().await.transpose()?.is_some() {
        waiting.0.add_permits(1);
        counts.transactions.fetch_add(3 * BATCH, Ordering::Relaxed);
    }
    Ok(())
}

/// The same as calls, and some that are none.
fn calls(bad: &[Bytes]) -> Value {
    let mut calls: Vec<_> = (0..)
        .zip(bad)
        .map(|(id, raw)| json!({ "jsonrpc": "2.0", "id": id, "method": "eth_sendRawTransaction", "params": [raw] }))
        .collect();
    calls.extend([json!(7), json!({ "jsonrpc": "2.0" }), json!({ "method": [] })]);
    calls.into()
}

async fn call(
    client: reqwest::Client,
    url: Url,
    body: Arc<Value>,
    counts: Arc<Counts>,
) -> Result<()> {
    client.post(url.clone()).json(&*body).send().await?.bytes().await?;
    client.post(url).header("content-type", "application/json").body("[{").send().await?;
    counts.calls.fetch_add(2, Ordering::Relaxed);
    Ok(())
}

/// Opens connections and leaves them there until the server has enough.
async fn hold(to: SocketAddr, octet: u8, start: &'static [u8], counts: Arc<Counts>) -> Result<()> {
    join_all((0..HELD).map(async |_| {
        let mut socket = connect(to, octet).await?;
        counts.connections.fetch_add(1, Ordering::Relaxed);
        socket.write_all(start).await?;
        let mut end = Vec::new();
        socket.read_to_end(&mut end).await?;
        Ok::<_, eyre::Report>(())
    }))
    .await;
    Ok(())
}

/// Takes each call back at once, until the server has enough (CVE-2023-44487).
async fn reset(to: SocketAddr, octet: u8, counts: Arc<Counts>) -> Result<()> {
    let (sender, connection) = h2::client::handshake(connect(to, octet).await?).await?;
    counts.reset_connections.fetch_add(1, Ordering::Relaxed);
    let connection = tokio::spawn(connection);
    let connection = tokio_util::task::AbortOnDropHandle::new(connection);
    while !connection.is_finished() {
        let mut sender = sender.clone().ready().await?;
        let request = http::Request::post("http://x/millrace.v1.Sequencer/GetStatus");
        let request = request.header("content-type", "application/grpc").body(())?;
        let (_, mut body) = sender.send_request(request, false)?;
        body.send_reset(h2::Reason::CANCEL);
        counts.resets.fetch_add(1, Ordering::Relaxed);
        tokio::task::yield_now().await;
    }
    Ok(())
}

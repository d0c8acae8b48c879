//! Sends over JSON-RPC, to any Ethereum node: how much of it is accepted, and how fast. Nothing is followed any further.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use alloy::primitives::TxHash;
use eyre::{Result, WrapErr, ensure, eyre};
use futures::future::try_join_all;
use reqwest::Client;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use url::Url;

use super::plan::{Plan, Signed};

/// How long a node may take for a call.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at whether the setup is in a block.
const LOOK: Duration = Duration::from_millis(100);

/// How it is sent.
#[derive(Debug, Clone)]
pub(super) struct Rpc {
    pub(super) url: Url,
    pub(super) connections: u16,
    /// Calls in one request.
    pub(super) batch: u16,
    /// Nothing new is sent after that.
    pub(super) duration: Duration,
}

/// What a node made of it.
#[derive(Debug, Default, Serialize)]
pub(super) struct RpcReport {
    pub(super) sent: u64,
    /// Answered with the transaction's hash.
    pub(super) accepted: u64,
    /// Until the last answer, seconds.
    pub(super) seconds: f64,
    pub(super) accepted_per_s: f64,
    /// How often, by the node's words.
    pub(super) errors: BTreeMap<String, u64>,
}

#[derive(Deserialize)]
struct Answer {
    id: u64,
    result: Option<Value>,
    error: Option<Failure>,
}

#[derive(Deserialize)]
struct Failure {
    message: String,
}

/// One connection: in order, a request at a time, so that a sender's transactions are taken in their order.
struct Line {
    client: Client,
    rpc: Rpc,
    plan: Arc<Plan>,
    /// Indices in the plan's load.
    share: Vec<usize>,
}

impl Rpc {
    /// Brings the setup into blocks, then sends the load.
    pub(super) async fn run(&self, plan: Plan) -> Result<RpcReport> {
        self.check_chain(plan.chain_id).await?;
        for step in &plan.setup {
            self.setup(step).await?;
        }
        let plan = Arc::new(plan);
        let begin = Instant::now();
        let lines = self.lines(&plan)?.into_iter().map(|line| line.run(begin));
        let mut all = RpcReport::default();
        for one in try_join_all(lines).await? {
            all.sent += one.sent;
            all.accepted += one.accepted;
            for (error, count) in one.errors {
                *all.errors.entry(error).or_default() += count;
            }
        }
        all.seconds = begin.elapsed().as_secs_f64();
        all.accepted_per_s = all.accepted as f64 / all.seconds;
        Ok(all)
    }

    async fn check_chain(&self, expected: u64) -> Result<()> {
        let chain_id = call(&client()?, &self.url, "eth_chainId", json!([])).await?;
        let chain_id = chain_id.as_str().unwrap_or_default();
        let is_it = u64::from_str_radix(chain_id.trim_start_matches("0x"), 16) == Ok(expected);
        ensure!(is_it, "the load is signed for chain {expected}, and this is {chain_id}");
        Ok(())
    }

    async fn setup(&self, step: &[Signed]) -> Result<()> {
        let client = client()?;
        for tx in step {
            let sent = call(&client, &self.url, "eth_sendRawTransaction", json!([tx.raw])).await;
            if let Err(error) = sent {
                // It may be there from before.
                let known = call(&client, &self.url, "eth_getTransactionByHash", json!([tx.hash]));
                ensure!(!known.await?.is_null(), "the setup was not taken: {error}");
            }
        }
        let Some(last) = step.last() else { return Ok(()) };
        let mined = async {
            while call(&client, &self.url, "eth_getTransactionReceipt", json!([last.hash]))
                .await?
                .is_null()
            {
                tokio::time::sleep(LOOK).await;
            }
            Ok(())
        };
        let mined = tokio::time::timeout(PATIENCE, mined).await;
        mined.wrap_err("the setup does not get into blocks")?
    }

    /// The load's shares: a sender's transactions are all on one connection.
    fn lines(&self, plan: &Arc<Plan>) -> Result<Vec<Line>> {
        let count = u32::from(self.connections);
        let mut shares = vec![Vec::new(); usize::from(self.connections)];
        for (index, tx) in plan.load.iter().enumerate() {
            shares[(tx.sender % count) as usize].push(index);
        }
        let line =
            |share| Ok(Line { client: client()?, rpc: self.clone(), plan: plan.clone(), share });
        shares.into_iter().map(line).collect()
    }
}

impl Line {
    async fn run(self, begin: Instant) -> Result<RpcReport> {
        let mut report = RpcReport::default();
        for chunk in self.share.chunks(usize::from(self.rpc.batch)) {
            if begin.elapsed() >= self.rpc.duration {
                break;
            }
            report.sent += chunk.len() as u64;
            for (accepted, error) in self.send(chunk).await? {
                report.accepted += u64::from(accepted);
                if let Some(error) = error {
                    *report.errors.entry(error).or_default() += 1;
                }
            }
        }
        Ok(report)
    }

    /// Whether each was accepted, or why not.
    async fn send(&self, chunk: &[usize]) -> Result<Vec<(bool, Option<String>)>> {
        let txs: Vec<&Signed> = chunk.iter().map(|index| &self.plan.load[*index]).collect();
        let request = |(id, tx): (usize, &&Signed)| json!({"jsonrpc": "2.0", "id": id, "method": "eth_sendRawTransaction", "params": [tx.raw]});
        let requests: Vec<Value> = txs.iter().enumerate().map(request).collect();
        let body = match &requests[..] {
            [one] => one.to_string(),
            many => serde_json::to_string(many)?,
        };
        let bytes = post(&self.client, &self.rpc.url, body).await?;
        let answers: Vec<Answer> = if requests.len() == 1 {
            vec![serde_json::from_slice(&bytes)?]
        } else {
            serde_json::from_slice(&bytes).wrap_err("the answer to a batch")?
        };
        let told = |answer: Answer| {
            let hash = usize::try_from(answer.id).ok().and_then(|id| txs.get(id)).map(|tx| tx.hash);
            let is_taken = answer.result.is_some_and(|result| is_hash(&result, hash));
            (is_taken, answer.error.map(|error| error.message))
        };
        Ok(answers.into_iter().map(told).collect())
    }
}

fn is_hash(result: &Value, hash: Option<TxHash>) -> bool {
    let result = result.as_str().and_then(|result| result.parse::<TxHash>().ok());
    result.is_some() && result == hash
}

fn client() -> Result<Client> {
    Ok(Client::builder().tcp_nodelay(true).timeout(PATIENCE).build()?)
}

async fn call(client: &Client, url: &Url, method: &str, params: Value) -> Result<Value> {
    let body = json!({"jsonrpc": "2.0", "id": 0, "method": method, "params": params}).to_string();
    let answer: Answer = serde_json::from_slice(&post(client, url, body).await?)?;
    match answer.error {
        Some(error) => Err(eyre!("{method}: {}", error.message)),
        None => Ok(answer.result.unwrap_or_default()),
    }
}

async fn post(client: &Client, url: &Url, body: String) -> Result<Vec<u8>> {
    let request = client.post(url.clone()).header("content-type", "application/json").body(body);
    let reply = request.send().await.and_then(reqwest::Response::error_for_status);
    Ok(reply.wrap_err("the node does not answer")?.bytes().await?.to_vec())
}

//! The nodes behind one client: one that is asked, and others for when that fails.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use alloy::{
    primitives::U64,
    providers::{Provider, RootProvider},
    rpc::client::RpcClient,
    transports::{RpcError, TransportError, TransportErrorKind},
};
use parking_lot::Mutex;
use tracing::{error, info, warn};
use url::Url;

use crate::{ClientOptions, L1Error, error::is_transient, metrics::ClientMetrics};

/// Blocks that a node may lie behind the highest that any has shown.
const MOST_BEHIND: u64 = 16;
/// Blocks that the first node may lie behind for it to be asked again.
const NEARLY: u64 = 2;
/// How long another node is asked before the first is tried again.
const AWAY: Duration = Duration::from_secs(60);
/// JSON-RPC's code for a method that is not there.
const NO_METHOD: i64 = -32_601;

/// Nodes of one L1, in the order of preference.
pub(crate) struct Nodes {
    all: Vec<Node>,
    /// The one that is asked.
    at: AtomicUsize,
    /// Since when, if it is not the first, or when that was last tried.
    since: Mutex<Instant>,
    /// The L1's chain id: as configured, or once a node has said it.
    chain_id: OnceLock<u64>,
    /// Whether it is configured.
    configured: bool,
    /// The highest block that a node has shown.
    highest: AtomicU64,
    /// When it was shown, or last looked for at other nodes.
    shown_at: Mutex<Instant>,
    /// How long after that other nodes are looked at.
    stuck_after: Duration,
}

struct Node {
    host: String,
    provider: RootProvider,
    /// It is of another chain, or lacks a method.
    useless: AtomicBool,
    /// It has said that it is of the chain that is configured.
    confirmed: AtomicBool,
}

impl Nodes {
    pub(crate) fn new(http: &reqwest::Client, urls: Vec<Url>, options: &ClientOptions) -> Self {
        let node = |url: Url| Node {
            // URLs of hosted nodes carry a key in the path.
            host: url.host_str().unwrap_or_default().to_owned(),
            provider: RootProvider::new(RpcClient::new_http_with_client(http.clone(), url)),
            useless: AtomicBool::new(false),
            confirmed: AtomicBool::new(false),
        };
        Self {
            all: urls.into_iter().map(node).collect(),
            at: AtomicUsize::new(0),
            since: Mutex::new(Instant::now()),
            chain_id: options.chain_id.map_or_else(OnceLock::new, OnceLock::from),
            configured: options.chain_id.is_some(),
            highest: AtomicU64::new(0),
            shown_at: Mutex::new(Instant::now()),
            stuck_after: options.stuck_after,
        }
    }

    /// The one to ask now, and its place.
    pub(crate) async fn current(&self, metrics: &ClientMetrics) -> (usize, &RootProvider) {
        let at = self.at.load(Ordering::Acquire);
        if self.is_stuck() {
            let next = self.highest.load(Ordering::Acquire).saturating_add(1);
            match self.head_of(at).await {
                // Nobody has asked it for a while.
                Some(head) if head >= next => self.shown(head),
                _ => self.leave_for(at, next, metrics).await,
            }
        }
        let at = self.at.load(Ordering::Acquire);
        if at != 0 && self.is_time() && self.keeps_up(0).await {
            let _ = self.at.compare_exchange(at, 0, Ordering::AcqRel, Ordering::Acquire);
            info!(target: "millrace::l1", host = self.all[0].host, "the first L1 node answers again");
        }
        let at = self.at.load(Ordering::Acquire);
        (at, &self.all[at].provider)
    }

    /// The place of the one that is asked.
    pub(crate) fn at(&self) -> usize {
        self.at.load(Ordering::Acquire)
    }

    /// The nodes that are not asked now, those that answer and are of the same chain, with their hosts.
    pub(crate) async fn others(&self) -> Vec<(&str, &RootProvider)> {
        let at = self.at();
        let mut others = Vec::new();
        for (number, node) in self.all.iter().enumerate() {
            if number != at && self.head_of(number).await.is_some() {
                others.push((node.host.as_str(), &node.provider));
            }
        }
        others
    }

    /// Makes sure, once a node, that it is of the chain that is configured, if one is. The error comes with whether another node is asked from now on.
    pub(crate) async fn confirm(
        &self,
        at: usize,
        metrics: &ClientMetrics,
    ) -> Result<(), (L1Error, bool)> {
        const METHOD: &str = "eth_chainId";
        let node = &self.all[at];
        let expected = match self.chain_id.get() {
            Some(expected) if self.configured && !node.confirmed.load(Ordering::Acquire) => {
                *expected
            }
            _ => return Ok(()),
        };
        let error = match node.provider.client().request::<_, U64>(METHOD, ()).await {
            Ok(id) if id.to::<u64>() == expected => {
                node.confirmed.store(true, Ordering::Release);
                return Ok(());
            }
            Ok(id) => {
                let host = node.host.clone();
                self.leave(at, metrics).await;
                L1Error::WrongChain { host, id: id.to(), expected }
            }
            Err(source) => {
                self.failed(at, METHOD, &source, metrics).await;
                L1Error::Rpc { method: METHOD, source }
            }
        };
        Err((error, self.at() != at))
    }

    /// Whether the first node is to be tried again; once in a while.
    fn is_time(&self) -> bool {
        let mut since = self.since.lock();
        let due = since.elapsed() >= AWAY;
        if due {
            *since = Instant::now();
        }
        due
    }

    /// Whether there has been no new block for too long; once in that time.
    fn is_stuck(&self) -> bool {
        if self.all.len() == 1 {
            return false;
        }
        let mut shown_at = self.shown_at.lock();
        let stuck = shown_at.elapsed() >= self.stuck_after;
        if stuck {
            *shown_at = Instant::now();
        }
        stuck
    }

    /// Looks at a failure: whether another node is asked from now on, and this question put to that.
    pub(crate) async fn failed(
        &self,
        from: usize,
        method: &str,
        error: &TransportError,
        metrics: &ClientMetrics,
    ) -> bool {
        if self.all.len() == 1 || !self.is_the_nodes(from, method, error) {
            return false;
        }
        self.leave(from, metrics).await;
        self.at.load(Ordering::Acquire) != from
    }

    /// Whether a failure is the node's, and not the question's.
    fn is_the_nodes(&self, at: usize, method: &str, error: &TransportError) -> bool {
        match error {
            // Another node may prove more, but nothing else is wrong with this one; if it is away, the next question tells.
            _ if method == "eth_getProof" => false,
            RpcError::ErrorResp(payload) if payload.code == NO_METHOD => {
                self.all[at].useless.store(true, Ordering::Release);
                true
            }
            // Too much at once for one is too much for the others.
            RpcError::ErrorResp(_) if method == "eth_getLogs" => false,
            RpcError::ErrorResp(payload) => {
                let words = payload.message.to_ascii_lowercase();
                is_transient(error)
                    || ["missing trie node", "indexing", "header not found"]
                        .iter()
                        .any(|phrase| words.contains(phrase))
            }
            RpcError::Transport(TransportErrorKind::HttpError(http)) => {
                // A plan that has run out, a key that was revoked.
                http.status != 413 && !(http.status == 400 && method == "eth_getLogs")
            }
            error => is_transient(error),
        }
    }

    /// What the node at this place said does not fit together: another one is asked from now on.
    pub(crate) async fn leave(&self, from: usize, metrics: &ClientMetrics) {
        self.leave_for(from, self.least(), metrics).await;
    }

    /// Leaves a node for one whose head is not below a block.
    async fn leave_for(&self, from: usize, least: u64, metrics: &ClientMetrics) {
        if self.at.load(Ordering::Acquire) != from {
            return;
        }
        for next in (1..self.all.len()).map(|step| (from + step) % self.all.len()) {
            if self.head_of(next).await.is_none_or(|head| head < least) {
                continue;
            }
            let left = self.at.compare_exchange(from, next, Ordering::AcqRel, Ordering::Acquire);
            if left.is_ok() {
                *self.since.lock() = Instant::now();
                metrics.switched();
                let (from, to) = (&self.all[from].host, &self.all[next].host);
                warn!(target: "millrace::l1", from, to, "the L1 node fails or has no new blocks; asking another one");
            }
            return;
        }
    }

    /// Whether a node that was left has what the others have.
    async fn keeps_up(&self, at: usize) -> bool {
        let highest = self.highest.load(Ordering::Acquire);
        self.head_of(at).await.is_some_and(|head| head.saturating_add(NEARLY) >= highest)
    }

    /// The lowest head that is not behind.
    fn least(&self) -> u64 {
        self.highest.load(Ordering::Acquire).saturating_sub(MOST_BEHIND)
    }

    /// A node's head, if it answers and is of the same chain.
    async fn head_of(&self, at: usize) -> Option<u64> {
        let node = &self.all[at];
        if node.useless.load(Ordering::Acquire) {
            return None;
        }
        let ask = async |method: &'static str| {
            node.provider
                .client()
                .request::<_, U64>(method, ())
                .await
                .map(|number| number.to::<u64>())
        };
        let id = ask("eth_chainId").await.ok()?;
        let expected = *self.chain_id.get_or_init(|| id);
        if id != expected {
            node.useless.store(true, Ordering::Release);
            error!(target: "millrace::l1", host = node.host, id, expected, "this L1 node is of another chain, and is not asked");
            return None;
        }
        ask("eth_blockNumber").await.ok()
    }

    /// Notes the chain that a node has named.
    pub(crate) fn named(&self, chain_id: u64) {
        let _ = self.chain_id.set(chain_id);
    }

    /// Notes a head that a node has shown.
    pub(crate) fn shown(&self, head: u64) {
        if self.highest.fetch_max(head, Ordering::AcqRel) < head {
            *self.shown_at.lock() = Instant::now();
        }
    }
}

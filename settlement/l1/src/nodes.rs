//! The nodes behind one client: one that is asked, and others for when that fails.

use std::sync::{
    OnceLock,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use alloy::{
    primitives::U64,
    providers::{Provider, RootProvider},
    rpc::client::RpcClient,
};
use tracing::{error, warn};
use url::Url;

use crate::metrics::ClientMetrics;

/// Nodes of one L1, in the order of preference.
pub(crate) struct Nodes {
    all: Vec<Node>,
    /// The one that is asked.
    at: AtomicUsize,
    /// What it said did not fit together.
    suspect: AtomicBool,
    /// The L1's chain id, once a node has said it.
    chain_id: OnceLock<u64>,
}

struct Node {
    host: String,
    provider: RootProvider,
    /// It is of another chain.
    foreign: AtomicBool,
}

impl Nodes {
    pub(crate) fn new(http: &reqwest::Client, urls: Vec<Url>) -> Self {
        let node = |url: Url| Node {
            // URLs of hosted nodes carry a key in the path.
            host: url.host_str().unwrap_or_default().to_owned(),
            provider: RootProvider::new(RpcClient::new_http_with_client(http.clone(), url)),
            foreign: AtomicBool::new(false),
        };
        Self {
            all: urls.into_iter().map(node).collect(),
            at: AtomicUsize::new(0),
            suspect: AtomicBool::new(false),
            chain_id: OnceLock::new(),
        }
    }

    /// The one to ask now, and its place.
    pub(crate) async fn current(&self, metrics: &ClientMetrics) -> (usize, &RootProvider) {
        let at = self.at.load(Ordering::Acquire);
        if self.suspect.swap(false, Ordering::AcqRel) {
            self.leave(at, metrics).await;
        }
        let at = self.at.load(Ordering::Acquire);
        (at, &self.all[at].provider)
    }

    /// The next question goes to another one.
    pub(crate) fn suspect(&self) {
        self.suspect.store(true, Ordering::Release);
    }

    /// Asks another one from now on, unless somebody has seen to that.
    pub(crate) async fn leave(&self, from: usize, metrics: &ClientMetrics) {
        let others = (1..self.all.len()).map(|step| (from + step) % self.all.len());
        for next in others {
            let node = &self.all[next];
            if node.foreign.load(Ordering::Acquire) || !self.is_ours(node).await {
                continue;
            }
            let left = self.at.compare_exchange(from, next, Ordering::AcqRel, Ordering::Acquire);
            if left.is_ok() {
                metrics.switched();
                let (from, to) = (&self.all[from].host, &node.host);
                warn!(target: "millrace::l1", from, to, "the L1 node fails; asking another one");
            }
            return;
        }
    }

    /// Whether a node answers, and is of the same chain.
    async fn is_ours(&self, node: &Node) -> bool {
        let Ok(id) = node.provider.client().request::<_, U64>("eth_chainId", ()).await else {
            return false;
        };
        let id: u64 = id.to();
        let expected = *self.chain_id.get_or_init(|| id);
        if id != expected {
            node.foreign.store(true, Ordering::Release);
            error!(target: "millrace::l1", host = node.host, id, expected, "this L1 node is of another chain, and is not asked");
        }
        id == expected
    }

    /// Notes the chain that a node has named.
    pub(crate) fn named(&self, chain_id: u64) {
        let _ = self.chain_id.set(chain_id);
    }
}

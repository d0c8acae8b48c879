//! The connection to one L1 node: timeouts, retries, typed answers.

mod proof;

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use alloy::{
    consensus::proofs::calculate_receipt_root,
    eips::{BlockId, BlockNumHash, BlockNumberOrTag, Encodable2718},
    primitives::{Address, B256, Bytes, TxHash, U64, U256},
    providers::Provider,
    rpc::{
        json_rpc::{RpcRecv, RpcSend},
        types::{Block, Filter, Header, Log, TransactionReceipt, TransactionRequest},
    },
    sol_types::SolCall,
    trie::root::ordered_trie_root_encoded,
};
use backon::{ExponentialBuilder, Retryable};
use tracing::debug;
use url::Url;

use crate::{
    BeaconClient, BeaconError, ClientOptions, L1Error, config, metrics::ClientMetrics,
    nodes::Nodes, revert::RevertReason,
};

/// An L1 block, as far as we look at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct L1Block {
    /// Its number.
    pub number: u64,
    /// Its hash.
    pub hash: B256,
    /// Hash of the block before.
    pub parent_hash: B256,
    /// Unix seconds.
    pub timestamp: u64,
}

impl L1Block {
    /// Number and hash.
    pub const fn id(&self) -> BlockNumHash {
        BlockNumHash { number: self.number, hash: self.hash }
    }
}

impl From<&Header> for L1Block {
    fn from(header: &Header) -> Self {
        Self {
            number: header.number,
            hash: header.hash,
            parent_hash: header.parent_hash,
            timestamp: header.timestamp,
        }
    }
}

/// A client of one L1 node. Clones share the connection pool.
///
/// Every request has a timeout and is repeated with a growing, jittered pause when the node does not answer or says
/// that it is busy; sending a signed transaction twice is harmless, as its hash is its identity.
#[derive(Clone)]
pub struct L1Client {
    inner: Arc<Inner>,
    /// Where the beacon API is, if not where the node is.
    beacon: Option<Arc<Url>>,
}

struct Inner {
    url: Url,
    nodes: Nodes,
    options: ClientOptions,
    metrics: ClientMetrics,
}

impl fmt::Debug for L1Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // URLs of hosted nodes carry a key in the path.
        f.debug_struct("L1Client").field("host", &self.inner.url.host_str()).finish_non_exhaustive()
    }
}

impl L1Client {
    /// A client for the JSON-RPC endpoint. Sends nothing yet.
    ///
    /// # Errors
    /// If the URL is neither http nor, with the feature `tls`, https.
    pub fn new(url: Url, options: ClientOptions) -> Result<Self, L1Error> {
        Self::over(url, Vec::new(), options)
    }

    /// The same, with other nodes of the same L1, which are asked in turn when the one that is asked fails, or says what its blocks do not hold.
    ///
    /// # Errors
    /// If a URL is neither http nor, with the feature `tls`, https.
    pub fn over(url: Url, fallbacks: Vec<Url>, options: ClientOptions) -> Result<Self, L1Error> {
        let mut urls = vec![url.clone()];
        urls.extend(fallbacks);
        for url in &urls {
            config::check_scheme(url).map_err(L1Error::InvalidRequest)?;
        }
        let http = reqwest::Client::builder()
            .timeout(options.request_timeout)
            .connect_timeout(options.request_timeout.min(Duration::from_secs(5)))
            .build()
            .map_err(|error| L1Error::InvalidRequest(format!("HTTP client: {error}")))?;
        let nodes = Nodes::new(&http, urls, &options);
        Ok(Self {
            inner: Arc::new(Inner { url, nodes, options, metrics: ClientMetrics::default() }),
            beacon: None,
        })
    }

    /// The same, for an L1 whose beacon API is elsewhere.
    pub fn with_beacon(self, url: Url) -> Self {
        Self { beacon: Some(Arc::new(url)), ..self }
    }

    /// A client of this L1's beacon API, as patient as this one.
    ///
    /// # Errors
    /// If its URL cannot be used.
    pub fn beacon(&self) -> Result<BeaconClient, BeaconError> {
        let url = self.beacon.as_deref().unwrap_or(&self.inner.url);
        let options = self.options();
        BeaconClient::new(url.clone(), options.request_timeout, options.retries)
    }

    /// Where the node is that is asked first.
    pub fn url(&self) -> &Url {
        &self.inner.url
    }

    /// How patient this client is.
    pub fn options(&self) -> &ClientOptions {
        &self.inner.options
    }

    /// L1's chain id.
    ///
    /// # Errors
    /// [`L1Error::WrongChain`], as any request, if another one is configured.
    pub async fn chain_id(&self) -> Result<u64, L1Error> {
        let id = self.request::<_, U64>("eth_chainId", ()).await?.to();
        self.inner.nodes.named(id);
        Ok(id)
    }

    /// The latest block.
    pub async fn head(&self) -> Result<L1Block, L1Error> {
        Ok(L1Block::from(&self.latest_header().await?))
    }

    /// The canonical block with this number; `None` if the node does not have it (yet).
    pub async fn block(&self, number: u64) -> Result<Option<L1Block>, L1Error> {
        Ok(self.header(BlockNumberOrTag::Number(number)).await?.as_ref().map(L1Block::from))
    }

    /// The block with this hash; `None` if the node does not have it. It may have left the canonical chain.
    pub async fn block_by_hash(&self, hash: B256) -> Result<Option<L1Block>, L1Error> {
        Ok(self.header_by_hash(hash).await?.as_ref().map(L1Block::from))
    }

    pub(crate) async fn header_by_hash(&self, hash: B256) -> Result<Option<Header>, L1Error> {
        let (header, at): (Option<Header>, _) =
            self.request_from("eth_getBlockByHash", (hash, false)).await?;
        if let Some(header) = &header {
            self.check(header, at).await?;
            if header.hash != hash {
                let problem = format!("it gave block {} when asked for {hash}", header.hash);
                return Err(self.unproven(at, problem).await);
            }
        }
        Ok(header)
    }

    /// The receipts of a block, whose header is checked: exactly those that it commits to. `None` if the node does not have it.
    pub(crate) async fn receipts_of(
        &self,
        header: &Header,
    ) -> Result<Option<Vec<TransactionReceipt>>, L1Error> {
        let block = BlockId::hash(header.hash);
        let (receipts, at): (Option<Vec<TransactionReceipt>>, _) =
            self.request_from("eth_getBlockReceipts", (block,)).await?;
        if let Some(receipts) = &receipts {
            let primitive = receipts.iter().cloned().map(|r| r.into_primitives_receipt().inner);
            let root = calculate_receipt_root(&primitive.collect::<Vec<_>>());
            if root != header.receipts_root {
                let (number, committed) = (header.number, header.receipts_root);
                let problem = format!(
                    "receipts of block {number} with the root {root}, and it commits to {committed}"
                );
                return Err(self.unproven(at, problem).await);
            }
        }
        Ok(receipts)
    }

    /// The transactions of a block, whose header is checked, in their EIP-2718 form: exactly those that it commits to. `None` if the node does not have it.
    pub(crate) async fn transactions_of(
        &self,
        header: &Header,
    ) -> Result<Option<Vec<Bytes>>, L1Error> {
        let (block, at): (Option<Block>, _) =
            self.request_from("eth_getBlockByHash", (header.hash, true)).await?;
        let Some(block) = block else { return Ok(None) };
        let transactions = block.transactions.into_transactions();
        let raw: Vec<Bytes> = transactions.map(|tx| tx.inner.encoded_2718().into()).collect();
        let root = ordered_trie_root_encoded(&raw);
        if root != header.transactions_root {
            let (number, committed) = (header.number, header.transactions_root);
            let problem = format!(
                "transactions of block {number} with the root {root}, and it commits to {committed}"
            );
            return Err(self.unproven(at, problem).await);
        }
        Ok(Some(raw))
    }

    /// Makes sure that a header has the hash that the node says.
    async fn check(&self, header: &Header, at: usize) -> Result<(), L1Error> {
        if !self.inner.options.check_blocks {
            return Ok(());
        }
        let computed = header.inner.hash_slow();
        if computed == header.hash {
            return Ok(());
        }
        let (number, said) = (header.number, header.hash);
        let problem = format!("the header of block {number} has the hash {computed}, not {said}");
        Err(self.unproven(at, problem).await)
    }

    /// How many other nodes have this block of those that have one of its number. A node that does not answer counts for nothing.
    ///
    /// # Errors
    /// [`L1Error::Inconsistent`] if one has another block there.
    pub async fn agreed(&self, block: BlockNumHash) -> Result<usize, L1Error> {
        let mut agreed = 0;
        for (host, provider) in self.inner.nodes.others().await {
            let params = (BlockNumberOrTag::Number(block.number), false);
            let asked =
                provider.client().request::<_, Option<Header>>("eth_getBlockByNumber", params);
            let Ok(Some(header)) = asked.await else { continue };
            if header.hash != block.hash {
                let BlockNumHash { number, hash } = block;
                let problem = format!("block {number} is {hash}, and {} at {host}", header.hash);
                return Err(L1Error::Inconsistent(problem));
            }
            agreed += 1;
        }
        Ok(agreed)
    }

    /// For a caller that finds that what the node says does not fit together: counts it, and asks another from now on, if there is one.
    pub async fn distrust(&self) {
        self.inner.metrics.unproven();
        self.inner.nodes.leave(self.inner.nodes.at(), &self.inner.metrics).await;
    }

    /// The same, as an error.
    pub(crate) async fn unproven_here(&self, problem: String) -> L1Error {
        self.distrust().await;
        L1Error::Unproven(problem)
    }

    /// The node at this place lies or is broken: counts it, and leaves that.
    async fn unproven(&self, at: usize, problem: String) -> L1Error {
        self.inner.metrics.unproven();
        self.inner.nodes.leave(at, &self.inner.metrics).await;
        L1Error::Unproven(problem)
    }

    /// The newest block that L1 cannot revert any more; `None` if there is none yet.
    pub async fn finalized(&self) -> Result<Option<L1Block>, L1Error> {
        self.tagged(BlockNumberOrTag::Finalized).await
    }

    /// The newest block that L1 is unlikely to revert; `None` if there is none yet.
    pub async fn safe(&self) -> Result<Option<L1Block>, L1Error> {
        self.tagged(BlockNumberOrTag::Safe).await
    }

    /// Wei that the account has at the latest block.
    pub async fn balance(&self, account: Address) -> Result<U256, L1Error> {
        self.request("eth_getBalance", (account, BlockNumberOrTag::Latest)).await
    }

    /// Transactions that the account has in the chain up to the latest block, which is the nonce of its next one.
    pub async fn nonce(&self, account: Address) -> Result<u64, L1Error> {
        let count: U64 =
            self.request("eth_getTransactionCount", (account, BlockNumberOrTag::Latest)).await?;
        Ok(count.to())
    }

    /// The same, with the transactions that wait at the node.
    pub(crate) async fn pending_nonce(&self, account: Address) -> Result<u64, L1Error> {
        let count: U64 =
            self.request("eth_getTransactionCount", (account, BlockNumberOrTag::Pending)).await?;
        Ok(count.to())
    }

    /// The receipt of a transaction that is in the canonical chain.
    pub async fn receipt(&self, hash: TxHash) -> Result<Option<TransactionReceipt>, L1Error> {
        self.request("eth_getTransactionReceipt", (hash,)).await
    }

    /// Hands in a signed transaction (in its network form: with the sidecar, if it has blobs).
    ///
    /// # Errors
    /// Also when the node already knows the transaction; the caller has to tell by the message.
    pub async fn send_raw_transaction(&self, raw: &Bytes) -> Result<TxHash, L1Error> {
        self.request("eth_sendRawTransaction", (raw.clone(),)).await
    }

    /// A call of a view at the latest block.
    pub async fn call<C: SolCall>(&self, to: Address, call: &C) -> Result<C::Return, L1Error> {
        self.call_at(to, call, BlockNumberOrTag::Latest).await
    }

    /// A call of a view at a block, whose state the node has to have still.
    pub async fn call_at<C: SolCall>(
        &self,
        to: Address,
        call: &C,
        block: impl Into<BlockId>,
    ) -> Result<C::Return, L1Error> {
        let request = TransactionRequest::default().to(to).input(call.abi_encode().into());
        let output: Bytes = match self.request("eth_call", (request, block.into())).await {
            Ok(output) => output,
            Err(error) => {
                return Err(match error.revert_data() {
                    Some(data) => {
                        L1Error::Reverted { call: C::SIGNATURE, reason: RevertReason::new(data) }
                    }
                    None => error,
                });
            }
        };
        if output.is_empty() {
            return Err(L1Error::NoContract { address: to });
        }
        C::abi_decode_returns(&output).map_err(|error| L1Error::BadAnswer {
            method: C::SIGNATURE,
            problem: error.to_string(),
        })
    }

    pub(crate) async fn logs(&self, filter: &Filter) -> Result<Vec<Log>, L1Error> {
        self.request("eth_getLogs", (filter.clone(),)).await
    }

    pub(crate) async fn latest_header(&self) -> Result<Header, L1Error> {
        self.header(BlockNumberOrTag::Latest)
            .await?
            .ok_or_else(|| L1Error::BlockMissing("latest".to_owned()))
    }

    pub(crate) async fn header(&self, block: BlockNumberOrTag) -> Result<Option<Header>, L1Error> {
        let (header, at): (Option<Header>, _) =
            self.request_from("eth_getBlockByNumber", (block, false)).await?;
        if let Some(header) = &header {
            self.check(header, at).await?;
            self.inner.nodes.shown(header.number);
        }
        Ok(header)
    }

    async fn tagged(&self, tag: BlockNumberOrTag) -> Result<Option<L1Block>, L1Error> {
        match self.header(tag).await {
            Ok(header) => Ok(header.as_ref().map(L1Block::from)),
            // Nodes without a finalized block yet answer "unknown block" or "finalized block not found".
            Err(error) if error.response().is_some() && !error.is_retryable() => {
                debug!(target: "millrace::l1", %tag, %error, "no such block yet");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Any request, repeated while the error is transient, or another node can be asked.
    pub(crate) async fn request<P, R>(&self, method: &'static str, params: P) -> Result<R, L1Error>
    where
        P: RpcSend,
        R: RpcRecv,
    {
        self.request_from(method, params).await.map(|(answer, _)| answer)
    }

    /// The same, with the place of the node that answered.
    async fn request_from<P, R>(
        &self,
        method: &'static str,
        params: P,
    ) -> Result<(R, usize), L1Error>
    where
        P: RpcSend,
        R: RpcRecv,
    {
        let backoff = ExponentialBuilder::new()
            .with_min_delay(Duration::from_millis(100))
            .with_max_delay(Duration::from_secs(5))
            .with_factor(2.0)
            .with_jitter()
            .with_max_times(self.inner.options.retries);
        let started = Instant::now();
        let result = (|| {
            let params = params.clone();
            let Inner { nodes, metrics, .. } = &*self.inner;
            async move {
                let (at, provider) = nodes.current(metrics).await;
                nodes.confirm(at, metrics).await?;
                let answer = provider.client().request::<P, R>(method, params).await;
                match answer {
                    Ok(answer) => Ok((answer, at)),
                    Err(source) => {
                        let again = nodes.failed(at, method, &source, metrics).await;
                        Err((L1Error::Rpc { method, source }, again))
                    }
                }
            }
        })
        .retry(backoff)
        .when(|(error, again)| *again || error.is_retryable())
        .notify(|(error, _), pause| {
            self.inner.metrics.retried(method);
            debug!(target: "millrace::l1", method, %error, ?pause, "L1 request failed; trying again");
        })
        .await;
        self.inner.metrics.answered(method, started.elapsed(), result.is_ok());
        result.map_err(|(error, _)| error)
    }
}

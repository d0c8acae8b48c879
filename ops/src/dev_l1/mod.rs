//! The embedded dev L1: an Ethereum chain in this process, on the same executor and JSON-RPC crates as the rollup.
//!
//! ```text
//!  eth_sendRawTransaction ─> Pool ──(every block time)──> miner ─> Executor (Osaka rules) ─> store
//!                              └── sidecars, KZG-checked ────┴──> BlobStore <── beacon API
//! ```
//!
//! It has its own clock, takes blob transactions with EIP-7594 cell proofs, serves blobs where a beacon node does, and has
//! `safe` and `finalized` tags a fixed number of blocks behind its head. It never reorgs. It is a development chain: one node,
//! no consensus.

mod beacon;
mod blobs;
mod miner;
mod pool;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use eyre::{Result, WrapErr};
use millrace_executor::{ExecutionConfig, ExecutorConfig, ExecutorService, StoreConfig};
use millrace_proto::{ChainSpec, Executor};
use millrace_rpc::{RpcConfig, RpcServer};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::service::serve_rpc;

use self::{beacon::BeaconServer, blobs::BlobStore, miner::Miner, pool::Pool};

/// How the dev L1 runs.
#[derive(Debug, Clone)]
pub(crate) struct DevL1Config {
    /// Its data folder.
    pub(crate) data_dir: PathBuf,
    /// JSON-RPC, HTTP and WebSocket.
    pub(crate) rpc_listen: SocketAddr,
    /// The beacon API's blob path.
    pub(crate) beacon_listen: SocketAddr,
    /// Time between blocks; at least a second, since Ethereum's timestamps are seconds and must rise.
    pub(crate) block_time: Duration,
    /// `safe` is this many blocks behind the head, `finalized` twice as many.
    pub(crate) slots_per_epoch: u64,
}

/// A running dev L1.
#[derive(Debug)]
pub(crate) struct DevL1 {
    rpc: SocketAddr,
    beacon: SocketAddr,
    tasks: JoinSet<Result<()>>,
}

impl DevL1 {
    /// Opens the chain (its genesis on a fresh folder) and starts mining and serving.
    pub(crate) async fn start(
        config: DevL1Config,
        spec: Arc<ChainSpec>,
        cancel: CancellationToken,
    ) -> Result<Self> {
        let executor_config = ExecutorConfig {
            data_dir: config.data_dir.join("chain"),
            store: StoreConfig {
                name: "dev-l1",
                cache_bytes: 32 << 20,
                write_buffer_bytes: 32 << 20,
                ..StoreConfig::default()
            },
            execution: ExecutionConfig { threads: 1 },
            ..ExecutorConfig::default()
        };
        let executor: Arc<dyn Executor> = Arc::new(
            ExecutorService::open(executor_config, Arc::clone(&spec))
                .wrap_err("cannot open the dev L1's chain")?,
        );
        let blobs = Arc::new(BlobStore::open(config.data_dir.join("blobs"))?);
        let pool =
            Arc::new(Pool::new(Arc::clone(&executor), Arc::clone(&spec), config.slots_per_epoch));
        let rpc = RpcServer::start(
            RpcConfig {
                listen: config.rpc_listen,
                client_version: format!("millrace-dev-l1/{}", env!("CARGO_PKG_VERSION")),
                name: "dev-l1",
                ..RpcConfig::default()
            },
            Arc::clone(&executor),
            Arc::clone(&pool) as _,
            None,
        )
        .await
        .wrap_err("cannot serve the dev L1's JSON-RPC")?;
        let beacon =
            BeaconServer::bind(config.beacon_listen, Arc::clone(&executor), Arc::clone(&blobs))
                .await?;
        let (rpc_addr, beacon_addr) = (rpc.local_addr(), beacon.local_addr()?);

        let mut tasks = JoinSet::new();
        let miner = Miner::new(executor, spec, pool, blobs, config.block_time);
        tasks.spawn(miner.run(cancel.clone()));
        tasks.spawn(beacon.run(cancel.clone()));
        tasks.spawn(serve_rpc(rpc, cancel));
        Ok(Self { rpc: rpc_addr, beacon: beacon_addr, tasks })
    }

    /// Where JSON-RPC answers.
    pub(crate) fn rpc_url(&self) -> Result<Url> {
        Ok(format!("http://{}", self.rpc).parse()?)
    }

    /// Where the beacon API answers.
    pub(crate) fn beacon_url(&self) -> Result<Url> {
        Ok(format!("http://{}", self.beacon).parse()?)
    }

    /// Runs until cancelled, or until a part of it fails.
    pub(crate) async fn run(mut self) -> Result<()> {
        while let Some(ended) = self.tasks.join_next().await {
            ended.wrap_err("a dev L1 task panicked")??;
        }
        Ok(())
    }
}

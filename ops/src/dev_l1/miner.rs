//! Makes the dev L1's blocks on its clock.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use alloy::primitives::{Address, B256, Bytes, keccak256};
use eyre::{Result, WrapErr};
use millrace_proto::{
    BlockAttributes, BlockSelector, ChainSpec, Executor, SealedHeader, TxOutcome,
};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{
    blobs::BlobStore,
    pool::{BlockFees, Pool},
};

/// Makes a block every block time, empty or not.
#[derive(Debug)]
pub(super) struct Miner {
    executor: Arc<dyn Executor>,
    spec: Arc<ChainSpec>,
    pool: Arc<Pool>,
    blobs: Arc<BlobStore>,
    block_time: Duration,
}

impl Miner {
    pub(super) fn new(
        executor: Arc<dyn Executor>,
        spec: Arc<ChainSpec>,
        pool: Arc<Pool>,
        blobs: Arc<BlobStore>,
        block_time: Duration,
    ) -> Self {
        Self { executor, spec, pool, blobs, block_time: block_time.max(Duration::from_secs(1)) }
    }

    /// Runs until cancelled.
    pub(super) async fn run(self, cancel: CancellationToken) -> Result<()> {
        let mut clock = tokio::time::interval(self.block_time);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                _ = clock.tick() => self.mine().await.wrap_err("the dev L1 cannot make a block")?,
            }
        }
    }

    async fn mine(&self) -> Result<()> {
        let parent = self.executor.head().await?;
        let attributes = self.attributes(&parent);
        let fees = self.fees(&parent, attributes.timestamp);
        let next_nonces = self.next_nonces().await?;
        self.pool.prune(&next_nonces);
        let ready = self.pool.ready(&next_nonces, fees);
        for entry in &ready {
            for (hash, blob) in entry.blobs.iter() {
                self.blobs.put(*hash, blob)?;
            }
        }

        let mut build = self.executor.open_block(attributes).await?;
        let transactions: Vec<_> = ready.iter().map(|entry| Arc::clone(&entry.tx)).collect();
        let outcomes = build.execute(transactions.clone()).await?;
        let block = build.seal().await?;

        let mut done = Vec::with_capacity(transactions.len());
        for (tx, outcome) in transactions.iter().zip(outcomes) {
            match outcome {
                TxOutcome::Included { .. } => done.push(tx.hash()),
                TxOutcome::Invalid(reason) => {
                    warn!(target: "millrace::dev_l1", hash = %tx.hash(), %reason, "dropped a transaction");
                    done.push(tx.hash());
                }
                TxOutcome::NoRoom => {}
            }
        }
        self.pool.remove(&done);
        debug!(target: "millrace::dev_l1", number = block.number(), transactions = block.transactions.len(), "made a block");
        Ok(())
    }

    fn attributes(&self, parent: &SealedHeader) -> BlockAttributes {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        BlockAttributes {
            number: parent.number + 1,
            parent_hash: parent.seal(),
            timestamp: now.max(parent.timestamp + 1),
            fee_recipient: Address::ZERO,
            gas_limit: parent.gas_limit,
            prev_randao: keccak256(parent.seal()),
            parent_beacon_block_root: B256::ZERO,
            extra_data: Bytes::new(),
        }
    }

    fn fees(&self, parent: &SealedHeader, timestamp: u64) -> BlockFees {
        let (blob_fee, max_blobs) = match self.spec.blob_params(timestamp) {
            Some(params) => {
                let excess = parent.next_block_excess_blob_gas(params).unwrap_or(0);
                (params.calc_blob_fee(excess), params.max_blob_count)
            }
            None => (u128::MAX, 0),
        };
        BlockFees {
            base_fee: self.spec.next_base_fee(parent).unwrap_or(0),
            blob_fee,
            max_blobs: usize::try_from(max_blobs).unwrap_or(usize::MAX),
        }
    }

    async fn next_nonces(&self) -> Result<HashMap<Address, u64>> {
        let senders = self.pool.senders();
        let accounts = self.executor.accounts(&senders, BlockSelector::Latest).await?;
        Ok(senders
            .into_iter()
            .zip(accounts)
            .map(|(sender, account)| (sender, account.map_or(0, |account| account.nonce)))
            .collect())
    }
}

//! What the service remembers of L1 and of its own work. All of it can be read from L1 again; it is kept so that a restart does
//! not have to.

mod apply;
mod joined;
mod misfit;
mod outcomes;
mod records;
mod tables;
#[cfg(test)]
mod tests;

use std::{path::Path, sync::Arc};

use alloy::{
    eips::BlockNumHash,
    primitives::{Address, B256, TxHash, U256},
};
use millrace_proto::{BatchPoint, Commitment, PostedBatch, QueueEntry};
use parking_lot::Mutex;
use rocksdb::Direction;

pub(crate) use self::{
    apply::L1Point,
    misfit::ApplyError,
    outcomes::{Outcome, Recorded, VerifiedBatch},
};
use self::{
    records::{
        BlockRecord, CommitmentRecord, DepositRecord, FeeRecord, FinalizedRecord, IdentityRecord,
        PostedRecord,
    },
    tables::{MetaKey, Table, Tables},
};

/// The chain that a data folder belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) chain_id: u64,
    pub(crate) rollup: Address,
    pub(crate) genesis_hash: B256,
}

/// Why the store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// RocksDB failed: a full or broken disk, or a folder that another process holds.
    #[error("settlement database: {0}")]
    RocksDb(#[from] rocksdb::Error),
    /// The database holds what cannot be.
    #[error(
        "settlement database: table {table}, key {key}: {problem}; delete the folder to read everything from L1 again"
    )]
    Corrupt {
        /// The table.
        table: &'static str,
        /// The key, in hex.
        key: String,
        /// What is wrong.
        problem: String,
    },
    /// The folder belongs to another chain.
    #[error(
        "the settlement folder belongs to chain {chain_id} with rollup contract {rollup} and genesis {genesis_hash}; use another folder"
    )]
    OtherChain {
        /// Its chain id.
        chain_id: u64,
        /// Its contract.
        rollup: Address,
        /// Its genesis block.
        genesis_hash: B256,
    },
}

/// The settlement database. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    tables: Arc<Tables>,
    /// Held by whoever reads and then changes: the watcher, the verifier, the committer.
    writing: Arc<Mutex<()>>,
}

impl Store {
    /// Opens or creates the database, and makes sure that it is this chain's.
    pub(crate) fn open(path: &Path, identity: Identity) -> Result<Self, StoreError> {
        let tables = Tables::open(path)?;
        let record = IdentityRecord {
            chainId: identity.chain_id,
            rollup: identity.rollup,
            genesisHash: identity.genesis_hash,
        };
        match tables.meta::<IdentityRecord>(MetaKey::Identity)? {
            Some(found)
                if (found.chainId, found.rollup, found.genesisHash)
                    != (record.chainId, record.rollup, record.genesisHash) =>
            {
                return Err(StoreError::OtherChain {
                    chain_id: found.chainId,
                    rollup: found.rollup,
                    genesis_hash: found.genesisHash,
                });
            }
            Some(_) => {}
            None => {
                let mut change = tables.change();
                change.put_meta(MetaKey::Identity, &record);
                change.commit()?;
            }
        }
        Ok(Self { tables: Arc::new(tables), writing: Arc::new(Mutex::new(())) })
    }

    /// The L1 blocks up to which events were applied, ascending; the last one is where to go on.
    pub(crate) fn l1_points(&self) -> Result<Vec<BlockNumHash>, StoreError> {
        self.tables
            .scan::<BlockRecord>(Table::L1Blocks, None, Direction::Forward)
            .map(|entry| Ok(L1Point::from(entry?.1).block))
            .collect()
    }

    /// L1's last finalized block, as far as it was seen.
    pub(crate) fn l1_finalized(&self) -> Result<Option<L1Point>, StoreError> {
        Ok(self.tables.meta::<BlockRecord>(MetaKey::L1Finalized)?.map(L1Point::from))
    }

    /// A posted batch.
    pub(crate) fn posted(&self, batch: u64) -> Result<Option<PostedBatch>, StoreError> {
        self.tables
            .get::<PostedRecord>(Table::Posted, batch)?
            .map(|record| posted(batch, record))
            .transpose()
    }

    /// The end of the last posted batch whose header joins the chain.
    pub(crate) fn last_joined(&self) -> Result<Option<BatchPoint>, StoreError> {
        Ok(self.tables.last::<u64>(Table::Joined)?.map(|(last_block, batch)| BatchPoint {
            batch,
            last_block,
            last_block_hash: None,
        }))
    }

    /// The posted batch that holds a block.
    pub(crate) fn batch_of_block(&self, block: u64) -> Result<Option<PostedBatch>, StoreError> {
        let Some(entry) =
            self.tables.scan::<u64>(Table::Joined, Some(block), Direction::Forward).next()
        else {
            return Ok(None);
        };
        let (_, batch) = entry?;
        Ok(self.posted(batch)?.filter(|posted| posted.header.first_block <= block))
    }

    /// The queue's entries in `from..to`, as far as they are here, and the accumulator before them.
    pub(crate) fn deposits(
        &self,
        from: u64,
        to: u64,
    ) -> Result<(B256, Vec<QueueEntry>), StoreError> {
        let before = match from.checked_sub(1) {
            Some(last) => self
                .tables
                .get::<DepositRecord>(Table::Deposits, last)?
                .map_or(B256::ZERO, |record| record.accumulator),
            None => B256::ZERO,
        };
        let deposits = self
            .tables
            .scan::<DepositRecord>(Table::Deposits, Some(from), Direction::Forward)
            .take_while(|entry| !matches!(entry, Ok((index, _)) if *index >= to))
            .map(|entry| Ok(entry?.1.into_entry()))
            .collect::<Result<_, StoreError>>()?;
        Ok((before, deposits))
    }

    /// The commitment that stands for a batch.
    pub(crate) fn commitment(&self, batch: u64) -> Result<Option<Commitment>, StoreError> {
        Ok(self.tables.get::<CommitmentRecord>(Table::Commitments, batch)?.map(Commitment::from))
    }

    /// The commitments that stand, newest first, from batch `from` (or the newest) down.
    pub(crate) fn commitments_down(
        &self,
        from: Option<u64>,
    ) -> impl Iterator<Item = Result<Commitment, StoreError>> {
        self.tables
            .scan::<CommitmentRecord>(Table::Commitments, from, Direction::Reverse)
            .map(|entry| Ok(Commitment::from(entry?.1)))
    }

    /// The last finalized batch.
    pub(crate) fn finalized(&self) -> Result<Option<BatchPoint>, StoreError> {
        Ok(self.tables.meta::<FinalizedRecord>(MetaKey::Finalized)?.map(|record| BatchPoint {
            batch: record.batch,
            last_block: record.lastBlock,
            last_block_hash: Some(record.lastBlockHash),
        }))
    }

    /// Moves the finalized batch forward; does nothing if it lies at or before the last one.
    pub(crate) fn set_finalized(&self, commitment: &Commitment) -> Result<(), StoreError> {
        let _writing = self.writing.lock();
        if self.finalized()?.is_some_and(|last| last.batch >= commitment.batch) {
            return Ok(());
        }
        let mut change = self.tables.change();
        change.put_meta(
            MetaKey::Finalized,
            &FinalizedRecord {
                batch: commitment.batch,
                lastBlock: commitment.last_block,
                lastBlockHash: commitment.last_block_hash,
            },
        );
        change.commit()
    }

    /// Notes what a commitment's transaction cost, wei. Noting the same transaction again changes nothing.
    pub(crate) fn add_fee(&self, transaction: TxHash, fee: U256) -> Result<(), StoreError> {
        let _writing = self.writing.lock();
        let known = self.tables.get_raw::<FeeRecord>(Table::Fees, transaction.as_slice())?;
        if known.is_some() {
            return Ok(());
        }
        let mut change = self.tables.change();
        change.put_raw(Table::Fees, transaction.as_slice(), &FeeRecord { wei_: fee });
        let total = self.fees()?.saturating_add(fee);
        change.put_meta(MetaKey::Fees, &FeeRecord { wei_: total });
        change.commit()
    }

    /// What all commitments cost, wei.
    pub(crate) fn fees(&self) -> Result<U256, StoreError> {
        let total = self.tables.meta::<FeeRecord>(MetaKey::Fees)?;
        Ok(total.map_or(U256::ZERO, |record| record.wei_))
    }
}

impl From<BlockRecord> for L1Point {
    fn from(record: BlockRecord) -> Self {
        Self { block: BlockNumHash::new(record.number, record.hash), timestamp: record.timestamp }
    }
}

fn posted(batch: u64, record: PostedRecord) -> Result<PostedBatch, StoreError> {
    PostedBatch::try_from(record).map_err(|problem| StoreError::Corrupt {
        table: "posted",
        key: batch.to_string(),
        problem,
    })
}

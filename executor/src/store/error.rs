//! Why the store did not answer.

use std::path::PathBuf;

use alloy::primitives::{Address, B256};
use millrace_proto::{BatchPayload, BlockSelector, ExecutorError};

use super::table::Table;
use crate::trie::TrieError;

/// Why the store did not answer, or refused to open.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Threads cannot be started.
    #[error("cannot start threads: {0}; see whether the system allows more of them")]
    Threads(String),
    /// The folder cannot be opened as a database.
    #[error("cannot open the executor's database at {path}: {source}")]
    Open {
        /// The folder.
        path: PathBuf,
        /// What RocksDB said.
        #[source]
        source: rocksdb::Error,
    },
    /// Another version of this program wrote the database.
    #[error("the database at {path} has schema version {found}, this program reads {expected}")]
    Schema {
        /// The folder.
        path: PathBuf,
        /// What the database says.
        found: u32,
        /// What this program knows.
        expected: u32,
    },
    /// The database holds another chain.
    #[error("the database at {path} holds the chain with genesis {stored}, not {expected}")]
    WrongGenesis {
        /// The folder.
        path: PathBuf,
        /// The genesis block's hash in the database.
        stored: B256,
        /// The genesis block's hash by the chain's rules.
        expected: B256,
    },
    /// The database holds a chain whose batches hold something else.
    #[error(
        "the database at {path} holds a chain whose batches hold {stored}, not {expected}; this cannot be changed once a chain exists"
    )]
    WrongPayload {
        /// The folder.
        path: PathBuf,
        /// What the chain began with.
        stored: BatchPayload,
        /// What the genesis says now.
        expected: BatchPayload,
    },
    /// RocksDB failed: a full or broken disk, or a file whose checksum is wrong.
    #[error("database: {0}")]
    Database(#[from] rocksdb::Error),
    /// An entry that this program cannot have written.
    #[error("table {table} holds an impossible entry: {problem}")]
    Corrupt {
        /// The table.
        table: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// Stored nodes that do not form a trie.
    #[error("state trie: {0}")]
    Trie(#[from] TrieError),
    /// No such block.
    #[error("block {0} is unknown")]
    UnknownBlock(BlockSelector),
    /// State of this block is not kept any more.
    #[error("state of block {block} is not kept; the oldest kept is {oldest}")]
    StatePruned {
        /// Asked for.
        block: u64,
        /// Oldest block whose state can be read.
        oldest: u64,
    },
    /// The block is not the one after the head, or its root was computed on top of another.
    #[error("block {number} does not follow the head {head_number} ({head_hash})")]
    NotNext {
        /// The block.
        number: u64,
        /// The head.
        head_number: u64,
        /// Its hash.
        head_hash: B256,
    },
    /// The block's header has another state root than its diff gives.
    #[error("block {number} has state root {header}, its diff gives {computed}")]
    RootMismatch {
        /// The block.
        number: u64,
        /// What the header says.
        header: B256,
        /// What the diff gives.
        computed: B256,
    },
    /// A diff that does not fit the head's state.
    #[error("the diff of account {address} does not fit the head's state: {problem}")]
    Diff {
        /// The account.
        address: Address,
        /// What does not fit.
        problem: &'static str,
    },
    /// A write failed before; nothing more is written until the store is opened again.
    #[error("the store stopped writing after a failed commit: {0}")]
    Poisoned(String),
}

impl StoreError {
    pub(crate) fn corrupt(table: Table, problem: impl ToString) -> Self {
        Self::Corrupt { table: table.name(), problem: problem.to_string() }
    }
}

impl From<StoreError> for ExecutorError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::UnknownBlock(at) => Self::UnknownBlock(at),
            StoreError::StatePruned { block, oldest } => Self::StatePruned { block, oldest },
            other => Self::Store(Box::new(other)),
        }
    }
}

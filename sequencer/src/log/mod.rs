//! The order log: what was accepted, in which order it was sequenced, and what came of it.
//!
//! Everything else is a fold over it. docs/order-log.md describes the records, the tables and the fold.

mod codec;
mod reason;
mod record;
mod rocks;
mod stages;
mod times;
mod writer;

use std::{fmt, path::PathBuf, time::Duration};

use alloy::primitives::{B256, TxHash};
use millrace_proto::Stage;

pub(crate) use self::writer::{LogWriter, WriterSettings};
pub use self::{
    codec::CodecError,
    record::{AcceptTimes, BlockOpened, BlockTimes, DroppedTx, Record},
    rocks::RocksOrderLog,
};

/// A place in the log: records are numbered from 0 without gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position(pub u64);

impl Position {
    /// The place `count` records later.
    pub const fn plus(self, count: u64) -> Self {
        Self(self.0 + count)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The records from a position on, in order.
pub type RecordIter<'a> = Box<dyn Iterator<Item = Result<(Position, Record), LogError>> + 'a>;

/// How far the chain was settled when the log was last told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SettledBlocks {
    /// The last block in a posted batch.
    pub posted: u64,
    /// The last block in a committed batch.
    pub committed: u64,
    /// The last block whose commitment is final.
    pub finalized: u64,
}

/// Where the sequencer writes what it promises. All calls block: they belong on a thread that may.
pub trait OrderLog: fmt::Debug + Send + Sync + 'static {
    /// Writes the records one after the other, all or none, and returns the first one's position. They are on disk when
    /// this returns. Of blocks that they unwind it is forgotten that they were settled.
    ///
    /// # Errors
    /// After an error it is unknown whether the records are on disk; nothing must be appended any more.
    fn append(&self, records: &[Record]) -> Result<Position, LogError>;

    /// The position after the last record.
    fn end(&self) -> Position;

    /// The records from `from` on. The iterator ends after its first error.
    ///
    /// # Errors
    /// When the log cannot be read.
    fn read(&self, from: Position) -> Result<RecordIter<'_>, LogError>;

    /// Where a block was opened that was not unwound since, or `None` if there is none with this number.
    ///
    /// # Errors
    /// When the log cannot be read.
    fn block_position(&self, number: u64) -> Result<Option<Position>, LogError>;

    /// The last block that was opened and not unwound since, or `None` before the first.
    ///
    /// # Errors
    /// When the log cannot be read.
    fn last_block(&self) -> Result<Option<u64>, LogError>;

    /// Whether the block with this hash was unwound, and not sealed again since.
    ///
    /// # Errors
    /// When the log cannot be read.
    fn is_unwound(&self, hash: B256) -> Result<bool, LogError>;

    /// The latest drop of a transaction, or `None` if it was never dropped.
    ///
    /// # Errors
    /// When the log cannot be read.
    fn dropped(&self, hash: TxHash) -> Result<Option<DroppedTx>, LogError>;

    /// What happened when until a block was sealed that was not unwound since; `None` if there is none with this number.
    ///
    /// # Errors
    /// When the log cannot be read.
    fn block_times(&self, number: u64) -> Result<Option<BlockTimes>, LogError>;

    /// The first record that a start still needs if the executor holds every block that was opened before it.
    ///
    /// # Errors
    /// When the log cannot be read.
    fn cursor(&self) -> Result<Position, LogError>;

    /// Moves the cursor. Need not be durable: an older cursor is as right, only slower.
    ///
    /// # Errors
    /// When the log cannot be written.
    fn set_cursor(&self, to: Position) -> Result<(), LogError>;

    /// How far the chain was settled.
    ///
    /// # Errors
    /// When the log cannot be read.
    fn settled(&self) -> Result<SettledBlocks, LogError>;

    /// Remembers how far the chain is settled, and that what was not settled so far is so since `at`. It outlives the process, and need not outlive the machine.
    ///
    /// # Errors
    /// When the log cannot be written.
    fn settle(&self, settled: SettledBlocks, at: Duration) -> Result<(), LogError>;

    /// Forgets that blocks after this one were settled: there are none.
    ///
    /// # Errors
    /// When the log cannot be written.
    fn unsettle(&self, to: u64) -> Result<(), LogError>;

    /// When a block was seen to be posted, committed or final; `None` if it is not, or that is not known, and for all other stages.
    ///
    /// # Errors
    /// When the log cannot be read.
    fn reached(&self, stage: Stage, block: u64) -> Result<Option<Duration>, LogError>;
}

/// Why the order log failed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// It cannot be opened: locked by another process, no permission, or broken in the middle (a torn tail is no error).
    #[error(
        "cannot open the order log at {path}: {source}; if another process holds it, stop that one; if it is corrupt, restore it from a copy or rebuild the chain from L1"
    )]
    Open {
        /// Its folder.
        path: PathBuf,
        /// What the store said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Reading or writing failed: a full or broken disk.
    #[error("order log storage: {0}")]
    Storage(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A record that cannot be read.
    #[error(
        "the order log is corrupt at record {position}: {source}; restore it from a copy or rebuild the chain from L1"
    )]
    Corrupt {
        /// The record.
        position: Position,
        /// What is wrong with it.
        #[source]
        source: CodecError,
    },
    /// The log of another chain.
    #[error(
        "the order log belongs to the chain with genesis {found}, not {expected}; use another data folder"
    )]
    OtherChain {
        /// The genesis hash that the log names.
        found: B256,
        /// This chain's.
        expected: B256,
    },
    /// Written by a version with another layout.
    #[error("the order log has layout {found}; this version reads layout {supported}")]
    Layout {
        /// The log's.
        found: u64,
        /// This version's.
        supported: u64,
    },
}

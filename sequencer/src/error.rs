//! Why the sequencer does not start or go on.

use std::{io, sync::Arc};

use alloy::primitives::B256;
use millrace_proto::ExecutorError;
use tokio::task::JoinError;

use crate::{SequencerConfigError, log::LogError};

/// Why a sequencer could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A setting makes no sense.
    #[error(transparent)]
    Config(#[from] SequencerConfigError),
    /// The executor's chain is no rollup.
    #[error("the executor's genesis has no config.millrace: a sequencer needs a rollup")]
    NotARollup,
    /// The order log failed.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The executor failed.
    #[error("executor: {0}")]
    Executor(#[from] ExecutorError),
    /// The executor has blocks that the log does not know.
    #[error(
        "the executor is at block {executor}, but the order log ends at block {log}: the log was lost or replaced; bring back the log that belongs to this executor, or rebuild both from L1"
    )]
    ExecutorAhead {
        /// The executor's head.
        executor: u64,
        /// The last block in the log.
        log: u64,
    },
    /// Log and executor hold different blocks.
    #[error(
        "block {number} is {log} in the order log, but {executor} in the executor: one of them belongs to another chain or is damaged; rebuild the executor's data from the log, or both from L1"
    )]
    Diverged {
        /// The block.
        number: u64,
        /// The log's hash.
        log: B256,
        /// The executor's hash.
        executor: B256,
    },
    /// The executor's head was not made from the block that the log opened.
    #[error(
        "the executor's block {number} ({executor}) was not made from the block that the order log opened; rebuild the executor's data from the log, or both from L1"
    )]
    Foreign {
        /// The block.
        number: u64,
        /// The executor's hash.
        executor: B256,
    },
    /// A thread could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] io::Error),
    /// A task ended in a panic.
    #[error("a start-up task failed: {0}")]
    Task(#[from] JoinError),
}

/// Why a running sequencer ended.
#[derive(Debug, thiserror::Error)]
pub enum SequencerRunError {
    /// The order log cannot be written. Nothing was acknowledged after that.
    #[error("{0}")]
    Log(#[source] Arc<LogError>),
    /// The executor failed for good.
    #[error("executor, at block {block}: {source}")]
    Executor {
        /// The block being built.
        block: u64,
        /// What failed.
        #[source]
        source: ExecutorError,
    },
    /// Somebody else gives the executor blocks.
    #[error(
        "the executor's head is block {executor} ({hash}) while block {block} is being built here: only one sequencer may use an executor"
    )]
    NotAlone {
        /// The block being built.
        block: u64,
        /// The executor's head.
        executor: u64,
        /// Its hash.
        hash: B256,
    },
    /// L1 took back what blocks hold that were called final.
    #[error(
        "block {block} holds deposits or forced transactions that L1 does not have any more, but blocks up to {finalized} are final: the L1 node shows another L1, or one that has broken its finality; check [l1] url"
    )]
    FinalVanished {
        /// The first block that holds them.
        block: u64,
        /// The last final block.
        finalized: u64,
    },
    /// L1 holds other blocks than were called final.
    #[error(
        "block {block} is another one as derived from L1, but blocks up to {finalized} are final: the settlement service follows another L1, or another executor; compare the two"
    )]
    FinalDiffers {
        /// The first block that differs.
        block: u64,
        /// The last final block.
        finalized: u64,
    },
    /// The executor keeps no state that is old enough.
    #[error(
        "the blocks after {to} have to be taken back, and the executor does not keep what was before them ({source}): stop it, move its folder away, and start it again; it is made anew from the order log, \
         which has the other blocks already"
    )]
    TooDeep {
        /// The last block that stays.
        to: u64,
        /// What the executor says.
        #[source]
        source: ExecutorError,
    },
    /// Blocks could not be taken back.
    #[error("blocks after {to} cannot be taken back: {source}")]
    Unwind {
        /// The last block that stays.
        to: u64,
        /// What failed.
        #[source]
        source: Box<OpenError>,
    },
    /// A background task ended in a panic.
    #[error("the task {name} failed: {source}")]
    Task {
        /// The task.
        name: &'static str,
        /// How it ended.
        #[source]
        source: JoinError,
    },
}

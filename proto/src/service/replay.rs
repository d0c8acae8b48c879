//! Rebuilding a chain from derived blocks, on the sequential path, or from what they changed.

use std::{fmt, sync::Arc};

use alloy::primitives::{Address, B256, TxHash};

use crate::{
    batch::NamedDelta,
    service::ExecutorError,
    types::{AddressPrefix, DerivedBlock, ExecutedBlock, RejectReason, SealedHeader},
};

/// A stretch of blocks as it is derived from L1 and DA where batches hold state diffs: enough to get from the state before it to the
/// state after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DerivedStretch {
    /// Number of its first block.
    pub first_block: u64,
    /// The last block's header, whose state root is claimed.
    pub header: SealedHeader,
    /// What its blocks changed together, to whoever has the state before it.
    pub delta: NamedDelta,
    /// The ids of the messages to L1 that its blocks sent, in order: as they are claimed.
    pub messages: Vec<B256>,
    /// The digest of the batch that says so.
    pub digest: B256,
}

/// A chain that is rebuilt: block by block on the sequential path, or stretch by stretch from what blocks changed. Blocking: call it off the async threads.
pub trait Replay: fmt::Debug + Send {
    /// The last block executed.
    fn head(&self) -> SealedHeader;

    /// Executes the next block, stores it, and makes it the head.
    ///
    /// # Errors
    /// [`ReplayError::Invalid`] if the block breaks the chain's rules; the head is then as it was.
    fn replay(&mut self, block: DerivedBlock) -> Result<Arc<ExecutedBlock>, ReplayError>;

    /// For each prefix the account of the head's state whose address begins with it; `None` if there is none, or more than one.
    ///
    /// # Errors
    /// When the store fails.
    fn find_accounts(
        &self,
        prefixes: &[AddressPrefix],
    ) -> Result<Vec<Option<Address>>, ReplayError>;

    /// Takes the head to the end of a stretch of blocks by what they changed, without executing anything: the blocks before the last are
    /// not in the chain then.
    ///
    /// # Errors
    /// [`ReplayError::Invalid`] and [`ReplayError::StateRoot`] if the stretch names accounts that the head's state does not have, or does not lead to the state that it claims; the head is then as it
    /// was.
    fn apply(&mut self, stretch: DerivedStretch) -> Result<(), ReplayError>;

    /// Takes back the blocks after `number`, if there are any; a stretch as a whole, also if that leads below `number`.
    ///
    /// # Errors
    /// When the store fails, or does not know any more what was before them, as they are too many.
    fn unwind(&mut self, number: u64) -> Result<(), ReplayError>;

    /// The digest of the batch that was applied and ended with a block, or `None`.
    ///
    /// # Errors
    /// When the store fails.
    fn applied(&self, number: u64) -> Result<Option<B256>, ReplayError>;

    /// The header of a block that is in the chain, or `None`.
    ///
    /// # Errors
    /// When the store fails.
    fn header(&self, number: u64) -> Result<Option<SealedHeader>, ReplayError>;

    /// Whether a block that was executed before is the derived one. Forced transactions that it leaves out were found invalid when it was executed.
    fn is_made_of(&self, executed: &ExecutedBlock, block: &DerivedBlock) -> bool {
        block.is_in(executed)
    }

    /// A block that was executed before, or `None`.
    ///
    /// # Errors
    /// When the store fails.
    fn block(&self, number: u64) -> Result<Option<Arc<ExecutedBlock>>, ReplayError>;
}

/// Why a derived block could not be executed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// Not the block after the head, or its fields break the chain's rules.
    #[error("block {number} is invalid: {problem}")]
    Invalid {
        /// The block.
        number: u64,
        /// What is wrong.
        problem: String,
    },
    /// What a stretch of blocks is said to have changed leads to another state than is claimed.
    #[error("block {number} claims state root {claimed}; what was changed gives {computed}")]
    StateRoot {
        /// The last block.
        number: u64,
        /// What its header claims.
        claimed: B256,
        /// What the diff gives.
        computed: B256,
    },
    /// It holds a transaction that cannot be in it.
    #[error("block {number} holds transaction {hash}, which is invalid there: {reason}")]
    InvalidTransaction {
        /// The block.
        number: u64,
        /// The transaction.
        hash: TxHash,
        /// Why.
        #[source]
        reason: RejectReason,
    },
    /// The executor failed.
    #[error(transparent)]
    Executor(#[from] ExecutorError),
}

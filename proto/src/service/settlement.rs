//! The settlement service: derives the chain from L1, verifies it, commits its roots.

use std::{fmt, sync::Arc};

use alloy::{
    eips::BlockNumHash,
    primitives::{B256, U256},
};
use async_trait::async_trait;

use crate::{
    service::{BoxStream, ErrorClass, TransportError},
    types::{Attestation, DaKind, ExecutedBlock, L1Ref},
};

/// The settlement service.
#[async_trait]
pub trait Settlement: fmt::Debug + Send + Sync + 'static {
    /// How far posting, verification and commitment are, as L1 shows it.
    async fn settlement_status(&self) -> Result<SettlementStatus, SettlementError>;

    /// The status now, and again whenever it changes. A slow reader skips to the newest.
    async fn subscribe_status(
        &self,
    ) -> Result<BoxStream<SettlementStatus, SettlementError>, SettlementError>;

    /// The posted batch that holds a block, or `None`.
    async fn batch_of_block(&self, number: u64) -> Result<Option<BatchRecord>, SettlementError>;

    /// What derivation has come to about a posted batch, or `None` if it has not yet.
    async fn verdict(&self, batch: u64) -> Result<Option<BatchVerdict>, SettlementError>;

    /// A block as it was derived from L1 and executed here, or `None` if it has not been, or is known by what it changed alone.
    async fn derived_block(
        &self,
        number: u64,
    ) -> Result<Option<Arc<ExecutedBlock>>, SettlementError>;

    /// Signs what this service has come to about a posted batch, or `None` if it has not found it valid, or not yet.
    ///
    /// # Errors
    /// [`SettlementError::NotAVerifier`] if it signs nothing, [`SettlementError::Attest`] if it cannot now.
    async fn attest(&self, batch: u64) -> Result<Option<Attestation>, SettlementError>;
}

/// What derivation has come to about a posted batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchVerdict {
    /// The contract's hash of the batch that was judged.
    pub batch_hash: B256,
    /// The block at its end if it is valid, and otherwise why it is skipped.
    pub end: Result<BlockNumHash, String>,
}

/// The end of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchPoint {
    /// The batch.
    pub batch: u64,
    /// Its last L2 block.
    pub last_block: u64,
    /// That block's hash, once the batch is verified.
    pub last_block_hash: Option<B256>,
}

/// How far the chain is settled. Later points never lie before earlier ones: posted >= verified >= committed >= finalized.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SettlementStatus {
    /// L1's latest block.
    pub l1_head: BlockNumHash,
    /// The last posted batch.
    pub posted: Option<BatchPoint>,
    /// The last batch that was derived, executed again and found right.
    pub verified: Option<BatchPoint>,
    /// The last committed batch.
    pub committed: Option<BatchPoint>,
    /// The last batch whose commitment is final.
    pub finalized: Option<BatchPoint>,
    /// L1 fees paid for commitments, wei.
    pub l1_fees: U256,
    /// Why committing has halted and what to do, if it has.
    pub halted: Option<String>,
    /// The end of a batch that is derived from L1, executed and found right, and that the sequencer's chain does not have as it is: the sequencer takes its blocks
    /// over ([`Settlement::derived_block`]).
    pub unmatched: Option<BlockNumHash>,
}

/// A batch's life on L1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchRecord {
    /// From 1.
    pub number: u64,
    /// First L2 block.
    pub first_block: u64,
    /// Last L2 block.
    pub last_block: u64,
    /// `keccak256` of the encoded batch.
    pub digest: B256,
    /// Where its bytes are.
    pub da_kind: DaKind,
    /// The posting transaction.
    pub posted: L1Ref,
    /// The committing transaction.
    pub committed: Option<L1Ref>,
    /// Whether the commitment is final.
    pub finalized: bool,
}

/// Why the settlement service did not answer.
#[derive(Debug, thiserror::Error)]
pub enum SettlementError {
    /// Its store failed: a full or broken disk, or data that cannot be.
    #[error("settlement storage: {0}")]
    Store(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It signs nothing.
    #[error("this settlement service signs nothing; a verifier does (`millrace verifier`)")]
    NotAVerifier,
    /// It cannot sign now: it has halted, L1 or the signing service does not answer, or its signatures do not count.
    #[error("no attestation: {0}")]
    Attest(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The service is in another process and does not answer.
    #[error(transparent)]
    Transport(#[from] TransportError),
}

impl SettlementError {
    /// What the caller can do.
    pub const fn class(&self) -> ErrorClass {
        match self {
            Self::Store(_) => ErrorClass::Fatal,
            Self::NotAVerifier => ErrorClass::Caller,
            Self::Attest(_) | Self::Transport(_) => ErrorClass::Retryable,
        }
    }
}

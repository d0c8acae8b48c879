//! What goes wrong with a transaction.

use alloy::primitives::U256;
use millrace_proto::{ErrorClass, L1Ref};

use crate::{L1Error, SignError, revert::RevertReason};

/// Why a transaction is not confirmed.
#[derive(Debug, thiserror::Error)]
pub enum TxManagerError {
    /// The configuration cannot work.
    #[error("transaction manager configuration: {0}")]
    Config(&'static str),
    /// The journal failed; without it nothing may be sent.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// L1 did not answer, before anything was signed.
    #[error(transparent)]
    L1(#[from] L1Error),
    /// L1 says that the call would revert now. Nothing was signed or paid.
    #[error("transaction {id} would revert: {reason}")]
    WouldRevert {
        /// The request's id.
        id: String,
        /// Why.
        reason: RevertReason,
    },
    /// The transaction is in a block and reverted. It was paid, and the id is free again.
    #[error("transaction {id} reverted in L1 block {}: {}", l1.block.number, reason.as_ref().map_or("reason unknown".to_owned(), ToString::to_string))]
    Reverted {
        /// The request's id.
        id: String,
        /// The transaction.
        l1: L1Ref,
        /// Why, if the node can still tell.
        reason: Option<RevertReason>,
        /// Wei paid for gas and blobs.
        fee_paid: U256,
    },
    /// Another transaction of the same account took the nonce, so that this one can never be included. Somebody else
    /// uses the account's key, or the journal was lost. Nothing was paid, and the id is free again.
    #[error(
        "another transaction of the account took nonce {nonce}, which transaction {id} was signed with"
    )]
    NonceTaken {
        /// The request's id.
        id: String,
        /// The nonce.
        nonce: u64,
    },
    /// The account cannot pay for the transaction.
    #[error(
        "the account has {balance} wei beside what is in flight, and transaction {id} may cost {needed}"
    )]
    InsufficientBalance {
        /// The request's id.
        id: String,
        /// The account's balance less what its transactions in flight may cost, wei.
        balance: U256,
        /// What the transaction may cost at the fees offered, wei.
        needed: U256,
    },
    /// The node does not take the transaction, and higher fees would not help. If no node ever took it, the id and the
    /// nonce are free again.
    #[error("L1 refuses transaction {id}: {message}")]
    Refused {
        /// The request's id.
        id: String,
        /// The node's words.
        message: String,
    },
    /// The node holds a transaction of the account that ours are not, of the other kind: with blobs, or without. It is replaced by one that does nothing; after
    /// that the id can be sent again.
    #[error(
        "the node holds another transaction of the account with nonce {nonce}, which transaction {id} cannot replace; it is being cancelled"
    )]
    Blocked {
        /// The request's id.
        id: String,
        /// The nonce.
        nonce: u64,
    },
    /// The id stands for another call in the journal.
    #[error("transaction id {id} is already in use for a call with other contents")]
    IdInUse {
        /// The id.
        id: String,
    },
    /// The blobs or their proofs cannot be made.
    #[error("transaction {id}: blobs: {problem}")]
    Blobs {
        /// The request's id.
        id: String,
        /// What KZG said.
        problem: String,
    },
    /// The account's transaction is not signed. What was journaled before stays.
    #[error(transparent)]
    Sign(#[from] SignError),
}

impl TxManagerError {
    /// What the caller can do.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::L1(error) => error.class(),
            Self::InsufficientBalance { .. } | Self::Blocked { .. } => ErrorClass::Retryable,
            Self::WouldRevert { .. }
            | Self::Reverted { .. }
            | Self::NonceTaken { .. }
            | Self::IdInUse { .. }
            | Self::Refused { .. }
            | Self::Blobs { .. } => ErrorClass::Caller,
            Self::Sign(error) => error.class(),
            Self::Config(_) | Self::Journal(_) => ErrorClass::Fatal,
        }
    }
}

/// Why the journal failed.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// A full or broken disk, or another process that has it open.
    #[error("transaction journal: {0}")]
    Database(#[from] rocksdb::Error),
    /// An entry that this version did not write.
    #[error("transaction journal: {entry} cannot be read: {problem}")]
    Corrupt {
        /// The entry.
        entry: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The journal belongs to another account or another L1.
    #[error(
        "the transaction journal in {path} is of account and L1 {found}, and not of {expected}: use another folder, or remove \
         this one if that L1 is gone"
    )]
    Foreign {
        /// The journal's folder.
        path: String,
        /// Whose it is.
        found: String,
        /// Who opened it.
        expected: String,
    },
}

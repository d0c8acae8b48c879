//! Why a batch cannot be made or read.

use std::{fmt, io};

use alloy::primitives::TxHash;

use crate::types::BatchPayload;

/// A column of the format, or one of its fixed parts: where the bytes are wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(
    missing_docs,
    reason = "the names are the format's own; docs/batch-format.md explains them"
)]
pub enum BatchColumn {
    Header,
    Frame,
    Timestamps,
    DepositsEnds,
    TransactionCounts,
    Types,
    Nonces,
    GasLimits,
    Fees,
    PriorityFees,
    Recipients,
    Values,
    AccessListLengths,
    AccessListKeyCounts,
    AccessListAddresses,
    AuthorizationCounts,
    AuthorizationChainIds,
    AuthorizationNonces,
    AuthorizationParities,
    AuthorizationSignatures,
    AuthorizationAddresses,
    InputTokens,
    Selectors,
    ZeroLengths,
    LiteralLengths,
    InputNumbers,
    Literals,
    InputWords,
    InputAddresses,
    Addresses,
    Signatures,
    LastHeader,
    Messages,
    Code,
    Names,
    Words,
    Accounts,
    AccountNonces,
    Balances,
    AccountCodes,
    SlotGroups,
    SlotKeys,
    SlotValues,
}

impl fmt::Display for BatchColumn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Header => "header",
            Self::Frame => "frame",
            Self::Timestamps => "timestamps",
            Self::DepositsEnds => "deposits ends",
            Self::TransactionCounts => "transaction counts",
            Self::Types => "types",
            Self::Nonces => "nonces",
            Self::GasLimits => "gas limits",
            Self::Fees => "fees",
            Self::PriorityFees => "priority fees",
            Self::Recipients => "recipients",
            Self::Values => "values",
            Self::AccessListLengths => "access list lengths",
            Self::AccessListKeyCounts => "access list key counts",
            Self::AccessListAddresses => "access list addresses",
            Self::AuthorizationCounts => "authorization counts",
            Self::AuthorizationChainIds => "authorization chain ids",
            Self::AuthorizationNonces => "authorization nonces",
            Self::AuthorizationParities => "authorization parities",
            Self::AuthorizationSignatures => "authorization signatures",
            Self::AuthorizationAddresses => "authorization addresses",
            Self::InputTokens => "input tokens",
            Self::Selectors => "selectors",
            Self::ZeroLengths => "zero lengths",
            Self::LiteralLengths => "literal lengths",
            Self::InputNumbers => "input numbers",
            Self::Literals => "literals",
            Self::InputWords => "input words",
            Self::InputAddresses => "input addresses",
            Self::Addresses => "addresses",
            Self::Signatures => "signatures",
            Self::LastHeader => "last header",
            Self::Messages => "messages",
            Self::Code => "code",
            Self::Names => "names",
            Self::Words => "words",
            Self::Accounts => "accounts",
            Self::AccountNonces => "account nonces",
            Self::Balances => "balances",
            Self::AccountCodes => "account codes",
            Self::SlotGroups => "slot groups",
            Self::SlotKeys => "slot keys",
            Self::SlotValues => "slot values",
        })
    }
}

/// Why blocks cannot be made into a batch.
#[derive(Debug, thiserror::Error)]
pub enum BatchEncodeError {
    /// There is no block.
    #[error("a batch needs at least one block")]
    Empty,
    /// A block does not follow the one before it, or is not a rollup's.
    #[error("block {number}: {problem}")]
    Block {
        /// The block.
        number: u64,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A transaction that a batch cannot hold.
    #[error("block {block}: transaction {hash}: {problem}")]
    Transaction {
        /// The block.
        block: u64,
        /// The transaction.
        hash: TxHash,
        /// Why not.
        problem: &'static str,
    },
    /// The batch would be over a limit: make it of fewer blocks.
    #[error("{size} {what} are over the limit of {limit}; use fewer blocks")]
    OverLimit {
        /// What there is too much of.
        what: &'static str,
        /// How much there is.
        size: usize,
        /// How much is allowed.
        limit: usize,
    },
    /// zstd failed.
    #[error("compression: {0}")]
    Compression(#[source] io::Error),
}

/// Why bytes are not a batch.
#[derive(Debug, thiserror::Error)]
pub enum BatchDecodeError {
    /// A version of the format that is not known here.
    #[error("unknown batch version {0}")]
    Version(u8),
    /// A payload kind that is not known here.
    #[error("unknown payload kind {0}")]
    PayloadKind(u8),
    /// Not the payload that the chain's batches hold.
    #[error("the payload is {found}, this chain's batches hold {expected}")]
    Payload {
        /// What it is.
        found: BatchPayload,
        /// What it has to be.
        expected: BatchPayload,
    },
    /// A dictionary that is not known here.
    #[error("unknown dictionary {0}")]
    Dictionary(u8),
    /// Over a limit.
    #[error("{size} {what} are over the limit of {limit}")]
    OverLimit {
        /// What there is too much of.
        what: &'static str,
        /// How much there is.
        size: u64,
        /// How much is allowed.
        limit: usize,
    },
    /// The bytes end too early.
    #[error("{column}: {missing} bytes are missing")]
    Truncated {
        /// Where.
        column: BatchColumn,
        /// At least so many.
        missing: usize,
    },
    /// A value that the column cannot hold.
    #[error("{column}: {problem}")]
    Invalid {
        /// Where.
        column: BatchColumn,
        /// What is wrong.
        problem: &'static str,
    },
    /// zstd cannot read the frame.
    #[error("frame: {0}")]
    Compression(#[source] io::Error),
    /// Bytes follow where nothing should.
    #[error("{count} bytes follow the {after}")]
    TrailingBytes {
        /// The last thing that belongs there.
        after: BatchColumn,
        /// How many.
        count: usize,
    },
}

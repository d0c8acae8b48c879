//! Why a transaction is refused or dropped: one variant, one reason string, one gRPC code for each cause.

use alloy::primitives::{Address, B256, U256};
use tonic::Code;

/// Why a transaction is refused at admission or dropped later.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RejectReason {
    /// Not exactly one EIP-2718 transaction.
    #[error("not a valid EIP-2718 transaction: {detail}")]
    BadEncoding {
        /// What the decoder said.
        detail: String,
    },
    /// Larger than the chain takes.
    #[error("transaction of {size} bytes is over the limit of {limit}")]
    Oversize {
        /// Bytes received.
        size: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// A type that this chain does not take: blobs, or a deposit that did not come from L1.
    #[error("transaction type {ty:#04x} is not supported on this chain")]
    UnsupportedType {
        /// EIP-2718 type byte.
        ty: u8,
    },
    /// Signed for another chain.
    #[error(
        "chain id {got} is not this chain's {expected}; sign the transaction for chain id {expected}"
    )]
    WrongChainId {
        /// The transaction's chain id.
        got: u64,
        /// This chain's.
        expected: u64,
    },
    /// A legacy transaction without replay protection.
    #[error("transaction has no chain id; sign with EIP-155 replay protection")]
    Unprotected,
    /// No sender can be recovered, or `s` is high (EIP-2).
    #[error("invalid signature: {detail}")]
    BadSignature {
        /// What is wrong with it.
        detail: String,
    },
    /// The sender's next nonce is higher.
    #[error("nonce too low: transaction has {got}, next is {expected}")]
    NonceTooLow {
        /// The transaction's nonce.
        got: u64,
        /// The sender's next nonce.
        expected: u64,
    },
    /// Too far above the sender's next nonce to be kept.
    #[error(
        "nonce too far ahead: transaction has {got}, next is {expected}, at most {limit} ahead are kept"
    )]
    NonceTooFar {
        /// The transaction's nonce.
        got: u64,
        /// The sender's next nonce.
        expected: u64,
        /// How far ahead the pool keeps.
        limit: u64,
    },
    /// A transaction with this sender and nonce is waiting, and this one does not pay enough more to replace it.
    #[error(
        "replacement transaction underpriced: must offer at least {required} wei max fee per gas"
    )]
    Underpriced {
        /// Wei per gas that a replacement has to offer.
        required: u128,
    },
    /// The sender cannot pay for gas and value.
    #[error("insufficient funds: {sender} has {balance} wei, the transaction may cost {cost}")]
    InsufficientFunds {
        /// Who pays.
        sender: Address,
        /// Its balance, wei.
        balance: U256,
        /// The most that the transaction may cost, wei.
        cost: U256,
    },
    /// The maximum fee is below what the chain asks now.
    #[error("max fee per gas {got} wei is below the floor of {floor} wei")]
    FeeBelowFloor {
        /// Offered, wei per gas.
        got: u128,
        /// Least, wei per gas.
        floor: u128,
    },
    /// The priority fee that it pays, at the next block's base fee, is below what its data costs on the DA layer.
    #[error(
        "priority fee of {got} wei per gas is below the {floor} that pay for its data, which costs {data_fee} wei"
    )]
    TipBelowFloor {
        /// Offered above the base fee, wei per gas.
        got: u128,
        /// Least, wei per gas.
        floor: u128,
        /// What its data costs, wei.
        data_fee: u128,
    },
    /// The priority fee is above the maximum fee.
    #[error("max priority fee per gas {tip} wei is above max fee per gas {max_fee} wei")]
    TipAboveMaxFee {
        /// Priority fee, wei per gas.
        tip: u128,
        /// Maximum fee, wei per gas.
        max_fee: u128,
    },
    /// The gas limit is above the block's or the transaction cap (EIP-7825).
    #[error("gas limit {got} is over the limit of {limit}")]
    GasOverLimit {
        /// The transaction's gas limit.
        got: u64,
        /// The most that is taken.
        limit: u64,
    },
    /// The gas limit does not cover the intrinsic or floor cost (EIP-7623).
    #[error("gas limit {got} is below the intrinsic cost of {required}")]
    IntrinsicGas {
        /// The transaction's gas limit.
        got: u64,
        /// Needed at least.
        required: u64,
    },
    /// Init code over the limit (EIP-3860).
    #[error("init code of {size} bytes is over the limit of {limit}")]
    InitCodeTooLarge {
        /// Bytes.
        size: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// The sender has code that is no delegation (EIP-3607).
    #[error("sender {sender} is a contract")]
    SenderIsContract {
        /// The sender.
        sender: Address,
    },
    /// Broken in a way that its type's EIP rules out, for example an empty EIP-7702 authorization list.
    #[error("invalid transaction: {detail}")]
    Invalid {
        /// The rule that it breaks.
        detail: String,
    },
    /// The same transaction was taken before.
    #[error("transaction {hash} is already known")]
    AlreadyKnown {
        /// Its hash.
        hash: B256,
    },
    /// The pool has no room. Nothing was kept: try again later.
    #[error("the pool is full ({limit} transactions); try again later")]
    PoolFull {
        /// Its capacity in transactions.
        limit: u64,
    },
    /// Too much of the client that sent it is in the pool.
    #[error(
        "as many transactions as one client may have in the pool ({limit}), or as many bytes, are there already; try again when they are in blocks"
    )]
    SourceLimit {
        /// Transactions that a client may have there.
        limit: u64,
    },
    /// Replaced by another transaction with the same sender and nonce.
    #[error("replaced by transaction {by}")]
    Replaced {
        /// The replacement's hash.
        by: B256,
    },
    /// Waited longer for its turn than the pool keeps transactions.
    #[error("expired after waiting for an earlier nonce")]
    Expired,
    /// It waited, for an earlier nonce or a lower base fee, and the full pool needed its room for one that offers more.
    #[error(
        "evicted from a full pool while it waited; send it again later, with the nonces before it or a higher fee"
    )]
    Evicted,
}

impl RejectReason {
    /// The machine-readable reason, unique to the cause.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::BadEncoding { .. } => "BAD_ENCODING",
            Self::Oversize { .. } => "OVERSIZE",
            Self::UnsupportedType { .. } => "UNSUPPORTED_TYPE",
            Self::WrongChainId { .. } => "WRONG_CHAIN_ID",
            Self::Unprotected => "UNPROTECTED",
            Self::BadSignature { .. } => "BAD_SIGNATURE",
            Self::NonceTooLow { .. } => "NONCE_TOO_LOW",
            Self::NonceTooFar { .. } => "NONCE_TOO_FAR",
            Self::Underpriced { .. } => "UNDERPRICED",
            Self::InsufficientFunds { .. } => "INSUFFICIENT_FUNDS",
            Self::FeeBelowFloor { .. } => "FEE_BELOW_FLOOR",
            Self::TipBelowFloor { .. } => "TIP_BELOW_FLOOR",
            Self::TipAboveMaxFee { .. } => "TIP_ABOVE_MAX_FEE",
            Self::GasOverLimit { .. } => "GAS_OVER_LIMIT",
            Self::IntrinsicGas { .. } => "INTRINSIC_GAS",
            Self::InitCodeTooLarge { .. } => "INIT_CODE_TOO_LARGE",
            Self::SenderIsContract { .. } => "SENDER_IS_CONTRACT",
            Self::Invalid { .. } => "INVALID",
            Self::AlreadyKnown { .. } => "ALREADY_KNOWN",
            Self::PoolFull { .. } => "POOL_FULL",
            Self::SourceLimit { .. } => "SOURCE_LIMIT",
            Self::Replaced { .. } => "REPLACED",
            Self::Expired => "EXPIRED",
            Self::Evicted => "EVICTED",
        }
    }

    /// The gRPC status code.
    pub const fn grpc_code(&self) -> Code {
        match self {
            Self::AlreadyKnown { .. } => Code::AlreadyExists,
            Self::PoolFull { .. } | Self::SourceLimit { .. } | Self::Evicted => {
                Code::ResourceExhausted
            }
            Self::NonceTooLow { .. }
            | Self::NonceTooFar { .. }
            | Self::Underpriced { .. }
            | Self::InsufficientFunds { .. }
            | Self::FeeBelowFloor { .. }
            | Self::TipBelowFloor { .. }
            | Self::SenderIsContract { .. }
            | Self::Replaced { .. }
            | Self::Expired => Code::FailedPrecondition,
            _ => Code::InvalidArgument,
        }
    }
}

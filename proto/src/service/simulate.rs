//! Simulations: blocks of calls on top of a sealed block, each on the state that those before it leave.

use std::sync::Arc;

use alloy::primitives::Log;

use crate::{service::CallOutcome, types::ExecutedBlock};

/// A block that was simulated.
#[derive(Debug, Clone, PartialEq)]
pub struct SimulatedBlock {
    /// The block, with its roots. Its transactions have signatures of zeros, as nobody signed them.
    pub block: Arc<ExecutedBlock>,
    /// What each call gave, in the order of the transactions.
    pub calls: Vec<SimulatedCall>,
}

/// A call of a simulated block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimulatedCall {
    /// How it ended.
    pub outcome: CallOutcome,
    /// Gas used before refunds.
    pub max_used_gas: u64,
    /// Its logs, those of transfers included if they were asked for, which its receipt does not have.
    pub logs: Vec<Log>,
}

/// Why a simulation stopped, with the error code that the execution-apis specification gives it in `eth_simulateV1`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SimulationError {
    /// The code.
    pub code: SimulationCode,
    /// What is wrong, and where.
    pub message: String,
}

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $code:literal,)+) => {
        /// Why a simulation stopped.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum SimulationCode {
            $($(#[doc = $doc])+ $name,)+
        }

        impl SimulationCode {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// The JSON-RPC error code.
            pub const fn code(self) -> i32 {
                match self {
                    $(Self::$name => $code,)+
                }
            }
        }
    };
}

codes! {
    /// A call or an override that makes no sense.
    Invalid = -32000,
    /// It takes too long.
    Timeout = -32016,
    /// A call's nonce is too low.
    NonceTooLow = -38010,
    /// A call's nonce is too high.
    NonceTooHigh = -38011,
    /// A call's maximum fee is below the block's base fee.
    FeeTooLow = -38012,
    /// A call's gas limit does not pay for what every transaction costs.
    IntrinsicGas = -38013,
    /// The sender cannot pay for gas and value.
    InsufficientFunds = -38014,
    /// The block's calls want more gas than the block has.
    BlockGasLimit = -38015,
    /// The numbers of the blocks do not increase.
    BlockNumbers = -38020,
    /// The timestamps of the blocks do not increase.
    Timestamps = -38021,
    /// A precompile is moved to where it is.
    MovedToItself = -38022,
    /// Two precompiles are moved to the same address.
    MovedTwice = -38023,
    /// The sender is a contract.
    SenderIsContract = -38024,
    /// The init code is too large.
    InitCodeTooLarge = -38025,
    /// Over a limit of this node.
    Limit = -38026,
}

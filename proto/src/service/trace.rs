//! Traces: transactions and calls executed again, under a tracer of geth's.

use std::time::Duration;

use crate::service::{BlockSelector, CallRequest};

/// What to trace.
#[derive(Debug, Clone, PartialEq)]
pub enum TraceTarget {
    /// A transaction of a sealed block.
    Transaction {
        /// The block.
        block: BlockSelector,
        /// Index in the block.
        index: u64,
    },
    /// Every transaction of a sealed block.
    Block(BlockSelector),
    /// A call that changes nothing.
    Call {
        /// The call, with what it assumes.
        request: Box<CallRequest>,
        /// The block whose fields it sees, and after which it runs.
        at: BlockSelector,
        /// If it is given, the call runs before the transaction with this index in the block instead of after all of them.
        index: Option<u64>,
    },
}

/// A limit that a trace went over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TraceLimit {
    /// Gas of the sealed transactions that have to be executed again.
    #[error(
        "the transactions to execute again used more than the limit of {0} gas (max_trace_gas); \
         trace one that comes earlier in its block, or a block that is less full"
    )]
    Gas(u64),
    /// Bytes of what is recorded, and of the result.
    #[error(
        "the trace is over the limit of {0} bytes (max_trace_bytes); make it smaller: with disableStack, disableStorage and limit, \
         without enableMemory and enableReturnData, with onlyTopCall, with disableCode, or by tracing one transaction of the block"
    )]
    Bytes(u64),
    /// Time.
    #[error(
        "the trace takes longer than the limit of {0:?}; give it more with the option timeout, up to max_trace_timeout, or trace less"
    )]
    Time(Duration),
}

//! Why the service stops verifying and committing.

use millrace_l1::TxManagerError;
use millrace_proto::DaReadError;

use crate::{derivation::DeriveError, execution::ExecutionError};

/// Why the service has halted: it goes on to follow L1 and to answer, but neither verifies nor commits until an operator has
/// looked and restarted it. A restart repeats the work that led here, and so halts again while the cause is there.
#[derive(Debug, thiserror::Error)]
pub enum HaltReason {
    /// The replayed chain cannot go on with a batch.
    #[error("{0}; delete the settlement folder to read L1 again")]
    Execution(#[source] ExecutionError),
    /// A batch of the sequencer's own blocks does not execute to what the sequencer has.
    #[error(
        "{0}; the sequencer's chain is what the batch claims, so one of the two executors is wrong: stop the sequencer and compare them"
    )]
    ExecutorsDiffer(#[source] ExecutionError),
    /// L1's own records do not fit together.
    #[error(
        "batch {batch}: {source}; check the L1 node, then delete the settlement folder to read L1 again"
    )]
    L1View {
        /// The batch.
        batch: u64,
        /// What does not fit.
        #[source]
        source: DeriveError,
    },
    /// L1 holds a commitment that is not what verification gave.
    #[error(
        "batch {batch} is committed on L1 with {field} {found}, but verification gives {expected}; the guardian has to revert it within the challenge window"
    )]
    WrongCommitment {
        /// The batch.
        batch: u64,
        /// What differs.
        field: &'static str,
        /// As verified.
        expected: String,
        /// On L1.
        found: String,
    },
    /// The commitments on L1 end in the middle of a verified batch.
    #[error(
        "L1 has committed up to block {committed_block}, but batch {batch} begins at block {first_block}"
    )]
    CommitmentsDoNotJoin {
        /// The next verified batch.
        batch: u64,
        /// Its first block.
        first_block: u64,
        /// The last block that L1 has committed.
        committed_block: u64,
    },
    /// L1 refuses a commitment for good.
    #[error("L1 refuses the commitment of batch {batch}: {source}")]
    CommitRefused {
        /// The batch.
        batch: u64,
        /// What L1 says.
        #[source]
        source: TxManagerError,
    },
    /// The guardian has taken back a commitment that is right by what is known here.
    #[error(
        "the guardian has reverted the commitment of batch {batch}, which verification finds right; nothing more is committed until an operator has settled this with the guardian"
    )]
    CommitmentReverted {
        /// The batch.
        batch: u64,
    },
    /// A batch is where this service cannot read.
    #[error("{0}")]
    NoReader(#[source] DaReadError),
}

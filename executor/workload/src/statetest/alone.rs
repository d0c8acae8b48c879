//! A case in a block of its own.

use std::sync::Arc;

use alloy::rlp;
use alloy_primitives::{Address, B256, Log, keccak256};
use millrace_executor::{ExecutionError, MemoryState, StateReadError, StateReader};
use millrace_proto::{DecodeTxError, RecoveredTx, RejectReason, StateDiff, TxOutcome};

use super::{
    file::{Case, Group},
    refusal::is_expected,
    runner::{Pool, Threads},
    stacked::StackProblem,
};
use crate::{
    execution::{Difference, Execution, Ground},
    root::state_root,
};

/// What a case does not give as it must.
#[derive(Debug, thiserror::Error)]
pub enum CaseProblem {
    /// The transaction is valid, but its bytes are refused.
    #[error("the transaction does not decode: {0}")]
    Undecodable(#[source] DecodeTxError),
    /// The signature gives another sender.
    #[error("sender is {got}, must be {expected}")]
    Sender {
        /// As the test says.
        expected: Address,
        /// As recovered.
        got: Address,
    },
    /// A valid transaction is refused.
    #[error("refused: {0:?}")]
    Refused(Box<TxOutcome>),
    /// An invalid transaction is executed.
    #[error("executed, must be refused for {0}")]
    Accepted(String),
    /// An invalid transaction is refused for another reason.
    #[error("refused because {reason}; must be refused for {expected}")]
    OtherReason {
        /// As the test says.
        expected: String,
        /// As found.
        reason: Box<RejectReason>,
    },
    /// The state after is another.
    #[error("state root is {got}, must be {expected}")]
    StateRoot {
        /// As the test says.
        expected: B256,
        /// As computed.
        got: B256,
    },
    /// The logs are others.
    #[error("hash of the logs is {got}, must be {expected}")]
    Logs {
        /// As the test says.
        expected: B256,
        /// As computed.
        got: B256,
    },
    /// The state diff does not start from the state before.
    #[error("the diff of account {0} does not start from the state before")]
    Before(Address),
    /// Executing on threads gives something else.
    #[error("on {threads}: {difference}")]
    Parallel {
        /// How many.
        threads: Threads,
        /// What.
        difference: Box<Difference>,
    },
    /// Executing in order fails.
    #[error("execution fails: {0}")]
    Execution(#[from] ExecutionError),
    /// Executing on threads fails.
    #[error("on {threads} execution fails: {source}")]
    ParallelExecution {
        /// How many.
        threads: Threads,
        /// Why.
        source: ExecutionError,
    },
    /// The state cannot be read.
    #[error("the state cannot be read: {0}")]
    Read(#[from] StateReadError),
    /// The group's block, where the transactions meet, goes wrong.
    #[error("stacked with the other cases of its test: {0}")]
    Stacked(#[source] Arc<StackProblem>),
}

/// A case as it runs alone: in order, and on every pool.
pub(super) fn run(
    ground: &Ground,
    group: &Group,
    case: &Case,
    pools: &[Pool],
) -> Result<(), CaseProblem> {
    let tx = match RecoveredTx::decode(case.raw.clone()) {
        Ok(tx) => Arc::new(tx),
        // What is no transaction is refused before a block.
        Err(_) if case.refusal.is_some() => return untouched(group, case),
        Err(error) => return Err(CaseProblem::Undecodable(error)),
    };
    if let Some(expected) = group.sender.filter(|sender| *sender != tx.sender()) {
        return Err(CaseProblem::Sender { expected, got: tx.sender() });
    }
    let transactions: [_; 1] = [tx];
    let execution = ground.in_order(&transactions)?;
    check(group, case, &execution)?;
    let stretch = [Arc::from(transactions)];
    for pool in pools {
        let threads = pool.threads;
        let (parallel, _) = ground
            .in_parallel(&stretch, &pool.pool)
            .map_err(|source| CaseProblem::ParallelExecution { threads, source })?;
        if let Some(difference) = execution.difference(&parallel) {
            let difference = Box::new(difference);
            return Err(CaseProblem::Parallel { threads, difference });
        }
    }
    Ok(())
}

fn check(group: &Group, case: &Case, execution: &Execution) -> Result<(), CaseProblem> {
    let logs = match (execution.outcomes.first(), &case.refusal) {
        (Some(TxOutcome::Included { receipt, .. }), None) => receipt.logs.as_slice(),
        (Some(TxOutcome::Included { .. }), Some(expected)) => {
            return Err(CaseProblem::Accepted(expected.clone()));
        }
        (Some(TxOutcome::Invalid(reason)), Some(expected)) => {
            if !is_expected(reason, expected) {
                let (expected, reason) = (expected.clone(), Box::new(reason.clone()));
                return Err(CaseProblem::OtherReason { expected, reason });
            }
            &[]
        }
        (outcome, _) => {
            let outcome = outcome.cloned().unwrap_or(TxOutcome::NoRoom);
            return Err(CaseProblem::Refused(Box::new(outcome)));
        }
    };
    starts_from(&group.state, &execution.output.diff)?;
    let mut after = MemoryState::clone(&group.state);
    after.apply(&execution.output.diff);
    equal(case, &after, logs)
}

fn untouched(group: &Group, case: &Case) -> Result<(), CaseProblem> {
    equal(case, &group.state, &[])
}

fn equal(case: &Case, after: &MemoryState, logs: &[Log]) -> Result<(), CaseProblem> {
    let got = state_root(after);
    if got != case.state_root {
        return Err(CaseProblem::StateRoot { expected: case.state_root, got });
    }
    let mut encoded = Vec::new();
    rlp::encode_list(logs, &mut encoded);
    let got = keccak256(&encoded);
    if got != case.logs_hash {
        return Err(CaseProblem::Logs { expected: case.logs_hash, got });
    }
    Ok(())
}

/// The diff's values before must be the state's.
fn starts_from(state: &MemoryState, diff: &StateDiff) -> Result<(), CaseProblem> {
    for (address, account) in &diff.accounts {
        let mut right = state.account(*address)? == account.before;
        for (slot, value) in &account.storage {
            right &= state.storage(*address, (*slot).into())? == value.before;
        }
        if !right {
            return Err(CaseProblem::Before(*address));
        }
    }
    Ok(())
}

//! Why a block is not what its access list says.

use alloy::eips::eip7928::BlockAccessListValidationError;
use alloy_primitives::{Address, TxHash, U256};
use millrace_proto::TxOutcome;

use crate::evm::{ExecutionError, StateReadError};

/// Why a block cannot be executed by its access list. An index is a block access index: 0 before the first transaction, *n* for the
/// *n*th, one more than there are transactions for the block's end.
#[derive(Debug, thiserror::Error)]
pub enum AccessListError {
    /// The list breaks EIP-7928's rules of form.
    #[error("the access list is malformed: {0}")]
    Malformed(#[from] BlockAccessListValidationError),
    /// A list does not say which empty accounts exist: there are such before EIP-161 (Spurious Dragon), and in a genesis that has them.
    #[error(
        "access lists are not supported for blocks before Spurious Dragon, nor for accounts that exist and are empty; execute the block without one"
    )]
    Unsupported,
    /// It was to be closed without having been executed, or after that had failed.
    #[error("the block was not executed")]
    NotExecuted,
    /// Something is used that is not in the list.
    #[error("at index {index} {} is used, which is not in the access list", item(.address, .slot))]
    NotListed {
        /// Where.
        index: u32,
        /// The account.
        address: Address,
        /// Its slot; `None`: the account itself.
        slot: Option<U256>,
    },
    /// Something changes in another way than the list says.
    #[error("at index {index} {part} of {address} becomes {got}; the access list says {listed}")]
    Change {
        /// Where.
        index: u32,
        /// The account.
        address: Address,
        /// What of it.
        part: String,
        /// What it becomes.
        got: String,
        /// What the list says.
        listed: String,
    },
    /// The list says that an account changes more often than it does.
    #[error("the access list has {listed} changes of {address}, of which the block makes {made}")]
    NotMade {
        /// The account.
        address: Address,
        /// How many changes there are in the list.
        listed: usize,
        /// How many of them are made.
        made: usize,
    },
    /// The list has something that the block does not read.
    #[error("{} is in the access list, and is never read", item(.address, .slot))]
    NotRead {
        /// The account.
        address: Address,
        /// Its slot; `None`: the account itself.
        slot: Option<U256>,
    },
    /// A transaction cannot be in the block where it is.
    #[error("transaction {hash} cannot be in the block: {outcome:?}")]
    NotIncludable {
        /// Which.
        hash: TxHash,
        /// What would become of it.
        outcome: Box<TxOutcome>,
    },
    /// Execution itself fails.
    #[error(transparent)]
    Execution(ExecutionError),
}

/// Why execution failed: what the state by the list said, if it was that.
impl From<ExecutionError> for AccessListError {
    fn from(error: ExecutionError) -> Self {
        match error {
            ExecutionError::NotIncludable { hash, reason } => {
                Self::NotIncludable { hash, outcome: Box::new(TxOutcome::Invalid(reason)) }
            }
            ExecutionError::State(error) => error.into(),
            error => Self::Execution(error),
        }
    }
}

impl From<StateReadError> for AccessListError {
    fn from(error: StateReadError) -> Self {
        if let StateReadError::Source(source) = &error {
            match source.downcast_ref() {
                Some(Self::Unsupported) => return Self::Unsupported,
                Some(&Self::NotListed { index, address, slot }) => {
                    return Self::NotListed { index, address, slot };
                }
                _ => {}
            }
        }
        Self::Execution(error.into())
    }
}

fn item(address: &Address, slot: &Option<U256>) -> String {
    match slot {
        Some(slot) => format!("slot {slot:#x} of {address}"),
        None => format!("account {address}"),
    }
}

#[cfg(test)]
mod tests {
    use millrace_proto::RejectReason;

    use super::*;

    #[test]
    fn what_is_wrong_with_the_list_or_a_transaction_is_told_as_such() {
        let (address, slot) = (Address::repeat_byte(1), Some(U256::from(2)));
        let not_listed = AccessListError::NotListed { index: 3, address, slot };
        let error = ExecutionError::from(StateReadError::source(not_listed));
        assert!(matches!(error.into(), AccessListError::NotListed { index: 3, .. }));
        let unsupported = StateReadError::source(AccessListError::Unsupported);
        assert!(matches!(unsupported.into(), AccessListError::Unsupported));
        let reason = RejectReason::Invalid { detail: String::new() };
        let error = ExecutionError::NotIncludable { hash: TxHash::ZERO, reason };
        assert!(matches!(error.into(), AccessListError::NotIncludable { .. }));
        let error = ExecutionError::Panicked;
        assert!(matches!(error.into(), AccessListError::Execution(ExecutionError::Panicked)));
    }
}

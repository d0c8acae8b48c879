//! What calls and reads see: the state after a sealed block, or that of the open one after one of its frames.

use alloy_primitives::{Address, B256, Bytes, U256};
use millrace_proto::{AccountInfo, BlockSelector, ExecutorError, Header, OpenPoint, StateDiff};

use super::{
    handle::Inner,
    open::{OpenBlocks, OpenView},
};
use crate::{
    chain::{Chain, SealedState, apart},
    evm::{ExecutionError, StateReadError, StateReader},
};

/// A block that can be read.
#[derive(Debug)]
pub(super) enum At {
    Sealed(BlockSelector),
    Open(OpenView),
}

/// Its state.
#[derive(Debug)]
pub(super) enum ReadState {
    Sealed(Box<SealedState>),
    Open(OpenView),
}

impl Inner {
    /// Finds the block that is named. Of the open block nobody is shown less than the head has: it is the head once it is sealed.
    ///
    /// # Errors
    /// [`ExecutorError::BuildDiscarded`] if a block is not open as it is named.
    pub(super) fn at(&self, at: BlockSelector) -> Result<At, ExecutorError> {
        match at {
            BlockSelector::Open(point) => find(&self.chain, &self.open, &point),
            at => Ok(At::Sealed(at)),
        }
    }

    /// The state after the block that is named.
    ///
    /// # Errors
    /// Also if it is not kept.
    pub(super) fn state(&self, at: BlockSelector) -> Result<ReadState, ExecutorError> {
        Ok(match self.at(at)? {
            At::Sealed(at) => ReadState::Sealed(Box::new(self.chain.state(at)?)),
            At::Open(view) => ReadState::Open(view),
        })
    }
}

fn find(chain: &Chain, open: &OpenBlocks, point: &OpenPoint) -> Result<At, ExecutorError> {
    let is_sealed = || chain.head().number >= point.number;
    if !is_sealed()
        && let Some(view) = open.view(point)
    {
        return Ok(At::Open(view));
    }
    // It may have been sealed between the two looks.
    if is_sealed() {
        return Ok(At::Sealed(BlockSelector::Latest));
    }
    Err(ExecutorError::BuildDiscarded)
}

impl ReadState {
    /// The block's header; of an open block, what is known of it.
    pub(super) fn header(&self) -> Header {
        match self {
            Self::Sealed(state) => state.header().inner().clone(),
            Self::Open(view) => view.header(),
        }
    }

    /// Every slot of an account that is not zero; `None` if more than `limit` have to be looked at.
    pub(super) fn slots(
        &self,
        address: Address,
        limit: usize,
    ) -> Result<Option<Vec<(U256, U256)>>, StateReadError> {
        match self {
            Self::Sealed(state) => state.slots(address, limit),
            Self::Open(view) => view.slots(address, limit),
        }
    }

    /// The state root after `diff` on top of this state.
    pub(super) fn root(&self, diff: &StateDiff) -> Result<B256, ExecutorError> {
        match self {
            Self::Sealed(state) => Ok(state.root(diff)?),
            Self::Open(view) => {
                let mut total = view.diff().map_err(read_error)?;
                total.extend(diff.clone()).map_err(apart)?;
                view.before().root(total.net())
            }
        }
    }
}

pub(super) fn read_error(error: StateReadError) -> ExecutorError {
    ExecutionError::from(error).into()
}

impl StateReader for ReadState {
    fn account(&self, address: Address) -> Result<Option<AccountInfo>, StateReadError> {
        match self {
            Self::Sealed(state) => state.account(address),
            Self::Open(view) => view.account(address),
        }
    }

    fn storage(&self, address: Address, slot: U256) -> Result<U256, StateReadError> {
        match self {
            Self::Sealed(state) => state.storage(address, slot),
            Self::Open(view) => view.storage(address, slot),
        }
    }

    fn storage_of(&self, address: Address) -> Result<Vec<(U256, U256)>, StateReadError> {
        match self {
            Self::Sealed(state) => state.storage_of(address),
            Self::Open(view) => view.storage_of(address),
        }
    }

    fn storage_of_at_most(
        &self,
        address: Address,
        limit: usize,
    ) -> Result<Option<Vec<(U256, U256)>>, StateReadError> {
        match self {
            Self::Sealed(state) => state.storage_of_at_most(address, limit),
            Self::Open(view) => view.storage_of_at_most(address, limit),
        }
    }

    fn code(&self, hash: B256) -> Result<Option<Bytes>, StateReadError> {
        match self {
            Self::Sealed(state) => state.code(hash),
            Self::Open(view) => view.code(hash),
        }
    }

    fn block_hash(&self, number: u64) -> Result<Option<B256>, StateReadError> {
        match self {
            Self::Sealed(state) => state.block_hash(number),
            Self::Open(view) => view.block_hash(number),
        }
    }
}

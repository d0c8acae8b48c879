//! Where a block's execution reads the state before it.

use std::{error::Error, sync::Arc};

use alloy_primitives::{Address, B256, Bytes, U256};
use auto_impl::auto_impl;
use millrace_proto::AccountInfo;
use revm::database_interface::DBErrorMarker;

/// A fixed state: that after some block. All answers of one reader belong to the same block.
#[auto_impl(&, Arc)]
pub trait StateReader {
    /// An account, or `None` if it does not exist.
    fn account(&self, address: Address) -> Result<Option<AccountInfo>, StateReadError>;

    /// A storage slot; zero if it is not set.
    fn storage(&self, address: Address, slot: U256) -> Result<U256, StateReadError>;

    /// Every slot of an account that is not zero, in any order. Asked only for accounts that are destroyed or created anew.
    fn storage_of(&self, address: Address) -> Result<Vec<(U256, U256)>, StateReadError>;

    /// The same; `None` if there are more than `limit`.
    fn storage_of_at_most(
        &self,
        address: Address,
        limit: usize,
    ) -> Result<Option<Vec<(U256, U256)>>, StateReadError> {
        let slots = self.storage_of(address)?;
        Ok((slots.len() <= limit).then_some(slots))
    }

    /// Code by its hash, or `None` if no account ever had it.
    fn code(&self, hash: B256) -> Result<Option<Bytes>, StateReadError>;

    /// The hash of a block of this chain, or `None` if it is not known. The EVM asks for the last 256 only.
    fn block_hash(&self, number: u64) -> Result<Option<B256>, StateReadError>;

    /// Whether accounts and slots that were read once are read again at less cost, so that it pays to read what will be needed soon.
    fn keeps_reads(&self) -> bool {
        false
    }
}

/// Why state could not be read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StateReadError {
    /// An account names code that is not there.
    #[error("code {0} is missing from the state")]
    MissingCode(B256),
    /// The state's source failed.
    #[error("state: {0}")]
    Source(#[source] Arc<dyn Error + Send + Sync>),
}

impl StateReadError {
    /// Wraps the error of a state's source.
    pub fn source(error: impl Error + Send + Sync + 'static) -> Self {
        Self::Source(Arc::new(error))
    }
}

impl DBErrorMarker for StateReadError {}

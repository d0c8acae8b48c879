//! How large a batch may be.

use super::error::BatchDecodeError;

/// The most that the transactions of one block may take together, each counted as
/// [`RecoveredTx::batch_bytes`](crate::RecoveredTx::batch_bytes). A block within it fits a batch of its own into the six blobs of one L1 transaction, even if nothing in it
/// compresses.
pub const MAX_BLOCK_TX_BYTES: usize = 700_000;

/// How large a batch may be. The default values are rules of the chain: readers that used others
/// would disagree on which batches are valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimits {
    /// Encoded bytes.
    pub max_encoded: usize,
    /// Bytes of the decompressed columns; and of all inputs and access lists' keys together.
    pub max_decoded: usize,
    /// Blocks.
    pub max_blocks: usize,
    /// Signed transactions.
    pub max_transactions: usize,
    /// Entries of all access lists together.
    pub max_access_list_entries: usize,
    /// EIP-7702 authorizations of all transactions together.
    pub max_authorizations: usize,
    /// Accounts that state diffs change; and slots.
    pub max_changes: usize,
}

impl Default for BatchLimits {
    fn default() -> Self {
        Self {
            max_encoded: 16 << 20,
            max_decoded: 64 << 20,
            max_blocks: 1 << 16,
            max_transactions: 1 << 18,
            max_access_list_entries: 1 << 20,
            max_authorizations: 1 << 18,
            max_changes: 1 << 20,
        }
    }
}

/// A size that was read, if it is within its limit.
pub(super) fn within(
    size: u64,
    limit: usize,
    what: &'static str,
) -> Result<usize, BatchDecodeError> {
    match usize::try_from(size) {
        Ok(size) if size <= limit => Ok(size),
        _ => Err(BatchDecodeError::OverLimit { what, size, limit }),
    }
}

//! Where a new outbox begins: at genesis, or after the last batch that the contract holds.

use std::sync::Arc;

use alloy::primitives::B256;
use millrace_l1::L1Error;
use millrace_proto::{BlockSelector, Executor, ExecutorError};

use crate::{outbox::Cursor, poster::PostTarget};

/// Why the beginning is not known yet. Worth another try.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ResumeError {
    #[error("L1: {0}")]
    L1(#[from] L1Error),
    #[error("executor: {0}")]
    Executor(#[from] ExecutorError),
    #[error("the executor does not have block {0} yet, the last one that L1 holds")]
    Behind(u64),
}

/// The end of what is on L1 already.
pub(crate) async fn find_cursor(
    executor: &Arc<dyn Executor>,
    target: &dyn PostTarget,
) -> Result<Cursor, ResumeError> {
    let count = target.batch_count().await?;
    let (number, deposits_end, deposits_hash) = match count {
        0 => (0, 0, B256::ZERO),
        last => {
            let records = target.records(last, last).await?;
            let header = records
                .first()
                .map(|record| record.header)
                .ok_or_else(|| L1Error::Inconsistent(format!("no record of batch {last}")))?;
            (header.last_block, header.deposits_end, header.deposits_hash)
        }
    };
    let header = executor.header(BlockSelector::Number(number)).await?;
    let block = header.ok_or(ResumeError::Behind(number))?;
    Ok(Cursor {
        batch: count,
        block: alloy::eips::BlockNumHash { number, hash: block.seal() },
        deposits_end,
        deposits_hash,
    })
}

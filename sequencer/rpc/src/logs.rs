//! Log queries, bounded in blocks, results and bytes, and in how many run at once.

use alloy::{
    eips::BlockNumberOrTag,
    rpc::types::{Filter, FilterBlockOption, Log},
};
use millrace_proto::ExecutorError;
use tokio::sync::SemaphorePermit;

use crate::{context::Context, error::CallError};

/// Blocks that are read in one go, at first and at most. A search that finds much reads on in shorter stretches, so that it
/// ends soon after it is over its budget.
const FIRST_STRETCH: u64 = 64;
const LONGEST_STRETCH: u64 = 1024;

/// Bytes of a log in JSON without its topics and data, at most.
const LOG_BYTES: usize = 440;
/// Bytes of a topic in JSON.
const TOPIC_BYTES: usize = 69;

/// Which limit a log query is over, and what to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LogLimit {
    #[error("{0} log searches run already, which is the limit; try again in a moment")]
    Searches(u32),
    #[error(
        "more than {0} logs match, which is the limit; ask for fewer blocks (one block alone may have any number), or name addresses and topics"
    )]
    Results(u32),
    #[error(
        "the logs that match are over the limit of {0} bytes; ask for fewer blocks, or name addresses and topics"
    )]
    Bytes(u32),
    #[error(
        "the block's logs that match are over the limit of {0} bytes; name addresses and topics, or read the receipts of single transactions"
    )]
    BlockBytes(u32),
}

impl Context {
    /// The logs that a filter names.
    pub(crate) async fn logs(&self, filter: Filter) -> Result<Vec<Log>, CallError> {
        self.check_criteria(&filter)?;
        let _running = self.begin_search()?;
        let FilterBlockOption::Range { from_block, to_block } = filter.block_option else {
            return self.search_block(&filter).await;
        };
        let head = self.executor.head().await?.number;
        let from = self.number(from_block.unwrap_or_default(), head).await?;
        let to = self.number(to_block.unwrap_or_default(), head).await?;
        // Who polls from the block after the last one that it saw, without an end, asks for nothing wrong.
        let open_ended = to_block.is_none_or(|to| !to.is_number());
        if from > head && open_ended {
            return Ok(Vec::new());
        }
        if from > to {
            return Err(CallError::InvalidParams(format!(
                "invalid block range: from block {from} is after to block {to}"
            )));
        }
        if to > head {
            return Err(CallError::InvalidParams(format!(
                "block range extends beyond current head block {head}"
            )));
        }
        let limit = self.config.limits.max_log_blocks;
        if to - from >= limit {
            return Err(CallError::Limit(format!(
                "a range of {} blocks is over the limit of {limit}; ask for a shorter one",
                to - from + 1
            )));
        }
        self.search(&filter, from, to).await
    }

    /// Leave to search, for as long as it is held.
    ///
    /// # Errors
    /// When too many searches run.
    pub(crate) fn begin_search(&self) -> Result<SemaphorePermit<'_>, LogLimit> {
        let limit = self.config.limits.max_log_searches;
        self.log_searches.try_acquire().map_err(|_| LogLimit::Searches(limit))
    }

    /// The logs of blocks `from` to `to` that match a filter's addresses and topics. One block may have any number of them, as
    /// a client has no other way to read them; their bytes are bounded always.
    pub(crate) async fn search(
        &self,
        filter: &Filter,
        from: u64,
        to: u64,
    ) -> Result<Vec<Log>, CallError> {
        if from == to {
            return self.search_block(&between(filter, from, to)).await;
        }
        let limits = &self.config.limits;
        let (most, budget) = (limits.max_logs as usize, limits.max_log_bytes as usize);
        let mut found = Vec::new();
        let (mut next, mut stretch, mut bytes) = (from, FIRST_STRETCH, 0);
        while next <= to {
            let last = to.min(next.saturating_add(stretch - 1));
            let left = most.saturating_sub(found.len());
            let logs = match self.executor.logs(&between(filter, next, last), left).await {
                Err(ExecutorError::LimitExceeded { .. }) => {
                    return Err(LogLimit::Results(limits.max_logs).into());
                }
                logs => logs?,
            };
            let more = json_bytes(&logs);
            bytes += more;
            if bytes > budget {
                return Err(LogLimit::Bytes(limits.max_log_bytes).into());
            }
            stretch = match more > budget / 8 {
                true => (stretch / 2).max(1),
                false => (stretch * 2).min(LONGEST_STRETCH),
            };
            found.extend(logs);
            next = last + 1;
        }
        Ok(found)
    }

    /// The logs of the one block that a filter names.
    async fn search_block(&self, filter: &Filter) -> Result<Vec<Log>, CallError> {
        let logs = self.executor.logs(filter, usize::MAX).await?;
        let limit = self.config.limits.max_log_bytes;
        if json_bytes(&logs) > limit as usize {
            return Err(LogLimit::BlockBytes(limit).into());
        }
        Ok(logs)
    }

    /// # Errors
    /// When a filter names more addresses and topics than a query should compare.
    pub(crate) fn check_criteria(&self, filter: &Filter) -> Result<(), CallError> {
        let topics: usize = filter.topics.iter().map(|topic| topic.len()).sum();
        let criteria = filter.address.len() + topics;
        let limit = self.config.limits.max_log_criteria as usize;
        if criteria > limit {
            return Err(CallError::Limit(format!(
                "{criteria} addresses and topics are over the limit of {limit}; ask for less"
            )));
        }
        Ok(())
    }
}

/// A filter's addresses and topics, for blocks `from` to `to`.
fn between(filter: &Filter, from: u64, to: u64) -> Filter {
    Filter {
        block_option: FilterBlockOption::Range {
            from_block: Some(BlockNumberOrTag::Number(from)),
            to_block: Some(BlockNumberOrTag::Number(to)),
        },
        ..filter.clone()
    }
}

/// Bytes that logs take in JSON, a little more than exactly: they are written only once they are within the budget.
pub(crate) fn json_bytes(logs: &[Log]) -> usize {
    let bytes = |log: &Log| {
        LOG_BYTES + TOPIC_BYTES * log.inner.data.topics().len() + 2 * log.inner.data.data.len()
    };
    logs.iter().map(bytes).sum()
}

#[cfg(test)]
mod tests {
    use alloy::primitives::{Address, B256, LogData};

    use super::*;

    #[test]
    fn the_bytes_of_logs_are_estimated_closely_and_never_too_low() {
        for (topics, data) in [(0, 0), (4, 32), (1, 5_000)] {
            let topics = vec![B256::repeat_byte(7); topics];
            let logs = |number| {
                let data = LogData::new_unchecked(topics.clone(), vec![9; data].into());
                let inner = alloy::primitives::Log { address: Address::repeat_byte(1), data };
                vec![
                    Log {
                        inner,
                        block_hash: Some(B256::repeat_byte(2)),
                        block_number: Some(number),
                        block_timestamp: Some(number),
                        transaction_hash: Some(B256::repeat_byte(3)),
                        transaction_index: Some(number),
                        log_index: Some(number),
                        removed: false,
                    };
                    3
                ]
            };
            let exact = |logs: &Vec<Log>| serde_json::to_vec(logs).expect("JSON").len();
            let (longest, usual) = (logs(u64::MAX), logs(70_000));
            assert!(json_bytes(&longest) >= exact(&longest));
            assert!(json_bytes(&usual) <= exact(&usual) + 3 * 110, "{}", exact(&usual));
        }
    }
}

//! Log queries, bounded in blocks and results.

use alloy::{
    eips::BlockNumberOrTag,
    rpc::types::{Filter, FilterBlockOption, Log},
};
use millrace_proto::ExecutorError;

use crate::{context::Context, error::CallError};

impl Context {
    /// The logs that a filter names.
    pub(crate) async fn logs(&self, filter: Filter) -> Result<Vec<Log>, CallError> {
        self.check_criteria(&filter)?;
        let max_logs = self.config.limits.max_logs as usize;
        let FilterBlockOption::Range { from_block, to_block } = filter.block_option else {
            return Ok(self.executor.logs(&filter, max_logs).await?);
        };
        let head = self.executor.head().await?.number;
        let from = self.number(from_block.unwrap_or_default(), head).await?;
        let to = self.number(to_block.unwrap_or_default(), head).await?;
        // Who polls from the block after the last one that it saw, without an end, asks for nothing wrong.
        let open_ended = to_block.is_none_or(|to| !to.is_number());
        if from > head && (open_ended || from <= to) {
            return Ok(Vec::new());
        }
        if from > to {
            return Err(CallError::InvalidParams(format!(
                "invalid block range: from block {from} is after to block {to}"
            )));
        }
        let to = to.min(head);
        let limit = self.config.limits.max_log_blocks;
        if to - from >= limit {
            return Err(CallError::Limit(format!(
                "a range of {} blocks is over the limit of {limit}; ask for a shorter one",
                to - from + 1
            )));
        }
        Ok(self.logs_between(&filter, from, to).await?)
    }

    /// The logs of blocks `from` to `to` that match a filter's addresses and topics.
    pub(crate) async fn logs_between(
        &self,
        filter: &Filter,
        from: u64,
        to: u64,
    ) -> Result<Vec<Log>, ExecutorError> {
        let filter = Filter {
            block_option: FilterBlockOption::Range {
                from_block: Some(BlockNumberOrTag::Number(from)),
                to_block: Some(BlockNumberOrTag::Number(to)),
            },
            ..filter.clone()
        };
        self.executor.logs(&filter, self.config.limits.max_logs as usize).await
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

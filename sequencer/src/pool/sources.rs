//! How much of each client is in the pool.

use std::collections::HashMap;

use millrace_proto::RejectReason;

use crate::{PoolConfig, admission::Source};

#[derive(Debug, Clone, Copy, Default)]
struct Usage {
    transactions: usize,
    bytes: usize,
}

/// What each client has in the pool; those who have nothing there are not here.
#[derive(Debug, Default)]
pub(super) struct Sources(HashMap<Source, Usage>);

impl Sources {
    /// Whether a client may have so many transactions and bytes more: of what it has one of already, only the bytes by which it grows.
    pub(super) fn check(
        &self,
        limits: &PoolConfig,
        source: Option<Source>,
        transactions: usize,
        bytes: usize,
    ) -> Result<(), RejectReason> {
        let Some(usage) = source.and_then(|source| self.0.get(&source)) else { return Ok(()) };
        let over = |has: usize, more: usize, limit| more > 0 && has.saturating_add(more) > limit;
        let too_much = over(usage.transactions, transactions, limits.max_per_source)
            || over(usage.bytes, bytes, limits.max_bytes_per_source);
        let limit = limits.max_per_source as u64;
        if too_much { Err(RejectReason::SourceLimit { limit }) } else { Ok(()) }
    }

    pub(super) fn add(&mut self, source: Option<Source>, bytes: usize) {
        if let Some(source) = source {
            let usage = self.0.entry(source).or_default();
            usage.transactions += 1;
            usage.bytes += bytes;
        }
    }

    pub(super) fn remove(&mut self, source: Option<Source>, bytes: usize) {
        let Some(source) = source else { return };
        if let Some(usage) = self.0.get_mut(&source) {
            usage.transactions = usage.transactions.saturating_sub(1);
            usage.bytes = usage.bytes.saturating_sub(bytes);
            if usage.transactions == 0 {
                self.0.remove(&source);
            }
        }
    }

    #[cfg(test)]
    pub(super) fn totals(&self) -> (usize, usize) {
        self.0.values().fold((0, 0), |(transactions, bytes), usage| {
            (transactions + usage.transactions, bytes + usage.bytes)
        })
    }
}

//! Filters that clients without a WebSocket poll.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use alloy::{
    eips::BlockNumberOrTag,
    primitives::{B256, U64},
    rpc::types::{Filter, FilterBlockOption, FilterChanges, Log},
};
use millrace_proto::BlockSelector;
use parking_lot::Mutex;

use crate::{context::Context, error::CallError, ids::random_id};

/// What a filter reports.
#[derive(Debug)]
enum Kind {
    Logs(Box<Filter>),
    Blocks,
}

#[derive(Debug)]
struct Entry {
    kind: Arc<Kind>,
    /// The first block that was not reported yet.
    next: u64,
    polled: Instant,
}

/// The installed filters.
#[derive(Debug)]
pub(crate) struct FilterRegistry {
    entries: Mutex<HashMap<u64, Entry>>,
    max: usize,
    expiry: Duration,
}

impl FilterRegistry {
    pub(crate) fn new(max: usize, expiry: Duration) -> Self {
        Self { entries: Mutex::default(), max, expiry }
    }

    fn install(&self, kind: Kind, next: u64) -> Result<U64, CallError> {
        let mut entries = self.entries.lock();
        entries.retain(|_, entry| entry.polled.elapsed() < self.expiry);
        if entries.len() >= self.max {
            return Err(CallError::Limit(format!(
                "{} filters are installed, which is the limit; use eth_getLogs or a subscription",
                self.max
            )));
        }
        let id = loop {
            let id = random_id();
            if !entries.contains_key(&id) {
                break id;
            }
        };
        entries.insert(id, Entry { kind: Arc::new(kind), next, polled: Instant::now() });
        Ok(U64::from(id))
    }

    /// What a filter reports, and from which block on.
    fn poll(&self, id: U64) -> Result<(Arc<Kind>, u64), CallError> {
        let mut entries = self.entries.lock();
        let entry = entries
            .get_mut(&id.to())
            .filter(|entry| entry.polled.elapsed() < self.expiry)
            .ok_or_else(|| CallError::Halted("filter not found".to_owned()))?;
        entry.polled = Instant::now();
        Ok((entry.kind.clone(), entry.next))
    }

    /// Moves a filter on, unless another poll did so meanwhile: then `false`, and what was read must not be reported again.
    fn advance(&self, id: U64, from: u64, next: u64) -> bool {
        match self.entries.lock().get_mut(&id.to()) {
            Some(entry) if entry.next == from => {
                entry.next = next;
                true
            }
            _ => false,
        }
    }

    /// Whether there was such a filter.
    pub(crate) fn remove(&self, id: U64) -> bool {
        self.entries.lock().remove(&id.to()).is_some()
    }
}

impl Context {
    pub(crate) async fn install_log_filter(&self, filter: Filter) -> Result<U64, CallError> {
        self.check_criteria(&filter)?;
        if filter.block_option.is_block_hash() {
            return Err(CallError::InvalidParams(
                "a filter follows the chain; ask eth_getLogs for one block".to_owned(),
            ));
        }
        let next = self.executor.head().await?.number + 1;
        self.filters.install(Kind::Logs(Box::new(filter)), next)
    }

    pub(crate) async fn install_block_filter(&self) -> Result<U64, CallError> {
        let next = self.executor.head().await?.number + 1;
        self.filters.install(Kind::Blocks, next)
    }

    /// What is new since the last poll.
    pub(crate) async fn filter_changes(&self, id: U64) -> Result<FilterChanges, CallError> {
        loop {
            let (kind, from) = self.filters.poll(id)?;
            let head = self.executor.head().await?.number;
            let furthest = from.saturating_add(self.config.limits.max_log_blocks - 1);
            let to = head.min(furthest);
            let (changes, next) = match &*kind {
                _ if from > to => return Ok(kind.nothing()),
                Kind::Blocks => (FilterChanges::Hashes(self.hashes(from, to).await?), to + 1),
                Kind::Logs(filter) => {
                    let _running = self.begin_search()?;
                    let (logs, next) = self.new_logs(filter, from, to).await?;
                    (FilterChanges::Logs(logs), next)
                }
            };
            if self.filters.advance(id, from, next) {
                return Ok(changes);
            }
        }
    }

    /// All logs that a filter names, reported before or not.
    pub(crate) async fn filter_logs(&self, id: U64) -> Result<Vec<Log>, CallError> {
        let (kind, _) = self.filters.poll(id)?;
        match &*kind {
            Kind::Logs(filter) => self.logs((**filter).clone()).await,
            Kind::Blocks => Err(CallError::Halted("filter not found".to_owned())),
        }
    }

    async fn hashes(&self, from: u64, to: u64) -> Result<Vec<B256>, CallError> {
        let mut hashes = Vec::new();
        for number in from..=to {
            match self.executor.header(BlockSelector::Number(number)).await? {
                Some(header) => hashes.push(header.seal()),
                None => break,
            }
        }
        Ok(hashes)
    }

    /// Logs from block `from` on, up to `to` or less if there are too many, and the block after.
    async fn new_logs(
        &self,
        filter: &Filter,
        from: u64,
        mut to: u64,
    ) -> Result<(Vec<Log>, u64), CallError> {
        let (lowest, highest) = bounds(&filter.block_option);
        loop {
            let (first, last) = (from.max(lowest), to.min(highest));
            if first > last {
                return Ok((Vec::new(), to + 1));
            }
            match self.search(filter, first, last).await {
                Ok(logs) => return Ok((logs, to + 1)),
                Err(CallError::Logs(_)) if last > first => to = first + (last - first) / 2,
                Err(error) => return Err(error),
            }
        }
    }
}

/// The block numbers that a filter is limited to. A tag as a bound follows the chain, which is no limit to what is new.
fn bounds(block_option: &FilterBlockOption) -> (u64, u64) {
    let FilterBlockOption::Range { from_block, to_block } = block_option else {
        return (0, u64::MAX);
    };
    let number = |tag: &Option<BlockNumberOrTag>| tag.and_then(|tag| tag.as_number());
    (number(from_block).unwrap_or(0), number(to_block).unwrap_or(u64::MAX))
}

impl Kind {
    fn nothing(&self) -> FilterChanges {
        match self {
            Self::Logs(_) => FilterChanges::Logs(Vec::new()),
            Self::Blocks => FilterChanges::Hashes(Vec::new()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_bounded_and_expire() {
        let registry = FilterRegistry::new(1, Duration::from_secs(60));
        let id = registry.install(Kind::Blocks, 1).expect("the first fits");
        assert!(registry.install(Kind::Blocks, 1).is_err());
        assert!(registry.poll(id).is_ok());
        assert!(registry.remove(id));
        assert!(registry.poll(id).is_err());

        let expired = FilterRegistry::new(1, Duration::ZERO);
        let id = expired.install(Kind::Blocks, 1).expect("the first fits");
        assert!(expired.poll(id).is_err());
        assert!(expired.install(Kind::Blocks, 1).is_ok(), "the expired one made room");
    }

    #[test]
    fn two_polls_at_once_do_not_report_the_same_block() {
        let registry = FilterRegistry::new(1, Duration::from_secs(60));
        let id = registry.install(Kind::Blocks, 5).expect("the first fits");
        assert!(registry.advance(id, 5, 8));
        assert!(!registry.advance(id, 5, 8));
        assert_eq!(registry.poll(id).expect("installed").1, 8);
    }
}

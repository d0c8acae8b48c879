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
use millrace_proto::{BlockSelector, ExecutedBlock};
use parking_lot::Mutex;

use crate::{context::Context, error::CallError, ids::random_id, json};

/// What a filter reports.
#[derive(Debug)]
enum Kind {
    Logs(Box<Filter>),
    Blocks,
}

#[derive(Debug, Default)]
struct Entries {
    by_id: HashMap<u64, Entry>,
    /// Blocks that were taken back so far.
    unwound: u64,
}

/// Where a filter was when it was polled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    /// The first block that it has not reported.
    next: u64,
    /// Blocks that had been taken back.
    unwound: u64,
}

#[derive(Debug)]
struct Entry {
    kind: Arc<Kind>,
    /// The first block that was not reported yet.
    next: u64,
    /// Logs that were reported, and whose blocks were taken back since.
    removed: Vec<Log>,
    polled: Instant,
}

/// The installed filters.
#[derive(Debug)]
pub(crate) struct FilterRegistry {
    entries: Mutex<Entries>,
    max: usize,
    expiry: Duration,
}

impl FilterRegistry {
    pub(crate) fn new(max: usize, expiry: Duration) -> Self {
        Self { entries: Mutex::default(), max, expiry }
    }

    fn install(&self, kind: Kind, next: u64) -> Result<U64, CallError> {
        let mut entries = self.entries.lock();
        let entries = &mut entries.by_id;
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
        entries.insert(
            id,
            Entry { kind: Arc::new(kind), next, removed: Vec::new(), polled: Instant::now() },
        );
        Ok(U64::from(id))
    }

    /// What a filter reports, and where it is.
    fn poll(&self, id: U64) -> Result<(Arc<Kind>, Place), CallError> {
        let mut entries = self.entries.lock();
        let unwound = entries.unwound;
        let entry = entries
            .by_id
            .get_mut(&id.to())
            .filter(|entry| entry.polled.elapsed() < self.expiry)
            .ok_or_else(|| CallError::Halted("filter not found".to_owned()))?;
        entry.polled = Instant::now();
        Ok((entry.kind.clone(), Place { next: entry.next, unwound }))
    }

    /// Moves a filter on, unless another poll or a reorg moved it meanwhile: then `None`, and what was read must not be reported. Gives the logs that
    /// have been removed since the last poll.
    fn advance(&self, id: U64, from: Place, next: u64) -> Option<Vec<Log>> {
        let mut entries = self.entries.lock();
        let unwound = entries.unwound;
        let entry = entries.by_id.get_mut(&id.to());
        let entry = entry.filter(|entry| from == Place { next: entry.next, unwound })?;
        entry.next = next;
        Some(std::mem::take(&mut entry.removed))
    }

    /// The newest block was taken back: filters that have reported its logs report them as removed.
    pub(crate) fn unwind(&self, block: &ExecutedBlock) {
        let number = block.number();
        let mut entries = self.entries.lock();
        entries.unwound += 1;
        let entries = &mut entries.by_id;
        entries.retain(|_, entry| entry.polled.elapsed() < self.expiry);
        for entry in entries.values_mut().filter(|entry| entry.next > number) {
            entry.next = number;
            if let Kind::Logs(filter) = &*entry.kind {
                let (lowest, highest) = bounds(&filter.block_option);
                let reported = json::logs(block)
                    .filter(|log| filter.matches(&log.inner))
                    .filter(|_| (lowest..=highest).contains(&number));
                entry.removed.extend(reported.map(|log| Log { removed: true, ..log }));
            }
        }
    }

    /// Blocks from this one on were taken back that nobody remembers.
    pub(crate) fn go_back_to(&self, number: u64) {
        let mut entries = self.entries.lock();
        entries.unwound += 1;
        for entry in entries.by_id.values_mut() {
            entry.next = entry.next.min(number);
        }
    }

    /// Whether there was such a filter.
    pub(crate) fn remove(&self, id: U64) -> bool {
        self.entries.lock().by_id.remove(&id.to()).is_some()
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
            let (kind, place) = self.filters.poll(id)?;
            let head = self.executor.head().await?.number;
            // Blocks may have been taken back that the feed has not seen.
            let from = place.next.min(head + 1);
            let furthest = from.saturating_add(self.config.limits.max_log_blocks - 1);
            let to = head.min(furthest);
            let (changes, next) = match &*kind {
                _ if from > to => (kind.nothing(), from),
                Kind::Blocks => (FilterChanges::Hashes(self.hashes(from, to).await?), to + 1),
                Kind::Logs(filter) => {
                    let _running = self.begin_search()?;
                    let (logs, next) = self.new_logs(filter, from, to).await?;
                    (FilterChanges::Logs(logs), next)
                }
            };
            let Some(removed) = self.filters.advance(id, place, next) else { continue };
            return Ok(match changes {
                FilterChanges::Logs(logs) => FilterChanges::Logs([removed, logs].concat()),
                changes => changes,
            });
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
        let place = Place { next: 5, unwound: 0 };
        assert!(registry.advance(id, place, 8).is_some());
        assert!(registry.advance(id, place, 8).is_none());
        let (_, place) = registry.poll(id).expect("installed");
        assert_eq!(place.next, 8);
        // Nor one that is taken back meanwhile.
        registry.go_back_to(9);
        assert!(registry.advance(id, place, 9).is_none());
    }
}

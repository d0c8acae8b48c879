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
use tokio::sync::watch;

use crate::{
    context::Context, error::CallError, ids::random_id, json, logs::json_bytes, pending::Cursor,
};

/// How long a poll waits for the feed to come up to the head.
const CATCH_UP: Duration = Duration::from_secs(1);

/// What a filter reports, where it is, and which blocks it has reported that were taken back.
type Polled = (Arc<Kind>, Place, Vec<Arc<ExecutedBlock>>);

/// What a filter reports.
#[derive(Debug)]
enum Kind {
    Logs(Box<Filter>),
    Blocks,
    Pending(Cursor),
}

#[derive(Debug, Default)]
struct Entries {
    by_id: HashMap<u64, Entry>,
    /// How often blocks were taken back.
    unwound: u64,
    /// The first block that the feed has not seen: it alone learns what is taken back, so nobody is told of more.
    unseen: u64,
}

/// Where a filter was when it was polled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    /// The first block that it has not reported.
    next: u64,
    /// How often blocks had been taken back.
    unwound: u64,
    /// The first block that is not to be told of yet.
    unseen: u64,
}

#[derive(Debug)]
struct Entry {
    kind: Arc<Kind>,
    /// The first block that was not reported yet.
    next: u64,
    /// Blocks that were reported, and taken back since, in that order.
    removed: Vec<Arc<ExecutedBlock>>,
    polled: Instant,
}

/// The installed filters.
#[derive(Debug)]
pub(crate) struct FilterRegistry {
    entries: Mutex<Entries>,
    /// Follows [`Entries::unseen`].
    unseen: watch::Sender<u64>,
    max: usize,
    expiry: Duration,
}

impl FilterRegistry {
    /// `unseen` is the first block that the feed will see.
    pub(crate) fn new(max: usize, expiry: Duration, unseen: u64) -> Self {
        let entries = Mutex::new(Entries { unseen, ..Entries::default() });
        Self { entries, unseen: watch::Sender::new(unseen), max, expiry }
    }

    /// The feed has seen the blocks before this one.
    pub(crate) fn seen(&self, unseen: u64) {
        self.entries.lock().unseen = unseen;
        self.unseen.send_replace(unseen);
    }

    /// Waits until the feed has seen a block, but not for long.
    async fn caught_up(&self, block: u64) {
        let mut unseen = self.unseen.subscribe();
        let seen = unseen.wait_for(|unseen| *unseen > block);
        let _ = tokio::time::timeout(CATCH_UP, seen).await;
    }

    fn install(&self, kind: Kind) -> Result<U64, CallError> {
        let mut entries = self.entries.lock();
        let next = entries.unseen;
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

    /// A filter for the transactions that come into the open block.
    pub(crate) fn install_pending(&self, cursor: Cursor) -> Result<U64, CallError> {
        self.install(Kind::Pending(cursor))
    }

    /// Whether there are such filters.
    pub(crate) fn has_pending(&self) -> bool {
        let mut entries = self.entries.lock();
        entries.by_id.retain(|_, entry| entry.polled.elapsed() < self.expiry);
        entries.by_id.values().any(|entry| matches!(&*entry.kind, Kind::Pending(_)))
    }

    /// What a filter reports, and where it is.
    fn poll(&self, id: U64) -> Result<Polled, CallError> {
        let mut entries = self.entries.lock();
        let (unwound, unseen) = (entries.unwound, entries.unseen);
        let entry = entries
            .by_id
            .get_mut(&id.to())
            .filter(|entry| entry.polled.elapsed() < self.expiry)
            .ok_or_else(|| CallError::Halted("filter not found".to_owned()))?;
        entry.polled = Instant::now();
        let place = Place { next: entry.next, unwound, unseen };
        Ok((entry.kind.clone(), place, entry.removed.clone()))
    }

    /// Moves a filter on to a block, past so many of those that were removed. `false` if another poll or a reorg moved it meanwhile: then what was read
    /// must not be reported.
    fn advance(&self, id: U64, from: Place, next: u64, removed: usize) -> bool {
        let mut entries = self.entries.lock();
        let unwound = entries.unwound;
        let entry = entries.by_id.get_mut(&id.to());
        let stands = |entry: &&mut Entry| (entry.next, unwound) == (from.next, from.unwound);
        let Some(entry) = entry.filter(stands) else { return false };
        entry.next = next;
        entry.removed.drain(..removed.min(entry.removed.len()));
        true
    }

    /// Blocks were taken back, the newest first: filters that have reported their logs report them as removed, and go on at `next`.
    pub(crate) fn unwind(&self, removed: &[Arc<ExecutedBlock>], next: u64) {
        let mut entries = self.entries.lock();
        entries.unwound += 1;
        entries.unseen = entries.unseen.min(next);
        let entries = &mut entries.by_id;
        entries.retain(|_, entry| entry.polled.elapsed() < self.expiry);
        for entry in entries.values_mut() {
            if matches!(&*entry.kind, Kind::Logs(_)) {
                let reported = removed.iter().filter(|block| block.number() < entry.next);
                entry.removed.extend(reported.cloned());
            }
            entry.next = entry.next.min(next);
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
        self.filters.install(Kind::Logs(Box::new(filter)))
    }

    pub(crate) async fn install_block_filter(&self) -> Result<U64, CallError> {
        self.filters.install(Kind::Blocks)
    }

    /// What is new since the last poll.
    pub(crate) async fn filter_changes(&self, id: U64) -> Result<FilterChanges, CallError> {
        let (kind, ..) = self.filters.poll(id)?;
        if let Kind::Pending(cursor) = &*kind {
            return self.pending_changes(id, cursor);
        }
        loop {
            // Whoever has seen a receipt finds its logs.
            self.filters.caught_up(self.executor.head().await?.number).await;
            let (kind, place, removed) = self.filters.poll(id)?;
            let (gone, told) = self.removed_logs(&kind, &removed);
            let from = place.next;
            let furthest = from.saturating_add(self.config.limits.max_log_blocks - 1);
            // What was removed comes first.
            let seen = if told < removed.len() { 0 } else { place.unseen.saturating_sub(1) };
            let to = seen.min(furthest);
            let (changes, next) = match &*kind {
                Kind::Pending(cursor) => (self.pending_changes(id, cursor)?, from),
                _ if from > to => (kind.nothing(), from),
                Kind::Blocks => (FilterChanges::Hashes(self.hashes(from, to).await?), to + 1),
                Kind::Logs(filter) => {
                    let _running = self.begin_search()?;
                    let (logs, next) = self.new_logs(filter, from, to).await?;
                    (FilterChanges::Logs(logs), next)
                }
            };
            if !self.filters.advance(id, place, next, told) {
                continue;
            }
            return Ok(match changes {
                FilterChanges::Logs(logs) => FilterChanges::Logs([gone, logs].concat()),
                changes => changes,
            });
        }
    }

    /// The logs of blocks that were taken back, of as many blocks as one answer takes, and how many blocks that were.
    fn removed_logs(&self, kind: &Kind, removed: &[Arc<ExecutedBlock>]) -> (Vec<Log>, usize) {
        let Kind::Logs(filter) = kind else { return (Vec::new(), removed.len()) };
        let (lowest, highest) = bounds(&filter.block_option);
        let limits = &self.config.limits;
        let (most, budget) = (limits.max_logs as usize, limits.max_log_bytes as usize);
        let (mut logs, mut bytes) = (Vec::new(), 0);
        for (told, block) in removed.iter().enumerate() {
            if !(lowest..=highest).contains(&block.number()) {
                continue;
            }
            let matching = json::logs(block).filter(|log| filter.matches(&log.inner));
            let of_block: Vec<Log> = matching.map(|log| Log { removed: true, ..log }).collect();
            bytes += json_bytes(&of_block);
            // One block may have any number of them.
            if told > 0 && (logs.len() + of_block.len() > most || bytes > budget) {
                return (logs, told);
            }
            logs.extend(of_block);
        }
        (logs, removed.len())
    }

    /// All logs that a filter names, reported before or not.
    pub(crate) async fn filter_logs(&self, id: U64) -> Result<Vec<Log>, CallError> {
        let (kind, ..) = self.filters.poll(id)?;
        match &*kind {
            Kind::Logs(filter) => self.logs((**filter).clone()).await,
            Kind::Blocks | Kind::Pending(_) => {
                Err(CallError::Halted("filter not found".to_owned()))
            }
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
            Self::Blocks | Self::Pending(_) => FilterChanges::Hashes(Vec::new()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_bounded_and_expire() {
        let registry = FilterRegistry::new(1, Duration::from_secs(60), 5);
        let id = registry.install(Kind::Blocks).expect("the first fits");
        assert!(registry.install(Kind::Blocks).is_err());
        assert!(registry.poll(id).is_ok());
        assert!(registry.remove(id));
        assert!(registry.poll(id).is_err());

        let expired = FilterRegistry::new(1, Duration::ZERO, 5);
        let id = expired.install(Kind::Blocks).expect("the first fits");
        assert!(expired.poll(id).is_err());
        assert!(expired.install(Kind::Blocks).is_ok(), "the expired one made room");
    }

    #[test]
    fn two_polls_at_once_do_not_report_the_same_block() {
        let registry = FilterRegistry::new(1, Duration::from_secs(60), 5);
        let id = registry.install(Kind::Blocks).expect("the first fits");
        let (_, place, _) = registry.poll(id).expect("installed");
        assert_eq!((place.next, place.unseen), (5, 5));
        registry.seen(8);
        assert!(registry.advance(id, place, 8, 0));
        assert!(!registry.advance(id, place, 8, 0));
        let (_, place, _) = registry.poll(id).expect("installed");
        assert_eq!((place.next, place.unseen), (8, 8));
        // Nor one that is taken back meanwhile.
        registry.unwind(&[], 6);
        assert!(!registry.advance(id, place, 9, 0));
        let (_, place, _) = registry.poll(id).expect("installed");
        assert_eq!((place.next, place.unseen), (6, 6));
    }
}

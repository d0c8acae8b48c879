//! The queue of deposits and forced transactions, as far as L1 has confirmed it.

use std::{collections::VecDeque, fmt, time::Instant};

use alloy::{
    eips::BlockNumHash,
    primitives::{Address, B256},
};
use async_trait::async_trait;
use millrace_proto::{L1Inbox, L1InboxError, QueueEntry, QueueMark, Standing};
use tokio::sync::Mutex;
use tracing::debug;

use crate::{L1Block, L1Error, L1Follower, RollupContract, RollupEvent, rollup::EventSet};

/// Deposits kept in memory, at most; reading stops until the consumer catches up.
const CAPACITY: usize = 8_192;

/// A place to restart from is noted once in so many deposits.
const SEEK_EVERY: u64 = 1_024;

/// Confirmed deposits, read from the contract's events and checked against its accumulator.
///
/// A fresh start reads from the contract's deployment on; later calls continue where the last one ended. Safe to call
/// concurrently: calls take turns.
pub struct DepositInbox {
    contract: RollupContract,
    confirmations: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    follower: Option<L1Follower>,
    /// Accumulator after the last deposit read.
    accumulator: B256,
    /// Accumulator before the oldest deposit of the window.
    base: B256,
    /// Index of the next deposit to read.
    next: u64,
    /// The deposits before `next`, without gaps, oldest first.
    window: VecDeque<Entry>,
    /// Where reading can start again: ascending by index.
    seeks: Vec<Seek>,
    /// The confirmed block up to which everything is read, unless there is more.
    read: Option<L1Block>,
    polled: Option<Instant>,
}

#[derive(Debug, Clone)]
struct Entry {
    entry: QueueEntry,
    accumulator: B256,
    l1: BlockNumHash,
}

/// All deposits before `index` are in the L1 blocks up to `after`, and `accumulator` is over them.
#[derive(Debug, Clone, Copy)]
struct Seek {
    index: u64,
    accumulator: B256,
    after: BlockNumHash,
}

impl fmt::Debug for DepositInbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DepositInbox")
            .field("contract", &self.contract)
            .field("confirmations", &self.confirmations)
            .finish_non_exhaustive()
    }
}

/// Why deposits cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum DepositError {
    /// L1 did not answer.
    #[error(transparent)]
    L1(#[from] L1Error),
    /// The node's events do not add up to the contract's accumulator: it omits or makes up logs.
    #[error(
        "deposit {index}: the events of the L1 node do not add up to the contract's accumulator"
    )]
    Chain {
        /// The first deposit that does not fit.
        index: u64,
    },
    /// A reorg took entries that the chain has taken.
    #[error(
        "L1 does not have the first {end} entries of the queue any more as the chain took them"
    )]
    Vanished {
        /// Entries that the chain has taken.
        end: u64,
        /// The time of L1's last confirmed block, if that has fewer; `None` if it has others.
        missing_at: Option<u64>,
    },
}

impl DepositInbox {
    /// An inbox that hands out a deposit once `confirmations` L1 blocks have followed its own. Asks nothing yet.
    pub fn new(contract: RollupContract, confirmations: u64) -> Self {
        Self { contract, confirmations, state: Mutex::new(State::default()) }
    }

    /// Confirmed entries behind a mark; see [`L1Inbox::entries`].
    pub async fn confirmed(
        &self,
        after: QueueMark,
        max: usize,
    ) -> Result<Vec<QueueEntry>, DepositError> {
        let read = self.read(after, max).await;
        if matches!(read, Err(DepositError::Chain { .. })) {
            self.contract.client().distrust().await;
        }
        read
    }

    async fn read(&self, after: QueueMark, max: usize) -> Result<Vec<QueueEntry>, DepositError> {
        let from = after.end;
        let mut state = self.state.lock().await;
        if from < state.oldest() {
            state.seek(from);
        }
        state.forget_before(from);
        while !state.has(from, max) {
            if !self.read_on(&mut state, from).await? {
                break;
            }
        }
        match state.accumulator_at(from) {
            Some(accumulator) if accumulator == after.hash => return Ok(state.hand_out(from, max)),
            // Not so far yet.
            None if state.read.is_none() => return Ok(Vec::new()),
            _ => {}
        }
        match self.look(after).await? {
            Standing::Whole => {
                // The contract has them: it is the node that leaves out their events.
                state.doubt();
                Err(DepositError::Chain { index: from.saturating_sub(1) })
            }
            Standing::Replaced => Err(DepositError::Vanished { end: from, missing_at: None }),
            Standing::Fewer(at) => Err(DepositError::Vanished { end: from, missing_at: Some(at) }),
        }
    }

    /// What the contract has, confirmed, of the entries before a mark; see [`L1Inbox::standing`].
    pub async fn look(&self, mark: QueueMark) -> Result<Standing, L1Error> {
        let client = self.contract.client();
        let latest = client.head().await?;
        let Some(number) = latest.number.checked_sub(self.confirmations) else {
            return Ok(if mark.end == 0 { Standing::Whole } else { Standing::Fewer(0) });
        };
        let block = match self.confirmations {
            0 => latest,
            _ => {
                let block = client.block(number).await?;
                block.ok_or_else(|| L1Error::BlockMissing(number.to_string()))?
            }
        };
        // By its hash: whatever the node shows a moment later.
        let accumulator = self.contract.accumulator_at(mark.end, block.hash).await?;
        Ok(if accumulator == mark.hash {
            Standing::Whole
        } else if accumulator.is_zero() {
            Standing::Fewer(block.timestamp)
        } else {
            Standing::Replaced
        })
    }

    /// Reads one stretch of L1. `false` if there is nothing more to read now.
    async fn read_on(&self, state: &mut State, from: u64) -> Result<bool, DepositError> {
        let poll = self.contract.client().options().poll_interval;
        if state.window.len() >= CAPACITY || state.polled.is_some_and(|at| at.elapsed() < poll) {
            return Ok(false);
        }
        if state.follower.is_none() {
            state.restart();
            let after = state.seeks.last().map(|seek| seek.after);
            let follower = L1Follower::with(
                self.contract.clone(),
                after,
                EventSet::Deposits,
                self.confirmations,
            )
            .await?;
            state.follower = Some(follower);
        }
        let Some(follower) = state.follower.as_mut() else { return Ok(false) };
        let Some(update) = follower.poll().await? else {
            state.polled = Some(Instant::now());
            return Ok(false);
        };
        state.read = None;
        let held = update.state.map(|held| (held.counters.deposits, held.accumulator));
        // Nothing is awaited from here on, so a dropped call leaves nothing half applied.
        if let Some(block) = update.reverted_to {
            debug!(target: "millrace::l1", block = block.number, "deposits unwound");
            if !state.unwind(block) {
                state.restart();
                return Ok(true);
            }
        }
        for event in update.events {
            if let RollupEvent::Queued { entry, accumulator, l1 } = event
                && let Err(error) = state.append(entry, accumulator, l1.block)
            {
                state.doubt();
                return Err(error);
            }
        }
        if held.is_some_and(|held| held != (state.next, state.accumulator)) {
            let index = state.next;
            state.doubt();
            return Err(DepositError::Chain { index });
        }
        state.forget_before(from);
        state.note(update.head.id());
        if update.head.number + self.confirmations >= update.latest.number {
            state.read = Some(update.head);
            state.polled = Some(Instant::now());
            return Ok(false);
        }
        Ok(true)
    }
}

impl State {
    fn oldest(&self) -> u64 {
        self.next - self.window.len() as u64
    }

    fn has(&self, from: u64, max: usize) -> bool {
        self.next.saturating_sub(from) >= max as u64
    }

    fn append(
        &mut self,
        entry: QueueEntry,
        accumulator: B256,
        l1: BlockNumHash,
    ) -> Result<(), DepositError> {
        if entry.index() != self.next || entry.accumulate(self.accumulator) != accumulator {
            return Err(DepositError::Chain { index: self.next });
        }
        self.accumulator = accumulator;
        self.next += 1;
        self.window.push_back(Entry { entry, accumulator, l1 });
        Ok(())
    }

    /// Notes that everything up to an L1 block is read.
    fn note(&mut self, after: BlockNumHash) {
        let due = self.seeks.last().is_none_or(|last| self.next >= last.index + SEEK_EVERY);
        if due {
            self.seeks.push(Seek { index: self.next, accumulator: self.accumulator, after });
        }
    }

    fn forget_before(&mut self, from: u64) {
        while let Some(entry) = self.window.pop_front_if(|entry| entry.entry.index() < from) {
            self.base = entry.accumulator;
        }
    }

    /// Takes back what came from blocks after this one. `false` if deposits before the window may have changed as well.
    fn unwind(&mut self, block: BlockNumHash) -> bool {
        self.seeks.retain(|seek| seek.after.number <= block.number);
        while self.window.back().is_some_and(|entry| entry.l1.number > block.number) {
            self.window.pop_back();
            self.next -= 1;
        }
        self.window.back().is_some_and(|last| {
            self.accumulator = last.accumulator;
            true
        })
    }

    /// Goes back to the newest noted place at or before a deposit.
    fn seek(&mut self, from: u64) {
        self.seeks.retain(|seek| seek.index <= from);
        self.restart();
    }

    /// What the node has left out may lie before the newest noted place: each failure goes back one more.
    fn doubt(&mut self) {
        self.seeks.pop();
        self.restart();
    }

    /// Goes back to the newest noted place.
    fn restart(&mut self) {
        let (next, accumulator) =
            self.seeks.last().map_or((0, B256::ZERO), |s| (s.index, s.accumulator));
        self.follower = None;
        self.read = None;
        self.polled = None;
        self.window.clear();
        self.next = next;
        self.accumulator = accumulator;
        self.base = accumulator;
    }

    /// The accumulator over the first `count` deposits, if it is known.
    fn accumulator_at(&self, count: u64) -> Option<B256> {
        if count == self.next {
            return Some(self.accumulator);
        }
        if count == self.oldest() {
            return Some(self.base);
        }
        let offset = count.checked_sub(self.oldest())?.checked_sub(1)?;
        self.window.get(usize::try_from(offset).ok()?).map(|entry| entry.accumulator)
    }

    fn hand_out(&self, from: u64, max: usize) -> Vec<QueueEntry> {
        let Some(skip) =
            from.checked_sub(self.oldest()).and_then(|skip| usize::try_from(skip).ok())
        else {
            return Vec::new();
        };
        self.window.iter().skip(skip).take(max).map(|entry| entry.entry.clone()).collect()
    }
}

#[async_trait]
impl L1Inbox for DepositInbox {
    fn rollup(&self) -> Address {
        self.contract.address()
    }

    async fn entries(&self, after: QueueMark, max: usize) -> Result<Vec<QueueEntry>, L1InboxError> {
        self.confirmed(after, max).await.map_err(|error| match error {
            DepositError::Vanished { end, missing_at } => {
                L1InboxError::Vanished { end, missing_at }
            }
            error => L1InboxError::Failed(Box::new(error)),
        })
    }

    async fn standing(&self, mark: QueueMark) -> Result<Standing, L1InboxError> {
        self.look(mark).await.map_err(|error| L1InboxError::Failed(Box::new(error)))
    }
}

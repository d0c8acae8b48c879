//! An L1 queue that a test fills.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use alloy::primitives::{Address, B256, Bytes, U256};
use async_trait::async_trait;
use millrace_proto::{
    BlockSelector, Deposit, Executor, ForcedTx, L1Inbox, L1InboxError, QueueEntry, QueueMark,
    Standing,
};
use parking_lot::Mutex;

use crate::support::soon;

fn deposit(index: u64) -> Deposit {
    Deposit {
        index,
        from: Address::repeat_byte(0xde),
        to: Address::repeat_byte(0xdd),
        value: U256::from(10 + index),
        gas_limit: 100_000,
        data: Bytes::new(),
    }
}

/// A queue that a test fills, and an L1 that can go away.
#[derive(Debug, Default)]
pub(crate) struct TestInbox {
    pub(crate) entries: Mutex<Vec<QueueEntry>>,
    /// L1's time, when it lacks what was taken.
    pub(crate) time: AtomicU64,
    /// How often it was read.
    pub(crate) polls: AtomicU64,
    /// Entries that a reorg has brought so far, all different.
    values: AtomicU64,
    pub(crate) down: AtomicBool,
}

#[async_trait]
impl L1Inbox for TestInbox {
    fn rollup(&self) -> Address {
        Address::repeat_byte(0xaa)
    }

    async fn entries(&self, after: QueueMark, max: usize) -> Result<Vec<QueueEntry>, L1InboxError> {
        self.polls.fetch_add(1, Ordering::Relaxed);
        if self.down.load(Ordering::Relaxed) {
            return Err(L1InboxError::Failed("L1 is down".into()));
        }
        let end = after.end;
        match self.standing(after).await? {
            Standing::Whole => {}
            Standing::Replaced => {
                return Err(L1InboxError::Vanished { end, missing_at: None });
            }
            Standing::Fewer(at) => {
                return Err(L1InboxError::Vanished { end, missing_at: Some(at) });
            }
        }
        let entries = self.entries.lock();
        Ok(entries.iter().filter(|entry| entry.index() >= after.end).take(max).cloned().collect())
    }

    async fn standing(&self, mark: QueueMark) -> Result<Standing, L1InboxError> {
        let entries = self.entries.lock();
        let first = entries.iter().take_while(|entry| entry.index() < mark.end);
        let (count, hash) =
            first.fold((0, B256::ZERO), |(count, hash), entry| (count + 1, entry.accumulate(hash)));
        Ok(if count < mark.end {
            Standing::Fewer(self.time.load(Ordering::Relaxed))
        } else if hash == mark.hash {
            Standing::Whole
        } else {
            Standing::Replaced
        })
    }
}

impl TestInbox {
    pub(crate) fn deposit(&self, count: u64) {
        let mut entries = self.entries.lock();
        for _ in 0..count {
            let index = entries.len() as u64;
            entries.push(QueueEntry::Deposit(deposit(index)));
        }
    }

    /// A reorg: L1 has only the first `count` entries, and `other` ones in the place of the rest.
    pub(crate) fn reorg(&self, count: usize, other: u64) {
        let mut entries = self.entries.lock();
        entries.truncate(count);
        for _ in 0..other {
            let index = entries.len() as u64;
            self.values.fetch_add(1, Ordering::Relaxed);
            let value = U256::from(1_000_000 + self.values.load(Ordering::Relaxed));
            entries.push(QueueEntry::Deposit(Deposit { value, ..deposit(index) }));
        }
    }

    /// What the deposits that L1 has now mint together.
    pub(crate) fn total(&self) -> U256 {
        let entries = self.entries.lock();
        let values = entries.iter().filter_map(|entry| match entry {
            QueueEntry::Deposit(deposit) => Some(deposit.value),
            QueueEntry::Forced(_) => None,
        });
        values.fold(U256::ZERO, |sum, value| sum + value)
    }

    pub(crate) fn force(&self, raw: Bytes) {
        let mut entries = self.entries.lock();
        let index = entries.len() as u64;
        entries.push(QueueEntry::Forced(ForcedTx { index, raw }));
    }
}

/// What the deposits have minted.
pub(crate) async fn minted(executor: &impl Executor) -> U256 {
    let to = [Address::repeat_byte(0xdd)];
    let accounts = executor.accounts(&to, BlockSelector::Latest).await.expect("accounts");
    accounts[0].unwrap_or_default().balance
}

/// Waits until the chain has minted exactly what L1's queue holds.
pub(crate) async fn mints_what_l1_has(executor: &impl Executor, inbox: &TestInbox) {
    let minted = async {
        while minted(executor).await != inbox.total() {
            tokio::task::yield_now().await;
        }
    };
    soon(minted).await;
}

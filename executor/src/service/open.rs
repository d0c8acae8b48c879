//! Open blocks that can be read: what they have changed, frame by frame, over the state before them.
//!
//! Readers name a frame, and see the block as it was after that one, whatever was executed since: which frames may be shown is the sequencer's to say. Each change is kept
//! once, beside the number of its frame, so that a block takes as much memory as its frames' diffs do, and a frame is added in the time that its own diff takes.

use std::{fmt, sync::Arc};

use alloy::consensus::Sealable;
use alloy_primitives::{
    Address, B256, Bytes, U256,
    map::{AddressMap, B256Map, HashMap},
};
use millrace_proto::{
    AccountDiff, AccountInfo, ExecutedBlock, Header, OpenPoint, RecoveredTx, SharedReceipt,
    SlotDiff, StateDiff,
};
use parking_lot::RwLock;
use smallvec::SmallVec;

use crate::{
    chain::ParentState,
    evm::{StateReadError, StateReader},
};

/// The blocks that can be read: the open one, and a closed one before it that is not stored yet.
#[derive(Debug, Default)]
pub(super) struct OpenBlocks(RwLock<Vec<Arc<OpenState>>>);

/// A block that is open, or was lately, and all that its frames changed.
pub(super) struct OpenState {
    build: u64,
    /// Without what only a whole block has.
    header: Header,
    before: ParentState,
    frames: RwLock<Frames>,
}

/// Values, each with the number of the frame that set it, in the order of the frames.
type Versions<T> = SmallVec<[(u32, T); 1]>;

#[derive(Default)]
struct Frames {
    accounts: AddressMap<Account>,
    code: B256Map<Bytes>,
    transactions: Vec<Arc<RecoveredTx>>,
    receipts: Vec<SharedReceipt>,
    /// How many transactions the block has after each of them.
    ends: Vec<usize>,
}

#[derive(Default)]
struct Account {
    infos: Versions<Option<AccountInfo>>,
    slots: HashMap<U256, Versions<U256>>,
}

/// A block as it was after one of its frames.
#[derive(Debug)]
pub(super) struct OpenView {
    state: Arc<OpenState>,
    frame: u32,
}

/// The last value that was set up to a frame.
fn last<T: Copy>(versions: &Versions<T>, frame: u32) -> Option<T> {
    versions.iter().rev().find(|(set, _)| *set <= frame).map(|(_, value)| *value)
}

impl OpenBlocks {
    /// A block whose frames will be added.
    pub(super) fn add(&self, build: u64, header: Header, before: ParentState) -> Arc<OpenState> {
        let state = OpenState { build, header, before, frames: RwLock::default() };
        let state = Arc::new(state);
        self.0.write().push(state.clone());
        state
    }

    /// Lets go of all blocks but those of these builds.
    pub(super) fn keep(&self, builds: [Option<u64>; 2]) {
        let kept = |state: &Arc<OpenState>| builds.contains(&Some(state.build));
        if !self.0.read().iter().all(kept) {
            self.0.write().retain(kept);
        }
    }

    /// The block that is named, after the frame that is named.
    pub(super) fn view(&self, point: &OpenPoint) -> Option<OpenView> {
        let is_named = |state: &&Arc<OpenState>| {
            (state.header.number, state.header.parent_hash) == (point.number, point.parent)
        };
        let state = self.0.read().iter().rev().find(is_named).cloned()?;
        let frame = state.frame(point)?;
        Some(OpenView { state, frame })
    }
}

impl OpenState {
    /// Adds what a frame changed, and what the block then holds beyond what is here.
    pub(super) fn add(
        &self,
        diff: &StateDiff,
        transactions: &[Arc<RecoveredTx>],
        receipts: &[SharedReceipt],
    ) {
        let mut frames = self.frames.write();
        // What changes without a transaction is seen with the next frame that has one.
        let number = u32::try_from(frames.ends.len()).unwrap_or(u32::MAX);
        for (address, changed) in &diff.accounts {
            let account = frames.accounts.entry(*address).or_default();
            account.infos.push((number, changed.after));
            for (slot, values) in &changed.storage {
                account.slots.entry((*slot).into()).or_default().push((number, values.after));
            }
        }
        frames.code.extend(diff.code.iter().map(|(hash, code)| (*hash, code.clone())));
        let held = frames.transactions.len();
        frames.transactions.extend(transactions.iter().skip(held).cloned());
        frames.receipts.extend(receipts.iter().skip(held).cloned());
        if frames.transactions.len() > held {
            let end = frames.transactions.len();
            frames.ends.push(end);
        }
    }

    fn frame(&self, point: &OpenPoint) -> Option<u32> {
        let frames = self.frames.read();
        let is_last = |end: &usize| {
            let last = end.checked_sub(1).and_then(|last| frames.transactions.get(last));
            last.is_some_and(|tx| tx.hash() == point.last)
        };
        u32::try_from(frames.ends.iter().rposition(is_last)?).ok()
    }
}

impl OpenView {
    /// The block's header so far: without roots, bloom and hash.
    pub(super) fn header(&self) -> Header {
        let frames = self.state.frames.read();
        let last = self.end(&frames).checked_sub(1).and_then(|last| frames.receipts.get(last));
        let gas_used = last.map_or(0, |receipt| receipt.cumulative_gas_used);
        Header { gas_used, ..self.state.header.clone() }
    }

    /// The block so far, under the hash of a header without roots.
    pub(super) fn block(&self) -> ExecutedBlock {
        let header = self.header().seal_slow();
        let frames = self.state.frames.read();
        let end = self.end(&frames);
        let transactions = frames.transactions.iter().take(end).cloned().collect();
        let receipts = frames.receipts.iter().take(end).map(|receipt| (**receipt).clone());
        ExecutedBlock { header, transactions, receipts: receipts.collect() }
    }

    /// The state before the block.
    pub(super) fn before(&self) -> &ParentState {
        &self.state.before
    }

    /// What the block changed up to here.
    pub(super) fn diff(&self) -> Result<StateDiff, StateReadError> {
        let (mut diff, before) = (self.changed(), &self.state.before);
        // The frames are not held up by reads from the store.
        for (address, account) in &mut diff.accounts {
            account.before = before.account(*address)?;
            for (slot, value) in &mut account.storage {
                value.before = before.storage(*address, (*slot).into())?;
            }
        }
        Ok(diff)
    }

    /// What the block changed up to here, as it is after that.
    fn changed(&self) -> StateDiff {
        let frames = self.state.frames.read();
        let accounts = frames.accounts.iter().filter_map(|(address, account)| {
            let after = last(&account.infos, self.frame)?;
            let slots = account.slots.iter().filter_map(|(slot, versions)| {
                let after = last(versions, self.frame)?;
                Some((B256::from(*slot), SlotDiff { before: U256::ZERO, after }))
            });
            Some((*address, AccountDiff { before: None, after, storage: slots.collect() }))
        });
        StateDiff { accounts: accounts.collect(), code: frames.code.clone().into_iter().collect() }
    }

    /// Every slot of an account that is not zero; `None` if more than `limit` have to be looked at.
    pub(super) fn slots(
        &self,
        address: Address,
        limit: usize,
    ) -> Result<Option<Vec<(U256, U256)>>, StateReadError> {
        let Some(mut slots) = self.state.before.slots(address, limit)? else { return Ok(None) };
        let frames = self.state.frames.read();
        if let Some(account) = frames.accounts.get(&address) {
            let changed = |slot: &U256| account.slots.get(slot).and_then(|of| last(of, self.frame));
            slots.retain(|(slot, _)| changed(slot).is_none());
            let set = account.slots.keys().filter_map(|slot| Some((*slot, changed(slot)?)));
            slots.extend(set.filter(|(_, value)| !value.is_zero()));
        }
        Ok((slots.len() <= limit).then_some(slots))
    }

    fn end(&self, frames: &Frames) -> usize {
        usize::try_from(self.frame)
            .ok()
            .and_then(|frame| frames.ends.get(frame))
            .copied()
            .unwrap_or(0)
    }
}

impl StateReader for OpenView {
    fn account(&self, address: Address) -> Result<Option<AccountInfo>, StateReadError> {
        let changed = {
            let frames = self.state.frames.read();
            frames.accounts.get(&address).and_then(|account| last(&account.infos, self.frame))
        };
        changed.map_or_else(|| self.state.before.account(address), Ok)
    }

    fn storage(&self, address: Address, slot: U256) -> Result<U256, StateReadError> {
        let changed = {
            let frames = self.state.frames.read();
            let versions = frames.accounts.get(&address).and_then(|of| of.slots.get(&slot));
            versions.and_then(|versions| last(versions, self.frame))
        };
        changed.map_or_else(|| self.state.before.storage(address, slot), Ok)
    }

    fn storage_of(&self, address: Address) -> Result<Vec<(U256, U256)>, StateReadError> {
        Ok(self.slots(address, usize::MAX)?.unwrap_or_default())
    }

    fn storage_of_at_most(
        &self,
        address: Address,
        limit: usize,
    ) -> Result<Option<Vec<(U256, U256)>>, StateReadError> {
        self.slots(address, limit)
    }

    fn code(&self, hash: B256) -> Result<Option<Bytes>, StateReadError> {
        let new = self.state.frames.read().code.get(&hash).cloned();
        new.map_or_else(|| self.state.before.code(hash), |code| Ok(Some(code)))
    }

    fn block_hash(&self, number: u64) -> Result<Option<B256>, StateReadError> {
        self.state.before.block_hash(number)
    }
}

impl fmt::Debug for OpenState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenState")
            .field("number", &self.header.number)
            .field("frames", &self.frames.read().ends.len())
            .finish_non_exhaustive()
    }
}

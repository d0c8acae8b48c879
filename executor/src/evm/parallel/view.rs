//! The state as one transaction of the block sees it.

use std::{fmt, sync::Arc};

use alloy::consensus::Transaction;
use alloy_primitives::{Address, B256, KECCAK256_EMPTY, U256};
use millrace_proto::{AccountInfo, RecoveredTx};
use revm::{Database, bytecode::Bytecode, state::AccountInfo as EvmAccount};

use super::{
    fetch::Parties,
    lane_cache::LaneCache,
    memory::Memory,
    precompiles::PrecompileCache,
    state::{AccountRead, AccountState, SlotKey, SlotRead, paid},
};
use crate::evm::{
    CodeCache, EvmEnv, StateReadError, StateReader,
    block_state::to_evm,
    hashes::{Hashes, KeepsHashes},
};

/// At most so many accounts and so many slots of a transaction's access list are read before it is run.
const PREFETCHED: usize = 256;

/// A state that threads share.
pub type SharedReader = Arc<dyn StateReader + Send + Sync>;

/// What all threads of a block share.
pub(super) struct Shared {
    pub(super) env: EvmEnv,
    pub(super) memory: Arc<Memory>,
    pub(super) reader: SharedReader,
    pub(super) codes: Arc<CodeCache>,
    pub(super) precompiles: Arc<PrecompileCache>,
    /// EIP-161: accounts that a transaction leaves empty are removed.
    pub(super) removes_empty: bool,
}

impl Shared {
    /// A committed account.
    pub(super) fn account(&self, address: Address) -> Result<AccountState, StateReadError> {
        match self.memory.accounts.committed(&address) {
            Some(state) => Ok(state),
            None => self.base_account(address),
        }
    }

    pub(super) fn base_account(&self, address: Address) -> Result<AccountState, StateReadError> {
        Ok(AccountState::base(self.reader.account(address)?))
    }

    /// Code that some account of the block has or had.
    pub(super) fn code(&self, hash: B256) -> Result<Bytecode, StateReadError> {
        match self.memory.code(hash) {
            Some(code) => Ok(code),
            None => self.codes.read(hash, &*self.reader),
        }
    }

    /// A slot as it was before the block, or zero if its account was created or destroyed since.
    pub(super) fn base_slot(&self, key: &SlotKey) -> Result<U256, StateReadError> {
        if key.generation == 0 {
            self.reader.storage(key.address, key.slot)
        } else {
            Ok(U256::ZERO)
        }
    }

    /// A committed slot.
    pub(super) fn slot(&self, key: &SlotKey) -> Result<U256, StateReadError> {
        self.memory.slots.committed(key).map_or_else(|| self.base_slot(key), Ok)
    }

    /// The accounts of a transaction as they were before the block. What fails here fails in the transaction's turn as well, and is told
    /// there.
    pub(super) fn parties(&self, tx: &RecoveredTx) -> Option<Parties> {
        let [sender, called] = addresses(tx).map(|address| self.reader.account(address).ok());
        Some([sender?, called?])
    }

    /// Reads what a transaction is known to need beside its accounts, for a reader that keeps it.
    pub(super) fn prefetch(&self, tx: &RecoveredTx, [_, called]: &Parties) {
        if let Some(called) = called
            && called.code_hash != KECCAK256_EMPTY
        {
            let _ = self.code(called.code_hash);
        }
        let Some(list) = tx.tx().access_list() else { return };
        let slots = list.iter().take(PREFETCHED).flat_map(|item| {
            let _ = self.reader.account(item.address);
            item.storage_keys.iter().map(|slot| (item.address, *slot))
        });
        for (address, slot) in slots.take(PREFETCHED) {
            let _ = self.reader.storage(address, slot.into());
        }
    }

    /// Keeps the code of an account whose code changed.
    pub(super) fn add_code(&self, info: &EvmAccount) {
        if let Some(code) = info.code.as_ref().filter(|code| !code.is_empty()) {
            self.memory.add_code(info.code_hash, code.clone());
        }
    }
}

/// revm's database for one transaction: reads, and remembers what was read.
pub(super) struct TxView {
    pub(super) shared: Arc<Shared>,
    /// Sees what transactions before this one wrote.
    index: u32,
    /// Sender and nonce of a transaction that is run ahead: what it reads is remembered, and its sender is given the nonce if earlier
    /// transactions are still to come.
    ahead: Option<(Address, u64)>,
    /// What the beneficiary is still to be paid for committed transactions.
    owed: Option<U256>,
    /// Accounts as they were before the block, so far as they have been read.
    known: Option<[(Address, Option<AccountInfo>); 2]>,
    pub(super) accounts: Vec<AccountRead>,
    pub(super) slots: Vec<SlotRead>,
    /// Storage generations other than zero.
    generations: Vec<(Address, u32)>,
    cache: LaneCache,
}

impl TxView {
    pub(super) fn new(shared: Arc<Shared>, mut cache: LaneCache) -> Self {
        cache.begin();
        Self {
            shared,
            index: 0,
            ahead: None,
            owed: None,
            known: None,
            accounts: Vec::new(),
            slots: Vec::new(),
            generations: Vec::new(),
            cache,
        }
    }

    /// Gives back the cache, for another block.
    pub(super) fn take_cache(&mut self) -> LaneCache {
        std::mem::take(&mut self.cache)
    }

    /// Turns to another transaction. `ahead` is the sender and the nonce of one that is run before its turn.
    pub(super) fn begin(&mut self, index: u32, ahead: Option<(Address, u64)>) {
        self.index = index;
        self.ahead = ahead;
        self.owed = None;
        self.known = None;
        self.accounts.clear();
        self.slots.clear();
        self.generations.clear();
    }

    /// The transaction comes when the beneficiary is still to be paid this, and sees it paid.
    pub(super) const fn owe(&mut self, owed: Option<U256>) {
        self.owed = owed;
    }

    /// The transaction's accounts have been read.
    pub(super) fn know(&mut self, tx: &RecoveredTx, read: &Parties) {
        let ([sender, called], [of_sender, of_called]) = (addresses(tx), *read);
        self.known = Some([(sender, of_sender), (called, of_called)]);
    }

    fn base_account(&self, address: Address) -> Result<AccountState, StateReadError> {
        let known = self.known.iter().flatten().find(|(of, _)| *of == address);
        known.map_or_else(
            || self.shared.base_account(address),
            |(_, info)| Ok(AccountState::base(*info)),
        )
    }

    fn generation(&self, address: &Address) -> u32 {
        let found = self.generations.iter().find(|(of, _)| of == address);
        found.map_or(0, |(_, generation)| *generation)
    }
}

/// A transaction's sender and the account that it calls: the sender again, if it creates one.
fn addresses(tx: &RecoveredTx) -> [Address; 2] {
    let sender = tx.sender();
    [sender, tx.tx().to().unwrap_or(sender)]
}

impl Database for TxView {
    type Error = StateReadError;

    fn basic(&mut self, address: Address) -> Result<Option<EvmAccount>, StateReadError> {
        let (seen, written, early) = match self.shared.memory.accounts.before(&address, self.index)
        {
            Some((state, committed)) => (state, true, !committed),
            None => (self.base_account(address)?, false, false),
        };
        if seen.generation != 0 {
            self.generations.push((address, seen.generation));
        }
        let mut info = seen.info;
        if let (Some(info), Some((sender, nonce))) = (&mut info, self.ahead)
            && sender == address
            && info.nonce < nonce
        {
            info.nonce = nonce;
        }
        if let Some(owed) = self.owed
            && address == self.shared.env.block.beneficiary
        {
            let info = info.get_or_insert_default();
            info.balance = paid(info.balance, owed);
        }
        if self.ahead.is_some() {
            self.accounts.push(AccountRead {
                address,
                seen,
                nonce: info.map_or(0, |info| info.nonce),
                written,
                early,
                exact: false,
                least: U256::ZERO,
            });
        }
        Ok(info.map(to_evm))
    }

    fn code_by_hash(&mut self, hash: B256) -> Result<Bytecode, StateReadError> {
        if hash == KECCAK256_EMPTY {
            return Ok(Bytecode::default());
        }
        let Self { cache, shared, .. } = self;
        cache.code(hash, || shared.code(hash))
    }

    fn storage(&mut self, address: Address, slot: U256) -> Result<U256, StateReadError> {
        let key = SlotKey { address, generation: self.generation(&address), slot };
        let (seen, written, early) = match self.shared.memory.slots.before(&key, self.index) {
            Some((value, committed)) => (value, true, !committed),
            None => (self.shared.base_slot(&key)?, false, false),
        };
        if self.ahead.is_some() {
            self.slots.push(SlotRead { key, seen, written, early });
        }
        Ok(seen)
    }

    fn block_hash(&mut self, number: u64) -> Result<B256, StateReadError> {
        Ok(self.shared.reader.block_hash(number)?.unwrap_or_default())
    }
}

impl KeepsHashes for TxView {
    fn hashes(&mut self) -> &mut Hashes {
        &mut self.cache.hashes
    }
}

impl fmt::Debug for TxView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TxView").field("index", &self.index).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use alloy::consensus::{SignableTransaction, TxEip1559};
    use alloy_primitives::{Bytes, Signature, TxKind};
    use millrace_proto::TxEnvelope;
    use revm::{context::BlockEnv, primitives::hardfork::SpecId};

    use super::*;

    /// A state none of which can be read.
    struct Broken;

    fn broken<T>() -> Result<T, StateReadError> {
        Err(StateReadError::source(std::io::Error::other("a broken disk")))
    }

    impl StateReader for Broken {
        fn account(&self, _: Address) -> Result<Option<AccountInfo>, StateReadError> {
            broken()
        }

        fn storage(&self, _: Address, _: U256) -> Result<U256, StateReadError> {
            broken()
        }

        fn storage_of(&self, _: Address) -> Result<Vec<(U256, U256)>, StateReadError> {
            broken()
        }

        fn code(&self, _: B256) -> Result<Option<Bytes>, StateReadError> {
            broken()
        }

        fn block_hash(&self, _: u64) -> Result<Option<B256>, StateReadError> {
            broken()
        }
    }

    #[test]
    fn what_was_read_ahead_is_not_read_again_and_gives_way_to_what_is_committed() {
        let [sender, called, other] = [1, 2, 3].map(Address::with_last_byte);
        let shared = Arc::new(Shared {
            env: EvmEnv::ethereum(SpecId::CANCUN, 1, BlockEnv::default()),
            memory: Arc::default(),
            reader: Arc::new(Broken),
            codes: Arc::default(),
            precompiles: Arc::default(),
            removes_empty: true,
        });
        let tx = |to| {
            let tx = TxEip1559 { to, ..TxEip1559::default() };
            let signed = tx.into_signed(Signature::test_signature());
            RecoveredTx::new_unchecked(TxEnvelope::Eip1559(signed), sender)
        };
        let info = |nonce| Some(AccountInfo { nonce, ..AccountInfo::default() });
        let mut view = TxView::new(shared.clone(), LaneCache::default());
        let nonces = |view: &mut TxView| {
            [sender, called, other].map(|address| {
                view.basic(address).ok().map(|account| account.map(|account| account.nonce))
            })
        };

        view.begin(0, None);
        view.know(&tx(TxKind::Call(called)), &[info(7), None]);
        assert_eq!(nonces(&mut view), [Some(Some(7)), Some(None), None]);

        view.begin(1, None);
        assert_eq!(nonces(&mut view), [None; 3], "another transaction knows nothing yet");
        view.know(&tx(TxKind::Create), &[info(7), info(7)]);
        shared.memory.accounts.commit(sender, AccountState::base(info(8)), None);
        assert_eq!(nonces(&mut view), [Some(Some(8)), None, None]);
    }
}

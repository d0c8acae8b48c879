//! The state as one transaction of the block sees it.

use std::{fmt, sync::Arc};

use alloy::consensus::Transaction;
use alloy_primitives::{Address, B256, Bytes, KECCAK256_EMPTY, U256, map::B256Map};
use millrace_proto::RecoveredTx;
use revm::{Database, bytecode::Bytecode, state::AccountInfo as EvmAccount};

use super::{
    memory::Memory,
    precompiles::PrecompileCache,
    state::{AccountRead, AccountState, SlotKey, SlotRead, paid},
};
use crate::evm::{
    CodeCache, EvmEnv, StateReadError, StateReader, block_state::to_evm, code_cache::analyse,
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

    /// Reads what a transaction is known to need, for a reader that keeps it. What fails here fails in the transaction's turn as well,
    /// and is told there.
    pub(super) fn prefetch(&self, tx: &RecoveredTx) {
        let read = |address| self.reader.account(address).ok().flatten();
        read(tx.sender());
        if let Some(called) = tx.tx().to().and_then(read)
            && called.code_hash != KECCAK256_EMPTY
        {
            let _ = self.code(called.code_hash);
        }
        let Some(list) = tx.tx().access_list() else { return };
        let slots = list.iter().take(PREFETCHED).flat_map(|item| {
            read(item.address);
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
    pub(super) accounts: Vec<AccountRead>,
    pub(super) slots: Vec<SlotRead>,
    /// Storage generations other than zero.
    generations: Vec<(Address, u32)>,
    code: LaneCode,
}

/// Code for one thread alone: threads that share code would take turns at its reference count, which every call changes. Code that
/// is used here and there is not worth a copy.
#[derive(Default)]
pub(super) struct LaneCode {
    code: B256Map<Bytecode>,
    bytes: usize,
    /// How often the block has used code of which there is no copy.
    uses: B256Map<u32>,
}

impl LaneCode {
    /// The most that a thread keeps from block to block.
    const MOST: usize = 64 << 20;
    /// So often a block uses code before it is copied.
    const OFTEN: u32 = 16;

    /// Turns to another block.
    pub(super) fn begin(&mut self) {
        self.uses.clear();
    }

    pub(super) fn get(
        &mut self,
        hash: B256,
        read: impl FnOnce() -> Result<Bytecode, StateReadError>,
    ) -> Result<Bytecode, StateReadError> {
        if let Some(code) = self.code.get(&hash) {
            return Ok(code.clone());
        }
        let shared = read()?;
        let uses = self.uses.entry(hash).or_default();
        *uses += 1;
        if *uses < Self::OFTEN {
            return Ok(shared);
        }
        let raw = Bytes::copy_from_slice(shared.original_byte_slice());
        let raw_len = raw.len();
        let own = if shared.is_eip7702() { analyse(raw) } else { Bytecode::new_legacy(raw) };
        if self.bytes > Self::MOST {
            *self = Self::default();
        }
        self.bytes += raw_len;
        self.code.insert(hash, own.clone());
        Ok(own)
    }
}

impl TxView {
    pub(super) fn new(shared: Arc<Shared>, mut code: LaneCode) -> Self {
        code.begin();
        Self {
            shared,
            index: 0,
            ahead: None,
            owed: None,
            accounts: Vec::new(),
            slots: Vec::new(),
            generations: Vec::new(),
            code,
        }
    }

    /// Gives back the code, for another block.
    pub(super) fn take_code(&mut self) -> LaneCode {
        std::mem::take(&mut self.code)
    }

    /// Turns to another transaction. `ahead` is the sender and the nonce of one that is run before its turn.
    pub(super) fn begin(&mut self, index: u32, ahead: Option<(Address, u64)>) {
        self.index = index;
        self.ahead = ahead;
        self.owed = None;
        self.accounts.clear();
        self.slots.clear();
        self.generations.clear();
    }

    /// The transaction comes when the beneficiary is still to be paid this, and sees it paid.
    pub(super) const fn owe(&mut self, owed: Option<U256>) {
        self.owed = owed;
    }

    fn generation(&self, address: &Address) -> u32 {
        let found = self.generations.iter().find(|(of, _)| of == address);
        found.map_or(0, |(_, generation)| *generation)
    }
}

impl Database for TxView {
    type Error = StateReadError;

    fn basic(&mut self, address: Address) -> Result<Option<EvmAccount>, StateReadError> {
        let (seen, written, early) = match self.shared.memory.accounts.before(&address, self.index)
        {
            Some((state, committed)) => (state, true, !committed),
            None => (self.shared.base_account(address)?, false, false),
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
        let Self { code, shared, .. } = self;
        code.get(hash, || shared.code(hash))
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

impl fmt::Debug for TxView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TxView").field("index", &self.index).finish_non_exhaustive()
    }
}

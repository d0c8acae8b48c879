//! Writing the genesis block.

use std::sync::Arc;

use alloy::{
    consensus::Sealable,
    primitives::{Address, B256, U256, keccak256},
};
use millrace_proto::{
    AccountDiff, AccountInfo, BatchPayload, ChainSpec, ExecutedBlock, SlotDiff, StateDiff,
};

use super::{
    SCHEMA_VERSION, StoreError,
    chain::meta,
    db::Db,
    table::Table,
    write::{self, History},
};
use crate::state::state_root;

/// Accounts and slots that are written at a time.
const CHUNK: usize = 20_000;

/// Writes the genesis block into a database without one, replacing what an import that was cut short has left.
///
/// The state goes in by pieces, so that a large allocation is never in memory a second time; the head comes last.
pub(super) fn import(db: &Db, spec: &ChainSpec) -> Result<Arc<ExecutedBlock>, StoreError> {
    db.clear()?;
    let mut batch = db.batch();
    batch.put(Table::Meta, meta::SCHEMA, SCHEMA_VERSION.to_be_bytes());
    db.write(batch)?;

    let mut import = Import { db, chunk: StateDiff::default(), size: 0, root: None };
    for (address, account) in &spec.genesis().alloc {
        let mut info = AccountInfo {
            balance: account.balance,
            nonce: account.nonce.unwrap_or_default(),
            ..AccountInfo::default()
        };
        if let Some(code) = account.code.as_ref().filter(|code| !code.is_empty()) {
            info.code_hash = keccak256(code);
            import.chunk.code.insert(info.code_hash, code.clone());
        }
        import.account(*address, None, info)?;
        for (slot, value) in account.storage_slots().filter(|(_, value)| !value.is_zero()) {
            import.slot(*address, info, slot, value)?;
        }
    }
    let root = import.finish()?;

    let header = spec.genesis_header(root).seal_slow();
    let block = ExecutedBlock { header, transactions: Vec::new(), receipts: Vec::new() };
    let mut batch = db.batch();
    batch.put(Table::Meta, meta::GENESIS, block.hash());
    batch.put(Table::Meta, meta::OLDEST, block.number().to_be_bytes());
    let payload: u8 = match spec.rollup().batch_payload {
        BatchPayload::Transactions => 1,
        BatchPayload::StateDiffs => 2,
    };
    batch.put(Table::Meta, meta::PAYLOAD, [payload]);
    write::block(&mut batch, &block);
    db.write(batch)?;
    Ok(Arc::new(block))
}

struct Import<'a> {
    db: &'a Db,
    chunk: StateDiff,
    size: usize,
    root: Option<B256>,
}

impl Import<'_> {
    fn account(
        &mut self,
        address: Address,
        before: Option<AccountInfo>,
        info: AccountInfo,
    ) -> Result<(), StoreError> {
        let diff = AccountDiff { before, after: Some(info), ..AccountDiff::default() };
        self.chunk.accounts.insert(address, diff);
        self.grow()
    }

    fn slot(
        &mut self,
        address: Address,
        info: AccountInfo,
        slot: B256,
        value: U256,
    ) -> Result<(), StoreError> {
        let account = self.chunk.accounts.entry(address).or_insert_with(|| AccountDiff {
            before: Some(info),
            after: Some(info),
            ..AccountDiff::default()
        });
        account.storage.insert(slot, SlotDiff { before: U256::ZERO, after: value });
        self.grow()
    }

    fn grow(&mut self) -> Result<(), StoreError> {
        self.size += 1;
        if self.size < CHUNK { Ok(()) } else { self.write() }
    }

    fn write(&mut self) -> Result<(), StoreError> {
        let chunk = std::mem::take(&mut self.chunk);
        self.size = 0;
        let update = state_root(self.db.reader(), B256::ZERO, &chunk)?;
        let mut batch = self.db.batch();
        write::state(&mut batch, &chunk, &update, History::None);
        self.db.write(batch)?;
        self.root = Some(update.root);
        Ok(())
    }

    fn finish(mut self) -> Result<B256, StoreError> {
        self.write()?;
        Ok(self.root.unwrap_or(alloy_trie::EMPTY_ROOT_HASH))
    }
}

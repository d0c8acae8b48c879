//! State as of a block.

use std::{collections::BTreeSet, sync::Arc};

use alloy::primitives::{Address, B256, Bytes, U256};
use millrace_proto::{AccountInfo, AddressPrefix, BlockSelector, SealedHeader, StateDiff};
use rocksdb::DBRawIterator;

use super::{AccountRecord, root::state_root_at};
use crate::store::{
    StoreError,
    chain::ChainReader,
    codec::u256_from,
    db::{Db, InTable, Reader, Snapshot},
    keys,
    table::Table,
};

/// A block's state, which stays readable and the same for as long as the view lives, whatever is committed or pruned.
#[derive(Debug)]
pub(crate) struct StateView {
    snapshot: Snapshot,
    header: SealedHeader,
    /// The block's number if the snapshot's head is a later one.
    at: Option<u64>,
}

impl StateView {
    /// Opens the state of a block.
    ///
    /// # Errors
    /// [`StoreError::UnknownBlock`], or [`StoreError::StatePruned`] if the block is older than the history that is kept.
    pub(crate) fn open(db: Arc<Db>, at: BlockSelector) -> Result<Self, StoreError> {
        let snapshot = Snapshot::new(db);
        let chain = ChainReader(snapshot.reader());
        let head = chain.head()?.ok_or(StoreError::UnknownBlock(at))?;
        let header = chain.header(at)?.ok_or(StoreError::UnknownBlock(at))?;
        let oldest = chain.oldest()?;
        if header.number < oldest {
            return Err(StoreError::StatePruned { block: header.number, oldest });
        }
        let at = (header.number < head.number).then_some(header.number);
        Ok(Self { snapshot, header, at })
    }

    /// The block whose state this is.
    pub(crate) const fn header(&self) -> &SealedHeader {
        &self.header
    }

    /// An account, or `None` if it does not exist.
    pub(crate) fn account(&self, address: Address) -> Result<Option<AccountInfo>, StoreError> {
        Ok(self.record(address)?.map(|record| record.info))
    }

    /// For each prefix the account whose address begins with it, if exactly one account's does. Costs least if the prefixes ascend.
    pub(crate) fn find_accounts(
        &self,
        prefixes: &[AddressPrefix],
    ) -> Result<Vec<Option<Address>>, StoreError> {
        let mut accounts = self.reader().iter(Table::Accounts);
        let mut history = self.at.map(|_| self.reader().iter(Table::AccountHistory));
        let mut all: Vec<Option<Address>> = Vec::with_capacity(prefixes.len());
        for (at, prefix) in prefixes.iter().enumerate() {
            // Many may begin alike, on purpose.
            let same = at.checked_sub(1).filter(|before| prefixes[*before] == *prefix);
            all.push(match same {
                Some(before) => all[before],
                None => self.find_account(*prefix, &mut accounts, history.as_mut())?,
            });
        }
        Ok(all)
    }

    fn find_account(
        &self,
        prefix: AddressPrefix,
        accounts: &mut DBRawIterator<'_>,
        history: Option<&mut DBRawIterator<'_>>,
    ) -> Result<Option<Address>, StoreError> {
        let mut found = None;
        accounts.seek(prefix.first());
        while let Some(address) = owner(accounts).filter(|owner| prefix.begins(*owner)) {
            // What is there now may not have been there then.
            if (self.at.is_none() || self.record(address)?.is_some())
                && found.replace(address).is_some()
            {
                return Ok(None);
            }
            accounts.next();
        }
        accounts.status()?;
        let Some(history) = history else { return Ok(found) };
        // What was there then may be gone now.
        history.seek(prefix.first());
        while let Some(address) = owner(history).filter(|owner| prefix.begins(*owner)) {
            if found != Some(address)
                && self.record(address)?.is_some()
                && found.replace(address).is_some()
            {
                return Ok(None);
            }
            history.seek(keys::history(address.as_slice(), u64::MAX));
        }
        history.status()?;
        Ok(found)
    }

    /// About how many accounts the head's state has.
    pub(crate) fn account_count(&self) -> Result<u64, StoreError> {
        self.reader().estimated_len(Table::Accounts)
    }

    /// A slot; zero if it is not set.
    pub(crate) fn storage(&self, address: Address, slot: B256) -> Result<U256, StoreError> {
        let key = keys::storage(address, slot);
        read(self.reader(), Table::Storage, &key, self.at, |value| {
            value.map_or(Ok(U256::ZERO), |value| u256_from(value).in_table(Table::Storage))
        })
    }

    /// Every slot of an account that is not zero; `None` if more than `limit` keys have to be looked at.
    pub(crate) fn slots(
        &self,
        address: Address,
        limit: usize,
    ) -> Result<Option<Vec<(B256, U256)>>, StoreError> {
        let mut keys = BTreeSet::new();
        let tables = [Some(Table::Storage), self.at.map(|_| Table::StorageHistory)];
        for table in tables.into_iter().flatten() {
            let mut entries = self.reader().iter(table);
            entries.seek(address);
            while let Some(slot) = slot_of(&entries, address) {
                keys.insert(slot);
                if keys.len() > limit {
                    return Ok(None);
                }
                // Past all that the history has of the slot.
                match table {
                    Table::Storage => entries.next(),
                    _ => entries.seek(keys::history(&keys::storage(address, slot), u64::MAX)),
                }
            }
            entries.status()?;
        }
        let mut slots = Vec::with_capacity(keys.len());
        for slot in keys {
            slots.push((slot, self.storage(address, slot)?));
        }
        slots.retain(|(_, value)| !value.is_zero());
        Ok(Some(slots))
    }

    /// The state root after `diff` on top of this state.
    pub(crate) fn root(&self, diff: &StateDiff) -> Result<B256, StoreError> {
        let parent = self.header.seal();
        Ok(state_root_at(self.reader(), self.at, parent, diff)?.root)
    }

    /// Code by its hash, which any block may have stored.
    pub(crate) fn code(&self, code_hash: B256) -> Result<Option<Bytes>, StoreError> {
        ChainReader(self.reader()).code(code_hash)
    }

    /// The hash of this block or one before it; `None` for a later one.
    pub(crate) fn block_hash(&self, number: u64) -> Result<Option<B256>, StoreError> {
        if number > self.header.number {
            return Ok(None);
        }
        ChainReader(self.reader()).hash(number)
    }

    pub(super) fn record(&self, address: Address) -> Result<Option<AccountRecord>, StoreError> {
        read(self.reader(), Table::Accounts, address.as_slice(), self.at, |value| {
            value.map(AccountRecord::decode).transpose().in_table(Table::Accounts)
        })
    }

    pub(super) fn reader(&self) -> Reader<'_> {
        self.snapshot.reader()
    }

    /// Set if the block is before the snapshot's head.
    pub(super) const fn at(&self) -> Option<u64> {
        self.at
    }
}

/// The account that an entry of its table, or of that table's history, belongs to.
fn owner(entries: &DBRawIterator<'_>) -> Option<Address> {
    entries.key()?.get(..Address::len_bytes()).map(Address::from_slice)
}

/// The slot of an account that an entry of the storage table, or of its history, belongs to.
fn slot_of(entries: &DBRawIterator<'_>, address: Address) -> Option<B256> {
    let key = entries.key()?.strip_prefix(address.as_slice())?;
    Some(B256::from_slice(key.get(..B256::len_bytes())?))
}

fn read<T>(
    reader: Reader<'_>,
    table: Table,
    key: &[u8],
    at: Option<u64>,
    decode: impl FnOnce(Option<&[u8]>) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    match at {
        Some(number) => decode(reader.get_at(table, key, number)?.as_deref()),
        None => decode(reader.get(table, key)?.as_deref()),
    }
}

//! Decoding: the columns are read one after another, then joined into a delta.

use std::collections::BTreeMap;

use alloy::{
    consensus::Header,
    primitives::{Address, B256, Bytes, KECCAK256_EMPTY, U256, keccak256},
    rlp::Decodable,
};

use super::{
    DiffBatch,
    encode::{KNOWN_CODE, MAPPING, NEW_CODE, NO_CODE, OFFSET, PLAIN, THEN, VYPER, told},
    form::{Mapping, Order},
    words::{Words, ascending, read_values},
};
use crate::{
    batch::{
        BatchColumn as Column, BatchDecodeError, BatchLimits, frame,
        header::{BatchPreamble, Parts},
        limits::within,
        reader::{Reader, sum},
    },
    types::{AccountDelta, BatchPayload, Change, QueueMark, StateDelta},
};

pub(super) fn decode(encoded: &[u8], limits: &BatchLimits) -> Result<DiffBatch, BatchDecodeError> {
    let Parts { preamble, dictionary, frame, .. } =
        Parts::split(encoded, BatchPayload::StateDiffs, None, limits)?;
    let columns = frame::decompress(frame, dictionary, limits)?;
    let mut reader = Reader::new(&columns, Column::LastHeader);
    let header = read_header(&mut reader, &preamble)?;
    reader.column(Column::Messages);
    let messages = reader.count()?;
    reader.require(messages, B256::len_bytes())?;
    let messages = (0..messages).map(|_| reader.hash()).collect::<Result<_, _>>()?;
    reader.column(Column::Code);
    let code = read_pieces(&mut reader, limits.max_changes, "codes")?;
    if code.iter().any(|code| code.is_empty()) {
        return Err(reader.invalid("code without bytes"));
    }
    let code: Vec<_> = code.into_iter().map(Bytes::copy_from_slice).collect();
    let words = Words::read(&mut reader, limits)?;
    let accounts = Accounts::read(&mut reader, &words, &code, limits)?;
    let storages = read_storages(&mut reader, &words, accounts.with_storage, limits)?;
    reader.finish()?;
    let batch = DiffBatch {
        chain_id: preamble.chain_id,
        first_block: preamble.first_block,
        parent_hash: preamble.parent_hash,
        deposits_start: preamble.deposits_start,
        transactions: preamble.transaction_count,
        header,
        messages,
        delta: StateDelta { accounts: accounts.join(storages), code },
    };
    if !batch.messages_are_recorded() {
        let problem = "others than the blocks recorded";
        return Err(BatchDecodeError::Invalid { column: Column::Messages, problem });
    }
    Ok(batch)
}

fn read_header(
    reader: &mut Reader<'_>,
    preamble: &BatchPreamble,
) -> Result<Header, BatchDecodeError> {
    let pieces = read_pieces(reader, 1, "headers")?;
    let [header] = pieces.as_slice() else {
        return Err(reader.invalid("not one header"));
    };
    let (header, bytes): (Header, _) =
        (whole(header).ok_or_else(|| reader.invalid("no header's RLP"))?, *header);
    if alloy::rlp::encode(&header) != bytes {
        return Err(reader.invalid("not a header's own RLP"));
    }
    if header.hash_slow() != preamble.last_block_hash {
        return Err(reader.invalid("not the header of the last block's hash"));
    }
    if header.number != preamble.first_block + (preamble.block_count - 1) {
        return Err(reader.invalid("not the header of the last block's number"));
    }
    match QueueMark::of(&header) {
        Some(mark) if mark.end >= preamble.deposits_start => Ok(header),
        Some(_) => Err(reader.invalid("deposits that go back")),
        None => Err(reader.invalid("extra data that is not a rollup's")),
    }
}

/// What some bytes are the RLP of, all of them.
fn whole<T: Decodable>(mut bytes: &[u8]) -> Option<T> {
    let value = T::decode(&mut bytes).ok()?;
    bytes.is_empty().then_some(value)
}

fn read_pieces<'a>(
    reader: &mut Reader<'a>,
    limit: usize,
    what: &'static str,
) -> Result<Vec<&'a [u8]>, BatchDecodeError> {
    let count = within(reader.varint()?, limit, what)?;
    let lengths = reader.many(count, Reader::count)?;
    reader.require(sum(&lengths), 1)?;
    lengths.into_iter().map(|length| reader.take(length)).collect()
}

/// How a number changed. `None` if it did not.
fn change(
    reader: &Reader<'_>,
    how: u8,
    number: impl FnOnce() -> Option<U256>,
) -> Result<Option<Change>, BatchDecodeError> {
    if how == 0 {
        return Ok(None);
    }
    let number = number().ok_or_else(|| reader.invalid("a change without a number"))?;
    match how {
        1 => Ok(Some(Change::Up(number))),
        2 => Ok(Some(Change::Down(number))),
        3 => Ok(Some(Change::Set(number))),
        _ => Err(reader.invalid("an unknown change")),
    }
}

/// The accounts, without their storage.
struct Accounts {
    accounts: Vec<(Address, AccountDelta, bool)>,
    with_storage: usize,
}

impl Accounts {
    fn read(
        reader: &mut Reader<'_>,
        words: &Words,
        new: &[Bytes],
        limits: &BatchLimits,
    ) -> Result<Self, BatchDecodeError> {
        reader.column(Column::Accounts);
        let told = reader.take(words.addresses.len())?;
        let having = |bit: u8| told.iter().filter(|told| **told & bit != 0).count();
        within(having(told::ACCOUNT) as u64, limits.max_changes, "accounts")?;
        for told in told {
            let only = match told & (told::ACCOUNT | told::REMOVED) {
                0 => 0,
                told::ACCOUNT => *told,
                _ => told::ACCOUNT | told::REMOVED,
            };
            if *told != only {
                return Err(reader.invalid("more of an account than there can be"));
            }
        }
        reader.column(Column::AccountNonces);
        let mut nonces = reader.many(having(told::NONCE), Reader::varint)?.into_iter();
        let balances = told.iter().filter(|told| **told >> told::BALANCE != 0).count();
        let mut balances = read_values(reader, Column::Balances, balances)?.into_iter();
        reader.column(Column::AccountCodes);
        let codes = reader.many(having(told::CODE), Reader::varint)?;
        let new: Vec<_> = new.iter().map(keccak256).collect();
        let mut hashes = codes
            .into_iter()
            .map(|code| match code {
                NO_CODE => Ok(KECCAK256_EMPTY),
                KNOWN_CODE => reader.hash(),
                _ => usize::try_from(code - NEW_CODE)
                    .ok()
                    .and_then(|position| new.get(position).copied())
                    .ok_or_else(|| reader.invalid("no code has this position")),
            })
            .collect::<Result<Vec<_>, _>>()?
            .into_iter();
        let mut accounts = Vec::with_capacity(having(told::ACCOUNT));
        for (address, told) in words.addresses.iter().zip(told) {
            let has = |bit: u8| told & bit != 0;
            if !has(told::ACCOUNT) {
                continue;
            }
            let delta = if has(told::REMOVED) {
                AccountDelta::Removed
            } else {
                AccountDelta::Changed {
                    nonce: if has(told::NONCE) { nonces.next().unwrap_or_default() } else { 0 },
                    balance: change(reader, told >> told::BALANCE, || balances.next())?,
                    code_hash: if has(told::CODE) { hashes.next() } else { None },
                    storage: BTreeMap::new(),
                }
            };
            accounts.push((*address, delta, has(told::STORAGE)));
        }
        Ok(Self { accounts, with_storage: having(told::STORAGE) })
    }

    fn join(self, storages: Vec<BTreeMap<B256, Change>>) -> BTreeMap<Address, AccountDelta> {
        let mut storages = storages.into_iter();
        let join = |(address, mut delta, has_storage)| {
            if let AccountDelta::Changed { storage, .. } = &mut delta
                && has_storage
            {
                *storage = storages.next().unwrap_or_default();
            }
            (address, delta)
        };
        self.accounts.into_iter().map(join).collect()
    }
}

/// The changed slots of so many accounts.
fn read_storages(
    reader: &mut Reader<'_>,
    words: &Words,
    accounts: usize,
    limits: &BatchLimits,
) -> Result<Vec<BTreeMap<B256, Change>>, BatchDecodeError> {
    reader.column(Column::SlotGroups);
    let group_counts = reader.many(accounts, Reader::count)?;
    let groups = within(sum(&group_counts) as u64, limits.max_changes, "groups of slots")?;
    let forms = reader.take(groups)?;
    let having = |bit: u8| forms.iter().filter(|form| **form & bit != 0).count();
    let is_known = |form: &u8| *form == PLAIN || *form & MAPPING != 0 && *form < OFFSET << 1;
    if !forms.iter().all(is_known) {
        return Err(reader.invalid("an unknown form"));
    }
    let mut places = read_values(reader, Column::SlotGroups, having(MAPPING))?.into_iter();
    let thens = reader.many(having(THEN), Reader::varint)?;
    let mut thens = thens
        .into_iter()
        .map(|then| word(reader, words, Some(then)))
        .collect::<Result<Vec<_>, _>>()?
        .into_iter();
    let mut offsets = reader.many(having(OFFSET), Reader::varint)?.into_iter();
    let counts = reader.many(groups, Reader::count)?;
    let slots = within(sum(&counts) as u64, limits.max_changes, "slots")?;
    if counts.contains(&0) {
        return Err(reader.invalid("a group of no slots"));
    }

    reader.column(Column::SlotKeys);
    let mappings: Vec<_> = forms
        .iter()
        .map(|form| {
            (form & MAPPING != 0).then(|| Mapping {
                order: if form & VYPER != 0 { Order::Vyper } else { Order::Solidity },
                place: places.next().unwrap_or_default(),
                then: if form & THEN != 0 { thens.next() } else { None },
                offset: if form & OFFSET != 0 { offsets.next().unwrap_or_default() } else { 0 },
            })
        })
        .collect();
    // First the keys of mappings' entries, then the others.
    let mut keys = Vec::with_capacity(groups);
    let mut plain = 0usize;
    for (mapping, count) in mappings.iter().zip(&counts) {
        keys.push(match mapping {
            Some(mapping) => read_entries(reader, words, mapping, *count)?,
            None => Vec::new(),
        });
        if mapping.is_none() {
            plain += count;
        }
    }
    let mut steps = read_values(reader, Column::SlotKeys, plain)?.into_iter();
    for ((keys, mapping), count) in keys.iter_mut().zip(&mappings).zip(&counts) {
        if mapping.is_none() {
            let slots = ascending(reader, steps.by_ref().take(*count))?;
            *keys = slots.into_iter().map(B256::from).collect();
        }
    }
    reader.column(Column::SlotValues);
    let hows = reader.take(slots)?;
    if hows.contains(&0) {
        return Err(reader.invalid("a slot that did not change"));
    }
    let mut values = read_values(reader, Column::SlotValues, slots)?.into_iter();
    let mut changes = hows.iter();
    let mut keys = keys.into_iter();
    group_counts
        .into_iter()
        .map(|groups| {
            let mut storage = BTreeMap::new();
            for slot in keys.by_ref().take(groups).flatten() {
                let how = changes.next().copied().unwrap_or_default();
                let change = change(reader, how, || values.next())?;
                if change.and_then(|change| storage.insert(slot, change)).is_some() {
                    return Err(reader.invalid("a slot twice"));
                }
            }
            if storage.is_empty() {
                return Err(reader.invalid("storage that did not change"));
            }
            Ok(storage)
        })
        .collect()
}

/// The slots of a mapping's entries, whose keys are words.
fn read_entries(
    reader: &mut Reader<'_>,
    words: &Words,
    mapping: &Mapping<U256>,
    count: usize,
) -> Result<Vec<B256>, BatchDecodeError> {
    let mut next = Some(0u64);
    reader.many(count, |reader| {
        let step = reader.varint()?;
        let position = next.and_then(|next| next.checked_add(step));
        let key = word(reader, words, position)?;
        next = position.and_then(|position| position.checked_add(1));
        Ok(mapping.slot(key))
    })
}

fn word(
    reader: &Reader<'_>,
    words: &Words,
    position: Option<u64>,
) -> Result<U256, BatchDecodeError> {
    position
        .and_then(|position| words.word(position))
        .ok_or_else(|| reader.invalid("no word has this position"))
}

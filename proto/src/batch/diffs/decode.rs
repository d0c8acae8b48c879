//! Decoding: the columns are read one after another, then joined into a delta.

use alloy::{
    consensus::Header,
    primitives::{B256, Bytes, KECCAK256_EMPTY, U256, keccak256},
    rlp::Decodable,
};

use super::{
    DiffBatch, NamedDelta,
    encode::{KNOWN_CODE, MAPPING, NEW_CODE, NO_CODE, OFFSET, PLAIN, THEN, VYPER, told},
    form::{Mapping, Order},
    named::{Group, Keys, NamedAccount},
    words::{Words, ascending, read_values},
};
use crate::{
    batch::{
        BatchColumn as Column, BatchDecodeError, BatchLimits, frame,
        header::{BatchPreamble, Parts},
        limits::within,
        reader::{Reader, sum},
    },
    types::{BatchPayload, Change, QueueMark},
};

pub(super) fn decode(
    encoded: &[u8],
    limits: &BatchLimits,
) -> Result<DiffBatch<NamedDelta>, BatchDecodeError> {
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
    let mut accounts = read_accounts(&mut reader, words.addresses(), &code, limits)?;
    read_storages(&mut reader, words.len(), &mut accounts, limits)?;
    reader.finish()?;
    Ok(DiffBatch {
        chain_id: preamble.chain_id,
        first_block: preamble.first_block,
        parent_hash: preamble.parent_hash,
        deposits_start: preamble.deposits_start,
        transactions: preamble.transaction_count,
        header,
        messages,
        delta: NamedDelta { words, accounts, code },
    })
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

/// The accounts, without what changed in their storage.
fn read_accounts(
    reader: &mut Reader<'_>,
    addresses: usize,
    new: &[Bytes],
    limits: &BatchLimits,
) -> Result<Vec<NamedAccount>, BatchDecodeError> {
    reader.column(Column::Accounts);
    let told = reader.take(addresses)?;
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
    for (address, told) in told.iter().enumerate() {
        let has = |bit: u8| told & bit != 0;
        if !has(told::ACCOUNT) {
            continue;
        }
        accounts.push(NamedAccount {
            address,
            is_removed: has(told::REMOVED),
            nonce: if has(told::NONCE) { nonces.next().unwrap_or_default() } else { 0 },
            balance: change(reader, told >> told::BALANCE, || balances.next())?,
            code_hash: if has(told::CODE) { hashes.next() } else { None },
            storage: has(told::STORAGE).then(Vec::new),
        });
    }
    Ok(accounts)
}

/// The changed slots of the accounts that have some.
fn read_storages(
    reader: &mut Reader<'_>,
    words: usize,
    accounts: &mut [NamedAccount],
    limits: &BatchLimits,
) -> Result<(), BatchDecodeError> {
    let storages: Vec<_> =
        accounts.iter_mut().filter_map(|account| account.storage.as_mut()).collect();
    reader.column(Column::SlotGroups);
    let group_counts = reader.many(storages.len(), Reader::count)?;
    if group_counts.contains(&0) {
        return Err(reader.invalid("storage that did not change"));
    }
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
        .map(|then| position(reader, words, Some(then)))
        .collect::<Result<Vec<_>, _>>()?
        .into_iter();
    let mut offsets = reader.many(having(OFFSET), Reader::varint)?.into_iter();
    let counts = reader.many(groups, Reader::count)?;
    let slots = within(sum(&counts) as u64, limits.max_changes, "slots")?;
    if counts.contains(&0) {
        return Err(reader.invalid("a group of no slots"));
    }

    reader.column(Column::SlotKeys);
    // First the keys of mappings' entries, then the others.
    let mut keys = Vec::with_capacity(groups);
    for (form, count) in forms.iter().zip(&counts) {
        keys.push(if form & MAPPING != 0 {
            let mapping = Mapping {
                order: if form & VYPER != 0 { Order::Vyper } else { Order::Solidity },
                place: places.next().unwrap_or_default(),
                then: if form & THEN != 0 { thens.next() } else { None },
                offset: if form & OFFSET != 0 { offsets.next().unwrap_or_default() } else { 0 },
            };
            Keys::Entries(mapping, read_entries(reader, words, *count)?)
        } else {
            Keys::Plain(Vec::new())
        });
    }
    let is_plain = |(keys, _): &(&Keys, &usize)| matches!(keys, Keys::Plain(_));
    let plain = keys.iter().zip(&counts).filter(is_plain).map(|(_, count)| count).sum();
    let mut steps = read_values(reader, Column::SlotKeys, plain)?.into_iter();
    for (keys, count) in keys.iter_mut().zip(&counts) {
        if let Keys::Plain(keys) = keys {
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
    let mut changes = hows.iter().map(|how| change(reader, *how, || values.next()));
    let mut groups = keys.into_iter().zip(counts).map(|(keys, count)| {
        let changes = changes.by_ref().take(count).filter_map(Result::transpose);
        Ok(Group { keys, changes: changes.collect::<Result<_, _>>()? })
    });
    for (storage, count) in storages.into_iter().zip(group_counts) {
        *storage = groups.by_ref().take(count).collect::<Result<_, _>>()?;
    }
    Ok(())
}

/// The positions of the words that are the keys of a mapping's entries.
fn read_entries(
    reader: &mut Reader<'_>,
    words: usize,
    count: usize,
) -> Result<Vec<usize>, BatchDecodeError> {
    let mut next = Some(0u64);
    reader.many(count, |reader| {
        let step = reader.varint()?;
        let at = next.and_then(|next| next.checked_add(step));
        next = at.and_then(|at| at.checked_add(1));
        position(reader, words, at)
    })
}

/// A position that a word has.
fn position(
    reader: &Reader<'_>,
    words: usize,
    position: Option<u64>,
) -> Result<usize, BatchDecodeError> {
    position
        .and_then(|position| usize::try_from(position).ok())
        .filter(|position| *position < words)
        .ok_or_else(|| reader.invalid("no word has this position"))
}

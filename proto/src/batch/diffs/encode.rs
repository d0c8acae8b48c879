//! Encoding: what changed, cut into columns.

use alloy::{
    primitives::{Bytes, KECCAK256_EMPTY, keccak256, map::B256Map},
    rlp::Encodable,
};

use super::{
    AccountNames, DiffBatch, KeyHints, NamedDelta,
    form::{Mapping, Order},
    named::{Group, Keys, NamedAccount, messages_are_recorded},
    words::{WORDS_A_CHANGE, push_ascending},
};
use crate::{
    batch::{
        BatchDictionary, BatchEncodeError, BatchLimits, encode::check, frame, numbers::Numbers,
        writer::put_varint,
    },
    types::{Change, QueueMark},
};

/// What is told of an account, as bits.
pub(super) mod told {
    /// There is such an account.
    pub(in super::super) const ACCOUNT: u8 = 1;
    /// It does not exist any more. Nothing else is told then.
    pub(in super::super) const REMOVED: u8 = 1 << 1;
    /// Its nonce changed.
    pub(in super::super) const NONCE: u8 = 1 << 2;
    /// Its code changed.
    pub(in super::super) const CODE: u8 = 1 << 3;
    /// Its storage changed.
    pub(in super::super) const STORAGE: u8 = 1 << 4;
    /// How its balance changed is in the bits from here on: a [`super::how`], or 0.
    pub(in super::super) const BALANCE: u8 = 5;
}

/// How a number changed: 1 to 3.
pub(super) const fn how(change: Change) -> u8 {
    match change {
        Change::Up(_) => 1,
        Change::Down(_) => 2,
        Change::Set(_) => 3,
    }
}

/// The code of an account that has none.
pub(super) const NO_CODE: u64 = 0;
/// The code has been known before the batch: its hash is told.
pub(super) const KNOWN_CODE: u64 = 1;
/// Added to the position of a code of the batch.
pub(super) const NEW_CODE: u64 = 2;

/// Slots whose keys are told themselves.
pub(super) const PLAIN: u8 = 0;
/// The form of slots of a mapping: this, and bits for what else is told.
pub(super) const MAPPING: u8 = 1;
/// Vyper's order.
pub(super) const VYPER: u8 = 1 << 1;
/// A mapping of mappings: the second key is told.
pub(super) const THEN: u8 = 1 << 2;
/// The slots' distance from where the entry begins is told.
pub(super) const OFFSET: u8 = 1 << 3;

pub(super) fn encode(
    batch: &DiffBatch,
    level: i32,
    hints: &KeyHints,
    names: &AccountNames,
) -> Result<Bytes, BatchEncodeError> {
    let limits = BatchLimits::default();
    let number = batch.header.number;
    let error = |problem| BatchEncodeError::Block { number, problem };
    if batch.first_block == 0 {
        return Err(BatchEncodeError::Block { number: 0, problem: "it is the genesis block" });
    }
    if number < batch.first_block || number == u64::MAX {
        return Err(error("it does not end the batch"));
    }
    match QueueMark::of(&batch.header) {
        None => return Err(error("its extra data is not a rollup's")),
        Some(mark) if mark.end < batch.deposits_start => {
            return Err(error("its deposits go back"));
        }
        Some(_) => {}
    }
    if !messages_are_recorded(&batch.delta, &batch.messages) {
        return Err(error("the messages to L1 are not those that the message passer recorded"));
    }
    let blocks = number - batch.first_block + 1;
    check(usize::try_from(blocks).unwrap_or(usize::MAX), limits.max_blocks, "blocks")?;
    let transactions = usize::try_from(batch.transactions).unwrap_or(usize::MAX);
    check(transactions, limits.max_transactions, "transactions")?;
    let columns = columns(batch, hints, names)?;
    check(columns.len(), limits.max_decoded, "column bytes")?;
    let dictionary = BatchDictionary::current();
    let mut out = Vec::with_capacity(columns.len() / 2);
    batch.preamble().write(dictionary, &mut out);
    out.extend(frame::compress(&columns, level, dictionary)?);
    check(out.len(), limits.max_encoded, "bytes")?;
    Ok(out.into())
}

fn columns(
    batch: &DiffBatch,
    hints: &KeyHints,
    names: &AccountNames,
) -> Result<Vec<u8>, BatchEncodeError> {
    let limits = BatchLimits::default();
    let mut out = Vec::new();
    let mut header = Vec::new();
    batch.header.encode(&mut header);
    put_pieces(&mut out, &[header]);
    put_varint(&mut out, batch.messages.len() as u64);
    batch.messages.iter().for_each(|id| out.extend_from_slice(id.as_slice()));
    put_pieces(&mut out, &batch.delta.code);

    let delta = NamedDelta::new(&batch.delta, hints, names);
    let words = &delta.words;
    check(delta.accounts.len(), limits.max_changes, "accounts")?;
    check(delta.slots(), limits.max_changes, "slots")?;
    check(delta.names().len(), limits.max_changes, "names")?;
    check(words.len(), limits.max_changes.saturating_mul(WORDS_A_CHANGE), "words")?;
    check(delta.code.len(), limits.max_changes, "codes")?;
    words.write(&mut out);

    let codes: B256Map<u64> = delta.code.iter().map(keccak256).zip(0..).collect();
    let mut accounts = Accounts { told: vec![0; words.addresses()], ..Accounts::default() };
    let mut slots = Slots::default();
    for account in &delta.accounts {
        accounts.push(account, &codes);
        if let Some(groups) = &account.storage {
            slots.push(groups);
        }
    }
    accounts.write(&mut out);
    slots.write(&mut out);
    Ok(out)
}

/// Byte strings: how many, how long each is, and all.
fn put_pieces<T: AsRef<[u8]>>(out: &mut Vec<u8>, pieces: &[T]) {
    put_varint(out, pieces.len() as u64);
    for piece in pieces {
        put_varint(out, piece.as_ref().len() as u64);
    }
    for piece in pieces {
        out.extend_from_slice(piece.as_ref());
    }
}

/// The columns with an item for each account.
#[derive(Debug, Default)]
struct Accounts {
    told: Vec<u8>,
    nonces: Vec<u8>,
    balances: Numbers,
    codes: Vec<u8>,
    code_hashes: Vec<u8>,
}

impl Accounts {
    fn push(&mut self, account: &NamedAccount, new: &B256Map<u64>) {
        let mut told = told::ACCOUNT;
        if account.is_removed {
            told |= told::REMOVED;
        }
        if account.nonce != 0 {
            told |= told::NONCE;
            put_varint(&mut self.nonces, account.nonce);
        }
        if let Some(change) = account.balance {
            told |= how(change) << told::BALANCE;
            self.balances.push(change.number());
        }
        if let Some(hash) = account.code_hash {
            told |= told::CODE;
            match new.get(&hash) {
                _ if hash == KECCAK256_EMPTY => put_varint(&mut self.codes, NO_CODE),
                Some(position) => put_varint(&mut self.codes, NEW_CODE + position),
                None => {
                    put_varint(&mut self.codes, KNOWN_CODE);
                    self.code_hashes.extend_from_slice(hash.as_slice());
                }
            }
        }
        if account.storage.is_some() {
            told |= told::STORAGE;
        }
        self.told[account.address] = told;
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.told);
        out.extend_from_slice(&self.nonces);
        out.extend(self.balances.columns().concat());
        out.extend_from_slice(&self.codes);
        out.extend_from_slice(&self.code_hashes);
    }
}

/// The columns with an item for each group of slots, and each slot.
#[derive(Debug, Default)]
struct Slots {
    group_counts: Vec<u8>,
    forms: Vec<u8>,
    places: Numbers,
    thens: Vec<u8>,
    offsets: Vec<u8>,
    counts: Vec<u8>,
    keys: Vec<u8>,
    plain_keys: Numbers,
    hows: Vec<u8>,
    values: Numbers,
}

impl Slots {
    fn push(&mut self, groups: &[Group]) {
        put_varint(&mut self.group_counts, groups.len() as u64);
        for Group { keys, changes } in groups {
            put_varint(&mut self.counts, changes.len() as u64);
            match keys {
                Keys::Plain(keys) => {
                    self.forms.push(PLAIN);
                    push_ascending(&mut self.plain_keys, keys.iter().map(|key| (*key).into()));
                }
                Keys::Entries(mapping, keys) => self.push_entries(mapping, keys),
            }
            for change in changes {
                self.hows.push(how(*change));
                self.values.push(change.number());
            }
        }
    }

    fn push_entries(&mut self, mapping: &Mapping<usize>, keys: &[usize]) {
        let Mapping { order, place, then, offset } = *mapping;
        let mut form = MAPPING;
        if order == Order::Vyper {
            form |= VYPER;
        }
        self.places.push(place);
        if let Some(then) = then {
            form |= THEN;
            put_varint(&mut self.thens, then as u64);
        }
        if offset != 0 {
            form |= OFFSET;
            put_varint(&mut self.offsets, offset);
        }
        self.forms.push(form);
        let mut next = 0;
        for key in keys {
            put_varint(&mut self.keys, (key - next) as u64);
            next = key + 1;
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.group_counts);
        out.extend_from_slice(&self.forms);
        out.extend(self.places.columns().concat());
        out.extend_from_slice(&self.thens);
        out.extend_from_slice(&self.offsets);
        out.extend_from_slice(&self.counts);
        out.extend_from_slice(&self.keys);
        out.extend(self.plain_keys.columns().concat());
        out.extend_from_slice(&self.hows);
        out.extend(self.values.columns().concat());
    }
}

//! Encoding: every transaction's fields are appended to their columns, then the columns are joined
//! in the format's order.

use std::collections::HashMap;

use alloy::{
    consensus::{Signed, Transaction},
    eips::{eip2930::AccessList, eip7702::SignedAuthorization},
    primitives::{Address, Bytes},
};

use super::{
    Batch, BatchBlock, BatchEncodeError,
    bits::BitWriter,
    frame,
    header::BatchPreamble,
    limits::BatchLimits,
    writer::{put_signature, put_trimmed, put_varint},
};
use crate::types::TxEnvelope;

pub(super) fn encode(batch: &Batch, level: i32) -> Result<Bytes, BatchEncodeError> {
    let limits = BatchLimits::default();
    if batch.blocks.is_empty() {
        return Err(BatchEncodeError::Empty);
    }
    if batch.first_block == 0 {
        return Err(BatchEncodeError::Block { number: 0, problem: "it is the genesis block" });
    }
    if batch.first_block.checked_add(batch.blocks.len() as u64).is_none() {
        return Err(BatchEncodeError::Block {
            number: batch.first_block,
            problem: "block numbers over 64 bits",
        });
    }
    let transaction_count = batch.transaction_count();
    check(batch.blocks.len(), limits.max_blocks, "blocks")?;
    check(transaction_count, limits.max_transactions, "transactions")?;

    let mut columns = Columns::new(batch);
    for (number, block) in (batch.first_block..).zip(&batch.blocks) {
        columns.push_block(number, block)?;
    }
    check(columns.access_list_entries, limits.max_access_list_entries, "access list entries")?;
    let joined = columns.join();
    check(joined.len(), limits.max_decoded, "column bytes")?;
    let frame = frame::compress(&joined, level)?;

    let preamble = BatchPreamble {
        chain_id: batch.chain_id,
        first_block: batch.first_block,
        parent_hash: batch.parent_hash,
        deposits_start: batch.deposits_start,
        last_block_hash: batch.last_block_hash,
        state_root: batch.state_root,
        block_count: batch.blocks.len(),
        transaction_count,
    };
    let mut out = Vec::new();
    preamble.write(frame.len(), &mut out);
    out.extend_from_slice(&frame);
    out.extend_from_slice(&columns.signatures);
    out.extend_from_slice(&columns.authorization_signatures);
    check(out.len(), limits.max_encoded, "bytes")?;
    Ok(out.into())
}

const fn check(size: usize, limit: usize, what: &'static str) -> Result<(), BatchEncodeError> {
    if size > limit { Err(BatchEncodeError::OverLimit { what, size, limit }) } else { Ok(()) }
}

/// The columns while they grow.
#[derive(Debug, Default)]
struct Columns {
    chain_id: u64,
    last_timestamp: u64,
    last_deposits_end: u64,
    access_list_entries: usize,

    timestamps: Vec<u8>,
    deposits_ends: Vec<u8>,
    transaction_counts: Vec<u8>,
    types: Vec<u8>,
    chain_id_flags: BitWriter,
    parities: BitWriter,
    nonces: Vec<u8>,
    gas_limits: Vec<u8>,
    fees: Vec<u8>,
    priority_fees: Vec<u8>,
    addresses: AddressBook,
    recipients: Vec<u8>,
    value_lengths: Vec<u8>,
    values: Vec<u8>,
    input_lengths: Vec<u8>,
    inputs: Vec<u8>,
    access_list_lengths: Vec<u8>,
    access_list_addresses: Vec<u8>,
    access_list_key_counts: Vec<u8>,
    access_list_keys: Vec<u8>,
    authorization_counts: Vec<u8>,
    authorization_chain_id_lengths: Vec<u8>,
    authorization_chain_ids: Vec<u8>,
    authorization_addresses: Vec<u8>,
    authorization_nonces: Vec<u8>,
    authorization_parities: Vec<u8>,

    signatures: Vec<u8>,
    authorization_signatures: Vec<u8>,
}

impl Columns {
    fn new(batch: &Batch) -> Self {
        Self {
            chain_id: batch.chain_id,
            last_deposits_end: batch.deposits_start,
            ..Self::default()
        }
    }

    fn push_block(&mut self, number: u64, block: &BatchBlock) -> Result<(), BatchEncodeError> {
        let step = |from: u64, to: u64, problem| {
            to.checked_sub(from).ok_or(BatchEncodeError::Block { number, problem })
        };
        let later = step(self.last_timestamp, block.timestamp, "its timestamp goes back")?;
        let consumed =
            step(self.last_deposits_end, block.deposits_end, "its deposits end goes back")?;
        put_varint(&mut self.timestamps, later);
        put_varint(&mut self.deposits_ends, consumed);
        put_varint(&mut self.transaction_counts, block.transactions.len() as u64);
        self.last_timestamp = block.timestamp;
        self.last_deposits_end = block.deposits_end;
        for tx in &block.transactions {
            self.push(tx).map_err(|problem| BatchEncodeError::Transaction {
                block: number,
                hash: tx.hash(),
                problem,
            })?;
        }
        Ok(())
    }

    fn push(&mut self, tx: &TxEnvelope) -> Result<(), &'static str> {
        match tx {
            TxEnvelope::Legacy(tx) => {
                self.chain_id_flags.push(tx.tx().chain_id.is_some());
                self.push_common(0, tx, None)
            }
            TxEnvelope::Eip2930(tx) => {
                self.push_common(1, tx, None)?;
                self.push_access_list(&tx.tx().access_list);
                Ok(())
            }
            TxEnvelope::Eip1559(tx) => {
                self.push_common(2, tx, Some(tx.tx().max_priority_fee_per_gas))?;
                self.push_access_list(&tx.tx().access_list);
                Ok(())
            }
            TxEnvelope::Eip7702(tx) => {
                self.push_common(4, tx, Some(tx.tx().max_priority_fee_per_gas))?;
                self.push_access_list(&tx.tx().access_list);
                self.push_authorizations(&tx.tx().authorization_list);
                Ok(())
            }
            TxEnvelope::Eip4844(_) => Err("a batch holds no blob transactions"),
            TxEnvelope::Deposit(_) => Err("deposits come from L1, not from batches"),
        }
    }

    fn push_common<T: Transaction>(
        &mut self,
        ty: u8,
        signed: &Signed<T>,
        priority_fee: Option<u128>,
    ) -> Result<(), &'static str> {
        let tx = signed.tx();
        if tx.chain_id().is_some_and(|id| id != self.chain_id) {
            return Err("it is signed for another chain");
        }
        self.types.push(ty);
        self.parities.push(signed.signature().v());
        put_signature(&mut self.signatures, &signed.signature().r(), &signed.signature().s());
        put_varint(&mut self.nonces, tx.nonce());
        put_varint(&mut self.gas_limits, tx.gas_limit());
        put_varint(&mut self.fees, tx.max_fee_per_gas());
        if let Some(fee) = priority_fee {
            put_varint(&mut self.priority_fees, fee);
        }
        let recipient = tx.to().map_or(0, |to| self.addresses.index(to) + 1);
        put_varint(&mut self.recipients, recipient);
        put_trimmed(&mut self.value_lengths, &mut self.values, &tx.value());
        put_varint(&mut self.input_lengths, tx.input().len() as u64);
        self.inputs.extend_from_slice(tx.input());
        Ok(())
    }

    fn push_access_list(&mut self, list: &AccessList) {
        put_varint(&mut self.access_list_lengths, list.len() as u64);
        self.access_list_entries += list.len();
        for entry in list.iter() {
            put_varint(&mut self.access_list_addresses, self.addresses.index(entry.address));
            put_varint(&mut self.access_list_key_counts, entry.storage_keys.len() as u64);
            for key in &entry.storage_keys {
                self.access_list_keys.extend_from_slice(key.as_slice());
            }
        }
    }

    fn push_authorizations(&mut self, list: &[SignedAuthorization]) {
        put_varint(&mut self.authorization_counts, list.len() as u64);
        for signed in list {
            let authorization = signed.inner();
            put_trimmed(
                &mut self.authorization_chain_id_lengths,
                &mut self.authorization_chain_ids,
                &authorization.chain_id,
            );
            let address = self.addresses.index(authorization.address);
            put_varint(&mut self.authorization_addresses, address);
            put_varint(&mut self.authorization_nonces, authorization.nonce);
            self.authorization_parities.push(signed.y_parity());
            put_signature(&mut self.authorization_signatures, &signed.r(), &signed.s());
        }
    }

    /// The columns in the format's order.
    fn join(&self) -> Vec<u8> {
        let mut address_count = Vec::new();
        put_varint(&mut address_count, self.addresses.count());
        [
            self.timestamps.as_slice(),
            &self.deposits_ends,
            &self.transaction_counts,
            &self.types,
            self.chain_id_flags.bytes(),
            self.parities.bytes(),
            &self.nonces,
            &self.gas_limits,
            &self.fees,
            &self.priority_fees,
            &address_count,
            &self.addresses.bytes,
            &self.recipients,
            &self.value_lengths,
            &self.values,
            &self.input_lengths,
            &self.inputs,
            &self.access_list_lengths,
            &self.access_list_addresses,
            &self.access_list_key_counts,
            &self.access_list_keys,
            &self.authorization_counts,
            &self.authorization_chain_id_lengths,
            &self.authorization_chain_ids,
            &self.authorization_addresses,
            &self.authorization_nonces,
            &self.authorization_parities,
        ]
        .concat()
    }
}

/// Distinct addresses in the order of their first use.
#[derive(Debug, Default)]
struct AddressBook {
    indexes: HashMap<Address, u64>,
    bytes: Vec<u8>,
}

impl AddressBook {
    fn index(&mut self, address: Address) -> u64 {
        let next = self.count();
        *self.indexes.entry(address).or_insert_with(|| {
            self.bytes.extend_from_slice(address.as_slice());
            next
        })
    }

    fn count(&self) -> u64 {
        self.indexes.len() as u64
    }
}

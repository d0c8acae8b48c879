//! Encoding: every transaction's fields are appended to their columns, then the columns are joined
//! in the format's order.

use alloy::{
    consensus::{Signed, Transaction},
    eips::{eip2930::AccessList, eip7702::SignedAuthorization},
    primitives::{B256, Bytes, U256},
};

use super::{
    Batch, BatchBlock, BatchEncodeError, addresses::AddressBook, dictionary::BatchDictionary,
    frame, header::BatchPreamble, inputs::Inputs, limits::BatchLimits, numbers::Numbers,
    transactions::LEGACY_UNPROTECTED, writer::put_varint,
};
use crate::types::{BatchPayload, TxEnvelope};

pub(super) fn encode(
    batch: &Batch,
    level: i32,
    dictionary: &BatchDictionary,
) -> Result<Bytes, BatchEncodeError> {
    let limits = BatchLimits::default();
    let columns = Columns::of(batch)?;
    let frame = frame::compress(&columns.join()?, level, dictionary)?;
    let mut out = Vec::with_capacity(frame.len() + columns.signatures.len() + 128);
    let preamble = BatchPreamble {
        payload: BatchPayload::Transactions,
        chain_id: batch.chain_id,
        first_block: batch.first_block,
        parent_hash: batch.parent_hash,
        deposits_start: batch.deposits_start,
        last_block_hash: batch.last_block_hash,
        block_count: batch.blocks.len() as u64,
        transaction_count: batch.transaction_count() as u64,
    };
    preamble.write(dictionary, &mut out);
    out.extend_from_slice(&frame);
    out.extend_from_slice(&columns.signatures);
    check(out.len(), limits.max_encoded, "bytes")?;
    Ok(out.into())
}

pub(super) const fn check(
    size: usize,
    limit: usize,
    what: &'static str,
) -> Result<(), BatchEncodeError> {
    if size > limit { Err(BatchEncodeError::OverLimit { what, size, limit }) } else { Ok(()) }
}

/// The columns while they grow.
#[derive(Debug, Default)]
pub(super) struct Columns {
    chain_id: u64,
    last_timestamp: u64,
    last_deposits_end: u64,
    last_nonce: u64,
    access_list_entries: usize,
    authorizations: usize,
    /// Of inputs and of access lists' keys.
    input_bytes: usize,

    timestamps: Vec<u8>,
    deposits_ends: Vec<u8>,
    transaction_counts: Vec<u8>,
    types: Vec<u8>,
    nonces: Vec<u8>,
    gas_limits: Numbers,
    fees: Numbers,
    priority_fees: Numbers,
    recipients: Vec<u8>,
    values: Numbers,
    access_list_lengths: Vec<u8>,
    access_list_key_counts: Vec<u8>,
    access_list_addresses: Vec<u8>,
    authorization_counts: Vec<u8>,
    authorization_chain_ids: Numbers,
    authorization_nonces: Vec<u8>,
    authorization_parities: Vec<u8>,
    authorization_rs: Numbers,
    authorization_ss: Numbers,
    authorization_addresses: Vec<u8>,
    inputs: Inputs,
    addresses: AddressBook,

    signatures: Vec<u8>,
}

impl Columns {
    /// The columns of a batch. Addresses are named column by column, so the transactions are gone through as often as there are columns with
    /// addresses.
    pub(super) fn of(batch: &Batch) -> Result<Self, BatchEncodeError> {
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
        check(batch.blocks.len(), limits.max_blocks, "blocks")?;
        check(batch.transaction_count(), limits.max_transactions, "transactions")?;

        let mut columns = Self {
            chain_id: batch.chain_id,
            last_deposits_end: batch.deposits_start,
            ..Self::default()
        };
        // (Not the other way around: that would count past the last number.)
        for (block, number) in batch.blocks.iter().zip(batch.first_block..) {
            columns.push_block(number, block)?;
        }
        let transactions = || batch.blocks.iter().flat_map(|block| &block.transactions);
        for list in transactions().filter_map(Transaction::access_list) {
            columns.push_access_list(list);
        }
        for list in transactions().filter_map(Transaction::authorization_list) {
            columns.push_authorizations(list);
        }
        for tx in transactions() {
            columns.inputs.push(tx.input(), tx.is_create(), &mut columns.addresses);
            columns.input_bytes += tx.input().len();
        }
        for entry in transactions().filter_map(Transaction::access_list).flat_map(|list| &list.0) {
            for key in &entry.storage_keys {
                columns.inputs.push_key(key, &mut columns.addresses);
                columns.input_bytes += B256::len_bytes();
            }
        }
        check(columns.access_list_entries, limits.max_access_list_entries, "access list entries")?;
        check(columns.authorizations, limits.max_authorizations, "authorizations")?;
        check(columns.input_bytes, limits.max_decoded, "bytes of inputs and keys")?;
        Ok(columns)
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
                let ty = if tx.tx().chain_id.is_some() { 0 } else { LEGACY_UNPROTECTED };
                self.push_common(ty, tx)
            }
            TxEnvelope::Eip2930(tx) => self.push_common(1, tx),
            TxEnvelope::Eip1559(tx) => self.push_common(2, tx),
            TxEnvelope::Eip7702(tx) => self.push_common(4, tx),
            TxEnvelope::Eip4844(_) => Err("a batch holds no blob transactions"),
            TxEnvelope::Deposit(_) => Err("deposits come from L1, not from batches"),
        }
    }

    fn push_common<T: Transaction>(
        &mut self,
        ty: u8,
        signed: &Signed<T>,
    ) -> Result<(), &'static str> {
        let tx = signed.tx();
        if tx.chain_id().is_some_and(|id| id != self.chain_id) {
            return Err("it is signed for another chain");
        }
        self.push_signature(signed)?;
        self.types.push(ty);
        let nonce = tx.nonce();
        let step =
            if Some(nonce) == self.last_nonce.checked_add(1) { 0 } else { u128::from(nonce) + 1 };
        put_varint(&mut self.nonces, step);
        self.last_nonce = nonce;
        self.gas_limits.push(U256::from(tx.gas_limit()));
        let fee = tx.max_fee_per_gas();
        self.fees.push(U256::from(fee));
        match tx.max_priority_fee_per_gas() {
            Some(priority_fee) if priority_fee == fee => self.priority_fees.push_same(),
            Some(priority_fee) => self.priority_fees.push(U256::from(priority_fee)),
            None => {}
        }
        self.addresses.refer(&mut self.recipients, tx.to());
        self.values.push(tx.value());
        Ok(())
    }

    /// EIP-2098's form.
    fn push_signature<T>(&mut self, signed: &Signed<T>) -> Result<(), &'static str> {
        let signature = signed.signature();
        if signature.s().bit(255) {
            return Err("its signature's s is over half of the group's order, which EIP-2 forbids");
        }
        let s: U256 = signature.s() | (U256::from(signature.v()) << 255);
        self.signatures.extend_from_slice(&signature.r().to_be_bytes::<32>());
        self.signatures.extend_from_slice(&s.to_be_bytes::<32>());
        Ok(())
    }

    fn push_access_list(&mut self, list: &AccessList) {
        put_varint(&mut self.access_list_lengths, list.len() as u64);
        self.access_list_entries += list.len();
        for entry in list.iter() {
            put_varint(&mut self.access_list_key_counts, entry.storage_keys.len() as u64);
            self.addresses.refer(&mut self.access_list_addresses, Some(entry.address));
        }
    }

    fn push_authorizations(&mut self, list: &[SignedAuthorization]) {
        put_varint(&mut self.authorization_counts, list.len() as u64);
        self.authorizations += list.len();
        for signed in list {
            let authorization = signed.inner();
            self.authorization_chain_ids.push(authorization.chain_id);
            put_varint(&mut self.authorization_nonces, authorization.nonce);
            self.authorization_parities.push(signed.y_parity());
            self.addresses.refer(&mut self.authorization_addresses, Some(authorization.address));
            self.authorization_rs.push(signed.r());
            self.authorization_ss.push(signed.s());
        }
    }

    /// The columns in the format's order.
    pub(super) fn join(&self) -> Result<Vec<u8>, BatchEncodeError> {
        let mut joined = Vec::new();
        let mut put = |columns: &[&[u8]]| {
            for column in columns {
                joined.extend_from_slice(column);
            }
        };
        put(&[&self.timestamps, &self.deposits_ends, &self.transaction_counts]);
        put(&[&self.types, &self.nonces]);
        put(&self.gas_limits.columns());
        put(&self.fees.columns());
        put(&self.priority_fees.columns());
        put(&[&self.recipients]);
        put(&self.values.columns());
        put(&[&self.access_list_lengths, &self.access_list_key_counts]);
        put(&[&self.access_list_addresses, &self.authorization_counts]);
        put(&self.authorization_chain_ids.columns());
        put(&[&self.authorization_nonces, &self.authorization_parities]);
        put(&self.authorization_rs.columns());
        put(&self.authorization_ss.columns());
        put(&[&self.authorization_addresses]);
        put(&self.inputs.columns());
        put(&[self.addresses.bytes()]);
        check(joined.len(), BatchLimits::default().max_decoded, "column bytes")?;
        Ok(joined)
    }
}

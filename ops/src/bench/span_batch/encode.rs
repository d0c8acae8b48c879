//! Writing a span batch.

use alloy::{
    consensus::{Transaction, Typed2718},
    eips::eip7702::SignedAuthorization,
    primitives::{Signature, U256},
    rlp::{BufMut, Encodable, Header},
};
use millrace_proto::{Batch, TxEnvelope};

use super::{CHECK, L1_ORIGIN, SPAN_BATCH, TIMESTAMP};

/// A span batch as it is put into a channel, before compression.
pub(in crate::bench) fn encode(batch: &Batch) -> Vec<u8> {
    let blocks = &batch.blocks;
    let transactions = || blocks.iter().flat_map(|block| &block.transactions);
    let signatures = || transactions().filter_map(TxEnvelope::signature);
    let mut out = vec![SPAN_BATCH];
    // Prefix.
    put_varint(&mut out, TIMESTAMP);
    put_varint(&mut out, L1_ORIGIN);
    out.extend_from_slice(&[1; CHECK]);
    out.extend_from_slice(&[2; CHECK]);
    // Payload.
    put_varint(&mut out, blocks.len() as u64);
    put_bits(&mut out, blocks.iter().map(|_| false));
    for block in blocks {
        put_varint(&mut out, block.transactions.len() as u64);
    }
    put_bits(&mut out, transactions().map(Transaction::is_create));
    put_bits(&mut out, signatures().map(Signature::v));
    for signature in signatures() {
        out.extend_from_slice(&signature.r().to_be_bytes::<32>());
        out.extend_from_slice(&signature.s().to_be_bytes::<32>());
    }
    for to in transactions().filter_map(Transaction::to) {
        out.extend_from_slice(to.as_slice());
    }
    for tx in transactions() {
        put_data(&mut out, tx);
    }
    for tx in transactions() {
        put_varint(&mut out, tx.nonce());
    }
    for tx in transactions() {
        put_varint(&mut out, tx.gas_limit());
    }
    put_bits(&mut out, transactions().filter(|tx| tx.ty() == 0).map(|tx| tx.chain_id().is_some()));
    // A channel is a list of batches, each as an RLP string.
    let mut channel = Vec::with_capacity(out.len() + 4);
    out.as_slice().encode(&mut channel);
    channel
}

/// The fields that are in no column: `tx_data`.
fn put_data(out: &mut Vec<u8>, tx: &TxEnvelope) {
    let (value, fee, data) = (tx.value(), U256::from(tx.max_fee_per_gas()), tx.input());
    match tx {
        TxEnvelope::Legacy(_) => put_list(out, &[&value, &fee, data]),
        TxEnvelope::Eip2930(tx) => {
            out.push(1);
            put_list(out, &[&value, &fee, data, &tx.tx().access_list]);
        }
        TxEnvelope::Eip1559(tx) => {
            out.push(2);
            let tip = U256::from(tx.tx().max_priority_fee_per_gas);
            put_list(out, &[&value, &tip, &fee, data, &tx.tx().access_list]);
        }
        TxEnvelope::Eip7702(tx) => {
            out.push(4);
            let tip = U256::from(tx.tx().max_priority_fee_per_gas);
            let authorizations: &Vec<SignedAuthorization> = &tx.tx().authorization_list;
            put_list(out, &[&value, &tip, &fee, data, &tx.tx().access_list, authorizations]);
        }
        // In no batch.
        TxEnvelope::Eip4844(_) | TxEnvelope::Deposit(_) => {}
    }
}

fn put_list(out: &mut Vec<u8>, fields: &[&dyn Encodable]) {
    let payload_length = fields.iter().map(|field| field.length()).sum();
    Header { list: true, payload_length }.encode(out);
    for field in fields {
        field.encode(out as &mut dyn BufMut);
    }
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A big-endian integer whose lowest bit is the first.
fn put_bits(out: &mut Vec<u8>, bits: impl Iterator<Item = bool>) {
    let bits: Vec<bool> = bits.collect();
    let byte = |bits: &[bool]| bits.iter().rev().fold(0, |byte, bit| byte << 1 | u8::from(*bit));
    let little: Vec<u8> = bits.chunks(8).map(byte).collect();
    out.extend(little.iter().rev());
}

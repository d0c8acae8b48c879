//! Decoding the transactions' columns.

use alloy::{
    consensus::{Signed, TxEip1559, TxEip2930, TxEip7702, TxLegacy},
    eips::{
        eip2930::{AccessList, AccessListItem},
        eip7702::{Authorization, SignedAuthorization},
    },
    primitives::{Address, B256, Bytes, Signature, TxKind, U256},
};

use super::{
    BatchDecodeError,
    error::BatchColumn as Column,
    header::{BatchPreamble, SIGNATURE_LEN},
    limits::BatchLimits,
    reader::{Reader, sum},
};
use crate::types::TxEnvelope;

/// Every iterator below was checked, when its column was read, to give an item for each transaction
/// that asks for one.
const COUNTED: &str = "the column was read with the number of transactions that have it";

/// Reads all columns from the types on, and all signatures.
pub(super) fn read_transactions(
    mut columns: Reader<'_>,
    mut signatures: Reader<'_>,
    preamble: &BatchPreamble,
    limits: &BatchLimits,
) -> Result<Vec<TxEnvelope>, BatchDecodeError> {
    let count = preamble.transaction_count;
    let reader = &mut columns;

    reader.column(Column::Types);
    let types = reader.many(count, |reader| match reader.byte()? {
        ty @ (0 | 1 | 2 | 4) => Ok(ty),
        _ => Err(reader.invalid("a type that batches do not hold")),
    })?;
    let from_type = |least: u8| types.iter().filter(|ty| **ty >= least).count();
    let (with_list, with_tip, with_authorizations) = (from_type(1), from_type(2), from_type(4));

    reader.column(Column::ChainIdFlags);
    let protected = reader.bits(count - with_list)?;
    let mut protected = protected.iter();
    let mut common = read_common(reader, &mut signatures, count, with_tip)?;
    let addresses = common.addresses;
    let mut lists = read_access_lists(reader, with_list, &addresses, limits)?.into_iter();
    let mut authorizations =
        read_authorizations(reader, &mut signatures, with_authorizations, &addresses)?.into_iter();
    columns.finish()?;
    signatures.finish()?;

    let chain_id = preamble.chain_id;
    types
        .into_iter()
        .zip(common.fields)
        .map(|(ty, fields)| {
            let Fields { nonce, gas_limit, fee, to, value, input, signature } = fields;
            let tip = &mut common.priority_fees;
            Ok(match ty {
                0 => {
                    let chain_id = protected.next().expect(COUNTED).then_some(chain_id);
                    let tx =
                        TxLegacy { chain_id, nonce, gas_price: fee, gas_limit, to, value, input };
                    TxEnvelope::Legacy(Signed::new_unhashed(tx, signature))
                }
                1 => {
                    let tx = TxEip2930 {
                        chain_id,
                        nonce,
                        gas_price: fee,
                        gas_limit,
                        to,
                        value,
                        access_list: lists.next().expect(COUNTED),
                        input,
                    };
                    TxEnvelope::Eip2930(Signed::new_unhashed(tx, signature))
                }
                2 => {
                    let tx = TxEip1559 {
                        chain_id,
                        nonce,
                        gas_limit,
                        max_fee_per_gas: fee,
                        max_priority_fee_per_gas: tip.next().expect(COUNTED),
                        to,
                        value,
                        access_list: lists.next().expect(COUNTED),
                        input,
                    };
                    TxEnvelope::Eip1559(Signed::new_unhashed(tx, signature))
                }
                _ => {
                    let tx = TxEip7702 {
                        chain_id,
                        nonce,
                        gas_limit,
                        max_fee_per_gas: fee,
                        max_priority_fee_per_gas: tip.next().expect(COUNTED),
                        to: to.into_to().ok_or(BatchDecodeError::Invalid {
                            column: Column::Recipients,
                            problem: "a set-code transaction without a recipient",
                        })?,
                        value,
                        access_list: lists.next().expect(COUNTED),
                        authorization_list: authorizations.next().expect(COUNTED),
                        input,
                    };
                    TxEnvelope::Eip7702(Signed::new_unhashed(tx, signature))
                }
            })
        })
        .collect()
}

/// What every transaction has.
struct Fields {
    nonce: u64,
    gas_limit: u64,
    fee: u128,
    to: TxKind,
    value: U256,
    input: Bytes,
    signature: Signature,
}

/// The columns from the parities to the inputs.
struct Common {
    fields: Vec<Fields>,
    priority_fees: std::vec::IntoIter<u128>,
    addresses: Vec<Address>,
}

fn read_common(
    reader: &mut Reader<'_>,
    signatures: &mut Reader<'_>,
    count: usize,
    with_tip: usize,
) -> Result<Common, BatchDecodeError> {
    reader.column(Column::Parities);
    let parities = reader.bits(count)?;
    let parities = parities.iter();
    reader.column(Column::Nonces);
    let nonces = reader.many(count, Reader::varint)?;
    reader.column(Column::GasLimits);
    let gas_limits = reader.many(count, Reader::varint)?;
    reader.column(Column::Fees);
    let fees = reader.many(count, Reader::varint_u128)?;
    reader.column(Column::PriorityFees);
    let priority_fees = reader.many(with_tip, Reader::varint_u128)?.into_iter();

    reader.column(Column::Addresses);
    let distinct = reader.count()?;
    reader.require(distinct, Address::len_bytes())?;
    let addresses = reader.many(distinct, Reader::address)?;
    reader.column(Column::Recipients);
    let recipients = reader.many(count, |reader| match reader.count()?.checked_sub(1) {
        None => Ok(TxKind::Create),
        Some(index) => lookup(reader, &addresses, index).map(TxKind::Call),
    })?;

    let values = read_trimmed(reader, Column::ValueLengths, Column::Values, count)?;
    reader.column(Column::InputLengths);
    let lengths = reader.many(count, Reader::count)?;
    reader.column(Column::Inputs);
    reader.require(sum(&lengths), 1)?;
    let inputs = lengths
        .into_iter()
        .map(|length| reader.take(length).map(Bytes::copy_from_slice))
        .collect::<Result<Vec<_>, _>>()?;

    signatures.require(count, SIGNATURE_LEN)?;
    let fields = parities
        .zip(nonces)
        .zip(gas_limits)
        .zip(fees)
        .zip(recipients)
        .zip(values)
        .zip(inputs)
        .map(|((((((parity, nonce), gas_limit), fee), to), value), input)| {
            let (r, s) = read_signature(signatures)?;
            let signature = Signature::new(r, s, parity);
            Ok(Fields { nonce, gas_limit, fee, to, value, input, signature })
        })
        .collect::<Result<_, BatchDecodeError>>()?;
    Ok(Common { fields, priority_fees, addresses })
}

fn read_access_lists(
    reader: &mut Reader<'_>,
    count: usize,
    addresses: &[Address],
    limits: &BatchLimits,
) -> Result<Vec<AccessList>, BatchDecodeError> {
    reader.column(Column::AccessListLengths);
    let lengths = reader.many(count, Reader::count)?;
    let entries = sum(&lengths);
    if entries > limits.max_access_list_entries {
        return Err(BatchDecodeError::OverLimit {
            what: "access list entries",
            size: entries as u64,
            limit: limits.max_access_list_entries,
        });
    }
    reader.column(Column::AccessListAddresses);
    let entry_addresses = reader.many(entries, |reader| read_address(reader, addresses))?;
    reader.column(Column::AccessListKeyCounts);
    let key_counts = reader.many(entries, Reader::count)?;
    reader.column(Column::AccessListKeys);
    reader.require(sum(&key_counts), B256::len_bytes())?;
    let mut entries = entry_addresses.into_iter().zip(key_counts).map(|(address, keys)| {
        Ok(AccessListItem { address, storage_keys: reader.many(keys, Reader::hash)? })
    });
    lengths
        .into_iter()
        .map(|length| entries.by_ref().take(length).collect::<Result<_, _>>().map(AccessList))
        .collect()
}

fn read_authorizations(
    reader: &mut Reader<'_>,
    signatures: &mut Reader<'_>,
    count: usize,
    addresses: &[Address],
) -> Result<Vec<Vec<SignedAuthorization>>, BatchDecodeError> {
    reader.column(Column::AuthorizationCounts);
    let counts = reader.many(count, Reader::count)?;
    let all = sum(&counts);
    signatures.require(all, SIGNATURE_LEN)?;
    let chain_ids = read_trimmed(
        reader,
        Column::AuthorizationChainIdLengths,
        Column::AuthorizationChainIds,
        all,
    )?;
    reader.column(Column::AuthorizationAddresses);
    let delegates = reader.many(all, |reader| read_address(reader, addresses))?;
    reader.column(Column::AuthorizationNonces);
    let nonces = reader.many(all, Reader::varint)?;
    reader.column(Column::AuthorizationParities);
    let parities = reader.take(all)?;
    let mut authorizations = chain_ids.into_iter().zip(delegates).zip(nonces).zip(parities).map(
        |(((chain_id, address), nonce), parity)| {
            let (r, s) = read_signature(signatures)?;
            let inner = Authorization { chain_id, address, nonce };
            Ok(SignedAuthorization::new_unchecked(inner, *parity, r, s))
        },
    );
    counts.into_iter().map(|count| authorizations.by_ref().take(count).collect()).collect()
}

/// `count` integers of up to 32 bytes: a column of their lengths, then one of their bytes.
fn read_trimmed(
    reader: &mut Reader<'_>,
    lengths: Column,
    bytes: Column,
    count: usize,
) -> Result<Vec<U256>, BatchDecodeError> {
    reader.column(lengths);
    let lengths = reader.take(count)?;
    reader.column(bytes);
    lengths.iter().map(|length| reader.trimmed(*length)).collect()
}

fn read_address(
    reader: &mut Reader<'_>,
    addresses: &[Address],
) -> Result<Address, BatchDecodeError> {
    let index = reader.count()?;
    lookup(reader, addresses, index)
}

fn lookup(
    reader: &Reader<'_>,
    addresses: &[Address],
    index: usize,
) -> Result<Address, BatchDecodeError> {
    addresses.get(index).copied().ok_or_else(|| reader.invalid("no address has this index"))
}

fn read_signature(reader: &mut Reader<'_>) -> Result<(U256, U256), BatchDecodeError> {
    Ok((reader.hash()?.into(), reader.hash()?.into()))
}

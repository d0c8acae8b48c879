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
    addresses::References,
    error::BatchColumn as Column,
    header::BatchPreamble,
    inputs::ReadInputs,
    limits::{BatchLimits, within},
    numbers::read_numbers,
    reader::{Reader, sum},
};
use crate::types::TxEnvelope;

/// Every iterator below was checked, when its column was read, to give an item for each transaction
/// that asks for one.
const COUNTED: &str = "the column was read with the number of transactions that have it";

/// The type, in the column of types, of a legacy transaction that is signed for no chain (before EIP-155).
pub(super) const LEGACY_UNPROTECTED: u8 = 5;

/// Reads all columns from the types on, and all signatures: the transactions in order, which are put together as they are taken.
pub(super) fn read_transactions(
    mut columns: Reader<'_>,
    mut signatures: Reader<'_>,
    preamble: &BatchPreamble,
    limits: &BatchLimits,
) -> Result<impl Iterator<Item = Result<TxEnvelope, BatchDecodeError>> + use<>, BatchDecodeError> {
    let count = preamble.transaction_count as usize;
    let reader = &mut columns;
    let mut references = References::default();

    reader.column(Column::Types);
    let types = reader.many(count, |reader| match reader.byte()? {
        ty @ (0 | 1 | 2 | 4 | LEGACY_UNPROTECTED) => Ok(ty),
        _ => Err(reader.invalid("a type that batches do not hold")),
    })?;
    let of_type = |wanted: &[u8]| types.iter().filter(|ty| wanted.contains(ty)).count();
    let (with_list, with_tip, with_authorizations) =
        (of_type(&[1, 2, 4]), of_type(&[2, 4]), of_type(&[4]));

    let fields = read_fields(reader, &mut references, &types, with_tip)?;
    let lists = AccessLists::read(reader, &mut references, with_list, limits)?;
    let authorizations =
        Authorizations::read(reader, &mut references, with_authorizations, limits)?;
    let inputs = ReadInputs::read(reader, &mut references, count, sum(&lists.key_counts), limits)?;
    let addresses = references.addresses(reader)?;
    columns.finish()?;
    let (inputs, keys) = inputs.join(&addresses)?;
    let mut inputs = inputs.into_iter();
    let mut lists = lists.join(keys, &addresses).into_iter();
    let transaction_signatures =
        (0..count).map(|_| read_signature(&mut signatures)).collect::<Result<Vec<_>, _>>()?;
    let mut authorizations = authorizations.join(&addresses).into_iter();
    signatures.finish()?;

    let chain_id = preamble.chain_id;
    let joined = types.into_iter().zip(fields).zip(transaction_signatures).map(
        move |((ty, fields), signature)| {
            let Fields { nonce, gas_limit, fee, priority_fee, to, value } = fields;
            let to = to.map_or(TxKind::Create, |position| TxKind::Call(addresses[position]));
            let input = Bytes::from(inputs.next().expect(COUNTED));
            Ok(match ty {
                0 | LEGACY_UNPROTECTED => {
                    let chain_id = (ty == 0).then_some(chain_id);
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
                        max_priority_fee_per_gas: priority_fee,
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
                        max_priority_fee_per_gas: priority_fee,
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
        },
    );
    Ok(joined)
}

/// What every transaction has, but for its input and its signature.
struct Fields {
    nonce: u64,
    gas_limit: u64,
    fee: u128,
    /// Zero for the types without one.
    priority_fee: u128,
    /// The recipient's position among the addresses; `None` for a creation.
    to: Option<usize>,
    value: U256,
}

/// The columns from the nonces to the values.
fn read_fields(
    reader: &mut Reader<'_>,
    references: &mut References,
    types: &[u8],
    with_tip: usize,
) -> Result<Vec<Fields>, BatchDecodeError> {
    let count = types.len();
    reader.column(Column::Nonces);
    let mut last = 0_u64;
    let nonces = reader.many(count, |reader| {
        let nonce = match reader.varint_u128()?.checked_sub(1) {
            None => last.checked_add(1),
            Some(nonce) => u64::try_from(nonce).ok(),
        };
        last = nonce.ok_or_else(|| reader.invalid("over 64 bits"))?;
        Ok(last)
    })?;
    let gas_limits = read_integers::<u64>(reader, Column::GasLimits, count)?;
    let fees = read_integers::<u128>(reader, Column::Fees, count)?;
    let mut priority_fees = read_numbers(reader, Column::PriorityFees, with_tip)?.into_iter();
    reader.column(Column::Recipients);
    let recipients = reader.many(count, |reader| references.read_optional(reader))?;
    let values = read_integers::<U256>(reader, Column::Values, count)?;

    let fields = nonces.into_iter().zip(gas_limits).zip(fees).zip(recipients).zip(values);
    fields
        .zip(types)
        .map(|(((((nonce, gas_limit), fee), to), value), ty)| {
            let priority_fee = match ty {
                2 | 4 => match priority_fees.next().expect(COUNTED) {
                    None => fee,
                    Some(number) => integer(Column::PriorityFees, number)?,
                },
                _ => 0,
            };
            Ok(Fields { nonce, gas_limit, fee, priority_fee, to, value })
        })
        .collect()
}

/// Numbers that are the same as no other.
fn read_integers<T: TryFrom<U256>>(
    reader: &mut Reader<'_>,
    column: Column,
    count: usize,
) -> Result<Vec<T>, BatchDecodeError> {
    let numbers = read_numbers(reader, column, count)?;
    let number = |number: Option<U256>| {
        integer(column, number.ok_or_else(|| reader.invalid("the same as nothing"))?)
    };
    numbers.into_iter().map(number).collect()
}

fn integer<T: TryFrom<U256>>(column: Column, number: U256) -> Result<T, BatchDecodeError> {
    let problem = "a number that is too large";
    T::try_from(number).map_err(|_| BatchDecodeError::Invalid { column, problem })
}

/// Access lists without their keys.
struct AccessLists {
    lengths: Vec<usize>,
    key_counts: Vec<usize>,
    /// Positions among the addresses.
    addresses: Vec<usize>,
}

impl AccessLists {
    fn read(
        reader: &mut Reader<'_>,
        references: &mut References,
        count: usize,
        limits: &BatchLimits,
    ) -> Result<Self, BatchDecodeError> {
        reader.column(Column::AccessListLengths);
        let lengths = reader.many(count, Reader::count)?;
        let limit = limits.max_access_list_entries;
        let entries = within(sum(&lengths) as u64, limit, "access list entries")?;
        reader.column(Column::AccessListKeyCounts);
        let key_counts = reader.many(entries, Reader::count)?;
        reader.column(Column::AccessListAddresses);
        let addresses = reader.many(entries, |reader| references.read(reader))?;
        Ok(Self { lengths, key_counts, addresses })
    }

    fn join(self, keys: Vec<B256>, addresses: &[Address]) -> Vec<AccessList> {
        let mut keys = keys.into_iter();
        let mut entries =
            self.addresses.into_iter().zip(self.key_counts).map(|(position, count)| {
                AccessListItem {
                    address: addresses[position],
                    storage_keys: keys.by_ref().take(count).collect(),
                }
            });
        let list = |length| AccessList(entries.by_ref().take(length).collect());
        self.lengths.into_iter().map(list).collect()
    }
}

/// Authorizations, column by column.
struct Authorizations {
    counts: Vec<usize>,
    chain_ids: Vec<U256>,
    nonces: Vec<u64>,
    parities: Vec<u8>,
    rs: Vec<U256>,
    ss: Vec<U256>,
    /// Positions among the addresses.
    addresses: Vec<usize>,
}

impl Authorizations {
    fn read(
        reader: &mut Reader<'_>,
        references: &mut References,
        count: usize,
        limits: &BatchLimits,
    ) -> Result<Self, BatchDecodeError> {
        reader.column(Column::AuthorizationCounts);
        let counts = reader.many(count, Reader::count)?;
        let all = within(sum(&counts) as u64, limits.max_authorizations, "authorizations")?;
        let chain_ids = read_integers(reader, Column::AuthorizationChainIds, all)?;
        reader.column(Column::AuthorizationNonces);
        let nonces = reader.many(all, Reader::varint)?;
        reader.column(Column::AuthorizationParities);
        let parities = reader.take(all)?.to_vec();
        let rs = read_integers(reader, Column::AuthorizationSignatures, all)?;
        let ss = read_integers(reader, Column::AuthorizationSignatures, all)?;
        reader.column(Column::AuthorizationAddresses);
        let addresses = reader.many(all, |reader| references.read(reader))?;
        Ok(Self { counts, chain_ids, nonces, parities, rs, ss, addresses })
    }

    fn join(self, addresses: &[Address]) -> Vec<Vec<SignedAuthorization>> {
        let signatures = self.parities.into_iter().zip(self.rs.into_iter().zip(self.ss));
        let fields = self.chain_ids.into_iter().zip(self.nonces).zip(self.addresses);
        let mut authorizations =
            fields.zip(signatures).map(|(((chain_id, nonce), position), (parity, (r, s)))| {
                let inner = Authorization { chain_id, address: addresses[position], nonce };
                SignedAuthorization::new_unchecked(inner, parity, r, s)
            });
        let list = |count| authorizations.by_ref().take(count).collect();
        self.counts.into_iter().map(list).collect()
    }
}

/// EIP-2098's form.
fn read_signature(signatures: &mut Reader<'_>) -> Result<Signature, BatchDecodeError> {
    let (r, mut s): (U256, U256) = (signatures.hash()?.into(), signatures.hash()?.into());
    let parity = s.bit(255);
    s.set_bit(255, false);
    Ok(Signature::new(r, s, parity))
}

//! Reading a span batch: from a channel to transactions in memory.

use alloy::{
    consensus::{Signed, TxEip1559, TxEip2930, TxEip7702, TxLegacy},
    eips::{eip2930::AccessList, eip7702::SignedAuthorization},
    primitives::{Address, Bytes, Signature, TxKind, U256},
    rlp::{Decodable, Header},
};
use eyre::{OptionExt, Result, bail, ensure};
use millrace_proto::TxEnvelope;

use super::{CHECK, SPAN_BATCH};

/// Every transaction takes as many bytes or more.
const SIGNATURE: usize = 64;

/// The transactions of each block of a channel's one span batch, on the chain that is not named in it.
pub(in crate::bench) fn decode(mut channel: &[u8], chain_id: u64) -> Result<Vec<Vec<TxEnvelope>>> {
    let batch = Header::decode_bytes(&mut channel, false)?;
    ensure!(channel.is_empty(), "a channel of more than one batch");
    let mut reader = Reader(batch);
    ensure!(reader.take(1)? == [SPAN_BATCH], "not a span batch");
    // What of the prefix says where the batch belongs is for a chain to compare.
    reader.varint()?;
    reader.varint()?;
    reader.take(2 * CHECK)?;

    let blocks = usize::try_from(reader.varint()?)?;
    ensure!(blocks > 0, "a batch of no blocks");
    reader.bits(blocks)?;
    let counts = reader.many(blocks, |reader| Ok(usize::try_from(reader.varint()?)?))?;
    let count = counts.iter().try_fold(0usize, |sum, count| sum.checked_add(*count));
    let count = count.ok_or_eyre("too many transactions")?;
    let mut transactions = read_transactions(&mut reader, count, chain_id)?.into_iter();
    ensure!(reader.0.is_empty(), "more than a span batch");
    Ok(counts.into_iter().map(|count| transactions.by_ref().take(count).collect()).collect())
}

fn read_transactions(
    reader: &mut Reader<'_>,
    count: usize,
    chain_id: u64,
) -> Result<Vec<TxEnvelope>> {
    ensure!(count <= reader.0.len() / SIGNATURE, "more transactions than there can be");
    let creates = reader.bits(count)?;
    let parities = reader.bits(count)?;
    let signatures: Vec<_> = (0..count)
        .map(|at| {
            let (r, s) = (reader.word()?, reader.word()?);
            Ok(Signature::new(r, s, parities.at(at)))
        })
        .collect::<Result<_>>()?;
    let to: Vec<_> = (0..count)
        .map(|at| match creates.at(at) {
            true => Ok(TxKind::Create),
            false => Ok(TxKind::Call(Address::from_slice(reader.take(Address::len_bytes())?))),
        })
        .collect::<Result<_>>()?;
    let data = reader.many(count, Data::read)?;
    let nonces = reader.many(count, Reader::varint)?;
    let gas_limits = reader.many(count, Reader::varint)?;
    let protected = reader.bits(data.iter().filter(|data| data.ty == 0).count())?;
    let mut legacy = 0;
    let columns = signatures.into_iter().zip(to).zip(nonces).zip(gas_limits);
    data.into_iter()
        .zip(columns)
        .map(|(data, (((signature, to), nonce), gas_limit))| {
            let mut chain_id = Some(chain_id);
            if data.ty == 0 {
                chain_id = chain_id.filter(|_| protected.at(legacy));
                legacy += 1;
            }
            data.join(Columns { chain_id, signature, to, nonce, gas_limit })
        })
        .collect()
}

/// What columns hold of a transaction.
struct Columns {
    /// `None` for one that is signed for no chain.
    chain_id: Option<u64>,
    signature: Signature,
    to: TxKind,
    nonce: u64,
    gas_limit: u64,
}

/// What no column holds of one: `tx_data`. What a type does not have is empty.
#[derive(Default)]
struct Data {
    ty: u8,
    value: U256,
    fee: u128,
    priority_fee: u128,
    input: Bytes,
    access_list: AccessList,
    authorization_list: Vec<SignedAuthorization>,
}

impl Data {
    fn read(reader: &mut Reader<'_>) -> Result<Self> {
        let mut data = Self::default();
        // A list's first byte is 0xc0 or more.
        if let Some((ty, rest)) = reader.0.split_first()
            && *ty < 0xc0
        {
            ensure!(matches!(*ty, 1 | 2 | 4), "a type that span batches do not hold");
            (data.ty, reader.0) = (*ty, rest);
        }
        let mut fields = Header::decode_bytes(&mut reader.0, true)?;
        let fields = &mut fields;
        data.value = Decodable::decode(fields)?;
        if data.ty >= 2 {
            data.priority_fee = Decodable::decode(fields)?;
        }
        data.fee = Decodable::decode(fields)?;
        data.input = Decodable::decode(fields)?;
        if data.ty >= 1 {
            data.access_list = Decodable::decode(fields)?;
        }
        if data.ty == 4 {
            data.authorization_list = Decodable::decode(fields)?;
        }
        ensure!(fields.is_empty(), "more fields than the type has");
        Ok(data)
    }

    fn join(self, columns: Columns) -> Result<TxEnvelope> {
        let Columns { chain_id, signature, to, nonce, gas_limit } = columns;
        let Self { ty, value, fee, priority_fee, input, access_list, authorization_list } = self;
        if ty == 0 {
            let tx = TxLegacy { chain_id, nonce, gas_price: fee, gas_limit, to, value, input };
            return Ok(TxEnvelope::Legacy(Signed::new_unhashed(tx, signature)));
        }
        let chain_id = chain_id.unwrap_or_default();
        Ok(match ty {
            1 => {
                let gas_price = fee;
                let tx = TxEip2930 {
                    chain_id,
                    nonce,
                    gas_price,
                    gas_limit,
                    to,
                    value,
                    access_list,
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
                    access_list,
                    input,
                };
                TxEnvelope::Eip1559(Signed::new_unhashed(tx, signature))
            }
            _ => {
                let TxKind::Call(to) = to else { bail!("a creation that sets code") };
                let tx = TxEip7702 {
                    chain_id,
                    nonce,
                    gas_limit,
                    max_fee_per_gas: fee,
                    max_priority_fee_per_gas: priority_fee,
                    to,
                    value,
                    access_list,
                    authorization_list,
                    input,
                };
                TxEnvelope::Eip7702(Signed::new_unhashed(tx, signature))
            }
        })
    }
}

/// Bytes that are left.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or_eyre("bytes are missing")?;
        self.0 = rest;
        Ok(taken)
    }

    fn word(&mut self) -> Result<U256> {
        Ok(U256::from_be_slice(self.take(32)?))
    }

    /// A `uvarint`: seven bits a byte, lowest first.
    fn varint(&mut self) -> Result<u64> {
        let mut value = 0u64;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.take(1)?[0];
            let bits = u64::from(byte & 0x7f);
            ensure!(bits << shift >> shift == bits, "a number over 64 bits");
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        bail!("a number over 64 bits")
    }

    fn many<T>(
        &mut self,
        count: usize,
        mut read: impl FnMut(&mut Self) -> Result<T>,
    ) -> Result<Vec<T>> {
        ensure!(count <= self.0.len(), "bytes are missing");
        (0..count).map(|_| read(self)).collect()
    }

    /// A list of so many bits: a big-endian integer whose lowest bit is the first.
    fn bits(&mut self, count: usize) -> Result<Bits<'a>> {
        let bytes = self.take(count.div_ceil(8))?;
        let unused =
            bytes.first().is_some_and(|first| !count.is_multiple_of(8) && first >> (count % 8) > 0);
        ensure!(!unused, "more bits than there are things to tell");
        Ok(Bits(bytes))
    }
}

/// A list of bits.
struct Bits<'a>(&'a [u8]);

impl Bits<'_> {
    /// The bit at a place below their count.
    fn at(&self, place: usize) -> bool {
        self.0[self.0.len() - 1 - place / 8] >> (place % 8) & 1 == 1
    }
}

//! Values of the tables that hold blocks.

use std::sync::Arc;

use alloy::{
    consensus::Sealed,
    primitives::{Address, B256, Bytes, Log},
    rlp::{Decodable, Encodable},
};
use millrace_proto::{Header, Receipt, RecoveredTx, SealedHeader, TxType};

use super::codec::{Cursor, DecodeError, put_bytes, put_varint};

/// Hash, then the RLP of the header.
pub(super) fn encode_header(header: &SealedHeader) -> Vec<u8> {
    let mut out = Vec::with_capacity(32 + header.length());
    out.extend_from_slice(header.seal().as_slice());
    header.encode(&mut out);
    out
}

pub(super) fn decode_header(value: &[u8]) -> Result<SealedHeader, DecodeError> {
    let mut cursor = Cursor(value);
    let hash = cursor.hash()?;
    let header = Header::decode(&mut cursor.0).map_err(|_| DecodeError("not a header"))?;
    cursor.end()?;
    Ok(Sealed::new_unchecked(header, hash))
}

/// The hash alone, without decoding the header.
pub(super) fn decode_header_hash(value: &[u8]) -> Result<B256, DecodeError> {
    Cursor(value).hash()
}

/// Count; for each transaction its sender, length and EIP-2718 bytes.
pub(super) fn encode_body(transactions: &[Arc<RecoveredTx>]) -> Vec<u8> {
    let bytes: usize = transactions.iter().map(|tx| tx.encoded().len() + 24).sum();
    let mut out = Vec::with_capacity(bytes + 4);
    put_varint(&mut out, transactions.len() as u64);
    for tx in transactions {
        out.extend_from_slice(tx.sender().as_slice());
        put_bytes(&mut out, tx.encoded());
    }
    out
}

pub(super) fn decode_body(value: Bytes) -> Result<Vec<Arc<RecoveredTx>>, DecodeError> {
    let mut cursor = Cursor(&value);
    let count = cursor.count(21)?;
    let mut transactions = Vec::with_capacity(count);
    for _ in 0..count {
        let sender = Address::from(cursor.array()?);
        let raw = value.slice_ref(cursor.bytes()?);
        let tx = RecoveredTx::decode_trusted(raw, sender)
            .map_err(|_| DecodeError("not a transaction"))?;
        transactions.push(Arc::new(tx));
    }
    cursor.end()?;
    Ok(transactions)
}

/// Count; for each receipt its type, status, cumulative gas, and logs (address, topics, data).
pub(super) fn encode_receipts(receipts: &[Receipt]) -> Vec<u8> {
    let mut out = Vec::new();
    put_varint(&mut out, receipts.len() as u64);
    for receipt in receipts {
        out.push(receipt.tx_type.into());
        out.push(u8::from(receipt.success));
        put_varint(&mut out, receipt.cumulative_gas_used);
        put_varint(&mut out, receipt.logs.len() as u64);
        for log in &receipt.logs {
            out.extend_from_slice(log.address.as_slice());
            out.push(log.topics().len() as u8);
            log.topics().iter().for_each(|topic| out.extend_from_slice(topic.as_slice()));
            put_bytes(&mut out, &log.data.data);
        }
    }
    out
}

pub(super) fn decode_receipts(value: Bytes) -> Result<Vec<Receipt>, DecodeError> {
    let mut cursor = Cursor(&value);
    let count = cursor.count(4)?;
    let mut receipts = Vec::with_capacity(count);
    for _ in 0..count {
        let tx_type =
            TxType::try_from(cursor.byte()?).map_err(|_| DecodeError("not a transaction type"))?;
        let success = match cursor.byte()? {
            0 => false,
            1 => true,
            _ => return Err(DecodeError("not a receipt status")),
        };
        let cumulative_gas_used = cursor.varint()?;
        let count = cursor.count(22)?;
        let mut logs = Vec::with_capacity(count);
        for _ in 0..count {
            logs.push(decode_log(&value, &mut cursor)?);
        }
        receipts.push(Receipt { tx_type, success, cumulative_gas_used, logs });
    }
    cursor.end()?;
    Ok(receipts)
}

fn decode_log(value: &Bytes, cursor: &mut Cursor<'_>) -> Result<Log, DecodeError> {
    let address = Address::from(cursor.array()?);
    let count = cursor.byte()?;
    let topics = (0..count).map(|_| cursor.hash()).collect::<Result<_, _>>()?;
    let data = value.slice_ref(cursor.bytes()?);
    Log::new(address, topics, data).ok_or(DecodeError("a log has more than four topics"))
}

#[cfg(test)]
mod tests {
    use alloy::primitives::U256;
    use millrace_proto::{Deposit, TxEnvelope};

    use super::*;

    fn log(topics: usize) -> Log {
        let topics = vec![B256::repeat_byte(7); topics];
        Log::new_unchecked(Address::repeat_byte(1), topics, Bytes::from_static(b"data"))
    }

    #[test]
    fn receipts_come_back() {
        let receipts: Vec<_> = [0u8, 1, 2, 3, 4, 126]
            .into_iter()
            .map(|ty| Receipt {
                tx_type: TxType::try_from(ty).expect("a known type"),
                success: ty % 2 == 0,
                cumulative_gas_used: 21_000 * u64::from(ty),
                logs: (0..usize::from(ty) % 5).map(log).collect(),
            })
            .collect();
        let encoded = encode_receipts(&receipts);
        assert_eq!(decode_receipts(encoded.clone().into()), Ok(receipts));
        for length in 0..encoded.len() {
            assert!(decode_receipts(encoded[..length].to_vec().into()).is_err());
        }
    }

    #[test]
    fn bodies_come_back() {
        let deposit = Deposit {
            index: 3,
            from: Address::repeat_byte(1),
            to: Address::repeat_byte(2),
            value: U256::from(5),
            gas_limit: 21_000,
            data: Bytes::from_static(b"hi"),
        };
        let tx: TxEnvelope = deposit.to_tx(Address::repeat_byte(9)).into();
        let tx = Arc::new(RecoveredTx::new_unchecked(tx, deposit.from));
        let body = vec![Arc::clone(&tx), tx];
        let encoded = encode_body(&body);
        assert_eq!(decode_body(encoded.clone().into()).expect("a body"), body);
        for length in 0..encoded.len() {
            assert!(decode_body(encoded[..length].to_vec().into()).is_err());
        }
    }

    #[test]
    fn headers_come_back_with_their_hash() {
        let header = Header { number: 9, base_fee_per_gas: Some(7), ..Header::default() };
        let header = Sealed::new(header);
        let encoded = encode_header(&header);
        assert_eq!(decode_header(&encoded), Ok(header.clone()));
        assert_eq!(decode_header_hash(&encoded), Ok(header.seal()));
        assert!(decode_header(&encoded[..encoded.len() - 1]).is_err());
    }
}

//! The OP Stack's span batches, to compare with: its public encoding of blocks for L1.
//!
//! <https://specs.optimism.io/protocol/delta/span-batches.html>, with type 4 as
//! <https://specs.optimism.io/protocol/isthmus/derivation.html> adds it, in a channel of one frame.

mod decode;
mod encode;

use eyre::{OptionExt, Result, ensure};

pub(super) use self::{decode::decode, encode::encode};

/// Version of a span batch, within a channel.
const SPAN_BATCH: u8 = 1;
/// Bytes of the hashes of the parent and of the L1 origin that a batch is checked against.
const CHECK: usize = 20;
/// Seconds since the chain's genesis: made up, as all of the prefix.
const TIMESTAMP: u64 = 100_000_000;
/// Number of the L1 block that the last block knows.
const L1_ORIGIN: u64 = 20_000_000;
/// The compression's number, in front of a compressed channel.
const BROTLI: u8 = 1;
/// Version of the data that a batcher sends.
const DERIVATION: u8 = 0;
/// Bytes in front of a compressed channel: the version, the frame's fields but for the last, and the compression's number.
const FRAME_HEAD: usize = 1 + 16 + 2 + 4 + 1;

/// What is sent of a compressed channel: a frame's fields, which are 23 bytes, and the versions around it.
pub(super) fn frame(compressed: &[u8]) -> Vec<u8> {
    let mut out = vec![DERIVATION];
    out.extend_from_slice(&[3; 16]);
    out.extend_from_slice(&0_u16.to_be_bytes());
    out.extend_from_slice(&(compressed.len() as u32 + 1).to_be_bytes());
    out.push(BROTLI);
    out.extend_from_slice(compressed);
    out.push(1);
    out
}

/// The compressed channel of what was [sent](frame).
pub(super) fn unframe(sent: &[u8]) -> Result<&[u8]> {
    let (head, rest) = sent.split_at_checked(FRAME_HEAD).ok_or_eyre("no frame")?;
    let (is_last, compressed) = rest.split_last().ok_or_eyre("no channel")?;
    ensure!(
        head[0] == DERIVATION && head[FRAME_HEAD - 1] == BROTLI && *is_last == 1,
        "not a frame that holds a whole channel"
    );
    Ok(compressed)
}

#[cfg(test)]
mod tests {
    use alloy::{
        consensus::{Signed, Transaction, TxEip1559, TxEip2930, TxEip7702, TxLegacy, Typed2718},
        eips::{
            eip2930::{AccessList, AccessListItem},
            eip7702::{Authorization, SignedAuthorization},
        },
        hex,
        primitives::{Address, B256, Bytes, Signature, TxKind, U256},
        rlp::Header,
    };
    use millrace_proto::{Batch, BatchBlock, TxEnvelope};

    use super::*;

    const CHAIN_ID: u64 = 7357;

    /// The channel of [`batch`] as another implementation writes it: `kona-protocol` 0.4.5. Its `SpanBatchTransactions::add_txs` was given the
    /// transactions of [`batch`] and its `RawSpanBatch::encode` the prefix of [`encode`]; the batch's version and the RLP string's head were put in front.
    const OF_KONA: &str = include_str!("kona.hex");

    fn signature(of: u8) -> Signature {
        Signature::new(
            U256::from_be_bytes([of; 32]),
            U256::from_be_bytes([0x70 - of; 32]) >> (8 * (of % 3)),
            of.is_multiple_of(2),
        )
    }

    /// Every type, several times, with and without what it need not have.
    fn transaction(of: u8) -> TxEnvelope {
        let number = u64::from(of);
        let (nonce, gas_limit) = (number * number * number, 21_000 + 100_000 * number);
        let (fee, priority_fee) = (1_000_000_007 * u128::from(of), u128::from(of));
        let value = U256::from(of).pow(U256::from(of));
        let input = Bytes::from(vec![of; 60 * usize::from(of % 4)]);
        let to = Address::repeat_byte(of);
        let kind = if of.is_multiple_of(7) { TxKind::Create } else { TxKind::Call(to) };
        let access_list = AccessList(
            (0..of % 3)
                .map(|entry| AccessListItem {
                    address: Address::repeat_byte(entry),
                    storage_keys: vec![B256::repeat_byte(entry); usize::from(entry)],
                })
                .collect(),
        );
        let inner = Authorization { chain_id: U256::from(number), address: to, nonce };
        let signed = SignedAuthorization::new_unchecked(inner, 1, U256::from(1), U256::from(2));
        let chain_id = CHAIN_ID;
        let signature = signature(of);
        match of % 5 {
            0 | 1 => {
                let chain_id = of.is_multiple_of(5).then_some(chain_id);
                let gas_price = fee;
                let tx = TxLegacy { chain_id, nonce, gas_price, gas_limit, to: kind, value, input };
                TxEnvelope::Legacy(Signed::new_unhashed(tx, signature))
            }
            2 => {
                let tx = TxEip2930 {
                    chain_id,
                    nonce,
                    gas_price: fee,
                    gas_limit,
                    to: kind,
                    value,
                    access_list,
                    input,
                };
                TxEnvelope::Eip2930(Signed::new_unhashed(tx, signature))
            }
            3 => {
                let tx = TxEip1559 {
                    chain_id,
                    nonce,
                    gas_limit,
                    max_fee_per_gas: fee,
                    max_priority_fee_per_gas: priority_fee,
                    to: kind,
                    value,
                    access_list,
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
                    to,
                    value,
                    access_list,
                    authorization_list: vec![signed; usize::from(of % 3)],
                    input,
                };
                TxEnvelope::Eip7702(Signed::new_unhashed(tx, signature))
            }
        }
    }

    /// Three blocks, one of them empty.
    fn batch() -> Batch {
        let block = |transactions: std::ops::Range<u8>| BatchBlock {
            timestamp: 1,
            deposits_end: 0,
            transactions: transactions.map(transaction).collect(),
        };
        Batch {
            chain_id: CHAIN_ID,
            first_block: 1,
            parent_hash: B256::ZERO,
            deposits_start: 0,
            last_block_hash: B256::ZERO,
            blocks: vec![block(1..13), block(13..13), block(13..36)],
        }
    }

    fn transactions(batch: Batch) -> Vec<Vec<TxEnvelope>> {
        batch.blocks.into_iter().map(|block| block.transactions).collect()
    }

    #[test]
    fn another_implementation_writes_the_same_bytes() {
        let of_kona = hex::decode(OF_KONA.trim()).expect("it is hexadecimal");
        assert_eq!(encode(&batch()), of_kona);
        let decoded = decode(&of_kona, CHAIN_ID).expect("it is a channel");
        assert_eq!(decoded, transactions(batch()));
    }

    #[test]
    fn what_is_written_is_read() {
        let batch = batch();
        let all = || batch.blocks.iter().flat_map(|block| &block.transactions);
        for ty in [0, 1, 2, 4] {
            assert!(all().any(|tx| tx.ty() == ty), "no transaction of type {ty}");
        }
        assert!(all().any(|tx| tx.is_create()) && all().any(|tx| tx.chain_id().is_none()));
        let channel = encode(&batch);
        let sent = frame(&channel);
        assert_eq!(unframe(&sent).expect("it is a frame"), channel);
        let decoded = decode(&channel, CHAIN_ID).expect("it is a channel");
        assert_eq!(decoded, transactions(batch));
    }

    #[test]
    fn anything_that_is_missing_or_too_much_is_refused() {
        let channel = encode(&batch());
        let batch =
            Header::decode_bytes(&mut channel.as_slice(), false).expect("a string").to_vec();
        let of = |batch: &[u8]| decode(&alloy::rlp::encode(batch), CHAIN_ID);
        assert!(of(&batch).is_ok());
        for length in 0..batch.len() {
            assert!(of(&batch[..length]).is_err(), "{length} bytes are taken for a batch");
        }
        assert!(of(&[batch.as_slice(), &[0]].concat()).is_err());
        assert!(decode(&[channel.as_slice(), &[0x80]].concat(), CHAIN_ID).is_err());
        let sent = frame(&channel);
        for at in [0, FRAME_HEAD - 1, sent.len() - 1] {
            let mut other = sent.clone();
            other[at] ^= 2;
            assert!(unframe(&other).is_err());
        }
        assert!(unframe(&sent[..FRAME_HEAD]).is_err());
    }
}

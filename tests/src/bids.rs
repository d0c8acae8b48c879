//! What a chain's services have offered L1, as a proxy in front of it sees it.

use std::{
    borrow::Cow,
    sync::{Mutex, MutexGuard, PoisonError},
};

use alloy::{
    consensus::{Transaction, TxEnvelope, transaction::SignerRecoverable},
    eips::{Decodable2718, eip2718::EIP4844_TX_TYPE_ID},
    primitives::{Address, B256, Bytes, TxKind, U256},
    rlp::Header,
};
use eyre::{Result, ensure, eyre};
use millrace_l1::TxManagerConfig;
use serde_json::Value;

use crate::l1_accounts;

/// A version of a transaction: who pays, and how much at most, in wei a unit of gas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bid {
    /// The version.
    pub hash: B256,
    /// Whose it is.
    pub sender: Address,
    /// The same for all versions.
    pub nonce: u64,
    /// Priority fee.
    pub tip: u128,
    /// Base fee and tip together.
    pub max_fee: u128,
    /// For a unit of blob gas; `None` without blobs.
    pub blob_fee: Option<u128>,
    purpose: Purpose,
}

/// What a transaction does.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Purpose {
    to: TxKind,
    value: U256,
    input: Bytes,
    blobs: Vec<B256>,
}

impl Bid {
    /// What a transaction offers.
    pub fn of(tx: &impl Transaction, hash: B256, sender: Address) -> Self {
        Self {
            hash,
            sender,
            nonce: tx.nonce(),
            tip: tx.max_priority_fee_per_gas().unwrap_or_default(),
            max_fee: tx.max_fee_per_gas(),
            blob_fee: tx.max_fee_per_blob_gas(),
            purpose: Purpose {
                to: tx.kind(),
                value: tx.value(),
                input: tx.input().clone(),
                blobs: tx.blob_versioned_hashes().unwrap_or_default().to_vec(),
            },
        }
    }

    /// Reads a transaction as it is handed to a node, with the blobs that travel beside it.
    fn read(raw: &[u8]) -> Result<Self> {
        let tx = TxEnvelope::decode_2718_exact(&without_blobs(raw)?)?;
        Ok(Self::of(&tx, *tx.tx_hash(), tx.recover_signer()?))
    }

    /// Makes sure that nothing is above its cap.
    ///
    /// # Errors
    /// Says which fee is.
    pub fn check(&self, caps: &TxManagerConfig) -> Result<()> {
        ensure!(self.max_fee <= caps.max_fee.into(), "{self:?} bids too much");
        ensure!(self.tip <= caps.max_tip.into(), "{self:?} tips too much");
        let blob_fee = self.blob_fee.unwrap_or_default();
        ensure!(blob_fee <= caps.max_blob_fee.into(), "{self:?} bids too much for blobs");
        Ok(())
    }

    /// Whether L1's nodes would have it in the place of an earlier version: they want every fee a tenth higher, and twice as high where there are blobs.
    pub fn outbids(&self, earlier: &Self) -> bool {
        let percent = if earlier.blob_fee.is_some() { 200 } else { 110 };
        let raised = |now: u128, before: u128| now * 100 >= before * percent;
        let fees = [
            (self.tip, earlier.tip),
            (self.max_fee, earlier.max_fee),
            (self.blob_fee.unwrap_or_default(), earlier.blob_fee.unwrap_or_default()),
        ];
        fees.into_iter().all(|(now, before)| raised(now, before))
    }
}

/// A transaction as it is in blocks. What travels beside it follows it in the same list (EIP-4844, EIP-7594), and is not decoded: blobs would fill the
/// stack of the thread that passes them on.
fn without_blobs(raw: &[u8]) -> Result<Cow<'_, [u8]>> {
    let Some(mut fields) = raw.strip_prefix(&[EIP4844_TX_TYPE_ID]) else { return Ok(raw.into()) };
    Header::decode(&mut fields)?;
    let first = Header::decode(&mut { fields })?;
    if !first.list {
        return Ok(raw.into());
    }
    let tx = fields.get(..first.length_with_payload()).ok_or_else(|| eyre!("it is cut off"))?;
    Ok([&[EIP4844_TX_TYPE_ID][..], tx].concat().into())
}

/// All versions that were broadcast, in their order, whether L1 had them or not.
#[derive(Debug, Default)]
pub struct Bids(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    bids: Vec<Bid>,
    /// What could not be read.
    strange: Vec<String>,
}

impl Bids {
    /// Notes what a request broadcasts, if it broadcasts anything.
    pub fn note(&self, request: &Value) -> Option<Bid> {
        if request["method"] != "eth_sendRawTransaction" {
            return None;
        }
        let raw = request["params"][0].as_str().ok_or_else(|| eyre!("not text"));
        let bid = raw.and_then(|raw| Bid::read(&raw.parse::<Bytes>()?));
        let mut seen = self.seen();
        match bid {
            Ok(bid) => {
                if !seen.bids.contains(&bid) {
                    seen.bids.push(bid.clone());
                }
                Some(bid)
            }
            Err(error) => {
                seen.strange.push(format!("{error:#}"));
                None
            }
        }
    }

    /// Makes sure that no bid of the chain's services was above a cap, that each version offers as much more than the one before it as L1's nodes ask of a
    /// replacement, that all versions with a nonce do the same, and that what L1 holds of them came this way. Returns how many versions there
    /// were, and how many of them replaced another.
    ///
    /// # Errors
    /// Where that is not so, or something could not be read.
    pub fn check(&self, caps: &TxManagerConfig, on_l1: &[B256]) -> Result<(usize, usize)> {
        let seen = self.seen();
        ensure!(seen.strange.is_empty(), "{:?}", seen.strange);
        let mut bids: Vec<_> =
            seen.bids.iter().filter(|bid| l1_accounts().contains(&bid.sender)).collect();
        for bid in &bids {
            bid.check(caps)?;
        }
        for hash in on_l1 {
            ensure!(bids.iter().any(|bid| bid.hash == *hash), "{hash} came another way");
        }
        // Stable: versions stay in their order.
        bids.sort_by_key(|bid| (bid.sender, bid.nonce));
        let mut replacements = 0;
        for pair in bids.windows(2) {
            let (earlier, later) = (pair[0], pair[1]);
            if (earlier.sender, earlier.nonce) != (later.sender, later.nonce) {
                continue;
            }
            ensure!(earlier.purpose == later.purpose, "one nonce for two: {earlier:?}, {later:?}");
            ensure!(later.outbids(earlier), "{later:?} is no replacement of {earlier:?}");
            replacements += 1;
        }
        Ok((bids.len(), replacements))
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use alloy::{
        consensus::{
            EthereumTxEnvelope, SignableTransaction, TxEip1559, TxEip4844, TxEip4844WithSidecar,
        },
        eips::{
            Encodable2718,
            eip4844::{Blob, BlobTransactionSidecar},
            eip7594::{BlobTransactionSidecarEip7594, BlobTransactionSidecarVariant},
        },
        network::TxSignerSync,
        primitives::FixedBytes,
    };
    use serde_json::json;

    use super::*;
    use crate::dev_key;

    type Pooled = EthereumTxEnvelope<TxEip4844WithSidecar<BlobTransactionSidecarVariant>>;

    const BATCHER: u32 = 8;

    fn caps() -> TxManagerConfig {
        TxManagerConfig { max_tip: 10, max_fee: 100, max_blob_fee: 1_000, ..Default::default() }
    }

    fn request(raw: Vec<u8>) -> Value {
        json!({ "method": "eth_sendRawTransaction", "params": [Bytes::from(raw)] })
    }

    fn plain(nonce: u64, tip: u128, max_fee: u128, input: &'static [u8]) -> Value {
        let mut tx = TxEip1559 {
            nonce,
            max_priority_fee_per_gas: tip,
            max_fee_per_gas: max_fee,
            input: Bytes::from_static(input),
            ..Default::default()
        };
        let signature = dev_key(BATCHER).sign_transaction_sync(&mut tx).expect("signed");
        request(TxEnvelope::from(tx.into_signed(signature)).encoded_2718())
    }

    fn cells() -> BlobTransactionSidecarVariant {
        let of48 = FixedBytes::<48>::default();
        let (blobs, proofs) = (vec![Blob::default()], vec![of48; 128]);
        let cells = BlobTransactionSidecarEip7594::new(blobs, vec![of48], proofs);
        BlobTransactionSidecarVariant::Eip7594(cells)
    }

    fn with_blob(sidecar: BlobTransactionSidecarVariant, blob_fee: u128) -> Value {
        let mut tx = TxEip4844 {
            max_priority_fee_per_gas: 1,
            max_fee_per_gas: 2,
            max_fee_per_blob_gas: blob_fee,
            blob_versioned_hashes: sidecar.versioned_hashes().collect(),
            ..Default::default()
        };
        let signature = dev_key(BATCHER).sign_transaction_sync(&mut tx).expect("signed");
        let signed = TxEip4844WithSidecar { tx, sidecar }.into_signed(signature);
        request(Pooled::Eip4844(signed).encoded_2718())
    }

    #[test]
    fn transactions_are_read_with_and_without_blobs_beside_them() {
        let bids = Bids::default();
        let bid = bids.note(&plain(3, 1, 2, b"a")).expect("a bid");
        assert_eq!((bid.sender, bid.nonce), (l1_accounts()[0], 3));
        assert_eq!((bid.tip, bid.max_fee, bid.blob_fee), (1, 2, None));

        let of48 = FixedBytes::<48>::default();
        let whole = BlobTransactionSidecar::new(vec![Blob::default()], vec![of48], vec![of48]);
        for sidecar in [BlobTransactionSidecarVariant::Eip4844(whole), cells()] {
            let bid = bids.note(&with_blob(sidecar, 7)).expect("a bid");
            assert_eq!((bid.sender, bid.tip, bid.blob_fee), (l1_accounts()[0], 1, Some(7)));
        }
        assert!(bids.check(&caps(), &[]).is_ok());
        assert!(bids.check(&caps(), &[B256::ZERO]).is_err(), "nobody has sent that");

        assert!(bids.note(&json!({ "method": "eth_call", "params": [] })).is_none());
        assert!(bids.note(&request(vec![2, 3])).is_none());
        assert!(bids.check(&caps(), &[]).is_err(), "it could not be read");
    }

    #[test]
    fn bids_above_a_cap_cheap_replacements_and_nonces_for_two_are_found() {
        let check = |requests: &[Value]| {
            let bids = Bids::default();
            for request in requests {
                bids.note(request);
            }
            bids.check(&caps(), &[])
        };
        let first = plain(0, 5, 50, b"a");
        let as_it_was = [first.clone(), plain(1, 5, 50, b"b"), first.clone()];
        assert_eq!(check(&as_it_was).expect("two"), (2, 0));
        let raised = [first.clone(), plain(1, 1, 1, b"b"), plain(0, 6, 55, b"a")];
        assert_eq!(check(&raised).expect("a replacement"), (3, 1));
        for wrong in [
            plain(0, 11, 100, b"a"),
            plain(0, 10, 101, b"a"),
            plain(0, 6, 54, b"a"),
            plain(0, 5, 55, b"a"),
            plain(0, 6, 55, b"b"),
        ] {
            assert!(check(&[first.clone(), wrong.clone()]).is_err(), "{wrong}");
        }
        assert!(check(&[with_blob(cells(), 1_000)]).is_ok());
        assert!(check(&[with_blob(cells(), 1_001)]).is_err());
        let dearer_blobs_alone = [with_blob(cells(), 1), with_blob(cells(), 2)];
        assert!(check(&dearer_blobs_alone).is_err(), "every fee has to be twice as high");
    }
}

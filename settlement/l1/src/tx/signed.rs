//! Building, signing and encoding versions.

use alloy::{
    consensus::{
        EthereumTxEnvelope, SignableTransaction, Signed, TxEip1559, TxEip4844, TxEip4844Variant,
        TxEip4844WithSidecar, TxEnvelope,
    },
    eips::{
        Decodable2718, Encodable2718,
        eip4844::{Blob, BlobTransactionSidecar, env_settings::EnvKzgSettings},
        eip7594::{
            BlobTransactionSidecarEip7594, BlobTransactionSidecarVariant, Decodable7594,
            Encodable7594,
        },
    },
    primitives::{Address, B256, Bytes, TxKind, U256},
};

use super::{BlobProofs, fees::Fees, journal::Attempt};
use crate::{L1Signer, SignError};

/// What all versions of a transaction have in common.
#[derive(Debug, Clone)]
pub(super) struct Unsigned {
    pub(super) chain_id: u64,
    pub(super) nonce: u64,
    pub(super) gas_limit: u64,
    pub(super) to: TxKind,
    pub(super) value: U256,
    pub(super) input: Bytes,
    /// Versioned hashes; none makes it type 2.
    pub(super) blob_hashes: Vec<B256>,
}

impl Unsigned {
    /// Signs a version that offers these fees.
    pub(super) async fn sign(&self, fees: Fees, signer: &L1Signer) -> Result<Attempt, SignError> {
        let envelope: TxEnvelope = match (self.to, self.blob_hashes.is_empty()) {
            (TxKind::Call(to), false) => {
                let tx = self.blob_tx(to, fees);
                let signature = signer.sign(&tx).await?;
                TxEnvelope::Eip4844(TxEip4844Variant::TxEip4844(tx).into_signed(signature))
            }
            _ => {
                let tx = TxEip1559 {
                    chain_id: self.chain_id,
                    nonce: self.nonce,
                    gas_limit: self.gas_limit,
                    max_fee_per_gas: fees.max_fee,
                    max_priority_fee_per_gas: fees.tip,
                    to: self.to,
                    value: self.value,
                    access_list: Default::default(),
                    input: self.input.clone(),
                };
                let signature = signer.sign(&tx).await?;
                TxEnvelope::Eip1559(tx.into_signed(signature))
            }
        };
        Ok(Attempt { hash: *envelope.tx_hash(), fees, raw: envelope.encoded_2718().into() })
    }

    fn blob_tx(&self, to: Address, fees: Fees) -> TxEip4844 {
        TxEip4844 {
            chain_id: self.chain_id,
            nonce: self.nonce,
            gas_limit: self.gas_limit,
            max_fee_per_gas: fees.max_fee,
            max_priority_fee_per_gas: fees.tip,
            to,
            value: self.value,
            access_list: Default::default(),
            blob_versioned_hashes: self.blob_hashes.clone(),
            max_fee_per_blob_gas: fees.blob_fee,
            input: self.input.clone(),
        }
    }

    /// What an earlier version was signed over; the inverse of [`Self::sign`].
    pub(super) fn of(attempt: &Attempt) -> Result<Self, String> {
        use alloy::consensus::Transaction;

        let envelope = decode(&attempt.raw)?;
        Ok(Self {
            chain_id: envelope.chain_id().ok_or("no chain id")?,
            nonce: envelope.nonce(),
            gas_limit: envelope.gas_limit(),
            to: envelope.kind(),
            value: envelope.value(),
            input: envelope.input().clone(),
            blob_hashes: envelope.blob_versioned_hashes().unwrap_or_default().to_vec(),
        })
    }
}

fn decode(raw: &[u8]) -> Result<TxEnvelope, String> {
    TxEnvelope::decode_2718_exact(raw).map_err(|error| error.to_string())
}

/// A blob's commitments and proofs, encoded as they travel. Some 200 ms of CPU a blob.
pub(super) fn make_sidecar(
    blobs: Vec<Blob>,
    proofs: BlobProofs,
) -> Result<(Vec<B256>, Vec<u8>), String> {
    let sidecar = match proofs {
        BlobProofs::Auto | BlobProofs::Cells => {
            BlobTransactionSidecarEip7594::try_from_blobs(blobs)
                .map(BlobTransactionSidecarVariant::Eip7594)
        }
        BlobProofs::Blob => BlobTransactionSidecar::try_from_blobs_with_settings(
            blobs,
            EnvKzgSettings::Default.get(),
        )
        .map(BlobTransactionSidecarVariant::Eip4844),
    }
    .map_err(|error| format!("{error:?}"))?;
    let mut encoded = Vec::with_capacity(sidecar.encode_7594_len());
    sidecar.encode_7594(&mut encoded);
    Ok((sidecar.versioned_hashes().collect(), encoded))
}

/// A version as it is handed to a node: with its sidecar, if it has blobs.
pub(super) fn network_form(attempt: &Attempt, sidecar: Option<&[u8]>) -> Result<Bytes, String> {
    let TxEnvelope::Eip4844(signed) = decode(&attempt.raw)? else {
        return Ok(attempt.raw.clone());
    };
    let mut encoded = sidecar.ok_or("the sidecar is missing")?;
    let sidecar = BlobTransactionSidecarVariant::decode_7594(&mut encoded)
        .map_err(|error| error.to_string())?;
    let (tx, signature, hash) = signed.into_parts();
    let tx = TxEip4844WithSidecar { tx: TxEip4844::from(tx), sidecar };
    let pooled = EthereumTxEnvelope::Eip4844(Signed::new_unchecked(tx, signature, hash));
    Ok(pooled.encoded_2718().into())
}

#[cfg(test)]
mod tests {
    use alloy::{primitives::address, signers::local::PrivateKeySigner};

    use super::*;

    fn unsigned(blob_hashes: Vec<B256>) -> Unsigned {
        Unsigned {
            chain_id: 31_337,
            nonce: 9,
            gas_limit: 100_000,
            to: TxKind::Call(address!("5fbdb2315678afecb367f032d93f642f64180aa3")),
            value: U256::from(5),
            input: Bytes::from_static(b"input"),
            blob_hashes,
        }
    }

    #[tokio::test]
    async fn a_version_can_be_signed_again_from_what_the_journal_holds() {
        let signer = L1Signer::Key(PrivateKeySigner::random());
        let fees = Fees { tip: 1, max_fee: 2, blob_fee: 0 };
        let attempt = unsigned(vec![]).sign(fees, &signer).await.expect("sign");
        let again =
            Unsigned::of(&attempt).expect("decode").sign(fees, &signer).await.expect("sign");
        assert_eq!(attempt, again);
        assert_eq!(network_form(&attempt, None).expect("encode"), attempt.raw);
    }

    #[tokio::test]
    async fn the_network_form_carries_the_sidecar_under_the_same_hash() {
        let signer = L1Signer::Key(PrivateKeySigner::random());
        let mut blobs = vec![Blob::default()];
        blobs[0][5] = 7;
        let fees = Fees { tip: 1, max_fee: 2, blob_fee: 3 };
        for proofs in [BlobProofs::Blob, BlobProofs::Cells] {
            let (hashes, sidecar) = make_sidecar(blobs.clone(), proofs).expect("sidecar");
            let attempt = unsigned(hashes).sign(fees, &signer).await.expect("sign");
            let raw = network_form(&attempt, Some(&sidecar)).expect("encode");
            let mut rest = raw.as_ref();
            type Pooled = EthereumTxEnvelope<TxEip4844WithSidecar<BlobTransactionSidecarVariant>>;
            let pooled = Pooled::decode_2718(&mut rest).expect("decode");
            assert!(rest.is_empty());
            assert_eq!(*pooled.tx_hash(), attempt.hash);
            assert!(raw.len() > 131_072 && attempt.raw.len() < 1_000);
            assert!(network_form(&attempt, None).is_err());
        }
    }
}

//! What whoever keeps batches in an object store signs about each: that its bytes are there, and until when they will be (EIP-712).
//!
//! It lies beside the batch, under the batch's key and [`SUFFIX`], so that whoever reads the one can hold the other against its signer. Derivation does not ask for it.

use std::time::{Duration, SystemTime};

use alloy::{
    primitives::{Address, B256, Bytes, Signature, keccak256},
    sol_types::{SolStruct, eip712_domain},
};
use millrace_l1::{L1Error, L1Signer, RollupContract, SignError};
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;

use crate::backend::SubmitRequest;

/// What an attestation's key ends with.
pub(crate) const SUFFIX: &str = ".attestation.json";

mod typed {
    alloy::sol! {
        struct Availability {
            bytes32 digest;
            uint64 size;
            string key;
            uint64 keptUntil;
        }
    }
}

/// A signed promise that a batch's bytes are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AvailabilityAttestation {
    /// L1's chain id.
    pub l1_chain_id: u64,
    /// The rollup contract, on which the batch is posted.
    pub rollup: Address,
    /// `keccak256` of the bytes.
    pub digest: B256,
    /// How many there are.
    pub size: u64,
    /// Where they are in the store; what is posted on L1.
    pub key: String,
    /// Until when they will be there, Unix seconds.
    pub kept_until: u64,
    /// By an account that has the contract's `BATCHER_ROLE`: r, s, v.
    pub signature: Bytes,
}

impl AvailabilityAttestation {
    /// Whose signature it is; `None` if it is none of these terms.
    pub fn signer(&self) -> Option<Address> {
        let signature = Signature::from_raw(&self.signature).ok()?;
        signature.recover_address_from_prehash(&keccak256(self.preimage())).ok()
    }

    /// What is hashed and signed: `0x1901`, the domain, and the struct (EIP-712).
    fn preimage(&self) -> Vec<u8> {
        let domain = eip712_domain! {
            name: "Millrace DA",
            version: "1",
            chain_id: self.l1_chain_id,
            verifying_contract: self.rollup,
        };
        let content = typed::Availability {
            digest: self.digest,
            size: self.size,
            key: self.key.clone(),
            keptUntil: self.kept_until,
        };
        let (domain, content) = (domain.separator(), content.eip712_hash_struct());
        [&[0x19, 0x01], domain.as_slice(), content.as_slice()].concat()
    }
}

/// Unix seconds after some time from now.
fn unix_seconds_in(time: Duration) -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    now.saturating_add(time).as_secs()
}

/// Why nothing is attested.
#[derive(Debug, thiserror::Error)]
pub enum AttestError {
    /// L1 does not say which chain it is.
    #[error(transparent)]
    L1(#[from] L1Error),
    /// The signer does not sign.
    #[error(transparent)]
    Sign(#[from] SignError),
}

/// Attests what is in a store.
#[derive(Debug)]
pub(crate) struct Attester {
    rollup: RollupContract,
    signer: L1Signer,
    kept_for: Duration,
    chain_id: OnceCell<u64>,
}

impl Attester {
    pub(crate) fn new(rollup: RollupContract, signer: L1Signer, kept_for: Duration) -> Self {
        Self { rollup, signer, kept_for, chain_id: OnceCell::new() }
    }

    /// Whether an attestation says of a batch what would be said here, for half as long at least.
    pub(crate) fn is_as_good(
        &self,
        attestation: &AvailabilityAttestation,
        batch: &SubmitRequest,
        key: &str,
    ) -> bool {
        attestation.digest == batch.digest
            && attestation.size == batch.data.len() as u64
            && attestation.key == key
            && attestation.rollup == self.rollup.address()
            && attestation.kept_until >= unix_seconds_in(self.kept_for / 2)
            && attestation.signer() == Some(self.signer.address())
    }

    /// Signs that a batch is there, from now on.
    pub(crate) async fn attest(
        &self,
        digest: B256,
        size: usize,
        key: String,
    ) -> Result<AvailabilityAttestation, AttestError> {
        let client = self.rollup.client();
        let l1_chain_id = *self.chain_id.get_or_try_init(|| client.chain_id()).await?;
        let mut attestation = AvailabilityAttestation {
            l1_chain_id,
            rollup: self.rollup.address(),
            digest,
            size: size as u64,
            key,
            kept_until: unix_seconds_in(self.kept_for),
            signature: Bytes::new(),
        };
        let signature = self.signer.sign_bytes(&attestation.preimage()).await?;
        attestation.signature = signature.as_bytes().into();
        Ok(attestation)
    }
}

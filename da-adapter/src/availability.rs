//! What whoever keeps batches in an object store signs about each: that its bytes are there, and until when they will be (EIP-712).
//!
//! It lies beside the batch, under the batch's key and [`SUFFIX`], so that whoever reads the one can hold the other against its signer. Derivation does not ask for it.

use std::time::{Duration, SystemTime};

use alloy::{
    primitives::{Address, B256, Bytes, Signature},
    sol_types::{Eip712Domain, SolStruct, eip712_domain},
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
        let (content, domain) = self.terms();
        signature.recover_address_from_prehash(&content.eip712_signing_hash(&domain)).ok()
    }

    /// What is signed, and for which contract on which chain.
    fn terms(&self) -> (typed::Availability, Eip712Domain) {
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
        (content, domain)
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
        batch: &SubmitRequest,
        key: &str,
    ) -> Result<AvailabilityAttestation, AttestError> {
        let client = self.rollup.client();
        let l1_chain_id = *self.chain_id.get_or_try_init(|| client.chain_id()).await?;
        let mut attestation = AvailabilityAttestation {
            l1_chain_id,
            rollup: self.rollup.address(),
            digest: batch.digest,
            size: batch.data.len() as u64,
            key: key.to_owned(),
            kept_until: unix_seconds_in(self.kept_for),
            signature: Bytes::new(),
        };
        let (content, domain) = attestation.terms();
        let signature = self.signer.sign_typed(&content, &domain).await?;
        attestation.signature = signature.as_bytes().into();
        Ok(attestation)
    }
}

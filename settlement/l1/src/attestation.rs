//! What verifiers sign about a batch (EIP-712), and the contract that counts their signatures.

use std::collections::BTreeMap;

use alloy::{
    primitives::{Address, Bytes, Signature},
    sol_types::{Eip712Domain, SolStruct, eip712_domain},
};
use millrace_proto::{Attestation, BatchOutcome};

use crate::{
    L1Error, L1Signer, RollupContract, SignError,
    contracts::{Attestation as Contract, Rollup},
};

/// The struct as the contract's `ATTESTATION_TYPEHASH` has it.
mod typed {
    alloy::sol! {
        struct Attestation {
            address rollup;
            uint64 batch;
            bytes32 batchHash;
            uint64 firstBlock;
            uint64 lastBlock;
            bytes32 lastBlockHash;
            bytes32 stateRoot;
            bytes32 messageRoot;
            uint32 reverts;
        }
    }
}

/// Whose signatures make a chain's commitments final, and what they sign besides a batch's outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttestationRules {
    /// Whose signatures count, in rising order.
    pub members: Vec<Address>,
    /// How many of them have to sign.
    pub threshold: u64,
    /// Commitments that the guardian has reverted so far: a signature given before the last of them counts no more.
    pub reverts: u32,
    rollup: Address,
    domain: Eip712Domain,
}

impl RollupContract {
    /// The rules by which the rollup's verifier counts signatures, as of L1's latest block; `None` if it counts none.
    pub async fn attestation_rules(&self) -> Result<Option<AttestationRules>, L1Error> {
        let (client, rollup) = (self.client(), self.address());
        let contract = client.call(rollup, &Rollup::verifierCall {}).await?;
        let threshold = match client.call(contract, &Contract::thresholdCall {}).await {
            Ok(threshold) => threshold.saturating_to(),
            // Another kind of verifier.
            Err(L1Error::Reverted { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(Some(AttestationRules {
            members: client.call(contract, &Contract::membersCall {}).await?,
            threshold,
            reverts: client.call(rollup, &Rollup::revertCountCall {}).await?,
            rollup,
            domain: eip712_domain! {
                name: "Millrace",
                version: "1",
                chain_id: client.chain_id().await?,
                verifying_contract: contract,
            },
        }))
    }
}

impl AttestationRules {
    /// Signs what executing a batch gave.
    ///
    /// # Errors
    /// When the signer does not sign.
    pub async fn sign(
        &self,
        outcome: BatchOutcome,
        signer: &L1Signer,
    ) -> Result<Attestation, SignError> {
        let signature = signer.sign_typed(&self.content(&outcome), &self.domain).await?;
        Ok(Attestation { outcome, reverts: self.reverts, signature })
    }

    /// Whose signature it is, if it counts for this outcome.
    pub fn signer_of(&self, outcome: &BatchOutcome, signature: &Signature) -> Option<Address> {
        let digest = self.content(outcome).eip712_signing_hash(&self.domain);
        let signer = signature.recover_address_from_prehash(&digest).ok()?;
        self.members.contains(&signer).then_some(signer)
    }

    /// The proof that the contract takes: signatures in the rising order of their signers, one behind the other.
    pub fn proof(signatures: &BTreeMap<Address, Signature>) -> Bytes {
        signatures.values().flat_map(Signature::as_bytes).collect()
    }

    /// What is signed.
    fn content(&self, outcome: &BatchOutcome) -> typed::Attestation {
        typed::Attestation {
            rollup: self.rollup,
            batch: outcome.batch,
            batchHash: outcome.batch_hash,
            firstBlock: outcome.first_block,
            lastBlock: outcome.last_block,
            lastBlockHash: outcome.last_block_hash,
            stateRoot: outcome.state_root,
            messageRoot: outcome.message_root,
            reverts: self.reverts,
        }
    }
}

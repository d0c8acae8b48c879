//! Signatures of independent verifiers: giving one's own, and gathering those that a commitment needs.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use alloy::primitives::{Address, Bytes, Signature};
use futures::{StreamExt, stream::FuturesUnordered};
use millrace_l1::{AttestationRules, L1Error, L1Signer, RollupContract};
use millrace_proto::{Attestation, BatchOutcome, ErrorChain, Settlement, SettlementError};
use tracing::warn;

/// How long a verifier may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Signs what this service has verified.
#[derive(Debug, Clone)]
pub(crate) struct Attester {
    pub(crate) rollup: RollupContract,
    pub(crate) signer: L1Signer,
}

impl Attester {
    /// Signs a batch's outcome for the contract's verifier as it is now.
    pub(crate) async fn attest(
        &self,
        outcome: BatchOutcome,
    ) -> Result<Attestation, SettlementError> {
        let rules = self.rollup.attestation_rules().await;
        let rules = rules.map_err(|error| SettlementError::Attest(Box::new(error)))?;
        let account = self.signer.address();
        let Some(rules) = rules.filter(|rules| rules.members.contains(&account)) else {
            let problem =
                format!("{account} is none of the accounts whose signatures the contract counts");
            return Err(SettlementError::Attest(problem.into()));
        };
        let signed = rules.sign(outcome, &self.signer).await;
        signed.map_err(|error| SettlementError::Attest(Box::new(error)))
    }
}

/// A verifier, run by somebody else.
#[derive(Debug, Clone)]
pub struct VerifierPeer {
    /// What to call it: its URL.
    pub name: String,
    /// It itself.
    pub service: Arc<dyn Settlement>,
}

/// Why there is no proof for a commitment.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GatherError {
    #[error(transparent)]
    L1(#[from] L1Error),
    #[error("{have} of the {need} signatures that it needs: {}", problems.join("; "))]
    TooFew {
        have: usize,
        need: u64,
        /// Why the others did not sign.
        problems: Vec<String>,
        /// How many of those only have not come to the batch yet.
        behind: usize,
    },
}

impl GatherError {
    /// Whether waiting alone brings the signatures.
    pub(crate) fn comes_by_itself(&self) -> bool {
        match self {
            Self::L1(_) => false,
            Self::TooFew { have, need, behind, .. } => (have + behind) as u64 >= *need,
        }
    }
}

/// The proof that the contract asks for with a commitment: nothing, or signatures.
pub(crate) async fn gather(
    rollup: &RollupContract,
    verifiers: &[VerifierPeer],
    outcome: &BatchOutcome,
) -> Result<Bytes, GatherError> {
    let Some(rules) = rollup.attestation_rules().await? else { return Ok(Bytes::new()) };
    let ask = async |peer: &VerifierPeer| {
        let answer = tokio::time::timeout(PATIENCE, peer.service.attest(outcome.batch)).await;
        (peer.name.clone(), answer)
    };
    let mut answers: FuturesUnordered<_> = verifiers.iter().map(ask).collect();
    let mut signatures = BTreeMap::new();
    let (mut problems, mut behind) = (Vec::new(), 0);
    while (signatures.len() as u64) < rules.threshold
        && let Some((name, answer)) = answers.next().await
    {
        let checked = match answer {
            Ok(Ok(None)) => {
                behind += 1;
                Err("has not found it valid yet".to_owned())
            }
            Ok(Ok(Some(signed))) => check(&rules, outcome, &signed),
            Ok(Err(error)) => Err(ErrorChain::new(&error).to_string()),
            Err(_) => Err(format!("no answer within {PATIENCE:?}")),
        };
        match checked {
            Ok((signer, _)) if signatures.contains_key(&signer) => {
                problems.push(format!("{name}: signs for {signer}, as another one does"));
            }
            Ok((signer, signature)) => {
                signatures.insert(signer, signature);
            }
            Err(problem) => problems.push(format!("{name}: {problem}")),
        }
    }
    if (signatures.len() as u64) < rules.threshold {
        if problems.is_empty() {
            problems.push("[settlement] verifiers names no more of them".to_owned());
        }
        let (have, need) = (signatures.len(), rules.threshold);
        return Err(GatherError::TooFew { have, need, problems, behind });
    }
    Ok(AttestationRules::proof(&signatures))
}

/// Whose signature it is, if it counts.
fn check(
    rules: &AttestationRules,
    outcome: &BatchOutcome,
    signed: &Attestation,
) -> Result<(Address, Signature), String> {
    if signed.outcome != *outcome {
        // One of the two computes wrongly, or sees another L1.
        warn!(target: "millrace::settlement", batch = outcome.batch, ours = ?outcome, theirs = ?signed.outcome, "a verifier has come to something else");
        return Err(format!(
            "has come to state root {} with hash {}, and this service to {} with {}",
            signed.outcome.state_root,
            signed.outcome.last_block_hash,
            outcome.state_root,
            outcome.last_block_hash
        ));
    }
    if signed.reverts != rules.reverts {
        return Err(format!(
            "signs after {} reverts, and L1 has seen {}",
            signed.reverts, rules.reverts
        ));
    }
    let signer = rules.signer_of(outcome, &signed.signature);
    Ok((signer.ok_or("signs with a key that does not count")?, signed.signature))
}

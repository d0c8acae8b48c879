//! What an account's storage holds, proved against a block's state root (EIP-1186).

use std::collections::HashMap;

use alloy::{
    consensus::TrieAccount,
    eips::BlockId,
    primitives::{Address, B256, U256, keccak256},
    providers::Provider,
    rlp,
    rpc::types::{EIP1186AccountProofResponse, Header},
    trie::{Nibbles, proof::verify_proof},
};
use futures::{StreamExt, TryStreamExt, stream};
use tracing::debug;

use super::{Inner, L1Client};
use crate::L1Error;

const METHOD: &str = "eth_getProof";
/// Slots in one request: a slot's proof has a few kilobytes, and nodes take no more than about a thousand.
const SLOTS: usize = 256;
/// Requests at the same time.
const AT_ONCE: usize = 4;

type Params = (Address, Vec<B256>, BlockId);

impl L1Client {
    /// What slots of an account hold after a block, whose header is checked, in their order. `None` if no node proves that block's
    /// state: most keep it for some hundred blocks at most.
    ///
    /// # Errors
    /// [`L1Error::Unproven`] if what a node says does not lead to the header's state root.
    pub(crate) async fn proven_slots(
        &self,
        account: Address,
        slots: &[B256],
        header: &Header,
    ) -> Result<Option<Vec<U256>>, L1Error> {
        let chunks: Vec<Vec<B256>> = slots.chunks(SLOTS).map(<[B256]>::to_vec).collect();
        let proven: Vec<Option<Vec<U256>>> = stream::iter(chunks)
            .map(|chunk| self.prove(account, chunk, header))
            .buffered(AT_ONCE)
            .try_collect()
            .await?;
        let all: Option<Vec<Vec<U256>>> = proven.into_iter().collect();
        Ok(all.map(|values| values.concat()))
    }

    async fn prove(
        &self,
        account: Address,
        slots: Vec<B256>,
        header: &Header,
    ) -> Result<Option<Vec<U256>>, L1Error> {
        let params = (account, slots, BlockId::hash(header.hash));
        let asked =
            self.request_from::<_, Option<EIP1186AccountProofResponse>>(METHOD, params.clone());
        match asked.await {
            Ok((Some(proof), at)) => match values(&proof, &params, header) {
                Ok(values) => Ok(Some(values)),
                Err(problem) => Err(self.unproven(at, problem).await),
            },
            Err(error) if !matches!(error, L1Error::Rpc { .. }) => Err(error),
            // Whatever its reason is: it lacks the method, or the block's state, or takes too long. If it is away, it is so for other questions too.
            refused => {
                let error = refused.err();
                debug!(target: "millrace::l1", block = header.number, ?error, "the L1 node does not prove the block's state");
                Ok(self.proof_of_another(&params, header).await)
            }
        }
    }

    /// The same of the first other node that proves it: whoever gives a proof, the header decides.
    async fn proof_of_another(&self, params: &Params, header: &Header) -> Option<Vec<U256>> {
        let Inner { nodes, .. } = &*self.inner;
        for (_, provider) in nodes.others().await {
            let asked = provider
                .client()
                .request::<_, Option<EIP1186AccountProofResponse>>(METHOD, params.clone());
            let Ok(Some(proof)) = asked.await else { continue };
            match values(&proof, params, header) {
                Ok(values) => return Some(values),
                Err(problem) => {
                    debug!(target: "millrace::l1", problem, "another L1 node's proof does not hold");
                }
            }
        }
        None
    }
}

/// What the slots hold, if the proof leads from the header's state root to all of them.
fn values(
    proof: &EIP1186AccountProofResponse,
    (account, slots, _): &Params,
    header: &Header,
) -> Result<Vec<U256>, String> {
    let wrong = |what: &str, why: String| {
        format!(
            "a proof of {what} of {account} in block {} that does not hold: {why}",
            header.number
        )
    };
    let state = TrieAccount {
        nonce: proof.nonce,
        balance: proof.balance,
        storage_root: proof.storage_hash,
        code_hash: proof.code_hash,
    };
    let path = Nibbles::unpack(keccak256(account));
    verify_proof(header.state_root, path, Some(rlp::encode(state)), &proof.account_proof)
        .map_err(|error| wrong("the account", error.to_string()))?;
    // Not every node keeps the order.
    let told: HashMap<B256, _> =
        proof.storage_proof.iter().map(|entry| (entry.key.as_b256(), entry)).collect();
    slots
        .iter()
        .map(|slot| {
            let entry = told
                .get(slot)
                .ok_or_else(|| wrong("storage", format!("slot {slot} is left out")))?;
            let path = Nibbles::unpack(keccak256(slot));
            let holds = |value| verify_proof(proof.storage_hash, path, value, &entry.proof);
            let value = rlp::encode(entry.value);
            match entry.value.is_zero() {
                // Ethereum's tries hold no zeros, but anvil's do.
                true => holds(None).or_else(|error| holds(Some(value)).map_err(|_| error)),
                false => holds(Some(value)),
            }
            .map_err(|error| wrong("storage", error.to_string()))?;
            Ok(entry.value)
        })
        .collect()
}

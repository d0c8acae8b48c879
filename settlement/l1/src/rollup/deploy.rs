//! Deploying the contract and publishing the chain's genesis.

use std::time::Duration;

use alloy::{
    primitives::{Address, B256, Bytes, TxKind},
    sol_types::{SolCall, SolConstructor},
};
use tracing::info;

use super::genesis;
use crate::{L1Client, L1Error, L1Signer, contracts::Rollup, tx};

/// How long one of the two transactions may take to get into a block.
const INCLUSION_TIMEOUT: Duration = Duration::from_secs(300);

/// What a chain is made with.
#[derive(Debug, Clone)]
pub struct DeployParams {
    /// Owns the contract. The deploying account, since publishing the genesis is the owner's right.
    pub owner: Address,
    /// May post batches.
    pub batcher: Address,
    /// May commit batches.
    pub committer: Address,
    /// The rollup's chain id.
    pub l2_chain_id: u64,
    /// Seconds from a commitment to its finality.
    pub challenge_window: u64,
    /// Hash of L2 block 0.
    pub genesis_hash: B256,
    /// State root of L2 block 0.
    pub genesis_state_root: B256,
    /// The geth-format genesis JSON to publish.
    pub genesis_json: Bytes,
}

/// Deploys the rollup contract, publishes the genesis, and returns the contract's address once both transactions are in
/// a block.
///
/// Not idempotent: a call that fails between the two leaves a contract without a genesis behind; deploy another.
pub async fn deploy_rollup(
    client: &L1Client,
    signer: impl Into<L1Signer>,
    params: DeployParams,
) -> Result<Address, L1Error> {
    let signer = &signer.into();
    if params.owner != signer.address() {
        return Err(L1Error::InvalidRequest(format!(
            "the owner {} has to deploy the contract itself, as it publishes the genesis; the signer is {}",
            params.owner,
            signer.address()
        )));
    }
    let compressed = genesis::compress(&params.genesis_json)
        .map_err(|error| L1Error::InvalidRequest(format!("compressing the genesis: {error}")))?;

    let constructor = Rollup::constructorCall {
        config: Rollup::Config {
            owner: params.owner,
            batcher: params.batcher,
            committer: params.committer,
            l2ChainId: params.l2_chain_id,
            challengeWindow: params.challenge_window,
            genesisHash: params.genesis_hash,
            genesisStateRoot: params.genesis_state_root,
        },
    };
    let init: Bytes = [Rollup::BYTECODE.as_ref(), &constructor.abi_encode()].concat().into();
    let receipt = tx::submit_once(client, signer, TxKind::Create, init, INCLUSION_TIMEOUT).await?;
    let address = receipt.contract_address.ok_or_else(|| L1Error::BadAnswer {
        method: "eth_getTransactionReceipt",
        problem: "a deployment without a contract address".to_owned(),
    })?;

    let publish = Rollup::publishGenesisCall { genesis: compressed.into() }.abi_encode();
    tx::submit_once(client, signer, TxKind::Call(address), publish.into(), INCLUSION_TIMEOUT)
        .await?;
    info!(target: "millrace::l1", %address, l2_chain_id = params.l2_chain_id, "rollup contract deployed");
    Ok(address)
}

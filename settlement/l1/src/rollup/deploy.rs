//! Deploying a chain's contracts and publishing its genesis.

use std::time::Duration;

use alloy::{
    primitives::{Address, B256, Bytes, U256, aliases::U48, keccak256},
    sol_types::{SolCall, SolConstructor},
};
use tracing::info;

use super::genesis;
use crate::{
    L1Client, L1Error, L1Signer,
    contracts::{
        Attestation, ChallengeWindow, Rollup, TimelockController, TokenBridge,
        TransparentUpgradeableProxy,
    },
    tx::{self, OneCall},
};

/// How long the transactions may take to get into blocks.
const INCLUSION_TIMEOUT: Duration = Duration::from_secs(300);
/// Gas of publishing a genesis, beside its bytes.
const PUBLISH_GAS: u64 = 100_000;
/// Gas of a byte of it: calldata (EIP-7623), hashing, the event, and memory.
const PUBLISH_BYTE_GAS: u64 = 60;

/// Bytes of a compressed genesis that fit a transaction of 128 KiB, which is the most that nodes take.
const MAX_PUBLISHED_BYTES: usize = 127 << 10;

/// What makes commitments final.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FinalityRule {
    /// Time in which the guardian can object.
    ChallengeWindow {
        /// Seconds from a commitment to its finality.
        seconds: u64,
    },
    /// Signatures of independent verifiers.
    Attestation {
        /// Whose signatures count.
        members: Vec<Address>,
        /// How many of them have to sign.
        threshold: u64,
        /// Seconds from a commitment to its finality, in which the guardian can still object.
        delay: u64,
    },
}

/// What a chain is made with.
#[derive(Debug, Clone)]
pub struct DeployParams {
    /// Grants and revokes roles, and proposes what the timelock does.
    pub owner: Address,
    /// Seconds that a handover of the ownership takes at least (48 bits).
    pub owner_transfer_delay: u64,
    /// May post batches.
    pub batcher: Address,
    /// May commit batches.
    pub committer: Address,
    /// May pause, and revert commitments that are not final.
    pub guardian: Address,
    /// Seconds between the proposal of another code or another verifier and its taking effect.
    pub timelock_delay: u64,
    /// What makes commitments final.
    pub finality: FinalityRule,
    /// Seconds without a sign of life of the batcher after which anyone may post.
    pub sequencer_timeout: u64,
    /// L1 blocks after which deposits and forced transactions are overdue: no batch is taken that leaves out an overdue one.
    pub inclusion_window: u64,
    /// The rollup's chain id.
    pub l2_chain_id: u64,
    /// Hash of L2 block 0.
    pub genesis_hash: B256,
    /// State root of L2 block 0.
    pub genesis_state_root: B256,
    /// The geth-format genesis JSON to publish.
    pub genesis_json: Bytes,
}

/// A chain's contracts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deployment {
    /// The rollup contract.
    pub rollup: Address,
    /// The bridge for tokens.
    pub token_bridge: Address,
    /// What makes commitments final.
    pub verifier: Address,
    /// Alone may change the code behind the two, and the verifier.
    pub timelock: Address,
}

/// Deploys a chain's contracts, publishes the genesis, and returns once all of it is in blocks. The signer keeps no right on them, unless it is the owner.
///
/// Not idempotent: a call that fails in between leaves some of the contracts behind, unused; deploy others. Nothing else may send from
/// the signer's account meanwhile.
///
/// # Errors
/// When L1 does not answer or refuses, or parameters cannot work.
pub async fn deploy_rollup(
    client: &L1Client,
    signer: impl Into<L1Signer>,
    params: DeployParams,
) -> Result<Deployment, L1Error> {
    let signer = &signer.into();
    let genesis: Bytes = genesis::compress(&params.genesis_json)
        .map_err(|error| L1Error::InvalidRequest(format!("compressing the genesis: {error}")))?
        .into();
    // What the contracts would refuse, before any of them is paid for.
    let wrong = |problem: &str| L1Error::InvalidRequest(problem.to_owned());
    let owner_transfer_delay = U48::try_from(params.owner_transfer_delay)
        .map_err(|_| wrong("the delay of a change of owner does not fit 48 bits"))?;
    if params.inclusion_window == 0 || params.sequencer_timeout == 0 {
        return Err(wrong("the inclusion window and the sequencer's timeout cannot be 0"));
    }
    if genesis.len() > MAX_PUBLISHED_BYTES {
        let bytes = genesis.len();
        return Err(wrong(&format!(
            "the genesis has {bytes} bytes compressed, and an L1 transaction takes {MAX_PUBLISHED_BYTES}: it cannot be published"
        )));
    }
    let nonce = client.nonce(signer.address()).await?;
    let address = |behind: u64| signer.address().create(nonce + behind);
    let [verifier, timelock, rollup_code, bridge_code, rollup, token_bridge] =
        [0, 1, 2, 3, 4, 5].map(address);

    let timelock_args = TimelockController::constructorCall {
        minDelay: U256::from(params.timelock_delay),
        proposers: vec![params.owner],
        executors: vec![params.owner],
        admin: Address::ZERO,
    };
    let code = vec![
        creation(&params.finality),
        create(&TimelockController::BYTECODE, &timelock_args),
        OneCall::create(Rollup::BYTECODE.clone()),
        OneCall::create(TokenBridge::BYTECODE.clone()),
    ];
    tx::submit_all(client, signer, nonce, code, INCLUSION_TIMEOUT).await?;

    let initialize = Rollup::initializeCall {
        config: Rollup::Config {
            owner: params.owner,
            ownerTransferDelay: owner_transfer_delay,
            batcher: params.batcher,
            committer: params.committer,
            guardian: params.guardian,
            timelock,
            verifier,
            tokenBridge: token_bridge,
            l2ChainId: params.l2_chain_id,
            sequencerTimeout: params.sequencer_timeout,
            inclusionWindow: params.inclusion_window,
            genesisHash: params.genesis_hash,
            genesisStateRoot: params.genesis_state_root,
            genesisDigest: keccak256(&genesis),
        },
    };
    let bridge = TokenBridge::initializeCall { rollup_: rollup };
    let gas = PUBLISH_GAS + PUBLISH_BYTE_GAS * genesis.len() as u64;
    let publish = Rollup::publishGenesisCall { genesis }.abi_encode();
    let proxies = vec![
        proxy(rollup_code, timelock, initialize.abi_encode()),
        proxy(bridge_code, timelock, bridge.abi_encode()),
        OneCall { gas_limit: Some(gas), ..OneCall::new(rollup, publish) },
    ];
    tx::submit_all(client, signer, nonce + 4, proxies, INCLUSION_TIMEOUT).await?;
    info!(
        target: "millrace::l1",
        %rollup,
        %token_bridge,
        %verifier,
        %timelock,
        l2_chain_id = params.l2_chain_id,
        "the chain's contracts are deployed"
    );
    Ok(Deployment { rollup, token_bridge, verifier, timelock })
}

fn create(code: &Bytes, arguments: &impl SolConstructor) -> OneCall {
    OneCall::create([code.as_ref(), &arguments.abi_encode()].concat())
}

fn creation(finality: &FinalityRule) -> OneCall {
    match finality {
        FinalityRule::ChallengeWindow { seconds } => {
            let arguments = ChallengeWindow::constructorCall { challengeWindow_: *seconds };
            create(&ChallengeWindow::BYTECODE, &arguments)
        }
        FinalityRule::Attestation { members, threshold, delay } => {
            let mut members = members.clone();
            members.sort_unstable();
            let arguments = Attestation::constructorCall {
                members_: members,
                threshold_: U256::from(*threshold),
                delay_: *delay,
            };
            create(&Attestation::BYTECODE, &arguments)
        }
    }
}

/// A proxy in front of some code, which the timelock alone can change.
fn proxy(code: Address, timelock: Address, initialize: Vec<u8>) -> OneCall {
    let arguments = TransparentUpgradeableProxy::constructorCall {
        _logic: code,
        initialOwner: timelock,
        _data: initialize.into(),
    };
    create(&TransparentUpgradeableProxy::BYTECODE, &arguments)
}

//! The rollup contract: its views, its events, its genesis, its deployment.

mod deploy;
mod event_proof;
mod events;
mod genesis;
mod proof;
mod range;
mod scan;

use std::{fmt, sync::Arc};

use alloy::{
    eips::{BlockNumHash, BlockNumberOrTag},
    primitives::{Address, B256, keccak256},
};
use millrace_proto::Commitment;
use parking_lot::Mutex;

pub(crate) use self::events::EventSet;
use self::range::LogRange;
pub use self::{
    deploy::{DeployParams, Deployment, FinalityRule, deploy_rollup},
    event_proof::{EventProof, EventProofError, ProvenEvent},
    events::RollupEvent,
    genesis::MAX_GENESIS_BYTES,
    proof::{RollupState, commitment_hash},
};
use crate::{L1Client, L1Error, contracts::Rollup};

/// The version of the contract's interface, and of the hashes that it computes, that this crate is made for.
const KNOWN_VERSION: u32 = 2;

/// The rollup contract on one L1. Clones share what they learn.
///
/// Nothing that depends on the chain's constants is answered for a contract of another version ([`L1Error::UnknownVersion`]).
#[derive(Clone)]
pub struct RollupContract {
    client: L1Client,
    address: Address,
    /// What never changes once the contract is there, as a node has said it.
    constants: Arc<Mutex<Option<Constants>>>,
    log_range: Arc<LogRange>,
}

#[derive(Debug, Clone, Copy)]
struct Constants {
    deployed_at: u64,
    l2_chain_id: u64,
    inclusion_window: u64,
    genesis_hash: B256,
    genesis_state_root: B256,
    genesis_digest: B256,
}

impl fmt::Debug for RollupContract {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RollupContract")
            .field("address", &self.address)
            .field("client", &self.client)
            .finish_non_exhaustive()
    }
}

impl RollupContract {
    /// The contract at an address. Asks nothing yet.
    pub fn new(client: L1Client, address: Address) -> Self {
        let log_range = LogRange::new(client.options().log_range);
        Self { client, address, constants: Arc::default(), log_range: Arc::new(log_range) }
    }

    /// Where the contract is.
    pub const fn address(&self) -> Address {
        self.address
    }

    /// The L1 node that answers.
    pub const fn client(&self) -> &L1Client {
        &self.client
    }

    /// Makes sure that there is a rollup contract, and one that this build knows: to be asked before anything else is. Asks once, and
    /// remembers the answer.
    ///
    /// # Errors
    /// [`L1Error::UnknownVersion`] if it is of another version, [`L1Error::NoContract`] if it is none.
    pub async fn check_version(&self) -> Result<(), L1Error> {
        self.constants().await.map(drop)
    }

    /// The L1 block that deployed the contract: event scans start here.
    pub async fn deployed_at(&self) -> Result<u64, L1Error> {
        Ok(self.constants().await?.deployed_at)
    }

    /// The L1 block before the one that deployed the contract: where a follower that knows nothing starts.
    pub async fn start(&self) -> Result<BlockNumHash, L1Error> {
        let number = self.deployed_at().await?.saturating_sub(1);
        let block = self.client.block(number).await?;
        Ok(block.ok_or_else(|| L1Error::BlockMissing(number.to_string()))?.id())
    }

    /// Hash of L2 block 0.
    pub async fn genesis_hash(&self) -> Result<B256, L1Error> {
        Ok(self.constants().await?.genesis_hash)
    }

    /// State root of L2 block 0.
    pub async fn genesis_state_root(&self) -> Result<B256, L1Error> {
        Ok(self.constants().await?.genesis_state_root)
    }

    /// The rollup's chain id.
    pub async fn l2_chain_id(&self) -> Result<u64, L1Error> {
        Ok(self.constants().await?.l2_chain_id)
    }

    /// Whether an account has a role, by its name in the contract.
    pub async fn has_role(&self, role: &str, account: Address) -> Result<bool, L1Error> {
        let call = Rollup::hasRoleCall { role: keccak256(role), account };
        self.client.call(self.address, &call).await
    }

    /// The epoch whose posts the contract takes.
    pub async fn current_epoch(&self) -> Result<u32, L1Error> {
        self.client.call(self.address, &Rollup::currentEpochCall {}).await
    }

    /// L1 blocks after which the queue's entries are overdue.
    pub async fn inclusion_window(&self) -> Result<u64, L1Error> {
        Ok(self.constants().await?.inclusion_window)
    }

    /// Seconds without a sign of life of the batcher after which anyone may post.
    pub async fn sequencer_timeout(&self) -> Result<u64, L1Error> {
        self.client.call(self.address, &Rollup::sequencerTimeoutCall {}).await
    }

    /// When the batcher gave its last sign of life, Unix seconds.
    pub async fn last_posted_at(&self) -> Result<u64, L1Error> {
        self.client.call(self.address, &Rollup::lastPostedAtCall {}).await
    }

    /// L1 block in which an entry of the queue came; 0 if there is no such entry.
    pub async fn queued_at(&self, index: u64) -> Result<u64, L1Error> {
        let block = self.client.call(self.address, &Rollup::queuedAtCall { index }).await?;
        Ok(block.saturating_to())
    }

    /// The bridge for tokens.
    pub async fn token_bridge(&self) -> Result<Address, L1Error> {
        self.client.call(self.address, &Rollup::tokenBridgeCall {}).await
    }

    /// Batches posted, which is also the number of the last one.
    pub async fn batch_count(&self) -> Result<u64, L1Error> {
        self.client.call(self.address, &Rollup::batchCountCall {}).await
    }

    /// The same after an L1 block, whose state the node has to have still.
    pub async fn batch_count_at(&self, block: u64) -> Result<u64, L1Error> {
        let at = BlockNumberOrTag::Number(block);
        self.client.call_at(self.address, &Rollup::batchCountCall {}, at).await
    }

    /// The chained hash of the batches up to this one; zero if it is not posted.
    pub async fn batch_hash(&self, number: u64) -> Result<B256, L1Error> {
        self.client.call(self.address, &Rollup::batchHashesCall { number }).await
    }

    /// The last committed batch and the last L2 block that it covers; zeros if there is none.
    ///
    /// Two calls: between them the chain may move. The numbers fit each other only if no commitment is under way.
    pub async fn last_committed(&self) -> Result<(u64, u64), L1Error> {
        let batch = self.client.call(self.address, &Rollup::lastCommittedBatchCall {}).await?;
        let block = self.client.call(self.address, &Rollup::lastCommittedBlockCall {}).await?;
        Ok((batch, block))
    }

    /// The hash of the commitment that stands for a batch; zero if there is none.
    pub async fn commitment_hash(&self, batch: u64) -> Result<B256, L1Error> {
        self.client.call(self.address, &Rollup::commitmentHashCall { number: batch }).await
    }

    /// Deposits queued.
    pub async fn deposit_count(&self) -> Result<u64, L1Error> {
        self.client.call(self.address, &Rollup::depositCountCall {}).await
    }

    /// The accumulator over the first `count` deposits; zero for none, and for more than there are.
    pub async fn deposit_accumulator(&self, count: u64) -> Result<B256, L1Error> {
        self.client.call(self.address, &Rollup::depositAccumulatorCall { count }).await
    }

    /// The same, at an L1 block.
    pub async fn accumulator_at(&self, count: u64, block: B256) -> Result<B256, L1Error> {
        let call = Rollup::depositAccumulatorCall { count };
        self.client.call_at(self.address, &call, block).await
    }

    /// Whether the commitment stands and is final at L1's latest block.
    pub async fn is_final(&self, commitment: &Commitment) -> Result<bool, L1Error> {
        let call = Rollup::isFinalCall { commitment: commitment.into() };
        self.client.call(self.address, &call).await
    }

    async fn version(&self) -> Result<u32, L1Error> {
        match self.client.call(self.address, &Rollup::VERSIONCall {}).await {
            // A contract that does not tell is none of ours.
            Err(L1Error::Reverted { .. }) => Err(L1Error::NoContract { address: self.address }),
            answer => answer,
        }
    }

    async fn constants(&self) -> Result<Constants, L1Error> {
        let read = *self.constants.lock();
        if let Some(read) = read {
            return Ok(read);
        }
        let (client, at) = (&self.client, self.address);
        known(self.version().await?, at)?;
        let constants = Constants {
            deployed_at: client.call(at, &Rollup::deployedAtCall {}).await?,
            l2_chain_id: client.call(at, &Rollup::l2ChainIdCall {}).await?,
            inclusion_window: client.call(at, &Rollup::inclusionWindowCall {}).await?,
            genesis_hash: client.call(at, &Rollup::genesisHashCall {}).await?,
            genesis_state_root: client.call(at, &Rollup::genesisStateRootCall {}).await?,
            genesis_digest: client.call(at, &Rollup::genesisDigestCall {}).await?,
        };
        *self.constants.lock() = Some(constants);
        Ok(constants)
    }

    /// Forgets what a node has said that lies: the next one that is asked may tell the truth.
    fn forget_constants(&self) {
        *self.constants.lock() = None;
    }
}

const fn known(version: u32, address: Address) -> Result<(), L1Error> {
    if version == KNOWN_VERSION {
        return Ok(());
    }
    Err(L1Error::UnknownVersion { address, version, known: KNOWN_VERSION })
}

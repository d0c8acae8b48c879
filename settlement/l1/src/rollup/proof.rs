//! What the contract's storage holds, proved by an L1 block's state root. Its chains of hashes bind what all events say to that one block's hash, however
//! the events were read.

use std::collections::BTreeMap;

use alloy::{
    primitives::{B256, U256, keccak256},
    rpc::types::Header,
    sol_types::SolValue,
};
use millrace_proto::Commitment;

use super::{RollupContract, RollupEvent};
use crate::{L1Error, RollupCounters, contracts::Rollup};

/// `batchCount` and `depositCount`, from the low end. The slots are those of `settlement/contracts/README.md`, and never move.
const QUEUES: u64 = 0;
/// `lastCommittedBatch` and `lastCommittedBlock`, from the low end.
const HEADS: u64 = 1;
/// `batchHashes`.
const BATCH_HASHES: u64 = 3;
/// The hashes of commitments.
const COMMITMENTS: u64 = 4;
/// `depositAccumulator`.
const ACCUMULATORS: u64 = 5;
/// The timelock's address, and the rollup's chain id above its 160 bits.
const L2_CHAIN_ID: u64 = 9;
/// `genesisHash`.
const GENESIS_HASH: u64 = 11;
/// `genesisDigest`.
const GENESIS_DIGEST: u64 = 13;
/// Commitments whose hashes are asked for at a time.
const STRETCH: usize = 4_096;

/// What the contract holds at an L1 block, proved by the block's state root. All events up to the block have to add up to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RollupState {
    /// The L1 block's number.
    pub block: u64,
    /// How much of each there is.
    pub counters: RollupCounters,
    /// The chained hash of all posted batches; zero if there are none.
    pub batch_hash: B256,
    /// The chained hash of all of the queue's entries; zero if there are none.
    pub accumulator: B256,
    /// The hash of the last commitment that stands ([`commitment_hash`]); zero if there is none.
    pub commitment: B256,
}

/// The hash under which the contract keeps a commitment.
pub fn commitment_hash(commitment: &Commitment) -> B256 {
    keccak256(Rollup::Commitment::from(commitment).abi_encode())
}

impl RollupContract {
    /// What the contract holds at an L1 block, with its genesis and chain id checked too. `None` if no node proves that block's state.
    ///
    /// # Errors
    /// [`L1Error::Unproven`] if a node's proof does not hold, or the contract is made with something else than the node said before.
    pub async fn state_at(&self, block: B256) -> Result<Option<RollupState>, L1Error> {
        let header = self.client.header_by_hash(block).await?;
        let header = header.ok_or_else(|| L1Error::BlockMissing(block.to_string()))?;
        self.proven_state(&header).await
    }

    /// The hashes of the commitments that stand at an L1 block to batches up to a number, by batch. `None` if no node proves that block's state.
    ///
    /// # Errors
    /// [`L1Error::Unproven`] if a node's proof does not hold.
    pub async fn commitments_at(
        &self,
        block: B256,
        batches: u64,
    ) -> Result<Option<BTreeMap<u64, B256>>, L1Error> {
        let header = self.client.header_by_hash(block).await?;
        let header = header.ok_or_else(|| L1Error::BlockMissing(block.to_string()))?;
        // A stretch at a time, as the number may be anything that a node makes up.
        let mut found = BTreeMap::new();
        for first in (1..=batches).step_by(STRETCH) {
            let last = batches.min(first.saturating_add(STRETCH as u64 - 1));
            let slots: Vec<B256> =
                (first..=last).map(|number| entry(COMMITMENTS, number)).collect();
            let values = self.client.proven_slots(self.address, &slots, &header).await?;
            let Some(values) = values else { return Ok(None) };
            let stand = (first..).zip(values).filter(|(_, value)| !value.is_zero());
            found.extend(stand.map(|(number, value)| (number, value.into())));
        }
        Ok(Some(found))
    }

    /// The hash of the commitment that stands for a batch at an L1 block; zero if there is none. `None` if no node proves that block's state.
    ///
    /// # Errors
    /// [`L1Error::Unproven`] if a node's proof does not hold.
    pub async fn commitment_at(&self, block: B256, batch: u64) -> Result<Option<B256>, L1Error> {
        let header = self.client.header_by_hash(block).await?;
        let header = header.ok_or_else(|| L1Error::BlockMissing(block.to_string()))?;
        let held = self.proven([entry(COMMITMENTS, batch)], &header).await?;
        Ok(held.map(|[hash]| hash.into()))
    }

    pub(crate) async fn proven_state(
        &self,
        header: &Header,
    ) -> Result<Option<RollupState>, L1Error> {
        let fixed = [QUEUES, HEADS, L2_CHAIN_ID, GENESIS_HASH, GENESIS_DIGEST].map(slot);
        let Some(values) = self.proven(fixed, header).await? else { return Ok(None) };
        let [queues, heads, chain, genesis_hash, genesis_digest] = values;
        let constants = self.constants().await?;
        if low64(chain >> 160) != constants.l2_chain_id
            || B256::from(genesis_hash) != constants.genesis_hash
            || B256::from(genesis_digest) != constants.genesis_digest
        {
            self.forget_constants();
            let problem = format!(
                "another genesis or chain id of the rollup contract than block {} holds",
                header.number
            );
            return Err(self.client.unproven_here(problem).await);
        }
        let counters = RollupCounters {
            batches: low64(queues),
            deposits: low64(queues >> 64),
            committed_batch: low64(heads),
            committed_block: low64(heads >> 64),
        };
        let ends = [
            entry(BATCH_HASHES, counters.batches),
            entry(ACCUMULATORS, counters.deposits),
            entry(COMMITMENTS, counters.committed_batch),
        ];
        let Some(ends) = self.proven(ends, header).await? else { return Ok(None) };
        let [batch_hash, accumulator, commitment] = ends.map(B256::from);
        let block = header.number;
        Ok(Some(RollupState { block, counters, batch_hash, accumulator, commitment }))
    }

    /// Compares the last batch and the last entry of the queue among events with what the contract holds at a later block: each is the end of a chain
    /// of hashes over everything before it. `false` if no node proves that block's state.
    pub(crate) async fn check_ends(
        &self,
        events: &[RollupEvent],
        header: &Header,
    ) -> Result<bool, L1Error> {
        let batch = events.iter().rev().find_map(|event| match event {
            RollupEvent::Posted(batch) => {
                let number = batch.header.number;
                Some((entry(BATCH_HASHES, number), batch.batch_hash, format!("batch {number}")))
            }
            _ => None,
        });
        let queued = events.iter().rev().find_map(|event| match event {
            RollupEvent::Queued { entry: queued, accumulator, .. } => {
                let (index, end) = (queued.index(), queued.index().saturating_add(1));
                Some((
                    entry(ACCUMULATORS, end),
                    *accumulator,
                    format!("entry {index} of the queue"),
                ))
            }
            _ => None,
        });
        let ends: Vec<_> = batch.into_iter().chain(queued).collect();
        let slots: Vec<B256> = ends.iter().map(|(slot, ..)| *slot).collect();
        let proven = self.client.proven_slots(self.address, &slots, header).await?;
        let Some(proven) = proven else { return Ok(false) };
        for ((_, told, what), held) in ends.into_iter().zip(proven.into_iter().map(B256::from)) {
            if told != held {
                let problem =
                    format!("{what} with the chained hash {told}, and the contract holds {held}");
                return Err(self.client.unproven_here(problem).await);
            }
        }
        Ok(true)
    }

    async fn proven<const N: usize>(
        &self,
        slots: [B256; N],
        header: &Header,
    ) -> Result<Option<[U256; N]>, L1Error> {
        let values = self.client.proven_slots(self.address, &slots, header).await?;
        Ok(values.and_then(|values| values.try_into().ok()))
    }
}

/// The slot of a variable.
fn slot(number: u64) -> B256 {
    B256::from(U256::from(number))
}

/// The slot of a mapping's entry.
fn entry(mapping: u64, key: u64) -> B256 {
    keccak256((key, mapping).abi_encode())
}

fn low64(word: U256) -> u64 {
    word.as_limbs()[0]
}

//! What L1 itself has to say of a proof: whether the blocks are its own, and whether the commitment still stands.

use alloy::eips::BlockNumHash;
use millrace_l1::{L1Block, L1Error, RollupContract, commitment_hash};
use millrace_proto::Commitment;

use super::Inclusion;

/// What L1 says of a proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Confirmation {
    /// L1's head when it was asked.
    pub l1_head: BlockNumHash,
    /// Whether L1 has finalized the block that holds the batch's record: then no reorg takes it back.
    pub posted_final: bool,
    /// The commitment.
    pub commitment: Standing,
}

/// What L1 says of a batch's commitment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The proof has none: what derivation makes of the batch is not shown.
    NotCommitted,
    /// It stands.
    Stands {
        /// Whether nobody can revert it any more: its time is over at a finalized L1 block, which also holds it.
        is_final: bool,
        /// Whether the state root of L1's head proves it (`eth_getProof`), and not the node's word alone.
        is_proved: bool,
    },
}

/// Why L1 does not confirm a proof.
#[derive(Debug, thiserror::Error)]
pub enum ConfirmError {
    /// L1 did not answer, or not so that it could be believed.
    #[error(transparent)]
    L1(#[from] L1Error),
    /// The L1 is another one than that of the proof.
    #[error("the L1 node is of chain {found}, and the proof is for chain {expected}")]
    WrongChain {
        /// What the node says.
        found: u64,
        /// The proof's.
        expected: u64,
    },
    /// L1 has another block there, or none (yet).
    #[error("L1 does not have block {} {}, which the proof stands on: a reorg has taken it, the node is behind, or the proof is made up", .0.number, .0.hash)]
    NotOnL1(BlockNumHash),
    /// The commitment was reverted, or another one stands in its place.
    #[error(
        "the commitment to batch {0} does not stand any more: it was reverted; prove the inclusion again"
    )]
    Reverted(u64),
}

impl Inclusion {
    /// Asks L1 whether the blocks that hold the records are its own, and whether the commitment stands.
    ///
    /// # Errors
    /// See [`ConfirmError`].
    pub async fn confirm(&self, rollup: &RollupContract) -> Result<Confirmation, ConfirmError> {
        let client = rollup.client();
        let (found, expected) = (client.chain_id().await?, self.l1_chain_id);
        if found != expected {
            return Err(ConfirmError::WrongChain { found, expected });
        }
        rollup.check_version().await?;
        has(rollup, self.batch.l1.block).await?;
        let (head, finalized) = (client.head().await?, client.finalized().await?);
        let is_final = |block: BlockNumHash| {
            finalized.as_ref().is_some_and(|finalized| finalized.number >= block.number)
        };
        let commitment = match &self.commitment {
            None => Standing::NotCommitted,
            Some(commitment) => standing(rollup, commitment, head, finalized).await?,
        };
        // What was read in between may be of another branch: the blocks are looked for once more.
        has(rollup, self.batch.l1.block).await?;
        let posted_final = is_final(self.batch.l1.block);
        Ok(Confirmation { l1_head: head.id(), posted_final, commitment })
    }
}

async fn standing(
    rollup: &RollupContract,
    commitment: &Commitment,
    head: L1Block,
    finalized: Option<L1Block>,
) -> Result<Standing, ConfirmError> {
    has(rollup, commitment.l1.block).await?;
    let expected = commitment_hash(commitment);
    let (held, is_proved) = match rollup.commitment_at(head.hash, commitment.batch).await? {
        Some(held) => (held, true),
        None => (rollup.commitment_hash(commitment.batch).await?, false),
    };
    if held != expected {
        return Err(ConfirmError::Reverted(commitment.batch));
    }
    let is_final = finalized.is_some_and(|finalized| {
        finalized.number >= commitment.l1.block.number && finalized.timestamp >= commitment.final_at
    });
    Ok(Standing::Stands { is_final, is_proved })
}

/// Makes sure that L1 has a block.
async fn has(rollup: &RollupContract, block: BlockNumHash) -> Result<(), ConfirmError> {
    let found = rollup.client().block(block.number).await?;
    if found.is_some_and(|found| found.hash == block.hash) {
        return Ok(());
    }
    Err(ConfirmError::NotOnL1(block))
}

//! Reading L1 from the contract's deployment to the target.

use std::sync::Arc;

use alloy::eips::BlockNumHash;
use millrace_l1::{L1Block, RollupContract};
use millrace_proto::{ChainSpec, DaReader, Replay};
use tracing::info;

use super::{
    Difference, VerifyError, VerifyProgress, VerifyReport,
    events::{Progress, Rebuilt},
};
use crate::{
    derivation::{Derivation, DerivationHead},
    execution::ReplayWorker,
};

/// How far to verify.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum VerifyTarget {
    /// To L1's latest block: every posted batch.
    #[default]
    Latest,
    /// To L1's finalized block: what no L1 reorg can change any more.
    Finalized,
}

/// What to verify, and with what.
#[derive(Debug)]
pub struct VerifyInput {
    /// The contract.
    pub rollup: RollupContract,
    /// Reads the batches' bytes.
    pub reader: Arc<dyn DaReader>,
    /// The genesis and rules that the contract published.
    pub spec: Arc<ChainSpec>,
    /// An empty chain with that genesis.
    pub replay: Box<dyn Replay>,
    /// How far.
    pub until: VerifyTarget,
}

/// Rebuilds the chain from L1 alone, and checks everything that L1 holds of it: the genesis, the deposit queue, the chain of
/// batches, every batch's claims, every commitment. `progress` is called after every batch and every stretch of L1.
///
/// # Errors
/// [`VerifyError::Differs`] names the first thing that is wrong; the others say why verification could not be done.
pub async fn verify_chain(
    input: VerifyInput,
    mut progress: impl FnMut(VerifyProgress) + Send,
) -> Result<VerifyReport, VerifyError> {
    let VerifyInput { rollup, reader, spec, replay, until } = input;
    let client = rollup.client().clone();
    let start = rollup.deployed_at().await?;
    let finalized = client.finalized().await?;
    let target = match until {
        VerifyTarget::Latest => client.head().await?,
        VerifyTarget::Finalized => {
            finalized.filter(|block| block.number >= start).ok_or(VerifyError::NothingFinalized)?
        }
    };
    // Now, as the node may have dropped the block's state by the time that all is read.
    let counters = rollup.counters_at(target.number).await?;
    let head = genesis(&rollup, &spec, replay.as_ref()).await?;
    let mut rebuilt = Rebuilt {
        derivation: Derivation::new(&spec, rollup.address()),
        reader,
        replay: ReplayWorker::spawn(replay).map_err(VerifyError::Thread)?,
        finalized_at: finalized.filter(|block| block.number <= target.number).map(Into::into),
        head,
        state: Progress::default(),
    };
    info!(target: "millrace::settlement", from = start, to = target.number, "verifying the chain on L1");
    let read = read_all(&rollup, &mut rebuilt, start, &target, &mut progress).await;
    // What a reorg mixed up must not be mistaken for a fault of the chain.
    match client.block(target.number).await? {
        Some(block) if block.hash == target.hash => read?,
        _ => return Err(VerifyError::L1Moved { number: target.number }),
    }
    rebuilt.state.compare(&counters, target.number)?;
    let report = VerifyReport {
        blocks: rebuilt.state.blocks,
        transactions: rebuilt.state.transactions,
        batches: rebuilt.state.batches,
        commitments: rebuilt.state.commitments.len() as u64,
        deposits: rebuilt.state.deposits,
        skipped: std::mem::take(&mut rebuilt.state.skipped),
        head: BlockNumHash::new(rebuilt.head.number, rebuilt.head.hash),
        finalized: rebuilt.finalized(),
        l1_head: target.id(),
    };
    rebuilt.replay.close().await?;
    Ok(report)
}

/// Compares the empty chain's genesis with the contract's.
async fn genesis(
    rollup: &RollupContract,
    spec: &ChainSpec,
    replay: &dyn Replay,
) -> Result<DerivationHead, VerifyError> {
    let header = replay.head();
    if header.number != 0 {
        return Err(VerifyError::NotEmpty { head: header.number });
    }
    let chain_id = rollup.l2_chain_id().await?;
    if chain_id != spec.chain_id() {
        let got = spec.chain_id();
        return Err(Difference::new("chain id", "the genesis block", chain_id, got).into());
    }
    let equal = |what, expected, got| {
        if expected == got {
            Ok(())
        } else {
            Err(Difference::new(what, "the genesis block", expected, got))
        }
    };
    equal("state root", rollup.genesis_state_root().await?, header.state_root)?;
    equal("hash", rollup.genesis_hash().await?, header.seal())?;
    Ok(DerivationHead {
        number: 0,
        hash: header.seal(),
        timestamp: header.timestamp,
        deposits_end: 0,
    })
}

async fn read_all(
    rollup: &RollupContract,
    rebuilt: &mut Rebuilt,
    start: u64,
    target: &L1Block,
    progress: &mut (impl FnMut(VerifyProgress) + Send),
) -> Result<(), VerifyError> {
    let stretch = rollup.client().options().log_range.max(1);
    let mut next = start;
    while next <= target.number {
        let last = target.number.min(next.saturating_add(stretch - 1));
        for event in rollup.events(next, last).await? {
            let l1_block = event.l1().block.number;
            let batches = rebuilt.state.batches;
            rebuilt.event(event).await?;
            if rebuilt.state.batches != batches {
                progress(reached(rebuilt, start, l1_block, target));
            }
        }
        progress(reached(rebuilt, start, last, target));
        next = last.saturating_add(1);
    }
    match rebuilt.state.wrong_commitment() {
        Some(difference) => Err(difference.into()),
        None => Ok(()),
    }
}

fn reached(rebuilt: &Rebuilt, start: u64, l1_block: u64, target: &L1Block) -> VerifyProgress {
    VerifyProgress {
        l1_block,
        l1_start: start,
        l1_target: target.number,
        block: rebuilt.head.number,
        batches: rebuilt.state.batches,
        transactions: rebuilt.state.transactions,
    }
}

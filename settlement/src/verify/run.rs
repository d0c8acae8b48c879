//! Reading L1 from the contract's deployment to the target.

use std::{collections::VecDeque, sync::Arc};

use alloy::eips::BlockNumHash;
use millrace_l1::{L1Block, L1Error, RollupContract, RollupEvent};
use millrace_proto::{ChainSpec, DaReader, Replay};
use tracing::{info, warn};

use super::{
    Difference, L1Check, VerifyError, VerifyProgress, VerifyReport,
    counters::Held,
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
    /// Whether a wrong commitment that stands on L1 is an error. Blocks and states follow from the batches alone.
    pub commitments: bool,
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
    let VerifyInput { rollup, reader, spec, replay, until, commitments } = input;
    let client = rollup.client().clone();
    let start = rollup.deployed_at().await?;
    let finalized = client.finalized().await?;
    let fixed = match until {
        VerifyTarget::Latest => None,
        VerifyTarget::Finalized => {
            let block = finalized.filter(|block| block.number >= start);
            Some(block.ok_or(VerifyError::NothingFinalized)?)
        }
    };
    // Now, as the node may have dropped the block's state by the time that all is read.
    let (target, held) = bound(&rollup, fixed).await?;
    let l1_checked = match &held {
        Some(_) => L1Check::Proof,
        None if client.options().check_blocks => L1Check::Receipts,
        None => L1Check::None,
    };
    let counters = match &held {
        Some(held) => held.state.counters,
        None => rollup.counters_at(target.number).await?,
    };
    let head = genesis(&rollup, &spec, replay.as_ref()).await?;
    let mut rebuilt = Rebuilt {
        derivation: Derivation::new(&spec, rollup.address()),
        reader,
        replay: ReplayWorker::spawn(replay).map_err(VerifyError::Thread)?,
        finalized_at: finalized.filter(|block| block.number <= target.number).map(Into::into),
        head,
        state: Progress::default(),
        ahead: None,
        preparing: Arc::default(),
    };
    info!(target: "millrace::settlement", from = start, to = target.number, "verifying the chain on L1");
    let range = Range { start, target, by_block: l1_checked == L1Check::Receipts };
    let read = read_all(&rollup, &mut rebuilt, &range, &mut progress).await;
    // What a reorg mixed up must not be mistaken for a fault of the chain.
    match client.block(target.number).await? {
        Some(block) if block.hash == target.hash => read?,
        _ => return Err(VerifyError::L1Moved { number: target.number }),
    }
    if commitments && let Some(difference) = rebuilt.state.wrong_commitment() {
        return Err(difference.into());
    }
    let l1_agreed = client.agreed(target.id()).await?;
    rebuilt.state.compare(&counters, target.number)?;
    if let Some(held) = &held {
        rebuilt.state.compare_held(held)?;
    }
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
        l1_checked,
        l1_agreed,
    };
    rebuilt.replay.close().await?;
    Ok(report)
}

/// How often an L1 node is asked to prove the contract's state, each time at its newest block: some prove that of no other.
const PROOF_TRIES: u32 = 3;

/// The L1 block to verify to, and what the contract holds there; `None` if that is not proved, or L1 is not to be checked.
async fn bound(
    rollup: &RollupContract,
    fixed: Option<L1Block>,
) -> Result<(L1Block, Option<Held>), VerifyError> {
    let client = rollup.client();
    let mut tries = 0;
    loop {
        let target = match fixed {
            Some(block) => block,
            None => client.head().await?,
        };
        if !client.options().check_blocks {
            return Ok((target, None));
        }
        tries += 1;
        match held(rollup, &target).await {
            Ok(Some(held)) => return Ok((target, Some(held))),
            Ok(None) if tries >= PROOF_TRIES || fixed.is_some() => {
                warn!(target: "millrace::settlement", block = target.number, "no L1 node proves the contract's state (eth_getProof); reading block by block, which takes longer");
                return Ok((target, None));
            }
            Err(error) if tries >= PROOF_TRIES || !error.is_retryable() => return Err(error.into()),
            Ok(None) | Err(_) => tokio::time::sleep(client.options().poll_interval).await,
        }
    }
}

async fn held(rollup: &RollupContract, block: &L1Block) -> Result<Option<Held>, L1Error> {
    let Some(state) = rollup.state_at(block.hash).await? else { return Ok(None) };
    let commitments = rollup.commitments_at(block.hash, state.counters.batches).await?;
    Ok(commitments.map(|commitments| Held { state, commitments }))
}

/// The L1 blocks to read.
#[derive(Debug)]
struct Range {
    start: u64,
    target: L1Block,
    /// Whether what each holds is checked.
    by_block: bool,
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
    range: &Range,
    progress: &mut (impl FnMut(VerifyProgress) + Send),
) -> Result<(), VerifyError> {
    let Range { start, target, by_block } = range;
    let stretch = rollup.client().options().log_range.max(1);
    let (mut next, mut parent) = (*start, None);
    while next <= target.number {
        let last = target.number.min(next.saturating_add(stretch - 1));
        let events = if *by_block {
            let (events, end) = rollup.events_by_block(parent, next, last).await?;
            parent = Some(end.hash);
            events
        } else {
            rollup.events(next, last).await?
        };
        let mut events = VecDeque::from(events);
        while let Some(event) = events.pop_front() {
            let l1_block = event.l1().block.number;
            let batches = rebuilt.state.batches;
            let next_batch = || {
                events.iter().find_map(|event| match event {
                    RollupEvent::Posted(batch) => Some(batch),
                    _ => None,
                })
            };
            let is_batch = matches!(event, RollupEvent::Posted(_));
            let after = is_batch.then(next_batch).flatten();
            rebuilt.event(event, after).await?;
            if rebuilt.state.batches != batches {
                progress(reached(rebuilt, range, l1_block));
            }
        }
        progress(reached(rebuilt, range, last));
        next = last.saturating_add(1);
    }
    // The blocks have to be those that lead to the one that everything is bound to.
    if parent.is_some_and(|end| end != target.hash) {
        return Err(VerifyError::L1Moved { number: target.number });
    }
    Ok(())
}

fn reached(rebuilt: &Rebuilt, range: &Range, l1_block: u64) -> VerifyProgress {
    VerifyProgress {
        l1_block,
        l1_start: range.start,
        l1_target: range.target.number,
        block: rebuilt.head.number,
        batches: rebuilt.state.batches,
        transactions: rebuilt.state.transactions,
    }
}

//! How far the chain is settled, as the settlement service tells it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::StreamExt;
use millrace_proto::{
    BatchPoint, BlockNumHash, BlockSelector, ErrorChain, ExecutorError, Settlement,
    SettlementStatus, num_hash,
};
use parking_lot::Mutex;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{lifecycle::SettledWhen, log::SettledBlocks, shared::Shared};

const RETRY: Duration = Duration::from_secs(1);

/// What settlement has derived from L1, as far as it is not this sequencer's chain.
#[derive(Debug, Default)]
pub(crate) struct Derived {
    /// The end of what is to be taken over.
    end: Mutex<Option<BlockNumHash>>,
    /// The last block that is posted, by its batch's header alone.
    posted: AtomicU64,
    /// The last block that was derived and found right.
    judged: AtomicU64,
    /// Whether settlement has said what L1 holds.
    is_known: AtomicBool,
}

impl Derived {
    /// What there is to take over. It is told again for as long as settlement says so.
    pub(crate) fn take(&self) -> Option<BlockNumHash> {
        self.end.lock().take()
    }

    /// The last block that L1 holds, as far as is known.
    pub(crate) fn posted(&self) -> u64 {
        self.posted.load(Ordering::Relaxed)
    }

    /// The last block that settlement has derived and found right, as far as is known.
    pub(crate) fn judged(&self) -> u64 {
        self.judged.load(Ordering::Relaxed)
    }

    fn set(&self, status: &SettlementStatus) {
        let last = |point: Option<BatchPoint>| point.map_or(0, |point| point.last_block);
        let unmatched = status.unmatched.map_or(0, |end| end.number);
        let judged = last(status.verified).max(unmatched);
        *self.end.lock() = status.unmatched;
        self.judged.store(judged, Ordering::Relaxed);
        self.posted.store(last(status.posted).max(judged), Ordering::Relaxed);
        // Before it has seen L1 it knows nothing.
        if status.l1_head != BlockNumHash::default() {
            self.is_known.store(true, Ordering::Relaxed);
        }
    }

    /// Whether settlement has said what L1 holds, since the start.
    pub(crate) fn is_known(&self) -> bool {
        self.is_known.load(Ordering::Relaxed)
    }

    /// Settlement is silent: what was to be taken over may not be so any more.
    fn silent(&self) {
        *self.end.lock() = None;
    }
}

/// Follows the settlement service until it is told to stop. While it does not answer, the heads stay where they are.
pub(crate) async fn follow(
    settlement: Arc<dyn Settlement>,
    shared: Arc<Shared>,
    stop: CancellationToken,
) {
    let mut answers = true;
    loop {
        let followed = tokio::select! {
            followed = follow_once(&*settlement, &shared, &mut answers) => followed,
            () = stop.cancelled() => return,
        };
        shared.derived.silent();
        if let Err(error) = followed
            && std::mem::take(&mut answers)
        {
            let error = ErrorChain::new(&*error);
            warn!(target: "millrace::sequencer", %error, "settlement does not answer; safe and finalized stay where they are");
        }
        tokio::select! {
            () = tokio::time::sleep(RETRY) => {}
            () = stop.cancelled() => return,
        }
    }
}

async fn follow_once(
    settlement: &dyn Settlement,
    shared: &Shared,
    answers: &mut bool,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut statuses = settlement.subscribe_status().await?;
    let mut again = tokio::time::interval(RETRY);
    again.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut last, mut own) = (None::<SettlementStatus>, shared.own_posted());
    loop {
        let is_new = tokio::select! {
            status = statuses.next() => match status {
                Some(status) => {
                    last = Some(status?);
                    true
                }
                None => return Ok(()),
            },
            _ = again.tick() => false,
        };
        let before = std::mem::replace(&mut own, shared.own_posted());
        let Some(status) = &last else { continue };
        tell(shared, status);
        if !is_new && before == own {
            continue;
        }
        let unwound = shared.heads.unwound_times();
        let claimed = settled_blocks(status, shared.heads.unwound_from(), own);
        if !std::mem::replace(answers, true) {
            info!(target: "millrace::sequencer", "settlement answers again");
        }
        if is_ours(shared, status).await? {
            settle(shared, claimed, SettledWhen::At(shared.wall()), unwound).await?;
        }
    }
}

/// Tells the builder what L1 holds.
fn tell(shared: &Shared, status: &SettlementStatus) {
    shared.derived.set(status);
    if status.posted.is_some() || status.unmatched.is_some() {
        shared.work.notify_one();
    }
}

/// `own_posted`: what is posted beyond may be somebody else's, until it is verified. `unwound_from`: a posted batch up to this block may hold blocks that were taken back, until one is verified. One that is not matched holds others.
fn settled_blocks(status: &SettlementStatus, unwound_from: u64, own_posted: u64) -> SettledBlocks {
    let last = |point: Option<BatchPoint>| point.map_or(0, |point| point.last_block);
    let verified = last(status.verified);
    let posted = last(status.posted).min(verified.max(own_posted));
    SettledBlocks {
        posted: if verified < unwound_from || status.unmatched.is_some() {
            posted.min(verified)
        } else {
            posted
        },
        committed: last(status.committed),
        finalized: last(status.finalized),
    }
}

/// Whether settlement speaks of this chain: it may not have seen yet that an L1 reorg took what blocks were made of, which are taken back here; or L1 holds other
/// blocks, or more.
async fn is_ours(shared: &Shared, status: &SettlementStatus) -> Result<bool, ExecutorError> {
    for point in [status.verified, status.committed, status.finalized].into_iter().flatten() {
        let Some(hash) = point.last_block_hash else { continue };
        let header = shared.executor.header(BlockSelector::Number(point.last_block)).await?;
        if header.is_none_or(|header| header.seal() != hash) {
            debug!(target: "millrace::sequencer", block = point.last_block, %hash, "settlement speaks of a block that is not here");
            return Ok(false);
        }
    }
    Ok(true)
}

/// Moves the heads forward to what is claimed, unless blocks were taken back since that had happened `unwound` times.
pub(crate) async fn settle(
    shared: &Shared,
    claimed: SettledBlocks,
    when: SettledWhen,
    unwound: u64,
) -> Result<(), ExecutorError> {
    let settled = shared.heads.advance(claimed);
    let now = shared.heads.now();
    let name = async |number: u64, now: BlockNumHash| {
        if number == now.number {
            return Ok(now);
        }
        let header = shared.executor.header(BlockSelector::Number(number)).await?;
        let header = header.ok_or(ExecutorError::UnknownBlock(BlockSelector::Number(number)))?;
        Ok::<_, ExecutorError>(num_hash(&header))
    };
    let safe = name(settled.posted, now.safe).await?;
    let finalized = name(settled.finalized, now.finalized).await?;
    let _turn = shared.settling.lock().await;
    if shared.heads.unwound_times() != unwound {
        return Ok(());
    }
    // The log first: what was told is known after a restart.
    if let SettledWhen::At(at) = when
        && settled != now.settled
    {
        shared.note_settled(settled, at).await;
    }
    if !shared.heads.settle(settled, safe, finalized, when, unwound) {
        return Ok(());
    }
    shared.metrics.heads(now.latest.number, safe.number, finalized.number);
    Ok(())
}

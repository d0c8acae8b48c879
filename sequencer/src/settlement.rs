//! How far the chain is settled, as the settlement service tells it.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use millrace_proto::{
    BlockNumHash, BlockSelector, ErrorChain, ExecutorError, Settlement, SettlementStatus, num_hash,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{lifecycle::SettledWhen, log::SettledBlocks, shared::Shared};

const RETRY: Duration = Duration::from_secs(1);

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
    while let Some(status) = statuses.next().await {
        let status = status?;
        let unwound = shared.heads.unwound_times();
        let claimed = settled_blocks(&status, shared.heads.unwound_from());
        if !std::mem::replace(answers, true) {
            info!(target: "millrace::sequencer", "settlement answers again");
        }
        if is_ours(shared, &status).await? {
            settle(shared, claimed, SettledWhen::At(shared.wall()), unwound).await?;
        }
    }
    Ok(())
}

/// `unwound_from`: a posted batch up to this block may hold blocks that were taken back, until one is verified.
fn settled_blocks(status: &SettlementStatus, unwound_from: u64) -> SettledBlocks {
    let last =
        |point: Option<millrace_proto::BatchPoint>| point.map_or(0, |point| point.last_block);
    let (posted, verified) = (last(status.posted), last(status.verified));
    SettledBlocks {
        posted: if verified < unwound_from { posted.min(verified) } else { posted },
        committed: last(status.committed),
        finalized: last(status.finalized),
    }
}

/// Whether settlement speaks of this chain: it may not have seen yet that an L1 reorg took what blocks were made of, which are taken back here.
async fn is_ours(shared: &Shared, status: &SettlementStatus) -> Result<bool, ExecutorError> {
    for point in [status.verified, status.committed, status.finalized].into_iter().flatten() {
        let Some(hash) = point.last_block_hash else { continue };
        let header = shared.executor.header(BlockSelector::Number(point.last_block)).await?;
        let taken_back = || point.last_block <= shared.heads.unwound_from();
        if header.map_or_else(taken_back, |header| header.seal() != hash) {
            debug!(target: "millrace::sequencer", block = point.last_block, %hash, "settlement speaks of a block that was taken back");
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
    if !shared.heads.settle(settled, safe, finalized, when, unwound) {
        return Ok(());
    }
    shared.metrics.heads(now.latest.number, safe.number, finalized.number);
    Ok(())
}

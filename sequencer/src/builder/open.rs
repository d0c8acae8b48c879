//! Opening a block, and building it again when the executor lost it.

use std::sync::Arc;

use alloy::primitives::Address;
use millrace_proto::{ExecutorError, MAX_BLOCK_TX_BYTES, Noting, QueuedTxs};
use tokio::time::Instant;
use tracing::{debug, trace};

use super::{Builder, FIRST_RETRY, OpenBlock, Place};
use crate::{
    SequencerRunError,
    log::{BlockOpened, Position, Record},
    replay::{Built, FrameResult, LeftOut, LoggedBlock},
    shared::Shared,
};

impl Builder {
    /// Opens the block after the head, with the deposits and forced transactions that wait.
    pub(super) async fn open(&mut self) -> Result<(), SequencerRunError> {
        let config = &self.shared.config;
        let gas_limit = self.shared.spec.rollup().gas_limit;
        let nothing = QueuedTxs::new(self.queue, [], Address::ZERO);
        let feed = self.deposits.as_ref();
        let timestamp = self.shared.clock.now().as_secs().max(self.head.timestamp);
        let max = config.max_deposits_per_block;
        let queued = feed.map_or(nothing, |feed| feed.take(max, gas_limit, timestamp));
        let opened = BlockOpened {
            number: self.head.number + 1,
            parent_hash: self.head.seal(),
            timestamp,
            queued,
        };
        trace!(target: "millrace::sequencer", number = opened.number, queued = opened.queued.txs.len(), "opening a block");
        let (shared, ticket) = (self.shared.clone(), self.shared.preconfirmer.ticket());
        let written = move |result: Result<Position, _>| {
            if result.is_ok() {
                shared.preconfirmer.written(ticket);
            }
        };
        let record = Record::BlockOpened(opened.clone());
        self.writer.append(vec![record], Box::new(written)).await;

        let deadline = self.next_deadline();
        let block = LoggedBlock::new(opened);
        let noting = self.shared.preconfirmer.noting();
        let mut built = self.build(&block, noting).await?;
        let queued = std::mem::take(&mut built.queued);
        self.set_open(block, built, deadline, LeftOut::default(), Place::default());
        if let Some(open) = &mut self.open {
            open.tell(&self.shared.preconfirmer, ticket, queued);
        }
        Ok(())
    }

    /// Blocks that follow each other closely keep to a grid; one that comes after a pause starts a new one.
    fn next_deadline(&self) -> Instant {
        let (now, block_time) = (Instant::now(), self.shared.config.block_time);
        let on_grid = self.last_deadline + block_time;
        if on_grid > now { on_grid } else { now + block_time }
    }

    fn set_open(
        &mut self,
        block: LoggedBlock,
        built: Built,
        deadline: Instant,
        left_out: LeftOut,
        place: Place,
    ) {
        let gas_limit = self.shared.spec.rollup().gas_limit;
        let bytes_left = MAX_BLOCK_TX_BYTES.saturating_sub(block.framed_bytes());
        let most = self.shared.config.max_block_transactions;
        let txs_left = most.saturating_sub(block.frames.iter().map(Vec::len).sum());
        self.open = Some(OpenBlock {
            block,
            base_fee: built.build.base_fee().unwrap_or(0),
            build: built.build,
            gas_left: gas_limit.saturating_sub(built.gas_used),
            bytes_left,
            txs_left,
            deadline,
            left_out,
            place,
            noting: built.noting,
        });
    }

    /// Brings a block into the executor, however often that takes.
    pub(super) async fn build(
        &mut self,
        block: &LoggedBlock,
        noting: Noting,
    ) -> Result<Built, SequencerRunError> {
        let head = &self.head.clone();
        if self.storing.is_some() {
            let shared = self.shared.clone();
            let built = block.build(&*shared.executor, &shared.spec, head, noting);
            match self.busy(built).await? {
                Ok(built) => return Ok(built),
                // It may have lost the block that is being stored.
                Err(error) => {
                    debug!(target: "millrace::sequencer", number = block.opened.number, %error, "cannot build on the block that is being stored");
                    self.stored().await?;
                }
            }
        }
        let build = move |shared: Arc<Shared>| async move {
            block.build(&*shared.executor, &shared.spec, head, noting).await
        };
        self.insist(block.opened.number, build).await
    }

    /// The executor lost the open block while it executed the last frame: builds the block again. Returns what became of that
    /// frame.
    pub(super) async fn rebuild(
        &mut self,
        open: OpenBlock,
        error: ExecutorError,
    ) -> Result<FrameResult, SequencerRunError> {
        let OpenBlock { block, build, deadline, left_out, place, noting, .. } = open;
        drop(build);
        let number = block.opened.number;
        self.stored().await?;
        let mut delay = FIRST_RETRY;
        self.before_retry(number, error, &mut delay).await?;
        let noting = self.shared.preconfirmer.noting().max(noting);
        let mut built = self.build(&block, noting).await?;
        let last = built.frames.pop().unwrap_or_default();
        built.gas_used = built.gas_used.saturating_sub(last.gas_used);
        let earlier = std::iter::once(&built.queued);
        let earlier = earlier.chain(built.frames.iter().map(|frame| &frame.included));
        let again = earlier.fold(Place::default(), Place::after);
        if again != place {
            // What was told of it would not hold.
            let problem =
                format!("it built block {number} otherwise than before: {again:?}, not {place:?}");
            let source = ExecutorError::Stopped(problem);
            return Err(SequencerRunError::Executor { block: number, source });
        }
        self.set_open(block, built, deadline, left_out, place);
        if let Some(open) = &mut self.open
            && let Some(frame) = open.block.frames.last()
        {
            // As it was before the last frame, which the caller counts.
            open.bytes_left += frame.iter().map(|tx| tx.batch_bytes()).sum::<usize>();
            open.txs_left += frame.len();
        }
        debug!(target: "millrace::sequencer", number, "built the open block again");
        Ok(last)
    }
}

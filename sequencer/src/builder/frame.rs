//! Frames: the next transactions, to the log and through the executor at the same time.

use std::sync::Arc;

use millrace_proto::{Noting, OpenPoint, Preconfirmation, RecoveredTx};
use tokio::time::Instant;
use tracing::debug;

use super::{
    Builder, OpenBlock, Place,
    persist::{Batch, TakenFrame},
};
use crate::{
    SequencerRunError,
    pool::{Frame, FrameLimits},
    preconfirmations::{FrameEnd, Preconfirmer, Reached, Ticket},
    replay::Included,
};

impl Builder {
    /// Gives the open block the next transactions, and writes whatever else is not written yet.
    pub(super) async fn frame(&mut self) -> Result<(), SequencerRunError> {
        let count = if self.owes() { 0 } else { self.shared.config.max_frame_transactions };
        let allowed = self.shared.throttle.allows(Instant::now().into_std());
        let wall = self.shared.wall();
        let open = self.open.as_ref().map(|open| {
            let limits = FrameLimits {
                count: count.min(open.txs_left),
                gas_left: open.gas_left,
                bytes_left: open.bytes_left,
                allowed,
                base_fee: open.base_fee,
                wall,
            };
            (open.block.opened.number, limits)
        });
        let Some((number, limits)) = open else { return self.flush().await };
        let ticket = self.shared.preconfirmer.ticket();
        let (batch, more, is_full) = {
            let mut pool = self.shared.ledger.pool.lock();
            let Frame { txs, accepted_at, is_full } = pool.take_frame(limits);
            let more = !txs.is_empty() && pool.has_executable(limits.base_fee);
            let frame = TakenFrame { block: number, ticket, txs, accepted_at };
            (Batch::take(&mut pool, Some(frame), wall), more, is_full)
        };
        self.more = more;
        let txs = batch.framed().to_vec();
        self.write(batch).await;
        if !txs.is_empty() {
            self.last_frame = Instant::now();
            self.shared.metrics.frame_transactions.record(txs.len() as f64);
            self.execute(ticket, txs).await?;
        }
        let (last, min_block_time) = (self.last_deadline, self.shared.config.min_block_time);
        if let Some(open) = &mut self.open
            && (is_full || open.txs_left == 0)
        {
            open.close_early(last, min_block_time);
        }
        Ok(())
    }

    /// Has as much noted of the open block as is asked for by now. What is kept once is kept to the block's end; what begins later begins with all that the block has
    /// changed so far, so that what the next frame changes can be told alone.
    pub(super) async fn note(&mut self) -> Result<(), SequencerRunError> {
        let asked = self.shared.preconfirmer.noting();
        let Some(mut open) = self.open.take() else { return Ok(()) };
        let noting = asked.max(open.noting.min(Noting::Kept));
        if noting > open.noting && open.place != Place::default() {
            let noted = self.busy(open.build.execute_noting(Vec::new(), noting)).await?;
            if let Err(error) = noted {
                // If it has lost the block, the next frame finds out.
                debug!(target: "millrace::sequencer", %error, "cannot read the open block");
                self.open = Some(open);
                return Ok(());
            }
            self.shared.preconfirmer.kept();
        }
        open.noting = noting;
        self.open = Some(open);
        Ok(())
    }

    async fn execute(
        &mut self,
        ticket: Ticket,
        txs: Vec<Arc<RecoveredTx>>,
    ) -> Result<(), SequencerRunError> {
        let Some(mut open) = self.open.take() else { return Ok(()) };
        let started = Instant::now();
        open.block.frames.push(txs.clone());
        let executed = open.build.execute_noting(txs.clone(), open.noting);
        let executed = self.busy(executed).await?;
        let result = match executed.and_then(|executed| open.block.judge(&txs, executed)) {
            Ok(result) => {
                self.open = Some(open);
                result
            }
            Err(error) => self.rebuild(open, error).await?,
        };
        self.shared.metrics.frame_seconds.record(started.elapsed());
        if let Some(open) = &mut self.open {
            open.gas_left = open.gas_left.saturating_sub(result.gas_used);
            let framed: usize = txs.iter().map(|tx| tx.batch_bytes()).sum();
            open.bytes_left = open.bytes_left.saturating_sub(framed);
            open.txs_left = open.txs_left.saturating_sub(txs.len());
            self.shared.throttle.took(framed);
            open.left_out.note(&result.verdicts);
            open.tell(&self.shared.preconfirmer, ticket, result.included);
        }
        let now = self.shared.now();
        self.shared.ledger.pool.lock().settle_frame(result.verdicts, now);
        Ok(())
    }
}

impl OpenBlock {
    /// Tells subscribers what a frame came to, once it is on disk.
    pub(super) fn tell(&mut self, preconfirmer: &Preconfirmer, ticket: Ticket, included: Included) {
        if included.transactions.is_empty() {
            return;
        }
        let Place { frame, start } = self.place;
        self.place = self.place.after(&included);
        let Included { transactions, receipts, diff } = included;
        let opened = &self.block.opened;
        let Some(last) = transactions.last().map(|tx| tx.hash()) else { return };
        let point = OpenPoint { number: opened.number, parent: opened.parent_hash, last };
        let reached = Reached { point, kept: self.noting != Noting::Nothing };
        let told = preconfirmer.feed().is_wanted().then(|| Preconfirmation {
            block: opened.number,
            parent_hash: opened.parent_hash,
            timestamp: opened.timestamp,
            base_fee: self.base_fee,
            frame,
            start,
            transactions,
            receipts,
            diff,
        });
        preconfirmer.executed(ticket, FrameEnd { reached, told });
    }
}

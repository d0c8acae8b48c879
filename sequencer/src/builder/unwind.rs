//! Taking blocks back, because an L1 reorg took deposits or forced transactions that they hold, because L1 holds others, or because it takes them no
//! more.
//!
//! The log first, then the executor: whatever the process dies at, a start finds in the log which blocks are void, and takes them back in
//! the executor. What the blocks held besides the queue's entries waits again.

use std::{sync::Arc, time::Duration};

use millrace_proto::{
    BlockSelector, ErrorChain, ExecutedBlock, ExecutorError, QueueMark, SealedHeader, Standing,
    TxEnvelope, num_hash,
};
use tracing::{error, info, warn};

use super::Builder;
use crate::{
    OpenError, SequencerRunError,
    deposits::DepositFeed,
    log::{AcceptTimes, Record},
    pool::{Closed, Pool},
    recovery::{Recovered, recover},
    service::restore,
    shared::Shared,
};

/// Bytes of transactions in one append, about.
pub(super) const APPEND_BYTES: usize = 32 << 20;

impl Builder {
    /// Takes back the blocks that hold what L1 does not have any more.
    pub(super) async fn unwind(&mut self) -> Result<(), SequencerRunError> {
        let Some(feed) = self.deposits.clone() else { return Ok(()) };
        let Some(stays) = self.last_sound(&feed).await? else { return Ok(()) };
        let (from, to) = (self.head.number, stays.number);
        let queue = QueueMark::of(&stays).unwrap_or_default();
        if to == from && self.open.is_none() {
            feed.unwind(queue, stays.timestamp);
            return Ok(());
        }
        let finalized = self.shared.heads.now().finalized.number;
        if to < finalized {
            return Err(SequencerRunError::FinalVanished { block: to + 1, finalized });
        }
        error!(target: "millrace::sequencer", from, to, hash = %stays.seal(), "L2 reorg: an L1 reorg took deposits or forced transactions that these blocks hold; all others of their transactions are sequenced again");
        self.replace(stays, &[]).await
    }

    /// Puts blocks in the place of those after `stays`. What the others hold besides the queue's entries, and these do not, waits again.
    pub(super) async fn replace(
        &mut self,
        stays: SealedHeader,
        with: &[Arc<ExecutedBlock>],
    ) -> Result<(), SequencerRunError> {
        let (from, to) = (self.head.number, stays.number);
        let began = std::time::Instant::now();
        let shared = self.shared.clone();
        // What settlement says meanwhile is of other blocks.
        let _turn = shared.settling.lock().await;
        self.shared.ledger.pool.lock().close(Closed::Unwinding);
        let mut moved = self.void(to).await?;
        self.shared.preconfirmer.forget();
        let sealed_at = self.shared.wall();
        self.log_derived(with, sealed_at).await?;
        moved.extend(with.iter().flat_map(|block| &block.transactions).map(|tx| tx.hash()));
        let last = num_hash(&stays);
        let unwound =
            self.insist(to, |shared| async move { shared.executor.unwind(last).await }).await;
        match unwound {
            Err(SequencerRunError::Executor {
                source: source @ ExecutorError::StatePruned { .. },
                ..
            }) => return Err(SequencerRunError::TooDeep { to, source }),
            unwound => unwound?,
        }

        // From here on it is a start.
        let unwinding = |source| SequencerRunError::Unwind { to, source: Box::new(source) };
        let started = self.insist(to, |shared| async move {
            match start_again(&shared).await {
                Err(OpenError::Executor(error)) => Err(error),
                started => Ok(started),
            }
        });
        let (head, pool) = started.await?.map_err(unwinding)?;
        self.head = head.clone();
        self.queue = QueueMark::of(&head).unwrap_or_default();
        if let Some(feed) = &self.deposits {
            // Blocks that are taken over may be old, and what they took still be new on L1.
            let taken_at = if with.is_empty() { 0 } else { shared.wall().as_secs() };
            feed.unwind(self.queue, taken_at.max(head.timestamp));
        }
        shared.set_next_block(&head);
        self.reopen(pool, stays, &head, (with, sealed_at));
        shared.waiters.wake(moved.into_iter());
        shared.metrics.unwound(from - to);
        info!(target: "millrace::sequencer", head = head.number, took = ?began.elapsed(), "blocks replaced; sequencing goes on");
        Ok(())
    }

    /// The last block up to which L1 has everything; `None` if it does not answer.
    async fn last_sound(
        &mut self,
        feed: &DepositFeed,
    ) -> Result<Option<SealedHeader>, SequencerRunError> {
        let mut at = self.head.clone();
        let mut asked = None;
        loop {
            let mark = QueueMark::of(&at).unwrap_or_default();
            let place = (mark.end, mark.hash);
            if asked.replace(place) != Some(place) {
                let patience = self.shared.config.deposit_patience.as_secs();
                match self.busy(feed.standing(mark)).await? {
                    Ok(Standing::Whole) => return Ok(Some(at)),
                    Ok(Standing::Replaced) => {}
                    Ok(Standing::Fewer(time))
                        if time >= feed.taken_at().saturating_add(patience) => {}
                    Ok(Standing::Fewer(_)) => {
                        // Another node than the one that was asked before, perhaps, and behind it.
                        feed.look_again();
                        return Ok(None);
                    }
                    Err(error) => {
                        let error = ErrorChain::new(&error);
                        warn!(target: "millrace::sequencer", %error, "cannot ask L1 for its deposit queue; what it lacks is looked at again");
                        feed.look_again();
                        return Ok(None);
                    }
                }
            }
            let Some(before) = at.number.checked_sub(1) else { return Ok(Some(at)) };
            let before_at = BlockSelector::Number(before);
            at = self
                .insist(before, |shared| async move {
                    let header = shared.executor.header(before_at).await?;
                    header.ok_or(ExecutorError::UnknownBlock(before_at))
                })
                .await?;
        }
    }

    /// Writes into the log that the blocks after `to` are void. Returns the transactions that wait again.
    async fn void(&mut self, to: u64) -> Result<Vec<alloy::primitives::TxHash>, SequencerRunError> {
        self.flush().await?;
        let mut records = Vec::new();
        if let Some(open) = self.open.take() {
            let number = open.block.opened.number;
            let (txs, accepted_at) = (Vec::new(), Vec::new());
            records.push(Record::BlockUnwound { number, hash: None, txs, accepted_at });
        }
        let (mut bytes, mut returned) = (0, Vec::new());
        for number in (to + 1..=self.head.number).rev() {
            let block = self.block(number).await?;
            let times = self.accepted_at(number).await?;
            let times = times.into_iter().chain(std::iter::repeat(None));
            let signed = block.transactions.iter().zip(times);
            let signed = signed.filter(|(tx, _)| !matches!(tx.tx(), TxEnvelope::Deposit(_)));
            let (txs, accepted_at): (Vec<_>, Vec<_>) =
                signed.map(|(tx, at)| (tx.clone(), at)).unzip();
            returned.extend(txs.iter().map(|tx| tx.hash()));
            bytes += txs.iter().map(|tx| tx.encoded().len()).sum::<usize>();
            let hash = Some(block.hash());
            records.push(Record::BlockUnwound { number, hash, txs, accepted_at });
            if bytes >= APPEND_BYTES {
                bytes = 0;
                self.append(std::mem::take(&mut records)).await?;
            }
        }
        self.append(records).await?;
        Ok(returned)
    }

    /// When a block's transactions were accepted, in the block's order, as far as that is known.
    async fn accepted_at(&mut self, number: u64) -> Result<AcceptTimes, SequencerRunError> {
        if let Some(times) = self.shared.ledger.recent.read().accepted_at(number) {
            return Ok(times);
        }
        let times = self.ask_log("unwinding", move |log| log.block_times(number)).await?;
        Ok(times.unwrap_or_default().accepted_at)
    }

    /// A block of this chain.
    pub(super) async fn block(
        &mut self,
        number: u64,
    ) -> Result<Arc<ExecutedBlock>, SequencerRunError> {
        let at = BlockSelector::Number(number);
        let ask = |shared: Arc<Shared>| async move {
            let block = shared.executor.block(at).await?;
            block.ok_or(ExecutorError::UnknownBlock(at))
        };
        self.insist(number, ask).await
    }

    /// Appends records, and waits until they are on disk.
    pub(super) async fn append(&mut self, records: Vec<Record>) -> Result<(), SequencerRunError> {
        self.writer.append(records, Box::new(|_| {})).await;
        self.writer.durable().await.map_err(SequencerRunError::Log)
    }

    /// Puts a pool in the place of the one that was closed, and tells of the new head.
    fn reopen(
        &self,
        mut pool: Pool,
        stays: SealedHeader,
        head: &SealedHeader,
        (with, sealed_at): (&[Arc<ExecutedBlock>], Duration),
    ) {
        let shared = &self.shared;
        let status = {
            let mut old = shared.ledger.pool.lock();
            // A stop, or a log that fails, is not undone.
            if let Some(closed) = old.closed().filter(|closed| !matches!(closed, Closed::Unwinding))
            {
                pool.close(closed);
            }
            *old = pool;
            // A transaction is always found in one of the two.
            let mut recent = shared.ledger.recent.write();
            recent.unwind(stays.number);
            for block in with {
                // When others acknowledged them is not known.
                recent.push(block.clone(), Vec::new());
            }
            drop(recent);
            old.status()
        };
        shared.heads.unwound(stays);
        if !with.is_empty() {
            shared.heads.sealed(head.clone(), sealed_at);
        }
        shared.metrics.pool(status);
        let heads = shared.heads.now();
        shared.metrics.heads(head.number, heads.safe.number, heads.finalized.number);
    }
}

/// What a start would find: the head, and a pool of everything that waits.
async fn start_again(shared: &Arc<Shared>) -> Result<(SealedHeader, Pool), OpenError> {
    let Recovered { head, pool: waiting } =
        recover(&shared.log, &*shared.executor, &shared.spec, shared.wall()).await?;
    let mut pool = shared.ledger.pool.lock().unwound_to(head.number);
    restore(shared, &mut pool, waiting).await?;
    Ok((head, pool))
}

//! Sealing a block, and telling everyone.

use std::sync::Arc;

use millrace_proto::{ExecutedBlock, ExecutorError, StateDiff};
use tokio::time::Instant;
use tracing::debug;

use super::{Builder, FIRST_RETRY, OpenBlock, persist::Batch};
use crate::{
    SequencerRunError,
    log::{BlockTimes, Record},
    pool::{Loaded, load_accounts},
    replay::{Brought, LeftOut, LoggedBlock},
};

impl Builder {
    /// Seals the open block once all its frames are on disk.
    pub(super) async fn seal(&mut self) -> Result<(), SequencerRunError> {
        let Some(OpenBlock { block, build, deadline, left_out, .. }) = self.open.take() else {
            return Ok(());
        };
        let started = Instant::now();
        let durable = self.writer.durable();
        self.busy(durable).await?.map_err(SequencerRunError::Log)?;
        let sealed = match self.busy(build.seal()).await? {
            Ok(sealed) => sealed,
            Err(error) => self.seal_again(&block, error).await?,
        };
        self.shared.metrics.seal_seconds.record(started.elapsed());

        let number = sealed.number();
        let sealed_at = self.shared.wall();
        // The block's drops are in the same write: its record alone would say that they are included.
        let (batch, returned, accepted_at) = {
            let mut pool = self.shared.ledger.pool.lock();
            let LeftOut { mut returned, dropped } = left_out;
            // What was dropped and has been submitted again since waits like what was returned.
            returned.extend(dropped.into_keys().filter(|hash| pool.holds(*hash)));
            let batch = Batch::take(&mut pool, None, sealed_at);
            (batch, returned, pool.accepted_at(&sealed))
        };
        let hash = sealed.hash();
        let returned = returned.into_iter().collect();
        let times = BlockTimes { sealed_at: Some(sealed_at), accepted_at };
        let record = Record::BlockSealed { number, hash, returned, times: times.clone() };
        self.write_after(vec![record], batch).await;

        self.last_deadline = deadline;
        self.queue = block.opened.queued.mark;
        self.publish(sealed, times).await?;
        self.checkpoint(number).await
    }

    /// Sealing failed, or its reply was lost: finds out which, and seals the block again if it is not there.
    async fn seal_again(
        &mut self,
        block: &LoggedBlock,
        error: ExecutorError,
    ) -> Result<Arc<ExecutedBlock>, SequencerRunError> {
        let number = block.opened.number;
        let mut delay = FIRST_RETRY;
        let mut error = error;
        loop {
            self.before_retry(number, error, &mut delay).await?;
            let (shared, parent) = (self.shared.clone(), self.head.clone());
            let brought = block.bring(&*shared.executor, &shared.spec, &parent);
            error = match self.busy(brought).await? {
                Ok(Brought::Sealed(sealed, _)) => {
                    self.answered();
                    return Ok(sealed);
                }
                Ok(Brought::OtherHead(head)) => {
                    return Err(SequencerRunError::NotAlone {
                        block: number,
                        executor: head.number,
                        hash: head.seal(),
                    });
                }
                Err(error) => error,
            };
        }
    }

    /// Brings pool, heads and waiters up to date with a sealed block.
    async fn publish(
        &mut self,
        sealed: Arc<ExecutedBlock>,
        times: BlockTimes,
    ) -> Result<(), SequencerRunError> {
        let shared = self.shared.clone();
        let interval = self.sealed_any.then(|| self.last_sealed.elapsed());
        self.last_sealed = Instant::now();
        self.sealed_any = true;
        self.head = sealed.header.clone();
        shared.metrics.sealed(&sealed, interval);

        let changes = self.changes(sealed.number()).await?;
        let now = shared.now();
        // Recent blocks first: a transaction is always found in one of the two.
        shared.ledger.recent.write().push(sealed.clone(), times.accepted_at);
        shared.heads.sealed(sealed.header.clone(), times.sealed_at.unwrap_or(now.wall));
        shared.set_next_block(&sealed.header);
        let (since, status) = {
            let mut pool = shared.ledger.pool.lock();
            (pool.sealed(&sealed, changes, now), pool.status())
        };
        for since in since {
            shared.metrics.sequence_seconds.record(now.instant.duration_since(since));
        }
        shared.metrics.pool(status);
        let heads = shared.heads.now();
        shared.metrics.heads(sealed.number(), heads.safe.number, heads.finalized.number);
        shared.waiters.wake(sealed.transactions.iter().map(|tx| tx.hash()));
        debug!(
            target: "millrace::sequencer",
            number = sealed.number(),
            hash = %sealed.hash(),
            transactions = sealed.transactions.len(),
            gas = sealed.header.gas_used,
            "sealed a block"
        );
        Ok(())
    }

    /// What a sealed block changed; or, where the executor does not keep that, the accounts of everyone in the pool after it.
    async fn changes(
        &mut self,
        number: u64,
    ) -> Result<Result<Arc<StateDiff>, Loaded>, SequencerRunError> {
        self.insist(number, |shared| async move {
            if let Some(diff) = shared.executor.state_diff(number).await? {
                return Ok(Ok(diff));
            }
            let senders = shared.ledger.pool.lock().active_senders();
            load_accounts(&*shared.executor, &senders, number).await.map(Err)
        })
        .await
    }
}

//! The service as callers see it.

use std::{net::IpAddr, sync::Arc, time::Duration};

use alloy::primitives::{Address, Bytes, TxHash};
use async_trait::async_trait;
use futures::{FutureExt, StreamExt, stream};
use millrace_proto::{
    Admission, BlockSelector, BoxStream, ChainHeads, DataPrice, FrameDetail, OpenPoint,
    PoolContent, PoolStatus, PooledTx, Preconfirmations, RecoveredTx, Sequencer, SequencerError,
    SequencerStatus, Stage, SubmitError, TxPool, TxStatus,
};
use tokio::sync::watch;

use crate::{
    lifecycle::{Known, reached, stage_of, status_at},
    preconfirmations::Reached,
    shared::Shared,
};

/// Takes transactions and tells their fate. Clones are cheap and share one service.
#[derive(Debug, Clone)]
pub struct SequencerHandle {
    shared: Arc<Shared>,
}

/// How long a reader waits until the executor keeps what the open block changes.
const OPEN_BLOCK_WAIT: Duration = Duration::from_secs(2);

/// The stages of a transaction that is included, in order.
const STAGES: [Stage; 5] =
    [Stage::Accepted, Stage::Sequenced, Stage::Posted, Stage::Committed, Stage::Finalized];

impl SequencerHandle {
    pub(crate) const fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Waits until a transaction has reached a stage or was dropped, and returns what is known of it then.
    async fn wait_until(&self, hash: TxHash, wanted: Stage) -> Result<Known, SequencerError> {
        let shared = &self.shared;
        loop {
            // Before it is looked for: what is taken back after that is seen.
            let unwound = shared.heads.follow_unwound();
            let known = shared.find(hash).await?;
            match &known {
                Some(known) if reached(known.stage(&shared.heads), wanted) => {
                    return Ok(known.clone());
                }
                Some(Known::Included { block, .. }) => {
                    self.wait_for_block_stage(block.number(), wanted, unwound).await?;
                }
                Some(_) => self.wait_for_step(hash).await?,
                None if shared.ledger.pool.lock().get(hash).is_some() => {
                    self.wait_for_step(hash).await?;
                }
                // It may have been sealed between the two looks.
                None => {
                    return match shared.find(hash).await? {
                        Some(_) => continue,
                        None => Err(SequencerError::UnknownTransaction(hash)),
                    };
                }
            }
        }
    }

    /// Waits for the next step of a transaction that is in the pool; returns at once if it is not there any more.
    async fn wait_for_step(&self, hash: TxHash) -> Result<(), SequencerError> {
        let shared = &self.shared;
        let before = shared.ledger.pool.lock().get(hash).map(|pooled| pooled.durable);
        let woken = shared.waiters.register(hash);
        // What happened since the caller looked did not wake us.
        let after = shared.ledger.pool.lock().get(hash).map(|pooled| pooled.durable);
        if before != after || after.is_none() {
            drop(woken);
            shared.waiters.clean(hash);
            return Ok(());
        }
        tokio::select! {
            _ = woken => Ok(()),
            () = shared.ended.cancelled() => Err(shared.closed_error()),
        }
    }

    async fn wait_for_block_stage(
        &self,
        block: u64,
        wanted: Stage,
        mut unwound: watch::Receiver<u64>,
    ) -> Result<(), SequencerError> {
        let shared = &self.shared;
        let mut settled = shared.heads.follow_settled();
        let reached = settled.wait_for(|settled| reached(stage_of(*settled, block), wanted));
        tokio::select! {
            // The sender lives as long as this handle.
            _ = reached => Ok(()),
            // It may be in another block now.
            _ = unwound.changed() => Ok(()),
            () = shared.ended.cancelled() => Err(shared.closed_error()),
        }
    }

    async fn status_now(&self, hash: TxHash, known: &Known) -> Result<TxStatus, SequencerError> {
        self.status_when(hash, known, known.stage(&self.shared.heads)).await
    }

    async fn status_when(
        &self,
        hash: TxHash,
        known: &Known,
        stage: Stage,
    ) -> Result<TxStatus, SequencerError> {
        let batch = match known.block_number() {
            Some(block) if stage >= Stage::Posted => self.shared.batch_of(block).await,
            _ => None,
        };
        let reached_at = self.shared.reached_at(known, stage).await?;
        Ok(status_at(hash, known, stage, batch.as_ref(), reached_at))
    }
}

#[async_trait]
impl TxPool for SequencerHandle {
    async fn submit(&self, raw: Bytes) -> Result<TxHash, SubmitError> {
        self.submit_from(raw, None).await
    }

    async fn submit_from(&self, raw: Bytes, from: Option<IpAddr>) -> Result<TxHash, SubmitError> {
        let mut results = self.shared.submit(vec![raw], from).await;
        results.pop().unwrap_or_else(|| Err(self.shared.closed_error().into()))
    }

    async fn admit(&self, raw: Vec<Bytes>) -> Vec<Admission> {
        self.admit_from(raw, None).await
    }

    async fn admit_from(&self, raw: Vec<Bytes>, from: Option<IpAddr>) -> Vec<Admission> {
        let entered = self.shared.enter(raw, from).await;
        let finish = |progress| {
            let shared = self.shared.clone();
            async move { shared.finish(progress).await }.boxed()
        };
        entered.into_iter().map(finish).collect()
    }

    async fn pending_nonce(&self, sender: Address) -> Result<u64, SequencerError> {
        if let Some(nonce) = self.shared.ledger.pool.lock().next_nonce(sender) {
            return Ok(nonce);
        }
        let accounts = self.shared.executor.accounts(&[sender], BlockSelector::Latest).await?;
        Ok(accounts.into_iter().next().flatten().unwrap_or_default().nonce)
    }

    async fn pooled(&self, hash: TxHash) -> Result<Option<Arc<RecoveredTx>>, SequencerError> {
        let pooled = self.shared.ledger.pool.lock().get(hash);
        Ok(pooled.filter(|pooled| pooled.durable).map(|pooled| pooled.tx))
    }

    async fn stages(&self, hash: TxHash) -> Result<Vec<TxStatus>, SequencerError> {
        let Some(known) = self.shared.find(hash).await? else { return Ok(Vec::new()) };
        let reached = known.stage(&self.shared.heads);
        let stages: &[Stage] = match reached {
            Stage::Dropped => &[Stage::Accepted, Stage::Dropped],
            _ => &STAGES,
        };
        let mut statuses = Vec::new();
        for stage in stages.iter().filter(|stage| **stage <= reached) {
            statuses.push(self.status_when(hash, &known, *stage).await?);
        }
        Ok(statuses)
    }

    async fn pool_content(
        &self,
        sender: Option<Address>,
        limit: usize,
    ) -> Result<Option<PoolContent>, SequencerError> {
        Ok(self.shared.ledger.pool.lock().content(sender, limit))
    }

    async fn data_price(&self) -> Result<DataPrice, SequencerError> {
        Ok(self.shared.data_fees.price())
    }

    async fn pool_status(&self) -> Result<PoolStatus, SequencerError> {
        Ok(self.shared.ledger.pool.lock().status())
    }

    async fn heads(&self) -> Result<ChainHeads, SequencerError> {
        Ok(self.shared.heads.now().chain_heads())
    }

    async fn open_point(&self) -> Result<Option<OpenPoint>, SequencerError> {
        let shared = &self.shared;
        let mut reached = shared.preconfirmer.read();
        let can_be_read =
            |reached: &Option<Reached>| reached.is_none_or(|reached: Reached| reached.kept);
        if !can_be_read(&reached.borrow()) {
            // The builder has it kept from now on.
            shared.work.notify_one();
        }
        let found = async { reached.wait_for(can_be_read).await.ok().and_then(|found| *found) };
        tokio::select! {
            biased;
            found = found => Ok(found.map(|reached| reached.point)),
            () = shared.ended.cancelled() => Err(shared.closed_error()),
            () = tokio::time::sleep(OPEN_BLOCK_WAIT) => {
                let why = "the executor does not show the open block; try again";
                Err(SequencerError::Unavailable(why.to_owned()))
            }
        }
    }

    async fn preconfirmations(
        &self,
        detail: FrameDetail,
    ) -> Result<Option<Preconfirmations>, SequencerError> {
        let shared = self.shared.clone();
        let ended = move || shared.closed_error();
        Ok(Some(self.shared.preconfirmer.feed().subscribe(detail, ended)))
    }
}

#[async_trait]
impl Sequencer for SequencerHandle {
    async fn submit_many(&self, raw: Vec<Bytes>) -> Vec<Result<TxHash, SubmitError>> {
        self.shared.submit(raw, None).await
    }

    async fn wait_for(&self, hash: TxHash, stage: Stage) -> Result<TxStatus, SequencerError> {
        let known = self.wait_until(hash, stage).await?;
        self.status_now(hash, &known).await
    }

    async fn watch(
        &self,
        hash: TxHash,
    ) -> Result<BoxStream<TxStatus, SequencerError>, SequencerError> {
        // Unknown is an error of the call, not of the stream.
        self.wait_until(hash, Stage::Accepted).await?;
        let handle = self.clone();
        let statuses = stream::unfold(Some(0), move |next: Option<usize>| {
            let handle = handle.clone();
            async move {
                let index = next?;
                let stage = *STAGES.get(index)?;
                let status = match handle.wait_until(hash, stage).await {
                    Ok(known) => handle.status_when(hash, &known, stage).await,
                    Err(error) => Err(error),
                };
                match status {
                    Ok(status) => {
                        let next = (!status.stage.is_last()).then_some(index + 1);
                        Some((Ok(status), next))
                    }
                    Err(error) => Some((Err(error), None)),
                }
            }
        });
        Ok(statuses.boxed())
    }

    async fn transaction(&self, hash: TxHash) -> Result<Option<PooledTx>, SequencerError> {
        let Some(known) = self.shared.find(hash).await? else { return Ok(None) };
        let status = self.status_now(hash, &known).await?;
        Ok(known.tx().map(|tx| PooledTx { tx, status }))
    }

    async fn status(&self) -> Result<SequencerStatus, SequencerError> {
        let shared = &self.shared;
        let heads = shared.heads.now();
        Ok(SequencerStatus {
            chain_id: shared.spec.chain_id(),
            pool: shared.ledger.pool.lock().status(),
            block_time: shared.config.block_time,
            next_base_fee: shared.spec.next_base_fee(&heads.latest).unwrap_or(0),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            heads: heads.chain_heads(),
            data_price: shared.data_fees.price(),
        })
    }
}

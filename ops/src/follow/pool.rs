//! What JSON-RPC needs of a sequencer, of a node that is none: transactions go on to the sequencer, heads are this node's own.

use std::{collections::HashMap, sync::Arc};

use alloy::primitives::{Address, Bytes, TxHash};
use async_trait::async_trait;
use futures::StreamExt;
use millrace_proto::{
    Admission, BatchPoint, BlockNumHash, BlockSelector, ChainHeads, DataPrice, ErrorChain,
    Executor, ExecutorError, FrameDetail, FrameFeed, PoolStatus, Preconfirmations, RecoveredTx,
    SequencerError, Settlement, SubmitError, TxPool, TxStatus, admitted, grpc::SequencerClient,
    num_hash,
};
use millrace_settlement::SettlementHandle;
use tokio::sync::Mutex;

/// Batches back in which the end of what is derived and here is looked for.
const LOOK_BACK: u64 = 64;

/// The sequencer's pool, if there is one, and this node's heads.
#[derive(Debug)]
pub(super) struct FollowPool {
    sequencer: Option<SequencerClient>,
    executor: Arc<dyn Executor>,
    settlement: SettlementHandle,
    /// The sequencer's frames, followed while somebody here listens; with state diffs apart, so that nobody who does not want them has them made and sent.
    frames: Arc<Mutex<HashMap<FrameDetail, FrameFeed>>>,
}

impl FollowPool {
    pub(super) fn new(
        sequencer: Option<SequencerClient>,
        executor: Arc<dyn Executor>,
        settlement: SettlementHandle,
    ) -> Self {
        Self { sequencer, executor, settlement, frames: Arc::default() }
    }
}

fn no_sequencer() -> SubmitError {
    SequencerError::Unavailable(
        "this node follows L1 alone; start it with --sequencer, or queue the transaction on L1 with `millrace force-include`".to_owned(),
    )
    .into()
}

#[async_trait]
impl TxPool for FollowPool {
    async fn submit(&self, raw: Bytes) -> Result<TxHash, SubmitError> {
        match &self.sequencer {
            Some(sequencer) => sequencer.submit(raw).await,
            None => Err(no_sequencer()),
        }
    }

    async fn admit(&self, raw: Vec<Bytes>) -> Vec<Admission> {
        match &self.sequencer {
            Some(sequencer) => sequencer.admit(raw).await,
            None => admitted(raw.iter().map(|_| Err(no_sequencer()))),
        }
    }

    async fn pending_nonce(&self, sender: Address) -> Result<u64, SequencerError> {
        if let Some(sequencer) = &self.sequencer
            && let Ok(nonce) = sequencer.pending_nonce(sender).await
        {
            return Ok(nonce);
        }
        let accounts = self.executor.accounts(&[sender], BlockSelector::Latest).await?;
        Ok(accounts.into_iter().next().flatten().unwrap_or_default().nonce)
    }

    async fn pooled(&self, hash: TxHash) -> Result<Option<Arc<RecoveredTx>>, SequencerError> {
        match &self.sequencer {
            Some(sequencer) => sequencer.pooled(hash).await,
            None => Ok(None),
        }
    }

    async fn stages(&self, hash: TxHash) -> Result<Vec<TxStatus>, SequencerError> {
        match &self.sequencer {
            Some(sequencer) => sequencer.stages(hash).await,
            None => Err(SequencerError::Unavailable(
                "this node has no sequencer to ask; see the receipt and the block's tags"
                    .to_owned(),
            )),
        }
    }

    /// Nothing while the sequencer does not tell: it is only what fees are suggested by.
    async fn data_price(&self) -> Result<DataPrice, SequencerError> {
        Ok(match &self.sequencer {
            Some(sequencer) => sequencer.data_price().await.unwrap_or_default(),
            None => DataPrice::default(),
        })
    }

    async fn pool_status(&self) -> Result<PoolStatus, SequencerError> {
        match &self.sequencer {
            Some(sequencer) => sequencer.pool_status().await,
            None => Ok(PoolStatus::default()),
        }
    }

    /// The sequencer's, as it tells them: what they say is not checked here before the block is sealed.
    async fn preconfirmations(
        &self,
        detail: FrameDetail,
    ) -> Result<Option<Preconfirmations>, SequencerError> {
        let Some(sequencer) = &self.sequencer else { return Ok(None) };
        let mut followed = self.frames.lock().await;
        let ended = || SequencerError::Unavailable("the sequencer tells no more frames".to_owned());
        if let Some(feed) = followed.get(&detail).filter(|feed| feed.is_wanted()) {
            return Ok(Some(feed.subscribe(detail, ended)));
        }
        // One stream for all who listen here: those who are slow do not hold up what else comes from the sequencer.
        let Some(mut frames) = sequencer.preconfirmations(detail).await? else { return Ok(None) };
        let feed = FrameFeed::default();
        let subscribed = feed.subscribe(detail, ended);
        followed.insert(detail, feed.clone());
        let slot = Arc::clone(&self.frames);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    frame = frames.next() => match frame {
                        Some(Ok(frame)) => feed.tell(frame),
                        _ => break,
                    },
                    () = feed.unwanted() => {
                        // Nobody can begin to listen meanwhile.
                        let mut followed = slot.lock().await;
                        if !feed.is_wanted() {
                            followed.remove(&detail);
                            break;
                        }
                    }
                }
            }
            feed.close();
        });
        Ok(Some(subscribed))
    }

    /// Safe is what was derived from L1, executed here and found right; final is what L1 calls final of that.
    async fn heads(&self) -> Result<ChainHeads, SequencerError> {
        let status = self.settlement.status();
        let latest = num_hash(&self.executor.head().await?);
        let safe = self.matched(status.verified, latest).await?;
        let finalized = self.matched(status.finalized, latest).await?;
        let finalized = if finalized.number > safe.number { safe } else { finalized };
        Ok(ChainHeads { latest, safe, finalized })
    }
}

impl FollowPool {
    /// The last block up to a batch's end at which the chain here is what was derived: it may be behind, or have lost blocks, or hold others for a while.
    async fn matched(
        &self,
        point: Option<BatchPoint>,
        latest: BlockNumHash,
    ) -> Result<BlockNumHash, SequencerError> {
        let settlement = |error| SequencerError::Unavailable(ErrorChain::new(&error).to_string());
        let mut batch = match point {
            Some(point) if point.last_block > latest.number => {
                let holding = self.settlement.batch_of_block(latest.number).await;
                holding.map_err(settlement)?.map_or(0, |holding| holding.number)
            }
            point => point.map_or(0, |point| point.batch),
        };
        for _ in 0..LOOK_BACK {
            if batch == 0 {
                break;
            }
            let verdict = self.settlement.verdict(batch).await.map_err(settlement)?;
            if let Some(Ok(end)) = verdict.map(|verdict| verdict.end) {
                let header = self.executor.header(BlockSelector::Number(end.number)).await?;
                if header.is_some_and(|header| header.seal() == end.hash) {
                    return Ok(end);
                }
            }
            batch -= 1;
        }
        let genesis = BlockSelector::Number(0);
        let header = self.executor.header(genesis).await?;
        Ok(num_hash(&header.ok_or(ExecutorError::UnknownBlock(genesis))?))
    }
}

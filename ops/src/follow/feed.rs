//! The sequencer's blocks, executed one after the other.

use std::{sync::Arc, time::Duration};

use eyre::Result;
use futures::StreamExt;
use millrace_proto::{
    BlockAttributes, BlockNumHash, BlockSelector, ChainSpec, DecodeTxError, ErrorChain, ErrorClass,
    Executor, ExecutorError, Outage, PublishedBlock, QueueMark, RecoveredTx, SealedHeader,
    SequencerError, Settlement, SettlementError, TxOutcome, grpc::SequencerClient,
};
use millrace_settlement::SettlementHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{Turn, alarm::Alarm};

/// Between two looks at a feed that does not answer, or does not join the chain.
const PAUSE: Duration = Duration::from_secs(1);

/// Follows the sequencer's feed.
#[derive(Debug)]
pub(super) struct Feed {
    pub(super) sequencer: SequencerClient,
    pub(super) executor: Arc<dyn Executor>,
    pub(super) settlement: SettlementHandle,
    pub(super) spec: Arc<ChainSpec>,
    pub(super) turn: Turn,
    pub(super) alarm: Arc<Alarm>,
    /// For how long the feed may differ from what L1 has: each may see an L1 reorg before the other.
    pub(super) patience: Duration,
}

/// Why the feed is not followed at the moment.
#[derive(Debug, thiserror::Error)]
enum Interrupted {
    #[error("sequencer: {0}")]
    Sequencer(#[from] SequencerError),
    #[error("executor: {0}")]
    Executor(#[from] ExecutorError),
    #[error("derivation: {0}")]
    Settlement(#[from] SettlementError),
    /// L1 holds something else, or may yet.
    #[error("{0}")]
    Differs(String),
    #[error(
        "L1 holds batch {0}, which is not derived yet, over blocks that the sequencer has taken back"
    )]
    Pending(u64),
}

/// What came of a block.
enum Taken {
    /// It is the head.
    Executed,
    /// It does not follow the head.
    Apart,
}

impl Feed {
    /// Follows until it is told to stop. While the sequencer does not answer, the chain grows by what L1 has.
    ///
    /// # Errors
    /// When the executor fails for good.
    pub(super) async fn run(self, stop: CancellationToken) -> Result<()> {
        let mut outage = Outage::new();
        let mut differs: Option<Instant> = None;
        loop {
            let followed = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                followed = self.follow(&mut outage, &mut differs) => followed,
            };
            match followed {
                Ok(()) => {}
                Err(Interrupted::Executor(error)) if error.class() == ErrorClass::Fatal => {
                    return Err(error.into());
                }
                Err(Interrupted::Differs(why)) => {
                    let since = *differs.get_or_insert_with(Instant::now);
                    if since.elapsed() >= self.patience {
                        self.alarm.raise(why);
                    } else {
                        warn!(target: "millrace::follow", why, "the sequencer's feed and L1 differ; looking again");
                    }
                }
                Err(error) => {
                    let error = ErrorChain::new(&error);
                    if outage.failed() {
                        warn!(target: "millrace::follow", %error, "the sequencer's feed is interrupted; the chain follows L1 alone meanwhile");
                    } else {
                        debug!(target: "millrace::follow", %error, "the feed is still interrupted");
                    }
                }
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    }

    /// Follows one stream to its end.
    async fn follow(
        &self,
        outage: &mut Outage,
        differs: &mut Option<Instant>,
    ) -> Result<(), Interrupted> {
        let next = self.executor.head().await?.number + 1;
        let mut blocks = self.sequencer.blocks(next).await?;
        while let Some(block) = blocks.next().await {
            let block = block?;
            if let Some(past) = outage.over() {
                info!(target: "millrace::follow", failures = past.failures, lasted = ?past.lasted, "the sequencer's feed goes on");
            }
            match self.take(block).await? {
                Taken::Executed => {
                    *differs = None;
                    self.alarm.clear();
                }
                Taken::Apart => return self.rejoin().await,
            }
        }
        Ok(())
    }

    /// Executes the block after the head.
    async fn take(&self, block: PublishedBlock) -> Result<Taken, Interrupted> {
        let PublishedBlock { header, transactions } = block;
        let number = header.number;
        // Off the async threads; nobody's word is taken for who signed.
        let decoded = tokio::task::spawn_blocking(move || {
            let txs = RecoveredTx::decode_batch(transactions).into_iter();
            txs.map(|tx| tx.map(Arc::new)).collect::<Result<Vec<_>, DecodeTxError>>()
        });
        let decoded = match decoded.await {
            Ok(decoded) => decoded,
            Err(error) => return Err(ExecutorError::Stopped(error.to_string()).into()),
        };
        let wrong = |problem: String| {
            Interrupted::Differs(format!("the sequencer's block {number}: {problem}"))
        };
        let txs = decoded.map_err(|error| wrong(error.to_string()))?;
        let queue = QueueMark::of(&header).ok_or_else(|| wrong("no rollup's header".to_owned()))?;

        let _turn = self.turn.lock().await;
        let parent = self.executor.head().await?;
        if header.hash() == parent.hash() {
            // L1 had it before.
            return Ok(Taken::Executed);
        }
        if (number, header.parent_hash) != (parent.number + 1, parent.hash()) {
            let known = self.executor.header(BlockSelector::Number(number)).await?;
            let same = known.is_some_and(|known| known.hash() == header.hash());
            return Ok(if same { Taken::Executed } else { Taken::Apart });
        }
        let attributes = BlockAttributes::rollup(&self.spec, &parent, header.timestamp, queue);
        let mut build = self.executor.open_block(attributes).await?;
        for outcome in build.execute(txs).await? {
            match outcome {
                TxOutcome::Included { .. } => {}
                TxOutcome::Invalid(reason) => return Err(wrong(reason.to_string())),
                TxOutcome::NoRoom => return Err(wrong("it is over its gas limit".to_owned())),
            }
        }
        let sealed = build.seal().await?;
        if sealed.hash() == header.hash() {
            return Ok(Taken::Executed);
        }
        self.executor.unwind(num_hash(&parent)).await?;
        Err(wrong(format!("its hash is {}, executing it gives {}", header.hash(), sealed.hash())))
    }

    /// The sequencer has taken blocks back, or has others than L1: goes back to the last that both have, unless L1 holds the next.
    async fn rejoin(&self) -> Result<(), Interrupted> {
        let mut at = self.executor.head().await?;
        loop {
            let theirs = self.sequencer.block(at.number).await?;
            if theirs.is_some_and(|theirs| theirs.header.hash() == at.hash()) {
                break;
            }
            let Some(before) = at.number.checked_sub(1) else {
                let why = "the sequencer's chain has another genesis block: --sequencer or --rollup is of another chain";
                return Err(Interrupted::Differs(why.to_owned()));
            };
            let before = BlockSelector::Number(before);
            let header = self.executor.header(before).await?;
            at = header.ok_or(ExecutorError::UnknownBlock(before))?;
        }
        let _turn = self.turn.lock().await;
        let head = self.executor.head().await?;
        if head.number <= at.number {
            return Ok(());
        }
        let next = at.number + 1;
        if let Some(batch) = self.settlement.batch_of_block(next).await? {
            match self.settlement.verdict(batch.number).await? {
                // It is no part of the chain.
                Some(verdict) if verdict.end.is_err() => {}
                Some(_) => {
                    return Err(Interrupted::Differs(format!(
                        "L1 holds block {next} in batch {}, and the sequencer has another one",
                        batch.number
                    )));
                }
                None => return Err(Interrupted::Pending(batch.number)),
            }
        }
        warn!(target: "millrace::follow", from = head.number, to = at.number, hash = %at.hash(), "L2 reorg: the sequencer has taken these blocks back");
        Ok(self.executor.unwind(num_hash(&at)).await?)
    }
}

fn num_hash(header: &SealedHeader) -> BlockNumHash {
    BlockNumHash { number: header.number, hash: header.hash() }
}

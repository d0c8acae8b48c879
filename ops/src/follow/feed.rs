//! The sequencer's blocks, executed one after the other. Nobody's word is taken for anything: whatever the sequencer sends that is no block, or executes to
//! something else, is a difference.

use std::{sync::Arc, time::Duration};

use alloy::consensus::Transaction;
use eyre::Result;
use futures::StreamExt;
use millrace_proto::{
    BlockAttributes, BlockSelector, ChainSpec, DecodeTxError, ErrorChain, ErrorClass, Executor,
    ExecutorError, Outage, PublishedBlock, QueueMark, RecoveredTx, SealedHeader, SequencerError,
    Settlement, SettlementError, TransportError, TxOutcome, TxPool, grpc::SequencerClient,
    num_hash,
};
use millrace_settlement::SettlementHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{Turn, alarm::Alarm, derived::Refuted};

/// Between two looks at a feed that does not answer, or does not join the chain.
const PAUSE: Duration = Duration::from_secs(1);
/// How far the feed may be ahead of what was derived: blocks that L1 has otherwise have to be taken back, and history is kept for twice as many.
const LEAD: u64 = 30_000;
/// Gas that the L1 contract lets a deposit have at most (`MAX_DEPOSIT_GAS`).
const MAX_DEPOSIT_GAS: u64 = 1_000_000;

/// Follows the sequencer's feed.
#[derive(Debug)]
pub(super) struct Feed {
    pub(super) sequencer: SequencerClient,
    pub(super) executor: Arc<dyn Executor>,
    pub(super) settlement: SettlementHandle,
    pub(super) spec: Arc<ChainSpec>,
    pub(super) turn: Turn,
    pub(super) refuted: Refuted,
    pub(super) alarm: Arc<Alarm>,
    /// For how long the feed may differ from what L1 has: each may see an L1 reorg before the other.
    pub(super) patience: Duration,
    /// Whether blocks are derived from L1: from state diffs, only what they come to.
    pub(super) of_blocks: bool,
}

/// Why the feed is not followed at the moment.
#[derive(Debug, thiserror::Error)]
enum Interrupted {
    #[error("sequencer: {0}")]
    Sequencer(SequencerError),
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
    #[error("it is {LEAD} blocks ahead of what was derived from L1")]
    Ahead,
}

impl From<SequencerError> for Interrupted {
    fn from(error: SequencerError) -> Self {
        match error {
            SequencerError::Transport(error @ TransportError::Malformed { .. }) => {
                Self::Differs(format!("the sequencer sends what is no block: {error}"))
            }
            error => Self::Sequencer(error),
        }
    }
}

/// What came of a block.
enum Taken {
    /// It is the head.
    Executed,
    /// It was in the chain before.
    Known,
    /// It does not follow the head.
    Apart,
}

impl Feed {
    /// Follows until it is told to stop. While the sequencer does not answer, the chain grows by what L1 has.
    ///
    /// # Errors
    /// When the executor's store fails.
    pub(super) async fn run(self, stop: CancellationToken) -> Result<()> {
        let mut outage = Outage::new();
        let mut differs: Option<Instant> = None;
        while !stop.is_cancelled() {
            match self.follow(&stop, &mut outage, &mut differs).await {
                Ok(()) => {}
                Err(Interrupted::Executor(error)) if error.class() == ErrorClass::Fatal => {
                    return Err(error.into());
                }
                Err(Interrupted::Executor(error @ ExecutorError::StatePruned { .. })) => {
                    self.alarm
                        .raise(format!("the sequencer's blocks cannot be taken back: {error}"));
                }
                Err(Interrupted::Differs(why)) => {
                    let since = *differs.get_or_insert_with(Instant::now);
                    if since.elapsed() >= self.patience {
                        self.alarm.raise(why);
                    } else {
                        warn!(target: "millrace::follow", why, "the sequencer's feed differs; looking again");
                    }
                }
                Err(error) => {
                    let error = ErrorChain::new(&error);
                    if outage.failed() {
                        let of_blocks = self.of_blocks;
                        warn!(target: "millrace::follow", %error, of_blocks, "the sequencer's feed is interrupted; meanwhile the chain follows L1 alone, or stands still where batches hold state diffs");
                    } else {
                        debug!(target: "millrace::follow", %error, "the feed is still interrupted");
                    }
                }
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
        Ok(())
    }

    /// Follows one stream to its end. A block that was begun is finished, whatever happens.
    async fn follow(
        &self,
        stop: &CancellationToken,
        outage: &mut Outage,
        differs: &mut Option<Instant>,
    ) -> Result<(), Interrupted> {
        let joined = |differs: &mut Option<Instant>| {
            *differs = None;
            self.alarm.clear();
        };
        let Some(theirs) = stop.run_until_cancelled(self.sequencer.heads()).await else {
            return Ok(());
        };
        let (theirs, ours) = (theirs?.latest, self.executor.head().await?);
        if theirs.number <= ours.number {
            // Its stream would begin where its chain does not come for a while.
            let at = BlockSelector::Number(theirs.number);
            let known = self.executor.header(at).await?;
            if known.is_none_or(|known| known.hash() != theirs.hash) {
                return self.rejoin(theirs.number).await;
            }
            if !self.refuted.has(theirs.hash) {
                joined(differs);
            }
            if theirs.number < ours.number {
                return Ok(());
            }
        }
        let mut blocks = self.sequencer.blocks(ours.number + 1).await?;
        while let Some(Some(block)) = stop.run_until_cancelled(blocks.next()).await {
            let block = block?;
            let number = block.header.number;
            if let Some(past) = outage.over() {
                info!(target: "millrace::follow", failures = past.failures, lasted = ?past.lasted, "the sequencer's feed goes on");
            }
            match self.take(block).await? {
                Taken::Executed => joined(differs),
                Taken::Known => {}
                Taken::Apart => return self.rejoin(number).await,
            }
        }
        Ok(())
    }

    /// Executes the block after the head.
    async fn take(&self, block: PublishedBlock) -> Result<Taken, Interrupted> {
        let PublishedBlock { header, transactions } = block;
        let number = header.number;
        // Off the async threads.
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
        if self.refuted.has(header.hash()) {
            return Err(wrong("what L1 has of it executes to another block".to_owned()));
        }
        let queue = QueueMark::of(&header).ok_or_else(|| wrong("no rollup's header".to_owned()))?;

        let _turn = self.turn.lock().await;
        let parent = self.executor.head().await?;
        if (number, header.parent_hash) != (parent.number + 1, parent.hash()) {
            let known = self.executor.header(BlockSelector::Number(number)).await?;
            let same = known.is_some_and(|known| known.hash() == header.hash());
            // L1 had it before.
            return Ok(if same { Taken::Known } else { Taken::Apart });
        }
        let status = self.settlement.status();
        // From state diffs nothing is derived until it is here.
        let posted = status.posted.filter(|_| !self.of_blocks);
        let points = [status.verified, posted].into_iter().flatten();
        let derived = points.map(|point| point.last_block).max().unwrap_or(0);
        if parent.number.saturating_sub(derived) >= LEAD {
            return Err(Interrupted::Ahead);
        }
        check_deposits(&txs, &queue, &parent).map_err(|problem| wrong(problem.to_owned()))?;
        let attributes = BlockAttributes::rollup(&self.spec, &parent, header.timestamp, queue);
        let sealed = match self.execute(attributes, txs).await {
            Ok(Ok(sealed)) => sealed,
            Ok(Err(problem)) => return Err(wrong(problem)),
            // A store that fails fails everything; the rest is what this block does to it.
            Err(error @ (ExecutorError::Store(_) | ExecutorError::Transport(_))) => {
                return Err(error.into());
            }
            Err(error) => return Err(wrong(error.to_string())),
        };
        if sealed == header.hash() {
            return Ok(Taken::Executed);
        }
        self.executor.unwind(num_hash(&parent)).await?;
        Err(wrong(format!("its hash is {}, executing it gives {sealed}", header.hash())))
    }

    /// Executes and seals a block, and returns its hash, or what is wrong with it.
    async fn execute(
        &self,
        attributes: BlockAttributes,
        txs: Vec<Arc<RecoveredTx>>,
    ) -> Result<Result<alloy::primitives::B256, String>, ExecutorError> {
        let mut build = self.executor.open_block(attributes).await?;
        for outcome in build.execute(txs).await? {
            match outcome {
                TxOutcome::Included { .. } => {}
                TxOutcome::Invalid(reason) => return Ok(Err(reason.to_string())),
                TxOutcome::NoRoom => return Ok(Err("it is over its gas limit".to_owned())),
            }
        }
        Ok(Ok(build.seal().await?.hash()))
    }

    /// The sequencer has taken blocks back, or has others than L1: goes back to the last that both have, unless L1 holds the next. `upto` is a block that the
    /// sequencer has.
    async fn rejoin(&self, upto: u64) -> Result<(), Interrupted> {
        let at = self.last_common(upto).await?;
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
                None if self.of_blocks => return Err(Interrupted::Pending(batch.number)),
                // It is found right when the chain here comes to its end.
                None => {}
            }
        }
        warn!(target: "millrace::follow", from = head.number, to = at.number, hash = %at.hash(), "L2 reorg: the sequencer has taken these blocks back");
        Ok(self.executor.unwind(num_hash(&at)).await?)
    }

    /// The last block up to `upto` that the sequencer has too: hashes cover all that came before, so that halving finds it.
    async fn last_common(&self, upto: u64) -> Result<SealedHeader, Interrupted> {
        let head = self.executor.head().await?;
        let ours = async |number: u64| {
            let at = BlockSelector::Number(number);
            let header = self.executor.header(at).await?;
            header.ok_or(ExecutorError::UnknownBlock(at))
        };
        let is_theirs = async |header: &SealedHeader| {
            let theirs = self.sequencer.block(header.number).await?;
            Ok::<_, Interrupted>(theirs.is_some_and(|theirs| theirs.header.hash() == header.hash()))
        };
        let mut common = ours(0).await?;
        if !is_theirs(&common).await? {
            let why = "the sequencer's chain has another genesis block: --sequencer or --rollup is of another chain";
            return Err(Interrupted::Differs(why.to_owned()));
        }
        let mut apart = upto.min(head.number) + 1;
        while common.number + 1 < apart {
            let middle = ours(common.number + (apart - common.number) / 2).await?;
            if is_theirs(&middle).await? {
                common = middle;
            } else {
                apart = middle.number;
            }
        }
        Ok(common)
    }
}

/// Whether the deposits of a block may be those that it takes of L1's queue: whether they are is for L1 to say.
fn check_deposits(
    txs: &[Arc<RecoveredTx>],
    queue: &QueueMark,
    parent: &SealedHeader,
) -> Result<(), &'static str> {
    let taken = queue.end.checked_sub(QueueMark::of(parent).unwrap_or_default().end);
    let taken = taken.ok_or("it takes L1's queue back")?;
    let count = txs.iter().take_while(|tx| tx.tx().is_deposit()).count();
    let mut deposits = txs[..count].iter().map(|tx| tx.tx());
    if txs[count..].iter().any(|tx| tx.tx().is_deposit()) {
        return Err("a deposit comes after another transaction");
    }
    if count as u64 + u64::from(queue.forced) > taken {
        return Err("it holds more of L1's queue than it takes");
    }
    if deposits.any(|tx| tx.gas_limit() > MAX_DEPOSIT_GAS || tx.is_create()) {
        return Err("it holds a deposit that the contract does not take");
    }
    Ok(())
}

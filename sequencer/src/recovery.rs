//! A start: folds the log, brings the executor up to it, and finds what still waits.

use std::{sync::Arc, time::Duration};

use alloy::primitives::{
    B256, TxHash,
    map::{B256Map, B256Set},
};
use millrace_proto::{
    BlockSelector, ChainSpec, ErrorChain, ErrorClass, ExecutedBlock, Executor, ExecutorError,
    Noting, Outage, RecoveredTx, SealedHeader, num_hash,
};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, info, warn};

use crate::{
    OpenError,
    log::{BlockTimes, CodecError, DroppedTx, LogError, OrderLog, Position, Record},
    pool::Verdict,
    replay::{Brought, Built, LeftOut, LoggedBlock},
};

/// Records that are read ahead of the fold.
const READ_AHEAD: usize = 64;
/// How often a block is tried again when the executor says that it may help.
const RETRIES: u32 = 5;
/// Before the first of these; longer before each further one.
const RETRY_DELAY: Duration = Duration::from_millis(20);
/// Between two lines about a long replay, in blocks.
const REPORT_EVERY: u64 = 1000;

/// What a start found.
#[derive(Debug)]
pub(crate) struct Recovered {
    /// The executor's head, which is the log's last block.
    pub(crate) head: SealedHeader,
    /// Accepted and in no block, in the order in which they came.
    pub(crate) pool: Vec<WaitingTx>,
}

/// A transaction that was accepted and is in no block.
#[derive(Debug, Clone)]
pub(crate) struct WaitingTx {
    /// The order in which they came.
    arrival: i64,
    /// Its last record.
    pub(crate) position: Position,
    /// When it was accepted, if that is known.
    pub(crate) accepted_at: Option<Duration>,
    pub(crate) tx: Arc<RecoveredTx>,
}

/// Brings the executor up to the log. `wall` is the time that new drops get.
pub(crate) async fn recover(
    log: &Arc<dyn OrderLog>,
    executor: &dyn Executor,
    spec: &ChainSpec,
    wall: Duration,
) -> Result<Recovered, OpenError> {
    let head = take_back(log, executor).await?;
    let reader = log.clone();
    let number = head.number;
    let (last, start) = blocking(move || {
        let last = reader.last_block()?;
        let cursor = reader.cursor()?;
        let next = reader.block_position(number + 1)?;
        Ok((last, next.map_or(cursor, |next| next.min(cursor))))
    })
    .await?;
    let logged = last.unwrap_or(0);
    if head.number > logged {
        return Err(OpenError::ExecutorAhead { executor: head.number, log: logged });
    }

    let mut fold = Fold::new(executor, spec, head);
    let (send, mut records) = mpsc::channel(READ_AHEAD);
    let reader = log.clone();
    let reading = tokio::task::spawn_blocking(move || read_all(&*reader, start, &send));
    while let Some(entry) = records.recv().await {
        fold.take(entry).await?;
    }
    reading.await??;

    let (records, recovered) = fold.finish(wall).await?;
    if !records.is_empty() {
        let writer = log.clone();
        blocking(move || writer.append(&records)).await?;
    }
    Ok(recovered)
}

/// Takes back the executor's blocks that the log has as unwound. Returns the head after that.
async fn take_back(
    log: &Arc<dyn OrderLog>,
    executor: &dyn Executor,
) -> Result<SealedHeader, OpenError> {
    let head = executor.head().await?;
    let mut stays = head.clone();
    loop {
        let (reader, hash) = (log.clone(), stays.seal());
        if !blocking(move || reader.is_unwound(hash)).await? {
            break;
        }
        let parent = BlockSelector::Hash(stays.parent_hash);
        let header = executor.header(parent).await?;
        stays = header.ok_or(ExecutorError::UnknownBlock(parent))?;
    }
    if stays.number < head.number {
        let (from, to) = (head.number, stays.number);
        info!(target: "millrace::sequencer", from, to, "the order log has these blocks as taken back; the executor takes them back");
        executor.unwind(num_hash(&stays)).await?;
    }
    Ok(stays)
}

/// A record as the fold takes it.
#[derive(Debug)]
struct Entry {
    position: Position,
    record: Record,
    /// Opens a block that was unwound later.
    void: bool,
}

fn read_all(
    log: &dyn OrderLog,
    start: Position,
    send: &mpsc::Sender<Entry>,
) -> Result<(), LogError> {
    for record in log.read(start)? {
        let (position, record) = record?;
        let void = match &record {
            Record::BlockOpened(opened) => log.block_position(opened.number)? != Some(position),
            _ => false,
        };
        // The fold failed: it says why.
        if send.blocking_send(Entry { position, record, void }).is_err() {
            break;
        }
    }
    Ok(())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LogError> + Send + 'static,
) -> Result<T, OpenError> {
    Ok(tokio::task::spawn_blocking(work).await??)
}

/// The fold over the log.
struct Fold<'a> {
    executor: &'a dyn Executor,
    spec: &'a ChainSpec,
    /// The executor's head when the fold began.
    executed: u64,
    head: SealedHeader,
    /// Accepted and in no block so far, by hash.
    waiting: B256Map<WaitingTx>,
    arrivals: i64,
    /// The arrival of what waits again since its block was unwound, below 0.
    earliest: i64,
    /// Dropped since the last block was opened.
    dropped: B256Set,
    /// Opened and not sealed.
    block: Option<LoggedBlock>,
    /// It was unwound later.
    void: bool,
    /// The head, while it is on its way into the executor's store.
    storing: Option<Storing>,
    replayed: u64,
}

/// A block that was executed again and closed, and is being stored beside the next one.
struct Storing {
    block: LoggedBlock,
    parent: SealedHeader,
    hash: B256,
    task: AbortOnDropHandle<Result<Arc<ExecutedBlock>, ExecutorError>>,
}

impl<'a> Fold<'a> {
    fn new(executor: &'a dyn Executor, spec: &'a ChainSpec, head: SealedHeader) -> Self {
        Self {
            executor,
            spec,
            executed: head.number,
            head,
            waiting: B256Map::default(),
            arrivals: 0,
            earliest: 0,
            dropped: B256Set::default(),
            block: None,
            void: false,
            storing: None,
            replayed: 0,
        }
    }

    async fn take(&mut self, entry: Entry) -> Result<(), OpenError> {
        let Entry { position, record, void } = entry;
        match record {
            Record::Pooled { txs, accepted_at } => self.arrive(position, &txs, &accepted_at),
            Record::Dropped { txs } => {
                for dropped in txs {
                    self.waiting.remove(&dropped.tx.hash());
                    self.dropped.insert(dropped.tx.hash());
                }
            }
            Record::BlockOpened(opened) => {
                if let Some(block) = &self.block {
                    let problem = format!(
                        "block {} is opened while block {} is open",
                        opened.number, block.opened.number
                    );
                    return Err(out_of_sequence(position, problem));
                }
                self.dropped.clear();
                self.block = Some(LoggedBlock::new(opened));
                self.void = void;
            }
            Record::Frame { block: number, txs, accepted_at } => {
                self.arrive(position, &txs, &accepted_at);
                let Some(block) = self.block.as_mut().filter(|open| open.opened.number == number)
                else {
                    let problem = format!("a frame of block {number}, which is not open");
                    return Err(out_of_sequence(position, problem));
                };
                block.frames.push(txs);
            }
            Record::BlockSealed { number, hash, returned, times: _ } => {
                let Some(block) = self.block.take().filter(|open| open.opened.number == number)
                else {
                    let problem = format!("block {number} is sealed, but was not open");
                    return Err(out_of_sequence(position, problem));
                };
                let returned: B256Set = returned.into_iter().collect();
                self.include(&block, &returned);
                if !self.void {
                    self.sealed(block, hash).await?;
                }
            }
            Record::BlockUnwound { number, hash: _, txs, accepted_at } => {
                if self.block.as_ref().is_some_and(|open| open.opened.number != number) {
                    let problem = format!("block {number} is unwound while another one is open");
                    return Err(out_of_sequence(position, problem));
                }
                self.block = None;
                self.come_back(position, txs, &accepted_at);
            }
        }
        Ok(())
    }

    fn arrive(
        &mut self,
        position: Position,
        txs: &[Arc<RecoveredTx>],
        accepted_at: &[Option<Duration>],
    ) {
        for (tx, accepted_at) in timed(txs, accepted_at) {
            let arrival = self.arrivals;
            self.arrivals += 1;
            let fresh = || WaitingTx { arrival, position, accepted_at, tx: tx.clone() };
            self.waiting
                .entry(tx.hash())
                .and_modify(|waiting| waiting.position = position)
                .or_insert_with(fresh);
        }
    }

    /// A block that the log has as sealed: the executor must have the same one, or make it.
    async fn sealed(&mut self, block: LoggedBlock, hash: B256) -> Result<(), OpenError> {
        let number = block.opened.number;
        if number > self.executed {
            let sealed = match self.close_next(&block, hash).await? {
                Some(sealed) => sealed,
                None => self.replay(&block, Some(hash)).await?.0,
            };
            return self.forget_forced(&block, Some(sealed)).await;
        }
        let at = BlockSelector::Number(number);
        let header = self.executor.header(at).await?;
        let executor = header.ok_or(ExecutorError::UnknownBlock(at))?.seal();
        if executor != hash {
            return Err(OpenError::Diverged { number, log: hash, executor });
        }
        self.forget_forced(&block, None).await
    }

    /// What a block holds of its frames does not wait any more.
    fn include(&mut self, block: &LoggedBlock, returned: &B256Set) {
        for tx in block.frames.iter().flatten() {
            if !returned.contains(&tx.hash()) {
                self.waiting.remove(&tx.hash());
            }
        }
    }

    /// What a block held that was unwound waits again, before everything else.
    fn come_back(
        &mut self,
        position: Position,
        txs: Vec<Arc<RecoveredTx>>,
        accepted_at: &[Option<Duration>],
    ) {
        self.earliest -= txs.len() as i64;
        for ((tx, accepted_at), arrival) in timed(&txs, accepted_at).zip(self.earliest..) {
            let tx = tx.clone();
            self.waiting.insert(tx.hash(), WaitingTx { arrival, position, accepted_at, tx });
        }
    }

    /// A transaction that was submitted here and forced on L1 too does not wait any more once a block holds it.
    async fn forget_forced(
        &mut self,
        block: &LoggedBlock,
        sealed: Option<Arc<ExecutedBlock>>,
    ) -> Result<(), OpenError> {
        let mut queued = block.opened.queued.txs.iter();
        if !queued.any(|tx| self.waiting.contains_key(&tx.hash())) {
            return Ok(());
        }
        let at = BlockSelector::Number(block.opened.number);
        let sealed = match sealed {
            Some(sealed) => Some(sealed),
            None => self.executor.block(at).await?,
        };
        for tx in sealed.iter().flat_map(|sealed| &sealed.transactions) {
            self.waiting.remove(&tx.hash());
        }
        Ok(())
    }

    /// Executes a block on the head, which may still be on its way into the store, and has it stored beside what follows. None: that
    /// failed, or came to another block; to be done again by itself, which tells why.
    async fn close_next(
        &mut self,
        block: &LoggedBlock,
        hash: B256,
    ) -> Result<Option<Arc<ExecutedBlock>>, OpenError> {
        if self.head.seal() != block.opened.parent_hash {
            return Ok(None);
        }
        let building = block.build(self.executor, self.spec, &self.head, Noting::Nothing);
        let Ok(Built { mut build, .. }) = building.await else { return Ok(None) };
        // It waits until the block before is stored.
        let Ok(sealed) = build.close().await else { return Ok(None) };
        if sealed.hash() != hash {
            return Ok(None);
        }
        self.stored().await?;
        let task = AbortOnDropHandle::new(tokio::spawn(build.seal()));
        let (block, parent) = (block.clone(), self.head.clone());
        self.storing = Some(Storing { block, parent, hash, task });
        self.advance(&sealed);
        Ok(Some(sealed))
    }

    /// Waits until the head is in the executor's store.
    async fn stored(&mut self) -> Result<(), OpenError> {
        let Some(Storing { block, parent, hash, task }) = self.storing.take() else {
            return Ok(());
        };
        if let Ok(Ok(_)) = task.await {
            return Ok(());
        }
        self.bring(&block, &parent, Some(hash)).await.map(drop)
    }

    /// Executes a block that the executor does not have. Returns it, and what became of its framed transactions.
    async fn replay(
        &mut self,
        block: &LoggedBlock,
        expected: Option<B256>,
    ) -> Result<(Arc<ExecutedBlock>, Vec<(TxHash, Verdict)>), OpenError> {
        self.stored().await?;
        if self.head.seal() != block.opened.parent_hash {
            return Err(OpenError::Diverged {
                number: self.head.number,
                log: block.opened.parent_hash,
                executor: self.head.seal(),
            });
        }
        let brought = self.bring(block, &self.head, expected).await?;
        self.advance(&brought.0);
        Ok(brought)
    }

    /// A block that was executed again is the head.
    fn advance(&mut self, sealed: &ExecutedBlock) {
        if self.replayed.is_multiple_of(REPORT_EVERY) {
            info!(target: "millrace::sequencer", block = sealed.number(), "replaying the order log");
        }
        self.head = sealed.header.clone();
        self.replayed += 1;
    }

    /// Makes a block the executor's head, with some patience.
    async fn bring(
        &self,
        block: &LoggedBlock,
        parent: &SealedHeader,
        expected: Option<B256>,
    ) -> Result<(Arc<ExecutedBlock>, Vec<(TxHash, Verdict)>), OpenError> {
        let mut retries = 0;
        let mut outage = Outage::new();
        let brought = loop {
            match block.bring(self.executor, self.spec, parent, expected).await {
                Ok(Brought::Sealed(sealed, verdicts)) => break (sealed, verdicts),
                Ok(Brought::OtherHead(head)) => {
                    let (number, executor) = (head.number, head.seal());
                    return Err(OpenError::Foreign { number, executor });
                }
                Ok(Brought::Differs(executor)) => {
                    let (number, log) = (block.opened.number, expected.unwrap_or_default());
                    return Err(OpenError::Diverged { number, log, executor });
                }
                Err(error) if error.class() == ErrorClass::Retryable && retries < RETRIES => {
                    let (block, error) = (block.opened.number, ErrorChain::new(&error));
                    if outage.failed() {
                        warn!(target: "millrace::sequencer", block, %error, "the executor failed; trying again");
                    } else {
                        debug!(target: "millrace::sequencer", block, %error, retries, "the executor failed again");
                    }
                    retries += 1;
                    tokio::time::sleep(RETRY_DELAY * retries).await;
                }
                Err(error) => return Err(error.into()),
            }
        };
        if let Some(past) = outage.over() {
            info!(target: "millrace::sequencer", failures = past.failures, "the executor answers again");
        }
        Ok(brought)
    }

    /// Closes a block that was open when the log ended. Returns the records that this adds, and what was found.
    async fn finish(mut self, wall: Duration) -> Result<(Vec<Record>, Recovered), OpenError> {
        self.stored().await?;
        let mut records = Vec::new();
        if let Some(block) = self.block.take() {
            records = self.close(block, wall).await?;
        }
        if self.replayed > 0 {
            info!(target: "millrace::sequencer", blocks = self.replayed, head = self.head.number, "replayed the order log");
        }
        let mut waiting: Vec<_> = self.waiting.into_values().collect();
        waiting.sort_unstable_by_key(|waiting| waiting.arrival);
        Ok((records, Recovered { head: self.head, pool: waiting }))
    }

    /// The log's last block has no seal: it gets one as it is. It may have been sealed and told of before, so nothing is added.
    async fn close(
        &mut self,
        block: LoggedBlock,
        wall: Duration,
    ) -> Result<Vec<Record>, OpenError> {
        let number = block.opened.number;
        let (sealed, verdicts) = if number > self.executed {
            self.replay(&block, None).await?
        } else {
            (self.executed_last(&block).await?, Vec::new())
        };
        let mut left_out = LeftOut::default();
        left_out.note(&verdicts);
        let included: B256Set = sealed.transactions.iter().map(|tx| tx.hash()).collect();
        let accepted_at = sealed.transactions.iter().map(|tx| self.accepted_at(tx.hash()));
        let times = BlockTimes { sealed_at: Some(wall), accepted_at: accepted_at.collect() };
        for tx in &block.opened.queued.txs {
            if included.contains(&tx.hash()) {
                self.waiting.remove(&tx.hash());
            }
        }
        let mut returned = B256Set::default();
        let mut drops = Vec::new();
        for tx in block.frames.iter().flatten() {
            let hash = tx.hash();
            if included.contains(&hash) {
                self.waiting.remove(&hash);
            } else if let Some(reason) =
                left_out.dropped.get(&hash).filter(|_| !self.dropped.contains(&hash))
            {
                if let Some(WaitingTx { accepted_at, tx, .. }) = self.waiting.remove(&hash) {
                    let reason = reason.clone();
                    drops.push(DroppedTx { tx, reason, at: wall, accepted_at });
                }
            } else if self.waiting.contains_key(&hash) {
                // Sent back; or dropped as the log says, and submitted again after that.
                returned.insert(hash);
            }
        }
        let hash = sealed.hash();
        info!(target: "millrace::sequencer", number, %hash, transactions = sealed.transactions.len(), "sealed the block that was open");
        let returned = returned.into_iter().collect();
        let mut records = vec![Record::BlockSealed { number, hash, returned, times }];
        if !drops.is_empty() {
            records.push(Record::Dropped { txs: drops });
        }
        Ok(records)
    }

    /// When what waits was accepted.
    fn accepted_at(&self, hash: TxHash) -> Option<Duration> {
        self.waiting.get(&hash)?.accepted_at
    }

    /// The executor sealed the log's last block, and the log was not told: checks that it is that block.
    async fn executed_last(&self, block: &LoggedBlock) -> Result<Arc<ExecutedBlock>, OpenError> {
        let number = block.opened.number;
        let at = BlockSelector::Number(number);
        let sealed = self.executor.block(at).await?;
        let sealed = sealed.ok_or(ExecutorError::UnknownBlock(at))?;
        let parent_at = BlockSelector::Hash(block.opened.parent_hash);
        let parent = self.executor.header(parent_at).await?;
        let inputs = block.opened.queued.txs.iter().chain(block.frames.iter().flatten());
        let inputs: B256Set = inputs.map(|tx| tx.hash()).collect();
        let is_ours = parent
            .is_some_and(|parent| block.is_header(self.spec, &parent, &sealed.header))
            && sealed.transactions.iter().all(|tx| inputs.contains(&tx.hash()));
        if is_ours {
            Ok(sealed)
        } else {
            Err(OpenError::Foreign { number, executor: sealed.hash() })
        }
    }
}

/// Transactions of a record, each with when it was accepted.
fn timed<'a>(
    txs: &'a [Arc<RecoveredTx>],
    accepted_at: &'a [Option<Duration>],
) -> impl Iterator<Item = (&'a Arc<RecoveredTx>, Option<Duration>)> {
    txs.iter().zip(accepted_at.iter().copied().chain(std::iter::repeat(None)))
}

fn out_of_sequence(position: Position, problem: String) -> OpenError {
    LogError::Corrupt { position, source: CodecError::Sequence(problem) }.into()
}

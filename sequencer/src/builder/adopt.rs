//! Taking over what L1 holds instead of what was sequenced here.
//!
//! The chain is what is derived from L1. L1 holds other blocks than this sequencer's where others have posted after the sequencer timeout, where a batch that was given up
//! is mined after all, where a reorg brings back what was taken back before, or where this sequencer has lost its data.

use std::{sync::Arc, time::Duration};

use millrace_proto::{
    BlockNumHash, BlockSelector, ErrorChain, ExecutedBlock, QueueMark, QueuedTxs, RecoveredTx,
    SealedHeader, Settlement, Standing,
};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::{Builder, unwind::APPEND_BYTES};
use crate::{
    SequencerRunError,
    log::{BlockOpened, BlockTimes, Record},
};

/// How long no block is opened for what L1 holds and nobody tells.
pub(super) const PATIENCE: Duration = Duration::from_secs(600);
/// How long a chain that has no block yet waits for settlement to say whether L1 holds any.
const SILENCE: Duration = Duration::from_secs(5);
/// How long settlement may take to tell a block.
const TELLING: Duration = Duration::from_secs(5);
/// Bytes of derived blocks in memory, about: more are taken over in several steps.
const PIECE_BYTES: usize = 64 << 20;

/// Being behind what L1 holds.
#[derive(Debug)]
pub(super) struct Behind {
    /// Since when, or since blocks were taken over last.
    since: Instant,
    /// Whether that lasts too long.
    given_up: bool,
    /// Whether it is not known yet, as settlement has said nothing.
    unknown: bool,
}

impl Behind {
    fn now(unknown: bool) -> Self {
        Self { since: Instant::now(), given_up: false, unknown }
    }
}

impl Builder {
    /// Whether L1 holds blocks that are to be taken over before another one is opened.
    pub(super) fn is_behind(&mut self) -> bool {
        let derived = &self.shared.derived;
        let head = self.head.number;
        // A posted batch may be nothing. Who has not made a block yet waits to know, so that nothing is made beside one that is valid.
        let ahead = if self.sealed_any { derived.judged() } else { derived.posted() };
        // Who has nothing may have lost it.
        let unknown = head == 0 && !derived.is_known() && self.shared.settlement.is_some();
        if ahead <= head && !unknown {
            self.behind = None;
            return false;
        }
        let patience = if unknown { SILENCE } else { PATIENCE };
        self.behind.take_if(|behind| behind.unknown != unknown);
        let behind = self.behind.get_or_insert_with(|| {
            if !unknown {
                info!(target: "millrace::sequencer", ahead, head, "L1 holds blocks that this sequencer does not have; they are taken over first");
            }
            Behind::now(unknown)
        });
        if !behind.given_up && behind.since.elapsed() >= patience {
            behind.given_up = true;
            if !unknown {
                warn!(target: "millrace::sequencer", ahead, head, "L1 holds blocks that this sequencer does not have, and settlement does not tell them; sequencing goes on without them");
            }
        }
        !behind.given_up
    }

    /// Takes over the chain that settlement has derived up to a block, unless it is this one.
    pub(super) async fn adopt(&mut self, end: BlockNumHash) -> Result<(), SequencerRunError> {
        let Some(settlement) = self.shared.settlement.clone() else { return Ok(()) };
        let settlement = &*settlement;
        if end.number <= self.head.number
            && self.own(end.number).await?.is_none_or(|header| header.seal() == end.hash)
        {
            return Ok(());
        }
        let Some(last) = self.derived_block(settlement, end.number).await? else { return Ok(()) };
        if last.hash() != end.hash || !self.has_queue_of(&last).await? {
            return Ok(());
        }
        let Some(mut stays) = self.fork(settlement, end.number).await? else { return Ok(()) };
        let finalized = self.shared.heads.now().finalized.number;
        if stays.number < finalized {
            return Err(SequencerRunError::FinalDiffers { block: stays.number + 1, finalized });
        }
        while stays.number < end.number {
            let blocks = self.piece(settlement, &stays, end.number).await?;
            let Some(reached) = blocks.last().map(|last| last.num_hash()) else { return Ok(()) };
            let (from, first) = (self.head.number, stays.number + 1);
            if stays.number < from {
                warn!(target: "millrace::sequencer", from, first, to = reached.number, hash = %reached.hash, "L2 reorg: L1 holds other blocks than were sequenced here; they are taken over, and the transactions that they lack are sequenced again");
            } else {
                info!(target: "millrace::sequencer", first, to = reached.number, hash = %reached.hash, "L1 holds blocks that this sequencer does not have; taking them over");
            }
            self.replace(stays, &blocks).await?;
            self.shared.metrics.adopted(blocks.len() as u64);
            self.move_cursor(self.head.number).await?;
            stays = self.head.clone();
            if let Some(behind) = &mut self.behind {
                *behind = Behind::now(false);
            }
        }
        Ok(())
    }

    /// A header of this chain; `None` if the executor has lost it, which shows soon.
    pub(super) async fn own(
        &mut self,
        number: u64,
    ) -> Result<Option<SealedHeader>, SequencerRunError> {
        let at = BlockSelector::Number(number);
        self.insist(number, |shared| async move { shared.executor.header(at).await }).await
    }

    /// A derived block; `None` if settlement does not tell it now.
    async fn derived_block(
        &mut self,
        settlement: &dyn Settlement,
        number: u64,
    ) -> Result<Option<Arc<ExecutedBlock>>, SequencerRunError> {
        let telling = tokio::time::timeout(TELLING, settlement.derived_block(number));
        let Ok(told) = self.busy(telling).await? else {
            debug!(target: "millrace::sequencer", block = number, "settlement is busy; asking again");
            return Ok(None);
        };
        match told {
            Ok(block) => {
                if block.is_none() {
                    debug!(target: "millrace::sequencer", block = number, "settlement has derived something else by now");
                }
                Ok(block)
            }
            Err(error) => {
                let error = ErrorChain::new(&error);
                warn!(target: "millrace::sequencer", block = number, %error, "cannot read what is derived from L1; trying again");
                Ok(None)
            }
        }
    }

    /// The last block below `end` that both chains have, found by halving: each block names its parent.
    async fn fork(
        &mut self,
        settlement: &dyn Settlement,
        end: u64,
    ) -> Result<Option<SealedHeader>, SequencerRunError> {
        // Both have the first; not both have the second.
        let (mut same, mut other) = (0, end.min(self.head.number + 1));
        while other - same > 1 {
            let middle = same + (other - same) / 2;
            let Some(ours) = self.own(middle).await? else { return Ok(None) };
            let Some(derived) = self.derived_block(settlement, middle).await? else {
                return Ok(None);
            };
            if derived.hash() == ours.seal() { same = middle } else { other = middle }
        }
        self.own(same).await
    }

    /// The derived blocks that follow one, up to `end` or as many as fit into a piece; fewer, or none, if settlement has others by now.
    async fn piece(
        &mut self,
        settlement: &dyn Settlement,
        after: &SealedHeader,
        end: u64,
    ) -> Result<Vec<Arc<ExecutedBlock>>, SequencerRunError> {
        let (mut blocks, mut bytes, mut parent) = (Vec::new(), 0, after.seal());
        for number in after.number + 1..=end {
            let Some(block) = self.derived_block(settlement, number).await? else { break };
            if (block.number(), block.header.parent_hash) != (number, parent) {
                break;
            }
            (parent, bytes) = (block.hash(), bytes + block.memory());
            blocks.push(block);
            if bytes >= PIECE_BYTES {
                break;
            }
        }
        Ok(blocks)
    }

    /// Whether L1, as it is seen here, has what a block has taken of its queue: settlement may not have seen a reorg yet.
    async fn has_queue_of(&mut self, block: &ExecutedBlock) -> Result<bool, SequencerRunError> {
        let Some(feed) = self.deposits.clone() else { return Ok(true) };
        let mark = QueueMark::of(&block.header).unwrap_or_default();
        let standing = self.busy(feed.standing(mark)).await?;
        let whole = matches!(standing, Ok(Standing::Whole));
        if !whole {
            debug!(target: "millrace::sequencer", block = block.number(), ?standing, "L1 does not show what is said to be derived from it");
        }
        Ok(whole)
    }

    /// Writes derived blocks into the log. When others accepted their transactions is not known.
    pub(super) async fn log_derived(
        &mut self,
        blocks: &[Arc<ExecutedBlock>],
        sealed_at: Duration,
    ) -> Result<(), SequencerRunError> {
        let (mut records, mut bytes) = (Vec::new(), 0);
        for block in blocks {
            let number = block.number();
            let size = |tx: &Arc<RecoveredTx>| tx.encoded().len();
            bytes += block.transactions.iter().map(size).sum::<usize>();
            // Of the forced transactions, those that are valid: the others leave no trace in the block.
            let queued = QueuedTxs {
                mark: QueueMark::of(&block.header).unwrap_or_default(),
                txs: block.queued().to_vec(),
            };
            records.push(Record::BlockOpened(BlockOpened {
                number,
                parent_hash: block.header.parent_hash,
                timestamp: block.header.timestamp,
                queued,
            }));
            if !block.signed().is_empty() {
                let (txs, accepted_at) = (block.signed().to_vec(), Vec::new());
                records.push(Record::Frame { block: number, txs, accepted_at });
            }
            let (hash, returned) = (block.hash(), Vec::new());
            let times = BlockTimes { sealed_at: Some(sealed_at), ..BlockTimes::default() };
            records.push(Record::BlockSealed { number, hash, returned, times });
            if bytes >= APPEND_BYTES {
                bytes = 0;
                self.append(std::mem::take(&mut records)).await?;
            }
        }
        self.append(records).await
    }
}

//! A block as the log has it, and its way through the executor: the same for a live block that has to be built again and for a
//! start.

use std::sync::Arc;

use alloy::primitives::{
    B256, TxHash,
    map::{B256Map, B256Set},
};
use millrace_proto::{
    BlockAttributes, BlockBuild, BlockSelector, ChainSpec, Executed, ExecutedBlock, Executor,
    ExecutorError, Noting, QueueMark, RecoveredTx, RejectReason, SealedHeader, SharedReceipt,
    StateDiff, TxOutcome,
};

use crate::{log::BlockOpened, pool::Verdict};

/// A block's inputs, in order.
#[derive(Debug, Clone)]
pub(crate) struct LoggedBlock {
    pub(crate) opened: BlockOpened,
    pub(crate) frames: Vec<Vec<Arc<RecoveredTx>>>,
}

/// What became of one frame.
#[derive(Debug, Default)]
pub(crate) struct FrameResult {
    /// One for each transaction.
    pub(crate) verdicts: Vec<(TxHash, Verdict)>,
    /// By those that are included.
    pub(crate) gas_used: u64,
    /// Those that are included, and their receipts.
    pub(crate) included: Included,
}

/// Transactions of a block, in order, and a receipt for each.
#[derive(Debug, Default)]
pub(crate) struct Included {
    pub(crate) transactions: Vec<Arc<RecoveredTx>>,
    pub(crate) receipts: Vec<SharedReceipt>,
    /// What they changed, if it was asked for.
    pub(crate) diff: Option<Arc<StateDiff>>,
}

/// An executor's open block with everything of a [`LoggedBlock`] in it.
#[derive(Debug)]
pub(crate) struct Built {
    pub(crate) build: Box<dyn BlockBuild>,
    /// Gas that deposits and frames used.
    pub(crate) gas_used: u64,
    /// What it has of L1's queue.
    pub(crate) queued: Included,
    /// One for each frame.
    pub(crate) frames: Vec<FrameResult>,
    /// What was noted meanwhile.
    pub(crate) noting: Noting,
}

/// What came of bringing a block into the executor.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "one a block, and gone at once")]
pub(crate) enum Brought {
    /// The executor's head is the block. The verdicts are missing if it was sealed before.
    Sealed(Arc<ExecutedBlock>, Vec<(TxHash, Verdict)>),
    /// The executor's head is neither the block nor its parent.
    OtherHead(SealedHeader),
    /// It comes to another block, with this hash, than is expected, which is not sealed.
    Differs(B256),
}

impl LoggedBlock {
    pub(crate) const fn new(opened: BlockOpened) -> Self {
        Self { opened, frames: Vec::new() }
    }

    /// Bytes of the transactions in its frames, as a batch has them.
    pub(crate) fn framed_bytes(&self) -> usize {
        self.frames.iter().flatten().map(|tx| tx.batch_bytes()).sum()
    }

    /// What the executor is told to open the block.
    pub(crate) fn attributes(&self, spec: &ChainSpec, parent: &SealedHeader) -> BlockAttributes {
        let opened = &self.opened;
        BlockAttributes::rollup(spec, parent, opened.timestamp, opened.queued.mark)
    }

    /// Opens the block on its parent and executes all of it.
    pub(crate) async fn build(
        &self,
        executor: &dyn Executor,
        spec: &ChainSpec,
        parent: &SealedHeader,
        noting: Noting,
    ) -> Result<Built, ExecutorError> {
        let mut build = executor.open_block(self.attributes(spec, parent)).await?;
        let mut gas_used = 0;
        let mut queued = Included::default();
        let queue = &self.opened.queued.txs;
        if !queue.is_empty() {
            // Forced transactions that are invalid here are left out; nobody waits for their fate.
            let executed = build.execute_noting(queue.clone(), noting).await?;
            if executed.outcomes.iter().any(|outcome| matches!(outcome, TxOutcome::NoRoom)) {
                // Nobody else could leave them out.
                let problem = "it has no room for what the queue's gas limits leave room for";
                return Err(ExecutorError::Stopped(problem.to_owned()));
            }
            let result = judge(queue, executed)?;
            gas_used += result.gas_used;
            queued = result.included;
        }
        let mut frames = Vec::with_capacity(self.frames.len());
        for txs in &self.frames {
            let result = self.judge(txs, build.execute_noting(txs.clone(), noting).await?)?;
            gas_used += result.gas_used;
            frames.push(result);
        }
        Ok(Built { build, gas_used, queued, frames, noting })
    }

    /// What the outcomes mean for the transactions of a frame of this block.
    pub(crate) fn judge(
        &self,
        txs: &[Arc<RecoveredTx>],
        executed: Executed,
    ) -> Result<FrameResult, ExecutorError> {
        let mut result = judge(txs, executed)?;
        for (hash, verdict) in &mut result.verdicts {
            // The block has it already, from the queue.
            if matches!(verdict, Verdict::Dropped(RejectReason::NonceTooLow { .. }))
                && self.opened.queued.txs.iter().any(|queued| queued.hash() == *hash)
            {
                *verdict = Verdict::Included;
            }
        }
        Ok(result)
    }

    /// Makes the block the executor's head, unless it is that already. `expected`: its hash, if that is known.
    pub(crate) async fn bring(
        &self,
        executor: &dyn Executor,
        spec: &ChainSpec,
        parent: &SealedHeader,
        expected: Option<B256>,
    ) -> Result<Brought, ExecutorError> {
        let head = executor.head().await?;
        if head.seal() == parent.seal() {
            let mut built = match self.build(executor, spec, parent, Noting::Nothing).await {
                // The head has moved on since it was asked for, perhaps to this block: it was being stored. To be looked at again.
                Err(ExecutorError::NotHead { head_hash, .. }) if head_hash != parent.seal() => {
                    return Err(ExecutorError::BuildDiscarded);
                }
                built => built?,
            };
            let hash = built.build.close().await?.hash();
            if expected.is_some_and(|expected| expected != hash) {
                return Ok(Brought::Differs(hash));
            }
            let verdicts = built.frames.into_iter().flat_map(|frame| frame.verdicts).collect();
            return Ok(Brought::Sealed(built.build.seal().await?, verdicts));
        }
        if !self.is_header(spec, parent, &head) {
            return Ok(Brought::OtherHead(head));
        }
        let at = BlockSelector::Hash(head.seal());
        let sealed = executor.block(at).await?.ok_or(ExecutorError::UnknownBlock(at))?;
        Ok(Brought::Sealed(sealed, Vec::new()))
    }

    /// Whether a header can be this block's: the fields that do not depend on execution.
    pub(crate) fn is_header(
        &self,
        spec: &ChainSpec,
        parent: &SealedHeader,
        header: &SealedHeader,
    ) -> bool {
        let attributes = self.attributes(spec, parent);
        let expected = self.opened.queued.mark;
        let has_queue = QueueMark::of(header)
            .is_some_and(|mark| (mark.end, mark.hash) == (expected.end, expected.hash));
        header.number == attributes.number
            && header.parent_hash == attributes.parent_hash
            && header.timestamp == attributes.timestamp
            && has_queue
    }
}

/// What the outcomes mean for the transactions of a frame.
fn judge(txs: &[Arc<RecoveredTx>], executed: Executed) -> Result<FrameResult, ExecutorError> {
    let Executed { outcomes, diff } = executed;
    if outcomes.len() != txs.len() {
        return Err(ExecutorError::Stopped(format!(
            "it gave {} outcomes for {} transactions",
            outcomes.len(),
            txs.len()
        )));
    }
    let mut result =
        FrameResult { verdicts: Vec::with_capacity(txs.len()), ..FrameResult::default() };
    for (tx, outcome) in txs.iter().zip(outcomes) {
        let verdict = match outcome {
            TxOutcome::Included { gas_used, receipt, .. } => {
                result.gas_used += gas_used;
                result.included.transactions.push(tx.clone());
                result.included.receipts.push(receipt);
                Verdict::Included
            }
            // A predecessor was left out, or the base fee rose: neither is the transaction's fault.
            TxOutcome::NoRoom
            | TxOutcome::Invalid(
                RejectReason::NonceTooFar { .. } | RejectReason::FeeBelowFloor { .. },
            ) => Verdict::Returned,
            TxOutcome::Invalid(reason) => Verdict::Dropped(reason),
        };
        result.verdicts.push((tx.hash(), verdict));
    }
    result.included.diff = diff;
    Ok(result)
}

/// The framed transactions of a block that it does not include.
#[derive(Debug, Default)]
pub(crate) struct LeftOut {
    /// Their last verdict was to go back.
    pub(crate) returned: B256Set,
    /// Their last verdict was to be dropped.
    pub(crate) dropped: B256Map<RejectReason>,
}

impl LeftOut {
    /// Takes over what became of a frame.
    pub(crate) fn note(&mut self, verdicts: &[(TxHash, Verdict)]) {
        for (hash, verdict) in verdicts {
            self.returned.remove(hash);
            self.dropped.remove(hash);
            match verdict {
                Verdict::Included => {}
                Verdict::Returned => {
                    self.returned.insert(*hash);
                }
                Verdict::Dropped(reason) => {
                    self.dropped.insert(*hash, reason.clone());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use alloy::{
        consensus::{SignableTransaction, TxLegacy},
        primitives::{Address, B256, Signature},
    };
    use millrace_proto::{QueuedTxs, TxEnvelope};

    use super::*;

    fn tx(nonce: u64) -> Arc<RecoveredTx> {
        let tx = TxLegacy { nonce, ..TxLegacy::default() };
        let tx = TxEnvelope::Legacy(tx.into_signed(Signature::test_signature()));
        Arc::new(RecoveredTx::new_unchecked(tx, Address::ZERO))
    }

    /// Whoever submitted what was also forced is not told that it is dropped: the block has it.
    #[test]
    fn what_the_block_has_from_the_queue_is_included() {
        let queued = QueuedTxs { txs: vec![tx(0)], ..QueuedTxs::default() };
        let opened = BlockOpened { number: 1, parent_hash: B256::ZERO, timestamp: 1, queued };
        let stale = || TxOutcome::Invalid(RejectReason::NonceTooLow { got: 0, expected: 1 });
        let result = LoggedBlock::new(opened)
            .judge(&[tx(0), tx(1)], Executed { outcomes: vec![stale(), stale()], diff: None })
            .expect("an outcome for each");
        let verdicts: Vec<_> = result.verdicts.into_iter().map(|(_, verdict)| verdict).collect();
        assert!(matches!(verdicts[..], [Verdict::Included, Verdict::Dropped(_)]), "{verdicts:?}");
    }
}

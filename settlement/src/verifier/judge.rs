//! Whose fault it is that a batch does not execute to what it claims.
//!
//! Anyone can post what claims anything, the sequencer's own hashes included: such a batch is skipped, and stops nobody. But if all that
//! goes into it is what the sequencer has executed, the sequencer's executor and this service's come to different results.

use std::{sync::Arc, time::Duration};

use alloy::primitives::{B256, Bytes};
use millrace_proto::{
    BlockSelector, DerivedBlock, DerivedStretch, DiffBatch, ExecutedBlock, Executor, ExecutorError,
    PostedBatch,
};
use tokio_util::sync::CancellationToken;

use super::{Attempt, Broke, Verifier};
use crate::{
    derivation::{DerivationHead, DerivedContent, QueuedDeposits, SkipReason},
    error::SettlementRunError,
    execution::ExecutionError,
    halt::HaltReason,
    retry,
};

impl Verifier {
    /// What is to be done about a batch that failed. If the sequencer's executor and this service's differ, an operator has to look before
    /// anything is built on either.
    pub(super) async fn judge(
        &self,
        head: DerivationHead,
        posted: &PostedBatch,
        (bytes, deposits): (Bytes, QueuedDeposits),
        error: ExecutionError,
        stop: &CancellationToken,
    ) -> Attempt {
        let Some(sequencer) = &self.executor else {
            return Attempt::Skip(SkipReason::Execution(error.to_string()));
        };
        let (derivation, batch) = (self.derivation, posted.clone());
        let derive = move || derivation.derive(&head, &batch, &bytes, &deposits);
        let derived = match tokio::task::spawn_blocking(derive).await {
            Ok(Ok(derived)) => derived,
            // It was derived before, of the same.
            Ok(Err(source)) => {
                let batch = posted.header.number;
                return Broke::Halt(HaltReason::L1View { batch, source }).into();
            }
            Err(source) => {
                let task = "verifier";
                return Broke::Failed(SettlementRunError::Panicked { task, source }).into();
            }
        };
        let sequencers = match derived.content {
            DerivedContent::Blocks { blocks, .. } => {
                self.has_blocks(sequencer, &blocks, &error, posted, stop).await
            }
            DerivedContent::Stretch { stretch, .. } => {
                self.has_stretch(sequencer, head, &stretch, posted, stop).await
            }
        };
        match sequencers {
            Err(broke) => broke.into(),
            Ok(true) => Broke::Halt(HaltReason::ExecutorsDiffer(error)).into(),
            Ok(false) => Attempt::Skip(SkipReason::Execution(error.to_string())),
        }
    }

    /// Whether the sequencer has executed all that is in these blocks, to something else than they execute to here. What is beyond its chain is not its own: it posts
    /// what it has.
    async fn has_blocks(
        &self,
        sequencer: &Arc<dyn Executor>,
        blocks: &[DerivedBlock],
        error: &ExecutionError,
        posted: &PostedBatch,
        stop: &CancellationToken,
    ) -> Result<bool, Broke> {
        let mut last = B256::ZERO;
        let end = blocks.last().map_or(0, |block| block.number);
        if !self.comes_to(sequencer, end, posted, stop).await? {
            return Ok(false);
        }
        for block in blocks {
            let executed = self.sequencer_block(sequencer, block.number, posted, stop).await?;
            if !block.is_in(&executed) {
                return Ok(false);
            }
            last = executed.hash();
        }
        Ok(!matches!(error, ExecutionError::Claim { computed, .. } if *computed == last))
    }

    /// Whether the sequencer's chain comes so far, or does so soon: an executor may have lost its last blocks, and gets them again.
    async fn comes_to(
        &self,
        sequencer: &Arc<dyn Executor>,
        number: u64,
        posted: &PostedBatch,
        stop: &CancellationToken,
    ) -> Result<bool, Broke> {
        // Time in which it answers: what claims ever so many blocks is not waited for until there are as many.
        let mut waited = Duration::ZERO;
        loop {
            let ask = || async { sequencer.head().await.map(Some) };
            if self.asked(ask, posted, stop).await?.number >= number {
                return Ok(true);
            }
            if waited >= self.config.retry_max {
                return Ok(false);
            }
            self.still(posted)?;
            retry::sleep(stop, self.config.executor_poll).await?;
            waited += self.config.executor_poll;
        }
    }

    /// Whether the sequencer has these blocks, and has changed in them what is said here.
    async fn has_stretch(
        &self,
        sequencer: &Arc<dyn Executor>,
        head: DerivationHead,
        stretch: &DerivedStretch,
        posted: &PostedBatch,
        stop: &CancellationToken,
    ) -> Result<bool, Broke> {
        let DerivedStretch { first_block, header, delta, messages, .. } = stretch;
        if !self.comes_to(sequencer, header.number, posted, stop).await? {
            return Ok(false);
        }
        if self.sequencer_hash(sequencer, header.number, posted, stop).await? != header.seal() {
            return Ok(false);
        }
        // What failed has changed nothing: the replayed chain ends before it.
        let names = delta.names().to_vec();
        let found = self.replay.run(move |replay| replay.find_accounts(&names)).await?;
        let found = found.map_err(SettlementRunError::Replay)?;
        // The sequencer names accounts by what its executor finds.
        let before = BlockSelector::Hash(head.hash);
        let ask = || async {
            match sequencer.find_accounts(delta.names(), before).await {
                Err(ExecutorError::StatePruned { .. } | ExecutorError::UnknownBlock(_)) => {
                    Ok(Some(None))
                }
                theirs => theirs.map(|theirs| Some(Some(theirs.accounts))),
            }
        };
        let theirs = self.asked(ask, posted, stop).await?;
        if theirs.is_some_and(|theirs| theirs != found) {
            return Ok(true);
        }
        let Ok(delta) = delta.resolve(&found, messages) else { return Ok(false) };
        let mut blocks = Vec::new();
        for number in *first_block..=header.number {
            let block = self.sequencer_block(sequencer, number, posted, stop).await?;
            let ask = || async { sequencer.state_diff(number).await.map(Some) };
            // Of a diff that is gone nobody can tell.
            let Some(diff) = self.asked(ask, posted, stop).await? else { return Ok(true) };
            blocks.push((block, diff));
        }
        let chain_id = self.derivation.chain_id();
        let own = DiffBatch::from_blocks(chain_id, head.deposits_end, head.hash, &blocks);
        Ok(own.is_ok_and(|own| own.delta == delta))
    }

    /// A block of the sequencer's chain, for as long as it takes the sequencer to have it.
    async fn sequencer_block(
        &self,
        sequencer: &Arc<dyn Executor>,
        number: u64,
        posted: &PostedBatch,
        stop: &CancellationToken,
    ) -> Result<Arc<ExecutedBlock>, Broke> {
        self.asked(|| sequencer.block(BlockSelector::Number(number)), posted, stop).await
    }
}

//! What is derived from L1, on a chain that the sequencer's feed extends too.

use std::{collections::BTreeSet, sync::Arc};

use alloy::primitives::{Address, B256};
use millrace_executor::Replayer;
use millrace_proto::{
    AddressPrefix, DerivedBlock, DerivedStretch, ExecutedBlock, ExecutorError, Replay, ReplayError,
    SealedHeader,
};
use parking_lot::Mutex;
use tracing::{error, warn};

use super::Turn;

/// Blocks of the feed that L1 refutes: all that goes into them is on L1, and executes to something else. Bounded: the lowest hashes go.
#[derive(Debug, Clone, Default)]
pub(super) struct Refuted(Arc<Mutex<BTreeSet<B256>>>);

impl Refuted {
    const MOST: usize = 4096;

    /// Whether a block is one.
    pub(super) fn has(&self, hash: B256) -> bool {
        self.0.lock().contains(&hash)
    }

    fn add(&self, hash: B256) {
        let mut all = self.0.lock();
        all.insert(hash);
        if all.len() > Self::MOST {
            all.pop_first();
        }
    }

    /// It was derived after all.
    fn remove(&self, hash: B256) {
        self.0.lock().remove(&hash);
    }
}

/// A replayer that finds blocks which the feed brought before, and takes back those that L1 has otherwise.
#[derive(Debug)]
pub(super) struct Derived {
    inner: Replayer,
    turn: Turn,
    refuted: Refuted,
    /// The first block that was taken back last, which may be made of the same.
    taken: Option<Arc<ExecutedBlock>>,
}

impl Derived {
    pub(super) const fn new(inner: Replayer, turn: Turn, refuted: Refuted) -> Self {
        Self { inner, turn, refuted, taken: None }
    }

    fn take_back(&mut self, number: u64) -> Result<(), ReplayError> {
        self.taken = self.inner.block(number + 1)?;
        self.inner.unwind(number)
    }
}

impl Replay for Derived {
    /// Not while the feed takes blocks back.
    fn head(&self) -> SealedHeader {
        let _turn = self.turn.blocking_lock();
        self.inner.head()
    }

    /// The feed may have brought a block under this number since the caller looked.
    fn replay(&mut self, block: DerivedBlock) -> Result<Arc<ExecutedBlock>, ReplayError> {
        let turn = self.turn.clone();
        let _turn = turn.blocking_lock();
        if block.number <= self.inner.head().number {
            if let Some(executed) = self.inner.block(block.number)?
                && self.is_made_of(&executed, &block)
            {
                return Ok(executed);
            }
            warn!(target: "millrace::follow", block = block.number, "L1 has another block than the sequencer's feed; taking that back");
            self.take_back(block.number.saturating_sub(1))?;
        }
        let head = self.inner.head();
        if block.number != head.number + 1 {
            // Never the batch's fault.
            return Err(ReplayError::Executor(ExecutorError::NotHead {
                head_number: head.number,
                head_hash: head.hash(),
                problem: format!("block {} is to follow it", block.number),
            }));
        }
        let same = self.taken.take().filter(|taken| {
            taken.header.parent_hash == head.hash() && block.is_in_but_for_the_queue(taken)
        });
        let executed = self.inner.replay(block)?;
        self.refuted.remove(executed.hash());
        if let Some(taken) = same.filter(|taken| taken.hash() != executed.hash()) {
            error!(target: "millrace::follow", block = executed.number(), feed = %taken.hash(), derived = %executed.hash(), "what L1 has of a block executes to another one than the sequencer's");
            self.refuted.add(taken.hash());
        }
        Ok(executed)
    }

    fn find_accounts(
        &self,
        prefixes: &[AddressPrefix],
    ) -> Result<Vec<Option<Address>>, ReplayError> {
        let _turn = self.turn.blocking_lock();
        self.inner.find_accounts(prefixes)
    }

    fn apply(&mut self, stretch: DerivedStretch) -> Result<(), ReplayError> {
        let _turn = self.turn.blocking_lock();
        self.inner.apply(stretch)
    }

    fn unwind(&mut self, number: u64) -> Result<(), ReplayError> {
        let turn = self.turn.clone();
        let _turn = turn.blocking_lock();
        self.take_back(number)
    }

    fn applied(&self, number: u64) -> Result<Option<B256>, ReplayError> {
        self.inner.applied(number)
    }

    fn header(&self, number: u64) -> Result<Option<SealedHeader>, ReplayError> {
        self.inner.header(number)
    }

    /// Who has made the block is not known: what it leaves out has to be executed to know that it may.
    fn is_made_of(&self, executed: &ExecutedBlock, block: &DerivedBlock) -> bool {
        block.is_all_in(executed)
    }

    fn block(&self, number: u64) -> Result<Option<Arc<ExecutedBlock>>, ReplayError> {
        self.inner.block(number)
    }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::{Address, Bytes, U256};
    use eyre::Result;
    use millrace_executor::{ExecutorConfig, ExecutorService};
    use millrace_proto::{
        BlockAttributes, BlockSelector, ChainSpec, Deposit, Executor, QueueEntry, QueueMark,
        QueuedTxs,
    };
    use serde_json::json;

    use super::*;

    fn spec() -> Result<Arc<ChainSpec>> {
        let genesis = json!({
            "config": {
                "chainId": 7, "londonBlock": 0, "terminalTotalDifficulty": 0,
                "terminalTotalDifficultyPassed": true, "shanghaiTime": 0, "cancunTime": 0,
                "pragueTime": 0, "millrace": { "gasLimit": 30_000_000 }
            },
            "difficulty": "0x0", "gasLimit": "0x1c9c380", "baseFeePerGas": "0x3b9aca00", "alloc": {}
        });
        Ok(Arc::new(ChainSpec::from_json(genesis.to_string().as_bytes())?))
    }

    fn queue(value: u64) -> QueueEntry {
        QueueEntry::Deposit(Deposit {
            index: 0,
            from: Address::repeat_byte(1),
            to: Address::repeat_byte(2),
            value: U256::from(value),
            gas_limit: 100_000,
            data: Bytes::new(),
        })
    }

    /// A sequencer that mints what nobody has deposited, under the queue's own accumulator, is found out by what L1 has of the block, and not believed again.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_forged_deposit_is_refuted() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let config =
            ExecutorConfig { data_dir: dir.path().to_owned(), ..ExecutorConfig::default() };
        let spec = spec()?;
        let (executor, replay) = ExecutorService::open_with_replayer(config, spec.clone())?;
        let right = QueuedTxs::new(QueueMark::default(), [&queue(1)], Address::ZERO);
        let forged = QueuedTxs::new(QueueMark::default(), [&queue(1_000_000)], Address::ZERO);
        let parent = executor.head().await?;
        let attributes = BlockAttributes::rollup(&spec, &parent, 9, right.mark);
        let mut build = executor.open_block(attributes).await?;
        build.execute(forged.txs).await?;
        let forged = build.seal().await?;

        let refuted = Refuted::default();
        let mut derived = Derived::new(replay, Turn::default(), refuted.clone());
        let block = DerivedBlock { number: 1, timestamp: 9, queued: right, transactions: vec![] };
        let again = block.clone();
        let (executed, derived) = tokio::task::spawn_blocking(move || {
            assert!(!derived.is_made_of(&forged, &block));
            let executed = derived.replay(block);
            assert!(derived.refuted.has(forged.hash()), "it is not believed again");
            (executed, derived)
        })
        .await?;
        let executed = executed?;
        assert_eq!(executor.head().await?, executed.header);
        let to = [Address::repeat_byte(2)];
        let minted = executor.accounts(&to, BlockSelector::Latest);
        assert_eq!(minted.await?[0].unwrap_or_default().balance, U256::from(1));
        assert!(!refuted.has(executed.hash()) && derived.is_made_of(&executed, &again));
        Ok(())
    }
}

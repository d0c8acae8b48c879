//! A block that is about to be executed: checked attributes, and from them the header.

use std::sync::Arc;

use alloy::consensus::constants::EMPTY_WITHDRAWALS;
use alloy_primitives::{B256, Bytes, Sealable};
use millrace_proto::{
    BlockAttributes, ChainSpec, ExecutedBlock, Hardfork, Header, QueueMark, SealedHeader,
};

use super::{BlockOutput, EvmEnv, ForcedCount, ListTries};

/// Attributes that follow a parent, and everything that follows from them before any transaction runs.
#[derive(Debug, Clone)]
pub struct BlockPlan {
    spec: Arc<ChainSpec>,
    attributes: BlockAttributes,
    env: EvmEnv,
    base_fee: Option<u64>,
    /// On a rollup, how far L1's queue is consumed after the block.
    queue: Option<QueueMark>,
    /// How many of its entries the block consumes.
    consumed: u64,
}

/// The roots that a block's header has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockRoots {
    /// Of the state after the block.
    pub state: B256,
    /// Of its transactions.
    pub transactions: B256,
    /// Of its receipts.
    pub receipts: B256,
}

impl BlockRoots {
    /// With a state root that is known.
    pub fn new(output: &BlockOutput, state: B256) -> Self {
        Self::of(output, ListTries::default(), state)
    }

    /// The same where some of both lists is hashed already.
    pub fn of(output: &BlockOutput, lists: ListTries, state: B256) -> Self {
        let (transactions, receipts) = output.list_roots(lists);
        Self { state, transactions, receipts }
    }
}

/// Why attributes make no block, or transactions do not fit them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Another number than the parent's plus one.
    #[error("number is {got}, must be {expected}")]
    Number {
        /// Given.
        got: u64,
        /// The parent's plus one.
        expected: u64,
    },
    /// The parent has another hash.
    #[error("parent hash is {got}, must be {expected}")]
    Parent {
        /// Given.
        got: B256,
        /// The parent's.
        expected: B256,
    },
    /// Before the parent.
    #[error("timestamp {got} is before the parent's {parent}")]
    Timestamp {
        /// Given, Unix seconds.
        got: u64,
        /// The parent's, Unix seconds.
        parent: u64,
    },
    /// More extra data than a header holds.
    #[error("extra data has {0} bytes, at most 32 are allowed")]
    ExtraData(usize),
    /// Extra data of a rollup's block that does not say how many deposits the chain has consumed.
    #[error("extra data {0} is not a rollup's")]
    NotRollupExtra(Bytes),
    /// The chain would give deposits back.
    #[error("deposits end at {got}, the parent's at {parent}")]
    DepositsEnd {
        /// Given.
        got: u64,
        /// The parent's.
        parent: u64,
    },
    /// A rollup's block has no freedom in this field.
    #[error("{0} is not what the rollup's rules say")]
    Field(&'static str),
    /// More deposits and forced transactions than the block consumes entries of L1's queue.
    #[error(
        "the block holds {held} of L1's entries, its extra data says that it consumes {consumed}"
    )]
    Queued {
        /// Held.
        held: u64,
        /// From the extra data.
        consumed: u64,
    },
}

impl BlockPlan {
    /// Checks that a block with these attributes can follow `parent`. On a rollup they must be those of
    /// [`BlockAttributes::rollup`], so that derivation finds the same block.
    ///
    /// # Errors
    /// When it cannot.
    pub fn new(
        spec: Arc<ChainSpec>,
        parent: &SealedHeader,
        attributes: BlockAttributes,
    ) -> Result<Self, PlanError> {
        check_common(parent, &attributes)?;
        let queue =
            spec.is_rollup().then(|| check_rollup(&spec, parent, &attributes)).transpose()?;
        let (queue, consumed) = queue.unzip();
        let env = EvmEnv::next(&spec, parent, &attributes);
        let base_fee = spec.next_base_fee(parent);
        let consumed = consumed.unwrap_or_default();
        Ok(Self { spec, attributes, env, base_fee, queue, consumed })
    }

    /// The attributes.
    pub const fn attributes(&self) -> &BlockAttributes {
        &self.attributes
    }

    /// The environment of the block's transactions.
    pub const fn env(&self) -> &EvmEnv {
        &self.env
    }

    /// The same block, with its access list (EIP-7928) made while it is executed.
    #[must_use]
    pub fn with_access_list(mut self) -> Self {
        self.env = self.env.with_access_list(true);
        self
    }

    /// Wei per gas; `None` before London.
    pub const fn base_fee(&self) -> Option<u64> {
        self.base_fee
    }

    /// Counts the forced transactions of the block as they are executed.
    pub fn forced(&self) -> ForcedCount {
        ForcedCount::new(self.queue.map_or(0, |queue| queue.forced))
    }

    /// Checks that the block holds no more of L1's entries than its extra data says that it consumes. (What is no transaction, or not a valid
    /// one, it consumes without holding it.)
    ///
    /// # Errors
    /// When it holds more.
    pub fn check(&self, output: &BlockOutput) -> Result<(), PlanError> {
        let deposits = output.transactions.iter().filter(|tx| tx.tx().is_deposit());
        let held = deposits.count() as u64 + u64::from(output.forced);
        let consumed = self.consumed;
        if held > consumed {
            return Err(PlanError::Queued { held, consumed });
        }
        Ok(())
    }

    /// Joins the output of the block's execution and its roots to a block.
    pub fn seal(&self, output: BlockOutput, roots: BlockRoots) -> ExecutedBlock {
        let header = self.header(&output, roots).seal_slow();
        ExecutedBlock { header, transactions: output.transactions, receipts: output.receipts }
    }

    fn header(&self, output: &BlockOutput, roots: BlockRoots) -> Header {
        let open = self.open_header();
        Header {
            state_root: roots.state,
            transactions_root: roots.transactions,
            receipts_root: roots.receipts,
            logs_bloom: output.logs_bloom,
            gas_used: output.gas_used,
            extra_data: match self.queue {
                Some(queue) => QueueMark { forced: output.forced, ..queue }.extra_data(),
                None => self.attributes.extra_data.clone(),
            },
            blob_gas_used: open.blob_gas_used.map(|_| output.blob_gas_used),
            requests_hash: open.requests_hash.map(|_| output.requests.requests_hash()),
            ..open
        }
    }

    /// What of the header is known before anything is executed; the rest is zero.
    pub fn open_header(&self) -> Header {
        let attributes = &self.attributes;
        let fork = self.spec.hardfork(attributes.number, attributes.timestamp);
        let cancun = fork >= Hardfork::Cancun;
        Header {
            parent_hash: attributes.parent_hash,
            beneficiary: attributes.fee_recipient,
            state_root: B256::ZERO,
            transactions_root: B256::ZERO,
            receipts_root: B256::ZERO,
            number: attributes.number,
            gas_limit: attributes.gas_limit,
            timestamp: attributes.timestamp,
            extra_data: match self.queue {
                Some(queue) => queue.extra_data(),
                None => attributes.extra_data.clone(),
            },
            mix_hash: attributes.prev_randao,
            base_fee_per_gas: self.base_fee,
            withdrawals_root: (fork >= Hardfork::Shanghai).then_some(EMPTY_WITHDRAWALS),
            blob_gas_used: cancun.then_some(0),
            excess_blob_gas: self
                .env
                .block
                .blob_excess_gas_and_price
                .map(|blob| blob.excess_blob_gas),
            parent_beacon_block_root: cancun.then_some(attributes.parent_beacon_block_root),
            requests_hash: (fork >= Hardfork::Prague).then_some(B256::ZERO),
            ..Header::default()
        }
    }
}

fn check_common(parent: &SealedHeader, attributes: &BlockAttributes) -> Result<(), PlanError> {
    let expected = parent.number + 1;
    if attributes.number != expected {
        return Err(PlanError::Number { got: attributes.number, expected });
    }
    if attributes.parent_hash != parent.seal() {
        return Err(PlanError::Parent { got: attributes.parent_hash, expected: parent.seal() });
    }
    if attributes.timestamp < parent.timestamp {
        return Err(PlanError::Timestamp { got: attributes.timestamp, parent: parent.timestamp });
    }
    if attributes.extra_data.len() > 32 {
        return Err(PlanError::ExtraData(attributes.extra_data.len()));
    }
    Ok(())
}

/// How far L1's queue is consumed after the block, and how many of its entries the block consumes.
fn check_rollup(
    spec: &ChainSpec,
    parent: &SealedHeader,
    attributes: &BlockAttributes,
) -> Result<(QueueMark, u64), PlanError> {
    let header = Header {
        number: attributes.number,
        extra_data: attributes.extra_data.clone(),
        parent_beacon_block_root: Some(attributes.parent_beacon_block_root),
        ..Header::default()
    };
    let queue = QueueMark::of(&header)
        .ok_or_else(|| PlanError::NotRollupExtra(attributes.extra_data.clone()))?;
    let before = QueueMark::of(parent)
        .ok_or_else(|| PlanError::NotRollupExtra(parent.extra_data.clone()))?;
    let (got, parent_end) = (queue.end, before.end);
    let consumed =
        got.checked_sub(parent_end).ok_or(PlanError::DepositsEnd { got, parent: parent_end })?;
    if consumed == 0 && queue.hash != before.hash {
        return Err(PlanError::Field("parent beacon block root"));
    }
    let rules = BlockAttributes::rollup(spec, parent, attributes.timestamp, queue);
    for (field, same) in [
        ("fee recipient", attributes.fee_recipient == rules.fee_recipient),
        ("gas limit", attributes.gas_limit == rules.gas_limit),
        ("prev randao", attributes.prev_randao == rules.prev_randao),
        ("extra data", attributes.extra_data == rules.extra_data),
    ] {
        if !same {
            return Err(PlanError::Field(field));
        }
    }
    Ok((queue, consumed))
}

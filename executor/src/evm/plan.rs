//! A block that is about to be executed: checked attributes, and from them the header.

use std::sync::Arc;

use alloy::consensus::constants::EMPTY_WITHDRAWALS;
use alloy_primitives::{B256, Bytes, Sealable};
use millrace_proto::{
    BlockAttributes, ChainSpec, ExecutedBlock, Hardfork, Header, HeaderExtra, SealedHeader,
};

use super::{BlockOutput, EvmEnv};

/// Attributes that follow a parent, and everything that follows from them before any transaction runs.
#[derive(Debug, Clone)]
pub struct BlockPlan {
    spec: Arc<ChainSpec>,
    attributes: BlockAttributes,
    env: EvmEnv,
    base_fee: Option<u64>,
    /// On a rollup, how many deposits the block has to hold.
    deposits: Option<u64>,
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
    /// Another number of deposits than the extra data says.
    #[error("the block holds {got} deposits, its extra data says {expected}")]
    Deposits {
        /// Held.
        got: u64,
        /// From the extra data.
        expected: u64,
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
        let deposits =
            spec.is_rollup().then(|| check_rollup(&spec, parent, &attributes)).transpose()?;
        let env = EvmEnv::next(&spec, parent, &attributes);
        let base_fee = spec.next_base_fee(parent);
        Ok(Self { spec, attributes, env, base_fee, deposits })
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

    /// Checks that the block holds the deposits that its extra data says.
    ///
    /// # Errors
    /// When it holds more or fewer.
    pub fn check(&self, output: &BlockOutput) -> Result<(), PlanError> {
        let Some(expected) = self.deposits else { return Ok(()) };
        let deposits = output.transactions.iter().filter(|tx| tx.tx().is_deposit());
        let got = deposits.count() as u64;
        if got != expected {
            return Err(PlanError::Deposits { got, expected });
        }
        Ok(())
    }

    /// Joins the output of the block's execution and the root of its state to a block.
    pub fn seal(&self, output: BlockOutput, state_root: B256) -> ExecutedBlock {
        let header = self.header(&output, state_root).seal_slow();
        ExecutedBlock { header, transactions: output.transactions, receipts: output.receipts }
    }

    fn header(&self, output: &BlockOutput, state_root: B256) -> Header {
        let attributes = &self.attributes;
        let fork = self.spec.hardfork(attributes.number, attributes.timestamp);
        let cancun = fork >= Hardfork::Cancun;
        Header {
            parent_hash: attributes.parent_hash,
            beneficiary: attributes.fee_recipient,
            state_root,
            transactions_root: output.transactions_root(),
            receipts_root: output.receipts_root,
            logs_bloom: output.logs_bloom,
            number: attributes.number,
            gas_limit: attributes.gas_limit,
            gas_used: output.gas_used,
            timestamp: attributes.timestamp,
            extra_data: attributes.extra_data.clone(),
            mix_hash: attributes.prev_randao,
            base_fee_per_gas: self.base_fee,
            withdrawals_root: (fork >= Hardfork::Shanghai).then_some(EMPTY_WITHDRAWALS),
            blob_gas_used: cancun.then_some(output.blob_gas_used),
            excess_blob_gas: self
                .env
                .block
                .blob_excess_gas_and_price
                .map(|blob| blob.excess_blob_gas),
            parent_beacon_block_root: cancun.then_some(attributes.parent_beacon_block_root),
            requests_hash: (fork >= Hardfork::Prague).then(|| output.requests.requests_hash()),
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

/// The number of deposits that the block has to hold.
fn check_rollup(
    spec: &ChainSpec,
    parent: &SealedHeader,
    attributes: &BlockAttributes,
) -> Result<u64, PlanError> {
    let end_of = |number, extra_data: &Bytes| {
        let header = Header { number, extra_data: extra_data.clone(), ..Header::default() };
        HeaderExtra::of(&header).map(|extra| extra.deposits_end)
    };
    let got = end_of(attributes.number, &attributes.extra_data)
        .ok_or_else(|| PlanError::NotRollupExtra(attributes.extra_data.clone()))?;
    let before = end_of(parent.number, &parent.extra_data)
        .ok_or_else(|| PlanError::NotRollupExtra(parent.extra_data.clone()))?;
    let deposits = got.checked_sub(before).ok_or(PlanError::DepositsEnd { got, parent: before })?;
    let rules = BlockAttributes::rollup(spec, parent, attributes.timestamp, got);
    for (field, same) in [
        ("fee recipient", attributes.fee_recipient == rules.fee_recipient),
        ("gas limit", attributes.gas_limit == rules.gas_limit),
        ("prev randao", attributes.prev_randao == rules.prev_randao),
        (
            "parent beacon block root",
            attributes.parent_beacon_block_root == rules.parent_beacon_block_root,
        ),
        ("extra data", attributes.extra_data == rules.extra_data),
    ] {
        if !same {
            return Err(PlanError::Field(field));
        }
    }
    Ok(deposits)
}

//! The chain's rules as data: a geth-format genesis with its fork schedule, plus what a rollup adds.

use std::fmt;

use alloy::{
    consensus::{Header, constants::EMPTY_WITHDRAWALS},
    eips::{
        eip1559::{BaseFeeParams, INITIAL_BASE_FEE, calc_next_block_base_fee},
        eip7685::EMPTY_REQUESTS_HASH,
        eip7840::BlobParams,
    },
    genesis::{ChainConfig, Genesis},
    primitives::{Address, B256, Bloom},
};
use serde::{Deserialize, Serialize};

/// Ethereum's hardforks, oldest first, as far as they change execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names are Ethereum's own")]
pub enum Hardfork {
    Frontier,
    Homestead,
    TangerineWhistle,
    SpuriousDragon,
    Byzantium,
    Petersburg,
    Istanbul,
    Berlin,
    London,
    Paris,
    Shanghai,
    Cancun,
    Prague,
    Osaka,
}

/// What a chain's batches hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum BatchPayload {
    /// The signed transactions: anyone can execute them again.
    #[default]
    Transactions,
    /// What a batch's blocks changed together: the fewest bytes. Whoever reads it learns the state, not how it came about.
    StateDiffs,
}

impl fmt::Display for BatchPayload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Transactions => "transactions",
            Self::StateDiffs => "state diffs",
        })
    }
}

/// The highest gas limit of a chain whose batches hold state diffs. A block's diff has at most 15.5 bytes for 1,000 gas (slots that get random values,
/// at 4,900 gas and 66 bytes each, and as many cleared ones as give the highest refund), so that every block fits a batch of its own into the six blobs
/// of one L1 transaction. (From Cancun on: before, contracts could clear all of their storage at once.)
const MAX_GAS_LIMIT_OF_DIFFS: u64 = 45_000_000;

/// What a rollup's genesis says under `config.millrace`. Without that key a chain follows Ethereum's own rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RollupParams {
    /// EIP-1559 elasticity: the gas target is the gas limit divided by it.
    pub elasticity: u64,
    /// EIP-1559 maximum change denominator, per block.
    pub base_fee_change_denominator: u64,
    /// The base fee never falls below this, wei per gas.
    pub min_base_fee: u64,
    /// Gas limit of every block.
    pub gas_limit: u64,
    /// Gets the priority fees and the base fees.
    pub fee_recipient: Address,
    /// What batches hold.
    pub batch_payload: BatchPayload,
}

impl Default for RollupParams {
    fn default() -> Self {
        Self {
            elasticity: 2,
            base_fee_change_denominator: 400,
            min_base_fee: 1_000_000,
            gas_limit: 60_000_000,
            fee_recipient: Address::ZERO,
            batch_payload: BatchPayload::default(),
        }
    }
}

/// A chain's genesis and rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainSpec {
    genesis: Genesis,
    rollup: RollupParams,
    is_rollup: bool,
}

/// Why a genesis is not usable.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// Not geth-format genesis JSON.
    #[error("genesis is not valid geth-format JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// `config.millrace` is not what it should be.
    #[error("genesis config.millrace: {0}")]
    Rollup(#[source] serde_json::Error),
    /// A parameter that would break the chain.
    #[error("genesis config.millrace.{field} must be {must}")]
    Parameter {
        /// The field.
        field: &'static str,
        /// What it has to be.
        must: &'static str,
    },
}

impl ChainSpec {
    /// Reads a geth-format genesis.
    ///
    /// # Errors
    /// When it is not one, or its rollup parameters make no sense.
    pub fn from_json(json: &[u8]) -> Result<Self, SpecError> {
        Self::new(serde_json::from_slice(json)?)
    }

    /// Takes a parsed genesis.
    ///
    /// # Errors
    /// When its rollup parameters make no sense.
    pub fn new(genesis: Genesis) -> Result<Self, SpecError> {
        let (rollup, is_rollup) = match genesis.config.extra_fields.get("millrace") {
            Some(value) => {
                (serde_json::from_value(value.clone()).map_err(SpecError::Rollup)?, true)
            }
            None => (RollupParams { gas_limit: genesis.gas_limit, ..Default::default() }, false),
        };
        let positive = |value: u64, field| {
            if value == 0 {
                return Err(SpecError::Parameter { field, must: "at least 1" });
            }
            Ok(())
        };
        positive(rollup.elasticity, "elasticity")?;
        positive(rollup.base_fee_change_denominator, "baseFeeChangeDenominator")?;
        if is_rollup && rollup.gas_limit < 1_000_000 {
            return Err(SpecError::Parameter { field: "gasLimit", must: "at least 1000000" });
        }
        if rollup.batch_payload == BatchPayload::StateDiffs
            && rollup.gas_limit > MAX_GAS_LIMIT_OF_DIFFS
        {
            let must = "at most 45000000 where batches hold state diffs";
            return Err(SpecError::Parameter { field: "gasLimit", must });
        }
        let spec = Self { genesis, rollup, is_rollup };
        // Its headers hold L1's queue in a field that Cancun has brought; and before, what a block can change had no bound.
        if is_rollup && spec.hardfork(0, spec.genesis.timestamp) < Hardfork::Cancun {
            let must = "at or before the genesis' timestamp, as a rollup begins with Cancun's rules or later";
            return Err(SpecError::Parameter { field: "cancunTime", must });
        }
        Ok(spec)
    }

    /// The genesis.
    pub const fn genesis(&self) -> &Genesis {
        &self.genesis
    }

    /// The fork schedule.
    pub const fn config(&self) -> &ChainConfig {
        &self.genesis.config
    }

    /// The EIP-155 chain id.
    pub const fn chain_id(&self) -> u64 {
        self.genesis.config.chain_id
    }

    /// The rollup's parameters; Ethereum-like defaults for a chain that is none.
    pub const fn rollup(&self) -> &RollupParams {
        &self.rollup
    }

    /// Whether the genesis names this a Millrace rollup.
    pub const fn is_rollup(&self) -> bool {
        self.is_rollup
    }

    /// The genesis as JSON.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(&self.genesis)
            .expect("a genesis has only string keys and finite numbers")
    }

    /// The rules at a block.
    pub fn hardfork(&self, number: u64, timestamp: u64) -> Hardfork {
        let config = &self.genesis.config;
        let time = |at: Option<u64>| at.is_some_and(|at| at <= timestamp);
        if time(config.osaka_time) {
            Hardfork::Osaka
        } else if time(config.prague_time) {
            Hardfork::Prague
        } else if time(config.cancun_time) {
            Hardfork::Cancun
        } else if time(config.shanghai_time) {
            Hardfork::Shanghai
        } else if self.is_paris(number) {
            Hardfork::Paris
        } else if config.is_london_active_at_block(number) {
            Hardfork::London
        } else if config.is_berlin_active_at_block(number) {
            Hardfork::Berlin
        } else if config.is_istanbul_active_at_block(number) {
            Hardfork::Istanbul
        } else if config.is_petersburg_active_at_block(number) {
            Hardfork::Petersburg
        } else if config.is_byzantium_active_at_block(number) {
            Hardfork::Byzantium
        } else if config.is_eip158_active_at_block(number) {
            Hardfork::SpuriousDragon
        } else if config.is_eip150_active_at_block(number) {
            Hardfork::TangerineWhistle
        } else if config.is_homestead_active_at_block(number) {
            Hardfork::Homestead
        } else {
            Hardfork::Frontier
        }
    }

    fn is_paris(&self, number: u64) -> bool {
        let config = &self.genesis.config;
        config.merge_netsplit_block.is_some_and(|at| at <= number)
            || config.terminal_total_difficulty_passed
            || config.terminal_total_difficulty.is_some_and(|ttd| ttd.is_zero())
    }

    /// Blob parameters at a time, or `None` before Cancun.
    pub fn blob_params(&self, timestamp: u64) -> Option<BlobParams> {
        let config = &self.genesis.config;
        if config.cancun_time.is_none_or(|at| at > timestamp) {
            return None;
        }
        let schedule = config.blob_schedule_blob_params();
        Some(schedule.active_scheduled_params_at_timestamp(timestamp).copied().unwrap_or(
            match self.hardfork(u64::MAX, timestamp) {
                Hardfork::Osaka => schedule.osaka,
                Hardfork::Prague => schedule.prague,
                _ => schedule.cancun,
            },
        ))
    }

    /// The base fee of the block after `parent`, wei per gas (EIP-1559); `None` before London.
    pub fn next_base_fee(&self, parent: &Header) -> Option<u64> {
        if self.hardfork(parent.number + 1, parent.timestamp) < Hardfork::London {
            return None;
        }
        let Some(base_fee) = parent.base_fee_per_gas else { return Some(INITIAL_BASE_FEE) };
        let params = if self.is_rollup {
            BaseFeeParams::new(
                u128::from(self.rollup.base_fee_change_denominator),
                u128::from(self.rollup.elasticity),
            )
        } else {
            BaseFeeParams::ethereum()
        };
        let next = calc_next_block_base_fee(parent.gas_used, parent.gas_limit, base_fee, params);
        Some(if self.is_rollup { next.max(self.rollup.min_base_fee) } else { next })
    }

    /// The genesis header, given the root of the genesis allocation.
    pub fn genesis_header(&self, state_root: B256) -> Header {
        let genesis = &self.genesis;
        let fork = self.hardfork(0, genesis.timestamp);
        let from = |at: Hardfork| fork >= at;
        Header {
            parent_hash: B256::ZERO,
            beneficiary: genesis.coinbase,
            state_root,
            logs_bloom: Bloom::ZERO,
            difficulty: genesis.difficulty,
            gas_limit: genesis.gas_limit,
            timestamp: genesis.timestamp,
            mix_hash: genesis.mix_hash,
            nonce: genesis.nonce.into(),
            extra_data: genesis.extra_data.clone(),
            base_fee_per_gas: from(Hardfork::London).then(|| {
                genesis
                    .base_fee_per_gas
                    .and_then(|fee| u64::try_from(fee).ok())
                    .unwrap_or(INITIAL_BASE_FEE)
            }),
            withdrawals_root: from(Hardfork::Shanghai).then_some(EMPTY_WITHDRAWALS),
            blob_gas_used: from(Hardfork::Cancun).then(|| genesis.blob_gas_used.unwrap_or(0)),
            excess_blob_gas: from(Hardfork::Cancun).then(|| genesis.excess_blob_gas.unwrap_or(0)),
            parent_beacon_block_root: from(Hardfork::Cancun).then_some(B256::ZERO),
            requests_hash: from(Hardfork::Prague).then_some(EMPTY_REQUESTS_HASH),
            ..Header::default()
        }
    }
}

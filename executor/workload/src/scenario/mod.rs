//! Blocks made for measuring, from real contracts. Everything follows from a seed.

mod artifacts;
mod blocks;
mod contracts;
mod world;

use std::sync::Arc;

use millrace_executor::{EvmEnv, MemoryState};
use millrace_proto::RecoveredTx;

pub use self::artifacts::{ArtifactError, Artifacts};
use self::{blocks::Builder, contracts::Contracts, world::World};

/// A block, and the state before it.
#[derive(Debug, Clone)]
pub struct Block {
    /// Rules and block fields.
    pub env: EvmEnv,
    /// The state before the first transaction.
    pub state: Arc<MemoryState>,
    /// The transactions.
    pub transactions: Vec<Arc<RecoveredTx>>,
}

/// How large blocks are.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    /// Accounts that exist, and hold ether.
    pub accounts: usize,
    /// Transfers of ether a block.
    pub transfers: usize,
    /// ERC-20 transfers a block.
    pub tokens: usize,
    /// Swaps a block.
    pub swaps: usize,
    /// What random choices follow from.
    pub seed: u64,
}

impl Scenario {
    /// What figures are measured with: about 20,000 transactions or a billion gas.
    pub const FULL: Self =
        Self { accounts: 1_000_000, transfers: 20_000, tokens: 20_000, swaps: 9_000, seed: 1 };

    /// What tests run with.
    pub const SMALL: Self =
        Self { accounts: 2_000, transfers: 400, tokens: 300, swaps: 60, seed: 1 };
}

/// The blocks that the executor is measured with, by name.
///
/// # Errors
/// When the contracts' published bytecode is not of the expected form.
pub fn scenarios(
    size: Scenario,
    artifacts: &Artifacts,
) -> Result<Vec<(&'static str, Block)>, ArtifactError> {
    let mut builder = Builder::new(size, artifacts)?;
    let blocks = vec![
        ("transfers", builder.transfers()),
        ("transfers_to_one", builder.transfers_to_one()),
        ("transfers_from_few", builder.transfers_from_few()),
        ("erc20", builder.erc20()),
        ("erc20_to_one", builder.erc20_to_one()),
        ("swaps", builder.swaps()),
        ("swaps_one_pool", builder.swaps_one_pool()),
        ("zipf_mix", builder.zipf_mix()),
    ];
    let state = Arc::new(builder.into_state());
    let block =
        |(name, (env, transactions))| (name, Block { env, state: state.clone(), transactions });
    Ok(blocks.into_iter().map(block).collect())
}

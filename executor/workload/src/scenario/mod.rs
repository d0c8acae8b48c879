//! Blocks made for measuring, from real contracts. Everything follows from a seed.

mod artifacts;
mod blocks;
mod contracts;
mod load;
mod uniswap_v3;
mod world;

use std::sync::Arc;

use millrace_executor::{EvmEnv, MemoryState};
use millrace_proto::RecoveredTx;

pub use self::{
    artifacts::{ArtifactError, Artifacts},
    load::{Load, LoadKind, Loaded, as_rollup_block},
};
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
        ("swaps_v3", builder.swaps_v3()),
        ("swaps_v3_one_pool", builder.swaps_v3_one_pool()),
        ("zipf_mix", builder.zipf_mix()),
    ];
    let state = Arc::new(builder.into_state());
    let block =
        |(name, (env, transactions))| (name, Block { env, state: state.clone(), transactions });
    Ok(blocks.into_iter().map(block).collect())
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroUsize, path::Path};

    use alloy_primitives::{B256, keccak256};
    use millrace_executor::WorkerPool;
    use millrace_proto::{AccountNames, Batch, BatchLimits, DiffBatch, KeyHints, TxOutcome};

    use super::*;
    use crate::{Execution, Ground};

    fn artifacts() -> Artifacts {
        let packages = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.tools/node_modules");
        Artifacts::read(&packages).expect("tests/setup.sh was run")
    }

    fn small() -> Vec<(&'static str, Block)> {
        scenarios(Scenario::SMALL, &artifacts()).expect("the contracts can be set up")
    }

    /// `millrace bench codec` measures them.
    #[test]
    fn chains_under_load_can_be_batched_in_both_ways() {
        for kind in [LoadKind::Erc20, LoadKind::Swap { pools: 2 }] {
            let load = Load { kind, senders: 8, blocks: 3, transactions: 20, seed: 1 };
            let executed = load.execute(&artifacts()).expect("the chain is made").blocks;
            let parent = executed[0].0.header.parent_hash;
            let blocks: Vec<_> = executed.iter().map(|(block, _)| block.clone()).collect();
            let limits = BatchLimits::default();
            let batch = Batch::from_blocks(Load::CHAIN_ID, 0, parent, &blocks).expect("a batch");
            let encoded = batch.encode(3).expect("it encodes");
            assert_eq!(Batch::decode(&encoded, &limits).expect("it decodes"), batch);
            let diffs = DiffBatch::from_blocks(Load::CHAIN_ID, 0, parent, &executed);
            let diffs = diffs.expect("a batch of what they changed");
            let (hints, names) = (KeyHints::of(&executed), AccountNames::default());
            let encoded = diffs.encode(3, &hints, &names).expect("it encodes");
            let decoded = DiffBatch::decode(&encoded, &limits).expect("it decodes");
            assert_eq!(decoded.resolve(&[]), Ok(diffs));
        }
    }

    fn in_order(block: &Block) -> Execution {
        Ground::of(block).in_order(&block.transactions).expect("the block executes")
    }

    /// How many transactions have logged an event.
    fn logged(execution: &Execution, event: B256) -> usize {
        let logs = execution.output.receipts.iter().map(|receipt| &receipt.logs);
        logs.filter(|logs| logs.iter().any(|log| log.topics().first() == Some(&event))).count()
    }

    #[test]
    fn every_transaction_succeeds_and_threads_execute_as_in_order() {
        for (name, block) in small() {
            let expected = in_order(&block);
            for (index, outcome) in expected.outcomes.iter().enumerate() {
                let success =
                    matches!(outcome, TxOutcome::Included { receipt, .. } if receipt.success);
                assert!(success, "{name}, transaction {index}: {outcome:?}");
            }
            for threads in [1, 2, 4] {
                let threads = NonZeroUsize::new(threads).expect("a pool has a thread");
                let pool = Arc::new(WorkerPool::new(threads).expect("threads start"));
                let all = [Arc::from(block.transactions.clone())];
                let (got, _) =
                    Ground::of(&block).in_parallel(&all, &pool).expect("the block executes");
                assert_eq!(expected.difference(&got), None, "{name} on {threads} threads");
            }
        }
    }

    #[test]
    fn swaps_reach_the_pools_of_their_exchange() {
        let v2 = keccak256("Swap(address,uint256,uint256,uint256,uint256,address)");
        let v3 = keccak256("Swap(address,address,int256,int256,uint160,uint128,int24)");
        for (name, block) in small() {
            let execution = in_order(&block);
            let found = [v2, v3].map(|event| logged(&execution, event));
            let all = block.transactions.len();
            match name {
                "swaps" | "swaps_one_pool" => assert_eq!(found, [all, 0], "{name}"),
                "swaps_v3" | "swaps_v3_one_pool" => assert_eq!(found, [0, all], "{name}"),
                "zipf_mix" => assert!(found.iter().all(|count| *count > 0), "{name}: {found:?}"),
                _ => assert_eq!(found, [0, 0], "{name}"),
            }
        }
    }
}

//! What is encoded: real blocks, and made ones.

use std::{collections::BTreeMap, sync::Arc};

use alloy::{
    eips::Encodable2718,
    primitives::{Address, B256, Signature, U256},
};
use eyre::{Result, WrapErr, bail};
use millrace_executor::MemoryState;
use millrace_proto::{
    AccountNames, AddressPrefix, Batch, BatchDictionary, ExecutedBlock, KeyHints, RecoveredTx,
    StateDiff, TxEnvelope,
};
use millrace_workload::{
    Artifacts, Fixture, Ground, Load, LoadKind, Loaded, Scenario, as_rollup_block, scenarios,
};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::CodecArgs;
use crate::{
    bench::is_wanted,
    dictionary::{Trainer, batch_of, mainnet_batch},
};

/// A batch to encode.
pub(super) struct Case {
    pub(super) name: String,
    pub(super) batch: Batch,
    /// The transactions as they were sent, one after another.
    pub(super) raw: Vec<u8>,
    /// Made without having seen this batch.
    pub(super) dictionary: Option<BatchDictionary>,
    /// The blocks, executed, and what they changed.
    pub(super) executed: Vec<(Arc<ExecutedBlock>, Arc<StateDiff>)>,
    /// Of the accounts of the state before it those that it may name.
    pub(super) names: AccountNames,
    /// What it counts for.
    pub(super) kind: CaseKind,
}

/// What a case counts for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CaseKind {
    /// The goals of transactions.
    Real,
    /// Those of state diffs: tokens and swaps.
    Load,
    /// None.
    Made,
}

/// All cases that are wanted.
pub(super) fn cases(args: &CodecArgs) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    if let Some(path) = &args.blocks {
        let blocks = Fixture::read_all(path).wrap_err("cannot read the blocks")?;
        let batches: Vec<Batch> = blocks.iter().map(mainnet_batch).collect();
        let trainer = Trainer::read(&args.packages)?;
        for (at, batch) in batches.iter().enumerate() {
            let others: Vec<Batch> = batches
                .iter()
                .enumerate()
                .filter(|(other, _)| *other != at)
                .map(|(_, batch)| batch.clone())
                .collect();
            // The dictionary that is part of Millrace has learnt from these blocks; this one has not seen the block that it is tried on.
            let dictionary =
                trainer.train(&others).map(|bytes| BatchDictionary::new(u8::MAX, bytes));
            let dictionary = if others.is_empty() { None } else { Some(dictionary?) };
            let name = format!("block_{}", batch.first_block);
            let Fixture { env, state, transactions, .. } = &blocks[at];
            let (env, state) = (env.clone(), state.clone());
            let ground = Ground { env, state, codes: Arc::default() };
            let executed = vec![execute(&ground, transactions, batch)?];
            let batch = batch.clone();
            cases.push(case(name, batch, dictionary, &ground.state, executed, CaseKind::Real));
        }
    }
    let artifacts = Artifacts::read(&args.packages)?;
    let mut random = StdRng::seed_from_u64(1);
    for (name, block) in scenarios(SIZE, &artifacts)? {
        let counts = MIXES.iter().find(|(mix, _)| *mix == name).map(|(_, counts)| *counts);
        if let Some(counts) = counts.filter(|_| is_wanted(name, &args.cases)) {
            let mut batch = batch_of(block.env.cfg.chain_id, 1, 1_700_000_000, &block.transactions);
            for tx in batch.blocks.iter_mut().flat_map(|block| &mut block.transactions) {
                sign(tx, &mut random);
            }
            let executed = vec![execute(&Ground::of(&block), &block.transactions, &batch)?];
            cases.push(case(name.into(), batch, None, &block.state, executed, counts));
        }
    }
    for (name, kind, senders) in LOADS {
        if is_wanted(name, &args.cases) {
            let load = Load { kind, senders, blocks: 20, transactions: 1_000, seed: 1 };
            let Loaded { state, blocks: executed } = load.execute(&artifacts)?;
            let parent = executed.first().map_or(B256::ZERO, |(block, _)| block.header.parent_hash);
            let blocks: Vec<_> = executed.iter().map(|(block, _)| block.clone()).collect();
            let mut batch = Batch::from_blocks(Load::CHAIN_ID, 0, parent, &blocks)?;
            for tx in batch.blocks.iter_mut().flat_map(|block| &mut block.transactions) {
                sign(tx, &mut random);
            }
            cases.push(case(name.into(), batch, None, &state, executed, CaseKind::Load));
        }
    }
    cases.retain(|case| is_wanted(&case.name, &args.cases));
    if cases.is_empty() {
        bail!("no case has such a name");
    }
    Ok(cases)
}

/// The block of a batch executed on the state before it, with what it changed.
fn execute(
    ground: &Ground,
    transactions: &[Arc<RecoveredTx>],
    batch: &Batch,
) -> Result<(Arc<ExecutedBlock>, Arc<StateDiff>)> {
    let output = ground.in_order(transactions)?.output;
    let diff = Arc::new(output.diff.clone());
    let timestamp = ground.env.block.timestamp.saturating_to();
    let block = as_rollup_block(batch.first_block, timestamp, batch.parent_hash, output);
    Ok((Arc::new(block), diff))
}

/// Blocks that the executor is measured with, and what they count for. In most, every account comes once.
const MIXES: [(&str, CaseKind); 5] = [
    ("transfers", CaseKind::Made),
    ("erc20", CaseKind::Load),
    ("swaps", CaseKind::Load),
    ("swaps_v3", CaseKind::Load),
    ("zipf_mix", CaseKind::Load),
];

/// Chains under load: what users do, and how many they are. In the last, hardly anybody comes twice, so that there is nothing to take together.
const LOADS: [(&str, LoadKind, usize); 5] = [
    ("load_erc20_1k", LoadKind::Erc20, 1_000),
    ("load_erc20_10k", LoadKind::Erc20, 10_000),
    ("load_swap_1k", LoadKind::Swap { pools: 50 }, 1_000),
    ("load_swap_10k", LoadKind::Swap { pools: 50 }, 10_000),
    ("load_erc20_200k", LoadKind::Erc20, 200_000),
];

/// A few blobs' worth of each mix.
const SIZE: Scenario =
    Scenario { accounts: 20_000, transfers: 5_000, tokens: 5_000, swaps: 2_000, seed: 1 };

fn case(
    name: String,
    batch: Batch,
    dictionary: Option<BatchDictionary>,
    before: &MemoryState,
    executed: Vec<(Arc<ExecutedBlock>, Arc<StateDiff>)>,
    kind: CaseKind,
) -> Case {
    let transactions = batch.blocks.iter().flat_map(|block| &block.transactions);
    let raw = transactions.flat_map(Encodable2718::encoded_2718).collect();
    let names = names(before, &executed);
    Case { name, batch, raw, dictionary, executed, names, kind }
}

/// Bits that names have: as many as in a state of Ethereum mainnet's size (some 300 million accounts), however few accounts the made states have.
const NAME_BITS: u8 = 36;

/// Names for the accounts of the state before some blocks.
fn names(before: &MemoryState, executed: &[(Arc<ExecutedBlock>, Arc<StateDiff>)]) -> AccountNames {
    let mut alone: BTreeMap<_, Option<Address>> = BTreeMap::new();
    for (address, _) in before.accounts() {
        let prefix = AddressPrefix::of(address, NAME_BITS);
        alone.entry(prefix).and_modify(|other| *other = None).or_insert(Some(address));
    }
    let wanted = AccountNames::wanted(executed, &KeyHints::of(executed));
    let find =
        |address: &Address| alone.get(&AddressPrefix::of(*address, NAME_BITS)).copied().flatten();
    let found: Vec<_> = wanted.iter().map(find).collect();
    AccountNames::new(NAME_BITS, &wanted, &found)
}

/// Gives a made transaction the signature of nobody: as many bytes as a real one's, and as random.
fn sign(tx: &mut TxEnvelope, random: &mut StdRng) {
    let signature = Signature::new(
        U256::from_be_bytes::<32>(random.random()),
        U256::from_be_bytes::<32>(random.random()) >> 1,
        random.random(),
    );
    if let TxEnvelope::Eip1559(signed) = tx {
        *tx = TxEnvelope::Eip1559(alloy::consensus::Signed::new_unhashed(
            signed.tx().clone(),
            signature,
        ));
    }
}

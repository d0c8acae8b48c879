//! What gas costs, from what recent blocks show.

use std::{collections::BTreeMap, sync::Arc};

use alloy::{
    consensus::{BlockHeader, Transaction},
    eips::BlockNumberOrTag,
    primitives::B256,
    rpc::types::FeeHistory,
};
use millrace_proto::{BlockSelector, ChainSpec, ExecutedBlock, Header};
use parking_lot::Mutex;

use crate::{context::Context, error::CallError};

/// Blocks whose tips a suggestion looks at.
const SAMPLED_BLOCKS: usize = 20;
/// Lowest tips taken of each.
const SAMPLES_A_BLOCK: usize = 3;
/// Percentile of the samples.
const SUGGESTED_PERCENTILE: usize = 60;
/// No suggestion is above this, wei per gas.
const MAX_SUGGESTED_TIP: u128 = 500_000_000_000;
/// Percentiles that one request may ask for.
const MAX_PERCENTILES: usize = 100;

/// A block's fees.
#[derive(Debug)]
struct BlockFees {
    hash: B256,
    parent_hash: B256,
    base_fee: u64,
    next_base_fee: u64,
    gas_used_ratio: f64,
    blob_fee: u128,
    next_blob_fee: u128,
    blob_gas_used_ratio: f64,
    /// Tip and gas used of each transaction that pays one, lowest tip first.
    tips: Vec<(u128, u64)>,
}

/// Keeps the fees of recent blocks. An entry counts only while the hash is that of its child's parent.
#[derive(Debug)]
pub(crate) struct FeeOracle {
    blocks: Mutex<BTreeMap<u64, Arc<BlockFees>>>,
    capacity: usize,
}

impl FeeOracle {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { blocks: Mutex::default(), capacity }
    }

    fn get(&self, number: u64, hash: B256) -> Option<Arc<BlockFees>> {
        self.blocks.lock().get(&number).filter(|fees| fees.hash == hash).cloned()
    }

    fn insert(&self, number: u64, fees: Arc<BlockFees>) {
        let mut blocks = self.blocks.lock();
        blocks.insert(number, fees);
        while blocks.len() > self.capacity {
            blocks.pop_first();
        }
    }
}

impl BlockFees {
    fn new(block: &ExecutedBlock, spec: &ChainSpec) -> Self {
        let header = &block.header;
        let base_fee = header.base_fee_per_gas.unwrap_or_default();
        let params = spec.blob_params(header.timestamp);
        let max_blob_gas = params.map_or(0, |params| params.max_blob_gas_per_block());
        Self {
            hash: block.hash(),
            parent_hash: header.parent_hash,
            base_fee,
            next_base_fee: spec.next_base_fee(header).unwrap_or_default(),
            gas_used_ratio: ratio(header.gas_used, header.gas_limit),
            blob_fee: params.and_then(|params| header.blob_fee(params)).unwrap_or_default(),
            next_blob_fee: next_blob_fee(header, spec),
            blob_gas_used_ratio: ratio(header.blob_gas_used.unwrap_or_default(), max_blob_gas),
            tips: tips(block, base_fee),
        }
    }

    /// The tip at each percentile of the gas used; `without` where nobody bid.
    fn rewards(&self, percentiles: &[f64], without: u128) -> Vec<u128> {
        let total: u64 = self.tips.iter().map(|(_, gas)| gas).sum();
        let mut tips = self.tips.iter();
        let mut current = tips.next();
        let mut gas_so_far = current.map_or(0, |(_, gas)| *gas);
        let reward_at = |percentile: &f64| {
            let threshold = total as f64 * percentile / 100.0;
            while (gas_so_far as f64) < threshold {
                let Some(next) = tips.next() else { break };
                gas_so_far += next.1;
                current = Some(next);
            }
            current.map_or(without, |(tip, _)| *tip)
        };
        percentiles.iter().map(reward_at).collect()
    }
}

/// Tip and gas used of each transaction, lowest tip first; deposits bid nothing and are left out.
fn tips(block: &ExecutedBlock, base_fee: u64) -> Vec<(u128, u64)> {
    let mut tips: Vec<_> = block
        .transactions
        .iter()
        .enumerate()
        .filter(|(_, tx)| !tx.tx().is_deposit())
        .filter_map(|(index, tx)| {
            Some((tx.tx().effective_tip_per_gas(base_fee)?, block.gas_used_by(index)?))
        })
        .collect();
    tips.sort_unstable();
    tips
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// The blob fee of the block after `header`, wei per blob gas; 0 before Cancun.
fn next_blob_fee(header: &Header, spec: &ChainSpec) -> u128 {
    let params = spec.blob_params(header.timestamp);
    header.maybe_next_block_blob_fee(params).unwrap_or_default()
}

impl Context {
    /// The fees of up to `count` blocks, the last of which is `newest`, oldest first.
    async fn recent_fees(
        &self,
        newest: BlockSelector,
        count: usize,
    ) -> Result<(u64, Vec<Arc<BlockFees>>), CallError> {
        let Some(newest) = self.executor.header(newest).await? else {
            return Err(CallError::NotFound(format!("block {newest} is unknown")));
        };
        let mut fees = Vec::with_capacity(count);
        let (mut number, mut hash) = (newest.number, newest.seal());
        while fees.len() < count {
            let block = self.block_fees(number, hash).await?;
            hash = block.parent_hash;
            fees.push(block);
            match number.checked_sub(1) {
                Some(parent) => number = parent,
                None => break,
            }
        }
        fees.reverse();
        let oldest = newest.number + 1 - fees.len() as u64;
        Ok((oldest, fees))
    }

    async fn block_fees(&self, number: u64, hash: B256) -> Result<Arc<BlockFees>, CallError> {
        if let Some(fees) = self.fees.get(number, hash) {
            return Ok(fees);
        }
        let Some(block) = self.executor.block(BlockSelector::Hash(hash)).await? else {
            return Err(CallError::NotFound(format!("block {number} is not kept any more")));
        };
        let fees = Arc::new(BlockFees::new(&block, &self.spec));
        self.fees.insert(number, fees.clone());
        Ok(fees)
    }

    /// A tip that recent blocks suggest, and with which a transfer pays for its data, wei per gas.
    pub(crate) async fn suggested_tip(&self) -> Result<u128, CallError> {
        let (_, blocks) = self.recent_fees(BlockSelector::Latest, SAMPLED_BLOCKS).await?;
        let lowest = blocks.iter().flat_map(|block| block.tips.iter().take(SAMPLES_A_BLOCK));
        let mut samples: Vec<u128> = lowest.map(|(tip, _)| *tip).collect();
        samples.sort_unstable();
        let index = samples.len().saturating_sub(1) * SUGGESTED_PERCENTILE / 100;
        let default = u128::from(self.config.default_priority_fee);
        let suggested = samples.get(index).copied().unwrap_or(default).min(MAX_SUGGESTED_TIP);
        Ok(suggested.max(self.pool.data_price().await?.tip_of_transfer()))
    }

    /// The next block's base fee and a tip, wei per gas.
    pub(crate) async fn gas_price(&self) -> Result<u128, CallError> {
        let head = self.executor.head().await?;
        let base_fee = self.spec.next_base_fee(&head).unwrap_or_default();
        Ok(u128::from(base_fee) + self.suggested_tip().await?)
    }

    /// The next block's blob fee, wei per blob gas.
    pub(crate) async fn blob_base_fee(&self) -> Result<u128, CallError> {
        Ok(next_blob_fee(&*self.executor.head().await?, &self.spec))
    }

    pub(crate) async fn fee_history(
        &self,
        block_count: u64,
        newest: BlockNumberOrTag,
        percentiles: Option<Vec<f64>>,
    ) -> Result<FeeHistory, CallError> {
        if let Some(percentiles) = &percentiles {
            check_percentiles(percentiles)?;
        }
        let limit = self.config.limits.max_fee_history as usize;
        let count = usize::try_from(block_count).unwrap_or(usize::MAX).min(limit);
        if count == 0 {
            return Ok(FeeHistory::default());
        }
        let newest = self.select_tag(newest).await?;
        let (oldest_block, blocks) = self.recent_fees(newest, count).await?;
        // Clients take these for what they should bid: so where nobody bid, it is what is asked for.
        let asked = match percentiles {
            Some(_) => self.pool.data_price().await?.tip_of_transfer(),
            None => 0,
        };
        let last = blocks.last();
        let base_fees = blocks.iter().map(|block| block.base_fee);
        let blob_fees = blocks.iter().map(|block| block.blob_fee);
        Ok(FeeHistory {
            base_fee_per_gas: base_fees
                .chain(last.map(|block| block.next_base_fee))
                .map(u128::from)
                .collect(),
            gas_used_ratio: blocks.iter().map(|block| block.gas_used_ratio).collect(),
            base_fee_per_blob_gas: blob_fees.chain(last.map(|block| block.next_blob_fee)).collect(),
            blob_gas_used_ratio: blocks.iter().map(|block| block.blob_gas_used_ratio).collect(),
            oldest_block,
            reward: percentiles.map(|percentiles| {
                blocks.iter().map(|block| block.rewards(&percentiles, asked)).collect()
            }),
        })
    }
}

fn check_percentiles(percentiles: &[f64]) -> Result<(), CallError> {
    let invalid = |problem: String| Err(CallError::InvalidParams(problem));
    if percentiles.len() > MAX_PERCENTILES {
        return invalid(format!("at most {MAX_PERCENTILES} reward percentiles are answered"));
    }
    if let Some(value) = percentiles.iter().find(|value| !(0.0..=100.0).contains(*value)) {
        return invalid(format!("reward percentile {value} is not between 0 and 100"));
    }
    if !percentiles.is_sorted() {
        return invalid("reward percentiles must be in ascending order".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fees(tips: Vec<(u128, u64)>) -> BlockFees {
        BlockFees {
            hash: B256::ZERO,
            parent_hash: B256::ZERO,
            base_fee: 0,
            next_base_fee: 0,
            gas_used_ratio: 0.0,
            blob_fee: 0,
            next_blob_fee: 0,
            blob_gas_used_ratio: 0.0,
            tips,
        }
    }

    #[test]
    fn rewards_are_percentiles_of_the_gas() {
        let block = fees(vec![(1, 21_000), (5, 21_000), (9, 58_000)]);
        assert_eq!(block.rewards(&[0.0, 21.0, 22.0, 42.0, 43.0, 100.0], 3), [1, 1, 5, 5, 9, 9]);
    }

    #[test]
    fn an_empty_block_rewards_what_is_asked_for() {
        assert_eq!(fees(vec![]).rewards(&[0.0, 50.0, 100.0], 3), [3, 3, 3]);
        assert_eq!(fees(vec![]).rewards(&[0.0], 0), [0]);
    }

    #[test]
    fn percentiles_are_checked() {
        assert!(check_percentiles(&[0.0, 25.5, 25.5, 100.0]).is_ok());
        assert!(check_percentiles(&[50.0, 25.0]).is_err());
        assert!(check_percentiles(&[-1.0]).is_err());
        assert!(check_percentiles(&[100.1]).is_err());
        assert!(check_percentiles(&[f64::NAN]).is_err());
        assert!(check_percentiles(&[1.0; MAX_PERCENTILES + 1]).is_err());
    }

    #[test]
    fn the_oracle_forgets_the_oldest_blocks_and_those_of_another_fork() {
        let oracle = FeeOracle::new(2);
        for number in 1..=3 {
            oracle.insert(number, Arc::new(fees(vec![])));
        }
        assert!(oracle.get(1, B256::ZERO).is_none());
        assert!(oracle.get(3, B256::ZERO).is_some());
        assert!(oracle.get(3, B256::repeat_byte(1)).is_none());
    }
}

//! The chain of blocks that a simulation makes: their numbers and times, and their headers.

use alloy::{
    consensus::constants::{EMPTY_OMMER_ROOT_HASH, EMPTY_WITHDRAWALS},
    rpc::types::{BlockOverrides, simulate::SimBlock},
};
use alloy_primitives::{B256, U256};
use millrace_proto::{ChainSpec, ExecutorError, Hardfork, Header, SimulationCode as Code};

use super::failed;
use crate::evm::BlockOutput;

/// Most blocks of a simulation, those between the ones that are asked for included: as many as `BLOCKHASH` sees.
pub(super) const MAX_BLOCKS: u64 = 256;

/// Seconds between blocks whose times are not given: a slot of Ethereum's, or the least that there is, as a rollup's blocks are faster than its clock.
pub(super) fn time_step(spec: &ChainSpec) -> u64 {
    if spec.is_rollup() { 1 } else { 12 }
}

/// Every block with its number and its time, and empty ones where numbers are left out.
pub(super) fn plan(
    base: &Header,
    blocks: Vec<SimBlock>,
    step: u64,
) -> Result<Vec<SimBlock>, ExecutorError> {
    if blocks.len() as u64 > MAX_BLOCKS {
        return Err(failed(Code::Limit, format!("too many blocks, at most {MAX_BLOCKS}")));
    }
    let mut planned = Vec::with_capacity(blocks.len());
    let (mut number, mut time) = (base.number, base.timestamp);
    for mut block in blocks {
        let fields = block.block_overrides.get_or_insert_default();
        let wanted = match fields.number {
            None => number.saturating_add(1),
            Some(wanted) => u64::try_from(wanted).map_err(|_| {
                failed(Code::Invalid, format!("block number {wanted} is too large"))
            })?,
        };
        if wanted <= number {
            let problem = format!("block numbers must be in order: {wanted} <= {number}");
            return Err(failed(Code::BlockNumbers, problem));
        }
        if wanted - base.number > MAX_BLOCKS {
            return Err(failed(Code::Limit, format!("too many blocks, at most {MAX_BLOCKS}")));
        }
        for between in number + 1..wanted {
            time = time.saturating_add(step);
            let fields = BlockOverrides {
                number: Some(U256::from(between)),
                time: Some(time),
                ..BlockOverrides::default()
            };
            planned.push(SimBlock::default().with_block_overrides(fields));
        }
        let later = fields.time.unwrap_or_else(|| time.saturating_add(step));
        if later <= time {
            let problem = format!("block timestamps must be in order: {later} <= {time}");
            return Err(failed(Code::Timestamps, problem));
        }
        (number, time) = (wanted, later);
        fields.number = Some(U256::from(number));
        fields.time = Some(time);
        planned.push(block);
    }
    Ok(planned)
}

/// A planned block's header, as far as it is known before its calls run.
pub(super) fn header(
    spec: &ChainSpec,
    parent: &alloy_primitives::Sealed<Header>,
    fields: &BlockOverrides,
    validation: bool,
) -> Result<Header, ExecutorError> {
    let number = fields.number.and_then(|number| u64::try_from(number).ok());
    let number = number.unwrap_or(parent.number + 1);
    let timestamp = fields.time.unwrap_or(parent.timestamp);
    let fork = spec.hardfork(number, timestamp);
    let base_fee = match fields.base_fee {
        Some(fee) => {
            let fee = u64::try_from(fee);
            Some(fee.map_err(|_| failed(Code::Invalid, "baseFeePerGas is too large"))?)
        }
        None if validation => spec.next_base_fee(parent),
        None => Some(0),
    };
    let blob_params = spec.blob_params(timestamp);
    Ok(Header {
        parent_hash: parent.seal(),
        ommers_hash: EMPTY_OMMER_ROOT_HASH,
        beneficiary: fields.coinbase.unwrap_or(parent.beneficiary),
        difficulty: fields.difficulty.unwrap_or(parent.difficulty),
        number,
        gas_limit: fields.gas_limit.unwrap_or(parent.gas_limit),
        timestamp,
        mix_hash: fields.random.unwrap_or_default(),
        base_fee_per_gas: base_fee.filter(|_| fork >= Hardfork::London),
        withdrawals_root: (fork >= Hardfork::Shanghai).then_some(EMPTY_WITHDRAWALS),
        excess_blob_gas: blob_params
            .map(|params| parent.next_block_excess_blob_gas(params).unwrap_or(0)),
        parent_beacon_block_root: (fork >= Hardfork::Cancun)
            .then(|| fields.beacon_root.unwrap_or_default()),
        ..Header::default()
    })
}

/// What executing the block adds to its header.
pub(super) fn finish(
    spec: &ChainSpec,
    header: &mut Header,
    output: &BlockOutput,
    state_root: B256,
) {
    let fork = spec.hardfork(header.number, header.timestamp);
    header.state_root = state_root;
    header.transactions_root = output.transactions_root();
    header.receipts_root = output.receipts_root();
    header.logs_bloom = output.logs_bloom;
    header.gas_used = output.gas_used;
    header.blob_gas_used = (fork >= Hardfork::Cancun).then_some(output.blob_gas_used);
    header.requests_hash = (fork >= Hardfork::Prague).then(|| output.requests.requests_hash());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(number: Option<u64>, time: Option<u64>) -> SimBlock {
        let number = number.map(U256::from);
        let fields = BlockOverrides { number, time, ..BlockOverrides::default() };
        SimBlock::default().with_block_overrides(fields)
    }

    /// The plan of blocks on top of block 10 at time 100.
    fn planned(blocks: Vec<SimBlock>) -> Result<Vec<(u64, u64)>, i32> {
        let base = Header { number: 10, timestamp: 100, ..Header::default() };
        match plan(&base, blocks, 12) {
            Ok(blocks) => Ok(blocks
                .into_iter()
                .map(|block| block.block_overrides.expect("fields"))
                .map(|fields| (fields.number.expect("given").to(), fields.time.expect("given")))
                .collect()),
            Err(ExecutorError::Simulation(error)) => Err(error.code.code()),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn numbers_and_times_go_on() {
        assert_eq!(planned(vec![block(None, None)]), Ok(vec![(11, 112)]));
        let gap = vec![block(Some(13), Some(200)), block(None, None), block(None, Some(213))];
        assert_eq!(planned(gap), Ok(vec![(11, 112), (12, 124), (13, 200), (14, 212), (15, 213)]));
    }

    #[test]
    fn what_is_out_of_order_is_refused() {
        assert_eq!(planned(vec![block(Some(10), None)]), Err(-38020));
        assert_eq!(planned(vec![block(Some(12), None), block(Some(11), None)]), Err(-38020));
        assert_eq!(planned(vec![block(None, Some(100))]), Err(-38021));
        // The empty blocks between take their time.
        assert_eq!(planned(vec![block(Some(12), Some(112))]), Err(-38021));
        assert_eq!(planned(vec![block(None, None); 257]), Err(-38026));
        assert_eq!(planned(vec![block(Some(267), None)]), Err(-38026));
        assert_eq!(planned(vec![block(Some(266), None)]).map(|all| all.len()), Ok(256));
    }
}

//! Simulations: `eth_simulateV1` of the execution-apis specification.
//!
//! One state lives through all blocks: what a request assumes is written into it, the calls run on it as transactions that nobody signed, and each
//! block's root is that of the base block's state after everything so far. The EVM and the rules of fees are those of real blocks.

mod call;
mod chain;
mod overrides;

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use alloy::rpc::types::{
    TransactionRequest,
    simulate::{SimBlock, SimulatePayload},
};
use alloy_primitives::{Address, B256, Bytes, Log, U256};
use millrace_proto::{
    AccountInfo, ExecutedBlock, ExecutorError, Header, SealedHeader, SimulatedBlock, SimulatedCall,
    SimulationCode as Code, SimulationError,
};
use revm::context::{Cfg, result::ExecutionResult};

use super::{
    call as calls,
    config::CallConfig,
    read::{ReadState, read_error},
};
use crate::{
    chain::Chain,
    evm::{
        BlockState, EvmEnv, MovedPrecompiles, StateReadError, StateReader, TracedBlock,
        TransferLogs, tx_env,
    },
};

/// Most slots of the accounts whose whole storage is replaced together, and of one that is destroyed.
const MAX_REPLACED_SLOTS: usize = 100_000;

/// Simulates, on the caller's thread.
pub(super) fn run(
    chain: &Chain,
    limits: &CallConfig,
    payload: SimulatePayload,
    state: ReadState,
) -> Result<Vec<SimulatedBlock>, ExecutorError> {
    // Of an open block, the hash is that of what is known of its header.
    let parent = header_of(state.header());
    let step = chain::time_step(chain.spec());
    let blocks = chain::plan(&parent, payload.block_state_calls, step)?;
    let base = Base { state, hashes: BTreeMap::new() };
    let spec = EvmEnv::of(chain.spec(), &parent).cfg.spec;
    let mut simulator = Simulator {
        chain,
        validation: payload.validation,
        transfers: payload.trace_transfers,
        parent,
        state: BlockState::of(spec, base, chain.codes().clone()),
        gas_left: limits.max_gas,
        slots_left: MAX_REPLACED_SLOTS,
        bytes_left: usize::try_from(limits.max_trace_bytes).unwrap_or(usize::MAX),
        deadline: Instant::now() + limits.trace_timeout,
        limits,
    };
    let mut simulated = Vec::with_capacity(blocks.len());
    for block in blocks {
        let (block, next) = simulator.block(block)?;
        simulated.push(block);
        simulator = next;
    }
    Ok(simulated)
}

fn failed(code: Code, message: impl Into<String>) -> ExecutorError {
    SimulationError { code, message: message.into() }.into()
}

fn late() -> ExecutorError {
    failed(
        Code::Timeout,
        "the simulation takes longer than it may (calls.trace_timeout); simulate less",
    )
}

/// The state after the base block, with the hashes of what was simulated since.
#[derive(Debug)]
struct Base {
    state: ReadState,
    hashes: BTreeMap<u64, B256>,
}

impl StateReader for Base {
    fn account(&self, address: Address) -> Result<Option<AccountInfo>, StateReadError> {
        self.state.account(address)
    }

    fn storage(&self, address: Address, slot: U256) -> Result<U256, StateReadError> {
        self.state.storage(address, slot)
    }

    fn storage_of(&self, address: Address) -> Result<Vec<(U256, U256)>, StateReadError> {
        let slots = self.state.slots(address, MAX_REPLACED_SLOTS)?;
        slots.ok_or_else(|| StateReadError::source(TooManySlots(address)))
    }

    fn code(&self, hash: B256) -> Result<Option<Bytes>, StateReadError> {
        self.state.code(hash)
    }

    fn block_hash(&self, number: u64) -> Result<Option<B256>, StateReadError> {
        match self.hashes.get(&number) {
            Some(hash) => Ok(Some(*hash)),
            None => self.state.block_hash(number),
        }
    }
}

/// An account with more storage than a simulation takes away.
#[derive(Debug, thiserror::Error)]
#[error("account {0} has more than {MAX_REPLACED_SLOTS} slots")]
struct TooManySlots(Address);

type Block = TracedBlock<Base, TransferLogs, MovedPrecompiles>;

/// The blocks so far.
struct Simulator<'a> {
    chain: &'a Chain,
    limits: &'a CallConfig,
    validation: bool,
    transfers: bool,
    parent: SealedHeader,
    state: BlockState<Base>,
    gas_left: u64,
    bytes_left: usize,
    slots_left: usize,
    deadline: Instant,
}

impl Simulator<'_> {
    /// Simulates the next block.
    fn block(mut self, planned: SimBlock) -> Result<(SimulatedBlock, Self), ExecutorError> {
        let SimBlock { block_overrides, state_overrides, calls } = planned;
        if Instant::now() > self.deadline {
            return Err(late());
        }
        let fields = block_overrides.unwrap_or_default();
        let mut header = chain::header(self.chain.spec(), &self.parent, &fields, self.validation)?;
        let env = self.env(&header, fields.blob_base_fee)?;
        let cap = env.cfg.tx_gas_limit_cap();
        let state_overrides = state_overrides.unwrap_or_default();
        let precompiles = overrides::precompiles(env.cfg.spec, &state_overrides)?;
        overrides::apply(&mut self.state, state_overrides, &mut self.slots_left)?;
        let transfers = TransferLogs::new(self.transfers, self.deadline);
        let Self { chain, limits, validation, transfers: wanted, deadline, .. } = self;
        let mut block = TracedBlock::open(env, &header, self.state, transfers, precompiles)?;
        let mut results = Vec::with_capacity(calls.len());
        for request in calls {
            let call = Self::call(
                chain,
                &mut block,
                (&header, cap),
                request,
                (&mut self.gas_left, &mut self.bytes_left),
            )?;
            results.push(call);
        }
        let output = block.close()?;
        let (mut state, _) = block.into_parts();
        let root = state.reader().state.root(&output.diff)?;
        chain::finish(chain.spec(), &mut header, &output, root);
        let header = header_of(header);
        state.reader_mut().hashes.insert(header.number, header.seal());
        let simulated = ExecutedBlock {
            header: header.clone(),
            transactions: output.transactions,
            receipts: output.receipts,
        };
        let simulated = SimulatedBlock { block: Arc::new(simulated), calls: results };
        let next = Self {
            chain,
            limits,
            validation,
            transfers: wanted,
            parent: header,
            state,
            gas_left: self.gas_left,
            bytes_left: self.bytes_left,
            slots_left: self.slots_left,
            deadline,
        };
        Ok((simulated, next))
    }

    /// Without validation, calls are free of what only a signed transaction has to keep to; senders need not be without code in either case.
    fn env(&self, header: &Header, blob_base_fee: Option<U256>) -> Result<EvmEnv, ExecutorError> {
        let mut env = EvmEnv::of(self.chain.spec(), header);
        env.cfg.disable_eip3607 = true;
        env.cfg.disable_block_gas_limit = true;
        if !self.validation {
            env.cfg.disable_nonce_check = true;
            env.cfg.disable_base_fee = true;
            env.cfg.tx_gas_limit_cap = Some(u64::MAX);
        }
        if let Some(blob) = &mut env.block.blob_excess_gas_and_price {
            if let Some(price) = blob_base_fee {
                let price = u128::try_from(price);
                blob.blob_gasprice =
                    price.map_err(|_| failed(Code::Invalid, "blobBaseFee is too large"))?;
            } else if !self.validation {
                blob.blob_gasprice = 0;
            }
        }
        Ok(env)
    }

    fn call(
        chain: &Chain,
        block: &mut Block,
        (header, cap): (&Header, u64),
        request: TransactionRequest,
        (gas_left, bytes_left): (&mut u64, &mut usize),
    ) -> Result<SimulatedCall, ExecutorError> {
        if block.inspector().is_late() {
            return Err(late());
        }
        if *gas_left == 0 {
            let problem = "the calls use more gas than a simulation may (calls.max_gas)";
            return Err(failed(Code::Limit, problem));
        }
        let room = header.gas_limit.saturating_sub(block.gas_used());
        // With validation, a transaction may not ask for all the room of a large block (EIP-7825).
        let gas_limit = request.gas.unwrap_or_else(|| room.min(cap));
        if gas_limit > room {
            let problem = format!("block gas limit reached: {gas_limit} of {room} left");
            return Err(failed(Code::BlockGasLimit, problem));
        }
        let sender = request.from.unwrap_or_default();
        let nonce = match request.nonce {
            Some(nonce) => nonce,
            None => block.state().account(sender).map_err(read_error)?.unwrap_or_default().nonce,
        };
        let gas_limit = gas_limit.min(*gas_left);
        let tx = call::transaction(chain.spec(), &request, nonce, gas_limit)?;
        block.inspector().begin();
        let executed = block.run(tx_env(&tx), true);
        if block.inspector().is_late() {
            return Err(late());
        }
        let mut executed = executed?.map_err(|reason| call::refused(&reason))?;
        let max_used_gas = executed.result.gas().total_gas_spent();
        let logs = take_transfers(&mut executed.result);
        let outcome = calls::outcome(executed.result.clone());
        *gas_left = gas_left.saturating_sub(outcome.gas_used);
        let bytes = outcome.output.len() + logs.iter().map(log_bytes).sum::<usize>();
        let Some(left) = bytes_left.checked_sub(2 * bytes) else {
            let problem =
                "the results are larger than a simulation's may be (calls.max_trace_bytes)";
            return Err(failed(Code::Limit, problem));
        };
        *bytes_left = left;
        block.commit(&Arc::new(tx), executed)?;
        Ok(SimulatedCall { outcome, max_used_gas, logs })
    }
}

/// Takes the logs of transfers out of a result, which a receipt does not have. Gives all of its logs.
fn take_transfers(result: &mut ExecutionResult) -> Vec<Log> {
    let (ExecutionResult::Success { logs, .. }
    | ExecutionResult::Revert { logs, .. }
    | ExecutionResult::Halt { logs, .. }) = result;
    let all = logs.clone();
    logs.retain(|log| !TransferLogs::is_transfer(log));
    all
}

fn log_bytes(log: &Log) -> usize {
    256 + 32 * log.topics().len() + log.data.data.len()
}

fn header_of(header: Header) -> SealedHeader {
    alloy_primitives::Sealable::seal_slow(header)
}

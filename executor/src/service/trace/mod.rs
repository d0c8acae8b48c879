//! Traces: `debug_traceTransaction`, `debug_traceBlock…`, `debug_traceCall`.
//!
//! A sealed block is opened again on top of its parent's state, and its transactions are executed by the rules that built it, up to
//! those that are asked for: these run under a tracer of `revm-inspectors`, behind a [`Meter`] that stops what takes too much while
//! it runs. Whatever is executed again is held against its receipt.

mod meter;
mod tracer;

use std::{sync::Arc, time::Instant};

use alloy::rpc::types::trace::geth::{GethDebugTracingOptions, GethTrace};
use alloy_primitives::TxHash;
use millrace_proto::{
    BlockSelector, CallRequest, ExecutedBlock, ExecutorError, TraceLimit, TraceTarget,
};
use revm::{context::result::ResultAndState, inspector::Inspector};
use revm_inspectors::tracing::TransactionContext;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use self::meter::Meter;
use super::{
    call::{self, Simulation},
    config::CallConfig,
    read::ReadState,
};
use crate::{
    chain::{Chain, SealedState},
    evm::{EvmEnv, StateReader, TracedBlock, TracedContext},
};

/// Traces, on the caller's thread.
pub(super) fn run(
    chain: &Chain,
    limits: &CallConfig,
    target: TraceTarget,
    options: GethDebugTracingOptions,
) -> Result<Box<RawValue>, ExecutorError> {
    let meter = Meter::new(options, limits, Instant::now())?;
    match target {
        TraceTarget::Transaction { block, index } => {
            let mut block = Reopened::new(chain, limits, block, meter)?;
            let index = block.index(index)?;
            block.go_to(index)?;
            Ok(block.trace(index)?)
        }
        TraceTarget::Block(block) => {
            let mut block = Reopened::new(chain, limits, block, meter)?;
            block.check_gas(block.sealed.transactions.len())?;
            let mut results = Vec::new();
            for index in 0..block.sealed.transactions.len() {
                let tx_hash = block.sealed.transactions[index].hash();
                let result = block.trace(index)?;
                results.push(json(&Traced { tx_hash, result })?);
            }
            json(&results)
        }
        TraceTarget::Call { request, at, index } => match index {
            None => {
                let state = ReadState::Sealed(Box::new(chain.state(at)?));
                let call = Simulation::new(chain, *request, state, limits.max_gas)?;
                trace_call(call, meter)
            }
            Some(index) => trace_call_within(chain, limits, *request, (at, index), meter),
        },
    }
}

/// One of a block's traces.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Traced {
    tx_hash: TxHash,
    result: Box<RawValue>,
}

/// A call after the first `index` transactions of a block.
fn trace_call_within(
    chain: &Chain,
    limits: &CallConfig,
    request: CallRequest,
    (at, index): (BlockSelector, u64),
    meter: Meter,
) -> Result<Box<RawValue>, ExecutorError> {
    let mut block = Reopened::new(chain, limits, at, meter)?;
    let index = block.index(index)?;
    block.go_to(index)?;
    let header = block.sealed.header.clone();
    let (state, meter) = block.block.into_parts();
    let call = Simulation::on(chain, state, &header, request, limits.max_gas)?;
    trace_call(call, meter)
}

fn trace_call<R: StateReader>(
    call: Simulation<R>,
    meter: Meter,
) -> Result<Box<RawValue>, ExecutorError> {
    let tx = call.tx_env()?;
    let mut block = call.traced(meter);
    block.inspector().begin()?;
    let executed = block.run(tx, true);
    block.inspector().check()?;
    let executed = executed?.map_err(call::refused)?;
    result(&mut block, &executed, None)
}

/// A sealed block that is executed again.
struct Reopened<'a> {
    limits: &'a CallConfig,
    sealed: Arc<ExecutedBlock>,
    block: TracedBlock<SealedState, Meter>,
}

impl<'a> Reopened<'a> {
    fn new(
        chain: &Chain,
        limits: &'a CallConfig,
        at: BlockSelector,
        meter: Meter,
    ) -> Result<Self, ExecutorError> {
        let sealed = chain.store().block(at)?.ok_or(ExecutorError::UnknownBlock(at))?;
        let header = &sealed.header;
        if header.number == 0 {
            let problem = "the genesis block has no transactions to trace".to_owned();
            return Err(ExecutorError::InvalidRequest(problem));
        }
        let parent = chain.state(BlockSelector::Hash(header.parent_hash))?;
        let env = EvmEnv::of(chain.spec(), header);
        let block = TracedBlock::reopen(env, header, parent, chain.codes().clone(), meter)?;
        Ok(Self { limits, sealed, block })
    }

    /// The place of a transaction that the block has.
    fn index(&self, index: u64) -> Result<usize, ExecutorError> {
        let count = self.sealed.transactions.len();
        usize::try_from(index).ok().filter(|index| *index < count).ok_or_else(|| {
            let number = self.sealed.number();
            ExecutorError::InvalidRequest(format!(
                "block {number} has {count} transactions, none with the index {index}"
            ))
        })
    }

    /// Checks that executing the first `count` transactions again is within the limit.
    fn check_gas(&self, count: usize) -> Result<(), ExecutorError> {
        let receipts = self.sealed.receipts.get(..count).and_then(<[_]>::last);
        let limit = self.limits.max_trace_gas;
        match receipts.is_some_and(|receipt| receipt.cumulative_gas_used > limit) {
            true => Err(ExecutorError::TraceLimit(TraceLimit::Gas(limit))),
            false => Ok(()),
        }
    }

    /// Executes what comes before the transaction with this index.
    fn go_to(&mut self, index: usize) -> Result<(), ExecutorError> {
        self.check_gas(index + 1)?;
        for index in 0..index {
            self.block.inspector().check_time()?;
            let executed = self.block.execute(&self.sealed.transactions[index], false)?;
            self.commit(index, executed)?;
        }
        Ok(())
    }

    /// Executes the next transaction, which has this index, under the tracer.
    fn trace(&mut self, index: usize) -> Result<Box<RawValue>, ExecutorError> {
        self.block.inspector().begin()?;
        let tx = self.sealed.transactions[index].clone();
        let executed = self.block.execute(&tx, true);
        // Whatever the meter stops ends with an error of the EVM's too, which says less.
        self.block.inspector().check()?;
        let executed = executed?;
        let context = TransactionContext {
            block_hash: Some(self.sealed.hash()),
            tx_index: Some(index),
            tx_hash: Some(tx.hash()),
        };
        let result = result(&mut self.block, &executed, Some(context))?;
        self.commit(index, executed)?;
        Ok(result)
    }

    /// Commits a transaction, if it did what its receipt says.
    fn commit(&mut self, index: usize, executed: ResultAndState) -> Result<(), ExecutorError> {
        let tx = &self.sealed.transactions[index];
        let receipt = self.block.commit(tx, executed)?;
        if receipt.as_deref() != self.sealed.receipts.get(index) {
            let (block, hash) = (self.sealed.number(), tx.hash());
            return Err(ExecutorError::Store(Box::new(OtherReceipt { block, hash })));
        }
        Ok(())
    }
}

/// Executing a sealed transaction again gave something else: the store is broken, or the rules are not those that it was built by.
#[derive(Debug, thiserror::Error)]
#[error("transaction {hash} of block {block} does not give its receipt when it is executed again")]
struct OtherReceipt {
    block: u64,
    hash: TxHash,
}

/// What the tracer says of what was executed last and is not committed.
fn result<R>(
    block: &mut TracedBlock<R, Meter>,
    executed: &ResultAndState,
    context: Option<TransactionContext>,
) -> Result<Box<RawValue>, ExecutorError>
where
    R: StateReader,
    Meter: Inspector<TracedContext<R>>,
{
    let (meter, env, tx, mut before) = block.inspected();
    meter.charge_accounts(&executed.state, &before)?;
    let trace = meter.tracer().get_result(context, tx, env, executed, &mut before);
    let mut trace = trace.map_err(|error| ExecutorError::Store(Box::new(error)))?;
    if let GethTrace::Default(frame) = &mut trace {
        // Also of a deposit that could not start, of which the tracer has seen nothing.
        frame.failed = !executed.result.is_success();
        frame.gas = executed.result.tx_gas_used();
        // As the specification has it, steps are without what is nothing.
        for step in &mut frame.struct_logs {
            step.refund_counter = step.refund_counter.filter(|refund| *refund > 0);
            step.return_data = step.return_data.take().filter(|data| !data.is_empty());
        }
    }
    let json = json(&trace)?;
    meter.keep(json.get().len())?;
    Ok(json)
}

fn json<T: Serialize>(value: &T) -> Result<Box<RawValue>, ExecutorError> {
    to_raw_value(value).map_err(|error| ExecutorError::Store(Box::new(error)))
}

//! A tracer that is stopped when what it records, or how long it takes, goes over a limit.

use std::time::{Duration, Instant};

use alloy::rpc::types::trace::geth::GethDebugTracingOptions;
use alloy_primitives::{
    Address, KECCAK256_EMPTY, Log, U256,
    map::{AddressMap, HashSet},
};
use millrace_proto::{ExecutorError, TraceLimit};
use revm::{
    DatabaseRef, Inspector,
    bytecode::opcode,
    context_interface::{ContextTr, context::ContextError},
    inspector::JournalExt,
    interpreter::{
        CallInputs, CallOutcome, CreateInputs, CreateOutcome, Interpreter,
        interpreter_types::{Jumps, LoopControl, ReturnData},
    },
    state::EvmState,
};
use revm_inspectors::tracing::DebugInspector;

use super::tracer::{Costs, tracer};
use crate::{evm::StateReadError, service::config::CallConfig};

/// Steps between two looks at the clock.
const CLOCK_STEPS: u64 = 256;

// What things cost, in bytes: the more of what they take in memory and in JSON.
const STEP: usize = 320;
const WORD: usize = 72;
const CALL: usize = 512;
const LOG: usize = 256;
const SLOT: usize = 2 * WORD;

/// Counts the bytes that a tracer records before it records them.
#[derive(Debug)]
pub(super) struct Meter {
    tracer: DebugInspector,
    costs: Costs,
    /// Most bytes of all transactions' results together.
    max_bytes: u64,
    /// What the results so far leave of them.
    rest: usize,
    /// What the transaction at hand leaves of that.
    left: usize,
    timeout: Duration,
    deadline: Instant,
    steps: u64,
    /// Slots that the transaction has read or written: each such step shows all of its account's.
    slots: AddressMap<HashSet<U256>>,
    over: Option<TraceLimit>,
}

impl Meter {
    /// # Errors
    /// When the options are not understood.
    pub(super) fn new(
        options: GethDebugTracingOptions,
        limits: &CallConfig,
        now: Instant,
    ) -> Result<Self, ExecutorError> {
        let (tracer, costs, timeout) = tracer(options)?;
        let timeout = timeout.unwrap_or(limits.trace_timeout).min(limits.max_trace_timeout);
        let rest = usize::try_from(limits.max_trace_bytes).unwrap_or(usize::MAX);
        Ok(Self {
            tracer,
            costs,
            max_bytes: limits.max_trace_bytes,
            rest,
            left: rest,
            timeout,
            deadline: now + timeout,
            steps: 0,
            slots: AddressMap::default(),
            over: None,
        })
    }

    pub(super) const fn tracer(&mut self) -> &mut DebugInspector {
        &mut self.tracer
    }

    /// Forgets the transaction before.
    pub(super) fn begin(&mut self) -> Result<(), ExecutorError> {
        self.check_time()?;
        self.left = self.rest;
        self.steps = 0;
        self.slots.clear();
        let fused = self.tracer.fuse();
        fused.map_err(|error| ExecutorError::InvalidRequest(error.to_string()))
    }

    /// Counts a result that is kept.
    pub(super) fn keep(&mut self, bytes: usize) -> Result<(), ExecutorError> {
        self.left = self.rest;
        self.charge(bytes);
        self.rest = self.left;
        self.check()
    }

    /// Counts the accounts that a transaction has used, with their code, if the tracer shows them.
    pub(super) fn charge_accounts(
        &mut self,
        state: &EvmState,
        before: &impl DatabaseRef<Error = StateReadError>,
    ) -> Result<(), ExecutorError> {
        if !self.costs.accounts {
            return Ok(());
        }
        for (address, account) in state {
            self.charge(CALL + SLOT * account.storage.len());
            self.check()?;
            if !self.costs.codes {
                continue;
            }
            let read = |error| ExecutorError::Store(Box::new(error));
            let hash = before.basic_ref(*address).map_err(read)?.unwrap_or_default().code_hash;
            if hash != KECCAK256_EMPTY {
                self.charge(2 * before.code_by_hash_ref(hash).map_err(read)?.len());
            }
            if account.is_created() {
                self.charge(2 * account.info.code.as_ref().map_or(0, |code| code.len()));
            }
            self.check()?;
        }
        Ok(())
    }

    /// # Errors
    /// When a limit was reached.
    pub(super) fn check(&self) -> Result<(), ExecutorError> {
        self.over.map_or(Ok(()), |limit| Err(ExecutorError::TraceLimit(limit)))
    }

    /// # Errors
    /// When a limit was reached, or the time is over.
    pub(super) fn check_time(&mut self) -> Result<(), ExecutorError> {
        if self.over.is_none() && Instant::now() > self.deadline {
            self.over = Some(TraceLimit::Time(self.timeout));
        }
        self.check()
    }

    fn charge(&mut self, bytes: usize) {
        match self.left.checked_sub(bytes) {
            Some(left) => self.left = left,
            None if self.over.is_none() => self.over = Some(TraceLimit::Bytes(self.max_bytes)),
            None => {}
        }
    }

    /// Counts a step before it is recorded.
    fn charge_step(&mut self, interp: &Interpreter) {
        self.steps += 1;
        if self.steps.is_multiple_of(CLOCK_STEPS) {
            // What it finds is looked at with everything else.
            let _ = self.check_time();
        }
        let Some(costs) = &self.costs.steps else { return };
        if costs.limit.is_some_and(|limit| self.steps > limit.get()) {
            return;
        }
        let mut bytes = STEP;
        if costs.stack {
            bytes += WORD * interp.stack.len();
        }
        if costs.memory {
            bytes += WORD * interp.memory.len().div_ceil(32);
        }
        if costs.return_data {
            bytes += 2 * interp.return_data.buffer().len();
        }
        if costs.storage
            && matches!(interp.bytecode.opcode(), opcode::SLOAD | opcode::SSTORE)
            && let Some(slot) = interp.stack.data().last()
        {
            let slots = self.slots.entry(interp.input.target_address).or_default();
            slots.insert(*slot);
            bytes += SLOT * slots.len();
        }
        self.charge(bytes);
    }

    /// Counts a call before it is recorded, with all that each of the tracers says of it.
    fn charge_call(&mut self, bytes: usize) {
        let _ = self.check_time();
        // Struct logs are taken out of what is recorded of calls.
        let records = self.costs.calls + usize::from(self.costs.steps.is_some());
        self.charge(CALL + records.saturating_mul(CALL + 3 * bytes));
    }

    /// Ends the execution if a limit was reached. Nothing is recorded any more then.
    fn stop(&self, context: &mut impl ContextTr) -> bool {
        let Some(limit) = self.over else { return false };
        if context.error().is_ok() {
            *context.error() = Err(ContextError::Custom(limit.to_string()));
        }
        true
    }

    fn halt(&self, interp: &mut Interpreter, context: &mut impl ContextTr) -> bool {
        let over = self.stop(context);
        if over {
            // A call or a return that is about to begin as well.
            interp.bytecode.action().take();
            interp.bytecode.reset_action();
            interp.halt_fatal();
        }
        over
    }
}

impl<CTX: ContextTr<Journal: JournalExt>> Inspector<CTX> for Meter {
    fn initialize_interp(&mut self, interp: &mut Interpreter, context: &mut CTX) {
        if !self.halt(interp, context) {
            self.tracer.initialize_interp(interp, context);
        }
    }

    fn step(&mut self, interp: &mut Interpreter, context: &mut CTX) {
        if self.over.is_none() {
            self.charge_step(interp);
        }
        if !self.halt(interp, context) {
            self.tracer.step(interp, context);
        }
    }

    fn step_end(&mut self, interp: &mut Interpreter, context: &mut CTX) {
        if !self.halt(interp, context) {
            self.tracer.step_end(interp, context);
        }
    }

    fn log(&mut self, context: &mut CTX, log: Log) {
        if self.costs.logs {
            self.charge(LOG + WORD * log.topics().len() + 2 * log.data.data.len());
        }
        if !self.stop(context) {
            self.tracer.log(context, log);
        }
    }

    fn call(&mut self, context: &mut CTX, inputs: &mut CallInputs) -> Option<CallOutcome> {
        self.charge_call(inputs.input.len());
        if self.stop(context) {
            return None;
        }
        self.tracer.call(context, inputs)
    }

    fn call_end(&mut self, context: &mut CTX, inputs: &CallInputs, outcome: &mut CallOutcome) {
        self.charge_call(outcome.result.output.len());
        if !self.stop(context) {
            self.tracer.call_end(context, inputs, outcome);
        }
    }

    fn create(&mut self, context: &mut CTX, inputs: &mut CreateInputs) -> Option<CreateOutcome> {
        self.charge_call(inputs.init_code().len());
        if self.stop(context) {
            return None;
        }
        self.tracer.create(context, inputs)
    }

    fn create_end(
        &mut self,
        context: &mut CTX,
        inputs: &CreateInputs,
        outcome: &mut CreateOutcome,
    ) {
        self.charge_call(outcome.result.output.len());
        if !self.stop(context) {
            self.tracer.create_end(context, inputs, outcome);
        }
    }

    fn selfdestruct(&mut self, contract: Address, target: Address, value: U256) {
        if self.over.is_none() {
            <DebugInspector as Inspector<CTX>>::selfdestruct(
                &mut self.tracer,
                contract,
                target,
                value,
            );
        }
    }
}

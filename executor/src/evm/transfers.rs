//! Transfers of ether as logs, in the form that `eth_simulateV1` gives them; and an end for what takes too long.

use std::time::Instant;

use alloy_primitives::{Address, B256, Log, LogData, U256};
use revm::{
    Inspector,
    context_interface::{ContextTr, JournalTr, context::ContextError},
    handler::MainnetContext,
    interpreter::{
        CallInputs, CallOutcome, CreateInputs, CreateOutcome, Interpreter,
        interpreter_types::LoopControl,
    },
};
use revm_inspectors::transfer::{TRANSFER_EVENT_TOPIC, TRANSFER_LOG_EMITTER};

use super::{StateReader, block_state::BlockState};

type Context<R> = MainnetContext<BlockState<R>>;

/// Steps between two looks at the clock.
const CLOCK_STEPS: u64 = 256;

/// Writes a log for each transfer, as if a token at [`TRANSFER_LOG_EMITTER`] emitted it, unless the call that it comes with is undone.
#[derive(Debug)]
pub(crate) struct TransferLogs {
    wanted: bool,
    deadline: Instant,
    steps: u64,
    late: bool,
    /// How many logs there were before each call that is open.
    open: Vec<usize>,
    /// By the code of the innermost call, which destroyed itself: from, to, amount.
    destroyed: Option<(Address, Address, U256)>,
}

impl TransferLogs {
    pub(crate) const fn new(wanted: bool, deadline: Instant) -> Self {
        Self { wanted, deadline, steps: 0, late: false, open: Vec::new(), destroyed: None }
    }

    /// Whether the time is over.
    pub(crate) fn is_late(&mut self) -> bool {
        self.late = self.late || Instant::now() > self.deadline;
        self.late
    }

    /// Whether a log is of a transfer.
    pub(crate) fn is_transfer(log: &Log) -> bool {
        log.address == TRANSFER_LOG_EMITTER && log.topics().first() == Some(&TRANSFER_EVENT_TOPIC)
    }

    /// Forgets what is left of the transaction before.
    pub(crate) fn begin(&mut self) {
        self.open.clear();
        self.destroyed = None;
    }

    fn enter<R: StateReader>(
        &mut self,
        context: &mut Context<R>,
        (from, to, amount): (Address, Address, U256),
    ) {
        let logs = &mut context.journaled_state.inner.logs;
        self.open.push(logs.len());
        if self.wanted && !amount.is_zero() {
            logs.push(transfer(from, to, amount));
        }
    }

    fn leave<R: StateReader>(&mut self, context: &mut Context<R>, success: bool) {
        let logs = &mut context.journaled_state.inner.logs;
        let before = self.open.pop();
        let destroyed = self.destroyed.take();
        match (success, before) {
            (true, _) => {
                let destroyed = destroyed.filter(|(.., amount)| self.wanted && !amount.is_zero());
                logs.extend(destroyed.map(|(from, to, amount)| transfer(from, to, amount)));
            }
            // What the call itself logged is undone by the journal, which begins after the log of its transfer.
            (false, Some(before)) => logs.truncate(before),
            (false, None) => {}
        }
    }
}

fn transfer(from: Address, to: Address, amount: U256) -> Log {
    let topics = vec![TRANSFER_EVENT_TOPIC, from.into_word(), to.into_word()];
    let data = LogData::new_unchecked(topics, B256::from(amount).to_vec().into());
    Log { address: TRANSFER_LOG_EMITTER, data }
}

impl<R: StateReader> Inspector<Context<R>> for TransferLogs {
    fn step(&mut self, interp: &mut Interpreter, context: &mut Context<R>) {
        self.steps += 1;
        if self.steps.is_multiple_of(CLOCK_STEPS) && self.is_late() {
            if context.error().is_ok() {
                *context.error() = Err(ContextError::Custom("the time is over".to_owned()));
            }
            interp.bytecode.action().take();
            interp.bytecode.reset_action();
            interp.halt_fatal();
        }
    }

    fn call(&mut self, context: &mut Context<R>, inputs: &mut CallInputs) -> Option<CallOutcome> {
        let amount = inputs.transfer_value().unwrap_or_default();
        self.enter(context, (inputs.transfer_from(), inputs.transfer_to(), amount));
        None
    }

    fn call_end(
        &mut self,
        context: &mut Context<R>,
        _inputs: &CallInputs,
        outcome: &mut CallOutcome,
    ) {
        self.leave(context, outcome.result.is_ok());
    }

    fn create(
        &mut self,
        context: &mut Context<R>,
        inputs: &mut CreateInputs,
    ) -> Option<CreateOutcome> {
        // Known before the creation counts the nonce up.
        let caller = context.journal_mut().load_account(inputs.caller()).ok();
        let created = caller.map(|account| inputs.created_address(account.data.info.nonce));
        self.enter(context, (inputs.caller(), created.unwrap_or_default(), inputs.value()));
        None
    }

    fn create_end(
        &mut self,
        context: &mut Context<R>,
        _inputs: &CreateInputs,
        outcome: &mut CreateOutcome,
    ) {
        self.leave(context, outcome.result.is_ok());
    }

    fn selfdestruct(&mut self, contract: Address, target: Address, value: U256) {
        self.destroyed = Some((contract, target, value));
    }
}

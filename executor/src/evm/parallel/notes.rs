//! What the EVM's instructions tell about a transaction: whose exact balance its result depends on.
//!
//! Most transactions load accounts only for their code, or to pay into them: then another payment to the same account
//! changes nothing for them. The instructions that look at a balance, or pay out of one, note whose it is.

use alloy_primitives::{Address, U256, map::AddressSet};
use revm::{
    bytecode::opcode,
    handler::instructions::EthInstructions,
    interpreter::{
        Instruction, InstructionContext, InstructionExecResult,
        instructions::{contract, host},
        interpreter::EthInterpreter,
        interpreter_types::InputsTr,
    },
};

use super::view::TxView;
use crate::evm::handler::ContextOf;

/// The context of a transaction's execution.
pub(super) type LaneContext = ContextOf<TxView, Notes>;

type Op = fn(Ictx<'_>) -> InstructionExecResult;

type Ictx<'a> = InstructionContext<'a, LaneContext, EthInterpreter>;

/// Notes of one transaction.
#[derive(Debug, Default)]
pub(super) struct Notes {
    /// Accounts whose balance was looked at or paid out of by code.
    balances: AddressSet,
    /// What the beneficiary is owed, unless it was paid in the journal.
    pub(super) reward: Option<U256>,
}

impl Notes {
    pub(super) fn clear(&mut self) {
        self.balances.clear();
        self.reward = None;
    }

    fn balance_of(&mut self, address: Address) {
        self.balances.insert(address);
    }

    pub(super) fn has_balance_of(&self, address: &Address) -> bool {
        self.balances.contains(address)
    }
}

/// Lets the instructions that depend on a balance note it.
pub(super) fn take_notes(instructions: &mut EthInstructions<EthInterpreter, LaneContext>) {
    let noting: [(u8, Op); 7] = [
        (opcode::BALANCE, balance),
        (opcode::SELFBALANCE, selfbalance),
        (opcode::CALL, call),
        (opcode::CALLCODE, callcode),
        (opcode::CREATE, create),
        (opcode::CREATE2, create2),
        (opcode::SELFDESTRUCT, selfdestruct),
    ];
    for (opcode, instruction) in noting {
        let gas = instructions.gas_table()[usize::from(opcode)];
        instructions.insert_instruction(opcode, Instruction::new(instruction), gas);
    }
}

fn balance(context: Ictx<'_>) -> InstructionExecResult {
    if let Some(top) = context.interpreter.stack.data().last() {
        let address = Address::from_word((*top).into());
        context.host.chain.balance_of(address);
    }
    host::balance(context)
}

fn selfbalance(mut context: Ictx<'_>) -> InstructionExecResult {
    note_self(&mut context, true);
    host::selfbalance(context)
}

fn call(mut context: Ictx<'_>) -> InstructionExecResult {
    let pays = pays(&context, 2);
    note_self(&mut context, pays);
    contract::call::<{ opcode::CALL }, _, _>(context)
}

fn callcode(mut context: Ictx<'_>) -> InstructionExecResult {
    let pays = pays(&context, 2);
    note_self(&mut context, pays);
    contract::call::<{ opcode::CALLCODE }, _, _>(context)
}

fn create(mut context: Ictx<'_>) -> InstructionExecResult {
    let pays = pays(&context, 0);
    note_self(&mut context, pays);
    contract::create::<false, _, _>(context)
}

fn create2(mut context: Ictx<'_>) -> InstructionExecResult {
    let pays = pays(&context, 0);
    note_self(&mut context, pays);
    contract::create::<true, _, _>(context)
}

fn selfdestruct(mut context: Ictx<'_>) -> InstructionExecResult {
    note_self(&mut context, true);
    host::selfdestruct(context)
}

/// Whether the value that an instruction sends, `depth` below the top of the stack, is more than zero.
fn pays(context: &Ictx<'_>, depth: usize) -> bool {
    let stack = context.interpreter.stack.data();
    let at = stack.len().checked_sub(depth + 1);
    at.and_then(|at| stack.get(at)).is_some_and(|value| !value.is_zero())
}

fn note_self(context: &mut Ictx<'_>, pays: bool) {
    if pays {
        let address = context.interpreter.input.target_address();
        context.host.chain.balance_of(address);
    }
}

//! Which behaviours blocks reach.

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::{Address, Log, U256};
use millrace_executor::StateReadError;
use millrace_proto::TxOutcome;
use revm::{
    Context, ExecuteEvm, InspectEvm, Inspector, MainBuilder, MainContext,
    context::{ContextTr, JournalTr},
    database::CacheDB,
    database_interface::DatabaseCommit,
    inspector::JournalExt,
    interpreter::{
        CallInputs, CallOutcome, CreateInputs, CreateOutcome, InstructionResult, Interpreter,
        interpreter::EthInterpreter, interpreter_types::Jumps,
    },
    state::EvmState,
};

use crate::{BareRevm, Block, bare::bare_tx, execution::Execution};

/// How often each named behaviour occurred.
#[derive(Debug, Clone, Default)]
pub struct Coverage {
    counts: BTreeMap<&'static str, u64>,
    destroyed: BTreeSet<Address>,
}

impl Coverage {
    /// How often.
    pub fn count(&self, behaviour: &str) -> u64 {
        self.counts.get(behaviour).copied().unwrap_or(0)
    }

    /// All that occurred, by name.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.counts.iter().map(|(name, count)| (*name, *count))
    }

    /// Counts the outcomes of a block.
    pub fn note_outcomes(&mut self, execution: &Execution) {
        for outcome in &execution.outcomes {
            let name = match outcome {
                TxOutcome::Included { receipt, .. } if receipt.success => "succeeded",
                TxOutcome::Included { .. } => "failed",
                TxOutcome::NoRoom => "no room",
                TxOutcome::Invalid(reason) => reason.code(),
            };
            self.add(name);
        }
    }

    /// Runs a block on plain revm, and counts what its transactions do. Deposits are left out.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn note_behaviours(&mut self, block: &Block) -> Result<(), StateReadError> {
        use revm::context::result::EVMError;
        self.destroyed.clear();
        let bare = BareRevm::new(block.state.clone());
        let mut evm = Context::mainnet()
            .with_db(CacheDB::new(&bare))
            .with_cfg(block.env.cfg.clone())
            .with_block(block.env.block.clone())
            .build_mainnet_with_inspector(Watch::default());
        for tx in block.transactions.iter().filter(|tx| !tx.tx().is_deposit()) {
            evm.set_inspector(Watch::default());
            match evm.inspect_tx(bare_tx(tx)) {
                Ok(ran) => {
                    for name in evm.inspector.seen.iter().copied() {
                        self.add(name);
                    }
                    self.note_state(&ran.state);
                    evm.ctx.db_mut().commit(ran.state);
                }
                Err(EVMError::Database(error)) => return Err(error),
                Err(_) => drop(evm.finalize()),
            }
        }
        Ok(())
    }

    fn note_state(&mut self, state: &EvmState) {
        for (address, account) in state {
            if account.is_selfdestructed() {
                self.destroyed.insert(*address);
                self.add(if account.is_created() { "created and destroyed" } else { "destroyed" });
            } else if account.is_created() {
                self.add("created");
                if self.destroyed.contains(address) {
                    self.add("created again");
                }
            }
            let was = account.original_info().code_hash;
            if account.info.code_hash != was {
                let delegates = account.info.code.as_ref().is_some_and(|code| code.is_eip7702());
                if delegates {
                    self.add("delegated");
                } else if account.info.is_empty_code_hash() {
                    self.add("delegation cleared");
                }
            }
            if account.is_touched() && account.info.balance.bit_len() > 200 {
                self.add("huge balance");
            }
        }
    }

    fn add(&mut self, name: &'static str) {
        *self.counts.entry(name).or_default() += 1;
    }
}

/// Watches one transaction.
#[derive(Debug, Default)]
struct Watch {
    seen: BTreeSet<&'static str>,
}

impl Watch {
    fn ended(&mut self, depth: usize, result: InstructionResult) {
        let inside = depth > 0;
        self.seen.insert(match result {
            InstructionResult::Revert if inside => "reverted inside",
            InstructionResult::Revert => "reverted",
            InstructionResult::OutOfGas if inside => "out of gas inside",
            InstructionResult::OutOfGas => "out of gas",
            InstructionResult::CreateCollision => "create collision",
            InstructionResult::OutOfFunds => "out of funds",
            InstructionResult::OverflowPayment => "payment overflow",
            InstructionResult::InvalidJump => "invalid jump",
            InstructionResult::StateChangeDuringStaticCall => "write in a static call",
            _ => "ended otherwise",
        });
    }
}

impl<C: ContextTr<Journal: JournalExt>> Inspector<C, EthInterpreter> for Watch {
    fn step(&mut self, interpreter: &mut Interpreter<EthInterpreter>, _: &mut C) {
        use revm::bytecode::opcode::*;
        let name = match interpreter.bytecode.opcode() {
            SLOAD => "sload",
            SSTORE => "sstore",
            TSTORE => "tstore",
            TLOAD => "tload",
            BALANCE => "balance",
            SELFBALANCE => "selfbalance",
            EXTCODEHASH => "extcodehash",
            EXTCODESIZE => "extcodesize",
            EXTCODECOPY => "extcodecopy",
            CALL => "call",
            CALLCODE => "callcode",
            DELEGATECALL => "delegatecall",
            STATICCALL => "staticcall",
            CREATE => "create",
            CREATE2 => "create2",
            _ => return,
        };
        self.seen.insert(name);
    }

    fn log(&mut self, _: &mut C, _: Log) {
        self.seen.insert("log");
    }

    fn call_end(&mut self, context: &mut C, inputs: &CallInputs, outcome: &mut CallOutcome) {
        let depth = context.journal().depth();
        if depth > 0 && outcome.result.is_ok() && !inputs.value.get().is_zero() {
            self.seen.insert("value inside");
        }
        if inputs.target_address != inputs.bytecode_address {
            self.seen.insert("code of another");
        }
        self.ended(depth, outcome.result.result);
    }

    fn create_end(&mut self, context: &mut C, _: &CreateInputs, outcome: &mut CreateOutcome) {
        let depth = context.journal().depth();
        self.ended(depth, outcome.result.result);
    }

    fn selfdestruct(&mut self, _: Address, _: Address, _: U256) {
        self.seen.insert("selfdestruct");
    }
}

//! Hashes that code asks for again and again: those by which Solidity and Vyper find the slot of a mapping's entry.
//!
//! A contract computes the slot anew each time that it reads or writes an entry, at a twentieth of what a whole token transfer costs.

use std::hash::BuildHasher;

use alloy_primitives::{B256, U256, keccak256, map::DefaultHashBuilder};
use revm::{
    Database,
    bytecode::opcode,
    handler::instructions::EthInstructions,
    interpreter::{
        Host, Instruction, InstructionContext, InstructionExecResult, InstructionResult,
        Interpreter, instructions::system, interpreter::EthInterpreter,
        interpreter_types::MemoryTr,
    },
};

use super::handler::ContextOf;

/// What a slot is computed of: the entry's key and the mapping's place, a word each.
const INPUT: usize = 64;

/// Keccak-256 of some recent inputs, each in the one place that it can be in.
#[derive(Default)]
pub(super) struct Hashes {
    /// Empty until the first is asked for.
    entries: Vec<Option<Entry>>,
    hasher: DefaultHashBuilder,
}

#[derive(Clone, Copy)]
struct Entry {
    input: [u8; INPUT],
    hash: B256,
}

impl Hashes {
    /// 24 KiB, so that they stay in a core's nearest caches.
    const ENTRIES: usize = 256;

    fn of(&mut self, input: &[u8; INPUT]) -> B256 {
        if self.entries.is_empty() {
            self.entries.resize(Self::ENTRIES, None);
        }
        let at = self.hasher.hash_one(input) as usize % Self::ENTRIES;
        match &mut self.entries[at] {
            Some(entry) if entry.input == *input => entry.hash,
            other => {
                let hash = keccak256(input);
                *other = Some(Entry { input: *input, hash });
                hash
            }
        }
    }

    /// Forgets them.
    pub(super) fn clear(&mut self) {
        self.entries.fill(None);
    }
}

/// A database that keeps hashes beside what it is for.
pub(super) trait KeepsHashes {
    fn hashes(&mut self) -> &mut Hashes;
}

/// Lets `KECCAK256` look among the hashes that are kept.
pub(super) fn keep_hashes<D: Database + KeepsHashes, N>(
    instructions: &mut EthInstructions<EthInterpreter, ContextOf<D, N>>,
) {
    let gas = instructions.gas_table()[usize::from(opcode::KECCAK256)];
    let instruction = Instruction::new(keccak256_kept::<D, N>);
    instructions.insert_instruction(opcode::KECCAK256, instruction, gas);
}

/// revm's instruction, but for two words that are in memory already.
fn keccak256_kept<D: Database + KeepsHashes, N>(
    context: InstructionContext<'_, ContextOf<D, N>, EthInterpreter>,
) -> InstructionExecResult {
    let Some(input) = two_words(context.interpreter) else { return system::keccak256(context) };
    let interpreter = context.interpreter;
    let cost = context.host.gas_params().keccak256_cost(INPUT);
    if !interpreter.gas.record_regular_cost(cost) {
        return Err(InstructionResult::OutOfGas);
    }
    if let Some(([_], top)) = interpreter.stack.popn_top() {
        *top = context.host.journaled_state.database.hashes().of(&input).into();
    }
    Ok(())
}

/// The two words in memory that the instruction is to hash, if it is two and memory need not grow for them.
fn two_words(interpreter: &Interpreter) -> Option<[u8; INPUT]> {
    let [.., len, offset] = interpreter.stack.data()[..] else { return None };
    if len != U256::from(INPUT) {
        return None;
    }
    let offset = usize::try_from(offset).ok()?;
    if offset.checked_add(INPUT)? > interpreter.memory.size() {
        return None;
    }
    (*interpreter.memory.slice_len(offset, INPUT)).try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_their_inputs_also_where_two_share_a_place() {
        let mut hashes = Hashes::default();
        let inputs: Vec<[u8; INPUT]> = (0..4 * Hashes::ENTRIES as u64)
            .map(|number| {
                let mut input = [0; INPUT];
                input[24..32].copy_from_slice(&number.to_be_bytes());
                input
            })
            .collect();
        for _ in 0..2 {
            for input in &inputs {
                assert_eq!(hashes.of(input), keccak256(input));
                assert_eq!(hashes.of(input), keccak256(input));
            }
        }
        hashes.clear();
        assert!(inputs.iter().all(|input| hashes.of(input) == keccak256(input)));
    }
}

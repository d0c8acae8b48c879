//! The machine's code.

use std::sync::LazyLock;

use alloy_primitives::Bytes;
use revm::bytecode::opcode::*;

use super::{
    asm::Assembler,
    machine::{A, B, OPS, Op, PAYLOAD},
};

/// The contract, and where each operation is in it.
struct Machine {
    code: Bytes,
    places: [u16; OPS.len()],
}

static MACHINE: LazyLock<Machine> = LazyLock::new(Machine::assemble);

/// The machine's code.
pub(super) fn machine() -> Bytes {
    MACHINE.code.clone()
}

/// Where the machine has an operation.
pub(super) fn place(op: Op) -> u16 {
    MACHINE.places[op as usize]
}

impl Machine {
    fn assemble() -> Self {
        let mut asm = Assembler::default();
        let (next, advance) = (asm.label(), asm.label());
        // The stack between operations: the accumulator, and above it where the record is.
        asm.push1(0).push1(0).place(next);
        asm.ops(&[DUP1, CALLDATALOAD]).push(&power(240)).ops(&[SWAP1, DIV, JUMP]);
        asm.place(advance);
        length(&mut asm).ops(&[ADD]).jump(next);
        let mut places = [0; OPS.len()];
        for (index, op) in OPS.into_iter().enumerate() {
            let label = asm.label();
            asm.place(label);
            places[index] = asm.place_of(label);
            operation(&mut asm, op);
            if op == Op::SkipBelow {
                asm.jump(next);
            } else {
                asm.jump(advance);
            }
        }
        Self { code: asm.finish().into(), places }
    }
}

/// 2^bits, as the bytes to push.
fn power(bits: usize) -> Vec<u8> {
    let mut bytes = vec![0; bits / 8 + 1];
    bytes[0] = 1;
    bytes
}

/// `[pc] -> [pc, length of the record]`.
fn length(asm: &mut Assembler) -> &mut Assembler {
    asm.ops(&[DUP1, CALLDATALOAD])
        .push(&power(224))
        .ops(&[SWAP1, DIV])
        .push(&[0xff, 0xff])
        .ops(&[AND])
}

/// Pushes an operand of the record, whose place is `depth` deep.
fn operand(asm: &mut Assembler, depth: u8, offset: u8) -> &mut Assembler {
    asm.ops(&[DUP1 + depth - 1]).push1(offset).ops(&[ADD, CALLDATALOAD])
}

/// `[pc] -> [pc, size]`, with the payload in memory from 0 on.
fn payload(asm: &mut Assembler) -> &mut Assembler {
    length(asm).push1(PAYLOAD).ops(&[SWAP1, SUB, DUP1, DUP3]);
    asm.push1(PAYLOAD).ops(&[ADD]).push1(0).ops(&[CALLDATACOPY])
}

/// `[address] -> [address, gas above it]`.
fn gas_above(asm: &mut Assembler) -> &mut Assembler {
    asm.ops(&[DUP1]).push(&power(160)).ops(&[SWAP1, DIV])
}

fn call(asm: &mut Assembler, opcode: u8, pays: bool) {
    payload(asm).push1(32).push1(0).ops(&[DUP3]).push1(0);
    let mut depth = 6;
    if pays {
        operand(asm, depth, B);
        depth += 1;
    }
    operand(asm, depth, A);
    gas_above(asm).ops(&[opcode, SWAP1, POP]);
    set(asm);
}

/// `[acc, pc, value] -> [value, pc]`.
fn set(asm: &mut Assembler) {
    asm.ops(&[SWAP2, POP]);
}

fn operation(asm: &mut Assembler, op: Op) {
    let of_a = |asm: &mut Assembler, opcode| {
        operand(asm, 1, A).ops(&[opcode]);
        set(asm);
    };
    match op {
        Op::Store => {
            operand(operand(asm, 1, B), 2, A).ops(&[SSTORE]);
        }
        Op::Load => of_a(asm, SLOAD),
        Op::Increase => {
            operand(asm, 1, A).ops(&[DUP1, SLOAD]);
            operand(asm, 3, B).ops(&[ADD, SWAP1, SSTORE]);
        }
        Op::StoreAcc => {
            operand(asm.ops(&[DUP2]), 2, A).ops(&[SSTORE]);
        }
        Op::StoreNear => {
            operand(asm, 1, B).ops(&[DUP3]).push1(3).ops(&[AND]);
            operand(asm, 3, A).ops(&[ADD, SSTORE]);
        }
        Op::MapIncrease => {
            operand(asm, 1, A).push1(0).ops(&[MSTORE]);
            operand(asm, 1, B).push1(32).ops(&[MSTORE]);
            asm.push1(64).push1(0).ops(&[KECCAK256, DUP1, SLOAD]);
            asm.push1(1).ops(&[ADD, SWAP1, SSTORE]);
        }
        Op::StoreGas => {
            operand(asm.ops(&[GAS]), 2, A).ops(&[SSTORE]);
        }
        Op::Balance => of_a(asm, BALANCE),
        Op::SelfBalance => set(asm.ops(&[SELFBALANCE])),
        Op::CoinbaseBalance => set(asm.ops(&[COINBASE, BALANCE])),
        Op::CodeHash => of_a(asm, EXTCODEHASH),
        Op::CodeSize => of_a(asm, EXTCODESIZE),
        Op::CodeCopy => {
            asm.push1(32).push1(0).push1(0);
            operand(asm, 4, A).ops(&[EXTCODECOPY]).push1(0).ops(&[MLOAD]);
            set(asm);
        }
        Op::TransientStore => {
            operand(operand(asm, 1, B), 2, A).ops(&[TSTORE]);
        }
        Op::TransientLoad => of_a(asm, TLOAD),
        Op::Log => {
            asm.ops(&[DUP2]).push1(0).ops(&[MSTORE]);
            operand(asm, 1, A).push1(32).push1(0).ops(&[LOG1]);
        }
        Op::Call => call(asm, CALL, true),
        Op::CallCode => call(asm, CALLCODE, true),
        Op::DelegateCall => call(asm, DELEGATECALL, false),
        Op::StaticCall => call(asm, STATICCALL, false),
        Op::CallAcc => {
            payload(asm).push1(32).push1(0).ops(&[DUP3]).push1(0).push1(0).ops(&[DUP8]);
            operand(asm, 8, B).ops(&[CALL, SWAP1, POP]);
            set(asm);
        }
        Op::PayAcc => {
            asm.push1(0).push1(0).push1(0).push1(0).ops(&[DUP6]);
            operand(asm, 6, A);
            set(gas_above(asm).ops(&[CALL]));
        }
        Op::Result => set(asm.push1(0).ops(&[MLOAD])),
        Op::Create => {
            payload(asm).push1(0);
            set(operand(asm, 3, B).ops(&[CREATE]));
        }
        Op::Create2 => {
            operand(payload(asm), 2, A).ops(&[SWAP1]).push1(0);
            set(operand(asm, 4, B).ops(&[CREATE2]));
        }
        Op::SelfDestruct => {
            operand(asm, 1, A).ops(&[SELFDESTRUCT]);
        }
        Op::Revert => {
            payload(asm).push1(0).ops(&[REVERT]);
        }
        Op::RevertIfZero => {
            let go_on = asm.label();
            asm.ops(&[DUP2]).push_label(go_on).ops(&[JUMPI]);
            asm.push1(0).push1(0).ops(&[REVERT]).place(go_on);
        }
        Op::SkipBelow => {
            operand(asm, 1, A).ops(&[DUP3, LT]);
            operand(asm, 2, B).ops(&[MUL, DUP2]);
            length(asm).ops(&[SWAP1, POP, ADD, ADD]);
        }
        Op::Return => {
            asm.ops(&[DUP2]).push1(0).ops(&[MSTORE]).push1(32).push1(0).ops(&[RETURN]);
        }
        Op::Stop => {
            asm.ops(&[STOP]);
        }
        Op::Invalid => {
            asm.ops(&[INVALID]);
        }
        Op::Burn => {
            let again = asm.label();
            asm.place(again).jump(again);
        }
    }
}

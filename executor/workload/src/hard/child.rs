//! Contracts that run programs as the machine does, and how they are created.

use alloy_primitives::Address;
use revm::bytecode::opcode::*;

use super::asm::Assembler;

/// Code that hands its call data to `target` by `delegatecall`, or `callcode` where there is no such yet.
pub(super) fn proxy(target: Address, delegates: bool) -> Vec<u8> {
    let mut asm = Assembler::default();
    hand_over(&mut asm, target, delegates);
    asm.finish()
}

/// The same, but it counts up slot 0 and returns what was there if it is called without data: as a system contract is at a
/// block's end.
pub(super) fn system_contract(target: Address) -> Vec<u8> {
    let mut asm = Assembler::default();
    let has_data = asm.label();
    asm.ops(&[CALLDATASIZE]).push_label(has_data).ops(&[JUMPI]);
    asm.push1(0).ops(&[SLOAD, DUP1]).push1(0).ops(&[MSTORE]).push1(1).ops(&[ADD]);
    asm.push1(0).ops(&[SSTORE]).push1(32).push1(0).ops(&[RETURN]).place(has_data);
    hand_over(&mut asm, target, true);
    asm.finish()
}

fn hand_over(asm: &mut Assembler, target: Address, delegates: bool) {
    let done = asm.label();
    asm.ops(&[CALLDATASIZE]).push1(0).push1(0).ops(&[CALLDATACOPY]);
    asm.push1(0).push1(0).ops(&[CALLDATASIZE]).push1(0);
    if !delegates {
        asm.push1(0);
    }
    asm.push(target.as_slice()).push(&[0x07, 0xd0]).ops(&[GAS, SUB]);
    asm.ops(&[if delegates { DELEGATECALL } else { CALLCODE }]).push_label(done).ops(&[JUMPI]);
    asm.push1(0).push1(0).ops(&[REVERT]).place(done).ops(&[STOP]);
}

/// Init code that runs a program by `delegatecall` to `machine`, whatever comes of it, and deploys `runtime`.
pub(super) fn init(machine: Address, program: &[u8], runtime: &[u8], delegates: bool) -> Vec<u8> {
    let build = |start: u16| {
        let mut asm = Assembler::default();
        let copy = |asm: &mut Assembler, offset: u16, size: usize| {
            asm.push(&(size as u16).to_be_bytes()).push(&offset.to_be_bytes());
            asm.push1(0).ops(&[CODECOPY]);
        };
        if !program.is_empty() {
            copy(&mut asm, start, program.len());
            asm.push1(0).push1(0).push(&(program.len() as u16).to_be_bytes()).push1(0);
            if !delegates {
                asm.push1(0);
            }
            asm.push(machine.as_slice()).push(&[0x75, 0x30]).ops(&[GAS, SUB]);
            asm.ops(&[if delegates { DELEGATECALL } else { CALLCODE }, POP]);
        }
        copy(&mut asm, start + program.len() as u16, runtime.len());
        asm.push(&(runtime.len() as u16).to_be_bytes()).push1(0).ops(&[RETURN]);
        asm.finish()
    };
    let start = build(0).len() as u16;
    [build(start).as_slice(), program, runtime].concat()
}

//! Programs for the machine, at random.

use alloy_primitives::{B256, U256};
use rand::{Rng, RngExt, seq::IndexedRandom};
use revm::primitives::hardfork::SpecId;

use super::{
    cast::Cast,
    machine::{Op, Program, callee},
};

/// How deep programs are nested in each other's calls.
const DEEPEST: usize = 3;

/// A program; `depth` is how many programs it is nested in.
pub(super) fn random(cast: &Cast, random: &mut impl Rng, depth: usize) -> Vec<u8> {
    let most = if depth == 0 { 9 } else { 5 };
    let mut program = Program::default();
    for _ in 0..random.random_range(1..=most) {
        one(cast, random, depth, &mut program);
    }
    let end = match random.random_range(0..24) {
        0 => Op::Revert,
        1 => Op::Invalid,
        2 => Op::Burn,
        3 => Op::SelfDestruct,
        4..8 => Op::Return,
        // Without an end the machine jumps where it cannot.
        8 => return program.into_bytes(),
        _ => Op::Stop,
    };
    program.op(end, operand(cast.account(random)), U256::ZERO);
    program.into_bytes()
}

/// One operation, or a few that belong together.
pub(super) fn one(cast: &Cast, random: &mut impl Rng, depth: usize, program: &mut Program) {
    let slot = cast.slot(random);
    let small = U256::from(random.random_range(0..4_u64));
    match random.random_range(0..100) {
        0..10 => program.op(Op::Store, slot, small),
        10..24 => program.op(Op::Increase, slot, U256::from(random.random_range(1..3_u64))),
        24..28 => {
            program.op(Op::Load, slot, U256::ZERO).op(Op::StoreNear, cast.slot(random), small)
        }
        28..31 => {
            let key = operand(cast.account(random));
            program.op(Op::MapIncrease, key, U256::from(random.random_range(0..2_u64)))
        }
        31..33 => program.op(Op::StoreGas, slot, U256::ZERO),
        33..49 => read(cast, random, program),
        49..52 if cast.enabled(SpecId::CANCUN) => program.op(Op::TransientStore, slot, small).op(
            Op::TransientLoad,
            cast.slot(random),
            small,
        ),
        52..56 => program.op(Op::Log, slot, U256::ZERO),
        56..77 if depth < DEEPEST => call(cast, random, depth, program),
        77..85 if depth < DEEPEST => create(cast, random, program),
        85..88 => pay(cast, random, program),
        88..92 => {
            let bytes = U256::from(Program::RECORD * random.random_range(1..3));
            program.op(Op::Load, slot, U256::ZERO).op(Op::SkipBelow, small, bytes)
        }
        92 => program.op(Op::SelfDestruct, operand(cast.account(random)), U256::ZERO),
        93 => program.op(Op::RevertIfZero, U256::ZERO, U256::ZERO),
        _ => program.op(Op::StoreAcc, slot, U256::ZERO),
    };
}

/// Looks at an account, and mostly keeps what it sees.
fn read<'a>(cast: &Cast, random: &mut impl Rng, program: &'a mut Program) -> &'a mut Program {
    let looks: &[Op] = if cast.enabled(SpecId::ISTANBUL) {
        &[
            Op::Balance,
            Op::CodeHash,
            Op::CodeSize,
            Op::SelfBalance,
            Op::CoinbaseBalance,
            Op::CodeCopy,
        ]
    } else {
        &[Op::Balance, Op::CodeSize, Op::CoinbaseBalance, Op::CodeCopy]
    };
    let look = looks.choose(random).copied().unwrap_or(Op::Balance);
    program.op(look, operand(cast.account(random)), U256::ZERO);
    match random.random_range(0..4) {
        0 => program,
        1 => program.op(Op::Log, U256::ONE, U256::ZERO),
        _ => program.op(Op::StoreAcc, cast.slot(random), U256::ZERO),
    }
}

fn call<'a>(
    cast: &Cast,
    random: &mut impl Rng,
    depth: usize,
    program: &'a mut Program,
) -> &'a mut Program {
    let inner = match random.random_range(0..8) {
        0 => Vec::new(),
        // Reads a slot of another account.
        1 => {
            let mut inner = Program::default();
            inner.op(Op::Load, cast.slot(random), U256::ZERO).op(
                Op::Return,
                U256::ZERO,
                U256::ZERO,
            );
            inner.into_bytes()
        }
        _ => self::random(cast, random, depth + 1),
    };
    let op = match random.random_range(0..10) {
        0 => Op::StaticCall,
        1 => Op::CallCode,
        2 | 3 => Op::DelegateCall,
        _ => Op::Call,
    };
    let target = if random.random_bool(0.8) { cast.runner(random) } else { cast.account(random) };
    let value = value(cast, random);
    let kept = cast.huge || value.bit_len() <= 100;
    let value = if kept && random.random_bool(0.5) { value } else { U256::ZERO };
    program.with(op, callee(target, gas(cast, random)), value, &inner);
    match random.random_range(0..6) {
        0 => program.op(Op::RevertIfZero, U256::ZERO, U256::ZERO),
        1 => program.op(Op::Result, U256::ZERO, U256::ZERO),
        2 => program.op(Op::StoreAcc, cast.slot(random), U256::ZERO),
        _ => program,
    }
}

fn create<'a>(cast: &Cast, random: &mut impl Rng, program: &'a mut Program) -> &'a mut Program {
    let value = U256::from(random.random_range(0..8_u64).saturating_sub(4));
    if cast.enabled(SpecId::PETERSBURG) && random.random_bool(0.75) {
        let Some(init) = cast.inits.choose(random) else { return program };
        program.with(Op::Create2, U256::from(random.random_range(0..2_u64)), value, init);
    } else {
        let init = cast.inits.choose(random).cloned().unwrap_or_default();
        program.with(Op::Create, U256::ZERO, value, &init);
    }
    if random.random_bool(0.4) {
        let mut inner = Program::default();
        let op = if random.random_bool(0.6) { Op::SelfDestruct } else { Op::Increase };
        inner.op(op, operand(cast.account(random)), U256::ONE).op(Op::Stop, U256::ZERO, U256::ZERO);
        program.with(Op::CallAcc, U256::ZERO, U256::from(gas(cast, random)), &inner.into_bytes());
    }
    program
}

/// Pays out of the account that runs the program: some, or all.
fn pay<'a>(cast: &Cast, random: &mut impl Rng, program: &'a mut Program) -> &'a mut Program {
    let to = callee(cast.account(random), gas(cast, random));
    if cast.enabled(SpecId::ISTANBUL) && random.random_bool(0.5) {
        program.op(Op::SelfBalance, U256::ZERO, U256::ZERO).op(Op::PayAcc, to, U256::ZERO)
    } else {
        program.op(Op::Call, to, U256::from(random.random_range(0..3_u64)))
    }
}

/// What is sent along.
pub(super) fn value(cast: &Cast, random: &mut impl Rng) -> U256 {
    if cast.huge && random.random_bool(0.3) {
        return U256::MAX - U256::from(random.random_range(0..20_000_000_u64));
    }
    match random.random_range(0..16) {
        0..8 => U256::ZERO,
        8..13 => U256::from(random.random_range(1..5_u64)),
        13 => U256::from(random.random_range(0..100_000_u64)),
        14 => U256::from(10_u128.pow(19)),
        _ if random.random_bool(0.2) => U256::MAX >> random.random_range(0..8_usize),
        // All that a sender near the limit has, but for fees.
        _ if random.random_bool(0.2) => {
            U256::MAX - U256::from(random.random_range(0..20_000_000_u64))
        }
        _ => U256::ONE,
    }
}

/// Gas for a call. Before EIP-150 a call for more than there is fails.
fn gas(cast: &Cast, random: &mut impl Rng) -> u64 {
    match random.random_range(0..8) {
        0 => random.random_range(0..3_000),
        1 => random.random_range(0..40_000),
        _ if cast.enabled(SpecId::TANGERINE) => 1 << 30,
        _ => random.random_range(30_000..60_000),
    }
}

/// An account as an operand.
pub(super) fn operand(address: alloy_primitives::Address) -> U256 {
    B256::left_padding_from(address.as_slice()).into()
}

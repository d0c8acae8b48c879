//! Transactions that belong together: an account is destroyed, created again at its address, and looked at.

use alloy_primitives::{Address, Bytes, TxKind, U256};
use rand::{Rng, RngExt, seq::IndexedRandom};

use super::{
    cast::Cast,
    machine::{Op, Program, callee},
    program::operand,
    transaction::Draft,
};

/// How a child is created.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    pub(super) child: Address,
    pub(super) creator: Address,
    pub(super) salt: u64,
    pub(super) init: Bytes,
}

/// What the transactions of a scene are about.
#[derive(Debug)]
pub(super) struct Scene {
    origin: Origin,
    slot: U256,
}

impl Scene {
    /// How many transactions a scene has.
    pub(super) const LENGTH: usize = 3;

    /// `None` where nothing can be created again.
    pub(super) fn new(cast: &Cast, random: &mut impl Rng) -> Option<Self> {
        let origin = cast.origins.choose(random)?.clone();
        Some(Self { origin, slot: cast.slot(random) })
    }

    /// Turns a transaction into that number `step` of the scene.
    pub(super) fn play(&self, step: usize, draft: &mut Draft, cast: &Cast, random: &mut impl Rng) {
        let Self { origin, slot } = self;
        let mut program = Program::default();
        let target = match step {
            0 => {
                program.op(Op::SelfDestruct, operand(cast.account(random)), U256::ZERO);
                origin.child
            }
            1 => {
                program.with(Op::Create2, U256::from(origin.salt), U256::ZERO, &origin.init);
                origin.creator
            }
            _ if random.random_bool(0.5) => {
                program.op(Op::Increase, *slot, U256::ONE);
                origin.child
            }
            _ => {
                let mut inner = Program::default();
                inner.op(Op::Load, *slot, U256::ZERO).op(Op::Return, U256::ZERO, U256::ZERO);
                let child = callee(origin.child, 200_000);
                program.with(Op::StaticCall, child, U256::ZERO, &inner.into_bytes());
                program.op(Op::Result, U256::ZERO, U256::ZERO);
                program.op(Op::StoreAcc, cast.slot(random), U256::ZERO);
                cast.machine(random)
            }
        };
        program.op(Op::Stop, U256::ZERO, U256::ZERO);
        draft.to = TxKind::Call(target);
        draft.value = U256::ZERO;
        draft.gas_limit = 1_000_000;
        draft.input = program.into_bytes().into();
    }
}

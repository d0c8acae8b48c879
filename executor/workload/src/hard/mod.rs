//! Blocks that are hard to execute in parallel, and the check that it is done right. Everything follows from a seed.
//!
//! ```text
//!  seed ──> Cast: fork, accounts, hot slots ──> Draft ... ──> Block ──┬─> in order
//!            machine, program, child: what they call                   └─> on threads, whole and in pieces ──> HardChecker
//!                                                      coverage: which behaviours the blocks reach
//! ```

mod asm;
mod cast;
mod check;
mod child;
mod coverage;
mod interpreter;
mod machine;
mod program;
mod scene;
mod state;
mod tamper;
mod transaction;

use std::sync::Arc;

use alloy_primitives::{Address, map::AddressMap};
use millrace_executor::{BlockExecutor, MemoryState, StateReader};
use millrace_proto::{RecoveredTx, RejectReason, TxOutcome};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use revm::primitives::hardfork::SpecId;

use self::{
    cast::Cast,
    scene::Scene,
    transaction::{Draft, deposit},
};
pub use self::{
    check::{HardChecker, HardFailure, HardProblem},
    coverage::Coverage,
};
use crate::Block;

/// Makes hard blocks.
#[derive(Debug, Clone, Copy)]
pub struct HardBlock;

impl HardBlock {
    /// The seed of the block number `number` of a run.
    pub const fn seed(run: u64, number: u64) -> u64 {
        // SplitMix64.
        let mut seed = run.wrapping_add(number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        seed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        seed = (seed ^ (seed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        seed ^ (seed >> 31)
    }

    /// A block of 20 to 200 transactions, now and then 600, over few accounts. Some of them are invalid.
    ///
    /// Nonces follow what becomes of the transactions when they are executed in order.
    pub fn generate(seed: u64) -> Block {
        let mut random = StdRng::seed_from_u64(seed);
        let mut cast = Cast::new(&mut random);
        let env = cast.env(&mut random);
        let state = cast.state(&mut random);
        let count = match random.random_range(0..80) {
            // More than are run ahead at a time.
            0 => random.random_range(260..=600),
            1..8 => random.random_range(100..=200),
            8..32 => random.random_range(50..100),
            _ => random.random_range(20..50),
        };
        let invalid = random.random_range(0.05..0.2);
        let mut block = BlockExecutor::with_env(env.clone(), state.clone(), Arc::default());
        let mut nonces = Nonces { state: &state, next: AddressMap::default() };
        let mut transactions = Vec::with_capacity(count + 1);
        let mut add = |tx: Arc<RecoveredTx>, nonces: &mut Nonces<'_>| {
            let outcome = block.execute(&tx);
            if let Ok(outcome) = &outcome {
                nonces.note(&tx, outcome);
            }
            transactions.push(tx);
            outcome.is_ok()
        };
        let deposits = if cast.rollup { random.random_range(0..8) } else { 0 };
        let mut goes_on = true;
        let mut left = count;
        let mut scene = None;
        while goes_on && left > 0 {
            left -= 1;
            if count - left <= deposits {
                goes_on = add(deposit(&cast, &mut random), &mut nonces);
                continue;
            }
            if !cast.rollup && random.random_range(0..500) == 0 {
                goes_on = add(deposit(&cast, &mut random), &mut nonces);
                continue;
            }
            let mut draft = Draft::new(&cast, &mut random, |of| nonces.of(of));
            if scene.is_none() && random.random_bool(0.05) {
                scene = Scene::new(&cast, &mut random).map(|scene| (scene, 0));
            }
            if let Some((play, step)) = &mut scene {
                play.play(*step, &mut draft, &cast, &mut random);
                *step += 1;
            }
            scene = scene.filter(|(_, step)| *step < Scene::LENGTH);
            if draft.to.is_create() {
                cast.fresh.push(draft.from.create(draft.nonce));
            }
            if random.random_bool(invalid) && left > 0 {
                left -= 1;
                let spoiled = draft.spoiled(&cast, &mut random).into_tx();
                let before = nonces.of(draft.from);
                goes_on = add(spoiled, &mut nonces);
                if !goes_on || nonces.of(draft.from) != before {
                    continue;
                }
            }
            goes_on = add(draft.into_tx(), &mut nonces);
        }
        Block { env, state, transactions }
    }

    /// The rules of a block, by name.
    pub fn fork(block: &Block) -> SpecId {
        block.env.cfg.spec
    }
}

/// The nonces that senders' next transactions should have, as far as outcomes tell.
struct Nonces<'a> {
    state: &'a MemoryState,
    next: AddressMap<u64>,
}

impl Nonces<'_> {
    fn of(&mut self, sender: Address) -> u64 {
        let before =
            || self.state.account(sender).ok().flatten().map_or(0, |account| account.nonce);
        *self.next.entry(sender).or_insert_with(before)
    }

    fn note(&mut self, tx: &RecoveredTx, outcome: &TxOutcome) {
        use alloy::consensus::Transaction;
        let sender = tx.sender();
        match outcome {
            TxOutcome::Included { .. } => {
                let next = self.of(sender).wrapping_add(1);
                self.next.insert(sender, next);
                for authorization in tx.tx().authorization_list().unwrap_or_default() {
                    if let Ok(authority) = authorization.recover_authority()
                        && self.of(authority) == authorization.nonce
                    {
                        self.next.insert(authority, authorization.nonce.wrapping_add(1));
                    }
                }
            }
            TxOutcome::Invalid(
                RejectReason::NonceTooLow { expected, .. }
                | RejectReason::NonceTooFar { expected, .. },
            ) => {
                self.next.insert(sender, *expected);
            }
            _ => {}
        }
    }
}

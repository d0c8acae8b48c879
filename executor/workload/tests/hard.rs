//! Hard blocks: what they reach, and that they are executed on threads as in order.

use std::{num::NonZeroUsize, sync::Arc};

use alloy::{
    consensus::{Signed, TxLegacy},
    primitives::{Address, B256, Bytes, Signature, TxKind, U256, hex},
};
use millrace_executor::{EvmEnv, MemoryState, ParallelStats};
use millrace_proto::{AccountInfo, RecoveredTx, TxEnvelope, TxOutcome};
use millrace_workload::{Block, Coverage, Ground, HardBlock, HardChecker};
use revm::{context::BlockEnv, primitives::hardfork::SpecId};

const RUN: u64 = 2026;

fn checker() -> HardChecker {
    let threads = [1, 2, 4, 8].map(|threads| NonZeroUsize::new(threads).expect("not zero"));
    HardChecker::new(&threads, RUN).expect("threads start")
}

fn check(checker: &HardChecker, seed: u64) -> (Block, ParallelStats) {
    let block = HardBlock::generate(seed);
    let stats = checker.check(&block, seed).unwrap_or_else(|failure| {
        panic!("the block of seed {seed} ({:?}): {failure}", HardBlock::fork(&block))
    });
    (block, stats)
}

#[test]
fn hard_blocks_are_executed_on_threads_as_in_order() {
    let checker = checker();
    let mut all = ParallelStats::default();
    for number in 0..150 {
        let (_, stats) = check(&checker, HardBlock::seed(RUN, number));
        all.plain += stats.plain;
        all.held += stats.held;
        all.failed += stats.failed;
        all.inline += stats.inline;
    }
    let ParallelStats { plain, held, failed, inline } = all;
    assert!([plain, held, failed, inline].iter().all(|count| *count > 200), "{all:?}");
}

/// The beneficiary's payment to an account that overflows by it is not given back by revm.
#[test]
fn an_access_list_has_what_an_overflow_takes() {
    let seed = 8554435016404137446;
    check(&checker(), seed);
}

#[test]
fn a_block_follows_from_its_seed() {
    let [a, b] = [7, 7].map(HardBlock::generate);
    assert_eq!(a.transactions, b.transactions);
    assert_eq!(a.state, b.state);
    assert_ne!(a.transactions, HardBlock::generate(8).transactions);
}

#[test]
fn hard_blocks_reach_what_is_hard() {
    let mut coverage = Coverage::default();
    for number in 0..200 {
        let block = HardBlock::generate(HardBlock::seed(RUN, number));
        let executed = Ground::of(&block).in_order(&block.transactions);
        coverage.note_outcomes(&executed.expect("the block executes"));
        coverage.note_behaviours(&block).expect("memory reads");
    }
    let all: Vec<_> = coverage.counts().collect();
    for behaviour in [
        "balance",
        "call",
        "callcode",
        "code of another",
        "create",
        "create collision",
        "create2",
        "created",
        "created again",
        "created and destroyed",
        "delegatecall",
        "delegated",
        "delegation cleared",
        "destroyed",
        "extcodecopy",
        "extcodehash",
        "extcodesize",
        "failed",
        "huge balance",
        "log",
        "no room",
        "out of funds",
        "out of gas",
        "out of gas inside",
        "payment overflow",
        "reverted",
        "reverted inside",
        "selfbalance",
        "selfdestruct",
        "sload",
        "sstore",
        "staticcall",
        "tload",
        "tstore",
        "value inside",
        "write in a static call",
        "FEE_BELOW_FLOOR",
        "GAS_OVER_LIMIT",
        "INSUFFICIENT_FUNDS",
        "INTRINSIC_GAS",
        "NONCE_TOO_FAR",
        "NONCE_TOO_LOW",
        "SENDER_IS_CONTRACT",
        "TIP_ABOVE_MAX_FEE",
        "UNSUPPORTED_TYPE",
        "WRONG_CHAIN_ID",
    ] {
        assert!(coverage.count(behaviour) >= 5, "{behaviour}: {all:?}");
    }
    let invalid: u64 = all
        .iter()
        .filter(|(name, _)| name.chars().all(|letter| letter.is_uppercase() || letter == '_'))
        .map(|(_, count)| count)
        .sum();
    let valid = coverage.count("succeeded") + coverage.count("failed");
    assert!(coverage.count("succeeded") * 2 > valid, "{all:?}");
    let share = invalid * 100 / (invalid + valid);
    assert!((5..=25).contains(&share), "{share} % are invalid: {all:?}");
}

/// A block of calls and creations, without fees.
fn block(
    spec: SpecId,
    accounts: &[(Address, U256)],
    transactions: &[(Address, u64, TxKind, U256, &[u8])],
) -> Block {
    let mut state = MemoryState::default();
    for (address, balance) in accounts {
        let info = AccountInfo { balance: *balance, ..AccountInfo::default() };
        state.set_account(*address, Some(info));
    }
    let block =
        BlockEnv { gas_limit: 30_000_000, prevrandao: Some(B256::ZERO), ..BlockEnv::default() };
    let tx = |(from, nonce, to, value, input): &(Address, u64, TxKind, U256, &[u8])| {
        let tx = TxLegacy {
            chain_id: Some(1),
            nonce: *nonce,
            gas_price: 0,
            gas_limit: 100_000,
            to: *to,
            value: *value,
            input: Bytes::copy_from_slice(input),
        };
        let signature = Signature::new(U256::ONE, U256::ONE, false);
        let tx = TxEnvelope::Legacy(Signed::new_unhashed(tx, signature));
        Arc::new(RecoveredTx::new_unchecked(tx, *from))
    };
    Block {
        env: EvmEnv::ethereum(spec, 1, block),
        state: Arc::new(state),
        transactions: transactions.iter().map(tx).collect(),
    }
}

fn check_often(block: &Block) {
    let checker = checker();
    for seed in 0..50 {
        checker.check(block, seed).unwrap_or_else(|failure| panic!("{failure}"));
    }
}

#[test]
fn a_payment_that_overflows_fails_on_threads_too() {
    let [rich, other, payee] = [1, 2, 3].map(Address::repeat_byte);
    let accounts = [(rich, U256::MAX), (other, U256::from(1_000)), (payee, U256::from(5))];
    let fits = U256::MAX - U256::from(5);
    let to = TxKind::Call(payee);
    // Plain transfers, and one with data, which is run ahead before the other's payment is there.
    for data in [&[][..], &[1]] {
        let transactions = [
            (other, 0, to, U256::from(1), &[][..]),
            (rich, 0, to, fits, data),
            (rich, 1, to, U256::ONE, data),
        ];
        let block = block(SpecId::LONDON, &accounts, &transactions);
        let executed = Ground::of(&block).in_order(&block.transactions);
        let outcomes = executed.expect("it executes").outcomes;
        let failed = |outcome: &TxOutcome| match outcome {
            TxOutcome::Included { receipt, .. } => !receipt.success,
            _ => panic!("{outcome:?}"),
        };
        assert_eq!(outcomes.iter().map(failed).collect::<Vec<_>>(), [false, true, false]);
        check_often(&block);
    }
}

/// After a payment that failed for an overflow, and a revert, revm takes what is left of the payer for what it had before.
#[test]
fn what_an_overflow_took_is_committed_in_any_case() {
    let (creator, rich) = (Address::repeat_byte(1), Address::repeat_byte(2));
    let [reverts, payer] = [0, 1].map(|nonce| creator.create(nonce));
    let accounts = [(creator, U256::from(1_000)), (rich, U256::MAX)];
    let push = |address: Address| [&[0x73], address.as_slice()].concat();
    let deploy = |runtime: Vec<u8>| {
        let size = runtime.len() as u8;
        [&[0x60, size, 0x60, 12, 0x60, 0, 0x39, 0x60, size, 0x60, 0, 0xf3][..], &runtime].concat()
    };
    // Calls the payer with a byte, and reverts.
    let reverts_code =
        [&hex!("60006000600160006000")[..], &push(payer), &hex!("5af160006000fd")].concat();
    // Pays if there is data, with no gas beside the stipend, as all of it would be gone.
    let payer_code =
        [&hex!("36600557005b60006000600060006001")[..], &push(rich), &hex!("6000f100")].concat();
    let call = |to| [&hex!("60006000600060006000")[..], &push(to), &hex!("5af150")].concat();
    let (reverts_init, payer_init) = (deploy(reverts_code), deploy(payer_code));
    let both = [call(reverts), call(payer)].concat();
    let transactions = [
        (creator, 0, TxKind::Create, U256::ZERO, &reverts_init[..]),
        (creator, 1, TxKind::Create, U256::from(5), &payer_init),
        (creator, 2, TxKind::Create, U256::ZERO, &both),
    ];
    let block = block(SpecId::LONDON, &accounts, &transactions);
    let executed = Ground::of(&block).in_order(&block.transactions);
    let diff = executed.expect("it executes").output.diff;
    let left = diff.accounts[&payer].after.expect("it exists").balance;
    assert_eq!(left, U256::from(4), "the overflow took one");
    check_often(&block);
}

#[test]
fn old_code_that_begins_like_a_delegation_is_code() {
    let (creator, other) = (Address::repeat_byte(1), Address::repeat_byte(2));
    let accounts = [(creator, U256::from(1)), (other, U256::from(1))];
    // mstore8(0, 0xef) mstore8(1, 1) return(0, 2)
    let init = hex!("60ef6000536001600153 60026000f3");
    let created = TxKind::Call(creator.create(0));
    let transactions = [
        (creator, 0, TxKind::Create, U256::ZERO, &init[..]),
        (other, 0, created, U256::ZERO, &[1][..]),
        (creator, 1, created, U256::ZERO, &[]),
    ];
    let block = block(SpecId::BERLIN, &accounts, &transactions);
    check_often(&block);
}

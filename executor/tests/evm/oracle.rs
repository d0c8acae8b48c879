//! The executor against revm's own database and commit, over random blocks.

use std::{collections::BTreeSet, sync::Arc};

use alloy::{
    consensus::{Transaction, Typed2718},
    primitives::{Address, B256, U256, keccak256},
};
use millrace_executor::{BlockPlan, StateReader};
use millrace_proto::{RecoveredTx, StateDiff, TxOutcome};
use proptest::prelude::*;
use revm::{
    Context, Database, DatabaseCommit, ExecuteEvm, MainBuilder,
    bytecode::Bytecode,
    context::TxEnv,
    context_interface::either::Either,
    database::{CacheDB, EmptyDB},
    handler::MainnetContext,
    state::AccountInfo,
};

use crate::{
    chain::Chain,
    support::{
        contracts::{self, FACTORY, LOG, LOOP, REVERT, STORE, created_by_factory, deploy, mortal},
        spec,
        wallet::Wallet,
        word,
    },
};

/// One transaction: who sends, and what.
#[derive(Debug, Clone, Copy)]
enum Action {
    Transfer(u64, u64, u8),
    Store(u64, u64),
    Log(u64),
    Revert(u64),
    OutOfGas(u64),
    Create(u64),
    CreateAndDestroy(u64),
    Factory(u64),
    DestroyChild(u64),
    PayChild(u64),
    Delegate(u64, u64, u64),
    BadNonce(u64),
}

fn action() -> impl Strategy<Value = Action> {
    let who = 0..4_u64;
    prop_oneof![
        (who.clone(), 0..6_u64, any::<u8>()).prop_map(|(a, b, v)| Action::Transfer(a, b, v)),
        (who.clone(), 0..3_u64).prop_map(|(a, v)| Action::Store(a, v)),
        who.clone().prop_map(Action::Log),
        who.clone().prop_map(Action::Revert),
        who.clone().prop_map(Action::OutOfGas),
        who.clone().prop_map(Action::Create),
        who.clone().prop_map(Action::CreateAndDestroy),
        who.clone().prop_map(Action::Factory),
        who.clone().prop_map(Action::Factory),
        who.clone().prop_map(Action::DestroyChild),
        who.clone().prop_map(Action::PayChild),
        (who.clone(), 0..4_u64, 0..3_u64).prop_map(|(a, b, t)| Action::Delegate(a, b, t)),
        who.prop_map(Action::BadNonce),
    ]
}

fn transaction(action: Action, nonces: &mut [u64; 6]) -> Arc<RecoveredTx> {
    let child = created_by_factory(&mortal());
    let mut next = |who: u64| {
        let nonce = &mut nonces[who as usize];
        *nonce += 1;
        (Wallet::new(who), *nonce - 1)
    };
    match action {
        Action::Transfer(a, b, value) => {
            let (wallet, nonce) = next(a);
            wallet.send(nonce, Wallet::new(b).address(), value.into(), 100_000, &word(7))
        }
        Action::Store(a, value) => {
            let (wallet, nonce) = next(a);
            wallet.send(nonce, STORE, 0, 100_000, &word(value))
        }
        Action::Log(a) => {
            let (wallet, nonce) = next(a);
            wallet.send(nonce, LOG, 0, 100_000, &word(nonce))
        }
        Action::Revert(a) => {
            let (wallet, nonce) = next(a);
            wallet.send(nonce, REVERT, 1, 100_000, b"reason")
        }
        Action::OutOfGas(a) => {
            let (wallet, nonce) = next(a);
            wallet.send(nonce, LOOP, 1, 50_000, &[])
        }
        Action::Create(a) => {
            let (wallet, nonce) = next(a);
            wallet.create(nonce, &deploy(&[0x60, 0x01, 0x60, nonce as u8, 0x55]))
        }
        Action::CreateAndDestroy(a) => {
            let (wallet, nonce) = next(a);
            wallet.create(nonce, &alloy::primitives::hex!("600160005533ff"))
        }
        Action::Factory(a) => {
            let (wallet, nonce) = next(a);
            wallet.send(nonce, FACTORY, 3, 500_000, &mortal())
        }
        Action::DestroyChild(a) => {
            let (wallet, nonce) = next(a);
            wallet.send(nonce, child, 0, 100_000, &[])
        }
        Action::PayChild(a) => {
            let (wallet, nonce) = next(a);
            wallet.send(nonce, child, 11, 21_000, &[])
        }
        Action::Delegate(a, b, target) => {
            let target = [STORE, LOG, Address::ZERO][target as usize];
            let (wallet, nonce) = next(a);
            let (authority, authority_nonce) = next(b);
            let list = vec![authority.authorize(authority_nonce, target)];
            wallet.set_code(nonce, authority.address(), &word(2), list)
        }
        Action::BadNonce(a) => Wallet::new(a).transfer(1_000_000, STORE, 1),
    }
}

fn oracle_tx(tx: &RecoveredTx) -> TxEnv {
    let inner = tx.tx();
    TxEnv {
        tx_type: inner.ty(),
        caller: tx.sender(),
        gas_limit: inner.gas_limit(),
        gas_price: inner.max_fee_per_gas(),
        kind: inner.kind(),
        value: inner.value(),
        data: inner.input().clone(),
        nonce: inner.nonce(),
        chain_id: inner.chain_id(),
        gas_priority_fee: inner.max_priority_fee_per_gas(),
        authorization_list: inner
            .authorization_list()
            .unwrap_or_default()
            .iter()
            .cloned()
            .map(Either::Left)
            .collect(),
        ..TxEnv::builder().build().expect("defaults are complete")
    }
}

/// The genesis in revm's database.
fn oracle_state(chain: &Chain) -> CacheDB<EmptyDB> {
    let mut database = CacheDB::default();
    for (address, account) in &chain.spec.genesis().alloc {
        let code = account.code.clone().unwrap_or_default();
        let info = AccountInfo {
            balance: account.balance,
            nonce: account.nonce.unwrap_or(0),
            code_hash: keccak256(&code),
            code: Some(Bytecode::new_raw(code)),
            account_id: None,
        };
        database.insert_account_info(*address, info);
    }
    database
}

/// Executes a block on revm's database: gas and success of each transaction, `None` if it is invalid.
fn oracle_block(
    database: &mut CacheDB<EmptyDB>,
    plan: &BlockPlan,
    transactions: &[Arc<RecoveredTx>],
) -> Vec<Option<(u64, bool)>> {
    let env = plan.env();
    let context: MainnetContext<&mut CacheDB<EmptyDB>> = Context::new(database, env.cfg.spec);
    let mut evm = context.with_cfg(env.cfg.clone()).with_block(env.block.clone()).build_mainnet();
    transactions
        .iter()
        .map(|tx| {
            let executed = evm.transact(oracle_tx(tx)).ok()?;
            evm.ctx.journaled_state.database.commit(executed.state);
            Some((executed.result.tx_gas_used(), executed.result.is_success()))
        })
        .collect()
}

fn compare(
    fork: &str,
    chain: &Chain,
    database: &mut CacheDB<EmptyDB>,
    seen: &BTreeSet<(Address, U256)>,
) {
    for (address, slot) in seen {
        let ours = chain.account(*address).unwrap_or_default();
        let theirs = database.basic(*address).expect("memory reads").unwrap_or_default();
        assert_eq!(ours.balance, theirs.balance, "{fork}: balance of {address}");
        assert_eq!(ours.nonce, theirs.nonce, "{fork}: nonce of {address}");
        assert_eq!(ours.code_hash, theirs.code_hash, "{fork}: code of {address}");
        let ours = chain.state.storage(*address, *slot).expect("memory reads");
        let theirs = database.storage(*address, *slot).expect("memory reads");
        assert_eq!(ours, theirs, "{fork}: slot {slot} of {address}");
    }
}

fn note(diff: &StateDiff, seen: &mut BTreeSet<(Address, U256)>) {
    for (address, account) in &diff.accounts {
        seen.insert((*address, U256::ZERO));
        seen.extend(account.storage.keys().map(|slot| (*address, U256::from_be_bytes(slot.0))));
    }
}

/// Taking the diffs back, newest first, gives the genesis again.
fn undo(chain: &mut Chain, diffs: Vec<StateDiff>) {
    let genesis = millrace_executor::MemoryState::from_alloc(&chain.spec.genesis().alloc);
    for mut diff in diffs.into_iter().rev() {
        for account in diff.accounts.values_mut() {
            std::mem::swap(&mut account.before, &mut account.after);
            for slot in account.storage.values_mut() {
                std::mem::swap(&mut slot.before, &mut slot.after);
            }
        }
        diff.code.clear();
        chain.state.apply(&diff);
    }
    for (address, account) in &chain.spec.genesis().alloc {
        let ours = chain.account(*address).expect("it is in the genesis");
        assert_eq!((ours.balance, ours.nonce), (account.balance, account.nonce.unwrap_or(0)));
    }
    for address in [STORE, FACTORY, created_by_factory(&mortal())] {
        let slots = chain.state.storage_of(address).expect("memory reads");
        assert_eq!(slots, genesis.storage_of(address).expect("memory reads"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(48) })]

    #[test]
    fn random_blocks_give_what_revm_gives(
        blocks in prop::collection::vec(prop::collection::vec(action(), 0..14), 1..6),
    ) {
        for fork in ["shanghai", "prague"] {
            let mut chain = Chain::new(spec(fork, false, &contracts::all()));
            let mut database = oracle_state(&chain);
            let mut nonces = [0; 6];
            let mut seen = BTreeSet::new();
            let mut diffs = Vec::new();
            for actions in &blocks {
                let transactions: Vec<_> =
                    actions.iter().map(|action| transaction(*action, &mut nonces)).collect();
                let plan = chain.plan(0);
                let theirs = oracle_block(&mut database, &plan, &transactions);
                let ours = chain.block(&transactions);
                for (index, outcome) in ours.outcomes.iter().enumerate() {
                    let got = match outcome {
                        TxOutcome::Included { gas_used, receipt, .. } => Some((*gas_used, receipt.success)),
                        _ => None,
                    };
                    prop_assert_eq!(got, theirs[index], "{} {:?}", fork, actions[index]);
                    // An invalid transaction uses no nonce.
                    if got.is_none() {
                        let sender = transactions[index].sender();
                        for (who, nonce) in nonces.iter_mut().enumerate() {
                            if Wallet::new(who as u64).address() == sender {
                                *nonce = chain.account(sender).unwrap_or_default().nonce;
                            }
                        }
                    }
                }
                note(&ours.output.diff, &mut seen);
                compare(fork, &chain, &mut database, &seen);
                diffs.push(ours.output.diff);
                // Authorizations that did not apply left their authority's nonce where it was.
                for (who, nonce) in nonces.iter_mut().enumerate() {
                    *nonce = chain.account(Wallet::new(who as u64).address()).unwrap_or_default().nonce;
                }
            }
            prop_assert_ne!(chain.head.seal(), B256::ZERO);
            undo(&mut chain, diffs);
        }
    }
}

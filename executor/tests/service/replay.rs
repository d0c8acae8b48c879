//! What was built is what is replayed.

use std::sync::Arc;

use alloy::{
    consensus::{Header, Sealable},
    primitives::{Address, B256, U256},
};
use millrace_executor::Replayer;
use millrace_proto::{
    AccountDelta, AccountNames, AddressPrefix, BatchLimits, BlockSelector, Change, DerivedBlock,
    DerivedStretch, DiffBatch, ExecutedBlock, Executor, KeyHints, NamedDelta, QueueMark, QueuedTxs,
    RecoveredTx, RejectReason, Replay, ReplayError, StateDelta, batch_digest,
};
use proptest::{prelude::*, test_runner::TestRunner};

use crate::{
    chain::{Chain, store_config},
    support::{
        contracts::{self, FACTORY, LOG, LOOP, REVERT, STORE, created_by_factory, mortal},
        deposit, spec,
        wallet::Wallet,
        word,
    },
};

fn derived(block: &ExecutedBlock) -> DerivedBlock {
    let (queued, signed) = block.transactions.split_at(block.queued_count());
    let txs = queued.to_vec();
    DerivedBlock {
        number: block.number(),
        timestamp: block.header.timestamp,
        queued: QueuedTxs { mark: QueueMark::of(&block.header).expect("a rollup's header"), txs },
        transactions: signed.to_vec(),
    }
}

fn replayer(folder: &tempfile::TempDir, chain: &Chain) -> Replayer {
    Replayer::open(folder.path(), &store_config(), chain.spec.clone()).expect("the store opens")
}

/// Builds blocks of transactions that `picks` chooses, invalid ones among them.
pub(crate) async fn build(
    chain: &Chain,
    picks: &[Vec<(u8, u8)>],
) -> Vec<(Arc<ExecutedBlock>, DerivedBlock)> {
    let mut blocks = Vec::new();
    let mut deposits = 0;
    for picks in picks {
        let mut nonces = Vec::new();
        for who in 0..4 {
            let address = Wallet::new(who).address();
            let account = chain.account(address, millrace_proto::BlockSelector::Latest).await;
            nonces.push(account.unwrap_or_default().nonce);
        }
        let mut first = Vec::new();
        let mut rest = Vec::new();
        for (kind, who) in picks {
            let who = usize::from(who % 4);
            if kind % 10 == 0 {
                let value = u128::from(*kind) * 1000;
                let (from, to) = (Address::repeat_byte(0xd0), [STORE, REVERT][who % 2]);
                first.push(deposit(deposits, from, to, value, 60_000, &word(deposits)));
                deposits += 1;
                continue;
            }
            rest.push(pick(*kind, who, &mut nonces));
        }
        // A third of the others was forced, whether it is valid or not.
        let forced = rest.len() / 3;
        first.extend(rest.drain(..forced));
        blocks.push(chain.block_with_queued(first, &rest).await);
    }
    blocks
}

fn pick(kind: u8, who: usize, nonces: &mut [u64]) -> Arc<RecoveredTx> {
    let wallet = Wallet::new(who as u64);
    let nonce = nonces[who];
    // Kind 9 has a gap, so its nonce is not used.
    nonces[who] += u64::from(kind % 10 != 9);
    match kind % 10 {
        1 => wallet.transfer(nonce, Address::repeat_byte(kind), kind.into()),
        2 => wallet.send(nonce, STORE, 0, 100_000, &word((kind % 30 / 10).into())),
        3 => wallet.send(nonce, LOG, 0, 100_000, &word(kind.into())),
        4 => wallet.send(nonce, REVERT, 1, 100_000, b"reason"),
        5 => wallet.send(nonce, LOOP, 0, 50_000, &[]),
        6 => wallet.send(nonce, FACTORY, 3, 500_000, &mortal()),
        7 => wallet.send(nonce, created_by_factory(&mortal()), 1, 100_000, &[]),
        8 => {
            let authority = Wallet::new(5);
            let list = vec![authority.authorize(0, STORE)];
            wallet.set_code(nonce, authority.address(), &word(2), list)
        }
        _ => wallet.transfer(nonce + 7, STORE, 1),
    }
}

#[test]
fn a_random_chain_replays_to_the_same_hashes() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let picks = prop::collection::vec(prop::collection::vec((any::<u8>(), any::<u8>()), 0..25), 8);
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(6) };
    TestRunner::new(config)
        .run(&picks, |picks| {
            for fork in ["cancun", "prague"] {
                let chain = Chain::with_spec(spec(fork, true, &contracts::all()));
                let blocks = runtime.block_on(build(&chain, &picks));
                let folder = tempfile::tempdir().expect("a folder");
                let mut replay = replayer(&folder, &chain);
                for (index, (block, derived)) in blocks.iter().enumerate() {
                    let again = replay.replay(derived.clone()).expect("it is valid");
                    prop_assert_eq!(again.as_ref(), block.as_ref());
                    if index == blocks.len() / 2 {
                        drop(replay);
                        replay = replayer(&folder, &chain);
                    }
                }
                prop_assert_eq!(replay.head(), blocks[blocks.len() - 1].0.header.clone());
                let read = replay.block(1).expect("it reads").expect("it is there");
                prop_assert_eq!(read.as_ref(), blocks[0].0.as_ref());
            }
            Ok(())
        })
        .expect("every block is the same");
}

/// Blocks as a batch of state diffs holds them.
async fn stretch(chain: &Chain, blocks: &[Arc<ExecutedBlock>]) -> DerivedStretch {
    let mut changed = Vec::new();
    for block in blocks {
        let diff = chain.executor.state_diff(block.number()).await.expect("it reads");
        changed.push((block.clone(), diff.expect("it is kept")));
    }
    let first = &blocks[0].header;
    let held = QueueMark::of(first).expect("a rollup's").end;
    let before = held - blocks[0].queued_count() as u64;
    let batch = DiffBatch::from_blocks(chain.spec.chain_id(), before, first.parent_hash, &changed)
        .expect("blocks that join");
    let hints = KeyHints::of(&changed);
    let wanted = AccountNames::wanted(&changed, &hints);
    let bits = 20;
    let prefixes: Vec<_> = wanted.iter().map(|address| AddressPrefix::of(*address, bits)).collect();
    let before = BlockSelector::Number(batch.first_block - 1);
    let found = chain.executor.find_accounts(&prefixes, before).await.expect("it reads");
    let names = AccountNames::new(bits, &wanted, &found.accounts);
    // Exactly those that were there before; but for the contracts, whose addresses begin alike.
    let there = chain.executor.accounts(&wanted, before).await.expect("it reads");
    for (address, there) in wanted.iter().zip(there) {
        let is_contract = AddressPrefix::of(*address, bits).value() == 0;
        let expected = there.is_some() && !is_contract;
        assert_eq!(names.has(*address), expected, "{address}: {there:?}");
    }
    let encoded = batch.encode(3, &hints, &names).expect("it encodes");
    let decoded = DiffBatch::decode(&encoded, &BatchLimits::default()).expect("it decodes");
    let found = names.find(decoded.delta.names());
    assert_eq!(decoded.clone().resolve(&found), Ok(batch));
    let named = wanted.iter().filter(|address| names.has(**address));
    assert_eq!(decoded.delta.names().len(), named.count());
    DerivedStretch {
        first_block: decoded.first_block,
        header: decoded.header.seal_slow(),
        delta: decoded.delta,
        messages: decoded.messages,
        digest: batch_digest(&encoded),
    }
}

#[test]
fn what_a_random_chain_changed_leads_to_the_same_state() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let picks = prop::collection::vec(prop::collection::vec((any::<u8>(), any::<u8>()), 0..25), 8);
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(6) };
    TestRunner::new(config)
        .run(&(picks, 1..8usize), |(picks, cut)| {
            for fork in ["cancun", "prague"] {
                let chain = Chain::with_spec(spec(fork, true, &contracts::all()));
                let blocks = runtime.block_on(build(&chain, &picks));
                let blocks: Vec<_> = blocks.into_iter().map(|(block, _)| block).collect();
                let folder = tempfile::tempdir().expect("a folder");
                let mut replay = replayer(&folder, &chain);
                let first = runtime.block_on(stretch(&chain, &blocks[..cut]));
                replay.apply(first).expect("it leads to its state");
                prop_assert_eq!(replay.head(), blocks[cut - 1].header.clone());
                drop(replay);
                let mut replay = replayer(&folder, &chain);
                prop_assert_eq!(replay.head(), blocks[cut - 1].header.clone());
                // Whoever has the state can execute the next block on it, and take the ones after it as what they changed again.
                let again = replay.replay(derived(&blocks[cut])).expect("it is valid");
                prop_assert_eq!(again.as_ref(), blocks[cut].as_ref());
                if let rest @ [_, ..] = &blocks[cut + 1..] {
                    replay.apply(runtime.block_on(stretch(&chain, rest))).expect("the rest");
                }
                prop_assert_eq!(replay.head(), blocks[blocks.len() - 1].header.clone());
                prop_assert_eq!(
                    replay.header(cut as u64).expect("it reads"),
                    Some(blocks[cut - 1].header.clone())
                );
                // L1 has them otherwise: all of it goes, and the same blocks come cut differently.
                replay.unwind(0).expect("its history is kept");
                prop_assert_eq!(replay.head().number, 0);
                replay.apply(runtime.block_on(stretch(&chain, &blocks))).expect("all at once");
                prop_assert_eq!(replay.head(), blocks[blocks.len() - 1].header.clone());
            }
            Ok(())
        })
        .expect("every state is the same");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stretch_that_leads_elsewhere_is_named_and_changes_nothing() {
    let chain = Chain::new();
    let wallet = Wallet::new(0);
    let to = Address::repeat_byte(0xd0);
    let mut blocks = Vec::new();
    for nonce in 0..3 {
        blocks.push(chain.block(&[wallet.transfer(nonce, to, 1)]).await);
    }
    let good = stretch(&chain, &blocks).await;
    let folder = tempfile::tempdir().expect("a folder");
    let mut replay = replayer(&folder, &chain);
    let genesis = replay.head();
    let found = replay.find_accounts(good.delta.names()).expect("it reads");
    let delta =
        good.delta.resolve(&found, &good.messages).expect("the state has all that are named");
    // The same with other changes, and all accounts by their addresses.
    let with = |stretch: &mut DerivedStretch, address: Address, change: AccountDelta| {
        let mut delta = delta.clone();
        delta.accounts.insert(address, change);
        stretch.delta = NamedDelta::new(&delta, &KeyHints::default(), &AccountNames::default());
    };
    let mut refused = |change: &dyn Fn(&mut DerivedStretch)| {
        let mut stretch = good.clone();
        change(&mut stretch);
        let error = replay.apply(stretch).expect_err("it is broken");
        assert_eq!(replay.head(), genesis);
        error
    };
    let reseal = |stretch: &mut DerivedStretch, change: &dyn Fn(&mut Header)| {
        let mut header = stretch.header.clone_inner();
        change(&mut header);
        stretch.header = header.seal_slow();
    };

    let planted = B256::repeat_byte(7);
    let error = refused(&|stretch| reseal(stretch, &|header| header.state_root = planted));
    let right = good.header.state_root;
    assert!(matches!(error, ReplayError::StateRoot { number: 3, claimed, computed }
        if claimed == planted && computed == right));
    let error = refused(&|stretch| {
        let rich = AccountDelta::Changed {
            nonce: 0,
            balance: Some(Change::Up(U256::ONE)),
            code_hash: None,
            storage: Default::default(),
        };
        with(stretch, Address::repeat_byte(0xee), rich);
    });
    assert!(matches!(error, ReplayError::StateRoot { claimed, .. } if claimed == right));

    let problem = |error: ReplayError| match error {
        ReplayError::Invalid { number: 3, problem } => problem,
        other => panic!("{other}"),
    };
    let unknown = B256::repeat_byte(9);
    let found = problem(refused(&|stretch| {
        let coded = AccountDelta::Changed {
            nonce: 1,
            balance: None,
            code_hash: Some(unknown),
            storage: Default::default(),
        };
        with(stretch, to, coded);
    }));
    assert!(found.contains(&unknown.to_string()), "{found}");
    // An account that the state does not have is named, as if it had.
    let found = problem(refused(&|stretch| {
        let (hints, stranger) = (KeyHints::default(), Address::repeat_byte(0xee));
        let names = AccountNames::new(20, &[stranger], &[Some(stranger)]);
        let changed = AccountDelta::Changed {
            nonce: 1,
            balance: None,
            code_hash: None,
            storage: Default::default(),
        };
        let accounts = [(stranger, changed)].into();
        let delta = StateDelta { accounts, ..StateDelta::default() };
        stretch.delta = NamedDelta::new(&delta, &hints, &names);
    }));
    assert!(found.contains("0xeeeee/20"), "{found}");
    let found = problem(refused(&|stretch| stretch.messages.push(planted)));
    assert!(found.contains("messages"), "{found}");
    assert!(problem(refused(&|stretch| stretch.first_block = 2)).contains("after the head"));
    let found = problem(refused(&|stretch| reseal(stretch, &|header| header.gas_limit += 1)));
    assert!(found.contains("gas limit"), "{found}");
    let found = problem(refused(&|stretch| reseal(stretch, &|header| header.beneficiary = to)));
    assert!(found.contains("fee recipient"), "{found}");
    let found = problem(refused(&|stretch| reseal(stretch, &|header| header.timestamp = 1)));
    assert!(found.contains("timestamp"), "{found}");
    replay.apply(good.clone()).expect("the right one");
    assert_eq!(replay.head(), good.header);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_block_is_named_and_changes_nothing() {
    let chain = Chain::new();
    let (a, b) = (Wallet::new(0), Wallet::new(1));
    let from = Address::repeat_byte(0xd0);
    let block = chain
        .block(&[
            deposit(0, from, STORE, 1, 100_000, &word(1)),
            a.transfer(0, from, 1),
            b.transfer(0, from, 1),
        ])
        .await;
    let good = derived(&block);
    let folder = tempfile::tempdir().expect("a folder");
    let mut replay = replayer(&folder, &chain);
    let genesis = replay.head();

    let mut refused = |change: &dyn Fn(&mut DerivedBlock)| {
        let mut block = good.clone();
        change(&mut block);
        let error = replay.replay(block).expect_err("it is broken");
        assert_eq!(replay.head(), genesis);
        error
    };
    let invalid = [
        refused(&|block| block.number = 2),
        refused(&|block| block.timestamp = 0),
        refused(&|block| block.queued.mark.end = 0),
        refused(&|block| block.queued.txs.push(deposit(1, from, STORE, 1, 100_000, &word(1)))),
    ];
    for error in invalid {
        assert!(matches!(error, ReplayError::Invalid { .. }), "{error:?}");
    }
    let error = refused(&|block| block.transactions.push(a.transfer(0, from, 1)));
    let ReplayError::InvalidTransaction { number: 1, reason, .. } = error else {
        panic!("{error:?}");
    };
    assert_eq!(reason, RejectReason::NonceTooLow { got: 0, expected: 1 });
    let error = refused(&|block| block.transactions.push(block.queued.txs[0].clone()));
    assert!(matches!(error, ReplayError::InvalidTransaction { .. }), "{error:?}");
    let error = refused(&|block| {
        block.transactions.push(a.send(1, LOOP, 0, 29_950_000, &[]));
    });
    let ReplayError::InvalidTransaction { reason, .. } = error else { panic!("{error:?}") };
    assert_eq!(reason.code(), "GAS_OVER_LIMIT");

    assert_eq!(replay.replay(good).expect("it is valid"), block);
    assert_eq!(chain.executor.head().await.expect("there is a head"), replay.head());
}

//! Building blocks.

use alloy::{
    consensus::{EMPTY_ROOT_HASH, Transaction},
    primitives::{Address, B256, U256, keccak256},
};
use millrace_executor::genesis_header;
use millrace_proto::{BlockAttributes, BlockSelector, Executor, ExecutorError, TxOutcome};

use crate::{
    chain::{Chain, open},
    support::{
        CHAIN_ID, ETHER,
        contracts::{STORE, deploy},
        deposit,
        wallet::Wallet,
        word,
    },
};

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_block_is_the_head_and_can_be_read_in_every_way() {
    let chain = Chain::new();
    let executor = &chain.executor;
    assert_eq!(executor.spec().await.expect("it is known").chain_id(), CHAIN_ID);
    let genesis = executor.head().await.expect("there is a head");
    assert_eq!(genesis, genesis_header(&chain.spec));

    let (a, b) = (Wallet::new(0), Address::repeat_byte(0xbb));
    let mut build = chain.open_block(0).await;
    assert_eq!(build.base_fee(), chain.spec.next_base_fee(&genesis));
    let transactions = vec![a.transfer(0, b, ETHER), a.send(1, STORE, 0, 100_000, &word(5))];
    let outcomes = build.execute(transactions.clone()).await.expect("it executes");
    let TxOutcome::Included { index: 1, gas_used, receipt } = &outcomes[1] else {
        panic!("not included: {outcomes:?}");
    };
    // Nothing is visible before the block is sealed.
    assert_eq!(executor.head().await.expect("there is a head"), genesis);
    assert_eq!(chain.account(b, BlockSelector::Latest).await, None);

    let block = build.seal().await.expect("it seals");
    assert_eq!(block.gas_used_by(1), Some(*gas_used));
    assert_eq!(&block.receipts[1], &**receipt);
    assert_eq!(block.transactions, transactions);
    assert_eq!(block.header.parent_hash, genesis.seal());
    assert_ne!(block.header.state_root, genesis.state_root);
    assert_eq!(block.header.hash_slow(), block.hash());
    assert_eq!(executor.head().await.expect("there is a head"), block.header);
    for at in [BlockSelector::Latest, BlockSelector::Number(1), BlockSelector::Hash(block.hash())] {
        assert_eq!(executor.block(at).await.expect("it reads").expect("it is there"), block);
        let header = executor.header(at).await.expect("it reads").expect("it is there");
        assert_eq!(header, block.header);
        let account = chain.account(b, at).await.expect("it exists");
        assert_eq!(account.balance, U256::from(ETHER));
        let slot = executor.storage(STORE, B256::ZERO, at).await.expect("it reads");
        assert_eq!(slot, U256::from(5));
    }
    let location = executor.locate(transactions[1].hash()).await.expect("it reads");
    let location = location.expect("it is there");
    assert_eq!((location.block, location.index), (block.num_hash(), 1));
    assert_eq!(executor.locate(B256::ZERO).await.expect("it reads"), None);

    // The state before is kept.
    assert_eq!(chain.account(b, BlockSelector::Number(0)).await, None);
    let slot = executor.storage(STORE, B256::ZERO, BlockSelector::Number(0)).await;
    assert_eq!(slot.expect("it reads"), U256::ZERO);
    assert!(executor.block(BlockSelector::Number(2)).await.expect("it reads").is_none());
    let unknown = executor.accounts(&[b], BlockSelector::Number(2)).await;
    assert!(matches!(unknown, Err(ExecutorError::UnknownBlock(_))), "{unknown:?}");

    let diff = executor.state_diff(1).await.expect("it reads").expect("it is there");
    assert_eq!(diff.accounts[&b].before, None);
    assert_eq!(diff.accounts[&STORE].storage[&B256::ZERO].after, U256::from(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn proofs_verify_against_the_header() {
    let chain = Chain::new();
    let a = Wallet::new(0);
    let block = chain.valid_block(&[a.send(0, STORE, 0, 100_000, &word(5))]).await;
    let at = BlockSelector::Latest;
    let proof = chain.executor.proof(STORE, vec![B256::ZERO], at).await.expect("it proves");
    assert_eq!(proof.storage_proof[0].value, U256::from(5));
    let account = alloy_trie::TrieAccount {
        nonce: proof.nonce,
        balance: proof.balance,
        storage_root: proof.storage_hash,
        code_hash: proof.code_hash,
    };
    alloy_trie::proof::verify_proof(
        block.header.state_root,
        alloy_trie::Nibbles::unpack(keccak256(STORE)),
        Some(alloy_rlp(account)),
        &proof.account_proof,
    )
    .expect("the account is in the state");
    alloy_trie::proof::verify_proof(
        proof.storage_hash,
        alloy_trie::Nibbles::unpack(keccak256(B256::ZERO)),
        Some(alloy_rlp(U256::from(5))),
        &proof.storage_proof[0].proof,
    )
    .expect("the slot is in the account");
}

fn alloy_rlp(value: impl alloy::rlp::Encodable) -> Vec<u8> {
    alloy::rlp::encode(value)
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_blocks_change_nothing_but_the_header() {
    let chain = Chain::new();
    let block = chain.block(&[]).await;
    assert_eq!(block.header.transactions_root, EMPTY_ROOT_HASH);
    assert_eq!(block.header.receipts_root, EMPTY_ROOT_HASH);
    assert_eq!(block.header.state_root, genesis_header(&chain.spec).state_root);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_open_block_discards_the_first() {
    let chain = Chain::new();
    let a = Wallet::new(0);
    let mut first = chain.open_block(0).await;
    let mut second = chain.open_block(0).await;
    let discarded = first.execute(vec![a.transfer(0, Address::ZERO, 1)]).await;
    assert!(matches!(discarded, Err(ExecutorError::BuildDiscarded)), "{discarded:?}");
    second.execute(vec![a.transfer(0, Address::ZERO, 1)]).await.expect("it is open");
    // The discarded one going away does not touch the other.
    drop(first);
    let block = second.seal().await.expect("it seals");
    assert_eq!(block.transactions.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn attributes_have_to_follow_the_head() {
    let chain = Chain::new();
    let attributes = chain.attributes(0).await;
    for broken in [
        BlockAttributes { number: 2, ..attributes.clone() },
        BlockAttributes { parent_hash: B256::ZERO, ..attributes.clone() },
        BlockAttributes { timestamp: 0, ..attributes.clone() },
        BlockAttributes { fee_recipient: Address::ZERO, ..attributes.clone() },
    ] {
        let error = chain.executor.open_block(broken).await.expect_err("it does not follow");
        assert!(matches!(error, ExecutorError::NotHead { head_number: 0, .. }), "{error:?}");
    }
    chain.executor.open_block(attributes).await.expect("it follows");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_with_more_deposits_than_it_consumes_is_not_sealed() {
    let chain = Chain::new();
    let mut build = chain.open_block(0).await;
    let extra = deposit(0, Address::ZERO, Address::ZERO, ETHER, 100_000, &[]);
    build.execute(vec![extra]).await.expect("it executes");
    let error = build.seal().await.expect_err("a deposit too many");
    assert!(matches!(error, ExecutorError::InvalidRequest(_)), "{error:?}");
    assert_eq!(chain.executor.head().await.expect("there is a head").number, 0);

    let a = Wallet::new(0);
    let mut build = chain.open_block(1).await;
    let late = vec![
        a.transfer(0, Address::ZERO, 1),
        deposit(0, a.address(), a.address(), ETHER, 100_000, &[]),
    ];
    let error = build.execute(late.clone()).await.expect_err("deposits come first");
    assert!(matches!(error, ExecutorError::NotIncludable { .. }), "{error:?}");
    let error = build.execute(late).await.expect_err("the error discarded the block");
    assert!(matches!(error, ExecutorError::BuildDiscarded), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reopened_store_goes_on() {
    let Chain { folder, spec, executor } = Chain::new();
    let chain = Chain { folder, spec, executor };
    let a = Wallet::new(0);
    let runtime = alloy::primitives::hex!("6001600055");
    let created = a.address().create(0);
    let first = chain.valid_block(&[a.create(0, &deploy(&runtime))]).await;
    let Chain { folder, spec, executor } = chain;
    drop(executor);

    let executor = open(folder.path(), &spec);
    let chain = Chain { folder, spec, executor };
    assert_eq!(chain.executor.head().await.expect("there is a head"), first.header);
    let at = BlockSelector::Number(1);
    assert_eq!(chain.executor.block(at).await.expect("it reads").expect("it is there"), first);
    let code = chain.executor.code(created, BlockSelector::Latest).await.expect("it reads");
    assert_eq!(code.as_ref(), runtime);
    let second = chain.valid_block(&[a.send(1, created, 0, 100_000, &[])]).await;
    assert_eq!(second.header.parent_hash, first.hash());
    let slot = chain.executor.storage(created, B256::ZERO, BlockSelector::Latest).await;
    assert_eq!(slot.expect("it reads"), U256::from(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_service_builds_no_more_but_still_reads() {
    let chain = Chain::new();
    let a = Wallet::new(0);
    let mut build = chain.open_block(0).await;
    chain.executor.close().await;
    let error = build.execute(vec![a.transfer(0, Address::ZERO, 1)]).await;
    assert!(matches!(error, Err(ExecutorError::Stopped(_))), "{error:?}");
    assert_eq!(chain.executor.head().await.expect("there is a head").number, 0);
    assert!(chain.account(a.address(), BlockSelector::Latest).await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_base_fee_follows_the_gas_used() {
    let chain = Chain::new();
    let a = Wallet::new(0);
    let loops = crate::support::contracts::LOOP;
    let full = chain.valid_block(&[a.send(0, loops, 0, 30_000_000, &[])]).await;
    assert_eq!(full.header.gas_used, full.transactions[0].tx().gas_limit());
    let next = chain.block(&[]).await;
    assert!(next.header.base_fee_per_gas > full.header.base_fee_per_gas);
    let later = chain.block(&[]).await;
    assert!(later.header.base_fee_per_gas < next.header.base_fee_per_gas);
}

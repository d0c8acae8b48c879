//! Blocks that are opened on one that is closed and not stored yet.

use std::sync::Arc;

use alloy::primitives::{Address, B256, U256, hex};
use millrace_proto::{
    BlockAttributes, BlockBuild, BlockSelector, DerivedBlock, ExecutedBlock, Executor,
    ExecutorError, QueueMark, SealedHeader,
};
use proptest::{prelude::*, test_runner::TestRunner};

use crate::{
    chain::Chain,
    replay::build,
    support::{ETHER, contracts, spec, wallet::Wallet},
};

/// Opens the block after one.
async fn open_on(chain: &Chain, parent: &SealedHeader) -> Box<dyn BlockBuild> {
    let mark = QueueMark::of(parent).expect("a rollup's header");
    let attributes = BlockAttributes::rollup(&chain.spec, parent, parent.timestamp + 1, mark);
    chain.executor.open_block(attributes).await.expect("it follows")
}

async fn head(chain: &Chain) -> SealedHeader {
    chain.executor.head().await.expect("there is a head")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_block_sees_a_closed_one_and_nobody_else_does_until_it_is_sealed() {
    let hashes = Address::repeat_byte(0xba);
    // sstore(0, blockhash(number - 1))
    let code = (hashes, hex!("600143034060005500").to_vec().into());
    let chain = Chain::with_spec(spec("prague", true, &[code]));
    let (a, b) = (Wallet::new(0), Address::repeat_byte(0xbb));
    let genesis = head(&chain).await;
    let mut first = chain.open_block(0).await;
    first.execute(vec![a.transfer(0, b, ETHER)]).await.expect("it executes");
    let closed = first.close().await.expect("it closes");
    assert_eq!(first.close().await.expect("it is closed"), closed);

    let mut second = open_on(&chain, &closed.header).await;
    let transactions = vec![a.transfer(1, b, ETHER), a.send(2, hashes, 0, 100_000, &[])];
    second.execute(transactions).await.expect("it executes");
    assert_eq!(head(&chain).await, genesis);
    assert_eq!(chain.account(b, BlockSelector::Latest).await, None);
    let at = BlockSelector::Hash(closed.hash());
    assert_eq!(chain.executor.block(at).await.expect("it reads"), None);

    assert_eq!(first.seal().await.expect("it seals"), closed);
    assert_eq!(head(&chain).await, closed.header);
    assert!(chain.executor.state_diff(1).await.expect("it reads").is_some());
    let second = second.seal().await.expect("it seals");
    assert_eq!(second.header.parent_hash, closed.hash());
    let account = chain.account(b, BlockSelector::Latest).await.expect("it exists");
    assert_eq!(account.balance, U256::from(2 * ETHER));
    let hash = chain.executor.storage(hashes, B256::ZERO, BlockSelector::Latest).await;
    assert_eq!(B256::from(hash.expect("it reads")), closed.hash());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_block_that_nobody_wants_takes_with_it_what_was_opened_on_it() {
    let chain = Chain::new();
    let (a, b) = (Wallet::new(0), Address::repeat_byte(0xbb));
    let genesis = head(&chain).await;
    let mut first = chain.open_block(0).await;
    first.execute(vec![a.transfer(0, b, ETHER)]).await.expect("it executes");
    let closed = first.close().await.expect("it closes");
    let mut second = open_on(&chain, &closed.header).await;
    drop(first);
    let executed = second.execute(vec![a.transfer(1, b, ETHER)]).await;
    assert!(matches!(executed, Err(ExecutorError::BuildDiscarded)), "{executed:?}");
    drop(second);

    // What the closed block would have changed is forgotten.
    let mut again = chain.open_block(0).await;
    again.execute(vec![a.transfer(0, b, 1)]).await.expect("it executes");
    let again = again.seal().await.expect("it seals");
    assert_eq!((again.header.parent_hash, again.transactions.len()), (genesis.seal(), 1));
    let account = chain.account(b, BlockSelector::Latest).await.expect("it exists");
    assert_eq!(account.balance, U256::from(1));

    // As for one that is open, nothing is executed in it, and another block at the head is the end of it.
    let mut third = chain.open_block(0).await;
    third.close().await.expect("it closes");
    let late = third.execute(vec![a.transfer(1, b, 1)]).await;
    assert!(matches!(late, Err(ExecutorError::BuildDiscarded)), "{late:?}");
    let fourth = chain.open_block(0).await;
    let sealed = third.seal().await;
    assert!(matches!(sealed, Err(ExecutorError::BuildDiscarded)), "{sealed:?}");
    fourth.seal().await.expect("it seals");
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_are_sealed_in_order() {
    let chain = Chain::new();
    let mut first = chain.open_block(0).await;
    let closed = first.close().await.expect("it closes");
    let second = open_on(&chain, &closed.header).await;
    let sealed = second.seal().await;
    assert!(
        matches!(&sealed, Err(ExecutorError::InvalidRequest(problem)) if problem.contains("seal it first")),
        "{sealed:?}"
    );
    first.seal().await.expect("it seals");
    assert_eq!(head(&chain).await, closed.header);
}

/// Builds blocks that were built before again, each opened on the closed one before it, which is sealed at some time after that.
async fn build_ahead(
    chain: &Chain,
    blocks: &[(Arc<ExecutedBlock>, DerivedBlock)],
    when: &[u8],
) -> Vec<Arc<ExecutedBlock>> {
    let mut before: Option<(Box<dyn BlockBuild>, SealedHeader)> = None;
    let mut built = Vec::new();
    for ((block, derived), when) in blocks.iter().zip(when) {
        let parent = match &before {
            Some((_, header)) => header.clone(),
            None => head(chain).await,
        };
        let (timestamp, mark) = (block.header.timestamp, derived.queued.mark);
        let attributes = BlockAttributes::rollup(&chain.spec, &parent, timestamp, mark);
        let mut open = chain.executor.open_block(attributes).await.expect("it follows");
        let mut sealing = None;
        let stretches = [&derived.queued.txs, &derived.transactions];
        for (at, txs) in stretches.into_iter().enumerate() {
            if at == usize::from(when % 3)
                && let Some((build, _)) = before.take()
            {
                sealing = Some(tokio::spawn(build.seal()));
            }
            open.execute(txs.clone()).await.expect("it executes");
        }
        if let Some((build, _)) = before.take() {
            build.seal().await.expect("it seals");
        }
        if let Some(sealing) = sealing {
            sealing.await.expect("no panic").expect("it seals");
        }
        let closed = open.close().await.expect("it closes");
        before = Some((open, closed.header.clone()));
        built.push(closed);
    }
    if let Some((build, _)) = before {
        build.seal().await.expect("it seals");
    }
    built
}

#[test]
fn a_random_chain_is_the_same_built_ahead() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let picks = prop::collection::vec(prop::collection::vec((any::<u8>(), any::<u8>()), 0..25), 8);
    let when = prop::collection::vec(any::<u8>(), 8);
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(6) };
    TestRunner::new(config)
        .run(&(picks, when), |(picks, when)| {
            let chain = Chain::with_spec(spec("prague", true, &contracts::all()));
            let blocks = runtime.block_on(build(&chain, &picks));
            let again = Chain::with_spec(chain.spec.clone());
            let ahead = runtime.block_on(build_ahead(&again, &blocks, &when));
            let expected: Vec<_> = blocks.into_iter().map(|(block, _)| block).collect();
            prop_assert_eq!(ahead, expected);
            Ok(())
        })
        .expect("the chains are the same");
}

//! Following the chain.

use std::sync::Arc;

use alloy::primitives::{Address, U256};
use futures::StreamExt;
use millrace_proto::{
    BlockAttributes, BlockNumHash, BlockSelector, BoxStream, ExecutedBlock, Executor,
    ExecutorError, QueueMark,
};

use crate::{
    chain::{Chain, open},
    support::wallet::Wallet,
};

async fn next(
    stream: &mut BoxStream<Arc<ExecutedBlock>, ExecutorError>,
) -> Option<Arc<ExecutedBlock>> {
    stream.next().await.map(|block| block.expect("it reads"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_reads_what_is_stored_and_then_follows() {
    let chain = Chain::new();
    let a = Wallet::new(0);
    let mut blocks = Vec::new();
    for nonce in 0..3 {
        blocks.push(chain.block(&[a.transfer(nonce, Address::ZERO, 1)]).await);
    }
    let mut stream = chain.executor.subscribe(0).await.expect("it subscribes");
    let genesis = next(&mut stream).await.expect("the genesis block");
    assert_eq!((genesis.number(), genesis.transactions.len()), (0, 0));
    for block in &blocks {
        assert_eq!(next(&mut stream).await.as_ref(), Some(block));
    }
    // From the future: nothing comes before its block does.
    let mut ahead = chain.executor.subscribe(5).await.expect("it subscribes");
    let (block, followed) = tokio::join!(chain.block(&[]), next(&mut stream));
    assert_eq!(followed, Some(block));
    let (block, first) = tokio::join!(chain.block(&[]), next(&mut ahead));
    assert_eq!(first, Some(block));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_survives_a_restart() {
    let Chain { folder, spec, executor } = Chain::new();
    let chain = Chain { folder, spec, executor };
    let first = chain.block(&[]).await;
    let second = chain.block(&[]).await;
    let mut stream = chain.executor.subscribe(1).await.expect("it subscribes");
    assert_eq!(next(&mut stream).await, Some(first));
    // A stream ends with its service, after the head.
    chain.executor.close().await;
    assert_eq!(next(&mut stream).await, Some(second.clone()));
    assert_eq!(next(&mut stream).await, None);
    drop(stream);

    let Chain { folder, spec, executor } = chain;
    drop(executor);
    let executor = open(folder.path(), &spec);
    let chain = Chain { folder, spec, executor };
    let mut stream = chain.executor.subscribe(2).await.expect("it subscribes");
    assert_eq!(next(&mut stream).await, Some(second));
    let (block, followed) = tokio::join!(chain.block(&[]), next(&mut stream));
    assert_eq!(followed, Some(block));
}

/// Blocks that are taken back are gone with all they did, and whoever follows the chain goes on with what comes in their place.
#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_goes_back_with_the_chain() {
    let chain = Chain::new();
    let (a, to) = (Wallet::new(0), Address::repeat_byte(7));
    let mut blocks = Vec::new();
    for nonce in 0..5 {
        blocks.push(chain.block(&[a.transfer(nonce, to, 1)]).await);
    }
    let [first, second] = [&blocks[0], &blocks[1]].map(|block| block.num_hash());
    let mut behind = chain.executor.subscribe(2).await.expect("it subscribes");
    assert_eq!(next(&mut behind).await.as_ref(), Some(&blocks[1]));
    let mut ahead = chain.executor.subscribe(1).await.expect("it subscribes");
    for block in &blocks {
        assert_eq!(next(&mut ahead).await.as_ref(), Some(block));
    }

    // What is not in the chain is refused, and changes nothing.
    let strange = BlockNumHash { hash: second.hash, ..first };
    let error = chain.executor.unwind(strange).await.expect_err("no such block");
    assert!(matches!(error, ExecutorError::UnknownBlock(_)), "{error}");
    assert_eq!(chain.executor.head().await.expect("head"), blocks[4].header);

    chain.executor.unwind(second).await.expect("taken back");
    chain.executor.unwind(second).await.expect("nothing to do");
    assert_eq!(chain.executor.head().await.expect("head"), blocks[1].header);
    let gone = blocks[4].transactions[0].hash();
    assert_eq!(chain.executor.locate(gone).await.expect("it answers"), None);
    let at = BlockSelector::Hash(blocks[3].hash());
    assert_eq!(chain.executor.block(at).await.expect("it answers"), None);
    let balance = async || {
        let accounts = chain.executor.accounts(&[to], BlockSelector::Latest).await;
        accounts.expect("accounts")[0].expect("it exists").balance
    };
    assert_eq!(balance().await, U256::from(2));

    let other = chain.block(&[a.transfer(2, to, 40)]).await;
    assert_eq!(other.header.parent_hash, second.hash);
    assert_eq!(balance().await, U256::from(42));
    for stream in [&mut behind, &mut ahead] {
        assert_eq!(next(stream).await.as_ref(), Some(&other));
    }

    // An open block goes too.
    let head = chain.executor.head().await.expect("head");
    let attributes =
        BlockAttributes::rollup(&chain.spec, &head, head.timestamp, QueueMark::default());
    let build = chain.executor.open_block(attributes).await.expect("it opens");
    chain.executor.unwind(first).await.expect("taken back");
    let error = build.seal().await.expect_err("it is gone");
    assert!(matches!(error, ExecutorError::BuildDiscarded), "{error}");
    let again = chain.block(&[a.transfer(1, to, 1)]).await;
    for stream in [&mut behind, &mut ahead] {
        assert_eq!(next(stream).await.as_ref(), Some(&again));
    }
}

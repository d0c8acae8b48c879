//! Following the chain.

use std::sync::Arc;

use alloy::primitives::Address;
use futures::StreamExt;
use millrace_proto::{BoxStream, ExecutedBlock, Executor, ExecutorError};

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

//! Searching for logs.

use alloy::{
    primitives::{B256, U256},
    rpc::types::Filter,
};
use millrace_proto::{Executor, ExecutorError};

use crate::{
    chain::Chain,
    support::{
        contracts::{LOG, STORE},
        wallet::Wallet,
        word,
    },
};

fn topic(value: u64) -> B256 {
    B256::from(U256::from(value))
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_found_by_address_topic_and_block() {
    let chain = Chain::new();
    let executor = &chain.executor;
    let a = Wallet::new(0);
    let log = |nonce, value| a.send(nonce, LOG, 0, 100_000, &word(value));
    chain.valid_block(&[log(0, 1)]).await;
    let second =
        chain.valid_block(&[a.transfer(1, STORE, 0), log(2, 2), log(3, 1), log(4, 2)]).await;
    chain.valid_block(&[]).await;
    chain.valid_block(&[log(5, 1)]).await;

    let find = |filter: Filter| async move { executor.logs(&filter, 100).await.expect("it finds") };
    let all = find(Filter::new().from_block(0).to_block(4)).await;
    assert_eq!(all.len(), 5);
    let ones = find(Filter::new().from_block(0).to_block(100).event_signature(topic(1))).await;
    let blocks: Vec<_> = ones.iter().map(|log| log.block_number).collect();
    assert_eq!(blocks, [Some(1), Some(2), Some(4)]);
    assert!(find(Filter::new().from_block(0).address(STORE)).await.is_empty());

    let by_hash = Filter::new().at_block_hash(second.hash()).address(LOG).event_signature(topic(2));
    let found = find(by_hash).await;
    assert_eq!(found.len(), 2);
    let last = &found[1];
    assert_eq!(last.address(), LOG);
    assert_eq!(last.topics(), [topic(2)]);
    assert_eq!(last.block_hash, Some(second.hash()));
    assert_eq!(last.block_timestamp, Some(second.header.timestamp));
    assert_eq!(last.transaction_hash, Some(second.transactions[3].hash()));
    assert_eq!((last.transaction_index, last.log_index), (Some(3), Some(2)));
    assert!(!last.removed);
}

#[tokio::test(flavor = "multi_thread")]
async fn searches_are_bounded() {
    let chain = Chain::new();
    let executor = &chain.executor;
    let a = Wallet::new(0);
    let logs: Vec<_> = (0..3).map(|nonce| a.send(nonce, LOG, 0, 100_000, &word(1))).collect();
    chain.valid_block(&logs).await;
    let all = Filter::new().from_block(0).to_block(1);
    assert_eq!(executor.logs(&all, 3).await.expect("it finds").len(), 3);
    let error = executor.logs(&all, 2).await.expect_err("too many");
    assert!(matches!(error, ExecutorError::LimitExceeded { limit: 2, .. }), "{error:?}");
    let backwards = Filter::new().from_block(1).to_block(0);
    let error = executor.logs(&backwards, 3).await.expect_err("backwards");
    assert!(matches!(error, ExecutorError::InvalidRequest(_)), "{error:?}");
    let unknown = Filter::new().at_block_hash(B256::repeat_byte(1));
    let error = executor.logs(&unknown, 3).await.expect_err("unknown");
    assert!(matches!(error, ExecutorError::UnknownBlock(_)), "{error:?}");
    // A range that begins after the head holds nothing.
    let ahead = Filter::new().from_block(7).to_block(9);
    assert!(executor.logs(&ahead, 3).await.expect("it finds").is_empty());
}

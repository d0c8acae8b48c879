//! The contract, its events and its blobs, on anvil.

mod common;

use alloy::{
    primitives::{Address, B256, U256},
    sol_types::SolCall,
};
use common::{BATCHER, COMMITTER, Chain, GENESIS, blob, header, quick};
use millrace_l1::{
    BeaconClient, BeaconError, BlobBlock, BlobProofs, L1Error, Rollup, RollupContract, RollupEvent,
    TxManagerConfig, TxManagerError, TxRequest, testing::AnvilOptions,
};
use millrace_proto::QueueEntry;

fn beacon(chain: &Chain) -> BeaconClient {
    BeaconClient::new(chain.anvil.url().clone(), std::time::Duration::from_secs(10), 1)
        .expect("client")
}

#[tokio::test]
async fn a_new_contract_tells_what_it_was_made_with() {
    let chain = Chain::start(AnvilOptions::default()).await;
    let rollup = &chain.rollup;
    assert_eq!(rollup.l2_chain_id().await.expect("id"), 42_042);
    assert_eq!(rollup.current_epoch().await.expect("epoch"), 0);
    assert_eq!(rollup.genesis_hash().await.expect("hash"), B256::repeat_byte(1));
    assert_eq!(rollup.genesis_state_root().await.expect("root"), B256::repeat_byte(2));
    assert_eq!(
        rollup.deployed_at().await.expect("block"),
        5,
        "behind the code of the four contracts"
    );
    assert_eq!(rollup.start().await.expect("start").number, 4);
    assert_eq!(rollup.batch_count().await.expect("count"), 0);
    assert_eq!(rollup.last_committed().await.expect("last"), (0, 0));

    let genesis = rollup.genesis(|json| json == GENESIS).await.expect("genesis");
    assert_eq!(genesis.as_ref(), GENESIS);
    let error = rollup.genesis(|_| false).await.expect_err("no other genesis");
    assert!(matches!(error, L1Error::GenesisMissing { .. }), "{error}");

    let nowhere = RollupContract::new(chain.client().clone(), Address::repeat_byte(9));
    let error = nowhere.deployed_at().await.expect_err("no contract");
    assert!(matches!(error, L1Error::NoContract { .. }), "{error}");
}

#[tokio::test]
async fn a_batch_is_posted_read_back_and_committed() {
    for (hardfork, proofs) in [(None, BlobProofs::Auto), (Some("prague"), BlobProofs::Blob)] {
        let options =
            AnvilOptions { hardfork: hardfork.map(str::to_owned), ..AnvilOptions::default() };
        let chain = Chain::start(options).await;
        let dir = tempfile::tempdir().expect("folder");
        let config = TxManagerConfig { blob_proofs: proofs, ..quick() };
        let batcher = chain.manager(BATCHER, &dir.path().join("batcher"), config).await;
        let blobs = vec![blob(1), blob(2)];
        let posted = batcher.send(chain.post(1, blobs.clone())).await.expect("posted");
        assert_eq!((posted.nonce, posted.attempts), (0, 1));
        assert_eq!(posted.blob_gas_used, 2 * 131_072);
        assert!(posted.fee_paid > U256::ZERO);
        assert_eq!(chain.rollup.batch_count().await.expect("count"), 1);

        let head = chain.client().head().await.expect("head");
        let events = chain.rollup.events(0, head.number).await.expect("events");
        let [RollupEvent::Posted(batch)] = events.as_slice() else { panic!("{events:?}") };
        assert_eq!(batch.header, header(1));
        assert_eq!(batch.l1, posted.l1);
        assert_eq!(batch.l1_timestamp, head.timestamp);
        assert_eq!(batch.batch_hash, chain.rollup.batch_hash(1).await.expect("hash"));
        assert_eq!(batch.blob_hashes.len(), 2);

        let block = BlobBlock { number: batch.l1.block.number, timestamp: batch.l1_timestamp };
        let beacon = beacon(&chain);
        assert_eq!(beacon.blobs(block, &batch.blob_hashes).await.expect("blobs"), blobs);
        let reversed: Vec<B256> = batch.blob_hashes.iter().rev().copied().collect();
        let back = beacon.blobs(block, &reversed).await.expect("blobs");
        assert!(back == [blob(2), blob(1)], "blobs come in the order in which they are asked for");
        let unknown = beacon.blobs(block, &[B256::repeat_byte(1)]).await.expect_err("unknown hash");
        assert!(
            matches!(unknown, BeaconError::BlobMissing { .. } | BeaconError::Mismatch { .. }),
            "{unknown}"
        );

        commits_and_finalizes(&chain, &dir.path().join("committer"), batch.batch_hash).await;
    }
}

async fn commits_and_finalizes(chain: &Chain, dir: &std::path::Path, batch_hash: B256) {
    let committer = chain.manager(COMMITTER, dir, quick()).await;
    let call = Rollup::commitBatchCall {
        number: 1,
        batchHash: batch_hash,
        firstBlock: 1,
        lastBlock: 10,
        lastBlockHash: B256::repeat_byte(3),
        stateRoot: B256::repeat_byte(4),
        messageRoot: B256::repeat_byte(5),
        proof: Default::default(),
    };
    let request = TxRequest::call("commit-1", chain.rollup.address(), call.abi_encode());
    let committed = committer.send(request.clone()).await.expect("committed");
    assert_eq!(chain.rollup.last_committed().await.expect("last"), (1, 10));

    let block = committed.l1.block.number;
    let events = chain.rollup.events(block, block).await.expect("events");
    let [RollupEvent::Committed(commitment)] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!(
        (commitment.batch, commitment.batch_hash, commitment.l1),
        (1, batch_hash, committed.l1)
    );
    assert_eq!((commitment.first_block, commitment.last_block), (1, 10));
    assert_eq!(commitment.state_root, B256::repeat_byte(4));

    assert!(!chain.rollup.is_final(commitment).await.expect("final"));
    chain.anvil.rpc("evm_increaseTime", serde_json::json!([60])).await.expect("time");
    chain.anvil.mine(1).await.expect("mine");
    assert!(chain.rollup.is_final(commitment).await.expect("final"));

    // The same id leads to the same transaction, and the same call under another id would revert.
    assert_eq!(committer.send(request.clone()).await.expect("known").l1, committed.l1);
    let again = TxRequest { id: "commit-1-again".to_owned(), ..request.clone() };
    let error = committer.send(again).await.expect_err("committed already");
    let TxManagerError::WouldRevert { reason, .. } = &error else { panic!("{error:?}") };
    assert_eq!(reason.rollup_error_name(), Some("BatchNotAfterLastCommitted"));
    assert!(error.to_string().contains("BatchNotAfterLastCommitted"), "{error}");
    let other = TxRequest { value: U256::ONE, ..request };
    let error = committer.send(other).await.expect_err("another call");
    assert!(matches!(error, TxManagerError::IdInUse { .. }), "{error}");
}

#[tokio::test]
async fn deposits_are_read_with_their_accumulator_in_pieces() {
    let chain = Chain::start(AnvilOptions::default()).await;
    for index in 0..7u64 {
        chain.deposit(Address::repeat_byte(7), 100 + index).await;
    }
    let head = chain.client().head().await.expect("head").number;
    // One block at a time has to give the same as all at once.
    let options = millrace_l1::ClientOptions { log_range: 1, ..*chain.client().options() };
    let narrow = millrace_l1::L1Client::new(chain.anvil.url().clone(), options).expect("client");
    let narrow = RollupContract::new(narrow, chain.rollup.address());
    let events = chain.rollup.events(0, head).await.expect("events");
    assert_eq!(narrow.events(0, head).await.expect("events"), events);

    let mut before = B256::ZERO;
    for (index, event) in events.iter().enumerate() {
        let RollupEvent::Queued { entry, accumulator, .. } = event else { panic!("{event:?}") };
        let QueueEntry::Deposit(deposit) = entry else { panic!("{entry:?}") };
        assert_eq!(deposit.index, index as u64);
        assert_eq!(deposit.value, U256::from(100 + index));
        assert_eq!(deposit.to, Address::repeat_byte(7));
        assert_eq!(entry.accumulate(before), *accumulator);
        let count = deposit.index + 1;
        assert_eq!(
            chain.rollup.deposit_accumulator(count).await.expect("accumulator"),
            *accumulator
        );
        before = *accumulator;
    }
    assert_eq!(events.len(), 7);
    assert_eq!(chain.rollup.deposit_count().await.expect("count"), 7);
}

//! The contract, its events and its blobs, on anvil.

mod common;

use alloy::{
    primitives::{Address, B256, U256},
    sol_types::SolCall,
};
use common::{BATCHER, COMMITTER, Chain, GENESIS, USER, blob, header, quick};
use millrace_l1::{
    BeaconClient, BeaconError, BlobBlock, BlobProofs, L1Error, L1Follower, L1Signer, OneCall,
    Rollup, RollupContract, RollupEvent, TxManagerConfig, TxManagerError, TxRequest, submit_once,
    testing::{AnvilOptions, SilentToken, dev_signer},
};
use millrace_proto::{ErrorClass, QueueEntry};

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

/// Code that answers 3 to whatever it is asked, and code that reverts.
const ANSWERS_3: &str = "0x60035f5260205ff3";
const REVERTS: &str = "0x5f5ffd";

#[tokio::test]
async fn a_contract_of_another_version_is_refused() {
    let chain = Chain::start(AnvilOptions::default()).await;
    let (client, address) = (chain.client(), chain.rollup.address());
    chain.rollup.check_version().await.expect("the version that is deployed");

    let put = async |code: &str| {
        chain.anvil.rpc("anvil_setCode", serde_json::json!([address, code])).await.expect("code")
    };
    put(ANSWERS_3).await;
    let upgraded = RollupContract::new(client.clone(), address);
    let error = upgraded.check_version().await.expect_err("another version");
    let L1Error::UnknownVersion { version: 3, known: 2, .. } = &error else { panic!("{error:?}") };
    assert_eq!(error.class(), ErrorClass::Fatal);
    assert!(error.to_string().contains("has version 3"), "{error}");
    // Whatever it says of the chain.
    let error = upgraded.l2_chain_id().await.expect_err("another version");
    assert!(matches!(error, L1Error::UnknownVersion { .. }), "{error}");
    let error = L1Follower::from_start(upgraded).await.expect_err("another version");
    assert!(matches!(error, L1Error::UnknownVersion { .. }), "{error}");

    put(REVERTS).await;
    let other = RollupContract::new(client.clone(), address);
    let error = other.check_version().await.expect_err("another contract");
    assert!(matches!(error, L1Error::NoContract { .. }), "{error}");
}

#[tokio::test]
async fn tokens_that_grant_no_second_allowance_are_deposited() {
    let chain = Chain::start(AnvilOptions::default()).await;
    let (client, signer) = (chain.client(), L1Signer::from(dev_signer(USER)));
    let bridge = chain.rollup.token_bridge().await.expect("bridge");
    let user = signer.address();
    let send = async |call: OneCall| {
        let patience = std::time::Duration::from_secs(30);
        submit_once(client, &signer, call, patience).await
    };
    let deployed = send(OneCall::create(SilentToken::BYTECODE.clone())).await.expect("token");
    let token = deployed.contract_address.expect("address");
    let call = |input: Vec<u8>| OneCall::new(token, input);
    let mint = SilentToken::mintCall { to: user, amount: U256::from(1_000) };
    send(call(mint.abi_encode())).await.expect("minted");
    let approve = |amount: u64| {
        SilentToken::approveCall { spender: bridge, amount: U256::from(amount) }.abi_encode()
    };
    send(call(approve(7))).await.expect("approved");
    let error = send(call(approve(8))).await.expect_err("one stands");
    assert!(matches!(error, L1Error::Reverted { .. }), "{error}");

    // More than stands, none standing, exactly as much as stands, and less.
    let allowance = SilentToken::allowanceCall { account: user, spender: bridge };
    for (index, (standing, amount, left)) in
        [(7, 100, 0), (0, 100, 0), (50, 50, 0), (50, 20, 30)].into_iter().enumerate()
    {
        if standing > 0 && index > 0 {
            send(call(approve(standing))).await.expect("approved");
        }
        let before = client.nonce(user).await.expect("nonce");
        let deposited = chain.rollup.deposit_tokens(&signer, token, user, U256::from(amount)).await;
        assert_eq!(deposited.expect("deposited").0, index as u64);
        let sent = client.nonce(user).await.expect("nonce") - before;
        assert_eq!(sent, [3, 2, 1, 1][index], "transactions of deposit {index}");
        let stands = client.call(token, &allowance).await.expect("allowance");
        assert_eq!(stands, U256::from(left));
    }
    // A token that refuses for another reason says so.
    let error = chain.rollup.deposit_tokens(&signer, token, user, U256::from(10_000)).await;
    assert!(matches!(error, Err(L1Error::Reverted { .. })), "{error:?}");
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

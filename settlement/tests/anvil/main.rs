//! The settlement service and `verify_chain` on a real L1 (anvil) with the real contract.

mod lies;
#[path = "../support/mod.rs"]
mod support;
mod world;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use alloy::{
    primitives::{B256, Bytes},
    sol_types::SolCall,
};
use millrace_l1::{
    FinalityRule, Rollup, RollupEvent, TxRequest,
    testing::{Anvil, AnvilOptions, Fault, dev_signer, test_patience},
};
use millrace_proto::{Settlement, SettlementError, message_root};
use millrace_settlement::{HaltReason, VerifyError, VerifyInput, VerifyTarget, verify_chain};
use serde_json::json;
use support::{MESSENGER, TestReplay, transfer};
use world::{CHALLENGE_WINDOW, COMMITTER, OBJECTIONS, OWNER, World, deploy, manager};

#[tokio::test(flavor = "multi_thread")]
async fn batches_are_verified_committed_finalized_and_rebuilt_from_l1() {
    let world = World::start().await;
    world.sequence(3);
    world.deposit().await;
    world.sequence(2);
    world.post(1, 3).await;
    world.post(4, 5).await;
    let running = world.settle(TestReplay::new()).await;
    running.committed(2).await;
    world.post(6, 6).await;
    let status = running.committed(3).await;
    assert_eq!(status.finalized, None);
    assert!(!status.l1_fees.is_zero());

    world.pass_window().await;
    let status = running.wait(|status| status.finalized.is_some_and(|at| at.batch == 3)).await;
    assert_eq!(status.finalized.and_then(|at| at.last_block_hash), Some(world.chain.head().hash()));
    let record = running.handle.batch_of_block(4).await.expect("answers").expect("it is posted");
    assert_eq!((record.number, record.first_block, record.last_block), (2, 4, 5));
    assert!(record.finalized && record.committed.is_some());
    assert_eq!(running.handle.batch_of_block(7).await.expect("answers"), None);
    running.stop().await;

    for until in [VerifyTarget::Latest, VerifyTarget::Finalized] {
        let report = world.verify(until).await.expect("a right chain");
        assert_eq!((report.blocks, report.transactions), (6, 7));
        assert_eq!((report.batches, report.commitments, report.deposits), (3, 3, 1));
        assert_eq!(report.head.hash, world.chain.head().hash());
        assert_eq!(report.finalized.map(|at| at.batch), Some(3));
        assert!(report.skipped.is_empty());
    }

    // The message root is over the batch's messages alone.
    let start = world.rollup.deployed_at().await.expect("answers");
    let head = world.anvil.client().head().await.expect("answers").number;
    let roots: Vec<B256> = world
        .rollup
        .events(start, head)
        .await
        .expect("answers")
        .into_iter()
        .filter_map(|event| match event {
            RollupEvent::Committed(commitment) => Some(commitment.message_root),
            _ => None,
        })
        .collect();
    let root_over = |nonces: &[u64]| {
        let ids: Vec<_> = nonces.iter().map(|&nonce| transfer(nonce, MESSENGER).hash()).collect();
        message_root(&ids)
    };
    assert_eq!(roots, [root_over(&[0, 2]), root_over(&[99, 4]), B256::ZERO]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_commits_nothing_twice() {
    let world = World::start().await;
    world.sequence(4);
    world.post(1, 2).await;
    let replay = TestReplay::new();
    let replayed = replay.chain.clone();
    let running = world.settle(replay).await;
    running.committed(1).await;
    running.stop().await;

    world.post(3, 4).await;
    let replay = TestReplay::over(replayed.clone());
    let executed = Arc::clone(&replay.executed);
    let running = world.settle(replay).await;
    assert_eq!(running.handle.status().committed.map(|at| at.batch), Some(1), "remembered");
    running.committed(2).await;
    running.stop().await;
    assert_eq!(*executed.lock().expect("not poisoned"), 2, "only what is new");

    // Without its database the service reads L1 again, and finds everything done.
    std::fs::remove_dir_all(world.dir.path().join("settlement")).expect("removes");
    let running = world.settle(TestReplay::over(replayed)).await;
    running.committed(2).await;
    running.stop().await;
    assert_eq!(world.commitments().await, [1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_l1_reorg_takes_is_committed_again() {
    let world = World::start().await;
    world.sequence(4);
    world.post(1, 2).await;
    let running = world.settle(TestReplay::new()).await;
    running.committed(1).await;
    let before = world.anvil.client().head().await.expect("answers").number;
    world.post(3, 4).await;
    running.committed(2).await;
    let head = world.anvil.client().head().await.expect("answers").number;

    // Takes the second post and its commitment; then the post comes back.
    world.anvil.reorg(head - before).await.expect("reorgs");
    world.anvil.mine(1).await.expect("mines");
    running.wait(|status| status.posted.is_some_and(|at| at.batch == 1)).await;
    world.post(3, 4).await;
    let status = running.committed(2).await;
    assert_eq!(status.halted, None);
    running.stop().await;
    assert_eq!(world.commitments().await, [1, 2]);
    let report = world.verify(VerifyTarget::Latest).await.expect("a right chain");
    assert_eq!((report.batches, report.commitments, report.blocks), (2, 2, 4));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_batch_is_skipped_by_everyone() {
    let world = World::start().await;
    world.sequence(4);
    world.post(1, 2).await;
    let nonsense = Bytes::from_static(b"this is no batch");
    world.reader.publish(nonsense.clone());
    world.post_bytes(3, 4, &nonsense).await;
    world.post(3, 4).await;
    let running = world.settle(TestReplay::new()).await;
    let status = running.committed(3).await;
    assert_eq!(status.posted.map(|at| at.batch), Some(3));
    let record = running.handle.batch_of_block(3).await.expect("answers").expect("it is posted");
    assert_eq!(record.number, 3);
    let end = async |batch| {
        let verdict = running.handle.verdict(batch).await.expect("answers")?;
        assert_eq!(verdict.batch_hash, world.rollup.batch_hash(batch).await.expect("answers"));
        Some(verdict.end)
    };
    assert_eq!(end(3).await, Some(Ok(world.chain.head().num_hash())));
    assert!(end(2).await.is_some_and(|end| end.is_err()));
    assert_eq!(end(4).await, None);
    running.stop().await;
    assert_eq!(world.commitments().await, [1, 3]);
    let report = world.verify(VerifyTarget::Latest).await.expect("a right chain");
    assert_eq!(report.skipped.iter().map(|batch| batch.number).collect::<Vec<_>>(), [2]);
    assert_eq!((report.batches, report.commitments, report.blocks), (3, 2, 4));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_commitment_halts_the_service_and_fails_verification() {
    let world = World::start().await;
    world.sequence(2);
    world.post(1, 2).await;
    let committer = manager(&world.anvil, COMMITTER, &world.dir.path().join("rogue")).await;
    let call = Rollup::commitBatchCall {
        number: 1,
        batchHash: world.rollup.batch_hash(1).await.expect("answers"),
        firstBlock: 1,
        lastBlock: 2,
        lastBlockHash: world.chain.head().hash(),
        stateRoot: B256::repeat_byte(0xee),
        messageRoot: B256::ZERO,
        proof: Bytes::new(),
    };
    let request = TxRequest::call("rogue", world.rollup.address(), call.abi_encode());
    committer.send(request).await.expect("commits");

    let running = world.settle(TestReplay::new()).await;
    running.wait(|status| status.halted.is_some()).await;
    let reason = running.handle.halted().expect("it says why");
    assert!(
        matches!(&*reason, HaltReason::WrongCommitment { batch: 1, field: "state root", .. }),
        "{reason}"
    );
    running.stop().await;
    match world.verify(VerifyTarget::Latest).await {
        Err(VerifyError::Differs(difference)) => {
            assert_eq!(difference.what, "state root");
            assert_eq!(difference.at, "the commitment of batch 1");
            assert_eq!(difference.got, B256::repeat_byte(0xee).to_string());
        }
        other => panic!("a difference expected, got {other:?}"),
    }
    // Blocks are what the batches make them, whatever somebody has committed to.
    let input = world.verify_input(world.rollup.clone());
    let rebuilt = verify_chain(VerifyInput { commitments: false, ..input }, |_| {}).await;
    assert_eq!(rebuilt.expect("a right chain").head.number, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commitment_that_the_guardian_reverts_is_not_made_again() {
    let world = World::start().await;
    world.sequence(2);
    world.post(1, 2).await;
    let running = world.settle(TestReplay::new()).await;
    running.committed(1).await;
    let start = world.rollup.deployed_at().await.expect("answers");
    let head = world.anvil.client().head().await.expect("answers").number;
    let commitment = world
        .rollup
        .events(start, head)
        .await
        .expect("answers")
        .into_iter()
        .find_map(|event| match event {
            RollupEvent::Committed(commitment) => Some(commitment),
            _ => None,
        })
        .expect("it is committed");
    let none = Rollup::Commitment {
        number: 0,
        previous: 0,
        batchHash: B256::ZERO,
        firstBlock: 0,
        lastBlock: 0,
        lastBlockHash: B256::ZERO,
        stateRoot: B256::ZERO,
        messageRoot: B256::ZERO,
        committedAt: 0,
        finalAt: 0,
    };
    let call = Rollup::revertCommitmentsCall { firstReverted: (&commitment).into(), newLast: none };
    let guardian = manager(&world.anvil, OWNER, &world.dir.path().join("guardian")).await;
    let request = TxRequest::call("revert-1", world.rollup.address(), call.abi_encode());
    guardian.send(request).await.expect("reverts");
    let status = running.wait(|status| status.halted.is_some()).await;
    assert_eq!(status.committed, None);
    let reason = running.handle.halted().expect("it says why");
    assert!(matches!(&*reason, HaltReason::CommitmentReverted { batch: 1 }), "{reason}");
    running.stop().await;
    assert_eq!(world.commitments().await, [1], "once");
}

/// The accounts of three verifiers.
const VERIFIERS: [u32; 3] = [5, 6, 7];

#[tokio::test(flavor = "multi_thread")]
async fn enough_verifiers_have_to_sign_what_is_committed() {
    let mut members: Vec<_> = VERIFIERS.map(|account| dev_signer(account).address()).into();
    members.sort_unstable();
    let delay = CHALLENGE_WINDOW;
    let world = World::with(FinalityRule::Attestation { members, threshold: 2, delay }).await;
    world.sequence(4);
    world.post(1, 2).await;
    let (first, first_peer) = world.verifier(VERIFIERS[0]).await;
    // One signature, and that of somebody who does not count, are not enough.
    let (stranger, strange_peer) = world.verifier(3).await;
    let few = vec![first_peer.clone(), strange_peer, first_peer.clone()];
    let running = world.settle_with(world.rollup.clone(), TestReplay::new(), few).await;
    let status = running
        .wait(|status| {
            let why = status.halted.as_deref().unwrap_or_default();
            why.contains("1 of the 2 signatures") && why.contains("none of the accounts")
        })
        .await;
    assert_eq!(status.committed, None);
    running.stop().await;
    stranger.stop().await;

    let (second, second_peer) = world.verifier(VERIFIERS[2]).await;
    let peers = vec![second_peer, first_peer];
    let running = world.settle_with(world.rollup.clone(), TestReplay::new(), peers).await;
    running.committed(1).await;
    world.post(3, 4).await;
    running
        .wait(|status| status.committed.is_some_and(|at| at.batch == 2) && status.halted.is_none())
        .await;
    assert_eq!(world.commitments().await, [1, 2]);
    // A committing service itself signs nothing.
    let error = running.handle.attest(1).await.expect_err("it is no verifier");
    assert!(matches!(error, SettlementError::NotAVerifier), "{error}");
    for running in [running, first, second] {
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_shows_until_it_ends() {
    let world = World::start().await;
    world.sequence(2);
    world.post(1, 2).await;
    let guardian = manager(&world.anvil, OWNER, &world.dir.path().join("guardian")).await;
    let call = async |id: &str, call: Vec<u8>| {
        let request = TxRequest::call(id, world.rollup.address(), call);
        guardian.send(request).await.expect("the guardian may");
    };
    call("pause", Rollup::pauseCall {}.abi_encode()).await;
    let running = world.settle(TestReplay::new()).await;
    let status = running.wait(|status| status.halted.is_some()).await;
    assert!(status.halted.is_some_and(|why| why.contains("paused")));
    assert!(running.handle.halted().is_none());
    call("unpause", Rollup::unpauseCall {}.abi_encode()).await;
    running.wait(|status| status.committed.is_some() && status.halted.is_none()).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_the_l1_node_left_out_is_found_again() {
    let world = World::start().await;
    world.sequence(6);
    world.post(1, 2).await;
    let forget = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&forget);
    let script = move |_, method: &str| {
        let forget = method == "eth_getLogs" && told.load(Ordering::SeqCst);
        if forget { Fault::Result(json!([])) } else { Fault::None }
    };
    let (_proxy, rollup) = world.behind(test_patience(), script).await;
    let running = world.settle_through(rollup, TestReplay::new()).await;
    running.committed(1).await;

    forget.store(true, Ordering::SeqCst);
    world.post(3, 4).await;
    running.followed(&world).await;
    forget.store(false, Ordering::SeqCst);
    world.post(5, 6).await;
    running.committed(3).await;

    forget.store(true, Ordering::SeqCst);
    world.deposit().await;
    running.followed(&world).await;
    forget.store(false, Ordering::SeqCst);
    world.post(7, 7).await;
    let status = running.committed(4).await;
    assert_eq!(status.halted, None);
    running.stop().await;
    assert_eq!(world.commitments().await, [1, 2, 3, 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_l1_that_has_started_anew_halts_the_service_until_it_is_back() {
    let world = World::start().await;
    world.sequence(4);
    world.post(1, 2).await;
    let args = vec!["--timestamp".to_owned(), "1700000000".to_owned()];
    let other = Anvil::start(AnvilOptions { args, ..AnvilOptions::default() }).expect("anvil");
    other.mine(10).await.expect("mines");
    let block = json!(["latest", false]);
    let first = other.rpc("eth_getBlockByNumber", block).await.expect("answers");
    let lost = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&lost);
    // A chain without a contract.
    let script = move |_, method: &str| match method {
        _ if !told.load(Ordering::SeqCst) => Fault::None,
        "eth_getBlockByNumber" => Fault::Result(first.clone()),
        "eth_call" => Fault::Result(json!("0x")),
        _ => Fault::None,
    };
    let (_proxy, rollup) = world.behind(test_patience(), script).await;
    let running = world.settle_through(rollup, TestReplay::new()).await;
    running.committed(1).await;

    lost.store(true, Ordering::SeqCst);
    let status = running.wait(|status| status.halted.is_some()).await;
    let reason = status.halted.expect("it says why");
    assert!(reason.contains("there is no rollup contract"), "{reason}");
    assert_eq!(status.posted.map(|at| at.batch), Some(1), "nothing is forgotten");

    lost.store(false, Ordering::SeqCst);
    running.wait(|status| status.halted.is_none()).await;
    world.post(3, 4).await;
    running.committed(2).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_l1_without_the_block_that_was_final_is_no_reorg() {
    let world = World::start().await;
    world.sequence(4);
    world.post(1, 2).await;
    let args = vec!["--timestamp".to_owned(), "1700000000".to_owned()];
    let other = Anvil::start(AnvilOptions { args, ..AnvilOptions::default() }).expect("anvil");
    assert_eq!(deploy(&other, &world.chain, OBJECTIONS).await, world.rollup.address());
    other.mine(50).await.expect("mines");
    let (replaced, url) = (Arc::new(AtomicBool::new(false)), other.url().clone());
    let told = Arc::clone(&replaced);
    let script = move |_, _: &str| {
        if told.load(Ordering::SeqCst) { Fault::Elsewhere(url.clone()) } else { Fault::None }
    };
    let (_proxy, rollup) = world.behind(test_patience(), script).await;
    let running = world.settle_through(rollup, TestReplay::new()).await;
    running.committed(1).await;

    replaced.store(true, Ordering::SeqCst);
    // The follower that saw the old L1 notices at once; the one that starts after it has to notice too.
    let lost = "which it had called final";
    let status =
        running.wait(|status| status.halted.as_ref().is_some_and(|why| why.contains(lost))).await;
    assert_eq!(status.posted.map(|at| at.batch), Some(1), "nothing is forgotten");

    replaced.store(false, Ordering::SeqCst);
    running.wait(|status| status.halted.is_none()).await;
    world.post(3, 4).await;
    running.committed(2).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_committer_account_shows_until_it_is_funded() {
    let world = World::start().await;
    world.sequence(2);
    world.post(1, 2).await;
    let account = dev_signer(COMMITTER).address();
    let set = async |wei: &str| {
        world.anvil.rpc("anvil_setBalance", json!([account, wei])).await.expect("answers");
        // A block's state root is over what was set before it.
        world.anvil.mine(1).await.expect("mines");
    };
    set("0x0").await;
    let running = world.settle(TestReplay::new()).await;
    let status = running.wait(|status| status.halted.is_some()).await;
    let reason = status.halted.expect("it says why");
    assert!(reason.contains(&format!("Fund {account}")), "{reason}");
    running.wait(|status| status.verified.is_some()).await;

    set("0xde0b6b3a7640000").await;
    running
        .wait(|status| status.halted.is_none() && status.committed.is_some_and(|at| at.batch == 1))
        .await;
    running.stop().await;
}

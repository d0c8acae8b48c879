//! Every reason for which a transaction is refused.

use std::{sync::Arc, time::Duration};

use alloy::{
    consensus::{TxEip1559, TxEip7702, TxLegacy},
    eips::eip7702::Authorization,
    primitives::{Address, Bytes, TxKind, U256},
    signers::SignerSync,
};
use futures::{FutureExt, future::join_all};
use millrace_proto::{PoolStatus, RecoveredTx, RejectReason as R, Sequencer, SubmitError, TxPool};
use parking_lot::RwLock;

use crate::{
    faults::{Fault, FaultyLog, How, Place},
    support::{CHAIN_ID, CONTRACT, GWEI, POOR, Setup, hash_of, sign, signer, soon, transfer},
};

/// A transaction whose signature nobody can have made: the last bytes are its s, and a large one breaks EIP-2.
fn badly_signed(good: &Bytes) -> Bytes {
    let mut broken = good.to_vec();
    let at = broken.len() - 32;
    broken[at..].fill(0xfe);
    broken.into()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_needs_no_state() {
    let mut setup = Setup::new();
    setup.config.max_transaction_bytes = 60_000;
    let node = setup.start().await;
    let key = signer(0);
    let good = sign(&key, transfer(0));

    for bytes in [vec![], vec![0x02], vec![0xc0], vec![0x80], [&good[..], &[0]].concat()] {
        let reason = node.refusal(bytes.into()).await;
        assert!(matches!(reason, R::BadEncoding { .. }), "{reason:?}");
    }
    let oversize = TxEip1559 { input: vec![0; 60_000].into(), ..transfer(0) };
    let raw = sign(&key, oversize);
    let size = raw.len() as u64;
    assert_eq!(node.refusal(raw).await, R::Oversize { size, limit: 60_000 });
    for ty in [0x00, 0x03, 0x05, 0x7e] {
        let reason = node.refusal(vec![ty, 0xc0].into()).await;
        assert_eq!(reason, R::UnsupportedType { ty });
    }
    let other_chain = sign(&key, TxEip1559 { chain_id: 1, ..transfer(0) });
    let expected = CHAIN_ID;
    assert_eq!(node.refusal(other_chain).await, R::WrongChainId { got: 1, expected });
    let unprotected = TxLegacy { gas_price: 100 * GWEI, gas_limit: 21_000, ..TxLegacy::default() };
    assert_eq!(node.refusal(sign(&key, unprotected)).await, R::Unprotected);
    let tip = TxEip1559 { max_priority_fee_per_gas: 200 * GWEI, ..transfer(0) };
    let reason = node.refusal(sign(&key, tip)).await;
    assert_eq!(reason, R::TipAboveMaxFee { tip: 200 * GWEI, max_fee: 100 * GWEI });
    let cheap = TxEip1559 { max_fee_per_gas: 1_000, max_priority_fee_per_gas: 0, ..transfer(0) };
    let reason = node.refusal(sign(&key, cheap)).await;
    assert!(
        matches!(reason, R::FeeBelowFloor { got: 1_000, floor } if floor > 900_000_000),
        "{reason:?}"
    );
    let gas = TxEip1559 { gas_limit: 30_000_001, ..transfer(0) };
    let reason = node.refusal(sign(&key, gas)).await;
    assert_eq!(reason, R::GasOverLimit { got: 30_000_001, limit: 30_000_000 });
    let gas = TxEip1559 { gas_limit: 20_999, ..transfer(0) };
    let reason = node.refusal(sign(&key, gas)).await;
    assert_eq!(reason, R::IntrinsicGas { got: 20_999, required: 21_000 });
    let init = TxEip1559 {
        to: TxKind::Create,
        input: vec![0; 49_153].into(),
        gas_limit: 10_000_000,
        ..transfer(0)
    };
    let reason = node.refusal(sign(&key, init)).await;
    assert_eq!(reason, R::InitCodeTooLarge { size: 49_153, limit: 49_152 });
    let nonce = sign(&key, transfer(u64::MAX));
    assert!(matches!(node.refusal(nonce).await, R::Invalid { .. }));
    let delegation = TxEip7702 {
        chain_id: CHAIN_ID,
        gas_limit: 100_000,
        max_fee_per_gas: GWEI * 100,
        ..TxEip7702::default()
    };
    assert!(matches!(node.refusal(sign(&key, delegation)).await, R::Invalid { .. }));

    let reason = node.refusal(badly_signed(&good)).await;
    assert!(matches!(reason, R::BadSignature { .. }), "{reason:?}");

    let pool = node.handle.pool_status().await.expect("status");
    assert_eq!(pool, PoolStatus::default(), "a refusal has no effect");
    node.stop().await.expect("a clean end");
}

/// The same with another r, that is no point's x.
fn unsigned(good: &Bytes) -> Bytes {
    let mut changed = good.to_vec();
    // In front of s and the byte that tells its length.
    let at = changed.len() - 34;
    while RecoveredTx::decode(changed.clone().into()).is_ok() {
        changed[at] = changed[at].wrapping_add(1);
    }
    changed.into()
}

/// More than one thread takes at a time, so that several batches have some of everything.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_submitted_together_is_answered_in_order() {
    let mut setup = Setup::new();
    let node = setup.start().await;
    let known = sign(&signer(1), transfer(0));
    let known_hash = node.submit(known.clone()).await.expect("accepted");
    let mut raw = Vec::new();
    for nonce in 0..25 {
        let good = sign(&signer(0), transfer(nonce));
        raw.extend([good.clone(), known.clone(), Bytes::from_static(&[0x02]), unsigned(&good)]);
    }
    let results = node.handle.submit_many(raw.clone()).await;
    assert_eq!(results.len(), raw.len());
    for (at, (raw, result)) in raw.iter().zip(results).enumerate() {
        match (at % 4, result) {
            (0, Ok(hash)) => assert_eq!(hash, hash_of(raw)),
            (1, Err(SubmitError::Rejected(R::AlreadyKnown { hash }))) => {
                assert_eq!(hash, known_hash);
            }
            (2, Err(SubmitError::Rejected(R::BadEncoding { .. })))
            | (3, Err(SubmitError::Rejected(R::BadSignature { .. }))) => {}
            (_, other) => panic!("{at}: {other:?}"),
        }
    }
    node.stop().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_needs_the_senders_state() {
    let mut setup = Setup::new();
    setup.config.pool.max_nonce_gap = 4;
    let node = setup.start().await;
    let key = signer(0);

    let sender = signer(CONTRACT).address();
    let reason = node.refusal(sign(&signer(CONTRACT), transfer(0))).await;
    assert_eq!(reason, R::SenderIsContract { sender });
    let sender = signer(POOR).address();
    let reason = node.refusal(sign(&signer(POOR), transfer(0))).await;
    let cost = U256::from(21_000 * 100 * GWEI + 1);
    assert_eq!(reason, R::InsufficientFunds { sender, balance: U256::from(1), cost });
    let reason = node.refusal(sign(&key, transfer(5))).await;
    assert_eq!(reason, R::NonceTooFar { got: 5, expected: 0, limit: 4 });

    let first = sign(&key, transfer(0));
    let hash = node.submit(first.clone()).await.expect("accepted");
    assert_eq!(hash, hash_of(&first));
    node.sequenced(hash).await;
    assert_eq!(node.refusal(first).await, R::AlreadyKnown { hash });
    let other = sign(&key, TxEip1559 { value: U256::from(7), ..transfer(0) });
    assert_eq!(node.refusal(other).await, R::NonceTooLow { got: 0, expected: 1 });
    node.stop().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn funds_cover_everything_that_waits() {
    let mut setup = Setup::new();
    let node = setup.start().await;
    let key = signer(0);
    let most = |nonce| TxEip1559 { value: U256::from(6 * 10_u128.pow(20)), ..transfer(nonce) };
    // The first waits for nonce 0, so both are in the pool together.
    node.submit(sign(&key, most(1))).await.expect("accepted");
    let reason = node.refusal(sign(&key, most(2))).await;
    assert!(matches!(reason, R::InsufficientFunds { .. }), "{reason:?}");
    node.stop().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_pool_takes_nothing() {
    let mut setup = Setup::new();
    setup.config.pool.max_transactions = 3;
    setup.config.pool.max_per_sender = 2;
    let node = setup.start().await;
    for nonce in [1, 2] {
        node.submit(sign(&signer(0), transfer(nonce))).await.expect("accepted");
    }
    let reason = node.refusal(sign(&signer(0), transfer(3))).await;
    assert_eq!(reason, R::PoolFull { limit: 2 });
    node.submit(sign(&signer(1), transfer(1))).await.expect("accepted");
    let reason = node.refusal(sign(&signer(2), transfer(1))).await;
    assert_eq!(reason, R::PoolFull { limit: 3 });
    let known = sign(&signer(1), transfer(1));
    assert_eq!(node.refusal(known.clone()).await, R::AlreadyKnown { hash: hash_of(&known) });
    // Where nothing else waits, it is found out what a transaction is.
    let bad = badly_signed(&sign(&signer(2), transfer(0)));
    assert!(matches!(node.refusal(bad.clone()).await, R::BadSignature { .. }));
    let more = TxEip1559 {
        max_fee_per_gas: 200 * GWEI,
        max_priority_fee_per_gas: 2 * GWEI,
        ..transfer(1)
    };
    let known = sign(&signer(1), more);
    node.submit(known.clone()).await.expect("a replacement needs no room");
    // Where others wait, it is not, but for what is known.
    let mut many = vec![bad; 8_000];
    many.insert(0, known.clone());
    let results = node.handle.submit_many(many).await;
    assert!(
        matches!(results[0], Err(SubmitError::Rejected(R::AlreadyKnown { .. }))),
        "{:?}",
        results[0]
    );
    let is_full = |result: &&Result<_, _>| {
        matches!(result, Err(SubmitError::Rejected(R::PoolFull { limit: 3 })))
    };
    assert!(results.iter().filter(is_full).count() > 4_000);
    let status = node.handle.pool_status().await.expect("status");
    assert_eq!(status, PoolStatus { pending: 0, queued: 3 });
    node.stop().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replacement_offers_a_tenth_more() {
    let mut setup = Setup::new();
    setup.config.pool.queued_lifetime = Duration::from_secs(600);
    let node = setup.start().await;
    let key = signer(0);
    let old = node.submit(sign(&key, transfer(1))).await.expect("accepted");
    let little = TxEip1559 { max_fee_per_gas: 109 * GWEI, ..transfer(1) };
    let reason = node.refusal(sign(&key, little)).await;
    assert_eq!(reason, R::Underpriced { required: 110 * GWEI });
    let enough = TxEip1559 {
        max_fee_per_gas: 110 * GWEI,
        max_priority_fee_per_gas: 2 * GWEI,
        ..transfer(1)
    };
    let new = node.submit(sign(&key, enough)).await.expect("accepted");
    let status =
        node.handle.wait_for(old, millrace_proto::Stage::Finalized).await.expect("dropped");
    assert_eq!(status.reason, Some(R::Replaced { by: new }));

    node.submit(sign(&key, transfer(0))).await.expect("accepted");
    node.sequenced(new).await;
    assert!(!node.included().await.contains(&old));
    node.stop().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_types_of_a_rollup_are_taken() {
    let mut setup = Setup::new();
    let node = setup.start().await;
    let key = signer(0);
    let legacy = TxLegacy {
        chain_id: Some(CHAIN_ID),
        nonce: 0,
        gas_price: 100 * GWEI,
        gas_limit: 21_000,
        to: TxKind::Call(Address::repeat_byte(1)),
        ..TxLegacy::default()
    };
    let authorization = Authorization {
        chain_id: U256::from(CHAIN_ID),
        address: Address::repeat_byte(2),
        nonce: 0,
    };
    let authority = signer(1);
    let signature = authority.sign_hash_sync(&authorization.signature_hash()).expect("signed");
    let delegation = TxEip7702 {
        chain_id: CHAIN_ID,
        nonce: 1,
        gas_limit: 100_000,
        max_fee_per_gas: 100 * GWEI,
        to: Address::repeat_byte(3),
        authorization_list: vec![authorization.into_signed(signature)],
        ..TxEip7702::default()
    };
    let raw = vec![sign(&key, legacy), sign(&key, delegation), sign(&key, transfer(2))];
    let hashes: Vec<_> =
        node.handle.submit_many(raw).await.into_iter().map(|r| r.expect("accepted")).collect();
    for hash in &hashes {
        let status = node.sequenced(*hash).await;
        assert!(status.inclusion.expect("included").receipt.success);
    }
    assert_eq!(node.included().await, hashes);
    // A delegated account may send (EIP-3607, EIP-7702); its nonce was used by the authorization.
    node.sequenced(node.submit(sign(&authority, transfer(1))).await.expect("accepted")).await;
    node.stop().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_each_with_its_result() {
    let mut setup = Setup::new();
    let node = setup.start().await;
    let key = signer(0);
    let mut raw: Vec<Bytes> = (0..200).map(|nonce| sign(&key, transfer(nonce))).collect();
    raw.insert(50, Bytes::from_static(b"nonsense"));
    raw.insert(60, raw[10].clone());
    let results = node.handle.submit_many(raw.clone()).await;
    assert_eq!(results.len(), raw.len());
    for (index, (result, raw)) in results.iter().zip(&raw).enumerate() {
        match (index, result) {
            (50, Err(SubmitError::Rejected(R::UnsupportedType { .. }))) => {}
            (60, Err(SubmitError::Rejected(R::AlreadyKnown { hash }))) => {
                assert_eq!(*hash, hash_of(raw));
            }
            (_, Ok(hash)) => assert_eq!(*hash, hash_of(raw)),
            other => panic!("unexpected: {other:?}"),
        }
    }
    let last = hash_of(raw.last().expect("some"));
    node.sequenced(last).await;
    let sender = key.address();
    assert_eq!(node.handle.pending_nonce(sender).await.expect("nonce"), 200);
    node.stop().await.expect("a clean end");
}

/// One client takes no room from another, whatever accounts it sends from.
#[tokio::test(flavor = "multi_thread")]
async fn one_client_may_have_so_much_in_the_pool() {
    let mut setup = Setup::new();
    setup.config.pool.max_per_source = 2;
    let node = setup.start().await;
    let [one, other] = [[192, 0, 2, 1], [192, 0, 2, 2]].map(|address| Some(address.into()));
    let submit = async |node: &crate::support::Node, raw, from| {
        soon(node.handle.submit_from(raw, from)).await.map_err(|error| match error {
            SubmitError::Rejected(reason) => reason,
            other => panic!("{other:?}"),
        })
    };
    let waits = |sender: u8, nonce| sign(&signer(sender), transfer(nonce));
    for sender in [0, 1] {
        submit(&node, waits(sender, 1), one).await.expect("accepted");
    }
    let limit = R::SourceLimit { limit: 2 };
    assert_eq!(submit(&node, waits(2, 1), one).await, Err(limit.clone()));
    let together: Vec<_> = (0..3).map(|nonce| waits(3, nonce)).collect();
    for result in join_all(soon(node.handle.admit_from(together, one)).await).await {
        assert!(matches!(result, Err(SubmitError::Rejected(R::SourceLimit { limit: 2 }))));
    }
    // What it has there may be replaced, and told again.
    let known = waits(1, 1);
    assert_eq!(
        submit(&node, known.clone(), one).await,
        Err(R::AlreadyKnown { hash: hash_of(&known) })
    );
    let more = TxEip1559 {
        max_fee_per_gas: 200 * GWEI,
        max_priority_fee_per_gas: 2 * GWEI,
        ..transfer(1)
    };
    submit(&node, sign(&signer(1), more.clone()), one).await.expect("it needs no room");
    // Others are not concerned, nor is this machine, nor whoever does not say where he is.
    submit(&node, waits(2, 1), other).await.expect("accepted");
    submit(&node, waits(3, 1), Some([127, 0, 0, 1].into())).await.expect("accepted");
    submit(&node, waits(4, 1), None).await.expect("accepted");
    // What comes into a block makes room: nonce 0 of another client brings nonce 1 with it.
    node.sequenced(submit(&node, waits(0, 0), other).await.expect("accepted")).await;
    node.sequenced(hash_of(&waits(0, 1))).await;
    submit(&node, waits(5, 1), one).await.expect("there is room");
    assert_eq!(submit(&node, waits(6, 1), one).await, Err(limit));
    node.kill().await;

    // It is taken back whoever sent it, and counts for nobody.
    let node = setup.start().await;
    let status = node.handle.pool_status().await.expect("status");
    assert_eq!(status, PoolStatus { pending: 0, queued: 5 });
    for sender in [6, 7] {
        submit(&node, waits(sender, 1), one).await.expect("accepted");
    }
    // Where others wait to be looked at, it is told before its senders are.
    let mut many = vec![badly_signed(&waits(8, 1)); 8_000];
    many.insert(0, waits(7, 1));
    let results = join_all(soon(node.handle.admit_from(many, one)).await).await;
    let is_limit = |result: &&Result<_, _>| {
        matches!(result, Err(SubmitError::Rejected(R::SourceLimit { .. })))
    };
    assert!(results.iter().filter(is_limit).count() > 4_000);
    assert!(matches!(results[0], Err(SubmitError::Rejected(R::AlreadyKnown { .. }))));
    node.stop().await.expect("a clean end");
}

/// A stream of submissions goes on while the disk writes what came before; and nothing is acknowledged before it is there.
#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::await_holding_lock, reason = "what is held up is another thread, on purpose")]
async fn what_follows_is_admitted_while_the_disk_writes() {
    let mut setup = Setup::new();
    let disk: Arc<RwLock<()>> = Arc::default();
    let log_disk = disk.clone();
    setup.wrap_log = Some(Box::new(move |inner| {
        let fault = Fault::new(Place::Append, How::Before, i64::MAX);
        Arc::new(FaultyLog { inner, fault, disk: log_disk })
    }));
    let node = setup.start().await;
    let held = disk.write();
    let mut admissions = Vec::new();
    for nonce in 0..3 {
        let raw = vec![sign(&signer(0), transfer(nonce)), sign(&signer(1), transfer(nonce + 1))];
        admissions.extend(soon(node.handle.admit(raw)).await);
        let status = node.handle.pool_status().await.expect("status");
        let next = node.handle.pending_nonce(signer(0).address()).await.expect("nonce");
        assert_eq!((next, status.queued), (nonce + 1, nonce + 1), "all of it is in the pool");
    }
    // The same again is as much on disk as the first.
    let again = sign(&signer(0), transfer(0));
    admissions.extend(soon(node.handle.admit(vec![again])).await);
    for admission in &mut admissions {
        assert!(admission.now_or_never().is_none(), "nothing is on disk");
    }
    drop(held);
    let mut results = soon(join_all(admissions)).await;
    let again = results.pop().expect("the last one's");
    assert!(matches!(again, Err(SubmitError::Rejected(R::AlreadyKnown { .. }))), "{again:?}");
    for result in results {
        result.expect("accepted");
    }
    node.stop().await.expect("a clean end");
}

/// What replaces is held to the limits of bytes as well.
#[tokio::test(flavor = "multi_thread")]
async fn a_replacement_is_no_larger_than_there_is_room() {
    for (of_a_client, of_all) in [(1_000, 1 << 20), (1 << 20, 1_000)] {
        let mut setup = Setup::new();
        setup.config.max_transaction_bytes = 1_000;
        setup.config.pool.max_bytes_per_source = of_a_client;
        setup.config.pool.max_bytes = of_all;
        let node = setup.start().await;
        let from = Some([192, 0, 2, 1].into());
        let bid = |nonce: u64, gwei: u128, bytes: usize| TxEip1559 {
            max_fee_per_gas: 100 * gwei * GWEI,
            max_priority_fee_per_gas: gwei * GWEI,
            gas_limit: 100_000,
            input: vec![1; bytes].into(),
            ..transfer(nonce)
        };
        let submit = async |tx| soon(node.handle.submit_from(sign(&signer(0), tx), from)).await;
        submit(bid(1, 1, 500)).await.expect("accepted");
        submit(bid(2, 1, 0)).await.expect("accepted");
        let large = submit(bid(2, 2, 500)).await;
        let is_refused = match of_a_client {
            1_000 => matches!(large, Err(SubmitError::Rejected(R::SourceLimit { .. }))),
            _ => matches!(large, Err(SubmitError::Rejected(R::PoolFull { .. }))),
        };
        assert!(is_refused, "{large:?}");
        submit(bid(2, 2, 100)).await.expect("there is room for it");
        node.stop().await.expect("a clean end");
    }
}

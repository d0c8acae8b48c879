//! One reason for each cause.

use alloy::{
    consensus::{SignableTransaction, Signed, TxEip1559, TxEip4844, TxLegacy},
    primitives::{B256, Bytes, Signature, U256},
    signers::SignerSync,
};
use eyre::{Result, bail};
use millrace_proto::{RecoveredTx, RejectReason, Stage, SubmitError, TxEnvelope};

use crate::{
    chain::{BOB, CHAIN_ID, GAS_LIMIT, alice, deposit, pauper, plain, sign_as, signed},
    stack::SequencerStack,
};

/// Bytes, and whether a reason is the one for them.
type Case = (&'static str, Bytes, fn(&RejectReason) -> bool);

fn raw(tx: TxEip1559) -> Result<Bytes> {
    Ok(signed(tx)?.encoded().clone())
}

/// A transaction whose `s` is in the upper half (EIP-2).
fn malleated() -> Result<Bytes> {
    let order = U256::from_str_radix(
        "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141",
        16,
    )?;
    let tx = plain(0);
    let signature = alice().sign_hash_sync(&tx.signature_hash())?;
    let high = Signature::new(signature.r(), order - signature.s(), !signature.v());
    let tx = TxEnvelope::Eip1559(Signed::new_unhashed(tx, high));
    Ok(RecoveredTx::new_unchecked(tx, alice().address()).encoded().clone())
}

fn cases() -> Result<Vec<Case>> {
    use RejectReason as R;
    let mut trailing = raw(plain(0))?.to_vec();
    trailing.push(0);
    let unprotected = TxLegacy {
        chain_id: None,
        gas_price: 10_000_000_000,
        gas_limit: 21_000,
        to: BOB.into(),
        ..TxLegacy::default()
    };
    let blobs = TxEip4844 {
        chain_id: CHAIN_ID,
        gas_limit: 21_000,
        max_fee_per_gas: 10_000_000_000,
        to: BOB,
        blob_versioned_hashes: vec![B256::repeat_byte(1)],
        ..TxEip4844::default()
    };
    let data = |size| Bytes::from(vec![1; size]);
    Ok(vec![
        ("no bytes", Bytes::new(), |r| matches!(r, R::BadEncoding { .. })),
        ("half a transaction", raw(plain(0))?.slice(..40), |r| matches!(r, R::BadEncoding { .. })),
        ("a transaction and a byte", trailing.into(), |r| matches!(r, R::BadEncoding { .. })),
        ("an unknown type", vec![0x05, 0xc0].into(), |r| *r == R::UnsupportedType { ty: 5 }),
        ("blobs", sign_as(&alice(), blobs, TxEnvelope::Eip4844)?.encoded().clone(), |r| {
            *r == R::UnsupportedType { ty: 3 }
        }),
        ("a deposit", deposit(5).encoded().clone(), |r| *r == R::UnsupportedType { ty: 0x7e }),
        ("another chain", raw(TxEip1559 { chain_id: 1, ..plain(0) })?, |r| {
            *r == R::WrongChainId { got: 1, expected: CHAIN_ID }
        }),
        ("no chain", sign_as(&alice(), unprotected, TxEnvelope::Legacy)?.encoded().clone(), |r| {
            *r == R::Unprotected
        }),
        ("a high s", malleated()?, |r| matches!(r, R::BadSignature { .. })),
        (
            "a low fee",
            raw(TxEip1559 { max_fee_per_gas: 1, max_priority_fee_per_gas: 0, ..plain(0) })?,
            |r| matches!(r, R::FeeBelowFloor { got: 1, floor } if *floor > 1),
        ),
        (
            "a tip above the fee",
            raw(TxEip1559 { max_priority_fee_per_gas: 10_000_000_001, ..plain(0) })?,
            |r| *r == R::TipAboveMaxFee { tip: 10_000_000_001, max_fee: 10_000_000_000 },
        ),
        ("too much gas", raw(TxEip1559 { gas_limit: GAS_LIMIT + 1, ..plain(0) })?, |r| {
            *r == R::GasOverLimit { got: GAS_LIMIT + 1, limit: GAS_LIMIT }
        }),
        ("too little gas", raw(TxEip1559 { gas_limit: 20_999, ..plain(0) })?, |r| {
            *r == R::IntrinsicGas { got: 20_999, required: 21_000 }
        }),
        (
            "too many bytes",
            raw(TxEip1559 { input: data(200_000), gas_limit: 20_000_000, ..plain(0) })?,
            |r| matches!(r, R::Oversize { size: 200_000.., limit: 131_072 }),
        ),
        (
            "more bytes than a request",
            data(5 << 20),
            |r| matches!(r, R::Oversize { size, .. } if *size == 5 << 20),
        ),
        (
            "too much init code",
            raw(TxEip1559 {
                to: alloy::primitives::TxKind::Create,
                input: data(50_000),
                gas_limit: 20_000_000,
                ..plain(0)
            })?,
            |r| *r == R::InitCodeTooLarge { size: 50_000, limit: 49_152 },
        ),
        ("a nonce far ahead", raw(plain(1000))?, |r| {
            matches!(r, R::NonceTooFar { got: 1000, expected: 0, limit: 64 })
        }),
        (
            "no funds",
            sign_as(&pauper(), plain(0), TxEnvelope::Eip1559)?.encoded().clone(),
            |r| matches!(r, R::InsufficientFunds { sender, balance: U256::ZERO, .. } if *sender == pauper().address()),
        ),
    ])
}

fn reason<T: std::fmt::Debug>(result: Result<T, SubmitError>) -> Result<RejectReason> {
    match result {
        Err(SubmitError::Rejected(reason)) => Ok(reason),
        other => bail!("not refused: {other:?}"),
    }
}

pub(crate) async fn bad_input_is_refused_by_reason(stack: &SequencerStack) -> Result<()> {
    let sequencer = &stack.sequencer;
    let cases = cases()?;
    for (what, raw, expected) in &cases {
        let reason = reason(sequencer.submit(raw.clone()).await)?;
        assert!(expected(&reason), "{what}: {reason:?}");
    }
    let all = cases.iter().map(|(_, raw, _)| raw.clone()).collect();
    let results = sequencer.submit_many(all).await;
    assert_eq!(results.len(), cases.len());
    for ((what, _, expected), result) in cases.iter().zip(results) {
        let reason = reason(result)?;
        assert!(expected(&reason), "{what}, among others: {reason:?}");
    }
    // Nothing of it had an effect.
    assert_eq!(sequencer.pending_nonce(alice().address()).await?, 0);
    let hash = sequencer.submit(raw(plain(0))?).await?;
    assert_eq!(sequencer.wait_for(hash, Stage::Sequenced).await?.stage, Stage::Sequenced);
    Ok(())
}

pub(crate) async fn what_depends_on_the_account_is_refused_by_reason(
    stack: &SequencerStack,
) -> Result<()> {
    let sequencer = &stack.sequencer;
    // Waits in the pool for nonce 0.
    let queued = signed(plain(1))?;
    sequencer.submit(queued.encoded().clone()).await?;
    let again = reason(sequencer.submit(queued.encoded().clone()).await)?;
    assert_eq!(again, RejectReason::AlreadyKnown { hash: queued.hash() });
    let first = sequencer.submit(raw(plain(0))?).await?;
    sequencer.wait_for(first, Stage::Sequenced).await?;
    sequencer.wait_for(queued.hash(), Stage::Sequenced).await?;
    let low = reason(sequencer.submit(raw(TxEip1559 { gas_limit: 22_000, ..plain(0) })?).await)?;
    assert_eq!(low, RejectReason::NonceTooLow { got: 0, expected: 2 });
    let again = reason(sequencer.submit(queued.encoded().clone()).await)?;
    assert_eq!(again, RejectReason::AlreadyKnown { hash: queued.hash() });
    Ok(())
}

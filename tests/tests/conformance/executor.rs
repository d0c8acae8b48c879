//! What an executor does.

use std::{sync::Arc, time::Duration};

use alloy::{
    consensus::TxEip1559,
    primitives::{B256, Bytes, TxKind, U256, keccak256},
    rpc::types::{Filter, TransactionRequest},
};
use eyre::{Result, bail, ensure, eyre};
use futures::{Stream, StreamExt};
use millrace_proto::{
    BlockSelector, CallRequest, CallStatus, ErrorClass, ExecutedBlock, ExecutorError, GasEstimate,
    Noting, OpenPoint, QueueMark, RejectReason, StateDiff, TxLocation, TxOutcome,
};

use crate::{
    chain::{
        BOB, CHAIN_ID, ETHER, GAS_LIMIT, LOG, REVERT, STORE, alice, attributes, call, deposit,
        extend, pauper, plain, sign_as, signed, word_bytes,
    },
    stack::ExecutorStack,
};

pub(crate) async fn builds_blocks(stack: &ExecutorStack) -> Result<()> {
    let executor = &*stack.executor;
    let spec = executor.spec().await?;
    assert_eq!((spec.chain_id(), spec.is_rollup()), (CHAIN_ID, true));
    let genesis = executor.head().await?;
    assert_eq!(genesis.number, 0);

    let mut build = executor.open_block(attributes(&spec, &genesis, 1)).await?;
    let base_fee = build.base_fee().ok_or_else(|| eyre!("London is active"))?;
    let (first, second) = (signed(plain(0))?, signed(call(1, LOG, 7))?);
    let minted = build.execute(vec![deposit(5)]).await?;
    assert!(matches!(minted.as_slice(), [TxOutcome::Included { index: 0, .. }]), "{minted:?}");
    let outcomes = build.execute(vec![first.clone(), second.clone()]).await?;
    let [
        TxOutcome::Included { index: 1, gas_used: 21_000, .. },
        TxOutcome::Included { index: 2, gas_used, receipt },
    ] = outcomes.as_slice()
    else {
        bail!("{outcomes:?}")
    };
    let block = build.seal().await?;

    assert_eq!(block.number(), 1);
    assert_eq!(block.header.base_fee_per_gas, Some(base_fee));
    assert_eq!(QueueMark::of(&block.header).map(|mark| mark.end), Some(1));
    assert_eq!(block.transactions, [deposit(5), first.clone(), second]);
    assert_eq!((block.gas_used_by(2), &block.receipts[2]), (Some(*gas_used), &**receipt));
    assert_eq!(receipt.logs[0].topics(), [B256::from(U256::from(7))]);
    assert_eq!(executor.head().await?, block.header);
    for at in [BlockSelector::Latest, BlockSelector::Number(1), BlockSelector::Hash(block.hash())] {
        assert_eq!(executor.header(at).await?.as_ref(), Some(&block.header));
        assert_eq!(executor.block(at).await?.as_ref(), Some(&block));
    }
    let location = TxLocation { block: block.num_hash(), index: 1 };
    assert_eq!(executor.locate(first.hash()).await?, Some(location));
    assert_eq!(executor.locate(B256::ZERO).await?, None);

    let next = extend(executor, vec![plain(2)]).await;
    // The chain has consumed one deposit, which `extend` does not say.
    ensure!(matches!(
        next.err().as_ref().and_then(|error| error.downcast_ref()),
        Some(ExecutorError::NotHead { head_number: 1, .. })
    ));
    let build = executor.open_block(attributes(&spec, &block.header, 1)).await?;
    assert_eq!(build.seal().await?.header.parent_hash, block.hash());
    Ok(())
}

/// What frames change is told, and the block can be read after each of them, as long as it is open.
pub(crate) async fn shows_the_open_block(stack: &ExecutorStack) -> Result<()> {
    let executor = &*stack.executor;
    let spec = executor.spec().await?;
    let genesis = executor.head().await?;
    let mut build = executor.open_block(attributes(&spec, &genesis, 1)).await?;
    let frames = [vec![deposit(5)], vec![signed(plain(0))?], vec![signed(call(1, STORE, 7))?]];
    let (mut total, mut points) = (StateDiff::default(), Vec::new());
    for frame in frames {
        let last = frame[0].hash();
        let executed = build.execute_noting(frame, Noting::Told).await?;
        let diff = executed.diff.ok_or_else(|| eyre!("it was asked for"))?;
        total
            .extend((*diff).clone())
            .map_err(|account| eyre!("{account} is not as it was left"))?;
        let (number, parent) = (1, genesis.seal());
        points.push(BlockSelector::Open(OpenPoint { number, parent, last }));
    }
    let kept = build.execute_noting(Vec::new(), Noting::Kept).await?;
    assert_eq!((kept.outcomes.len(), kept.diff), (0, None));
    for (at, (held, stored)) in points.iter().zip([(1, 0), (2, 0), (3, 7)]) {
        let block = executor.block(*at).await?.ok_or_else(|| eyre!("it is open"))?;
        assert!(block.is_open());
        assert_eq!((block.transactions.len(), block.receipts.len()), (held, held));
        assert_eq!(executor.storage(STORE, B256::ZERO, *at).await?, U256::from(stored));
        assert_eq!(executor.header(*at).await?, Some(block.header.clone()));
    }
    let accounts = executor.accounts(&[alice().address()], points[2]).await?;
    assert_eq!(accounts[0].map(|account| account.nonce), Some(2));
    let lost = OpenPoint { number: 1, parent: genesis.seal(), last: B256::ZERO };
    let lost = executor.code(STORE, BlockSelector::Open(lost)).await;
    assert!(matches!(lost, Err(ExecutorError::BuildDiscarded)), "{lost:?}");
    let sealed = build.seal().await?;
    assert_eq!(executor.state_diff(1).await?.as_deref(), Some(&total.net()));
    for at in points {
        assert_eq!(executor.block(at).await?.as_ref(), Some(&sealed));
    }
    Ok(())
}

pub(crate) async fn tells_what_became_of_each_transaction(stack: &ExecutorStack) -> Result<()> {
    use alloy::consensus::Transaction;

    let executor = &*stack.executor;
    let spec = executor.spec().await?;
    let mut build = executor.open_block(attributes(&spec, &executor.head().await?, 0)).await?;
    let poor = sign_as(&pauper(), plain(0), millrace_proto::TxEnvelope::Eip1559)?;
    let transactions = vec![
        signed(plain(0))?,
        signed(plain(0))?,
        poor.clone(),
        signed(TxEip1559 { gas_limit: GAS_LIMIT, ..plain(1) })?,
        signed(plain(1))?,
    ];
    let outcomes = build.execute(transactions).await?;
    let [included, low, funds, no_room, last] = outcomes.as_slice() else { bail!("{outcomes:?}") };
    assert!(matches!(included, TxOutcome::Included { index: 0, .. }));
    assert_eq!(*low, TxOutcome::Invalid(RejectReason::NonceTooLow { got: 0, expected: 1 }));
    let cost = U256::from(21_000 * poor.tx().max_fee_per_gas() + 1);
    let (sender, balance) = (poor.sender(), U256::ZERO);
    assert_eq!(
        *funds,
        TxOutcome::Invalid(RejectReason::InsufficientFunds { sender, balance, cost })
    );
    assert_eq!(*no_room, TxOutcome::NoRoom);
    assert!(matches!(last, TxOutcome::Included { index: 1, .. }));

    let late = deposit(5);
    let error = build.execute(vec![late.clone()]).await.expect_err("deposits come first");
    assert!(
        matches!(&error, ExecutorError::NotIncludable { hash, reason: RejectReason::Invalid { .. } } if *hash == late.hash()),
        "{error:?}"
    );
    assert_eq!(error.class(), ErrorClass::Caller);
    assert!(build.seal().await.is_err());
    assert_eq!(executor.head().await?.number, 0);
    Ok(())
}

pub(crate) async fn discards_what_is_not_sealed(stack: &ExecutorStack) -> Result<()> {
    let executor = &*stack.executor;
    let spec = executor.spec().await?;
    let genesis = executor.head().await?;
    let open = || executor.open_block(attributes(&spec, &genesis, 0));

    let mut dropped = open().await?;
    dropped.execute(vec![signed(plain(0))?]).await?;
    drop(dropped);
    let mut first = open().await?;
    let mut second = open().await?;
    let error = first.execute(vec![signed(plain(0))?]).await.expect_err("another block is open");
    assert!(matches!(error, ExecutorError::BuildDiscarded), "{error:?}");
    assert_eq!(error.class(), ErrorClass::Retryable);
    drop(first);
    let outcomes = second.execute(vec![signed(plain(0))?]).await?;
    assert!(matches!(outcomes.as_slice(), [TxOutcome::Included { index: 0, .. }]));
    assert_eq!(executor.head().await?, genesis);
    assert_eq!(second.seal().await?.header, executor.head().await?);
    Ok(())
}

pub(crate) async fn refuses_blocks_that_do_not_follow_the_head(
    stack: &ExecutorStack,
) -> Result<()> {
    let executor = &*stack.executor;
    let spec = executor.spec().await?;
    let genesis = executor.head().await?;
    let block = extend(executor, vec![]).await?;
    let error = executor.open_block(attributes(&spec, &genesis, 0)).await;
    let error = error.expect_err("genesis is not the head any more");
    assert!(
        matches!(&error, ExecutorError::NotHead { head_number: 1, head_hash, .. } if *head_hash == block.hash()),
        "{error:?}"
    );
    Ok(())
}

pub(crate) async fn answers_for_state(stack: &ExecutorStack) -> Result<()> {
    let executor = &*stack.executor;
    let runtime = Bytes::from_static(&[0x60, 0x00]);
    // codecopy(0, 12, 2); return(0, 2)
    let init = Bytes::from_static(&[
        0x60, 0x02, 0x60, 0x0c, 0x60, 0x00, 0x39, 0x60, 0x02, 0x60, 0x00, 0xf3, 0x60, 0x00,
    ]);
    let create = TxEip1559 {
        to: TxKind::Create,
        gas_limit: 200_000,
        input: init,
        value: U256::ZERO,
        ..plain(2)
    };
    let block = extend(executor, vec![plain(0), call(1, STORE, 9), create]).await?;
    let (before, at) = (BlockSelector::Number(0), BlockSelector::Hash(block.hash()));

    let sender = alice().address();
    let accounts = executor.accounts(&[BOB, sender, STORE], at).await?;
    let [Some(bob), Some(alice), Some(store)] = accounts.as_slice() else { bail!("{accounts:?}") };
    assert_eq!((bob.balance, bob.nonce, alice.nonce, store.nonce), (U256::from(1), 0, 3, 0));
    let old = executor.accounts(&[BOB, sender], before).await?;
    assert!(
        matches!(old.as_slice(), [None, Some(alice)] if alice.balance == U256::from(1000 * ETHER))
    );
    assert_eq!(executor.storage(STORE, B256::ZERO, at).await?, U256::from(9));
    assert_eq!(executor.storage(STORE, B256::ZERO, before).await?, U256::ZERO);
    assert_eq!(executor.code(sender.create(2), at).await?, runtime);
    assert_eq!(executor.code(BOB, at).await?, Bytes::new());

    let proof = executor.proof(STORE, vec![B256::ZERO], at).await?;
    assert_eq!(keccak256(&proof.account_proof[0]), block.header.state_root);
    assert_eq!(proof.storage_proof[0].value, U256::from(9));
    assert_eq!(keccak256(&proof.storage_proof[0].proof[0]), proof.storage_hash);

    let diff = executor.state_diff(1).await?.ok_or_else(|| eyre!("block 1 has a diff"))?;
    let slot = diff.accounts[&STORE].storage[&B256::ZERO];
    assert_eq!((slot.before, slot.after), (U256::ZERO, U256::from(9)));
    assert_eq!(diff.accounts[&BOB].before, None);
    assert_eq!(executor.state_diff(2).await?, None);

    let nowhere = BlockSelector::Number(77);
    assert_eq!(executor.header(nowhere).await?, None);
    assert_eq!(executor.block(nowhere).await?, None);
    let error = executor.code(BOB, nowhere).await.expect_err("there is no such block");
    assert!(matches!(error, ExecutorError::UnknownBlock(at) if at == nowhere), "{error:?}");
    Ok(())
}

pub(crate) async fn runs_calls(stack: &ExecutorStack) -> Result<()> {
    let executor = &*stack.executor;
    let at = BlockSelector::Latest;
    let request = |to, word| CallRequest {
        transaction: TransactionRequest::default()
            .from(alice().address())
            .to(to)
            .input(word_bytes(word).into()),
        ..CallRequest::default()
    };
    let reverted = executor.call(request(REVERT, 5), at).await?;
    assert_eq!((reverted.status, reverted.output), (CallStatus::Reverted, word_bytes(5)));
    let stored = executor.call(request(STORE, 5), at).await?;
    assert_eq!(stored.status, CallStatus::Success);

    let transfer = CallRequest {
        transaction: TransactionRequest::default().from(alice().address()).to(BOB),
        ..CallRequest::default()
    };
    assert_eq!(executor.estimate_gas(transfer, at).await?, GasEstimate::Gas(21_000));
    let estimate = executor.estimate_gas(request(REVERT, 5), at).await?;
    assert!(matches!(estimate, GasEstimate::Fails(outcome) if outcome.output == word_bytes(5)));
    let list = executor.create_access_list(request(STORE, 5), at).await?;
    let entry = list.access_list.iter().find(|entry| entry.address == STORE);
    assert_eq!(entry.map(|entry| entry.storage_keys.as_slice()), Some([B256::ZERO].as_slice()));

    let mut both = request(STORE, 5);
    both.transaction.gas_price = Some(1);
    both.transaction.max_fee_per_gas = Some(1);
    let error = executor.call(both, at).await.expect_err("two prices make no sense");
    assert!(
        matches!(&error, ExecutorError::InvalidRequest(problem) if problem.contains("gasPrice")),
        "{error:?}"
    );
    Ok(())
}

pub(crate) async fn finds_logs(stack: &ExecutorStack) -> Result<()> {
    let executor = &*stack.executor;
    extend(executor, vec![call(0, LOG, 1), plain(1)]).await?;
    let block = extend(executor, vec![plain(2), call(3, LOG, 2)]).await?;
    let topic = |word: u64| B256::from(U256::from(word));
    let all = Filter::new().address(LOG).from_block(0u64).to_block(2u64);
    let logs = executor.logs(&all, 10).await?;
    assert_eq!(logs.iter().map(|log| log.topics()[0]).collect::<Vec<_>>(), [topic(1), topic(2)]);
    let second = executor.logs(&all.clone().event_signature(topic(2)), 10).await?;
    let [log] = second.as_slice() else { bail!("{second:?}") };
    assert_eq!(
        (log.block_hash, log.transaction_index, log.log_index),
        (Some(block.hash()), Some(1), Some(0))
    );
    assert_eq!(executor.logs(&Filter::new().at_block_hash(block.hash()), 10).await?, second);
    let error = executor.logs(&all, 1).await.expect_err("there are two");
    assert!(
        matches!(error, ExecutorError::LimitExceeded { what: "number of logs", limit: 1 }),
        "{error:?}"
    );
    Ok(())
}

pub(crate) async fn subscriptions_resume_and_follow(stack: &ExecutorStack) -> Result<()> {
    let executor = &*stack.executor;
    let mut blocks = Vec::new();
    for nonce in 0..3 {
        blocks.push(extend(executor, vec![plain(nonce)]).await?);
    }
    let mut all = executor.subscribe(0).await?;
    assert_eq!(next(&mut all).await?.number(), 0);
    assert_eq!(next(&mut all).await?, blocks[0]);
    drop(all);
    let mut resumed = executor.subscribe(2).await?;
    assert_eq!(next(&mut resumed).await?, blocks[1]);
    assert_eq!(next(&mut resumed).await?, blocks[2]);
    let (new, followed) = tokio::join!(extend(executor, vec![plain(3)]), next(&mut resumed));
    assert_eq!(new?, followed?);
    Ok(())
}

async fn next(
    blocks: &mut (impl Stream<Item = Result<Arc<ExecutedBlock>, ExecutorError>> + Unpin),
) -> Result<Arc<ExecutedBlock>> {
    let next = tokio::time::timeout(Duration::from_secs(20), blocks.next()).await?;
    Ok(next.ok_or_else(|| eyre!("the subscription ended"))??)
}

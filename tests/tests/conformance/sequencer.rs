//! What a sequencer does with what it takes.

use alloy::{consensus::TxEip1559, primitives::B256};
use eyre::{Result, bail, eyre};
use futures::{StreamExt, TryStreamExt};
use millrace_proto::{
    BlockSelector, ErrorClass, RejectReason, SequencerError, Stage, SubmitError, TxStatus,
};
use millrace_tests::eventually;

use crate::{
    chain::{CHAIN_ID, alice, plain, signed},
    stack::{ScriptedL1, SequencerStack},
};

pub(crate) async fn a_transaction_goes_through_its_life(stack: &SequencerStack) -> Result<()> {
    let SequencerStack { sequencer, executor, l1, .. } = stack;
    let genesis = executor.head().await?;
    let tx = signed(plain(0))?;
    let hash = sequencer.submit(tx.encoded().clone()).await?;
    assert_eq!(hash, tx.hash());
    let stages = sequencer.watch(hash).await?;

    let status = sequencer.wait_for(hash, Stage::Sequenced).await?;
    let inclusion = status.inclusion.clone().ok_or_else(|| eyre!("sequenced without a block"))?;
    assert_eq!((status.stage, inclusion.gas_used), (Stage::Sequenced, 21_000));
    let block = executor.block(BlockSelector::Hash(inclusion.block.hash)).await?;
    let block = block.ok_or_else(|| eyre!("the executor does not hold the block"))?;
    let index = usize::try_from(inclusion.index)?;
    assert_eq!(block.num_hash(), inclusion.block);
    assert_eq!((&block.transactions[index], &block.receipts[index]), (&tx, &inclusion.receipt));
    let known = sequencer.transaction(hash).await?.ok_or_else(|| eyre!("forgotten"))?;
    assert_eq!((&known.tx, known.status.stage), (&tx, Stage::Sequenced));
    assert_eq!(sequencer.pooled(hash).await?, None);
    let reached = sequencer.stages(hash).await?;
    assert_eq!((reached.len(), &reached[1]), (2, &status));
    let heads = sequencer.heads().await?;
    assert!(heads.latest.number >= inclusion.block.number);
    assert_eq!((heads.safe.hash, heads.finalized.hash), (genesis.seal(), genesis.seal()));

    l1.say(inclusion.block, |status, point| status.posted = point);
    let posted = sequencer.wait_for(hash, Stage::Posted).await?;
    assert_eq!((posted.batch, posted.l1), (Some(1), Some(ScriptedL1::posting())));
    l1.say(inclusion.block, |status, point| {
        status.verified = point;
        status.committed = point;
    });
    let committed = sequencer.wait_for(hash, Stage::Committed).await?;
    assert_eq!(committed.l1, Some(ScriptedL1::committing()));
    l1.say(inclusion.block, |status, point| status.finalized = point);
    sequencer.wait_for(hash, Stage::Finalized).await?;
    let heads = sequencer.heads().await?;
    assert_eq!((heads.safe, heads.finalized), (inclusion.block, inclusion.block));

    let seen: Vec<TxStatus> =
        stages.collect::<Vec<_>>().await.into_iter().collect::<Result<_, _>>()?;
    let stages: Vec<_> = seen.iter().map(|status| status.stage).collect();
    use Stage::{Accepted, Committed, Finalized, Posted, Sequenced};
    assert_eq!(stages, [Accepted, Sequenced, Posted, Committed, Finalized]);
    assert!(seen[1..].iter().all(|status| status.inclusion.as_ref() == Some(&inclusion)));
    // Who comes late still sees all of them.
    assert_eq!(sequencer.stages(hash).await?, seen);
    assert!(seen.iter().all(|status| status.reached_at.is_some()), "{seen:?}");
    assert_eq!(sequencer.watch(hash).await?.count().await, 5);
    Ok(())
}

pub(crate) async fn many_are_taken_in_order(stack: &SequencerStack) -> Result<()> {
    let SequencerStack { sequencer, executor, .. } = stack;
    let txs = (0..60).map(|nonce| signed(plain(nonce))).collect::<Result<Vec<_>>>()?;
    let mut raw: Vec<_> = txs.iter().map(|tx| tx.encoded().clone()).collect();
    raw.insert(30, vec![0x02, 0xc0].into());
    let mut results = sequencer.submit_many(raw).await;
    assert_eq!(results.len(), 61);
    let refused = results.remove(30);
    assert!(
        matches!(refused, Err(SubmitError::Rejected(RejectReason::BadEncoding { .. }))),
        "{refused:?}"
    );
    let mut last = None;
    for (tx, result) in txs.iter().zip(results) {
        assert_eq!(result?, tx.hash());
        let status = sequencer.wait_for(tx.hash(), Stage::Sequenced).await?;
        let inclusion = status.inclusion.ok_or_else(|| eyre!("sequenced without a block"))?;
        let place = Some((inclusion.block.number, inclusion.index));
        assert!(place > last, "{place:?} after {last:?}");
        last = place;
    }
    let sender = alice().address();
    assert_eq!(sequencer.pending_nonce(sender).await?, 60);
    let accounts = executor.accounts(&[sender], BlockSelector::Latest).await?;
    assert_eq!(accounts[0].map(|account| account.nonce), Some(60));
    Ok(())
}

pub(crate) async fn a_later_nonce_waits_for_the_earlier(stack: &SequencerStack) -> Result<()> {
    let SequencerStack { sequencer, .. } = stack;
    let sender = alice().address();
    let (earlier, later) = (signed(plain(0))?, signed(plain(1))?);
    sequencer.submit(later.encoded().clone()).await?;
    assert_eq!(sequencer.pooled(later.hash()).await?, Some(later.clone()));
    assert_eq!(sequencer.pool_status().await?.queued, 1);
    assert_eq!(sequencer.pending_nonce(sender).await?, 0);
    assert_eq!(sequencer.wait_for(later.hash(), Stage::Accepted).await?.stage, Stage::Accepted);
    sequencer.submit(earlier.encoded().clone()).await?;
    let later = sequencer.wait_for(later.hash(), Stage::Sequenced).await?;
    let earlier = sequencer.wait_for(earlier.hash(), Stage::Sequenced).await?;
    let place = |status: TxStatus| {
        status.inclusion.map(|inclusion| (inclusion.block.number, inclusion.index))
    };
    assert!(place(later) > place(earlier));
    assert_eq!(sequencer.pending_nonce(sender).await?, 2);
    eventually("an empty pool", || async {
        let pool = sequencer.pool_status().await?;
        Ok((pool.queued == 0 && pool.pending == 0).then_some(()))
    })
    .await
}

pub(crate) async fn a_replacement_drops_what_it_replaces(stack: &SequencerStack) -> Result<()> {
    let SequencerStack { sequencer, .. } = stack;
    let paying = |fee| {
        signed(TxEip1559 { max_fee_per_gas: fee, max_priority_fee_per_gas: fee / 10, ..plain(1) })
    };
    let (first, second) = (paying(10_000_000_000)?, paying(20_000_000_000)?);
    sequencer.submit(first.encoded().clone()).await?;
    let error = sequencer.submit(paying(10_000_000_001)?.encoded().clone()).await;
    let Err(SubmitError::Rejected(RejectReason::Underpriced { required })) = error else {
        bail!("{error:?}")
    };
    assert!(required > 10_000_000_001);
    sequencer.submit(second.encoded().clone()).await?;
    let status = sequencer.wait_for(first.hash(), Stage::Finalized).await?;
    let by = second.hash();
    assert_eq!(
        (status.stage, status.reason),
        (Stage::Dropped, Some(RejectReason::Replaced { by }))
    );
    let stages: Vec<_> = sequencer.watch(first.hash()).await?.try_collect().await?;
    assert!(stages.iter().map(|status| status.stage).eq([Stage::Accepted, Stage::Dropped]));
    assert!(stages.iter().all(|status| status.reached_at.is_some()), "{stages:?}");
    assert_eq!(sequencer.stages(first.hash()).await?, stages);
    Ok(())
}

pub(crate) async fn what_was_never_accepted_is_unknown(stack: &SequencerStack) -> Result<()> {
    let SequencerStack { sequencer, .. } = stack;
    let hash = B256::repeat_byte(9);
    assert_eq!(sequencer.stages(hash).await?, []);
    let waited = sequencer.wait_for(hash, Stage::Accepted).await.map(|_| ());
    let watched = sequencer.watch(hash).await.map(|_| ());
    for result in [waited, watched] {
        let error = result.expect_err("nobody submitted it");
        assert!(
            matches!(error, SequencerError::UnknownTransaction(unknown) if unknown == hash),
            "{error:?}"
        );
        assert_eq!(error.class(), ErrorClass::Caller);
    }
    assert!(sequencer.transaction(hash).await?.is_none());
    assert!(sequencer.pooled(hash).await?.is_none());
    Ok(())
}

pub(crate) async fn says_how_it_is(stack: &SequencerStack) -> Result<()> {
    let SequencerStack { sequencer, executor, .. } = stack;
    let status = sequencer.status().await?;
    assert_eq!(status.chain_id, CHAIN_ID);
    assert_eq!(status.block_time.as_millis(), 250);
    assert_eq!((status.pool.pending, status.pool.queued), (0, 0));
    assert_eq!(
        status.heads.safe.hash,
        executor.header(BlockSelector::Number(0)).await?.ok_or_else(|| eyre!("no genesis"))?.seal()
    );
    assert!(status.next_base_fee > 0 && !status.version.is_empty());
    Ok(())
}

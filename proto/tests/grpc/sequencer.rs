//! The public API: everything but the submission stream.

use std::sync::Arc;

use alloy::{
    consensus::{Signed, TxEip1559},
    primitives::{B256, Signature, TxKind},
};
use futures::StreamExt;
use millrace_proto::{
    ChainHeads, ErrorClass, FrameDetail, FrameStart, Preconfirmation, RecoveredTx, RejectReason,
    Sequencer, SequencerError, Stage, SubmitError, TxEnvelope, TxPool, TxStatus,
    grpc::{
        SequencerClient,
        pb::{self, get_block_request::Id, sequencer_client},
    },
};
use tonic::{Code, transport::Channel};
use tonic_types::StatusExt;

use crate::{
    fixture::{ALICE, MemoryExecutor, ScriptedSequencer, diff, receipt, transfer, tx},
    net::Server,
};

pub struct Stack {
    pub executor: Arc<MemoryExecutor>,
    pub direct: Arc<ScriptedSequencer>,
    pub remote: SequencerClient,
    pub raw: sequencer_client::SequencerClient<Channel>,
    pub server: Server,
}

/// Blocks 1 to 3 exist; 2 is safe, 1 is finalized.
pub async fn stack() -> Stack {
    let executor = MemoryExecutor::new();
    let finalized = executor.append(vec![transfer(0)]).num_hash();
    let safe = executor.append(vec![transfer(1), tx(2, TxKind::Create)]).num_hash();
    let latest = executor.append(vec![]).num_hash();
    let direct = ScriptedSequencer::new(ChainHeads { latest, safe, finalized });
    let server = Server::sequencer(direct.clone(), executor.clone());
    let remote = SequencerClient::new(server.connection());
    let raw = sequencer_client::SequencerClient::new(server.channel().await);
    Stack { executor, direct, remote, raw, server }
}

#[tokio::test]
async fn reads_are_the_same() {
    let Stack { direct, remote, server: _server, .. } = stack().await;
    let tx = transfer(7);
    assert_eq!(remote.submit(tx.encoded().clone()).await.unwrap(), tx.hash());
    assert_eq!(remote.status().await.unwrap(), direct.status().await.unwrap());
    assert_eq!(remote.heads().await.unwrap(), direct.heads);
    assert_eq!(remote.pool_status().await.unwrap(), direct.pool_status().await.unwrap());
    assert_eq!(remote.pending_nonce(ALICE).await.unwrap(), 0xa1);
    assert_eq!(remote.pooled(tx.hash()).await.unwrap(), Some(tx.clone()));
    for stage in [Stage::Accepted, Stage::Sequenced, Stage::Finalized] {
        direct.advance(stage);
        let (one, two) = (remote.transaction(tx.hash()).await, direct.transaction(tx.hash()).await);
        let (one, two) = (one.unwrap().unwrap(), two.unwrap().unwrap());
        assert_eq!((one.tx, one.status), (two.tx, two.status));
    }
    assert_eq!(remote.pooled(tx.hash()).await.unwrap(), None);
    assert!(remote.transaction(B256::ZERO).await.unwrap().is_none());
}

/// A transaction of a megabyte.
fn large() -> Arc<RecoveredTx> {
    let tx = TxEip1559 { input: vec![1; 1 << 20].into(), ..TxEip1559::default() };
    let signed = Signed::new_unhashed(tx, Signature::test_signature());
    Arc::new(RecoveredTx::new_unchecked(TxEnvelope::Eip1559(signed), ALICE))
}

/// Frames of open blocks, of which the second follows the first.
fn frames() -> [Preconfirmation; 2] {
    let start = FrameStart { index: 2, log_index: 5, gas_used: 63_000 };
    let frame = |frame, start, txs: Vec<Arc<RecoveredTx>>| Preconfirmation {
        block: 4,
        parent_hash: B256::repeat_byte(3),
        timestamp: 1_700_000_000,
        base_fee: 7,
        frame,
        start,
        receipts: (1..)
            .zip(&txs)
            .map(|(n, tx)| receipt(tx, start.gas_used + n * 21_000).into())
            .collect(),
        transactions: txs,
        diff: Some(Arc::new(diff())),
    };
    let first = frame(0, start, vec![transfer(7), tx(8, TxKind::Create)]);
    let second = frame(1, start.after(&first.receipts), vec![transfer(9)]);
    assert_eq!((second.start.index, second.start.gas_used), (4, 105_000));
    [first, second]
}

#[tokio::test]
async fn open_blocks_are_told_as_they_are() {
    let Stack { direct, remote, mut raw, server: _server, .. } = stack().await;
    let mut told = remote.preconfirmations(FrameDetail::StateDiffs).await.unwrap().unwrap();
    let request = pb::SubscribePreconfirmationsRequest { state_diff: false };
    let mut raw = raw.subscribe_preconfirmations(request).await.unwrap().into_inner();
    for frame in frames() {
        direct.frames.tell(Arc::new(frame.clone()));
        assert_eq!(*told.next().await.unwrap().unwrap(), frame);
        let message = raw.message().await.unwrap().unwrap();
        let first = &message.transactions[0];
        assert_eq!(first.hash, frame.transactions[0].hash().to_vec());
        assert_eq!(first.receipt.as_ref().unwrap().gas_used, 21_000);
        assert!(message.state_diff_json.is_empty(), "nobody asked for it on this stream");
    }
}

#[tokio::test]
async fn the_last_that_a_subscriber_hears_is_why_there_is_no_more() {
    let Stack { direct, remote, server: _server, .. } = stack().await;
    let mut told = remote.preconfirmations(FrameDetail::Receipts).await.unwrap().unwrap();
    // More than is kept, and what was told before the end comes before it.
    let [mut frame, _] = frames();
    frame.transactions[0] = large();
    for _ in 0..100 {
        direct.frames.tell(Arc::new(frame.clone()));
    }
    let mut seen = 0;
    let error = loop {
        match told.next().await.expect("it ends with an error") {
            Ok(_) => seen += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, SequencerError::Lagged { missed } if missed + seen <= 100), "{error}");
    assert!(told.next().await.is_none());

    let mut told = remote.preconfirmations(FrameDetail::Receipts).await.unwrap().unwrap();
    let [frame, _] = frames();
    direct.frames.tell(Arc::new(frame.clone()));
    direct.frames.close();
    // Its diff was not asked for.
    let frame = Preconfirmation { diff: None, ..frame };
    assert_eq!(*told.next().await.unwrap().unwrap(), frame);
    let ended = told.next().await.unwrap();
    assert!(
        matches!(&ended, Err(SequencerError::Unavailable(why)) if why == "stopped"),
        "{ended:?}"
    );
}

#[tokio::test]
async fn watching_shows_every_stage_once() {
    let Stack { direct, remote, server: _server, .. } = stack().await;
    let hash = remote.submit(transfer(7).encoded().clone()).await.unwrap();
    direct.advance(Stage::Sequenced);
    let mut stages = remote.watch(hash).await.unwrap();
    let mut seen =
        vec![stages.next().await.unwrap().unwrap(), stages.next().await.unwrap().unwrap()];
    direct.advance(Stage::Finalized);
    seen.extend(stages.map(Result::unwrap).collect::<Vec<_>>().await);
    let expected: Vec<TxStatus> =
        direct.watch(hash).await.unwrap().map(Result::unwrap).collect().await;
    assert_eq!(seen, expected);
    assert_eq!(seen.len(), 5);
}

#[tokio::test]
async fn waits_for_a_stage_or_the_drop() {
    let Stack { direct, remote, server: _server, .. } = stack().await;
    let hash = remote.submit(transfer(7).encoded().clone()).await.unwrap();
    direct.advance(Stage::Posted);
    assert_eq!(remote.wait_for(hash, Stage::Posted).await.unwrap().batch, Some(9));
    direct.advance(Stage::Dropped);
    let status = remote.wait_for(hash, Stage::Finalized).await.unwrap();
    assert_eq!((status.stage, status.reason), (Stage::Dropped, Some(RejectReason::Expired)));
    assert!(matches!(
        remote.wait_for(B256::ZERO, Stage::Posted).await,
        Err(SequencerError::UnknownTransaction(B256::ZERO))
    ));
}

#[tokio::test]
async fn refusals_keep_their_type() {
    let Stack { remote, server: _server, .. } = stack().await;
    let raw = transfer(7).encoded().clone();
    let hash = remote.submit(raw.clone()).await.unwrap();
    let again = remote.submit(raw).await;
    assert!(
        matches!(again, Err(SubmitError::Rejected(RejectReason::AlreadyKnown { hash: known })) if known == hash)
    );
    let garbage = remote.submit(vec![1, 2, 3].into()).await;
    assert!(matches!(garbage, Err(SubmitError::Rejected(RejectReason::BadEncoding { .. }))));
    let huge = remote.submit(vec![0; 5 << 20].into()).await;
    assert!(
        matches!(huge, Err(SubmitError::Rejected(RejectReason::Oversize { size, .. })) if size == 5 << 20)
    );
    let failed = remote.submit(Default::default()).await;
    assert!(
        matches!(failed, Err(SubmitError::Failed(error)) if error.class() == ErrorClass::Retryable && error.to_string().ends_with("starting"))
    );
}

#[tokio::test]
async fn a_submission_waits_until_it_is_sequenced() {
    let Stack { direct, mut raw, server: _server, .. } = stack().await;
    let tx = transfer(7);
    let request = pb::SubmitTransactionRequest { raw: tx.encoded().0.clone(), wait_for: 0 };
    let mut script = direct.script.subscribe();
    let reply = tokio::spawn(async move { raw.submit_transaction(request).await });
    script.wait_for(|script| script.taken.len() == 1).await.unwrap();
    assert!(!reply.is_finished());
    direct.advance(Stage::Sequenced);
    let status = reply.await.unwrap().unwrap().into_inner().status.unwrap();
    assert_eq!(status.stage(), pb::Stage::Sequenced);
    let receipt = status.receipt.unwrap();
    assert_eq!((status.block.unwrap().number, status.index, receipt.gas_used), (4, 2, 21_000));
    assert_eq!(receipt.logs[0].topics.len(), 1);
}

#[tokio::test]
async fn blocks_are_found_by_number_hash_and_head() {
    let Stack { executor, direct, mut raw, server: _server, .. } = stack().await;
    let hash = executor.last().hash().to_vec().into();
    for (id, number) in [
        (None, 3),
        (Some(Id::Number(2)), 2),
        (Some(Id::Hash(hash)), 3),
        (Some(Id::Head(pb::Head::Latest.into())), 3),
        (Some(Id::Head(pb::Head::Safe.into())), 2),
        (Some(Id::Head(pb::Head::Finalized.into())), 1),
    ] {
        let block = raw.get_block(pb::GetBlockRequest { id }).await.unwrap().into_inner();
        assert_eq!(block.number, number);
    }
    let request = pb::GetBlockRequest { id: Some(Id::Number(2)) };
    let block = raw.get_block(request).await.unwrap().into_inner();
    assert_eq!(block.hash, direct.heads.safe.hash.to_vec());
    assert_eq!(block.base_fee_per_gas, 7);
    let [transfer, creation] = block.transactions.as_slice() else { panic!("two were put in") };
    let receipts = [transfer, creation].map(|tx| tx.receipt.clone().unwrap());
    assert_eq!(receipts.each_ref().map(|receipt| receipt.gas_used), [21_000; 2]);
    assert!(receipts[0].contract_address.is_empty());
    assert_eq!(receipts[1].contract_address, ALICE.create(2).to_vec());

    let status = raw.get_block(pb::GetBlockRequest { id: Some(Id::Number(9)) }).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    let info = status.get_details_error_info().unwrap();
    assert_eq!((info.reason.as_str(), info.metadata["block"].as_str()), ("UNKNOWN_BLOCK", "9"));
    let status = raw.get_block(pb::GetBlockRequest { id: Some(Id::Head(17)) }).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn block_subscriptions_start_where_they_are_told_and_follow() {
    let Stack { executor, mut raw, server: _server, .. } = stack().await;
    let request = pb::SubscribeBlocksRequest { from: 2 };
    let mut blocks = raw.subscribe_blocks(request).await.unwrap().into_inner();
    assert_eq!(blocks.message().await.unwrap().unwrap().number, 2);
    assert_eq!(blocks.message().await.unwrap().unwrap().number, 3);
    executor.append(vec![transfer(5)]);
    let block = blocks.message().await.unwrap().unwrap();
    assert_eq!((block.number, block.transactions.len()), (4, 1));
}

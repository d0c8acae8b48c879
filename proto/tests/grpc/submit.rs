//! The submission stream.

use alloy::primitives::Bytes;
use millrace_proto::{
    RejectReason, Sequencer, SequencerError, Stage, SubmitError,
    grpc::pb::{
        self, submit_transactions_response::Result as Answer,
        transaction_result::Result as TxAnswer,
    },
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, transport::Channel};

use crate::{
    fixture::transfer,
    sequencer::{Stack, stack},
};

fn request(nonce: u64, wait_for: pb::Stage) -> pb::SubmitTransactionsRequest {
    let raw = transfer(nonce).encoded().0.clone();
    let batch = Vec::new();
    pb::SubmitTransactionsRequest { raw, wait_for: wait_for.into(), tag: 100 + nonce, batch }
}

#[tokio::test]
async fn replies_come_in_order_and_a_wait_blocks_no_admission() {
    let Stack { direct, mut raw, server: _server, .. } = stack().await;
    let mut script = direct.script.subscribe();
    let (requests, receiver) = mpsc::channel(8);
    let mut replies =
        raw.submit_transactions(ReceiverStream::new(receiver)).await.unwrap().into_inner();
    requests.send(request(0, pb::Stage::Finalized)).await.unwrap();
    script.wait_for(|script| script.taken.len() == 1).await.unwrap();
    requests.send(request(1, pb::Stage::Unspecified)).await.unwrap();
    requests.send(request(2, pb::Stage::Sequenced)).await.unwrap();
    // All are taken, though the first still waits.
    script.wait_for(|script| script.taken.len() == 3).await.unwrap();
    direct.advance(Stage::Finalized);
    for (tag, stage) in
        [(100, pb::Stage::Finalized), (101, pb::Stage::Accepted), (102, pb::Stage::Finalized)]
    {
        let reply = replies.message().await.unwrap().unwrap();
        let Some(Answer::Status(status)) = reply.result else { panic!("{reply:?}") };
        assert_eq!((reply.tag, status.stage()), (tag, stage));
    }
    drop(requests);
    assert!(replies.message().await.unwrap().is_none());
}

#[tokio::test]
async fn a_refusal_leaves_the_stream_open() {
    let Stack { mut raw, server: _server, .. } = stack().await;
    let broken = pb::SubmitTransactionsRequest {
        raw: Bytes::from_static(&[1, 2, 3]).0,
        ..request(0, pb::Stage::Accepted)
    };
    let dropped = request(1, pb::Stage::Dropped);
    let requests =
        [broken, dropped, request(2, pb::Stage::Accepted), request(2, pb::Stage::Accepted)];
    let mut replies =
        raw.submit_transactions(futures::stream::iter(requests)).await.unwrap().into_inner();
    let mut results = Vec::new();
    while let Some(reply) = replies.message().await.unwrap() {
        results.push(match reply.result.unwrap() {
            Answer::Status(_) => ("TAKEN".to_owned(), Code::Ok),
            Answer::Rejection(rejection) => (rejection.reason, Code::from_i32(rejection.code)),
            Answer::Batch(batch) => panic!("{batch:?}"),
        });
    }
    assert_eq!(
        results,
        [
            ("BAD_ENCODING".to_owned(), Code::InvalidArgument),
            ("MALFORMED_REQUEST".to_owned(), Code::InvalidArgument),
            ("TAKEN".to_owned(), Code::Ok),
            ("ALREADY_KNOWN".to_owned(), Code::AlreadyExists),
        ]
    );
}

fn batch(nonces: &[u64], wait_for: pb::Stage) -> pb::SubmitTransactionsRequest {
    let raw = |nonce: &u64| transfer(*nonce).encoded().0.clone();
    let batch = nonces.iter().map(raw).collect();
    pb::SubmitTransactionsRequest { raw: Default::default(), batch, ..request(0, wait_for) }
}

#[tokio::test]
async fn a_batch_has_one_reply_with_a_result_for_each() {
    let Stack { direct, mut raw, server: _server, .. } = stack().await;
    let mut mixed = batch(&[0, 1, 1, 2], pb::Stage::Sequenced);
    mixed.batch.insert(1, vec![1, 2, 3].into());
    let both =
        pb::SubmitTransactionsRequest { raw: vec![1].into(), ..batch(&[3], pb::Stage::Accepted) };
    let huge = pb::SubmitTransactionsRequest {
        batch: vec![Default::default(); 4097],
        ..batch(&[], pb::Stage::Accepted)
    };
    let requests = [mixed, both, huge, request(4, pb::Stage::Accepted)];
    direct.advance(Stage::Sequenced);
    let mut replies =
        raw.submit_transactions(futures::stream::iter(requests)).await.unwrap().into_inner();
    let mut next = async || replies.message().await.unwrap().unwrap().result.unwrap();
    let Answer::Batch(results) = next().await else { panic!("not a batch") };
    let results = results.results.into_iter().map(|result| match result.result.unwrap() {
        TxAnswer::Status(status) => status.stage().as_str_name().to_owned(),
        TxAnswer::Rejection(rejection) => rejection.reason,
    });
    let results: Vec<_> = results.collect();
    let sequenced = "STAGE_SEQUENCED";
    assert_eq!(results, [sequenced, "BAD_ENCODING", sequenced, "ALREADY_KNOWN", sequenced]);
    for problem in ["`raw`", "at most 4096"] {
        let Answer::Rejection(rejection) = next().await else { panic!("not refused") };
        assert_eq!(rejection.reason, "MALFORMED_REQUEST");
        assert!(rejection.message.contains(problem), "{}", rejection.message);
    }
    assert!(matches!(next().await, Answer::Status(_)), "the stream goes on");
    assert_eq!(direct.script.borrow().taken.len(), 4);
}

/// Calls that the server answers while it would read more, if it did.
async fn busy_for_a_while(raw: &mut pb::sequencer_client::SequencerClient<Channel>) {
    for _ in 0..20 {
        raw.get_status(pb::GetStatusRequest {}).await.unwrap();
    }
}

/// What waits is counted in transactions, however many a request holds.
#[tokio::test]
async fn no_more_is_read_than_may_wait() {
    let Stack { direct, mut raw, server: _server, .. } = stack().await;
    let mut script = direct.script.subscribe();
    let nonces: Vec<_> = (0..20_000).collect();
    let requests: Vec<_> =
        nonces.chunks(4_000).map(|nonces| batch(nonces, pb::Stage::Sequenced)).collect();
    let mut replies =
        raw.submit_transactions(futures::stream::iter(requests)).await.unwrap().into_inner();
    // The third would be over the window: it is read once the first is answered.
    script.wait_for(|script| script.taken.len() == 8_000).await.unwrap();
    busy_for_a_while(&mut raw).await;
    assert_eq!(direct.script.borrow().taken.len(), 8_000);
    direct.advance(Stage::Sequenced);
    for _ in 0..5 {
        let reply = replies.message().await.unwrap().unwrap();
        let Some(Answer::Batch(batch)) = reply.result else { panic!("{reply:?}") };
        assert_eq!(batch.results.len(), 4_000);
    }
    assert!(replies.message().await.unwrap().is_none());
    assert_eq!(direct.script.borrow().taken.len(), 20_000);
    assert!(direct.script.borrow().calls.iter().all(|size| *size <= 512));
}

/// Results that are there count until their replies go out, which may be behind one that is not.
#[tokio::test]
async fn replies_that_wait_for_another_take_room() {
    let Stack { direct, mut raw, server: _server, .. } = stack().await;
    let mut script = direct.script.subscribe();
    let called = |calls: &[usize]| calls.iter().sum::<usize>();
    let refused = pb::SubmitTransactionsRequest {
        batch: vec![vec![1, 2, 3].into(); 4_000],
        ..batch(&[], pb::Stage::Accepted)
    };
    let requests = [request(0, pb::Stage::Finalized)].into_iter().chain(vec![refused; 10]);
    let mut replies = raw
        .submit_transactions(futures::stream::iter(requests.collect::<Vec<_>>()))
        .await
        .unwrap()
        .into_inner();
    script.wait_for(|script| called(&script.calls) == 8_001).await.unwrap();
    busy_for_a_while(&mut raw).await;
    assert_eq!(called(&direct.script.borrow().calls), 8_001);
    direct.advance(Stage::Finalized);
    for _ in 0..11 {
        assert!(replies.message().await.unwrap().unwrap().result.is_some());
    }
    assert!(replies.message().await.unwrap().is_none());
}

#[tokio::test]
async fn many_go_in_few_calls_and_in_order() {
    let Stack { direct, remote, server: _server, .. } = stack().await;
    let raw: Vec<_> = (0..2000).map(|nonce| transfer(nonce).encoded().clone()).collect();
    let results = remote.submit_many(raw).await;
    assert_eq!(results.len(), 2000);
    for (nonce, result) in (0..).zip(results) {
        assert_eq!(result.unwrap(), transfer(nonce).hash());
    }
    let script = direct.script.borrow();
    assert!(
        script.taken.iter().map(|tx| tx.hash()).eq((0..2000).map(|nonce| transfer(nonce).hash()))
    );
    assert!(script.calls.iter().all(|size| *size <= 512));
}

#[tokio::test]
async fn each_result_stands_in_its_place() {
    let Stack { remote, server: _server, .. } = stack().await;
    let good = |nonce| transfer(nonce).encoded().clone();
    let raw =
        vec![good(0), vec![0; 5 << 20].into(), good(0), Bytes::new(), vec![9].into(), good(1)];
    let results = remote.submit_many(raw).await;
    let [first, huge, known, failed, garbage, last] = results.as_slice() else {
        panic!("{results:?}")
    };
    assert_eq!(first.as_ref().unwrap(), &transfer(0).hash());
    assert!(matches!(huge, Err(SubmitError::Rejected(RejectReason::Oversize { .. }))));
    assert!(matches!(known, Err(SubmitError::Rejected(RejectReason::AlreadyKnown { .. }))));
    assert!(matches!(failed, Err(SubmitError::Failed(SequencerError::Unavailable(_)))));
    assert!(matches!(garbage, Err(SubmitError::Rejected(RejectReason::BadEncoding { .. }))));
    assert_eq!(last.as_ref().unwrap(), &transfer(1).hash());
    assert!(remote.submit_many(Vec::new()).await.is_empty());
}

/// Limits on clients need to know where each is.
#[tokio::test]
async fn the_sequencer_is_told_where_a_transaction_came_from() {
    let Stack { direct, mut raw, server: _server, .. } = stack().await;
    let single = pb::SubmitTransactionRequest {
        raw: transfer(0).encoded().0.clone(),
        wait_for: pb::Stage::Accepted.into(),
    };
    raw.submit_transaction(single).await.unwrap();
    let requests = tokio_stream::iter([request(1, pb::Stage::Accepted)]);
    let mut replies = raw.submit_transactions(requests).await.unwrap().into_inner();
    while replies.message().await.unwrap().is_some() {}
    assert_eq!(direct.script.borrow().senders, [Some([127, 0, 0, 1].into()); 2]);
}

//! The submission stream.

use alloy::primitives::Bytes;
use millrace_proto::{
    RejectReason, Sequencer, SequencerError, Stage, SubmitError,
    grpc::pb::{self, submit_transactions_response::Result as Answer},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use crate::{
    fixture::transfer,
    sequencer::{Stack, stack},
};

fn request(nonce: u64, wait_for: pb::Stage) -> pb::SubmitTransactionsRequest {
    let raw = transfer(nonce).encoded().0.clone();
    pb::SubmitTransactionsRequest { raw, wait_for: wait_for.into(), tag: 100 + nonce }
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

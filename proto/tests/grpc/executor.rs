//! The executor's adapter.

use std::{net::TcpListener, sync::Arc};

use alloy::{
    primitives::{B256, Bytes},
    rpc::types::{
        Filter, TransactionRequest,
        simulate::{SimBlock, SimulatePayload},
        state::StateOverride,
        trace::geth::GethDebugTracingOptions,
    },
};
use futures::StreamExt;
use millrace_proto::{
    AddressPrefix, BlockNumHash, BlockSelector, CallRequest, ErrorChain, ExecutedBlock, Executor,
    ExecutorError, Noting, RejectReason, SimulationCode, TraceLimit, TraceTarget, TransportError,
    TxOutcome,
    grpc::{
        ClientConfig, ConnectError, ExecutorClient, ExecutorServer,
        pb::{self, executor_client},
    },
};
use tonic::{Code, service::Routes};
use tonic_types::StatusExt;

use crate::{
    fixture::{ALICE, BOB, MemoryExecutor, UNEXECUTABLE, attributes, deposit, diff, transfer},
    net::{Server, uri},
};

async fn pair() -> (Arc<MemoryExecutor>, Arc<dyn Executor>, Server) {
    let executor = MemoryExecutor::new();
    let server = Server::executor(executor.clone());
    (executor, Arc::new(ExecutorClient::new(server.connection())), server)
}

#[tokio::test]
async fn reads_are_the_same() {
    let (direct, remote, _server) = pair().await;
    let block = direct.append(vec![deposit(), transfer(0), transfer(1)]);

    assert_eq!(remote.spec().await.unwrap(), direct.spec().await.unwrap());
    assert_eq!(remote.head().await.unwrap(), block.header);
    let selectors = [
        BlockSelector::Latest,
        BlockSelector::Number(0),
        BlockSelector::Number(9),
        BlockSelector::Hash(block.hash()),
        BlockSelector::Hash(B256::ZERO),
    ];
    for at in selectors {
        assert_eq!(remote.header(at).await.unwrap(), direct.header(at).await.unwrap());
        assert_eq!(remote.block(at).await.unwrap(), direct.block(at).await.unwrap());
    }
    for hash in [transfer(1).hash(), B256::ZERO] {
        assert_eq!(remote.locate(hash).await.unwrap(), direct.locate(hash).await.unwrap());
    }
    let at = BlockSelector::Number(1);
    assert_eq!(
        remote.accounts(&[BOB, ALICE], at).await.unwrap(),
        direct.accounts(&[BOB, ALICE], at).await.unwrap()
    );
    let prefixes = [(BOB, 64), (ALICE, 64), (ALICE, 1)];
    let prefixes = prefixes.map(|(address, bits)| AddressPrefix::of(address, bits));
    let found = remote.find_accounts(&prefixes, at).await.unwrap();
    assert_eq!(found, direct.find_accounts(&prefixes, at).await.unwrap());
    assert_eq!((found.accounts, found.total), (vec![None, Some(ALICE), Some(ALICE)], 1));
    let slot = B256::repeat_byte(7);
    assert_eq!(
        remote.storage(ALICE, slot, at).await.unwrap(),
        direct.storage(ALICE, slot, at).await.unwrap()
    );
    assert_eq!(remote.code(BOB, at).await.unwrap(), direct.code(BOB, at).await.unwrap());
    assert_eq!(
        remote.proof(BOB, vec![slot], at).await.unwrap(),
        direct.proof(BOB, vec![slot], at).await.unwrap()
    );
    let filter = Filter::new().from_block(1u64).to_block(1u64);
    assert_eq!(remote.logs(&filter, 10).await.unwrap(), direct.logs(&filter, 10).await.unwrap());
    for number in [1, 9] {
        assert_eq!(
            remote.state_diff(number).await.unwrap(),
            direct.state_diff(number).await.unwrap()
        );
    }
}

#[tokio::test]
async fn calls_are_the_same() {
    let (direct, remote, _server) = pair().await;
    let request = CallRequest {
        transaction: TransactionRequest::default().to(BOB).input(Bytes::from_static(b"abc").into()),
        state_overrides: Some(StateOverride::default()),
        block_overrides: None,
    };
    let at = BlockSelector::Latest;
    let (one, two) = (request.clone(), request.clone());
    assert_eq!(remote.call(one, at).await.unwrap(), direct.call(two, at).await.unwrap());
    let plain = CallRequest { state_overrides: None, ..request.clone() };
    for request in [plain, request] {
        assert_eq!(
            remote.estimate_gas(request.clone(), at).await.unwrap(),
            direct.estimate_gas(request.clone(), at).await.unwrap()
        );
        assert_eq!(
            remote.create_access_list(request.clone(), at).await.unwrap(),
            direct.create_access_list(request, at).await.unwrap()
        );
    }
}

#[tokio::test]
async fn traces_say_what_they_were_asked_for() {
    let (direct, remote, _server) = pair().await;
    let block = BlockSelector::Number(0);
    let transaction = TransactionRequest::default().to(BOB);
    let request = Box::new(CallRequest { transaction, ..CallRequest::default() });
    let options: GethDebugTracingOptions = serde_json::from_value(serde_json::json!({
        "tracer": "callTracer", "tracerConfig": { "withLog": true }, "timeout": "3s", "limit": 5
    }))
    .unwrap();
    for target in [
        TraceTarget::Transaction { block, index: 3 },
        TraceTarget::Call { request: request.clone(), at: block, index: None },
        TraceTarget::Call { request, at: BlockSelector::Latest, index: Some(0) },
    ] {
        let told = remote.trace(target.clone(), options.clone()).await.unwrap();
        assert_eq!(told.get(), direct.trace(target, options.clone()).await.unwrap().get());
    }
    let error = remote.trace(TraceTarget::Block(block), options).await.unwrap_err();
    assert!(matches!(error, ExecutorError::TraceLimit(TraceLimit::Bytes(1024))), "{error:?}");
}

#[tokio::test]
async fn simulated_blocks_come_whole() {
    let (direct, remote, _server) = pair().await;
    direct.append(vec![deposit(), transfer(0)]);
    let mut payload =
        SimulatePayload::default().extend(SimBlock::default()).extend(SimBlock::default());
    let at = BlockSelector::Latest;
    let blocks = remote.simulate(payload.clone(), at).await.unwrap();
    assert_eq!(blocks, direct.simulate(payload.clone(), at).await.unwrap());
    assert_eq!((blocks.len(), blocks[1].calls.len()), (2, 2));
    payload.validation = true;
    let error = remote.simulate(payload, at).await.unwrap_err();
    let expected = SimulationCode::NonceTooHigh;
    assert!(matches!(error, ExecutorError::Simulation(error) if error.code == expected));
}

#[tokio::test]
async fn errors_keep_their_type() {
    let (direct, remote, _server) = pair().await;
    direct.append(vec![transfer(0), transfer(1)]);
    let nowhere = BlockSelector::Hash(B256::repeat_byte(9));
    assert!(matches!(
        remote.code(BOB, nowhere).await,
        Err(ExecutorError::UnknownBlock(at)) if at == nowhere
    ));
    assert!(matches!(
        remote.proof(BOB, vec![], BlockSelector::Latest).await,
        Err(ExecutorError::StatePruned { block: 1, oldest: 2 })
    ));
    assert!(matches!(
        remote.logs(&Filter::new(), 1).await,
        Err(ExecutorError::LimitExceeded { what: "number of logs", limit: 1 })
    ));
    let mut request = CallRequest::default();
    request.transaction.gas_price = Some(1);
    assert!(matches!(
        remote.estimate_gas(request, BlockSelector::Latest).await,
        Err(ExecutorError::InvalidRequest(problem)) if problem == "gas price is below the base fee"
    ));
    let wrong = attributes(&direct.block(BlockSelector::Number(0)).await.unwrap().unwrap().header);
    assert!(matches!(
        remote.open_block(wrong).await,
        Err(ExecutorError::NotHead { head_number: 1, problem, .. }) if problem == "another parent"
    ));
}

#[tokio::test]
async fn builds_a_block() {
    let (direct, remote, _server) = pair().await;
    let mut build = remote.open_block(attributes(&direct.last().header)).await.unwrap();
    assert_eq!(build.base_fee(), Some(7));
    let first = build.execute(vec![deposit(), transfer(0)]).await.unwrap();
    assert!(matches!(first.as_slice(), [
        TxOutcome::Included { index: 0, gas_used: 21_000, .. },
        TxOutcome::Included { index: 1, receipt, .. },
    ] if receipt.logs.len() == 1 && receipt.cumulative_gas_used == 42_000));
    let noted = build
        .execute_noting(vec![transfer(1000), transfer(999), transfer(1)], Noting::Told)
        .await
        .unwrap();
    assert_eq!(noted.diff.as_deref(), Some(&diff()));
    let second = noted.outcomes;
    let far = RejectReason::NonceTooFar { got: 1000, expected: 2, limit: 64 };
    assert_eq!(second[..2], [TxOutcome::Invalid(far), TxOutcome::NoRoom]);
    let block = build.seal().await.unwrap();
    assert_eq!(block, direct.last());
    assert_eq!(block.transactions, [deposit(), transfer(0), transfer(1)]);
}

#[tokio::test]
async fn an_error_discards_the_block() {
    let (direct, remote, _server) = pair().await;
    let mut open = direct.open.subscribe();
    let mut build = remote.open_block(attributes(&direct.last().header)).await.unwrap();
    let error = build.execute(vec![transfer(998)]).await.unwrap_err();
    assert!(matches!(
        error,
        ExecutorError::NotIncludable { hash, reason: RejectReason::Invalid { .. } } if hash == transfer(998).hash()
    ));
    open.wait_for(|open| *open == 0).await.unwrap();
    let error = build.seal().await.unwrap_err();
    assert!(matches!(error, ExecutorError::Transport(TransportError::Closed)), "{error:?}");
    assert_eq!(direct.last().number(), 0);
}

#[tokio::test]
async fn dropping_a_build_discards_the_block() {
    let (direct, remote, _server) = pair().await;
    let mut open = direct.open.subscribe();
    let build = remote.open_block(attributes(&direct.last().header)).await.unwrap();
    assert_eq!(*open.borrow_and_update(), 1);
    drop(build);
    open.wait_for(|open| *open == 0).await.unwrap();
    assert_eq!(direct.last().number(), 0);
}

#[tokio::test]
async fn dropping_a_build_ends_its_execution() {
    let (direct, remote, _server) = pair().await;
    let (mut open, mut executions) = (direct.open.subscribe(), direct.executions.subscribe());
    let mut build = remote.open_block(attributes(&direct.last().header)).await.unwrap();
    tokio::select! {
        outcomes = build.execute(vec![transfer(UNEXECUTABLE)]) => panic!("{outcomes:?}"),
        executing = executions.wait_for(|executions| *executions == 1) => { executing.unwrap(); }
    }
    drop(build);
    open.wait_for(|open| *open == 0).await.unwrap();
}

#[tokio::test]
async fn a_step_that_gets_no_reply_fails() {
    let executor = MemoryExecutor::new();
    let server = Server::executor(executor.clone());
    // Long enough for the first step on a busy machine.
    let call_timeout = std::time::Duration::from_secs(2);
    let config = ClientConfig { call_timeout, ..Default::default() };
    let remote = ExecutorClient::new(config.connect(&server.uri).unwrap());
    let mut build = remote.open_block(attributes(&executor.last().header)).await.unwrap();
    let error = build.execute(vec![transfer(UNEXECUTABLE)]).await.unwrap_err();
    assert!(matches!(
        error,
        ExecutorError::Transport(TransportError::Unreachable(status)) if status.code() == Code::DeadlineExceeded
    ));
}

#[tokio::test]
async fn subscriptions_resume_and_follow() {
    let (direct, remote, _server) = pair().await;
    let blocks: Vec<_> = (0..4).map(|nonce| direct.append(vec![transfer(nonce)])).collect();
    let mut first = remote.subscribe(1).await.unwrap();
    assert_eq!(next(&mut first).await, blocks[0]);
    assert_eq!(next(&mut first).await, blocks[1]);
    drop(first);
    let mut resumed = remote.subscribe(3).await.unwrap();
    assert_eq!(next(&mut resumed).await, blocks[2]);
    assert_eq!(next(&mut resumed).await, blocks[3]);
    let new = direct.append(vec![]);
    assert_eq!(next(&mut resumed).await, new);
}

#[tokio::test]
async fn blocks_are_taken_back_over_the_wire() {
    let (direct, remote, _server) = pair().await;
    let blocks: Vec<_> = (0..3).map(|nonce| direct.append(vec![transfer(nonce)])).collect();
    let unknown = BlockNumHash { number: 1, hash: B256::repeat_byte(9) };
    let error = remote.unwind(unknown).await.unwrap_err();
    assert!(
        matches!(error, ExecutorError::UnknownBlock(BlockSelector::Hash(hash)) if hash == unknown.hash),
        "{error}"
    );
    remote.unwind(blocks[0].num_hash()).await.unwrap();
    assert_eq!(direct.last(), blocks[0]);
}

async fn next(
    blocks: &mut (impl futures::Stream<Item = Result<Arc<ExecutedBlock>, ExecutorError>> + Unpin),
) -> Arc<ExecutedBlock> {
    blocks.next().await.unwrap().unwrap()
}

#[tokio::test]
async fn services_start_in_any_order() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let remote = ExecutorClient::connect(&uri(address)).unwrap();
    let error = remote.head().await.unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with("service unreachable: tcp connect error: Connection refused"),
        "{text}"
    );
    assert_eq!(ErrorChain::new(&error).to_string(), text);
    assert!(matches!(
        error,
        ExecutorError::Transport(TransportError::Unreachable(status)) if status.code() == Code::Unavailable
    ));
    let executor = MemoryExecutor::new();
    let routes = Routes::new(ExecutorServer::new(executor.clone()).into_service());
    let _server = Server::on(TcpListener::bind(address).unwrap(), routes);
    assert_eq!(remote.head().await.unwrap(), executor.last().header);
}

#[tokio::test]
async fn a_lost_server_ends_streams_with_an_error() {
    let (direct, remote, server) = pair().await;
    let mut blocks = remote.subscribe(0).await.unwrap();
    assert_eq!(next(&mut blocks).await, direct.last());
    drop(server);
    assert!(matches!(
        blocks.next().await,
        Some(Err(ExecutorError::Transport(TransportError::Unreachable(_))))
    ));
    assert!(blocks.next().await.is_none());
}

#[tokio::test]
async fn steps_out_of_order_and_broken_fields_are_refused() {
    let (_, _, server) = pair().await;
    let mut raw = executor_client::ExecutorClient::new(server.channel().await);
    let seal = pb::BuildRequest { step: Some(pb::build_request::Step::Seal(pb::Seal {})) };
    let mut replies = raw.build(futures::stream::iter([seal])).await.unwrap().into_inner();
    let status = replies.message().await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(status.get_details_error_info().unwrap().reason, "MALFORMED_REQUEST");

    let at =
        pb::BlockSelector { selector: Some(pb::block_selector::Selector::Hash(vec![1, 2].into())) };
    let status = raw.get_header(at).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let info = status.get_details_error_info().unwrap();
    assert_eq!(info.metadata["field"], "BlockSelector.hash");
    assert_eq!(info.metadata["problem"], "must have 32 bytes, has 2");
}

#[tokio::test]
async fn unusable_addresses_are_refused() {
    assert!(matches!(ExecutorClient::connect("not a uri"), Err(ConnectError::Uri { .. })));
    for uri in ["ftp://localhost:1", "localhost:1"] {
        assert!(matches!(ExecutorClient::connect(uri), Err(ConnectError::Scheme { .. })));
    }
}

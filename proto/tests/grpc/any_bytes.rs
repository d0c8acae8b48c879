//! What any bytes are held to that come as requests: `proto/fuzz` runs it, and the tests beside this over its seeds and what is near them.
//!
//! The first byte says which method is called, and with its highest bit how far transactions have come. Of a method that takes a stream, the
//! rest is cut into messages, each behind its length as two bytes, little endian; else it is the one message.

use std::{
    cell::RefCell,
    sync::{Arc, LazyLock},
    task::Poll,
};

use futures::{Stream, StreamExt, poll};
use http_body_util::{BodyExt, BodyStream, Full};
use millrace_proto::{
    ChainHeads, Stage,
    grpc::{self, ExecutorServer, SequencerServer},
};
use prost::Message;
use prost_types::FileDescriptorSet;
use tokio::{
    runtime::{Builder, Runtime},
    task::yield_now,
};
use tonic::{
    Code, Status,
    body::Body,
    codegen::{Bytes, Service, http},
    service::Routes,
};

use crate::fixture::{MemoryExecutor, ScriptedSequencer, transfer};

/// How often a reply is asked for that does not come. Some never do: of a subscription, of a wait for a stage.
const POLLS: usize = 64;

/// A method: its path, and whether it takes a stream.
#[derive(Debug)]
pub struct Method {
    pub path: String,
    pub is_stream: bool,
}

/// The methods that take more than numbers, in the order of the descriptors.
pub static METHODS: LazyLock<Vec<Method>> = LazyLock::new(|| {
    let files = FileDescriptorSet::decode(grpc::FILE_DESCRIPTOR_SET).expect("descriptors");
    let services = files.file.into_iter().flat_map(|file| file.service);
    let services = services.filter(|service| matches!(service.name(), "Sequencer" | "Executor"));
    let methods = services.flat_map(|service| {
        let path = format!("/millrace.v1.{}/", service.name());
        service.method.into_iter().map(move |method| Method {
            path: format!("{path}{}", method.name()),
            is_stream: method.client_streaming(),
        })
    });
    methods.collect()
});

/// The bytes that stand for a call with these messages.
pub fn call(path: &str, posted: bool, messages: &[Vec<u8>]) -> Vec<u8> {
    let method = METHODS.iter().position(|method| method.path == path).expect("a method");
    let mut bytes = vec![method as u8 | u8::from(posted) << 7];
    for message in messages {
        if METHODS[method].is_stream {
            bytes.extend((message.len() as u16).to_le_bytes());
        }
        bytes.extend(message);
    }
    bytes
}

/// Calls the method that the bytes say with the messages that they are. It is answered, with a status that says whose fault it is; `None` if
/// it does not end.
///
/// # Panics
/// When it is not.
pub fn any_request(bytes: &[u8]) -> Option<Code> {
    thread_local! {
        static RUNTIME: RefCell<Runtime> =
            RefCell::new(Builder::new_current_thread().build().expect("a runtime"));
    }
    let (selector, rest) = bytes.split_first()?;
    let method = &METHODS[usize::from(*selector & 0x7f) % METHODS.len()];
    let stage = if selector & 0x80 == 0 { Stage::Accepted } else { Stage::Posted };
    let body = if method.is_stream { framed(cut(rest)) } else { framed(vec![rest]) };
    let answer = answer(method, stage, body);
    let status = RUNTIME.with_borrow_mut(|runtime| runtime.block_on(answer))?;
    // A message that is none never reaches a service: the library refuses it so.
    let undecoded = status.message().starts_with("failed to decode Protobuf message");
    assert!(
        undecoded || !matches!(status.code(), Code::Unknown | Code::Internal | Code::Unimplemented),
        "{}: {status:?}",
        method.path,
    );
    Some(status.code())
}

fn cut(mut rest: &[u8]) -> Vec<&[u8]> {
    let mut messages = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_le_bytes(*length)).min(after.len());
        let (message, later) = after.split_at(length);
        messages.push(message);
        rest = later;
    }
    messages
}

/// Messages as gRPC sends them: a byte that says that they are not compressed, and their length.
fn framed(messages: Vec<&[u8]>) -> Bytes {
    let mut body = Vec::new();
    for message in messages {
        body.push(0);
        body.extend((message.len() as u32).to_be_bytes());
        body.extend(message);
    }
    body.into()
}

/// An executor with a few blocks.
pub fn executor() -> (Arc<MemoryExecutor>, ChainHeads) {
    let executor = MemoryExecutor::new();
    let finalized = executor.append(vec![transfer(0)]).num_hash();
    let safe = executor.append(vec![transfer(1)]).num_hash();
    let latest = executor.append(vec![]).num_hash();
    (executor, ChainHeads { latest, safe, finalized })
}

/// Services with these blocks and a transaction.
fn services(stage: Stage) -> Routes {
    let (executor, heads) = executor();
    let sequencer = ScriptedSequencer::new(heads);
    sequencer.script.send_modify(|script| script.taken.push(transfer(7)));
    sequencer.advance(stage);
    let public = SequencerServer::new(sequencer, executor.clone()).into_service();
    Routes::new(public).add_service(ExecutorServer::new(executor).into_service())
}

/// The status that a call ends with; `None` if it does not end.
async fn answer(method: &Method, stage: Stage, body: Bytes) -> Option<Status> {
    let request = http::Request::post(&method.path)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Body::new(Full::new(body).map_err(|never| match never {})))
        .expect("a request");
    let calls = futures::stream::once(services(stage).call(request));
    let response = next(&mut Box::pin(calls)).await??.expect("an answer");
    let (head, body) = response.into_parts();
    assert_eq!(head.status, http::StatusCode::OK);
    if let Some(status) = Status::from_header_map(&head.headers) {
        return Some(status);
    }
    let mut frames = BodyStream::new(body);
    while let Some(frame) = next(&mut frames).await? {
        if let Ok(trailers) = frame.expect("a frame").into_trailers() {
            return Status::from_header_map(&trailers);
        }
    }
    panic!("{} ended without a status", method.path);
}

/// The next item, or the end; `None` if neither comes.
async fn next<S: Stream + Unpin>(items: &mut S) -> Option<Option<S::Item>> {
    for _ in 0..POLLS {
        if let Poll::Ready(item) = poll!(items.next()) {
            return Some(item);
        }
        yield_now().await;
    }
    None
}

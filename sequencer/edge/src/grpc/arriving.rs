//! A request's messages as they arrive: one that is not whole takes room among those of all connections, and has a time to become so.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use millrace_proto::grpc::{overloaded, too_slow};
use tokio::time::{Instant, Sleep, sleep};
use tonic::{Status, body::Body as GrpcBody};

use crate::{bytes::HeldBytes, connection::ConnectionInfo, edge::Edge};

/// A request's body on its way to the service.
pub(super) struct Arriving {
    inner: GrpcBody,
    edge: Arc<Edge>,
    message: Message,
    held: HeldBytes,
    /// While something has to come.
    deadline: Option<Pin<Box<Sleep>>>,
    limit: Duration,
}

impl Arriving {
    /// `waited_for` says that a message has to come.
    pub(super) fn new(
        inner: GrpcBody,
        edge: Arc<Edge>,
        info: &ConnectionInfo,
        waited_for: bool,
    ) -> Self {
        let limit = edge.limits().call_timeout;
        let deadline = waited_for.then(|| Box::pin(sleep(limit)));
        let held = info.held_bytes();
        Self { inner, edge, message: Message::default(), held, deadline, limit }
    }

    fn arrived(&mut self, data: &[u8]) -> Result<(), Status> {
        let before = self.message;
        self.message.push(data);
        if self.message.count != before.count {
            // Those before are whole, and the service's.
            self.held.clear();
            self.deadline = None;
        }
        if self.message.is_between() {
            return Ok(());
        }
        if self.deadline.is_none() {
            self.deadline = Some(Box::pin(sleep(self.limit)));
        }
        let of_this = data.len().min(self.message.arrived());
        self.held.grow(of_this).map_err(|why| overloaded(why.what(), why.retry_after()))?;
        Ok(())
    }
}

impl Body for Arriving {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        match Pin::new(&mut this.inner).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                let arrived = frame.data_ref().map_or(Ok(()), |data| this.arrived(data));
                Poll::Ready(Some(arrived.map(|()| frame)))
            }
            Poll::Ready(end) => {
                this.held.clear();
                this.deadline = None;
                Poll::Ready(end)
            }
            Poll::Pending => {
                let Some(deadline) = &mut this.deadline else { return Poll::Pending };
                ready!(deadline.as_mut().poll(cx));
                this.edge.overdue();
                // It is polled no more, and if it were: not at once.
                deadline.as_mut().reset(Instant::now() + this.limit);
                Poll::Ready(Some(Err(too_slow(this.limit))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Where in a message its bytes are: each has a byte that says whether it is compressed, four with its length, and as many as these say
/// ([gRPC over HTTP/2](https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md)).
#[derive(Debug, Clone, Copy, Default)]
struct Message {
    prefix: [u8; 5],
    prefix_len: usize,
    /// Bytes of the message that are not here, once its prefix is.
    missing: usize,
    /// Messages before it.
    count: u64,
}

impl Message {
    fn push(&mut self, mut data: &[u8]) {
        while let Some((byte, rest)) = data.split_first() {
            if let Some(place) = self.prefix.get_mut(self.prefix_len) {
                *place = *byte;
                self.prefix_len += 1;
                data = rest;
                self.missing = self.length().unwrap_or(0) as usize;
            } else {
                let taken = self.missing.min(data.len());
                self.missing -= taken;
                data = data.get(taken..).unwrap_or_default();
            }
            if self.length().is_some() && self.missing == 0 {
                *self = Self { count: self.count + 1, ..Self::default() };
            }
        }
    }

    /// The length of a message that is not whole, once it is known.
    fn length(&self) -> Option<u32> {
        let [_, length @ ..] = self.prefix;
        (self.prefix_len == self.prefix.len()).then(|| u32::from_be_bytes(length))
    }

    /// How much of a message that is not whole is here.
    fn arrived(&self) -> usize {
        self.prefix_len + self.length().map_or(0, |length| length as usize - self.missing)
    }

    /// Whether nothing of the next message is here.
    const fn is_between(&self) -> bool {
        self.prefix_len == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_told_apart_however_they_are_cut() {
        let lengths = [0usize, 1, 5, 300, 0, 70_000];
        let stream: Vec<u8> = lengths
            .iter()
            .flat_map(|length| {
                let mut message = vec![0];
                message.extend((*length as u32).to_be_bytes());
                message.extend(std::iter::repeat_n(7, *length));
                message
            })
            .collect();
        for cut in [1, 2, 3, 5, 7, 64, 4_096, stream.len()] {
            let mut message = Message::default();
            for chunk in stream.chunks(cut) {
                message.push(chunk);
            }
            assert_eq!(message.count, lengths.len() as u64, "{cut}");
            assert!(message.is_between(), "{cut}");
        }
        let mut message = Message::default();
        message.push(&[0, 0, 0, 1]);
        assert_eq!((message.length(), message.is_between()), (None, false));
        message.push(&[4, 9, 9]);
        assert_eq!((message.length(), message.missing, message.arrived()), (Some(260), 258, 7));
    }
}

//! Bodies that are counted: a reply's, with which its call ends, and a request's, whose bytes take room.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};

use crate::{
    bytes::HeldBytes,
    calls::{Call, Shed},
    connection::ConnectionInfo,
    gate::BytesPlace,
};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Bytes of a reply that are handed on at once.
const PIECE: usize = 64 << 10;

/// A body that holds its call's place until it is taken, or nobody takes it any more.
#[derive(Debug)]
pub struct CallBody<B> {
    inner: B,
    /// What is here and was not handed on.
    rest: Bytes,
    _call: Call,
    /// Of a reply that is here whole.
    _place: Option<BytesPlace>,
}

impl<B> CallBody<B> {
    /// Hands the call to the body of its reply.
    pub const fn new(inner: B, call: Call) -> Self {
        Self { inner, rest: Bytes::new(), _call: call, _place: None }
    }
}

impl<B: Body> CallBody<B> {
    /// As [`Self::new`], of a reply that is here whole: until it is taken, it takes room.
    ///
    /// # Errors
    /// When the connection's client, or all together, leave too much lying.
    pub fn whole(inner: B, call: Call, info: &ConnectionInfo) -> Result<Self, Shed> {
        let bytes = inner.size_hint().exact().and_then(|bytes| usize::try_from(bytes).ok());
        let place = bytes.map(|bytes| info.caller().hold_reply(bytes)).transpose()?;
        Ok(Self { inner, rest: Bytes::new(), _call: call, _place: place })
    }
}

/// Handed on a piece at a time: an HTTP server is done with a body once it has the last piece, which it then holds until its client takes it.
impl<B: Body<Data = Bytes> + Unpin> Body for CallBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(other) => return Poll::Ready(Some(Ok(other))),
                },
                end => return Poll::Ready(end),
            }
        }
        let piece = self.rest.len().min(PIECE);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (inner, here) = (self.inner.size_hint(), self.rest.len() as u64);
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower() + here);
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper + here);
        }
        hint
    }
}

/// A request's body whose bytes take room until the last clone of it is dropped: also after they were read.
#[derive(Debug)]
pub struct HeldBody<B> {
    inner: B,
    held: HeldBytes,
}

impl<B> HeldBody<B> {
    /// Counts the bytes of this body.
    pub const fn new(inner: B, held: HeldBytes) -> Self {
        Self { inner, held }
    }
}

/// There was no room for the bytes of a request.
#[derive(Debug, thiserror::Error)]
#[error("there is no room for the bytes of this request")]
struct NoRoom;

impl<B> Body for HeldBody<B>
where
    B: Body + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, BoxError>>> {
        let Some(frame) = ready!(Pin::new(&mut self.inner).poll_frame(cx)) else {
            return Poll::Ready(None);
        };
        let frame = frame.map_err(Into::into)?;
        let bytes = frame.data_ref().map_or(0, Buf::remaining);
        let held = self.held.grow(bytes).map_err(|_| NoRoom.into());
        Poll::Ready(Some(held.map(|()| frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

//! One call: its place among all, and among those of its connection.

use std::{sync::Arc, time::Duration};

use crate::{
    gate::{BytesPlace, CallPlace, Full, Held, Place},
    lull::Lull,
    metrics::{EdgeMetrics, Refused},
};

/// When a call that was refused for room may be tried again: about the time that a block takes.
pub(crate) const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Why a call is not run now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shed {
    /// As many calls run as may in all.
    Calls,
    /// As many calls of this peer run as may.
    PeerCalls,
    /// As many bytes of requests are held as may be.
    Bytes,
    /// As many bytes of replies are not taken as may be.
    Unsent,
}

impl Shed {
    /// What there is too much of.
    pub const fn what(self) -> &'static str {
        match self {
            Self::Calls => "calls",
            Self::PeerCalls => "calls of your address",
            Self::Bytes => "bytes of requests that are not here whole",
            Self::Unsent => "bytes of replies that are not taken",
        }
    }

    /// When to try again.
    pub const fn retry_after(self) -> Duration {
        RETRY_AFTER
    }
}

/// A call that runs, or whose reply is still being taken. Drop it when the reply is.
#[derive(Debug)]
pub struct Call {
    lull: Arc<Lull>,
    timed: Option<usize>,
    _place: CallPlace,
}

impl Drop for Call {
    fn drop(&mut self) {
        self.lull.ended(self.timed);
    }
}

/// What the calls of a connection need of it.
#[derive(Debug)]
pub(crate) struct Caller {
    place: Place,
    lull: Arc<Lull>,
    metrics: Arc<EdgeMetrics>,
}

impl Caller {
    pub(crate) const fn new(place: Place, lull: Arc<Lull>, metrics: Arc<EdgeMetrics>) -> Self {
        Self { place, lull, metrics }
    }

    pub(crate) fn begin(&self, timed: bool) -> Result<Call, Shed> {
        match self.place.call() {
            Ok(place) => {
                let timed = self.lull.began(timed);
                Ok(Call { lull: self.lull.clone(), timed, _place: place })
            }
            Err(Full::Total) => Err(self.shed(Shed::Calls)),
            Err(Full::Peer) => Err(self.shed(Shed::PeerCalls)),
        }
    }

    pub(crate) fn upgraded(&self) {
        self.lull.upgraded();
    }

    pub(crate) fn hold(&self, bytes: u32) -> Result<BytesPlace, Shed> {
        self.place.hold(Held::Requests, bytes).map_err(|_| self.shed(Shed::Bytes))
    }

    pub(crate) fn hold_reply(&self, bytes: usize) -> Result<BytesPlace, Shed> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.place.hold(Held::Replies, bytes).map_err(|_| self.shed(Shed::Unsent))
    }

    fn shed(&self, why: Shed) -> Shed {
        self.metrics.shed(match why {
            Shed::Calls => Refused::Total,
            Shed::PeerCalls => Refused::Peer,
            Shed::Bytes => Refused::Bytes,
            Shed::Unsent => Refused::Unsent,
        });
        why
    }
}

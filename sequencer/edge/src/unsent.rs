//! Replies that a WebSocket's client has not taken: they take room until they are written to its socket.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicBool, Ordering},
};

use parking_lot::Mutex;

use crate::gate::BytesPlace;

/// What is on its way to one client. Replies are written in the order in which they are given.
#[derive(Debug, Default)]
pub(crate) struct Unsent {
    counts: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Bytes that were given, since the connection became a WebSocket.
    given: u64,
    /// Bytes that are written, at most what was given.
    written: u64,
    /// The room of each reply, and where it ends among what was given.
    places: VecDeque<(u64, BytesPlace)>,
}

impl Unsent {
    /// The connection has become a WebSocket.
    pub(crate) fn begin(&self) {
        self.counts.store(true, Ordering::Relaxed);
    }

    /// Whether it has.
    pub(crate) fn has_begun(&self) -> bool {
        self.counts.load(Ordering::Relaxed)
    }

    /// A reply, and its room.
    pub(crate) fn hold(&self, bytes: usize, place: BytesPlace) {
        let mut state = self.state.lock();
        state.given += framed(bytes);
        let end = state.given;
        state.places.push_back((end, place));
    }

    /// Something between the replies that takes no room here.
    pub(crate) fn pass(&self, bytes: usize) {
        self.state.lock().given += framed(bytes);
    }

    /// So many bytes were written to the socket.
    pub(crate) fn wrote(&self, bytes: usize) {
        if !self.has_begun() {
            return;
        }
        let mut state = self.state.lock();
        // What nobody gave, as pongs, is not of what was given.
        let written = (state.written + bytes as u64).min(state.given);
        state.written = written;
        while state.places.pop_front_if(|(end, _)| *end <= written).is_some() {}
    }
}

/// Bytes of a message with its frame's head, which a server does not mask (RFC 6455, section 5.2).
const fn framed(bytes: usize) -> u64 {
    let head = match bytes {
        ..126 => 2,
        126..65_536 => 4,
        _ => 10,
    };
    bytes as u64 + head
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::{
        config::Limits,
        gate::{Gate, Held},
    };

    #[test]
    fn what_nobody_gave_lets_nothing_go_that_comes_later() {
        let gate = Gate::new(&Limits { max_unsent_bytes: 400, ..Limits::default() });
        let place = gate.enter(IpAddr::from([192, 0, 2, 1]).into()).unwrap();
        let unsent = Unsent::default();
        unsent.begin();
        unsent.wrote(10_000);
        unsent.hold(100, place.hold(Held::Replies, 100).unwrap());
        unsent.wrote(1);
        assert!(place.hold(Held::Replies, 1).is_err());
    }

    #[test]
    fn a_reply_takes_room_until_it_is_written() {
        let limits = Limits { max_unsent_bytes: 400, ..Limits::default() };
        let gate = Gate::new(&limits);
        let place = gate.enter(IpAddr::from([192, 0, 2, 1]).into()).unwrap();
        let hold = |bytes| place.hold(Held::Replies, bytes);
        let unsent = Unsent::default();
        unsent.wrote(1_000);
        unsent.begin();
        unsent.hold(60, hold(60).unwrap());
        unsent.pass(5);
        unsent.hold(40, hold(40).unwrap());
        assert!(hold(1).is_err(), "a quarter is one peer's");
        unsent.wrote(61);
        assert!(hold(1).is_err());
        unsent.wrote(1);
        assert!(hold(60).is_ok() && hold(61).is_err());
        unsent.wrote(5 + 2 + 40 + 1);
        assert!(hold(61).is_err());
        unsent.wrote(1);
        assert!(hold(100).is_ok());
        drop(unsent);
        assert!(hold(100).is_ok());
    }
}

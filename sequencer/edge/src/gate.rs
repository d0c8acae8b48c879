//! How many connections and calls there are, in total and of each peer.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use millrace_proto::Peer;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::Limits;

/// Which cap a connection or a call is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    /// The one of all peers together.
    Total,
    /// The one of its peer.
    Peer,
}

/// The caps, and who is inside. Holds an entry a peer that is connected.
#[derive(Debug)]
pub(crate) struct Gate {
    connections: Arc<Semaphore>,
    max_connections: u32,
    connections_per_peer: u32,
    calls: Arc<Semaphore>,
    calls_per_peer: u32,
    requests: Budget,
    replies: Budget,
    peers: Mutex<HashMap<Peer, Arc<Inside>>>,
}

/// What one peer has.
#[derive(Debug, Default)]
struct Inside {
    connections: AtomicU32,
    calls: AtomicU32,
    requests: AtomicU32,
    replies: AtomicU32,
}

/// What bytes are of that take room.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Held {
    /// Requests that are not here whole, or not answered.
    Requests,
    /// Replies that are not taken.
    Replies,
}

/// Room for bytes: of all peers together, and of one.
#[derive(Debug)]
struct Budget {
    total: Arc<Semaphore>,
    per_peer: u32,
}

impl Budget {
    fn new(bytes: u32, limits: &Limits) -> Self {
        // Where peers have no cap of their own, one may have all.
        let per_peer = if limits.max_calls_per_peer == 0 { u32::MAX } else { bytes / 4 };
        Self { total: Arc::new(Semaphore::new(bytes as usize)), per_peer }
    }
}

impl Inside {
    const fn held(&self, what: Held) -> &AtomicU32 {
        match what {
            Held::Requests => &self.requests,
            Held::Replies => &self.replies,
        }
    }
}

/// A connection's place. Gives it back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    gate: Arc<Gate>,
    peer: Peer,
    inside: Arc<Inside>,
    _permit: OwnedSemaphorePermit,
}

/// A call's place. Gives it back when dropped.
#[derive(Debug)]
pub(crate) struct CallPlace {
    inside: Arc<Inside>,
    _permit: OwnedSemaphorePermit,
}

/// Room for bytes. Gives it back when dropped.
#[derive(Debug)]
pub(crate) struct BytesPlace {
    what: Held,
    inside: Arc<Inside>,
    bytes: u32,
    permit: OwnedSemaphorePermit,
}

impl Gate {
    pub(crate) fn new(limits: &Limits) -> Arc<Self> {
        let semaphore = |permits: u32| Arc::new(Semaphore::new(permits as usize));
        let or_all = |cap: u32| if cap == 0 { u32::MAX } else { cap };
        Arc::new(Self {
            connections: semaphore(limits.max_connections),
            max_connections: limits.max_connections,
            connections_per_peer: or_all(limits.max_connections_per_peer),
            calls: semaphore(limits.max_calls),
            calls_per_peer: or_all(limits.max_calls_per_peer),
            requests: Budget::new(limits.max_held_bytes, limits),
            replies: Budget::new(limits.max_unsent_bytes, limits),
            peers: Mutex::default(),
        })
    }

    /// A place for a connection.
    pub(crate) fn enter(self: &Arc<Self>, peer: Peer) -> Result<Place, Full> {
        let permit = self.connections.clone().try_acquire_owned().map_err(|_| Full::Total)?;
        let mut peers = self.peers.lock();
        let inside = peers.entry(peer).or_default();
        // Changes only under the lock.
        let has = inside.connections.load(Ordering::Relaxed);
        if has >= self.connections_per_peer {
            return Err(Full::Peer);
        }
        inside.connections.store(has + 1, Ordering::Relaxed);
        let inside = inside.clone();
        Ok(Place { gate: self.clone(), peer, inside, _permit: permit })
    }

    /// Waits until every place is given back.
    pub(crate) async fn emptied(&self) {
        // An error says that the semaphore is closed, which nobody does.
        let _ = self.connections.acquire_many(self.max_connections).await;
    }
}

impl Place {
    /// A place for a call of this connection.
    pub(crate) fn call(&self) -> Result<CallPlace, Full> {
        let permit = self.gate.calls.clone().try_acquire_owned().map_err(|_| Full::Total)?;
        let taken = CallPlace { inside: self.inside.clone(), _permit: permit };
        if self.inside.calls.fetch_add(1, Ordering::Relaxed) >= self.gate.calls_per_peer {
            return Err(Full::Peer);
        }
        Ok(taken)
    }
}

impl Place {
    /// Room for bytes of this connection.
    pub(crate) fn hold(&self, what: Held, bytes: u32) -> Result<BytesPlace, Full> {
        let inside = self.inside.clone();
        let budget = match what {
            Held::Requests => &self.gate.requests,
            Held::Replies => &self.gate.replies,
        };
        let permit = budget.total.clone().try_acquire_many_owned(bytes);
        let permit = permit.map_err(|_| Full::Total)?;
        let before = inside.held(what).fetch_add(bytes, Ordering::Relaxed);
        let place = BytesPlace { what, inside, bytes, permit };
        if before.saturating_add(bytes) > budget.per_peer { Err(Full::Peer) } else { Ok(place) }
    }
}

impl BytesPlace {
    /// Takes another one in, of the same connection.
    pub(crate) fn merge(&mut self, mut more: Self) {
        let permit = more.permit.split(more.permit.num_permits());
        if let Some(permit) = permit {
            self.permit.merge(permit);
            self.bytes += std::mem::take(&mut more.bytes);
        }
    }
}

impl Drop for BytesPlace {
    fn drop(&mut self) {
        self.inside.held(self.what).fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Drop for CallPlace {
    fn drop(&mut self) {
        self.inside.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut peers = self.gate.peers.lock();
        let left = self.inside.connections.load(Ordering::Relaxed).saturating_sub(1);
        self.inside.connections.store(left, Ordering::Relaxed);
        if left == 0 {
            peers.remove(&self.peer);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn peer(last: u8) -> Peer {
        IpAddr::from([192, 0, 2, last]).into()
    }

    fn gate() -> Arc<Gate> {
        Gate::new(&Limits {
            max_connections: 3,
            max_connections_per_peer: 2,
            max_calls: 3,
            max_calls_per_peer: 2,
            ..Limits::default()
        })
    }

    #[test]
    fn one_peer_does_not_take_all_places() {
        let gate = gate();
        let first = gate.enter(peer(1)).unwrap();
        let _second = gate.enter(peer(1)).unwrap();
        assert_eq!(gate.enter(peer(1)).unwrap_err(), Full::Peer);
        let other = gate.enter(peer(2)).unwrap();
        assert_eq!(gate.enter(peer(3)).unwrap_err(), Full::Total);
        drop(first);
        let _third = gate.enter(peer(1)).unwrap();
        drop(other);
        assert_eq!(gate.peers.lock().len(), 1);
    }

    #[test]
    fn one_peer_does_not_take_all_calls() {
        let gate = gate();
        let (one, two) = (gate.enter(peer(1)).unwrap(), gate.enter(peer(1)).unwrap());
        let call = one.call().unwrap();
        let _second = two.call().unwrap();
        assert_eq!(one.call().unwrap_err(), Full::Peer);
        let other = gate.enter(peer(2)).unwrap();
        let _third = other.call().unwrap();
        assert_eq!(other.call().unwrap_err(), Full::Total);
        drop(call);
        one.call().unwrap();
    }

    #[test]
    fn one_peer_does_not_take_all_room_for_bytes() {
        let gate = |max_calls_per_peer| {
            Gate::new(&Limits { max_held_bytes: 400, max_calls_per_peer, ..Limits::default() })
        };
        let bounded = gate(1);
        let (one, two) = (bounded.enter(peer(1)).unwrap(), bounded.enter(peer(1)).unwrap());
        let mut held = one.hold(Held::Requests, 60).unwrap();
        held.merge(two.hold(Held::Requests, 40).unwrap());
        assert_eq!(two.hold(Held::Requests, 1).unwrap_err(), Full::Peer);
        bounded.enter(peer(2)).unwrap().hold(Held::Requests, 100).unwrap();
        drop(held);
        one.hold(Held::Requests, 100).unwrap();
        let unbounded = gate(0);
        let place = unbounded.enter(peer(1)).unwrap();
        let _held = place.hold(Held::Requests, 400).unwrap();
        assert_eq!(place.hold(Held::Requests, 1).unwrap_err(), Full::Total);
    }

    #[tokio::test]
    async fn a_peer_that_left_is_forgotten() {
        let gate = gate();
        drop(gate.enter(peer(1)).unwrap());
        gate.emptied().await;
        assert!(gate.peers.lock().is_empty());
    }
}

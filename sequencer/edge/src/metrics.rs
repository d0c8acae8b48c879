//! The metrics of a public port.

use std::{collections::HashMap, sync::Once};

use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, gauge};

/// Whose metrics they are, which their names begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// `millrace_grpc_…`
    Grpc,
    /// `millrace_rpc_…`
    JsonRpc,
}

/// Why a connection or a call is refused: the label `reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Refused {
    Total,
    Peer,
    Handshake,
    PlainText,
    Bytes,
    Unsent,
    Token,
    Deadline,
}

/// Why the server ended a connection: the label `reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Closed {
    HeaderTimeout,
    Idle,
    Silent,
    NothingTaken,
    ReplyNotTaken,
}

const CONNECTIONS: [Refused; 4] =
    [Refused::Total, Refused::Peer, Refused::Handshake, Refused::PlainText];
const CALLS: [Refused; 6] = [
    Refused::Total,
    Refused::Peer,
    Refused::Bytes,
    Refused::Unsent,
    Refused::Token,
    Refused::Deadline,
];
const CLOSED: [Closed; 5] = [
    Closed::HeaderTimeout,
    Closed::Idle,
    Closed::Silent,
    Closed::NothingTaken,
    Closed::ReplyNotTaken,
];

impl Refused {
    const fn label(self) -> &'static str {
        match self {
            Self::Total => "total",
            Self::Peer => "peer",
            Self::Handshake => "handshake",
            Self::PlainText => "plain_text",
            Self::Bytes => "bytes",
            Self::Unsent => "unsent",
            Self::Token => "token",
            Self::Deadline => "deadline",
        }
    }
}

impl Closed {
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::HeaderTimeout => "header_timeout",
            Self::Idle => "idle",
            Self::Silent => "silent",
            Self::NothingTaken => "nothing_taken",
            Self::ReplyNotTaken => "reply_not_taken",
        }
    }
}

/// Of one port. Every series is there from the start, at zero, so that an increase from none shows.
#[derive(Debug)]
pub(crate) struct EdgeMetrics {
    connections: Gauge,
    refused: HashMap<Refused, Counter>,
    closed: HashMap<Closed, Counter>,
    shed: HashMap<Refused, Counter>,
}

struct Names {
    connections: &'static str,
    refused: &'static str,
    closed: &'static str,
    shed: &'static str,
}

impl Port {
    const fn names(self) -> Names {
        match self {
            Self::Grpc => Names {
                connections: "millrace_grpc_connections",
                refused: "millrace_grpc_connections_refused_total",
                closed: "millrace_grpc_connections_closed_total",
                shed: "millrace_grpc_calls_shed_total",
            },
            Self::JsonRpc => Names {
                connections: "millrace_rpc_connections",
                refused: "millrace_rpc_connections_refused_total",
                closed: "millrace_rpc_connections_closed_total",
                shed: "millrace_rpc_calls_shed_total",
            },
        }
    }
}

impl EdgeMetrics {
    pub(crate) fn new(port: Port, server: &'static str) -> Self {
        static DESCRIBE: Once = Once::new();
        DESCRIBE.call_once(|| [Port::Grpc, Port::JsonRpc].into_iter().for_each(describe));
        let Names { connections, refused, closed, shed } = port.names();
        let by = |name: &'static str, reason: &'static str| counter!(name, "server" => server, "reason" => reason);
        Self {
            connections: gauge!(connections, "server" => server),
            refused: CONNECTIONS.map(|why| (why, by(refused, why.label()))).into(),
            closed: CLOSED.map(|why| (why, by(closed, why.label()))).into(),
            shed: CALLS.map(|why| (why, by(shed, why.label()))).into(),
        }
    }

    /// Counts a connection while the guard lives.
    pub(crate) fn opened(&self) -> Open {
        self.connections.increment(1.0);
        Open(self.connections.clone())
    }

    pub(crate) fn refused(&self, why: Refused) {
        if let Some(counter) = self.refused.get(&why) {
            counter.increment(1);
        }
    }

    pub(crate) fn closed(&self, why: Closed) {
        if let Some(counter) = self.closed.get(&why) {
            counter.increment(1);
        }
    }

    pub(crate) fn shed(&self, why: Refused) {
        if let Some(counter) = self.shed.get(&why) {
            counter.increment(1);
        }
    }
}

/// Counts one in a gauge while it lives.
#[derive(Debug)]
pub(crate) struct Open(Gauge);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

fn describe(port: Port) {
    let Names { connections, refused, closed, shed } = port.names();
    describe_gauge!(connections, "Open connections of the public port");
    describe_counter!(
        refused,
        "Connections refused, by reason: total and peer (a cap), handshake (TLS failed or took too long), plain_text (no TLS on a TLS port)"
    );
    describe_counter!(
        closed,
        "Connections that the server ended, by reason: header_timeout, idle (no call open), silent (nothing arrives), nothing_taken, reply_not_taken"
    );
    describe_counter!(
        shed,
        "Calls that were not served, by reason: total and peer (a cap), bytes (too much is held), unsent (too many replies are not taken), token (none that counts), deadline (ended for their time)"
    );
}

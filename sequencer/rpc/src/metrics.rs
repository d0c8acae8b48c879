//! This crate's metrics.

use std::{collections::HashMap, sync::Once, time::Instant};

use jsonrpsee::types::error::INTERNAL_ERROR_CODE;
use metrics::{
    Counter, Gauge, Histogram, counter, describe_counter, describe_gauge, describe_histogram,
    gauge, histogram,
};

const UNKNOWN: &str = "unknown";

static DESCRIBE: Once = Once::new();

/// Of one server's subscriptions.
#[derive(Debug)]
pub(crate) struct RpcMetrics {
    subscriptions: Gauge,
    subscriptions_dropped: Counter,
}

/// Of one server's calls. Methods that do not exist count under `unknown`, so that labels stay bounded.
#[derive(Debug)]
pub(crate) struct CallMetrics {
    methods: HashMap<&'static str, MethodMetrics>,
    unknown: MethodMetrics,
}

/// Of one method.
#[derive(Debug)]
pub(crate) struct MethodMetrics {
    ok: Counter,
    client_error: Counter,
    server_error: Counter,
    cut_off: Counter,
    seconds: Histogram,
}

/// Calls of a method that run. Those that have not ended when it is dropped were cut off.
#[derive(Debug)]
pub(crate) struct Running<'m> {
    method: &'m MethodMetrics,
    since: Instant,
    calls: usize,
}

impl RpcMetrics {
    pub(crate) fn new(server: &'static str) -> Self {
        DESCRIBE.call_once(describe);
        Self {
            subscriptions: gauge!("millrace_rpc_subscriptions", "server" => server),
            subscriptions_dropped: counter!("millrace_rpc_subscriptions_dropped_total", "server" => server),
        }
    }

    /// Counts a subscription while the guard lives.
    pub(crate) fn subscription_opened(&self) -> Open {
        Open::new(&self.subscriptions)
    }

    pub(crate) fn subscription_dropped(&self) {
        self.subscriptions_dropped.increment(1);
    }
}

impl CallMetrics {
    pub(crate) fn new(server: &'static str, methods: impl Iterator<Item = &'static str>) -> Self {
        Self {
            methods: methods.map(|method| (method, MethodMetrics::new(server, method))).collect(),
            unknown: MethodMetrics::new(server, UNKNOWN),
        }
    }

    pub(crate) fn method(&self, name: &str) -> &MethodMetrics {
        self.methods.get(name).unwrap_or(&self.unknown)
    }
}

impl MethodMetrics {
    fn new(server: &'static str, method: &'static str) -> Self {
        let requests = |result: &'static str| counter!("millrace_rpc_requests_total", "server" => server, "method" => method, "result" => result);
        Self {
            ok: requests("ok"),
            client_error: requests("client_error"),
            server_error: requests("server_error"),
            cut_off: requests("cut_off"),
            seconds: histogram!("millrace_rpc_request_seconds", "server" => server, "method" => method),
        }
    }

    /// So many calls begin.
    pub(crate) fn begin(&self, calls: usize) -> Running<'_> {
        Running { method: self, since: Instant::now(), calls }
    }
}

impl Running<'_> {
    /// One of them has its reply.
    pub(crate) fn ended(&mut self, error_code: Option<i32>) {
        let method = self.method;
        self.record(match error_code {
            None => &method.ok,
            Some(INTERNAL_ERROR_CODE | crate::error::RESOURCE_UNAVAILABLE) => &method.server_error,
            Some(_) => &method.client_error,
        });
        self.calls = self.calls.saturating_sub(1);
    }

    fn record(&self, result: &Counter) {
        result.increment(1);
        self.method.seconds.record(self.since.elapsed());
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        for _ in 0..self.calls {
            self.record(&self.method.cut_off);
        }
    }
}

/// Counts one in a gauge while it lives.
#[derive(Debug)]
pub(crate) struct Open(Gauge);

impl Open {
    fn new(gauge: &Gauge) -> Self {
        gauge.increment(1.0);
        Self(gauge.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

fn describe() {
    describe_counter!(
        "millrace_rpc_requests_total",
        "JSON-RPC calls that are over, by method and result: ok, client_error (the call was wrong), server_error, cut_off (for its time, or as its caller left)"
    );
    describe_histogram!(
        "millrace_rpc_request_seconds",
        metrics::Unit::Seconds,
        "Time from a JSON-RPC call's arrival to its reply"
    );
    describe_gauge!("millrace_rpc_subscriptions", "Open JSON-RPC subscriptions");
    describe_counter!(
        "millrace_rpc_subscriptions_dropped_total",
        "JSON-RPC subscriptions closed because their client read too slowly"
    );
}

//! `/metrics`, `/health` and `/ready` of one service.

use std::{fmt, future::Future, net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use eyre::{Result, WrapErr};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::crypto;
use crate::config::PerService;

/// Seconds; from a tenth of a millisecond (a group commit) to an hour (a commitment while L1 is dear).
const SECONDS_BUCKETS: [f64; 19] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 15.0, 60.0, 600.0, 3_600.0,
];

/// How many of something.
const COUNT_BUCKETS: [f64; 10] =
    [1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1_000.0, 3_000.0, 10_000.0, 30_000.0];

/// Installs the process's metrics recorder and keeps its histograms bounded.
pub(crate) fn install_recorder() -> Result<PrometheusHandle> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS_BUCKETS)?
        .set_buckets_for_metric(
            Matcher::Suffix("_ratio".into()),
            &[0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0],
        )?
        .set_buckets_for_metric(Matcher::Suffix("_transactions".into()), &COUNT_BUCKETS)?
        .set_buckets_for_metric(Matcher::Suffix("_records".into()), &COUNT_BUCKETS)?
        .set_buckets_for_metric(
            Matcher::Suffix("_bytes".into()),
            &[1e2, 1e3, 1e4, 5e4, 1e5, 2.5e5, 5e5, 1e6, 1e7],
        )?
        .install_recorder()
        .wrap_err("cannot install the metrics recorder")?;
    crypto::start();
    let upkeep = handle.clone();
    tokio::spawn(async move {
        let mut tick = tokio::time::interval(Duration::from_secs(5));
        loop {
            tick.tick().await;
            upkeep.run_upkeep();
        }
    });
    Ok(handle)
}

/// Whose metrics an endpoint shows. In one process all services share a recorder, but each has an endpoint of its own, so
/// that a scrape of all four counts nothing twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MetricsScope {
    Sequencer,
    Executor,
    DaAdapter,
    Settlement,
}

impl MetricsScope {
    /// The service's name in configuration, labels and logs.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Sequencer => "sequencer",
            Self::Executor => "executor",
            Self::DaAdapter => "da-adapter",
            Self::Settlement => "settlement",
        }
    }

    /// This service's value of several.
    pub(crate) const fn of<T: Copy>(self, each: &PerService<T>) -> T {
        match self {
            Self::Sequencer => each.sequencer,
            Self::Executor => each.executor,
            Self::DaAdapter => each.da_adapter,
            Self::Settlement => each.settlement,
        }
    }

    fn owns(self, line: &str) -> bool {
        let name =
            line.strip_prefix("# HELP ").or_else(|| line.strip_prefix("# TYPE ")).unwrap_or(line);
        let is_comment = line.starts_with('#');
        let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
        match self {
            Self::Sequencer => {
                starts(&[
                    "millrace_sequencer_",
                    "millrace_rpc_",
                    "millrace_grpc_",
                    "millrace_crypto_",
                ]) && !line.contains("server=\"dev-l1\"")
            }
            Self::Executor => {
                starts(&["millrace_executor_"]) && (is_comment || line.contains("chain=\"rollup\""))
            }
            Self::DaAdapter | Self::Settlement => {
                let own =
                    if self == Self::DaAdapter { "millrace_da_" } else { "millrace_settlement_" };
                // What a process's services share (requests to L1, its head) has no label `service`.
                let ours = || {
                    line.contains(&format!("service=\"{}\"", self.name()))
                        || (self == Self::Settlement && !line.contains("service=\""))
                };
                starts(&[own]) || (starts(&["millrace_l1_"]) && (is_comment || ours()))
            }
        }
    }

    fn select(self, rendered: &str) -> String {
        let mut out = String::with_capacity(rendered.len());
        for line in rendered.lines().filter(|line| self.owns(line)) {
            out.push_str(line);
            out.push('\n');
        }
        out
    }
}

type ProbeFuture = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

/// Asks a service whether it is making progress; an error says what is stuck.
#[derive(Clone)]
pub(crate) struct Probe(Arc<dyn Fn() -> ProbeFuture + Send + Sync>);

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Probe")
    }
}

impl Probe {
    /// Wraps an async check.
    pub(crate) fn new<F, Fut>(check: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), String>> + Send + 'static,
    {
        Self(Arc::new(move || Box::pin(check())))
    }

    /// Runs the check; one that does not answer within two seconds counts as stuck.
    pub(crate) async fn check(&self) -> Result<(), String> {
        tokio::time::timeout(Duration::from_secs(2), (self.0)())
            .await
            .unwrap_or_else(|_| Err("the service does not answer".into()))
    }
}

/// One service's telemetry endpoint.
#[derive(Debug)]
pub(crate) struct TelemetryServer {
    listener: TcpListener,
    state: Telemetry,
}

#[derive(Debug, Clone)]
struct Telemetry {
    recorder: PrometheusHandle,
    scope: MetricsScope,
    whole_process: bool,
    ready: Probe,
}

impl TelemetryServer {
    /// Binds the endpoint.
    pub(crate) async fn bind(
        listen: SocketAddr,
        scope: MetricsScope,
        recorder: PrometheusHandle,
        ready: Probe,
    ) -> Result<Self> {
        let listener = TcpListener::bind(listen)
            .await
            .wrap_err_with(|| format!("cannot listen on {listen} for {} metrics", scope.name()))?;
        Ok(Self { listener, state: Telemetry { recorder, scope, whole_process: false, ready } })
    }

    /// Shows every metric of the process: no other service runs in it.
    pub(crate) const fn whole_process(mut self) -> Self {
        self.state.whole_process = true;
        self
    }

    /// Where it listens.
    pub(crate) fn local_addr(&self) -> Result<SocketAddr> {
        Ok(self.listener.local_addr()?)
    }

    /// Serves until cancelled.
    pub(crate) async fn run(self, cancel: CancellationToken) -> Result<()> {
        let router = Router::new()
            .route("/metrics", get(render))
            .route("/health", get(|| async { "ok\n" }))
            .route("/ready", get(ready))
            .with_state(self.state);
        axum::serve(self.listener, router)
            .with_graceful_shutdown(cancel.cancelled_owned())
            .await
            .wrap_err("telemetry server failed")
    }
}

async fn render(State(telemetry): State<Telemetry>) -> impl IntoResponse {
    crypto::record();
    let rendered = telemetry.recorder.render();
    let body = if telemetry.whole_process { rendered } else { telemetry.scope.select(&rendered) };
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], body)
}

async fn ready(State(telemetry): State<Telemetry>) -> impl IntoResponse {
    match telemetry.ready.check().await {
        Ok(()) => (StatusCode::OK, "ready\n".to_owned()),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")),
    }
}

#[cfg(test)]
mod tests {
    use super::MetricsScope;

    #[test]
    fn each_line_belongs_to_one_scope() {
        let rendered = "# TYPE millrace_da_batches_total counter\nmillrace_da_batches_total 3\n\
            # TYPE millrace_l1_fees_wei_total counter\nmillrace_l1_fees_wei_total{service=\"da-adapter\"} 1\n\
            millrace_l1_fees_wei_total{service=\"settlement\"} 2\nmillrace_rpc_requests_total 9\nmillrace_l1_head 7\n";
        assert_eq!(
            MetricsScope::DaAdapter.select(rendered),
            "# TYPE millrace_da_batches_total counter\nmillrace_da_batches_total 3\n\
             # TYPE millrace_l1_fees_wei_total counter\nmillrace_l1_fees_wei_total{service=\"da-adapter\"} 1\n"
        );
        assert_eq!(
            MetricsScope::Settlement.select(rendered),
            "# TYPE millrace_l1_fees_wei_total counter\n\
             millrace_l1_fees_wei_total{service=\"settlement\"} 2\nmillrace_l1_head 7\n"
        );
        assert_eq!(MetricsScope::Sequencer.select(rendered), "millrace_rpc_requests_total 9\n");
        assert_eq!(MetricsScope::Executor.select(rendered), "");
    }
}

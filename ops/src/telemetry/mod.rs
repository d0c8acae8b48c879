//! Logs, metrics and health: what an operator watches.

mod crypto;
mod log;
mod server;

pub(crate) use self::{
    log::{LogFormat, init_logs},
    server::{MetricsScope, Probe, TelemetryServer, install_recorder},
};

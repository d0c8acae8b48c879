//! The server over a real executor, seen by clients.

mod fees;
mod follow;
mod logs;
mod metrics;
mod pool;
mod support;
mod wallet;
mod wire;

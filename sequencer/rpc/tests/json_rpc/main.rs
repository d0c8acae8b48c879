//! The server over a real executor, seen by clients.

mod follow;
mod limits;
mod logs;
mod metrics;
mod pool;
mod support;
mod wallet;
mod wire;

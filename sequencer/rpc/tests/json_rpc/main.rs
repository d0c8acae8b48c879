//! The server over a real executor, seen by clients.

mod anvil;
mod fees;
mod follow;
mod limits;
mod logs;
mod metrics;
mod open;
mod pool;
mod reads;
mod simulate;
mod support;
mod traces;
mod wallet;
mod wire;

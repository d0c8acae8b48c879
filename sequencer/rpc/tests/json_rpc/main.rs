//! The server over a real executor, seen by clients.

mod anvil;
mod any_bytes;
mod fees;
mod follow;
mod fuzz;
mod limits;
mod logs;
mod metrics;
mod open;
mod pool;
mod reads;
mod simulate;
mod specification;
mod support;
mod traces;
mod wallet;
mod wire;

//! The executor service over a real store.

#[path = "../support/mod.rs"]
mod support;

mod build;
mod calls;
mod chain;
mod closed;
mod feed;
mod logs;
mod open;
mod replay;
mod traces;

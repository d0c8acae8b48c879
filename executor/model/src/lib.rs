//! Models of how the executor's threads meet: its own source files over loom's locks and atomics, which go through every
//! interleaving that the memory model allows.

#[cfg(test)]
mod parallel {
    #[path = "../../../src/evm/parallel/schedule.rs"]
    mod schedule;
    #[path = "../../../src/evm/parallel/signal.rs"]
    mod signal;
    mod sync;
    mod tests;
}

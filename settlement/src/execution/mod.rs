//! Executing derived batches again, on the sequential path, and comparing what comes out with what the batch claims.

mod batch;
#[cfg(test)]
mod tests;
mod worker;

pub use self::{batch::ExecutionError, worker::ReplayWorkerGone};
pub(crate) use self::{
    batch::{ExecutedBatch, execute_batch},
    worker::{ReplayReader, ReplayWorker},
};

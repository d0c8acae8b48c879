//! Work that would hold up the async threads.

use std::{future, panic};

/// Runs disk or CPU work on the blocking pool, to its end even if the caller goes away. A panic carries over.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(payload) => panic::resume_unwind(payload),
            // The runtime is shutting down and takes this task with it.
            Err(_) => future::pending().await,
        },
    }
}

//! Waiting for what a service needs, so that services start in any order.

use std::{future::Future, time::Duration};

use eyre::{Result, WrapErr};
use millrace_proto::{ErrorChain, ErrorClass, Outage, PastOutage};
use tracing::{debug, info, warn};

use crate::supervisor::stop_signal;

/// Pauses between two questions to a service that does not answer yet.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Asks until there is an answer. False if the process is to stop before.
///
/// # Errors
/// The first that no patience mends.
pub(crate) async fn patiently<T, E, Fut>(
    what: &str,
    ask: impl Fn() -> Fut,
    class: impl Fn(&E) -> ErrorClass,
) -> Result<bool>
where
    E: std::error::Error + Send + Sync + 'static,
    Fut: Future<Output = Result<T, E>>,
{
    tokio::select! {
        result = answered(what, ask, class) => result.map(|()| true),
        stop = stop_signal() => stop.map(|()| false),
    }
}

async fn answered<T, E, Fut>(
    what: &str,
    ask: impl Fn() -> Fut,
    class: impl Fn(&E) -> ErrorClass,
) -> Result<()>
where
    E: std::error::Error + Send + Sync + 'static,
    Fut: Future<Output = Result<T, E>>,
{
    let mut outage = Outage::new();
    let mut pause = FIRST_PAUSE;
    loop {
        match ask().await {
            Ok(_) => break,
            Err(error) if class(&error) == ErrorClass::Retryable => {
                let error = ErrorChain::new(&error);
                if outage.failed() {
                    warn!(target: "millrace", %error, "waiting for {what}");
                } else {
                    debug!(target: "millrace", %error, "still waiting for {what}");
                }
            }
            Err(error) => return Err(error).wrap_err_with(|| what.to_owned()),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    if let Some(PastOutage { failures, lasted }) = outage.over() {
        info!(target: "millrace", failures, ?lasted, "{what} answers");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{
            Arc,
            atomic::{AtomicU32, Ordering},
        },
    };

    use millrace_proto::{ExecutorError, TransportError};
    use parking_lot::Mutex;

    use super::*;

    /// Log lines, written to memory.
    #[derive(Debug, Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_wait_is_one_warning_and_one_line_at_its_end() {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
        let _logging = tracing::subscriber::set_default(subscriber);
        let asked = AtomicU32::new(0);
        let ask = || async {
            match asked.fetch_add(1, Ordering::Relaxed) {
                0..20 => Err(ExecutorError::Transport(TransportError::Closed)),
                _ => Ok(()),
            }
        };
        answered("the executor", ask, |error| error.class()).await.unwrap();
        let written = String::from_utf8(lines.0.lock().clone()).unwrap();
        let count = |text: &str| written.matches(text).count();
        assert_eq!((count("WARN"), count("waiting for the executor")), (1, 1), "{written}");
        assert_eq!((count("INFO"), count("the executor answers")), (1, 1), "{written}");
    }

    #[tokio::test]
    async fn what_patience_does_not_mend_is_told_at_once() {
        let ask = || async { Err::<(), _>(ExecutorError::Stopped("worker 3".into())) };
        let error = answered("the executor", ask, |error| error.class()).await.unwrap_err();
        assert_eq!(format!("{error:#}"), "the executor: executor worker stopped: worker 3");
    }
}

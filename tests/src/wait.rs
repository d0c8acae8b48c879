//! Conditions with a deadline.

use std::{future::Future, time::Duration};

use eyre::{Result, bail};

/// How often a condition is looked at.
const PERIOD: Duration = Duration::from_millis(50);

/// Waits at most two minutes until `probe` gives a value. `Ok(None)` and errors mean: look again.
///
/// # Errors
/// When the deadline passes; the message says what was waited for, and the probe's last error.
pub async fn eventually<T, F, Fut>(what: &str, probe: F) -> Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<Option<T>>>,
{
    eventually_within(Duration::from_secs(120), what, probe).await
}

/// [`eventually`] with another deadline.
///
/// # Errors
/// As [`eventually`].
pub async fn eventually_within<T, F, Fut>(deadline: Duration, what: &str, mut probe: F) -> Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<Option<T>>>,
{
    let mut last_error = None;
    let looking = async {
        let mut clock = tokio::time::interval(PERIOD);
        loop {
            clock.tick().await;
            match probe().await {
                Ok(Some(value)) => return value,
                Ok(None) => {}
                Err(error) => last_error = Some(error),
            }
        }
    };
    match tokio::time::timeout(deadline, looking).await {
        Ok(value) => Ok(value),
        Err(_) => match last_error {
            Some(error) => bail!("{what}: not within {deadline:?}; last error: {error:#}"),
            None => bail!("{what}: not within {deadline:?}"),
        },
    }
}

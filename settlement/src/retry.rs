//! Trying again, with growing pauses.

use std::{error::Error, time::Duration};

use millrace_l1::BeaconError;
use millrace_proto::{DaReadError, ErrorClass};
use tokio_util::sync::CancellationToken;

use crate::SettlementConfig;

/// Pauses between tries: each twice as long as the one before, within bounds.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    next: Duration,
    min: Duration,
    max: Duration,
}

impl Backoff {
    pub(crate) fn new(config: &SettlementConfig) -> Self {
        Self { next: config.retry_min, min: config.retry_min, max: config.retry_max }
    }

    /// The pause to make now.
    pub(crate) fn pause(&mut self) -> Duration {
        let pause = self.next.min(self.max);
        self.next = pause.saturating_mul(2);
        pause
    }

    /// Something succeeded: the next pause is short again.
    pub(crate) const fn reset(&mut self) {
        self.next = self.min;
    }
}

/// Whether a read fails for as long as nobody mends the source: its endpoint is no beacon API, or refuses us.
pub(crate) fn is_lasting(error: &DaReadError) -> bool {
    match error {
        DaReadError::Unavailable { source, .. } => {
            let mut cause: Option<&(dyn Error + 'static)> = Some(&**source);
            while let Some(error) = cause {
                if let Some(error) = error.downcast_ref::<BeaconError>() {
                    return error.class() == ErrorClass::Fatal;
                }
                cause = error.source();
            }
            false
        }
        other => other.class() != ErrorClass::Retryable,
    }
}

/// The service stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stopping;

/// Waits, unless the service stops.
pub(crate) async fn sleep(stop: &CancellationToken, time: Duration) -> Result<(), Stopping> {
    tokio::select! {
        () = stop.cancelled() => Err(Stopping),
        () = tokio::time::sleep(time) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_the_longest() {
        let config = SettlementConfig {
            retry_min: Duration::from_secs(1),
            retry_max: Duration::from_secs(5),
            ..SettlementConfig::default()
        };
        let mut backoff = Backoff::new(&config);
        let pauses: Vec<_> = (0..4).map(|_| backoff.pause().as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 5]);
        backoff.reset();
        assert_eq!(backoff.pause().as_secs(), 1);
    }

    #[test]
    fn what_lasts_is_told_by_the_beacon_apis_answer() {
        #[derive(Debug, thiserror::Error)]
        #[error("neither here nor there")]
        struct Around(#[source] BeaconError);
        let status =
            |status| BeaconError::Status { path: String::new(), status, body: String::new() };
        let unavailable = |source| DaReadError::Unavailable { batch: 1, source };
        for (code, lasts) in [(405, true), (503, false)] {
            assert_eq!(is_lasting(&unavailable(Box::new(status(code)))), lasts);
            assert_eq!(is_lasting(&unavailable(Box::new(Around(status(code))))), lasts);
        }
        assert!(!is_lasting(&unavailable("full".into())));
    }
}

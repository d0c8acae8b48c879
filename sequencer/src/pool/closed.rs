//! Why nothing is taken any more.

use std::sync::Arc;

use millrace_proto::SequencerError;

use crate::log::LogError;

/// Why nothing is taken any more.
#[derive(Debug, Clone)]
pub(crate) enum Closed {
    /// The service was told to stop.
    Stopping,
    /// The order log failed.
    LogFailed(Arc<LogError>),
    /// Blocks are being taken back.
    Unwinding,
    /// The service ended with another error, which its `run` returns.
    Halted,
}

impl From<Closed> for SequencerError {
    fn from(closed: Closed) -> Self {
        match closed {
            Closed::Stopping => Self::Unavailable("it is stopping".into()),
            Closed::LogFailed(error) => Self::OrderLog(Box::new(error)),
            Closed::Unwinding => Self::Unavailable(
                "it takes back blocks, because an L1 reorg took deposits that they hold, or L1 holds other blocks; try again in a moment".into(),
            ),
            Closed::Halted => Self::Unavailable("it has halted; its log says why".into()),
        }
    }
}

//! Owns every long-running task of the process: names it, observes its end, and takes the others down with it.

use std::{future::Future, time::Duration};

use eyre::{Result, WrapErr, eyre};
use millrace_proto::ErrorChain;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

/// How long the tasks may take to drain once the process is told to stop.
const DRAIN: Duration = Duration::from_secs(30);

/// The process's tasks.
#[derive(Debug)]
pub(crate) struct Supervisor {
    tasks: JoinSet<(String, Result<()>)>,
    cancel: CancellationToken,
}

impl Supervisor {
    /// A supervisor with no task yet.
    pub(crate) fn new() -> Self {
        Self { tasks: JoinSet::new(), cancel: CancellationToken::new() }
    }

    /// Cancelled when the process is to stop.
    pub(crate) fn token(&self) -> CancellationToken {
        self.cancel.clone()
    }

    /// Starts a task.
    pub(crate) fn spawn<F>(&mut self, name: impl Into<String>, task: F)
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let name = name.into();
        self.tasks.spawn(async move { (name, task.await) });
    }

    /// Runs until an interrupt or termination signal, or until a task ends, then drains the others.
    ///
    /// # Errors
    /// With the first task that failed or ended on its own.
    pub(crate) async fn run(self) -> Result<()> {
        self.run_until(stop_signal()).await
    }

    /// [`Supervisor::run`] with another signal than the process's own.
    pub(crate) async fn run_until(mut self, stop: impl Future<Output = Result<()>>) -> Result<()> {
        tokio::pin!(stop);
        let mut first_failure = tokio::select! {
            result = &mut stop => {
                info!(target: "millrace", "stopping: draining");
                result.err()
            }
            Some(ended) = self.tasks.join_next() => Some(unexpected_end(ended)),
        };
        self.cancel.cancel();
        let drain = async {
            while let Some(ended) = self.tasks.join_next().await {
                let failure = match ended {
                    Ok((_, Ok(()))) => continue,
                    Ok((name, Err(error))) => error.wrap_err(format!("{name} failed")),
                    Err(error) => eyre!(error).wrap_err("a task panicked"),
                };
                error!(target: "millrace", error = %ErrorChain::new(&*failure), "failed while stopping");
                first_failure.get_or_insert(failure);
            }
        };
        if tokio::time::timeout(DRAIN, drain).await.is_err() {
            first_failure.get_or_insert(eyre!("tasks did not stop within {DRAIN:?}"));
        }
        first_failure.map_or(Ok(()), Err)
    }
}

fn unexpected_end(ended: Result<(String, Result<()>), tokio::task::JoinError>) -> eyre::Report {
    match ended {
        Ok((name, Ok(()))) => eyre!("{name} ended on its own"),
        Ok((name, Err(error))) => error.wrap_err(format!("{name} failed")),
        Err(error) => eyre!(error).wrap_err("a task panicked"),
    }
}

/// Completes on Ctrl-C or SIGTERM.
pub(crate) async fn stop_signal() -> Result<()> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
        .wrap_err("cannot listen for SIGTERM")?;
    tokio::select! {
        result = tokio::signal::ctrl_c() => result.wrap_err("cannot listen for Ctrl-C"),
        _ = terminate.recv() => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use eyre::bail;
    use millrace_proto::{ExecutorError, TransportError};
    use millrace_sequencer::SequencerRunError;

    use super::*;

    #[tokio::test]
    async fn a_failing_task_stops_the_others_and_is_reported() {
        let mut supervisor = Supervisor::new();
        let token = supervisor.token();
        supervisor.spawn("patient", async move {
            token.cancelled().await;
            Ok(())
        });
        supervisor.spawn("broken", async { bail!("disk on fire") });
        let error = supervisor.run_until(std::future::pending()).await.unwrap_err();
        assert_eq!(format!("{error:#}"), "broken failed: disk on fire");
    }

    #[tokio::test]
    async fn a_failure_is_told_with_each_cause_once() {
        let gone = ExecutorError::Transport(TransportError::Closed);
        let failure = SequencerRunError::Executor { block: 7, source: gone };
        let mut supervisor = Supervisor::new();
        supervisor.spawn("sequencer", async move { Err(failure.into()) });
        let error = supervisor.run_until(std::future::pending()).await.unwrap_err();
        assert_eq!(
            ErrorChain::new(&*error).to_string(),
            "sequencer failed: executor, at block 7: the peer closed the stream"
        );
    }

    #[tokio::test]
    async fn a_stop_drains_and_succeeds() {
        let mut supervisor = Supervisor::new();
        let token = supervisor.token();
        supervisor.spawn("patient", async move {
            token.cancelled().await;
            Ok(())
        });
        supervisor.run_until(async { Ok(()) }).await.unwrap();
    }

    #[tokio::test]
    async fn a_task_that_just_ends_is_a_failure() {
        let mut supervisor = Supervisor::new();
        supervisor.spawn("quitter", async { Ok(()) });
        let error = supervisor.run_until(std::future::pending()).await.unwrap_err();
        assert_eq!(error.to_string(), "quitter ended on its own");
    }
}

//! A `millrace follow` process.

use std::{path::PathBuf, process::Stdio, sync::Arc, time::Duration};

use alloy::providers::{ProviderBuilder, RootProvider};
use eyre::{Result, WrapErr, bail, eyre};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    sync::watch,
};
use url::Url;

use crate::{Ready, millrace};

/// How long a follower may take until it is ready.
const START: Duration = Duration::from_secs(60);

/// A running follower. Dropping it kills the process; the data folder goes with the last owner.
#[derive(Debug)]
pub struct Follower {
    child: Child,
    data_dir: Arc<TempDir>,
    rpc: Url,
    metrics: Url,
    status: watch::Receiver<Value>,
}

impl Follower {
    /// Starts a follower of a chain on a fresh folder and waits until it is ready. `sequencer` is where its feed comes from.
    ///
    /// # Errors
    /// When it does not become ready; the process's log is in the message.
    pub async fn start(chain: &Ready, sequencer: Option<&Url>, more: &[&str]) -> Result<Self> {
        let data_dir = tempfile::Builder::new().prefix("millrace-follow-").tempdir()?;
        Self::start_on(Arc::new(data_dir), chain, sequencer, more).await
    }

    async fn start_on(
        data_dir: Arc<TempDir>,
        chain: &Ready,
        sequencer: Option<&Url>,
        more: &[&str],
    ) -> Result<Self> {
        let log_path = data_dir.path().join("log");
        let log = std::fs::File::options().create(true).append(true).open(&log_path)?;
        let mut command = Command::new(millrace()?);
        command
            .args(["follow", "--json"])
            .args(chain.options())
            .args(["--rpc-listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0", "--data-dir"])
            .arg(data_dir.path().join("data"));
        if let Some(sequencer) = sequencer {
            command.args(["--sequencer", sequencer.as_str()]);
        }
        let mut child = command
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .wrap_err("cannot start millrace follow")?;
        let stdout = child.stdout.take().ok_or_else(|| eyre!("standard output is not piped"))?;
        let mut lines = BufReader::new(stdout).lines();
        let log = || std::fs::read_to_string(&log_path).unwrap_or_default();
        let first: Value = match tokio::time::timeout(START, lines.next_line()).await {
            Ok(Ok(Some(line))) => {
                serde_json::from_str(&line).wrap_err_with(|| format!("not a ready line: {line}"))?
            }
            Ok(other) => bail!("millrace follow ended ({other:?}); its log:\n{}", log()),
            Err(_) => bail!("not ready within {START:?}; the log:\n{}", log()),
        };
        let url = |name: &str| -> Result<Url> {
            let url = first[name].as_str().ok_or_else(|| eyre!("no {name} in {first}"))?;
            Ok(url.parse()?)
        };
        let (rpc, metrics) = (url("rpc")?, url("metrics")?);
        let (publish, status) = watch::channel(Value::Null);
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                if let Ok(value) = serde_json::from_str::<Value>(&line) {
                    publish.send_replace(value["status"].clone());
                }
            }
        });
        Ok(Self { child, data_dir, rpc, metrics, status })
    }

    /// Its JSON-RPC.
    pub fn provider(&self) -> RootProvider {
        ProviderBuilder::default().connect_http(self.rpc.clone())
    }

    /// Its JSON-RPC over WebSocket.
    ///
    /// # Errors
    /// Never, as it is an HTTP URL.
    pub fn ws(&self) -> Result<String> {
        let rest = self.rpc.as_str().strip_prefix("http");
        rest.map(|rest| format!("ws{rest}")).ok_or_else(|| eyre!("{} is not HTTP", self.rpc))
    }

    /// Its metrics.
    pub const fn metrics(&self) -> &Url {
        &self.metrics
    }

    /// The last status line.
    pub fn status(&self) -> Value {
        self.status.borrow().clone()
    }

    /// Its log.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn log(&self) -> Result<String> {
        Ok(std::fs::read_to_string(self.log_path())?)
    }

    fn log_path(&self) -> PathBuf {
        self.data_dir.path().join("log")
    }

    /// Waits until the process ends on its own, and returns its exit code.
    ///
    /// # Errors
    /// When it does not, in a minute.
    pub async fn ended(&mut self) -> Result<Option<i32>> {
        let ended = tokio::time::timeout(START, self.child.wait()).await;
        Ok(ended.wrap_err_with(|| self.log().unwrap_or_default())??.code())
    }

    /// Kills it (`kill -9`), and starts it again on the same folder.
    ///
    /// # Errors
    /// As [`Follower::start`].
    pub async fn restart(mut self, chain: &Ready, sequencer: Option<&Url>) -> Result<Self> {
        self.child.kill().await?;
        Self::start_on(Arc::clone(&self.data_dir), chain, sequencer, &[]).await
    }
}

//! A `millrace dev` process.

use std::{
    collections::HashMap,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use alloy::{
    primitives::{Address, B256},
    providers::{Provider, ProviderBuilder, RootProvider},
};
use eyre::{Result, WrapErr, bail, ensure, eyre};
use futures::{StreamExt, stream};
use millrace_l1::testing::{Anvil, AnvilOptions};
use millrace_proto::{Sequencer, Stage, TxStatus, grpc::SequencerClient};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    sync::watch,
    task::JoinHandle,
};
use url::Url;

use crate::{millrace, run};

/// How long a chain may take until it is ready.
const START: Duration = Duration::from_secs(120);
/// How long a chain may take to drain.
const STOP: Duration = Duration::from_secs(60);

/// How to start a chain.
#[derive(Debug, Clone, Default)]
pub struct ChainOptions {
    /// Another L1 than the embedded one.
    pub l1: Option<Url>,
    /// More command line arguments.
    pub args: Vec<String>,
    /// A program that starts the chain in its own place, as `exec` does, with its arguments: a tracer that stands beside it.
    pub under: Vec<String>,
}

impl ChainOptions {
    /// With more command line arguments.
    pub fn args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Started by another program in its own place.
    pub fn under<S: Into<String>>(mut self, program: impl IntoIterator<Item = S>) -> Self {
        self.under = program.into_iter().map(Into::into).collect();
        self
    }

    /// On an external L1.
    pub fn on(mut self, l1: Url) -> Self {
        self.l1 = Some(l1);
        self
    }
}

/// The ready line.
#[derive(Debug, Clone, Deserialize)]
pub struct Ready {
    /// JSON-RPC of the L1.
    pub l1: Url,
    /// Beacon API of the L1.
    pub beacon: Url,
    /// JSON-RPC of the rollup.
    pub rpc: Url,
    /// The same over WebSocket.
    pub ws: Url,
    /// gRPC of the sequencer.
    pub grpc: Url,
    /// Metrics of each service.
    pub metrics: Metrics,
    /// The contract on L1.
    pub rollup: Address,
    /// The rollup's chain id.
    pub chain_id: u64,
    /// The data folder.
    pub data_dir: PathBuf,
    /// The object store that batches go to, if they do.
    pub da_store: Option<Url>,
}

impl Ready {
    /// JSON-RPC of the rollup.
    pub fn provider(&self) -> RootProvider {
        ProviderBuilder::default().connect_http(self.rpc.clone())
    }

    /// gRPC of the sequencer.
    ///
    /// # Errors
    /// When the endpoint is no URL.
    pub fn sequencer(&self) -> Result<SequencerClient> {
        Ok(SequencerClient::connect(self.grpc.as_str())?)
    }

    /// Waits until a transaction has reached a stage.
    ///
    /// # Errors
    /// When it is dropped instead, or does not get there in three minutes.
    pub async fn wait_for(&self, hash: B256, stage: Stage) -> Result<TxStatus> {
        let client = self.sequencer()?;
        let waiting = client.wait_for(hash, stage);
        let status = tokio::time::timeout(Duration::from_secs(180), waiting)
            .await
            .wrap_err_with(|| format!("{hash} did not reach {stage}"))??;
        ensure!(status.stage != Stage::Dropped, "{hash} was dropped: {:?}", status.reason);
        Ok(status)
    }

    /// The command line's options that name the chain on its L1.
    pub fn options(&self) -> Vec<String> {
        let options = [
            ("--l1", self.l1.to_string()),
            ("--beacon", self.beacon.to_string()),
            ("--rollup", self.rollup.to_string()),
        ];
        options.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect()
    }
}

/// The metrics endpoint of each service.
#[derive(Debug, Clone, Deserialize)]
pub struct Metrics {
    /// The sequencer's.
    pub sequencer: Url,
    /// The executor's.
    pub executor: Url,
    /// The DA adapter's.
    pub da_adapter: Url,
    /// The settlement service's.
    pub settlement: Url,
}

/// A running chain. Dropping it kills the process; the data folder goes with the last owner.
#[derive(Debug)]
pub struct Chain {
    child: Child,
    data_dir: Arc<TempDir>,
    options: ChainOptions,
    ready: Ready,
    status: watch::Receiver<Value>,
    reader: JoinHandle<()>,
}

impl Chain {
    /// Starts a chain on a fresh folder and waits until it is ready.
    ///
    /// # Errors
    /// When it does not become ready; the process's log is in the message.
    pub async fn start(options: ChainOptions) -> Result<Self> {
        let data_dir = tempfile::Builder::new().prefix("millrace-test-").tempdir()?;
        Self::start_on(Arc::new(data_dir), options).await
    }

    async fn start_on(data_dir: Arc<TempDir>, options: ChainOptions) -> Result<Self> {
        let log_path = data_dir.path().join("log");
        let log = std::fs::File::options().create(true).append(true).open(&log_path)?;
        let millrace = millrace()?;
        let mut command = match options.under.split_first() {
            Some((program, arguments)) => {
                let mut command = Command::new(program);
                command.args(arguments).arg(millrace);
                command
            }
            None => Command::new(millrace),
        };
        command
            .args(["dev", "--json", "--ports", "auto", "--data-dir"])
            .arg(data_dir.path().join("data"))
            .args(["--log", "warn,millrace=info"]);
        if let Some(l1) = &options.l1 {
            command.args(["--l1", l1.as_str()]);
        }
        let mut child = command
            .args(&options.args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .wrap_err("cannot start millrace")?;
        let stdout = child.stdout.take().ok_or_else(|| eyre!("standard output is not piped"))?;
        let mut lines = BufReader::new(stdout).lines();
        let first = tokio::time::timeout(START, lines.next_line()).await;
        let ready = match first {
            Ok(Ok(Some(line))) => serde_json::from_str::<Ready>(&line)
                .wrap_err_with(|| format!("not a ready line: {line}"))?,
            Ok(other) => bail!("millrace ended ({other:?}); its log:\n{}", tail(&log_path)),
            Err(_) => bail!("not ready within {START:?}; the log:\n{}", tail(&log_path)),
        };
        let (publish, status) = watch::channel(Value::Null);
        let reader = tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                if let Ok(value) = serde_json::from_str(&line) {
                    publish.send_replace(value);
                }
            }
        });
        Ok(Self { child, data_dir, options, ready, status, reader })
    }

    /// The ready line.
    pub const fn ready(&self) -> &Ready {
        &self.ready
    }

    /// The process.
    ///
    /// # Errors
    /// When it has ended.
    pub fn pid(&self) -> Result<u32> {
        self.child.id().ok_or_else(|| eyre!("the process has ended already"))
    }

    /// The last status line.
    pub fn status(&self) -> Value {
        self.status.borrow().clone()
    }

    /// JSON-RPC of the rollup.
    pub fn provider(&self) -> RootProvider {
        self.ready.provider()
    }

    /// JSON-RPC of the L1.
    pub fn l1_provider(&self) -> RootProvider {
        ProviderBuilder::default().connect_http(self.ready.l1.clone())
    }

    /// gRPC of the sequencer.
    ///
    /// # Errors
    /// When the endpoint is no URL.
    pub fn sequencer(&self) -> Result<SequencerClient> {
        self.ready.sequencer()
    }

    /// Waits until a transaction has reached a stage.
    ///
    /// # Errors
    /// As [`Ready::wait_for`]; the end of the log is in the message.
    pub async fn wait_for(&self, hash: B256, stage: Stage) -> Result<TxStatus> {
        let reached = self.ready.wait_for(hash, stage).await;
        reached.wrap_err_with(|| format!("the log:\n{}", self.log()))
    }

    /// Deposits ether on L1, as a user would.
    ///
    /// # Errors
    /// When the command fails.
    pub async fn deposit(&self, to: Address, ether: &str) -> Result<()> {
        let options = self.ready.options();
        let to = to.to_string();
        let mut arguments = vec!["deposit", "--dev-key", "1", "--amount", ether, "--to", &to];
        // A deposit needs no beacon API.
        let named = options.chunks(2).filter(|option| option[0] != "--beacon").flatten();
        arguments.extend(named.map(String::as_str));
        run(&millrace()?, &arguments).await?.success()?;
        Ok(())
    }

    /// Takes a service's folder away, while the chain does not run.
    ///
    /// # Errors
    /// When there is none.
    pub fn lose(&self, service: &str) -> Result<()> {
        let folder = self.data_dir.path().join("data").join(service);
        std::fs::remove_dir_all(&folder).wrap_err_with(|| format!("no {}", folder.display()))
    }

    /// A copy of a service's folder as it is, while the chain does not run.
    ///
    /// # Errors
    /// When it cannot be copied.
    pub fn keep(&self, service: &str) -> Result<TempDir> {
        let copy = tempfile::Builder::new().prefix("millrace-test-").tempdir()?;
        copy_folder(&self.data_dir.path().join("data").join(service), copy.path())?;
        Ok(copy)
    }

    /// Puts a copy in the place of a service's folder, while the chain does not run.
    ///
    /// # Errors
    /// When there is no such folder, or it cannot be copied.
    pub fn put_back(&self, service: &str, copy: &TempDir) -> Result<()> {
        self.lose(service)?;
        copy_folder(copy.path(), &self.data_dir.path().join("data").join(service))
    }

    /// The end of the process's log.
    pub fn log(&self) -> String {
        tail(&self.data_dir.path().join("log"))
    }

    /// Whether the log holds a text.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn log_contains(&self, text: &str) -> Result<bool> {
        Ok(self.log_from(0)?.contains(text))
    }

    /// How long the log is, in bytes.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn log_length(&self) -> Result<u64> {
        Ok(std::fs::metadata(self.data_dir.path().join("log"))?.len())
    }

    /// The log from a byte on.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn log_from(&self, start: u64) -> Result<String> {
        let mut log = std::fs::File::open(self.data_dir.path().join("log"))?;
        log.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        log.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Ctrl-C, and waits until the process has ended.
    ///
    /// # Errors
    /// When it does not end in time.
    pub async fn interrupt(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::SIGINT)?;
        tokio::time::timeout(STOP, self.child.wait())
            .await
            .wrap_err_with(|| {
                format!("did not stop; the log:\n{}", tail(&self.data_dir.path().join("log")))
            })?
            .wrap_err("cannot wait for millrace")
    }

    /// `kill -9`, and waits until the process is gone.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub async fn kill(&mut self) -> Result<()> {
        self.signal(Signal::SIGKILL)?;
        self.child.wait().await?;
        Ok(())
    }

    /// Starts the chain again on the same folder, after it was stopped or killed.
    ///
    /// # Errors
    /// As [`Chain::start`].
    pub async fn restart(&self) -> Result<Self> {
        self.reader.abort();
        Self::start_on(Arc::clone(&self.data_dir), self.options.clone()).await
    }

    /// Starts another chain on a copy of this one's folder, as it is now: this one must not run. On another L1 URL, which is to lead to the same L1.
    ///
    /// # Errors
    /// As [`Chain::start`].
    pub async fn start_on_copy(&self, l1: Url) -> Result<Self> {
        let copy = tempfile::Builder::new().prefix("millrace-test-").tempdir()?;
        copy_folder(&self.data_dir.path().join("data"), &copy.path().join("data"))?;
        Self::start_on(Arc::new(copy), self.options.clone().on(l1)).await
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.pid()?).wrap_err("process ids fit into an i32")?;
        Ok(kill(Pid::from_raw(pid), signal)?)
    }
}

/// How often each transaction is in the chain.
///
/// # Errors
/// When the chain does not answer.
pub async fn occurrences(chain: &Chain) -> Result<HashMap<B256, u32>> {
    let provider = chain.provider();
    let head = provider.get_block_number().await?;
    let mut counts = HashMap::new();
    let mut blocks = stream::iter(1..=head)
        .map(|number| provider.get_block_by_number(number.into()).into_future())
        .buffered(16);
    while let Some(block) = blocks.next().await {
        let block = block?.ok_or_else(|| eyre!("a block is missing below the head"))?;
        for hash in block.transactions.hashes() {
            *counts.entry(hash).or_default() += 1;
        }
    }
    Ok(counts)
}

pub(crate) fn tail(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// Anvil with a block a second, whose safe and finalized tags are one and two epochs of so many slots behind.
///
/// # Errors
/// When it does not start.
pub fn anvil(slots_in_an_epoch: u64) -> Result<Anvil> {
    Ok(Anvil::start(AnvilOptions {
        block_time: Some(Duration::from_secs(1)),
        slots_in_an_epoch: Some(slots_in_an_epoch),
        ..AnvilOptions::default()
    })?)
}

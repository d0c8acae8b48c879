//! The processes that are measured.

use std::{
    io::{self, BufRead, BufReader},
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    thread::{self, sleep},
    time::{Duration, Instant},
};

use eyre::{Result, WrapErr, ensure};
use serde::Deserialize;

use crate::config::PerService;

/// How long a process may take to start.
const PATIENCE: Duration = Duration::from_secs(60);

/// A chain in a process of its own, which ends with this.
#[derive(Debug)]
pub(super) struct Chain {
    process: Process,
    pub(super) ready: Ready,
}

/// The ready line of `millrace dev --json`.
#[derive(Debug, Deserialize)]
pub(super) struct Ready {
    pub(super) rpc: String,
    pub(super) grpc: String,
    pub(super) metrics: PerService<String>,
    pub(super) chain_id: u64,
}

/// An anvil, which ends with this.
#[derive(Debug)]
pub(super) struct Anvil {
    _process: Process,
    pub(super) url: String,
}

/// Is killed when it is dropped.
#[derive(Debug)]
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself; what it wrote goes with its folder.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Chain {
    pub(super) fn start(data_dir: &Path, gas_limit: u64) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["dev", "--json", "--ports", "auto", "--da", "object_store", "--data-dir"]);
        command.arg(data_dir).args(["--gas-limit", &gas_limit.to_string()]);
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = Process(command.spawn().wrap_err("cannot start the chain")?);
        let out = process.0.stdout.take().ok_or_else(|| eyre::eyre!("it has no output"))?;
        let (mut out, mut line) = (BufReader::new(out), String::new());
        out.read_line(&mut line)?;
        // Read to the end: the chain would not survive that nobody listens.
        thread::spawn(move || io::copy(&mut out, &mut io::sink()));
        let ready = serde_json::from_str(&line).wrap_err("the chain did not start")?;
        Ok(Self { process, ready })
    }

    pub(super) fn pid(&self) -> u32 {
        self.process.0.id()
    }
}

impl Anvil {
    /// Mines once a second, which lets it accept more than a block for each transaction does.
    pub(super) fn start(program: &Path, chain_id: u64, gas_limit: u64) -> Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut command = Command::new(program);
        command.args(["--silent", "--block-time", "1", "--order", "fifo"]);
        command.args(["--port", &port.to_string(), "--chain-id", &chain_id.to_string()]);
        command.args(["--gas-limit", &gas_limit.to_string()]);
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        let process = Process(process.wrap_err_with(|| program.display().to_string())?);
        let begin = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            ensure!(begin.elapsed() < PATIENCE, "anvil does not start");
            sleep(Duration::from_millis(50));
        }
        Ok(Self { _process: process, url: format!("http://127.0.0.1:{port}") })
    }
}

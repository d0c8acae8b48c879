//! Programs that the tests run.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use eyre::{Result, WrapErr, bail, ensure, eyre};
use serde_json::Value;
use tokio::process::Command;

use crate::Ready;

/// The longest that a tool may run.
const DEADLINE: Duration = Duration::from_secs(300);

/// What a program left behind.
#[derive(Debug, Clone)]
pub struct Output {
    /// Its exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// The output of a program that must have succeeded.
    ///
    /// # Errors
    /// When it did not; the message holds all that it printed.
    pub fn success(self) -> Result<Self> {
        ensure!(
            self.code == Some(0),
            "exit code {:?}\n{}\n{}",
            self.code,
            self.stdout,
            self.stderr
        );
        Ok(self)
    }

    /// The last line of standard output as JSON.
    ///
    /// # Errors
    /// When it is none.
    pub fn last_json(&self) -> Result<Value> {
        let line = self.stdout.lines().last().ok_or_else(|| eyre!("nothing was printed"))?;
        serde_json::from_str(line).wrap_err_with(|| format!("not JSON: {line}"))
    }
}

/// A number that the environment sets, for tests that a person makes longer.
pub fn setting<T: std::str::FromStr>(name: &str, default: T) -> T {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// The repository's folder.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the workspace").to_owned()
}

/// The `millrace` binary of the profile that the tests were built with.
///
/// # Errors
/// When it is not built.
pub fn millrace() -> Result<PathBuf> {
    let exe = std::env::current_exe()?;
    let profile = exe
        .ancestors()
        .find(|dir| dir.file_name() == Some(OsStr::new("deps")))
        .and_then(Path::parent)
        .ok_or_else(|| eyre!("{} is not in a target folder", exe.display()))?;
    let binary = profile.join("millrace");
    ensure!(
        binary.is_file(),
        "{} is not built; run the tests with tests/run.sh, or `cargo build --workspace` first",
        binary.display()
    );
    Ok(binary)
}

/// A tool of `.tools`, which `tests/setup.sh` fills, or else of the search path.
fn tool(in_tools: &str, name: &str) -> Result<PathBuf> {
    let ours = repository().join(".tools").join(in_tools);
    if ours.is_file() {
        return Ok(ours);
    }
    std::env::var_os("PATH")
        .iter()
        .flat_map(std::env::split_paths)
        .map(|dir| dir.join(name))
        .find(|path| path.is_file())
        .ok_or_else(|| eyre!("{name} is missing; run tests/setup.sh"))
}

/// Runs a program to its end.
///
/// # Errors
/// When it cannot be started, or does not end in time (it is killed then).
pub async fn run(program: &Path, arguments: &[&str]) -> Result<Output> {
    let child = Command::new(program)
        .args(arguments)
        .current_dir(repository().join("tests/clients"))
        .env("NODE_PATH", repository().join(".tools/node_modules"))
        .env("MILLRACE_TOOLS", repository().join(".tools"))
        .env("MILLRACE_PROTO", repository().join("proto"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .wrap_err_with(|| format!("cannot start {}", program.display()))?;
    let Ok(output) = tokio::time::timeout(DEADLINE, child.wait_with_output()).await else {
        bail!("{} {arguments:?} did not end within {DEADLINE:?}", program.display());
    };
    let output = output?;
    Ok(Output {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// Runs `cast`.
///
/// # Errors
/// As [`run`], and when it fails.
pub async fn cast(arguments: &[&str]) -> Result<String> {
    let cast = tool("node_modules/@foundry-rs/cast-linux-amd64/bin/cast", "cast")?;
    Ok(run(&cast, arguments).await?.success()?.stdout.trim().to_owned())
}

/// Runs a script of `tests/clients` with Node.js against a chain.
///
/// # Errors
/// As [`run`], and when it fails.
pub async fn node_client(script: &str, arguments: &[&str]) -> Result<Output> {
    let node = tool("node/bin/node", "node")?;
    run(&node, &[&[script], arguments].concat()).await?.success()
}

/// Runs a script of `tests/clients` with the tests' Python against a chain.
///
/// # Errors
/// As [`run`], and when it fails.
pub async fn python_client(script: &str, arguments: &[&str]) -> Result<Output> {
    let python = tool("python/bin/python", "python3")?;
    run(&python, &[&[script], arguments].concat()).await?.success()
}

/// Where Prometheus is.
///
/// # Errors
/// When it is not installed.
pub fn prometheus() -> Result<PathBuf> {
    tool("prometheus/usr/bin/prometheus", "prometheus")
}

/// Where promtool is.
///
/// # Errors
/// When it is not installed.
pub fn promtool() -> Result<PathBuf> {
    tool("prometheus/usr/bin/promtool", "promtool")
}

/// Where strace is, if it is installed and may trace here.
pub async fn strace() -> Option<PathBuf> {
    let strace = tool("strace/strace", "strace").ok()?;
    let tried = run(&strace, &["-f", "-o", "/dev/null", "true"]).await.ok()?;
    (tried.code == Some(0)).then_some(strace)
}

/// Runs `millrace verify` over a chain's L1 and gives its summary line.
///
/// # Errors
/// As [`run`], and when verification fails.
pub async fn verify(ready: &Ready, more: &[&str]) -> Result<Value> {
    let mut chain = ready.options();
    if let Some(store) = &ready.da_store {
        chain.extend(["--da-store".to_owned(), store.to_string()]);
    }
    let chain: Vec<&str> = chain.iter().map(String::as_str).collect();
    let arguments = [&["verify", "--json"], &chain[..], more].concat();
    run(&millrace()?, &arguments).await?.success()?.last_json()
}

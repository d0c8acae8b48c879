//! An anvil for tests: another implementation of L1, with reorgs and mining on command; and an L1 node that fails.

mod proxy;

use std::{
    env,
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use alloy::{
    primitives::{Address, B256, Bytes},
    signers::local::{MnemonicBuilder, PrivateKeySigner, coins_bip39::English},
};
use serde_json::{Value, json};
use url::Url;

pub use self::proxy::{Fault, FaultProxy};
use crate::{ClientOptions, DeployParams, FinalityRule, L1Client, L1Error};

/// The mnemonic of anvil's prefunded accounts.
pub const MNEMONIC: &str = "test test test test test test test test test test test junk";

/// How long anvil may take to listen.
const START_TIMEOUT: Duration = Duration::from_secs(30);

alloy::sol!(
    /// A token like USDT: it answers nothing, and grants no allowance while another stands.
    #[allow(missing_docs)]
    #[sol(rpc)]
    #[derive(Debug)]
    SilentToken,
    "../contracts/test/artifacts/SilentToken.json"
);

/// How to start anvil.
#[derive(Debug, Clone, Default)]
pub struct AnvilOptions {
    /// Blocks on a clock; without one, every transaction is mined at once.
    pub block_time: Option<Duration>,
    /// Blocks only on [`Anvil::mine`].
    pub no_mining: bool,
    /// The fork's name, for example `prague`; anvil's newest if not given.
    pub hardfork: Option<String>,
    /// 31337 if not given.
    pub chain_id: Option<u64>,
    /// Safe is so many blocks behind the head, finalized twice as many.
    pub slots_in_an_epoch: Option<u64>,
    /// A free port if not given.
    pub port: Option<u16>,
    /// Further arguments.
    pub args: Vec<String>,
}

/// Why there is no anvil.
#[derive(Debug, thiserror::Error)]
pub enum AnvilError {
    /// No binary.
    #[error(
        "anvil is not installed: run `npm install --prefix .tools --no-save @foundry-rs/anvil@1.7.1` in the repository's root, \
         put anvil on the PATH, or name it in MILLRACE_ANVIL"
    )]
    NotInstalled,
    /// It does not start.
    #[error("cannot start {path}: {source}")]
    Spawn {
        /// The binary.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It starts and does not listen.
    #[error("anvil ended or did not listen in time; its output: {output}")]
    NotListening {
        /// What it printed.
        output: String,
    },
}

/// A running anvil; dropping it ends it.
#[derive(Debug)]
pub struct Anvil {
    child: Child,
    url: Url,
    client: L1Client,
}

impl Anvil {
    /// Starts anvil and waits until it listens.
    pub fn start(options: AnvilOptions) -> Result<Self, AnvilError> {
        let path = find().ok_or(AnvilError::NotInstalled)?;
        let mut command = Command::new(&path);
        command.args(["--host", "127.0.0.1", "--port", &options.port.unwrap_or(0).to_string()]);
        if let Some(block_time) = options.block_time {
            command.args(["--block-time", &block_time.as_secs_f64().to_string()]);
        }
        if options.no_mining {
            command.arg("--no-mining");
        }
        if let Some(hardfork) = &options.hardfork {
            command.args(["--hardfork", hardfork]);
        }
        if let Some(chain_id) = options.chain_id {
            command.args(["--chain-id", &chain_id.to_string()]);
        }
        if let Some(slots) = options.slots_in_an_epoch {
            command.args(["--slots-in-an-epoch", &slots.to_string()]);
        }
        command
            .args(&options.args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child =
            command.spawn().map_err(|source| AnvilError::Spawn { path: path.clone(), source })?;

        let url = match listening_url(&mut child) {
            Ok(url) => url,
            Err(error) => {
                end(&mut child);
                return Err(error);
            }
        };
        let client = match L1Client::new(url.clone(), test_patience()) {
            Ok(client) => client,
            Err(error) => {
                end(&mut child);
                return Err(AnvilError::NotListening { output: error.to_string() });
            }
        };
        Ok(Self { child, url, client })
    }

    /// The JSON-RPC endpoint, and the beacon API's.
    pub const fn url(&self) -> &Url {
        &self.url
    }

    /// A client that polls often.
    pub const fn client(&self) -> &L1Client {
        &self.client
    }

    /// The key of one of anvil's prefunded accounts.
    pub fn signer(&self, index: u32) -> PrivateKeySigner {
        dev_signer(index)
    }

    /// Any RPC call.
    pub async fn rpc(&self, method: &'static str, params: Value) -> Result<Value, L1Error> {
        self.client.request(method, params).await
    }

    /// Mines blocks.
    pub async fn mine(&self, blocks: u64) -> Result<(), L1Error> {
        self.rpc("anvil_mine", json!([blocks])).await.map(drop)
    }

    /// Whether every transaction gets a block at once.
    pub async fn set_automine(&self, on: bool) -> Result<(), L1Error> {
        self.rpc("evm_setAutomine", json!([on])).await.map(drop)
    }

    /// Replaces the last `depth` blocks by empty ones. Their transactions are gone.
    pub async fn reorg(&self, depth: u64) -> Result<(), L1Error> {
        self.rpc("anvil_reorg", json!([depth, []])).await.map(drop)
    }

    /// Replaces the last `depth` blocks by others that hold these transactions, each with how many blocks lie before it.
    pub async fn reorg_to(&self, depth: u64, txs: &[(Bytes, u64)]) -> Result<(), L1Error> {
        self.rpc("anvil_reorg", json!([depth, txs])).await.map(drop)
    }

    /// Stops the process where it is, as a node that hangs; [`Self::resume`] lets it go on.
    pub fn pause(&self) -> io::Result<()> {
        signal(&self.child, "-STOP")
    }

    /// Undoes [`Self::pause`].
    pub fn resume(&self) -> io::Result<()> {
        signal(&self.child, "-CONT")
    }
}

impl Drop for Anvil {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// The key of one of the accounts of [`MNEMONIC`].
pub fn dev_signer(index: u32) -> PrivateKeySigner {
    MnemonicBuilder::<English>::default()
        .phrase(MNEMONIC)
        .index(index)
        .and_then(|builder| builder.build())
        .expect("the mnemonic is well formed")
}

/// What a chain is made with, but for the rights of its accounts: the owner is the guardian too, and nothing waits.
pub fn test_params(owner: Address, batcher: Address, committer: Address) -> DeployParams {
    DeployParams {
        owner,
        owner_transfer_delay: 0,
        batcher,
        committer,
        guardian: owner,
        timelock_delay: 0,
        finality: FinalityRule::ChallengeWindow { seconds: 60 },
        sequencer_timeout: 86_400,
        inclusion_window: 7_200,
        l2_chain_id: 42_042,
        genesis_hash: B256::repeat_byte(1),
        genesis_state_root: B256::repeat_byte(2),
        genesis_json: b"{}".into(),
    }
}

/// Patience that suits a node on this machine.
pub fn test_patience() -> ClientOptions {
    ClientOptions {
        poll_interval: Duration::from_millis(20),
        request_timeout: Duration::from_secs(10),
        retries: 2,
        ..ClientOptions::default()
    }
}

fn end(child: &mut Child) {
    // Errors mean that it has ended already.
    let _ = child.kill();
    let _ = child.wait();
}

fn signal(child: &Child, signal: &str) -> io::Result<()> {
    let status = Command::new("kill").args([signal, &child.id().to_string()]).status()?;
    if status.success() {
        Ok(())
    } else {
        Err(io::Error::other(format!("kill {signal}: {status}")))
    }
}

/// `MILLRACE_ANVIL`, the `PATH`, or what npm installed under the workspace's `.tools`.
fn find() -> Option<PathBuf> {
    if let Some(named) = env::var_os("MILLRACE_ANVIL") {
        return Some(named.into());
    }
    let on_path = env::var_os("PATH").and_then(|path| {
        env::split_paths(&path).map(|dir| dir.join("anvil")).find(|file| file.is_file())
    });
    on_path.or_else(|| {
        let os = if cfg!(target_os = "macos") { "darwin" } else { "linux" };
        let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?.parent()?;
        let installed = workspace
            .join(".tools/node_modules/@foundry-rs")
            .join(format!("anvil-{os}-{arch}"))
            .join("bin/anvil");
        installed.is_file().then_some(installed)
    })
}

/// Reads the address off the standard output, which goes on being read so that the pipe never fills.
fn listening_url(child: &mut Child) -> Result<Url, AnvilError> {
    let not_listening = |output: String| AnvilError::NotListening { output };
    let stdout = child.stdout.take().ok_or_else(|| not_listening("none".to_owned()))?;
    let (sender, lines) = mpsc::channel();
    thread::Builder::new()
        .name("anvil-output".to_owned())
        .spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                // Nobody listens once anvil does.
                let _ = sender.send(line);
            }
        })
        .map_err(|source| not_listening(source.to_string()))?;
    let mut output = Vec::new();
    loop {
        let Ok(line) = lines.recv_timeout(START_TIMEOUT) else {
            return Err(not_listening(output.join("\n")));
        };
        if let Some(address) = line.strip_prefix("Listening on ") {
            return Url::parse(&format!("http://{address}"))
                .map_err(|_| not_listening(line.clone()));
        }
        output.push(line);
    }
}

//! Each service of a chain in a process of its own.

use std::{
    collections::BTreeMap,
    fmt::Write,
    path::{Path, PathBuf},
    process::Stdio,
};

use alloy::{
    primitives::{Address, B256},
    providers::Provider,
};
use eyre::{Result, WrapErr, ensure, eyre};
use millrace_l1::{
    TxManagerConfig,
    testing::{Anvil, FaultProxy},
};
use millrace_proto::{
    Stage, TxStatus,
    grpc::{DaAdapterClient, SettlementClient},
};
use tempfile::TempDir;
use tokio::{
    net::TcpListener,
    process::{Child, Command},
};
use url::Url;

use crate::{
    Ready,
    chain::{Metrics, tail},
    dev_key, eventually, millrace, run,
};

/// A service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Service {
    /// `millrace executor`
    Executor,
    /// `millrace sequencer`
    Sequencer,
    /// `millrace da-adapter`
    DaAdapter,
    /// `millrace settlement`
    Settlement,
    /// `millrace verifier`
    Verifier,
}

impl Service {
    /// The command that runs it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Executor => "executor",
            Self::Sequencer => "sequencer",
            Self::DaAdapter => "da-adapter",
            Self::Settlement => "settlement",
            Self::Verifier => "verifier",
        }
    }
}

/// All of them, in an order that makes each wait for another.
const SERVICES: [Service; 5] = [
    Service::Settlement,
    Service::DaAdapter,
    Service::Sequencer,
    Service::Executor,
    Service::Verifier,
];

/// How to start the services.
#[derive(Debug, Clone)]
pub struct ServicesOptions {
    /// JSON-RPC of the L1, which may be a proxy that fails.
    pub l1: Url,
    /// Beacon API of the L1.
    pub beacon: Url,
    /// What L1 transactions may bid.
    pub transactions: TxManagerConfig,
    /// Whether commitments are final by a verifier's signature, which runs too then.
    pub verifier: bool,
    /// More tables of the configuration file.
    pub more: String,
}

impl ServicesOptions {
    /// An L1 behind a proxy, which the beacon API is not, and transactions with these caps.
    pub fn behind(proxy: &FaultProxy, anvil: &Anvil, transactions: TxManagerConfig) -> Self {
        let (l1, beacon) = (proxy.url.clone(), anvil.url().clone());
        Self { l1, beacon, transactions, verifier: false, more: String::new() }
    }
}

/// A chain whose services run, each by itself, on a fresh folder. Dropping it kills them.
#[derive(Debug)]
pub struct Services {
    dir: TempDir,
    ports: Ports,
    ready: Ready,
    processes: BTreeMap<Service, Child>,
}

impl Services {
    /// Makes a contract on L1 and starts the services, and waits until JSON-RPC answers.
    ///
    /// # Errors
    /// When it does not; the services' logs are in the message.
    pub async fn start(options: ServicesOptions) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("millrace-test-").tempdir()?;
        let ports = Ports::free().await?;
        let write = |rollup| {
            for service in SERVICES {
                let config = ports.config(&options, rollup, service, &dir.path().join("data"));
                std::fs::write(config_path(dir.path(), service), config?)?;
            }
            Ok::<_, eyre::Report>(())
        };
        write(Address::ZERO)?;
        let rollup = deploy(&options, &config_path(dir.path(), Service::Settlement)).await?;
        write(rollup)?;
        let ready = ports.ready(&options, rollup, dir.path().join("data"))?;
        let mut services = Self { dir, ports, ready, processes: BTreeMap::new() };
        for service in SERVICES {
            if service != Service::Verifier || options.verifier {
                services.spawn(service)?;
            }
        }
        let rpc = services.ready.provider();
        let chain_id = eventually("JSON-RPC", || async { Ok(Some(rpc.get_chain_id().await?)) });
        services.ready.chain_id = chain_id.await.wrap_err_with(|| services.log())?;
        Ok(services)
    }

    /// Where the chain's parts answer.
    pub const fn ready(&self) -> &Ready {
        &self.ready
    }

    /// Where a service has `/metrics`, `/health` and `/ready`.
    pub fn telemetry(&self, service: Service) -> String {
        local(self.ports.metrics(service))
    }

    /// gRPC of a service.
    pub fn grpc(&self, service: Service) -> String {
        local(self.ports.grpc(service))
    }

    /// The DA adapter's admin socket.
    pub fn admin(&self) -> String {
        local(self.ports.admin)
    }

    /// The DA adapter, on its admin socket.
    ///
    /// # Errors
    /// When the endpoint is no URL.
    pub fn da_adapter(&self) -> Result<DaAdapterClient> {
        Ok(DaAdapterClient::connect(&self.admin())?)
    }

    /// gRPC of the settlement service.
    ///
    /// # Errors
    /// When the endpoint is no URL.
    pub fn settlement(&self) -> Result<SettlementClient> {
        Ok(SettlementClient::connect(&self.grpc(Service::Settlement))?)
    }

    /// Waits until a transaction has reached a stage.
    ///
    /// # Errors
    /// As [`Ready::wait_for`]; the ends of the logs are in the message.
    pub async fn wait_for(&self, hash: B256, stage: Stage) -> Result<TxStatus> {
        self.ready.wait_for(hash, stage).await.wrap_err_with(|| self.log())
    }

    /// `kill -9` of one service, and waits until it is gone.
    ///
    /// # Errors
    /// When it cannot be killed, or does not run.
    pub async fn kill(&mut self, service: Service) -> Result<()> {
        let gone = || eyre!("{} does not run", service.name());
        self.processes.remove(&service).ok_or_else(gone)?.kill().await?;
        Ok(())
    }

    /// Starts one service, on its folder as it is.
    ///
    /// # Errors
    /// When the process cannot be started. Whether it gets anywhere is not waited for.
    pub fn spawn(&mut self, service: Service) -> Result<()> {
        let path = log_path(self.dir.path(), service);
        let log = std::fs::File::options().create(true).append(true).open(path)?;
        let child = Command::new(millrace()?)
            .args([service.name(), "--config"])
            .arg(config_path(self.dir.path(), service))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .wrap_err_with(|| format!("cannot start {}", service.name()))?;
        self.processes.insert(service, child);
        Ok(())
    }

    /// Makes sure that no service has ended by itself.
    ///
    /// # Errors
    /// Names the one that has; the logs are in the message.
    pub fn still_run(&mut self) -> Result<()> {
        let log = self.log();
        for (service, process) in &mut self.processes {
            let ended = process.try_wait()?;
            ensure!(ended.is_none(), "{} has ended: {ended:?}\n{log}", service.name());
        }
        Ok(())
    }

    /// The ends of the services' logs.
    pub fn log(&self) -> String {
        SERVICES
            .map(|service| {
                format!("-- {}\n{}", service.name(), tail(&log_path(self.dir.path(), service)))
            })
            .join("\n")
    }
}

fn config_path(dir: &Path, service: Service) -> PathBuf {
    dir.join(service.name()).with_extension("toml")
}

fn log_path(dir: &Path, service: Service) -> PathBuf {
    dir.join(service.name()).with_extension("log")
}

fn local(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

/// Makes the contract.
async fn deploy(options: &ServicesOptions, config: &Path) -> Result<Address> {
    let config = config.to_string_lossy();
    let mut arguments = vec!["deploy", "--json", "--challenge-window", "2s", "--config", &config];
    // Days, with a block a second.
    arguments.extend(["--inclusion-window", "86400"]);
    let verifiers = [5, 6].map(|key| dev_key(key).address().to_string()).join(",");
    if options.verifier {
        arguments.extend(["--verifiers", &verifiers, "--threshold", "1"]);
    }
    let deployed = run(&millrace()?, &arguments).await?.success()?.last_json()?;
    Ok(serde_json::from_value(deployed["rollup"].clone())?)
}

/// Ports that were free.
#[derive(Debug)]
struct Ports {
    rpc: u16,
    admin: u16,
    /// By service.
    grpc: [u16; SERVICES.len()],
    metrics: [u16; SERVICES.len()],
}

impl Ports {
    async fn free() -> Result<Self> {
        let mut held = Vec::new();
        for _ in 0..2 + 2 * SERVICES.len() {
            held.push(TcpListener::bind(("127.0.0.1", 0)).await?);
        }
        let mut ports = Vec::new();
        for listener in &held {
            ports.push(listener.local_addr()?.port());
        }
        let (grpc, metrics) = ports[2..].split_at(SERVICES.len());
        Ok(Self {
            rpc: ports[0],
            admin: ports[1],
            grpc: grpc.try_into()?,
            metrics: metrics.try_into()?,
        })
    }

    const fn grpc(&self, service: Service) -> u16 {
        self.grpc[service as usize]
    }

    const fn metrics(&self, service: Service) -> u16 {
        self.metrics[service as usize]
    }

    fn ready(
        &self,
        options: &ServicesOptions,
        rollup: Address,
        data_dir: PathBuf,
    ) -> Result<Ready> {
        let metrics = |service| {
            Ok::<Url, eyre::Report>(format!("{}/metrics", local(self.metrics(service))).parse()?)
        };
        Ok(Ready {
            l1: options.l1.clone(),
            beacon: options.beacon.clone(),
            rpc: local(self.rpc).parse()?,
            ws: format!("ws://127.0.0.1:{}", self.rpc).parse()?,
            grpc: local(self.grpc(Service::Sequencer)).parse()?,
            metrics: Metrics {
                sequencer: metrics(Service::Sequencer)?,
                executor: metrics(Service::Executor)?,
                da_adapter: metrics(Service::DaAdapter)?,
                settlement: metrics(Service::Settlement)?,
            },
            rollup,
            // Known once it answers.
            chain_id: 0,
            data_dir,
            da_store: None,
        })
    }

    /// A service's configuration. All services have the same, but for a verifier, which is somebody else's settlement service.
    fn config(
        &self,
        options: &ServicesOptions,
        rollup: Address,
        service: Service,
        data_dir: &Path,
    ) -> Result<String> {
        let settlement = if service == Service::Verifier { service } else { Service::Settlement };
        let at = |port: u16| format!("127.0.0.1:{port}");
        let verifiers = match options.verifier {
            true => vec![local(self.grpc(Service::Verifier))],
            false => Vec::new(),
        };
        let mut config = format!(
            r#"
[chain]
genesis = "dev"
data_dir = "{data}"
[l1]
url = "{l1}"
beacon = "{beacon}"
rollup = "{rollup}"
poll_interval = "250ms"
request_timeout = "5s"
confirmations = 1
[keys]
owner = {{ dev = 9 }}
batcher = {{ dev = 8 }}
committer = {{ dev = 7 }}
verifier = {{ dev = 6 }}
[listen.grpc]
sequencer = "{g1}"
executor = "{g2}"
da_adapter = "{g3}"
settlement = "{g4}"
[listen.metrics]
sequencer = "{m1}"
executor = "{m2}"
da_adapter = "{m3}"
settlement = "{m4}"
[listen.admin]
da_adapter = "{admin}"
[peers]
executor = "http://{g2}"
settlement = "{peer}"
da_adapter = "http://{g3}"
[settlement]
verifiers = {verifiers:?}
retry_max = "5s"
[rpc]
listen = "{rpc}"
[da_adapter]
backends = ["l1_blob", "l1_calldata"]
max_batch_age = "1s"
poll_interval = "250ms"
max_retry_interval = "2s"
[transactions]
"#,
            data = data_dir.display(),
            l1 = options.l1,
            beacon = options.beacon,
            g1 = at(self.grpc(Service::Sequencer)),
            g2 = at(self.grpc(Service::Executor)),
            g3 = at(self.grpc(Service::DaAdapter)),
            g4 = at(self.grpc(settlement)),
            m1 = at(self.metrics(Service::Sequencer)),
            m2 = at(self.metrics(Service::Executor)),
            m3 = at(self.metrics(Service::DaAdapter)),
            m4 = at(self.metrics(settlement)),
            peer = local(self.grpc(Service::Settlement)),
            rpc = at(self.rpc),
            admin = at(self.admin),
        );
        let transactions = serde_json::to_value(&options.transactions)?;
        let settings = transactions.as_object().ok_or_else(|| eyre!("it is a table"))?;
        for (name, value) in settings {
            // Numbers and text are written alike in JSON and TOML.
            writeln!(config, "{name} = {value}")?;
        }
        config.push_str(&options.more);
        Ok(config)
    }
}

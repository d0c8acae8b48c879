//! `millrace.toml`: one file for all services, parsed once into domain types, unknown keys refused.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
};

use eyre::{Result, WrapErr, bail, ensure};
use figment::{
    Figment,
    providers::{Env, Format, Toml},
};
use millrace_da_adapter::DaAdapterConfig;
use millrace_edge::{Edge, EdgeConfig, Port};
use millrace_executor::{CallConfig, ExecutionConfig, StoreConfig};
use millrace_l1::{L1Config, TxManagerConfig};
use millrace_proto::{BatchPayload, ChainSpec};
use millrace_rpc::RpcConfig;
use millrace_sequencer::SequencerConfig;
use millrace_settlement::SettlementConfig;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::{genesis, keys::KeySource, telemetry::LogFormat};

/// The annotated example, which a test parses.
pub(crate) const EXAMPLE: &str = include_str!("../../millrace.toml");

/// Everything that an operator can set.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) chain: Chain,
    #[serde(default)]
    pub(crate) log: Log,
    pub(crate) l1: L1Config,
    #[serde(default)]
    pub(crate) keys: Keys,
    #[serde(default)]
    pub(crate) listen: Listen,
    #[serde(default)]
    pub(crate) peers: Peers,
    #[serde(default)]
    pub(crate) sequencer: SequencerConfig,
    /// The sequencer's public gRPC port.
    #[serde(default)]
    pub(crate) grpc: EdgeConfig,
    #[serde(default)]
    pub(crate) rpc: RpcConfig,
    #[serde(default)]
    pub(crate) executor: StoreConfig,
    #[serde(default)]
    pub(crate) execution: ExecutionConfig,
    #[serde(default)]
    pub(crate) calls: CallConfig,
    #[serde(default)]
    pub(crate) da_adapter: DaAdapterConfig,
    #[serde(default)]
    pub(crate) settlement: SettlementConfig,
    #[serde(default)]
    pub(crate) transactions: TxManagerConfig,
}

/// Which chain, and where its data lives.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Chain {
    /// A geth-format genesis file, or `dev` for the built-in development chain.
    pub(crate) genesis: PathBuf,
    /// Each service keeps its data in a folder of its own name below this one.
    pub(crate) data_dir: PathBuf,
}

impl Chain {
    /// Loads the genesis.
    pub(crate) fn spec(&self) -> Result<Arc<ChainSpec>> {
        load_genesis(&self.genesis).map(Arc::new)
    }
}

/// Reads a genesis file, or makes the built-in one for `dev`.
pub(crate) fn load_genesis(path: &Path) -> Result<ChainSpec> {
    if path == Path::new("dev") {
        return genesis::dev_rollup(BatchPayload::default(), None);
    }
    let json = std::fs::read(path)
        .wrap_err_with(|| format!("cannot read genesis file {}", path.display()))?;
    let spec =
        ChainSpec::from_json(&json).wrap_err_with(|| format!("genesis file {}", path.display()))?;
    if !spec.is_rollup() {
        bail!(
            "genesis file {} has no config.millrace section: it does not describe a Millrace rollup",
            path.display()
        );
    }
    Ok(spec)
}

/// Logs.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Log {
    pub(crate) filter: String,
    pub(crate) format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Self { filter: "warn,millrace=info".into(), format: LogFormat::Text }
    }
}

/// The keys that sign L1 transactions. A service needs only its own.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Keys {
    pub(crate) owner: Option<KeySource>,
    pub(crate) batcher: Option<KeySource>,
    pub(crate) committer: Option<KeySource>,
    pub(crate) verifier: Option<KeySource>,
}

/// Where services listen.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Listen {
    /// gRPC of each service.
    pub(crate) grpc: PerService<SocketAddr>,
    /// `/metrics`, `/health` and `/ready` of each service.
    pub(crate) metrics: PerService<SocketAddr>,
    /// Calls for operators.
    pub(crate) admin: Admin,
}

/// Where calls for operators are served: on loopback, unless something else is said twice.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Admin {
    /// gRPC of the DA adapter with what only its operators may do.
    pub(crate) da_adapter: SocketAddr,
    /// Whoever reaches such a socket may use it: it is bound beyond loopback only with this.
    pub(crate) beyond_loopback: bool,
}

impl Default for Admin {
    fn default() -> Self {
        Self { da_adapter: (Ipv4Addr::LOCALHOST, 50063).into(), beyond_loopback: false }
    }
}

impl Admin {
    fn validate(&self) -> Result<()> {
        let Self { da_adapter, beyond_loopback } = self;
        ensure!(
            da_adapter.ip().to_canonical().is_loopback() || *beyond_loopback,
            "[listen.admin] da_adapter = \"{da_adapter}\" is not on loopback, and whoever reaches it may use it: take 127.0.0.1, or set \
             beyond_loopback = true if a firewall guards it"
        );
        Ok(())
    }
}

impl Default for Listen {
    fn default() -> Self {
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Self {
            grpc: PerService {
                sequencer: local(50051),
                executor: local(50052),
                da_adapter: local(50053),
                settlement: local(50054),
            },
            metrics: PerService {
                sequencer: local(9101),
                executor: local(9102),
                da_adapter: local(9103),
                settlement: local(9104),
            },
            admin: Admin::default(),
        }
    }
}

impl Listen {
    /// Free ports on loopback.
    pub(crate) fn auto() -> Self {
        let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let each =
            PerService { sequencer: free, executor: free, da_adapter: free, settlement: free };
        Self { grpc: each, metrics: each, admin: Admin { da_adapter: free, ..Admin::default() } }
    }
}

/// One value a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PerService<T> {
    pub(crate) sequencer: T,
    pub(crate) executor: T,
    pub(crate) da_adapter: T,
    pub(crate) settlement: T,
}

/// Where a service finds the others.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Peers {
    pub(crate) executor: Url,
    pub(crate) settlement: Url,
    pub(crate) da_adapter: Url,
}

impl Default for Peers {
    fn default() -> Self {
        let local = |port: u16| {
            format!("http://127.0.0.1:{port}").parse().expect("a loopback URL is well formed")
        };
        Self { executor: local(50052), settlement: local(50054), da_adapter: local(50053) }
    }
}

impl Config {
    /// Reads a file. A variable `MILLRACE_SECTION__KEY` overrides a key of it.
    ///
    /// # Errors
    /// Names the file, the key, and what is wrong with it.
    pub(crate) fn load(path: &Path) -> Result<Self> {
        if !path.is_file() {
            bail!(
                "no configuration file at {}; `millrace config` prints an example",
                path.display()
            );
        }
        let config: Self = Figment::new()
            .merge(Toml::file_exact(path))
            .merge(Env::prefixed("MILLRACE_").filter(|key| key.as_str().contains("__")).split("__"))
            .extract()
            .wrap_err_with(|| format!("configuration file {}", path.display()))?;
        config.validate()?;
        Ok(config)
    }

    fn validate(&self) -> Result<()> {
        self.sequencer.validate()?;
        self.listen.admin.validate()
    }

    /// The public gRPC port's caps, certificate and tokens.
    pub(crate) fn public_grpc(&self) -> Result<Arc<Edge>> {
        Edge::open(self.grpc.clone(), Port::Grpc, "rollup").wrap_err("[grpc]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(toml: &str) -> Result<Config> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("millrace.toml");
        std::fs::write(&path, toml)?;
        Config::load(&path)
    }

    /// Each table of the example, with all keys that the type has.
    fn keys(value: &toml::Value, prefix: &str, out: &mut Vec<String>) {
        if let toml::Value::Table(table) = value {
            for (key, value) in table {
                let path = format!("{prefix}{key}");
                keys(value, &format!("{path}."), out);
                out.push(path);
            }
        }
    }

    #[test]
    fn the_example_parses_and_documents_every_setting() {
        // Optional settings stand in the example as comments of the form `#key = value`.
        let uncommented: String = EXAMPLE
            .lines()
            .map(|line| match line.strip_prefix('#') {
                Some(rest) if !rest.starts_with([' ', '#']) && !rest.is_empty() => rest,
                _ => line,
            })
            .fold(String::new(), |all, line| all + line + "\n");
        load(EXAMPLE).expect("the example is valid as it is");
        let full = load(&uncommented).expect("the example is valid with all options set");
        let mut documented = Vec::new();
        keys(&toml::from_str(&uncommented).unwrap(), "", &mut documented);
        let mut existing = Vec::new();
        keys(&toml::Value::try_from(&full).unwrap(), "", &mut existing);
        for key in existing {
            assert!(documented.contains(&key), "millrace.toml does not document {key}");
        }
    }

    #[test]
    fn the_admin_socket_stays_on_loopback_unless_that_is_said() {
        let there = "[listen.admin]\nda_adapter = \"127.0.0.1:50063\"\nbeyond_loopback = false";
        assert!(EXAMPLE.contains(there));
        let with = |address: &str, beyond: bool| {
            let here =
                format!("[listen.admin]\nda_adapter = \"{address}\"\nbeyond_loopback = {beyond}");
            load(&EXAMPLE.replace(there, &here))
        };
        for address in ["0.0.0.0:50063", "192.0.2.1:50063", "[::]:50063", "[::ffff:10.0.0.1]:1"] {
            let error = with(address, false).unwrap_err().to_string();
            assert!(error.contains("beyond_loopback = true"), "{error}");
            with(address, true).unwrap();
        }
        for address in ["127.0.0.1:1", "127.0.0.9:1", "[::1]:1"] {
            with(address, false).unwrap();
        }
    }

    #[test]
    fn unknown_keys_are_errors() {
        for (section, key) in
            [("[chain]", "genesys = \"dev\""), ("[sequencer]", "blocktime = \"1s\"")]
        {
            let broken = EXAMPLE.replacen(section, &format!("{section}\n{key}"), 1);
            let error = format!("{:#}", load(&broken).unwrap_err());
            assert!(error.contains("unknown field"), "{error}");
        }
    }
}

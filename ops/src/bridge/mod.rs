//! Deposits and withdrawals, as a user makes them: each command needs an L1 or an L2 node, and a key.

mod amount;
mod deposit;
mod force;
mod post;
mod proof;
mod prove;
mod withdraw;

use std::path::PathBuf;

use alloy::primitives::Address;
use clap::Args;
use eyre::{Report, Result, WrapErr};
use millrace_l1::{ClientOptions, L1Client, L1Config, L1Error, L1Signer, RollupContract};
use url::Url;

pub(crate) use self::{
    deposit::{DepositArgs, run as deposit},
    force::{ForceArgs, run as force},
    post::{PostArgs, run as post},
    prove::{FinalizeArgs, ProveArgs, finalize, prove},
    withdraw::{WithdrawArgs, run as withdraw},
};
use crate::keys::KeySource;

/// The key that signs.
#[derive(Debug, Clone, Args)]
pub(crate) struct KeyArgs {
    #[command(flatten)]
    key: Key,

    /// A file with the password of `--keystore` in its first line.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

/// One of these.
#[derive(Debug, Clone, Args)]
#[group(required = true, multiple = false)]
struct Key {
    /// The environment variable that holds it, in hexadecimal.
    #[arg(long, value_name = "NAME")]
    key_env: Option<String>,

    /// A file that holds it, in hexadecimal.
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,

    /// An encrypted key, as wallets and `cast wallet new` write it.
    #[arg(long, value_name = "FILE", requires = "password_file")]
    keystore: Option<PathBuf>,

    /// One of the ten well-known development keys, 0 to 9: on development chains alone.
    #[arg(long, value_name = "INDEX", value_parser = clap::value_parser!(u32).range(0..10))]
    dev_key: Option<u32>,
}

impl KeyArgs {
    /// Loads the key for use on a chain.
    async fn load(&self, chain_id: u64) -> Result<L1Signer> {
        let Key { key_env, key_file, keystore, dev_key } = &self.key;
        let source = match (key_env, key_file, keystore) {
            (Some(name), ..) => KeySource::Env(name.clone()),
            (_, Some(file), _) => KeySource::File(file.clone()),
            (.., Some(file)) => KeySource::Keystore {
                file: file.clone(),
                password_file: self.password_file.clone().unwrap_or_default(),
            },
            _ => KeySource::Dev(dev_key.unwrap_or_default()),
        };
        source.load(chain_id).await
    }
}

/// A chain's contract on L1.
#[derive(Debug, Clone, Args)]
pub(crate) struct RollupArgs {
    /// L1 JSON-RPC.
    #[arg(long, value_name = "URL", env = "MILLRACE_L1")]
    l1: Url,

    /// The L1's chain id: a node of another chain is refused.
    #[arg(long, value_name = "ID", env = "MILLRACE_L1_CHAIN_ID")]
    l1_chain_id: Option<u64>,

    /// The rollup contract.
    #[arg(long, value_name = "ADDRESS", env = "MILLRACE_ROLLUP")]
    rollup: Address,
}

impl RollupArgs {
    /// The contract, which is one that this build knows.
    async fn contract(&self) -> Result<RollupContract> {
        let config = L1Config::new(self.l1.clone(), self.rollup);
        let config = L1Config { chain_id: self.l1_chain_id, ..config };
        let contract = config.rollup().wrap_err("--l1")?;
        contract.check_version().await.wrap_err("cannot read the contract")?;
        Ok(contract)
    }
}

/// Why something that was asked of a chain was not done; or may have been.
fn failed(error: L1Error, what: &str) -> Report {
    let words = match error {
        L1Error::Timeout { .. } => {
            format!("perhaps {what}: look for the transaction before you try again")
        }
        _ => format!("not {what}"),
    };
    Report::new(error).wrap_err(words)
}

/// A node of L2.
fn l2(url: &Url) -> Result<L1Client> {
    L1Client::new(url.clone(), ClientOptions::default()).wrap_err("--rpc")
}

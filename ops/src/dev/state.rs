//! What a development chain's folder remembers of its L1.

use std::{fs, io::ErrorKind, path::Path};

use alloy::primitives::Address;
use eyre::{Result, WrapErr, ensure};
use millrace_l1::{L1Client, L1Error, RollupContract};
use serde::{Deserialize, Serialize};

/// The contract that the chain settles on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DevState {
    pub(super) l1_chain_id: u64,
    pub(super) rollup: Address,
    /// Of a chain that has another gas limit than the default one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) gas_limit: Option<u64>,
}

impl DevState {
    /// Reads the file; `None` if there is none yet.
    pub(super) fn load(path: &Path) -> Result<Option<Self>> {
        match fs::read(path) {
            Ok(bytes) => Ok(Some(
                serde_json::from_slice(&bytes)
                    .wrap_err_with(|| format!("{} is damaged", path.display()))?,
            )),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).wrap_err_with(|| format!("cannot read {}", path.display())),
        }
    }

    /// Writes the file, durably and in one step.
    pub(super) fn store(&self, path: &Path) -> Result<()> {
        let partial = path.with_extension("partial");
        let write = || -> std::io::Result<()> {
            fs::write(&partial, serde_json::to_vec_pretty(self)?)?;
            fs::File::open(&partial)?.sync_all()?;
            fs::rename(&partial, path)?;
            path.parent().map_or(Ok(()), |dir| fs::File::open(dir)?.sync_all())
        };
        write().wrap_err_with(|| format!("cannot write {}", path.display()))
    }

    /// Checks that the L1 still has the contract.
    pub(super) async fn check(&self, l1: &L1Client, chain_id: u64, data_dir: &Path) -> Result<()> {
        let advice = format!(
            "the chain in {} settles on another L1; start with that one, or with another --data-dir",
            data_dir.display()
        );
        ensure!(
            chain_id == self.l1_chain_id,
            "the L1 has chain id {chain_id}, not {}: {advice}",
            self.l1_chain_id
        );
        match RollupContract::new(l1.clone(), self.rollup).check_version().await {
            Err(error @ L1Error::NoContract { .. }) => Err(error).wrap_err(advice),
            answer => answer.wrap_err("cannot read the contract"),
        }
    }
}

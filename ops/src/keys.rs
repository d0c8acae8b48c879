//! Signing keys, and the well-known development keys that must never hold value.

use std::{fmt, path::PathBuf};

use alloy::{
    primitives::Address,
    signers::local::{MnemonicBuilder, PrivateKeySigner},
};
use eyre::{Result, WrapErr, bail, eyre};
use serde::{Deserialize, Serialize};

/// The mnemonic that anvil and Hardhat ship. Everybody has these keys.
pub(crate) const DEV_MNEMONIC: &str = "test test test test test test test test test test test junk";

/// Keys of the mnemonic that a development chain funds.
pub(crate) const DEV_KEYS: u32 = 10;

/// The development key that deploys and owns the L1 contract.
pub(crate) const DEV_OWNER: u32 = 9;
/// The development key that posts batches.
pub(crate) const DEV_BATCHER: u32 = 8;
/// The development key that commits.
pub(crate) const DEV_COMMITTER: u32 = 7;

/// Chain ids on which the development keys may be used: this project's dev L1 and dev rollup, and the customary ids of local
/// nodes.
pub(crate) const DEV_CHAIN_IDS: [u64; 4] = [DEV_L1_CHAIN_ID, DEV_ROLLUP_CHAIN_ID, 31_337, 1_337];
/// The embedded dev L1.
pub(crate) const DEV_L1_CHAIN_ID: u64 = 313_370;
/// The dev rollup.
pub(crate) const DEV_ROLLUP_CHAIN_ID: u64 = 313_371;

/// One of the development keys.
pub(crate) fn dev_signer(index: u32) -> Result<PrivateKeySigner> {
    MnemonicBuilder::from_phrase(DEV_MNEMONIC)
        .index(index)?
        .build()
        .wrap_err("cannot derive a development key")
}

/// Where a service's key comes from. Never printed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum KeySource {
    /// A development key by its index; refused outside development chain ids.
    Dev(u32),
    /// The name of an environment variable that holds the key in hexadecimal.
    Env(String),
    /// A file that holds the key in hexadecimal.
    File(PathBuf),
}

impl fmt::Debug for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dev(index) => write!(f, "dev key {index}"),
            Self::Env(name) => write!(f, "key from ${name}"),
            Self::File(path) => write!(f, "key from {}", path.display()),
        }
    }
}

impl KeySource {
    /// Loads the key for use on a chain.
    ///
    /// # Errors
    /// When the key cannot be read, or is a development key and the chain is not a development chain.
    pub(crate) fn load(&self, chain_id: u64) -> Result<PrivateKeySigner> {
        let signer = match self {
            Self::Dev(index) => dev_signer(*index)?,
            Self::Env(name) => {
                let value = std::env::var(name).map_err(|_| {
                    eyre!("environment variable {name} does not hold a key; set it")
                })?;
                parse(&value).wrap_err_with(|| format!("environment variable {name}"))?
            }
            Self::File(path) => {
                let value = std::fs::read_to_string(path)
                    .wrap_err_with(|| format!("cannot read key file {}", path.display()))?;
                parse(&value).wrap_err_with(|| format!("key file {}", path.display()))?
            }
        };
        refuse_dev_key(signer.address(), chain_id)?;
        Ok(signer)
    }
}

fn parse(value: &str) -> Result<PrivateKeySigner> {
    value.trim().parse().map_err(|_| eyre!("not a private key of 32 bytes in hexadecimal"))
}

fn refuse_dev_key(address: Address, chain_id: u64) -> Result<()> {
    if DEV_CHAIN_IDS.contains(&chain_id) {
        return Ok(());
    }
    for index in 0..DEV_KEYS {
        if dev_signer(index)?.address() == address {
            bail!(
                "{address} is a well-known development key, and chain {chain_id} is not a development chain \
                 ({DEV_CHAIN_IDS:?}); use a key of your own"
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_dev_key_is_anvils() {
        assert_eq!(
            dev_signer(0).unwrap().address().to_string(),
            "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
        );
    }

    #[test]
    fn dev_keys_are_refused_elsewhere_however_they_come() {
        assert!(KeySource::Dev(0).load(DEV_L1_CHAIN_ID).is_ok());
        assert!(KeySource::Dev(0).load(1).is_err());
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        std::fs::write(&path, dev_signer(3).unwrap().to_bytes().to_string()).unwrap();
        assert!(KeySource::File(path.clone()).load(31_337).is_ok());
        assert!(KeySource::File(path).load(11_155_111).is_err());
    }
}

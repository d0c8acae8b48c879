//! Signing keys, and the well-known development keys that must never hold value.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use alloy::{
    primitives::Address,
    signers::local::{MnemonicBuilder, PrivateKeySigner},
};
use eyre::{Result, WrapErr, bail, ensure, eyre};
use millrace_l1::{L1Signer, Web3Signer};
use serde::{Deserialize, Serialize};
use url::Url;

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
    /// An encrypted key, as wallets and `cast wallet new` write it (Web3 Secret Storage, version 3).
    Keystore {
        /// The file with the encrypted key.
        file: PathBuf,
        /// A file with the password; what follows the first line end is not part of it.
        password_file: PathBuf,
    },
    /// A Web3Signer that keeps the key.
    Web3signer {
        /// Its URL.
        url: Url,
        /// The account that it signs for.
        address: Address,
    },
}

impl fmt::Debug for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dev(index) => write!(f, "dev key {index}"),
            Self::Env(name) if is_key(name) => f.write_str("key from an environment variable"),
            Self::Env(name) => write!(f, "key from ${name}"),
            Self::File(path) => write!(f, "key from {}", path.display()),
            Self::Keystore { file, .. } => write!(f, "encrypted key from {}", file.display()),
            Self::Web3signer { url, address } => {
                write!(f, "key of {address} at {}", url.host_str().unwrap_or_default())
            }
        }
    }
}

impl KeySource {
    /// Loads the key for use on a chain.
    ///
    /// # Errors
    /// When the key cannot be read, the signing service does not have it, or it is a development key and the chain is not a development chain.
    pub(crate) async fn load(&self, chain_id: u64) -> Result<L1Signer> {
        let signer: L1Signer = match self {
            Self::Dev(index) => dev_signer(*index)?.into(),
            Self::Env(name) => {
                ensure!(
                    !is_key(name),
                    "the name of an environment variable is wanted, not the key itself: who has put a key into a command line or a configuration should make another"
                );
                let value = std::env::var(name).map_err(|_| {
                    eyre!("environment variable {name} does not hold a key; set it")
                })?;
                parse(&value).wrap_err_with(|| format!("environment variable {name}"))?.into()
            }
            Self::File(path) => {
                parse(&read(path)?).wrap_err_with(|| format!("key file {}", path.display()))?.into()
            }
            Self::Keystore { file, password_file } => {
                let password = read(password_file)?;
                let (encrypted, password) =
                    (file.clone(), password.lines().next().unwrap_or_default().to_owned());
                // Slow on purpose.
                let decrypted = tokio::task::spawn_blocking(move || {
                    PrivateKeySigner::decrypt_keystore(encrypted, password)
                });
                let key = decrypted.await?.wrap_err_with(|| {
                    format!(
                        "cannot decrypt {} with the password in {}",
                        file.display(),
                        password_file.display()
                    )
                })?;
                key.into()
            }
            Self::Web3signer { url, address } => {
                ensure!(
                    url.scheme() == "http" || cfg!(feature = "tls"),
                    "{url} needs TLS: build with --features tls, or use http inside"
                );
                L1Signer::Remote(Web3Signer::connect(url.clone(), *address).await?)
            }
        };
        refuse_dev_key(signer.address(), chain_id)?;
        Ok(signer)
    }
}

/// Whether a text is a key, or looks like one.
fn is_key(text: &str) -> bool {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    digits.len() == 64 && digits.bytes().all(|digit| digit.is_ascii_hexdigit())
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path)
        .wrap_err_with(|| format!("cannot read key file {}", path.display()))
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
    use serde_json::json;

    use super::*;

    #[test]
    fn the_first_dev_key_is_anvils() {
        assert_eq!(
            dev_signer(0).unwrap().address().to_string(),
            "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
        );
    }

    #[tokio::test]
    async fn a_key_in_the_place_of_a_name_is_not_shown() {
        let key = "59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d";
        for name in [key.to_owned(), format!("0x{key}")] {
            let source = KeySource::Env(name);
            let error = source.load(DEV_L1_CHAIN_ID).await.unwrap_err();
            let told = format!("{error:?} {error} {source:?}");
            assert!(told.contains("not the key itself") && !told.contains(&key[..8]), "{told}");
        }
    }

    #[tokio::test]
    async fn dev_keys_are_refused_elsewhere_however_they_come() {
        assert!(KeySource::Dev(0).load(DEV_L1_CHAIN_ID).await.is_ok());
        assert!(KeySource::Dev(0).load(1).await.is_err());
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        std::fs::write(&path, dev_signer(3).unwrap().to_bytes().to_string()).unwrap();
        assert!(KeySource::File(path.clone()).load(31_337).await.is_ok());
        assert!(KeySource::File(path).load(11_155_111).await.is_err());
    }

    /// The test vector of the Web3 Secret Storage definition,
    /// <https://ethereum.org/developers/docs/data-structures-and-encoding/web3-secret-storage>.
    #[tokio::test]
    async fn an_encrypted_key_needs_its_password() {
        let dir = tempfile::tempdir().unwrap();
        let [file, password_file] = ["key.json", "password"].map(|name| dir.path().join(name));
        let encrypted = json!({
            "crypto": {
                "cipher": "aes-128-ctr",
                "cipherparams": { "iv": "6087dab2f9fdbbfaddc31a909735c1e6" },
                "ciphertext": "5318b4d5bcd28de64ee5559e671353e16f075ecae9f99c7a79a38af5f869aa46",
                "kdf": "pbkdf2",
                "kdfparams": {
                    "c": 262_144, "dklen": 32, "prf": "hmac-sha256",
                    "salt": "ae3cd4e7013836a3df6bd7241b12db061dbe2c6785853cce422d148a624ce0bd",
                },
                "mac": "517ead924a9d0dc3124507e3393d175ce3ff7c1e96529c6c555ce9e51205e9b2",
            },
            "id": "3198bc9c-6672-5ab3-d995-4942343ae5b6",
            "version": 3,
        });
        std::fs::write(&file, encrypted.to_string()).unwrap();
        std::fs::write(&password_file, "testpassword\n").unwrap();
        let source = KeySource::Keystore { file, password_file: password_file.clone() };
        let key = "7a28b5ba57c53603b0b07b56bba752f7784bf506fa95edc395f5cf6c7514fe9d";
        let address = parse(key).unwrap().address();
        assert_eq!(source.load(1).await.unwrap().address(), address);
        std::fs::write(&password_file, "anotherpassword").unwrap();
        let error = format!("{:#}", source.load(1).await.unwrap_err());
        assert!(error.contains("cannot decrypt"), "{error}");
        assert!(!format!("{source:?} {error}").contains("anotherpassword"));
    }
}

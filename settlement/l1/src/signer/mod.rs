//! Who signs L1 transactions: a key in memory, or a service that keeps one.

mod web3signer;

use alloy::{
    consensus::SignableTransaction,
    primitives::{Address, Signature},
    signers::{SignerSync, local::PrivateKeySigner},
    sol_types::{Eip712Domain, SolStruct},
};
use millrace_proto::ErrorClass;

pub use self::web3signer::Web3Signer;

/// Signs transactions of one account.
#[derive(Debug, Clone)]
pub enum L1Signer {
    /// With a key in memory.
    Key(PrivateKeySigner),
    /// By asking a service that keeps the key.
    Remote(Web3Signer),
}

impl From<PrivateKeySigner> for L1Signer {
    fn from(key: PrivateKeySigner) -> Self {
        Self::Key(key)
    }
}

impl L1Signer {
    /// The account.
    pub fn address(&self) -> Address {
        match self {
            Self::Key(key) => key.address(),
            Self::Remote(service) => service.address(),
        }
    }

    /// Signs a transaction.
    ///
    /// # Errors
    /// See [`SignError`]. A key in memory always signs.
    pub(crate) async fn sign(
        &self,
        tx: &impl SignableTransaction<Signature>,
    ) -> Result<Signature, SignError> {
        match self {
            Self::Key(key) => Ok(key.sign_hash_sync(&tx.signature_hash())?),
            Self::Remote(service) => service.sign(&tx.encoded_for_signing()).await,
        }
    }

    /// Signs a struct (EIP-712): what [`SolStruct::eip712_signing_hash`] is the hash of.
    ///
    /// # Errors
    /// See [`SignError`]. A key in memory always signs.
    pub async fn sign_typed(
        &self,
        content: &impl SolStruct,
        domain: &Eip712Domain,
    ) -> Result<Signature, SignError> {
        match self {
            Self::Key(key) => Ok(key.sign_hash_sync(&content.eip712_signing_hash(domain))?),
            // It hashes itself what it is given.
            Self::Remote(service) => {
                let (domain, content) = (domain.separator(), content.eip712_hash_struct());
                let preimage = [&[0x19, 0x01], domain.as_slice(), content.as_slice()].concat();
                service.sign(&preimage).await
            }
        }
    }
}

/// Why a transaction is not signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The key in memory does not sign.
    #[error("signing: {0}")]
    Key(#[from] alloy::signers::Error),
    /// The signing service does not answer, or not in time.
    #[error("the signing service at {host} does not answer: {source}")]
    Unreachable {
        /// Where it is.
        host: String,
        /// What happened.
        #[source]
        source: reqwest::Error,
    },
    /// The signing service refuses.
    #[error("the signing service at {host} answers {status}: {body}")]
    Refused {
        /// Where it is.
        host: String,
        /// The HTTP status.
        status: u16,
        /// The first of what it says.
        body: String,
    },
    /// The signing service does not have the account's key.
    #[error("the signing service at {host} has no key of {address}; it has those of {known:?}")]
    NoKey {
        /// Where it is.
        host: String,
        /// The account.
        address: Address,
        /// The accounts whose keys it has.
        known: Vec<Address>,
    },
    /// The signing service answers with something else than was asked for.
    #[error("the signing service at {host} answers with {problem}")]
    BadAnswer {
        /// Where it is.
        host: String,
        /// With what.
        problem: String,
    },
}

impl SignError {
    /// What the caller can do.
    pub const fn class(&self) -> ErrorClass {
        match self {
            Self::Unreachable { .. } | Self::Refused { status: 429 | 500.., .. } => {
                ErrorClass::Retryable
            }
            Self::Refused { .. } | Self::NoKey { .. } | Self::BadAnswer { .. } => {
                ErrorClass::Caller
            }
            Self::Key(_) => ErrorClass::Fatal,
        }
    }
}

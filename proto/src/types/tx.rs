//! Transactions: the envelope, and the recovered form that travels between services.

use std::sync::Arc;

use alloy::{
    consensus::{
        EthereumTxEnvelope, InMemorySize, Sealed, SignableTransaction, Signed, TransactionEnvelope,
        TxEip1559, TxEip2930, TxEip4844, TxEip7702, TxLegacy,
        crypto::RecoveryError,
        transaction::{SignerRecoverable, TxHashRef},
    },
    eips::{Decodable2718, Encodable2718, eip2718::Eip2718Error},
    primitives::{Address, B256, Bytes, Signature, TxHash},
};
use millrace_crypto::keccak256_batch;
use op_alloy_consensus::TxDeposit;

use crate::types::{
    recover::{hashes, recover_signer, recover_signers},
    senders::recover_once,
};

/// Every transaction type that a Millrace chain can hold.
///
/// Blob transactions (EIP-4844) appear on Ethereum chains only: the embedded dev L1 and replayed mainnet blocks. A rollup's
/// admission refuses them. Type `0x7E` is the OP Stack's deposit, which carries no signature.
#[derive(Debug, Clone, TransactionEnvelope)]
#[envelope(tx_type_name = TxType, alloy_consensus = alloy::consensus)]
pub enum TxEnvelope {
    /// Legacy, with or without EIP-155 replay protection.
    #[envelope(ty = 0)]
    Legacy(Signed<TxLegacy>),
    /// EIP-2930.
    #[envelope(ty = 1)]
    Eip2930(Signed<TxEip2930>),
    /// EIP-1559.
    #[envelope(ty = 2)]
    Eip1559(Signed<TxEip1559>),
    /// EIP-4844, without its sidecar.
    #[envelope(ty = 3)]
    Eip4844(Signed<TxEip4844>),
    /// EIP-7702.
    #[envelope(ty = 4)]
    Eip7702(Signed<TxEip7702>),
    /// A deposit from L1.
    #[envelope(ty = 126)]
    Deposit(Sealed<TxDeposit>),
}

impl TxEnvelope {
    /// The hash that identifies the transaction.
    pub fn hash(&self) -> TxHash {
        *self.tx_hash()
    }

    /// The signature, or `None` for a deposit.
    pub const fn signature(&self) -> Option<&Signature> {
        match self {
            Self::Legacy(tx) => Some(tx.signature()),
            Self::Eip2930(tx) => Some(tx.signature()),
            Self::Eip1559(tx) => Some(tx.signature()),
            Self::Eip4844(tx) => Some(tx.signature()),
            Self::Eip7702(tx) => Some(tx.signature()),
            Self::Deposit(_) => None,
        }
    }

    /// The hash that the signature signs; a deposit's own hash for a deposit.
    pub fn signature_hash(&self) -> B256 {
        match self {
            Self::Legacy(tx) => tx.signature_hash(),
            Self::Eip2930(tx) => tx.signature_hash(),
            Self::Eip1559(tx) => tx.signature_hash(),
            Self::Eip4844(tx) => tx.signature_hash(),
            Self::Eip7702(tx) => tx.signature_hash(),
            Self::Deposit(tx) => tx.seal(),
        }
    }

    /// Writes what the hash that is signed is the hash of; nothing for a deposit.
    pub(crate) fn encode_for_signing(&self, out: &mut Vec<u8>) {
        match self {
            Self::Legacy(tx) => tx.tx().encode_for_signing(out),
            Self::Eip2930(tx) => tx.tx().encode_for_signing(out),
            Self::Eip1559(tx) => tx.tx().encode_for_signing(out),
            Self::Eip4844(tx) => tx.tx().encode_for_signing(out),
            Self::Eip7702(tx) => tx.tx().encode_for_signing(out),
            Self::Deposit(_) => {}
        }
    }

    /// Hashes transactions several at a time, so that [`TxEnvelope::hash`] costs nothing after.
    pub fn hash_batch(txs: Vec<Self>) -> Vec<Self> {
        let hashes = hashes(txs.iter());
        txs.into_iter().zip(hashes).map(|(tx, hash)| tx.with_hash(hash)).collect()
    }

    /// With a hash that the caller knows to be right.
    fn with_hash(self, hash: TxHash) -> Self {
        fn with<T>(tx: Signed<T>, hash: TxHash) -> Signed<T> {
            let signature = *tx.signature();
            Signed::new_unchecked(tx.strip_signature(), signature, hash)
        }
        match self {
            Self::Legacy(tx) => Self::Legacy(with(tx, hash)),
            Self::Eip2930(tx) => Self::Eip2930(with(tx, hash)),
            Self::Eip1559(tx) => Self::Eip1559(with(tx, hash)),
            Self::Eip4844(tx) => Self::Eip4844(with(tx, hash)),
            Self::Eip7702(tx) => Self::Eip7702(with(tx, hash)),
            Self::Deposit(tx) => Self::Deposit(tx),
        }
    }

    /// Whether this is a deposit from L1.
    pub const fn is_deposit(&self) -> bool {
        matches!(self, Self::Deposit(_))
    }

    /// The deposit, if this is one.
    pub fn as_deposit(&self) -> Option<&TxDeposit> {
        match self {
            Self::Deposit(tx) => Some(tx.inner()),
            _ => None,
        }
    }
}

/// Receipts are generic over a transaction type that has a size.
impl InMemorySize for TxType {
    fn size(&self) -> usize {
        size_of::<Self>()
    }
}

impl TxHashRef for TxEnvelope {
    fn tx_hash(&self) -> &TxHash {
        match self {
            Self::Legacy(tx) => tx.hash(),
            Self::Eip2930(tx) => tx.hash(),
            Self::Eip1559(tx) => tx.hash(),
            Self::Eip4844(tx) => tx.hash(),
            Self::Eip7702(tx) => tx.hash(),
            Self::Deposit(tx) => tx.hash_ref(),
        }
    }
}

impl SignerRecoverable for TxEnvelope {
    /// Recovers the sender; refuses a signature with a high `s` (EIP-2).
    fn recover_signer(&self) -> Result<Address, RecoveryError> {
        match self {
            Self::Deposit(tx) => Ok(tx.inner().from),
            other => recover_signer(
                other.signature().ok_or_else(RecoveryError::new)?,
                other.signature_hash(),
                true,
            ),
        }
    }

    fn recover_signer_unchecked(&self) -> Result<Address, RecoveryError> {
        match self {
            Self::Deposit(tx) => Ok(tx.inner().from),
            other => recover_signer(
                other.signature().ok_or_else(RecoveryError::new)?,
                other.signature_hash(),
                false,
            ),
        }
    }
}

impl From<EthereumTxEnvelope<TxEip4844>> for TxEnvelope {
    fn from(tx: EthereumTxEnvelope<TxEip4844>) -> Self {
        match tx {
            EthereumTxEnvelope::Legacy(tx) => Self::Legacy(tx),
            EthereumTxEnvelope::Eip2930(tx) => Self::Eip2930(tx),
            EthereumTxEnvelope::Eip1559(tx) => Self::Eip1559(tx),
            EthereumTxEnvelope::Eip4844(tx) => Self::Eip4844(tx),
            EthereumTxEnvelope::Eip7702(tx) => Self::Eip7702(tx),
        }
    }
}

impl From<TxDeposit> for TxEnvelope {
    fn from(tx: TxDeposit) -> Self {
        Self::Deposit(alloy::consensus::Sealable::seal_slow(tx))
    }
}

/// A transaction with its sender and its EIP-2718 bytes: decoded, hashed and recovered once in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoveredTx {
    tx: TxEnvelope,
    sender: Address,
    encoded: Bytes,
}

impl RecoveredTx {
    /// Decodes EIP-2718 bytes and recovers the sender.
    ///
    /// # Errors
    /// When the bytes are not exactly one transaction, or the signature does not recover (EIP-2's low `s` included).
    pub fn decode(raw: Bytes) -> Result<Self, DecodeTxError> {
        let tx = decode_tx(&raw)?;
        let sender = tx.recover_signer().map_err(DecodeTxError::Signature)?;
        Ok(Self { tx, sender, encoded: raw })
    }

    /// Decodes EIP-2718 bytes whose sender a trusted service has recovered before.
    ///
    /// # Errors
    /// When the bytes are not exactly one transaction.
    pub fn decode_trusted(raw: Bytes, sender: Address) -> Result<Self, DecodeTxError> {
        Ok(Self { tx: decode_tx(&raw)?, sender, encoded: raw })
    }

    /// Recovers the sender of a decoded transaction.
    ///
    /// # Errors
    /// When the signature does not recover.
    pub fn recover(tx: TxEnvelope) -> Result<Self, DecodeTxError> {
        let sender = tx.recover_signer().map_err(DecodeTxError::Signature)?;
        Ok(Self::new_unchecked(tx, sender))
    }

    /// Recovers the sender of a transaction that was decoded from `encoded`.
    ///
    /// # Errors
    /// When the signature does not recover.
    pub fn recover_encoded(tx: TxEnvelope, encoded: Bytes) -> Result<Self, DecodeTxError> {
        let sender = tx.recover_signer().map_err(DecodeTxError::Signature)?;
        Ok(Self { tx, sender, encoded })
    }

    /// [`RecoveredTx::decode`] for many transactions: several at a time where the processor can.
    pub fn decode_batch(raw: Vec<Bytes>) -> Vec<Result<Self, DecodeTxError>> {
        let (mut txs, mut encoded) = (Vec::new(), Vec::new());
        let errors: Vec<Option<DecodeTxError>> = raw
            .into_iter()
            .map(|raw| {
                txs.push(match decode_tx(&raw) {
                    Ok(tx) => tx,
                    Err(error) => return Some(error),
                });
                encoded.push(raw);
                None
            })
            .collect();
        let txs = TxEnvelope::hash_batch(txs).into_iter().zip(encoded).collect();
        let mut recovered = Self::recover_encoded_batch(txs).into_iter();
        errors.into_iter().filter_map(|error| error.map(Err).or_else(|| recovered.next())).collect()
    }

    /// [`RecoveredTx::recover`] for many transactions, which all have to be signed: several at a time where the processor can, and as
    /// [`RecoveredTx::recover_encoded_batch_once`] does.
    ///
    /// # Errors
    /// The first whose signature does not recover.
    pub fn recover_all(txs: Vec<TxEnvelope>) -> Result<Vec<Arc<Self>>, Unsigned> {
        let encoded: Vec<Bytes> = txs.iter().map(|tx| tx.encoded_2718().into()).collect();
        let hashes = keccak256_batch(&encoded);
        let txs = txs.into_iter().zip(&hashes).map(|(tx, hash)| tx.with_hash(*hash));
        let recovered = Self::recover_encoded_batch_once(txs.zip(encoded).collect());
        let shared = |(index, (tx, hash)): (usize, (Result<_, _>, _))| {
            tx.map(Arc::new).map_err(|source| Unsigned { index, hash, source })
        };
        recovered.zip(hashes).enumerate().map(shared).collect()
    }

    /// [`RecoveredTx::recover_encoded`] for many transactions: several at a time where the processor can.
    pub fn recover_encoded_batch(
        txs: Vec<(TxEnvelope, Bytes)>,
    ) -> Vec<Result<Self, DecodeTxError>> {
        let senders = recover_signers(txs.iter().map(|(tx, _)| tx));
        let join = |((tx, encoded), sender): ((TxEnvelope, Bytes), Result<Address, _>)| {
            let sender = sender.map_err(DecodeTxError::Signature)?;
            Ok(Self { tx, sender, encoded })
        };
        txs.into_iter().zip(senders).map(join).collect()
    }

    /// The same, but what this has recovered in this process lately it does not recover again.
    pub fn recover_encoded_batch_once(
        txs: Vec<(TxEnvelope, Bytes)>,
    ) -> impl Iterator<Item = Result<Self, DecodeTxError>> {
        recover_once(txs)
    }

    pub(super) const fn joined(tx: TxEnvelope, sender: Address, encoded: Bytes) -> Self {
        Self { tx, sender, encoded }
    }

    /// Joins a transaction and a sender that the caller knows to be right.
    pub fn new_unchecked(tx: TxEnvelope, sender: Address) -> Self {
        let encoded = tx.encoded_2718().into();
        Self { tx, sender, encoded }
    }

    /// The transaction.
    pub const fn tx(&self) -> &TxEnvelope {
        &self.tx
    }

    /// Who sent it.
    pub const fn sender(&self) -> Address {
        self.sender
    }

    /// Its EIP-2718 bytes.
    pub const fn encoded(&self) -> &Bytes {
        &self.encoded
    }

    /// Bytes that count against [`MAX_BLOCK_TX_BYTES`](crate::MAX_BLOCK_TX_BYTES): as EIP-2718 has them, but with all 64 bytes of the signature, which a
    /// batch always has, and EIP-2718 without leading zeros.
    pub fn batch_bytes(&self) -> usize {
        let zeros = self
            .tx
            .signature()
            .map_or(0, |signature| 64 - signature.r().byte_len() - signature.s().byte_len());
        self.encoded.len() + zeros
    }

    /// Its hash.
    pub fn hash(&self) -> TxHash {
        self.tx.hash()
    }
}

/// Why bytes are not a transaction.
#[derive(Debug, thiserror::Error)]
pub enum DecodeTxError {
    /// Not exactly one EIP-2718 transaction of a known type.
    #[error("not an EIP-2718 transaction: {0}")]
    Encoding(#[source] Eip2718Error),
    /// Bytes follow the transaction.
    #[error("{0} bytes follow the transaction")]
    TrailingBytes(usize),
    /// No sender can be recovered from the signature.
    #[error("invalid signature: {0}")]
    Signature(#[source] RecoveryError),
}

/// A transaction among others that nobody signed.
#[derive(Debug, thiserror::Error)]
#[error("transaction {hash} has no sender: {source}")]
pub struct Unsigned {
    /// Which.
    pub index: usize,
    /// Its hash.
    pub hash: TxHash,
    /// Why.
    pub source: DecodeTxError,
}

fn decode_tx(mut raw: &[u8]) -> Result<TxEnvelope, DecodeTxError> {
    let tx = TxEnvelope::decode_2718(&mut raw).map_err(DecodeTxError::Encoding)?;
    if raw.is_empty() { Ok(tx) } else { Err(DecodeTxError::TrailingBytes(raw.len())) }
}

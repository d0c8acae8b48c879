//! Signs and sends transactions.

use alloy::{
    consensus::{SignableTransaction, TxEip1559, TxEnvelope},
    eips::Encodable2718,
    primitives::{Address, B256, Bytes, Signature, TxKind, U256},
    providers::{Provider, RootProvider},
    rpc::types::TransactionReceipt,
    signers::local::{MnemonicBuilder, PrivateKeySigner},
};
use eyre::{Result, ensure};
use secp256k1::{Message, SECP256K1, SecretKey};

use crate::eventually;

/// One of the development keys that both chains fund.
///
/// # Panics
/// Never: the mnemonic is a constant.
pub fn dev_key(index: u32) -> PrivateKeySigner {
    MnemonicBuilder::from_phrase("test test test test test test test test test test test junk")
        .index(index)
        .and_then(|builder| builder.build())
        .expect("the development mnemonic is valid")
}

/// An address that nobody has used.
pub fn fresh_address() -> Address {
    PrivateKeySigner::random().address()
}

/// An account that sends transactions with rising nonces.
#[derive(Debug, Clone)]
pub struct Wallet {
    key: SecretKey,
    address: Address,
    provider: RootProvider,
    chain_id: u64,
    nonce: u64,
}

impl Wallet {
    /// An account on the chain behind `provider`.
    ///
    /// # Errors
    /// When the chain does not answer.
    pub async fn new(signer: PrivateKeySigner, provider: RootProvider) -> Result<Self> {
        let chain_id = provider.get_chain_id().await?;
        let address = signer.address();
        let nonce = provider.get_transaction_count(address).pending().await?;
        let key = SecretKey::from_byte_array(signer.to_bytes().0)?;
        Ok(Self { key, address, provider, chain_id, nonce })
    }

    /// Its address.
    pub const fn address(&self) -> Address {
        self.address
    }

    /// The nonce of its next transaction.
    pub const fn nonce(&self) -> u64 {
        self.nonce
    }

    /// Talks to another endpoint of the same chain from now on.
    pub fn reconnect(&mut self, provider: RootProvider) {
        self.provider = provider;
    }

    /// Signs a transaction with the next nonce: its bytes and hash. By libsecp256k1, some 30 microseconds in a debug build too.
    pub fn sign(&mut self, to: TxKind, value: U256, input: Bytes, gas: u64) -> (Bytes, B256) {
        let tx = TxEip1559 {
            chain_id: self.chain_id,
            nonce: self.nonce,
            gas_limit: gas,
            max_fee_per_gas: 20_000_000_000,
            max_priority_fee_per_gas: 1_000_000,
            to,
            value,
            input,
            ..Default::default()
        };
        let digest = Message::from_digest(tx.signature_hash().0);
        let signature = SECP256K1.sign_ecdsa_recoverable(digest, &self.key);
        let (parity, bytes) = signature.serialize_compact();
        let signature = Signature::from_bytes_and_parity(&bytes, i32::from(parity) == 1);
        let envelope = TxEnvelope::from(tx.into_signed(signature));
        self.nonce += 1;
        (envelope.encoded_2718().into(), *envelope.tx_hash())
    }

    /// Signs and sends a transfer.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn transfer(&mut self, to: Address, value: U256) -> Result<B256> {
        let (raw, hash) = self.sign(to.into(), value, Bytes::new(), 21_000);
        let _pending = self.provider.send_raw_transaction(&raw).await?;
        Ok(hash)
    }

    /// Signs and sends a transaction and waits for its receipt, which must say success.
    ///
    /// # Errors
    /// When it is refused, or fails.
    pub async fn send(
        &mut self,
        to: TxKind,
        value: U256,
        input: Bytes,
    ) -> Result<TransactionReceipt> {
        let (raw, hash) = self.sign(to, value, input, 3_000_000);
        let _pending = self.provider.send_raw_transaction(&raw).await?;
        let receipt = eventually("a receipt", || async {
            Ok(self.provider.get_transaction_receipt(hash).await?)
        })
        .await?;
        ensure!(receipt.status(), "transaction {hash} failed");
        Ok(receipt)
    }
}

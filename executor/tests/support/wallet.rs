//! Keys, and transactions signed with them.

use std::sync::Arc;

use alloy::{
    consensus::{
        SignableTransaction, Signed, TxEip1559, TxEip2930, TxEip4844, TxEip7702, TxLegacy,
    },
    eips::eip7702::{Authorization, SignedAuthorization},
    primitives::{Address, B256, Bytes, Signature, TxKind, U256},
    signers::{SignerSync, local::PrivateKeySigner},
};
use millrace_proto::{RecoveredTx, TxEnvelope};

use super::CHAIN_ID;

pub(crate) const MAX_FEE: u128 = 10_000_000_000;
pub(crate) const TIP: u128 = 1_000_000;

pub(crate) struct Wallet(PrivateKeySigner);

impl Wallet {
    pub(crate) fn new(index: u64) -> Self {
        let key = B256::from(U256::from(index + 1));
        Self(PrivateKeySigner::from_bytes(&key).expect("a small number is a valid key"))
    }

    pub(crate) fn address(&self) -> Address {
        self.0.address()
    }

    pub(crate) fn sign<T: SignableTransaction<Signature>>(
        &self,
        tx: T,
        envelope: fn(Signed<T>) -> TxEnvelope,
    ) -> Arc<RecoveredTx> {
        let signature = self.0.sign_hash_sync(&tx.signature_hash()).expect("local keys sign");
        let tx = RecoveredTx::recover(envelope(tx.into_signed(signature))).expect("just signed");
        assert_eq!(tx.sender(), self.address());
        Arc::new(tx)
    }

    /// An EIP-1559 transaction.
    pub(crate) fn send(
        &self,
        nonce: u64,
        to: impl Into<TxKind>,
        value: u128,
        gas: u64,
        input: &[u8],
    ) -> Arc<RecoveredTx> {
        self.sign(
            TxEip1559 {
                chain_id: CHAIN_ID,
                nonce,
                gas_limit: gas,
                max_fee_per_gas: MAX_FEE,
                max_priority_fee_per_gas: TIP,
                to: to.into(),
                value: U256::from(value),
                input: Bytes::copy_from_slice(input),
                ..Default::default()
            },
            TxEnvelope::Eip1559,
        )
    }

    pub(crate) fn transfer(&self, nonce: u64, to: Address, value: u128) -> Arc<RecoveredTx> {
        self.send(nonce, to, value, 21_000, &[])
    }

    pub(crate) fn create(&self, nonce: u64, init_code: &[u8]) -> Arc<RecoveredTx> {
        self.send(nonce, TxKind::Create, 0, 1_000_000, init_code)
    }

    pub(crate) fn legacy(&self, nonce: u64, to: Address, value: u128) -> Arc<RecoveredTx> {
        self.sign(
            TxLegacy {
                chain_id: Some(CHAIN_ID),
                nonce,
                gas_price: MAX_FEE,
                gas_limit: 21_000,
                to: to.into(),
                value: U256::from(value),
                input: Bytes::new(),
            },
            TxEnvelope::Legacy,
        )
    }

    pub(crate) fn with_access_list(&self, nonce: u64, to: Address, slot: B256) -> Arc<RecoveredTx> {
        self.sign(
            TxEip2930 {
                chain_id: CHAIN_ID,
                nonce,
                gas_price: MAX_FEE,
                gas_limit: 100_000,
                to: to.into(),
                value: U256::ZERO,
                access_list: vec![alloy::eips::eip2930::AccessListItem {
                    address: to,
                    storage_keys: vec![slot],
                }]
                .into(),
                input: Bytes::new(),
            },
            TxEnvelope::Eip2930,
        )
    }

    pub(crate) fn blobs(&self, nonce: u64, to: Address, count: u8) -> Arc<RecoveredTx> {
        let hash = |index: u8| {
            let mut hash = B256::repeat_byte(index);
            hash.0[0] = 1;
            hash
        };
        self.sign(
            TxEip4844 {
                chain_id: CHAIN_ID,
                nonce,
                gas_limit: 21_000,
                max_fee_per_gas: MAX_FEE,
                max_priority_fee_per_gas: TIP,
                to,
                max_fee_per_blob_gas: MAX_FEE,
                blob_versioned_hashes: (0..count).map(hash).collect(),
                ..Default::default()
            },
            TxEnvelope::Eip4844,
        )
    }

    /// Lets this wallet's account run the code at `target`.
    pub(crate) fn authorize(&self, nonce: u64, target: Address) -> SignedAuthorization {
        let authorization =
            Authorization { chain_id: U256::from(CHAIN_ID), address: target, nonce };
        let signature =
            self.0.sign_hash_sync(&authorization.signature_hash()).expect("local keys sign");
        authorization.into_signed(signature)
    }

    pub(crate) fn set_code(
        &self,
        nonce: u64,
        to: Address,
        input: &[u8],
        authorization_list: Vec<SignedAuthorization>,
    ) -> Arc<RecoveredTx> {
        self.sign(
            TxEip7702 {
                chain_id: CHAIN_ID,
                nonce,
                gas_limit: 300_000,
                max_fee_per_gas: MAX_FEE,
                max_priority_fee_per_gas: TIP,
                to,
                value: U256::ZERO,
                access_list: Default::default(),
                authorization_list,
                input: Bytes::copy_from_slice(input),
            },
            TxEnvelope::Eip7702,
        )
    }
}

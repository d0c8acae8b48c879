//! EIP-1186 proofs.

use alloy::{
    primitives::{Address, B256, U256, keccak256},
    rlp::{self, Decodable},
    rpc::types::{EIP1186AccountProofResponse, EIP1186StorageProof},
    serde::JsonStorageKey,
};
use alloy_trie::TrieAccount;

use super::{StateView, nodes::Nodes};
use crate::{
    store::{StoreError, table::Table},
    trie::{Proof, prove},
};

impl StateView {
    /// Proves an account and slots of it against the block's state root; absence is proved as well.
    ///
    /// What the account holds comes from the trie itself. A missing account shows as an empty one.
    pub(crate) fn proof(
        &self,
        address: Address,
        slots: &[B256],
    ) -> Result<EIP1186AccountProofResponse, StoreError> {
        let owner = keccak256(address);
        let Proof { nodes: account_proof, value } =
            prove(&Nodes::accounts(self.reader()).at(self.at()), owner)?;
        let account: Option<TrieAccount> = decoded(value.as_deref(), Table::AccountNodes)?;
        let account = account.unwrap_or_default();

        let storage = Nodes::storage(self.reader(), owner).at(self.at());
        let storage_proof = slots
            .iter()
            .map(|slot| {
                let Proof { nodes, value } = prove(&storage, keccak256(slot))?;
                let value: Option<U256> = decoded(value.as_deref(), Table::StorageNodes)?;
                let key = JsonStorageKey::Hash(*slot);
                Ok(EIP1186StorageProof::new(key, value.unwrap_or_default(), nodes))
            })
            .collect::<Result<_, StoreError>>()?;

        Ok(EIP1186AccountProofResponse {
            address,
            balance: account.balance,
            code_hash: account.code_hash,
            nonce: account.nonce,
            storage_hash: account.storage_root,
            account_proof,
            storage_proof,
        })
    }
}

fn decoded<T: Decodable>(value: Option<&[u8]>, table: Table) -> Result<Option<T>, StoreError> {
    value
        .map(|value| rlp::decode_exact(value))
        .transpose()
        .map_err(|error| StoreError::corrupt(table, error))
}

//! A state that grows by blocks, and unsigned transactions on it.

use std::sync::Arc;

use alloy::{
    consensus::{Signed, TxEip1559},
    primitives::Signature,
};
use alloy_primitives::{Address, B256, Bytes, TxKind, U256, address, keccak256, map::AddressMap};
use millrace_executor::{BlockExecutor, BlockOutput, CodeCache, EvmEnv, MemoryState};
use millrace_proto::{AccountInfo, Receipt, RecoveredTx, TxEnvelope, TxOutcome};
use revm::{
    context::BlockEnv, context_interface::block::BlobExcessGasAndPrice,
    primitives::hardfork::SpecId,
};

use super::ArtifactError;

pub(super) const CHAIN_ID: u64 = 7357;
pub(super) const TIP: u128 = 1_000_000_000;
pub(super) const BASE_FEE: u64 = 1_000_000_000;
pub(super) const MAX_FEE: u128 = 10_000_000_000;
pub(super) const BENEFICIARY: Address = address!("00000000000000000000000000000000000000fe");
pub(super) const ETHER: u128 = 1_000_000_000_000_000_000;

pub(super) struct World {
    pub(super) env: EvmEnv,
    pub(super) state: MemoryState,
    codes: Arc<CodeCache>,
    nonces: AddressMap<u64>,
}

impl World {
    pub(super) fn new() -> Self {
        let block = BlockEnv {
            number: U256::from(1),
            beneficiary: BENEFICIARY,
            timestamp: U256::from(1_700_000_000),
            gas_limit: 1 << 40,
            basefee: BASE_FEE,
            difficulty: U256::ZERO,
            prevrandao: Some(B256::repeat_byte(7)),
            blob_excess_gas_and_price: None,
            slot_num: 0,
        };
        let mut env = EvmEnv::ethereum(SpecId::PRAGUE, CHAIN_ID, block);
        env.block.blob_excess_gas_and_price =
            Some(BlobExcessGasAndPrice { excess_blob_gas: 0, blob_gasprice: 1 });
        Self {
            env,
            state: MemoryState::default(),
            codes: Arc::default(),
            nonces: AddressMap::default(),
        }
    }

    /// Gives an account ether.
    pub(super) fn fund(&mut self, account: Address) {
        let info = AccountInfo { balance: U256::from(1_000 * ETHER), ..AccountInfo::default() };
        self.state.set_account(account, Some(info));
    }

    /// Forgets the nonces of transactions that were made but not executed.
    pub(super) fn rewind(&mut self) {
        self.nonces.clear();
    }

    /// A transaction with the sender's next nonce.
    pub(super) fn send(
        &mut self,
        from: Address,
        to: TxKind,
        value: u128,
        gas_limit: u64,
        input: Bytes,
    ) -> Arc<RecoveredTx> {
        use millrace_executor::StateReader;
        let state = &self.state;
        let next = self.nonces.entry(from).or_insert_with(|| {
            let account = state.account(from).ok().flatten();
            account.map_or(0, |account| account.nonce)
        });
        let nonce = *next;
        *next += 1;
        let tx = TxEip1559 {
            chain_id: CHAIN_ID,
            nonce,
            gas_limit,
            max_fee_per_gas: MAX_FEE,
            max_priority_fee_per_gas: TIP,
            to,
            value: U256::from(value),
            input,
            access_list: Default::default(),
        };
        // Nothing below admission looks at signatures.
        let signature = Signature::new(U256::from(1), U256::from(1), false);
        let tx = TxEnvelope::Eip1559(Signed::new_unhashed(tx, signature));
        Arc::new(RecoveredTx::new_unchecked(tx, from))
    }

    /// Executes transactions, all of which must succeed, and keeps what they change.
    pub(super) fn run(
        &mut self,
        transactions: &[Arc<RecoveredTx>],
    ) -> Result<Vec<Receipt>, ArtifactError> {
        Ok(self.execute(transactions)?.receipts)
    }

    /// Executes transactions as a block, all of which must succeed, and keeps what they change.
    pub(super) fn execute(
        &mut self,
        transactions: &[Arc<RecoveredTx>],
    ) -> Result<BlockOutput, ArtifactError> {
        let setup = |problem: String| ArtifactError::Setup(problem);
        let mut block = BlockExecutor::with_env(self.env.clone(), &self.state, self.codes.clone());
        for tx in transactions {
            match block.execute(tx).map_err(|error| setup(error.to_string()))? {
                TxOutcome::Included { receipt, .. } if receipt.success => {}
                outcome => return Err(setup(format!("{outcome:?}"))),
            }
        }
        let output = block.finish().map_err(|error| setup(error.to_string()))?;
        self.state.apply(&output.diff);
        self.rewind();
        Ok(output)
    }

    /// Goes on to the next block, a second later.
    pub(super) fn next_block(&mut self) {
        self.env.block.number += U256::ONE;
        self.env.block.timestamp += U256::ONE;
    }

    /// Creates a contract.
    pub(super) fn deploy(
        &mut self,
        from: Address,
        code: &Bytes,
        arguments: &[u8],
    ) -> Result<Address, ArtifactError> {
        use alloy::consensus::Transaction;
        let code = [code.as_ref(), arguments].concat().into();
        let tx = self.send(from, TxKind::Create, 0, 10_000_000, code);
        let address = from.create(tx.tx().nonce());
        self.run(&[tx])?;
        Ok(address)
    }
}

/// The address of the account number `index` of a kind.
pub(super) fn account(kind: &str, index: usize) -> Address {
    let mut seed = kind.as_bytes().to_vec();
    seed.extend_from_slice(&index.to_be_bytes());
    Address::from_word(keccak256(seed))
}

/// Where a Solidity mapping at `slot` keeps the value of `key`.
pub(super) fn mapping_slot(key: B256, slot: B256) -> B256 {
    keccak256([key.as_slice(), slot.as_slice()].concat())
}

//! What the protocol itself calls at a block's start and end, and the requests to the consensus layer (EIP-7685) that come of it.

use alloy::{
    eips::{
        eip2935::HISTORY_STORAGE_ADDRESS,
        eip4788::BEACON_ROOTS_ADDRESS,
        eip6110::DEPOSIT_REQUEST_TYPE,
        eip7002::{WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS, WITHDRAWAL_REQUEST_TYPE},
        eip7251::{CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS, CONSOLIDATION_REQUEST_TYPE},
        eip7685::Requests,
    },
    sol,
    sol_types::SolEvent,
};
use alloy_primitives::{Address, B256, Bytes};
use millrace_proto::{Header, SharedReceipt};
use revm::context::result::ExecutionResult;

use super::{BlockPlan, EvmEnv, ExecutionError};

sol! {
    /// What the deposit contract emits (EIP-6110).
    event DepositEvent(bytes pubkey, bytes withdrawalCredentials, bytes amount, bytes signature, bytes index);
}

/// A block that is being executed, as far as the protocol's own calls need it.
pub(super) trait SystemCalls {
    fn env(&self) -> &EvmEnv;

    fn receipts(&self) -> &[SharedReceipt];

    /// Calls a system contract; `None` if it does not exist. Its gas counts nowhere.
    fn system_call(
        &mut self,
        contract: Address,
        input: Bytes,
    ) -> Result<Option<ExecutionResult>, ExecutionError>;
}

/// What the block's start tells the system contracts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BlockStart {
    pub(super) parent_hash: B256,
    pub(super) parent_beacon_block_root: B256,
}

impl From<&BlockPlan> for BlockStart {
    fn from(plan: &BlockPlan) -> Self {
        let attributes = plan.attributes();
        Self {
            parent_hash: attributes.parent_hash,
            parent_beacon_block_root: attributes.parent_beacon_block_root,
        }
    }
}

impl From<&Header> for BlockStart {
    fn from(header: &Header) -> Self {
        Self {
            parent_hash: header.parent_hash,
            parent_beacon_block_root: header.parent_beacon_block_root.unwrap_or_default(),
        }
    }
}

/// Before the first transaction: EIP-4788 and EIP-2935, where their contracts exist.
pub(super) fn at_start(
    block: &mut impl SystemCalls,
    start: BlockStart,
) -> Result<(), ExecutionError> {
    let word = |word: B256| Bytes::copy_from_slice(word.as_slice());
    if block.env().cancun {
        block.system_call(BEACON_ROOTS_ADDRESS, word(start.parent_beacon_block_root))?;
    }
    if block.env().prague {
        block.system_call(HISTORY_STORAGE_ADDRESS, word(start.parent_hash))?;
    }
    Ok(())
}

/// The block's requests, once all its transactions have run. A rollup has none, and neither has a chain without the
/// system contracts, as the embedded dev L1.
pub(super) fn at_end(block: &mut impl SystemCalls) -> Result<Requests, ExecutionError> {
    let mut requests = Requests::default();
    if block.env().rollup || !block.env().prague {
        return Ok(requests);
    }
    if let Some(contract) = block.env().deposit_contract {
        requests.push_request_with_type(DEPOSIT_REQUEST_TYPE, deposits(block.receipts(), contract));
    }
    for (ty, contract) in [
        (WITHDRAWAL_REQUEST_TYPE, WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS),
        (CONSOLIDATION_REQUEST_TYPE, CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS),
    ] {
        match block.system_call(contract, Bytes::new())? {
            None => {}
            Some(ExecutionResult::Success { output, .. }) => {
                requests.push_request_with_type(ty, output.into_data());
            }
            Some(failed) => {
                return Err(ExecutionError::Evm(format!("system call to {contract}: {failed}")));
            }
        }
    }
    Ok(requests)
}

fn deposits(receipts: &[SharedReceipt], contract: Address) -> Vec<u8> {
    receipts
        .iter()
        .flat_map(|receipt| &receipt.logs)
        .filter(|log| log.address == contract)
        .filter_map(|log| DepositEvent::decode_log(log).ok())
        .flat_map(|event| {
            let DepositEvent { pubkey, withdrawalCredentials, amount, signature, index } =
                event.data;
            [pubkey, withdrawalCredentials, amount, signature, index].concat()
        })
        .collect()
}

//! Requests from the execution layer to the consensus layer (EIP-7685), on Ethereum chains from Prague on.

use alloy::{
    eips::{
        eip6110::DEPOSIT_REQUEST_TYPE,
        eip7002::{WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS, WITHDRAWAL_REQUEST_TYPE},
        eip7251::{CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS, CONSOLIDATION_REQUEST_TYPE},
        eip7685::Requests,
    },
    sol,
    sol_types::SolEvent,
};
use alloy_primitives::{Address, Bytes};
use millrace_proto::Receipt;
use revm::context::result::ExecutionResult;

use super::{BlockExecutor, ExecutionError, StateReader};

sol! {
    /// What the deposit contract emits (EIP-6110).
    event DepositEvent(bytes pubkey, bytes withdrawalCredentials, bytes amount, bytes signature, bytes index);
}

/// The block's requests, once all its transactions have run. A rollup has none, and neither has a chain without the
/// system contracts, as the embedded dev L1.
pub(super) fn collect<R: StateReader>(
    block: &mut BlockExecutor<R>,
) -> Result<Requests, ExecutionError> {
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
        match block.system_call_with(contract, Bytes::new())? {
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

fn deposits(receipts: &[Receipt], contract: Address) -> Vec<u8> {
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

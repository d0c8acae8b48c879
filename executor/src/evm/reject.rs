//! The EVM's validation errors as the reasons that the rest of Millrace knows.

use millrace_proto::RejectReason;
use revm::context::{
    Cfg, TxEnv,
    result::InvalidTransaction::{self as Invalid},
};

use super::EvmEnv;

/// Why `tx` cannot be in the block that `env` describes.
pub(super) fn reject_reason(invalid: Invalid, tx: &TxEnv, env: &EvmEnv) -> RejectReason {
    match invalid {
        Invalid::PriorityFeeGreaterThanMaxFee => RejectReason::TipAboveMaxFee {
            tip: tx.gas_priority_fee.unwrap_or(0),
            max_fee: tx.gas_price,
        },
        Invalid::GasPriceLessThanBasefee => {
            RejectReason::FeeBelowFloor { got: tx.gas_price, floor: u128::from(env.block.basefee) }
        }
        Invalid::CallerGasLimitMoreThanBlock => {
            RejectReason::GasOverLimit { got: tx.gas_limit, limit: env.block.gas_limit }
        }
        Invalid::TxGasLimitGreaterThanCap { gas_limit, cap } => {
            RejectReason::GasOverLimit { got: gas_limit, limit: cap }
        }
        Invalid::CallGasCostMoreThanGasLimit { initial_gas, gas_limit } => {
            RejectReason::IntrinsicGas { got: gas_limit, required: initial_gas }
        }
        Invalid::GasFloorMoreThanGasLimit { gas_floor, gas_limit } => {
            RejectReason::IntrinsicGas { got: gas_limit, required: gas_floor }
        }
        Invalid::RejectCallerWithCode => RejectReason::SenderIsContract { sender: tx.caller },
        Invalid::LackOfFundForMaxFee { fee, balance } => {
            RejectReason::InsufficientFunds { sender: tx.caller, balance: *balance, cost: *fee }
        }
        Invalid::NonceTooHigh { tx: got, state: expected } => {
            RejectReason::NonceTooFar { got, expected, limit: 0 }
        }
        Invalid::NonceTooLow { tx: got, state: expected } => {
            RejectReason::NonceTooLow { got, expected }
        }
        Invalid::CreateInitCodeSizeLimit => RejectReason::InitCodeTooLarge {
            size: tx.data.len() as u64,
            limit: env.cfg.max_initcode_size() as u64,
        },
        Invalid::InvalidChainId => {
            RejectReason::WrongChainId { got: tx.chain_id.unwrap_or(0), expected: env.cfg.chain_id }
        }
        Invalid::MissingChainId => RejectReason::Unprotected,
        Invalid::Eip2930NotSupported
        | Invalid::Eip1559NotSupported
        | Invalid::Eip4844NotSupported
        | Invalid::Eip7702NotSupported => RejectReason::UnsupportedType { ty: tx.tx_type },
        other => RejectReason::Invalid { detail: other.to_string() },
    }
}

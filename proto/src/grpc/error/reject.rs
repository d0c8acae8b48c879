//! Why a transaction is refused, on the wire: the reason is [`RejectReason::code`], and every field is a fact by its name.

use std::time::Duration;

use tonic::Code;

use crate::{grpc::error::Fault, types::RejectReason};

/// When to try again if the pool is full: about the time in which a block makes room.
const POOL_FULL_RETRY: Duration = Duration::from_millis(250);

/// What is sent.
pub(crate) fn reject_fault(reason: &RejectReason) -> Fault {
    let mut fault = add_facts(reason, Fault::new(reason.grpc_code(), reason.code(), reason));
    if fault.code == Code::ResourceExhausted {
        fault.retry_after = Some(POOL_FULL_RETRY);
    }
    fault
}

/// Adds the reason's fields to a fault.
pub(super) fn add_facts(reason: &RejectReason, fault: Fault) -> Fault {
    use RejectReason as R;
    match reason {
        R::BadEncoding { detail } | R::BadSignature { detail } | R::Invalid { detail } => {
            fault.with("detail", detail)
        }
        R::Oversize { size, limit } | R::InitCodeTooLarge { size, limit } => {
            fault.with("size", size).with("limit", limit)
        }
        R::UnsupportedType { ty } => fault.with("type", ty),
        R::WrongChainId { got, expected } | R::NonceTooLow { got, expected } => {
            fault.with("got", got).with("expected", expected)
        }
        R::NonceTooFar { got, expected, limit } => {
            fault.with("got", got).with("expected", expected).with("limit", limit)
        }
        R::Underpriced { required } => fault.with("required", required),
        R::InsufficientFunds { sender, balance, cost } => {
            fault.with("sender", sender).with("balance", balance).with("cost", cost)
        }
        R::FeeBelowFloor { got, floor } => fault.with("got", got).with("floor", floor),
        R::TipBelowFloor { got, floor, data_fee } => {
            fault.with("got", got).with("floor", floor).with("data_fee", data_fee)
        }
        R::TipAboveMaxFee { tip, max_fee } => fault.with("tip", tip).with("max_fee", max_fee),
        R::GasOverLimit { got, limit } => fault.with("got", got).with("limit", limit),
        R::IntrinsicGas { got, required } => fault.with("got", got).with("required", required),
        R::SenderIsContract { sender } => fault.with("sender", sender),
        R::AlreadyKnown { hash } => fault.with("hash", hash),
        R::PoolFull { limit } | R::SourceLimit { limit } => fault.with("limit", limit),
        R::Replaced { by } => fault.with("by", by),
        R::Unprotected | R::Expired | R::Evicted => fault,
    }
}

/// What was sent; `None` if the reason is not one of a refusal, or a fact is missing.
pub(crate) fn reject_from_fault(fault: &Fault) -> Option<RejectReason> {
    reject_from_parts(&fault.reason, fault)
}

/// As [`reject_from_fault`], with the reason given apart.
pub(super) fn reject_from_parts(reason: &str, fault: &Fault) -> Option<RejectReason> {
    use RejectReason as R;
    let detail = || fault.text("detail").to_owned();
    Some(match reason {
        "BAD_ENCODING" => R::BadEncoding { detail: detail() },
        "OVERSIZE" => R::Oversize { size: fault.get("size")?, limit: fault.get("limit")? },
        "UNSUPPORTED_TYPE" => R::UnsupportedType { ty: fault.get("type")? },
        "WRONG_CHAIN_ID" => {
            R::WrongChainId { got: fault.get("got")?, expected: fault.get("expected")? }
        }
        "UNPROTECTED" => R::Unprotected,
        "BAD_SIGNATURE" => R::BadSignature { detail: detail() },
        "NONCE_TOO_LOW" => {
            R::NonceTooLow { got: fault.get("got")?, expected: fault.get("expected")? }
        }
        "NONCE_TOO_FAR" => R::NonceTooFar {
            got: fault.get("got")?,
            expected: fault.get("expected")?,
            limit: fault.get("limit")?,
        },
        "UNDERPRICED" => R::Underpriced { required: fault.get("required")? },
        "INSUFFICIENT_FUNDS" => R::InsufficientFunds {
            sender: fault.get("sender")?,
            balance: fault.get("balance")?,
            cost: fault.get("cost")?,
        },
        "FEE_BELOW_FLOOR" => {
            R::FeeBelowFloor { got: fault.get("got")?, floor: fault.get("floor")? }
        }
        "TIP_BELOW_FLOOR" => R::TipBelowFloor {
            got: fault.get("got")?,
            floor: fault.get("floor")?,
            data_fee: fault.get("data_fee")?,
        },
        "TIP_ABOVE_MAX_FEE" => {
            R::TipAboveMaxFee { tip: fault.get("tip")?, max_fee: fault.get("max_fee")? }
        }
        "GAS_OVER_LIMIT" => R::GasOverLimit { got: fault.get("got")?, limit: fault.get("limit")? },
        "INTRINSIC_GAS" => {
            R::IntrinsicGas { got: fault.get("got")?, required: fault.get("required")? }
        }
        "INIT_CODE_TOO_LARGE" => {
            R::InitCodeTooLarge { size: fault.get("size")?, limit: fault.get("limit")? }
        }
        "SENDER_IS_CONTRACT" => R::SenderIsContract { sender: fault.get("sender")? },
        "INVALID" => R::Invalid { detail: detail() },
        "ALREADY_KNOWN" => R::AlreadyKnown { hash: fault.get("hash")? },
        "POOL_FULL" => R::PoolFull { limit: fault.get("limit")? },
        "SOURCE_LIMIT" => R::SourceLimit { limit: fault.get("limit")? },
        "REPLACED" => R::Replaced { by: fault.get("by")? },
        "EXPIRED" => R::Expired,
        "EVICTED" => R::Evicted,
        _ => return None,
    })
}

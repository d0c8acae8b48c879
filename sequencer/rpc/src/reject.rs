//! What a client is told of a refused transaction: geth's wording, which wallets match on, and the reason code.

use jsonrpsee::types::ErrorObjectOwned;
use millrace_proto::RejectReason;
use serde::Serialize;

use crate::error::{LIMIT_EXCEEDED, rejected};

/// The `data` of the error.
#[derive(Debug, Serialize)]
struct Rejection {
    /// [`RejectReason::code`].
    reason: &'static str,
    /// The reason in full.
    detail: String,
}

pub(crate) fn error_object(reason: &RejectReason) -> ErrorObjectOwned {
    let is_limit = matches!(
        reason,
        RejectReason::PoolFull { .. } | RejectReason::SourceLimit { .. } | RejectReason::Evicted
    );
    let code = is_limit.then_some(LIMIT_EXCEEDED);
    rejected(code, message(reason), Rejection { reason: reason.code(), detail: reason.to_string() })
}

/// Starts with what geth says for the same cause, as far as it has a word for it.
fn message(reason: &RejectReason) -> String {
    match reason {
        RejectReason::AlreadyKnown { .. } => "already known".to_owned(),
        RejectReason::Oversize { size, limit } => {
            format!("oversized data: transaction size {size}, limit {limit}")
        }
        RejectReason::UnsupportedType { ty } => {
            format!("transaction type not supported: {ty:#04x}")
        }
        RejectReason::WrongChainId { got, expected } => {
            format!("invalid chain id for signer: have {got} want {expected}")
        }
        RejectReason::Unprotected => {
            "only replay-protected (EIP-155) transactions allowed over RPC".to_owned()
        }
        RejectReason::BadSignature { detail } => format!("invalid sender: {detail}"),
        RejectReason::NonceTooLow { got, expected } => {
            format!("nonce too low: next nonce {expected}, tx nonce {got}")
        }
        RejectReason::NonceTooFar { got, expected, limit } => format!(
            "nonce too high: next nonce {expected}, tx nonce {got}, at most {limit} ahead are kept"
        ),
        RejectReason::InsufficientFunds { sender, balance, cost } => format!(
            "insufficient funds for gas * price + value: address {sender} have {balance} want {cost}"
        ),
        RejectReason::FeeBelowFloor { got, floor } => format!(
            "max fee per gas less than block base fee: maxFeePerGas: {got}, baseFee: {floor}"
        ),
        RejectReason::TipBelowFloor { got, floor, data_fee } => format!(
            "transaction underpriced: gas tip cap {got}, minimum needed {floor}, for data that costs {data_fee} wei"
        ),
        RejectReason::TipAboveMaxFee { tip, max_fee } => format!(
            "max priority fee per gas higher than max fee per gas: maxPriorityFeePerGas: {tip}, maxFeePerGas: {max_fee}"
        ),
        RejectReason::GasOverLimit { got, limit } => {
            format!("exceeds block gas limit: gas {got}, limit {limit}")
        }
        RejectReason::IntrinsicGas { got, required } => {
            format!("intrinsic gas too low: gas {got}, minimum needed {required}")
        }
        RejectReason::InitCodeTooLarge { size, limit } => {
            format!("max initcode size exceeded: code size {size}, limit {limit}")
        }
        RejectReason::SenderIsContract { sender } => {
            format!("sender not an eoa: address {sender}")
        }
        RejectReason::PoolFull { limit } => {
            format!("txpool is full: it holds {limit} transactions; try again later")
        }
        RejectReason::SourceLimit { limit } => {
            format!(
                "txpool is full: it holds {limit} transactions of your address, or as many bytes as it may; try again later"
            )
        }
        // These say "replacement transaction underpriced" and the like themselves.
        RejectReason::Underpriced { .. }
        | RejectReason::BadEncoding { .. }
        | RejectReason::Invalid { .. }
        | RejectReason::Replaced { .. }
        | RejectReason::Expired
        | RejectReason::Evicted => reason.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::{Address, B256, U256};

    use super::*;

    #[test]
    fn wallets_find_the_words_they_match_on() {
        let sender = Address::ZERO;
        let (balance, cost) = (U256::ZERO, U256::ONE);
        let cases = [
            (RejectReason::NonceTooLow { got: 1, expected: 2 }, "nonce too low"),
            (RejectReason::NonceTooFar { got: 9, expected: 2, limit: 3 }, "nonce too high"),
            (RejectReason::AlreadyKnown { hash: B256::ZERO }, "already known"),
            (
                RejectReason::InsufficientFunds { sender, balance, cost },
                "insufficient funds for gas * price + value",
            ),
            (RejectReason::Underpriced { required: 7 }, "replacement transaction underpriced"),
            (RejectReason::IntrinsicGas { got: 1, required: 2 }, "intrinsic gas too low"),
            (
                RejectReason::FeeBelowFloor { got: 1, floor: 2 },
                "max fee per gas less than block base fee",
            ),
            (
                RejectReason::TipAboveMaxFee { tip: 2, max_fee: 1 },
                "max priority fee per gas higher than max fee per gas",
            ),
            (
                RejectReason::TipBelowFloor { got: 1, floor: 2, data_fee: 42_000 },
                "transaction underpriced: gas tip cap 1, minimum needed 2",
            ),
            (RejectReason::UnsupportedType { ty: 3 }, "transaction type not supported"),
            (RejectReason::GasOverLimit { got: 2, limit: 1 }, "exceeds block gas limit"),
        ];
        for (reason, words) in cases {
            let error = error_object(&reason);
            assert_eq!(error.code(), -32000, "{reason}");
            assert!(error.message().starts_with(words), "{}", error.message());
            let data = error.data().map(|data| data.get()).unwrap_or_default();
            assert!(data.contains(reason.code()), "{data}");
        }
    }

    #[test]
    fn a_full_pool_is_a_limit_that_clients_retry() {
        assert_eq!(error_object(&RejectReason::PoolFull { limit: 1 }).code(), -32005);
    }
}

//! The tests' names of what is wrong with a transaction.

use millrace_proto::RejectReason;

/// Whether a reason is one of those that a test expects: names joined by `|`. A name that is not known takes any reason.
pub(super) fn is_expected(reason: &RejectReason, expected: &str) -> bool {
    use RejectReason as R;
    expected.split('|').any(|name| match name.trim_start_matches("TransactionException.") {
        "INTRINSIC_GAS_TOO_LOW" => matches!(reason, R::IntrinsicGas { .. }),
        "INSUFFICIENT_ACCOUNT_FUNDS" => matches!(reason, R::InsufficientFunds { .. }),
        "SENDER_NOT_EOA" => matches!(reason, R::SenderIsContract { .. }),
        "INITCODE_SIZE_EXCEEDED" => matches!(reason, R::InitCodeTooLarge { .. }),
        "INSUFFICIENT_MAX_FEE_PER_GAS" => matches!(reason, R::FeeBelowFloor { .. }),
        "PRIORITY_GREATER_THAN_MAX_FEE_PER_GAS" => matches!(reason, R::TipAboveMaxFee { .. }),
        "GAS_ALLOWANCE_EXCEEDED" => matches!(reason, R::GasOverLimit { .. }),
        "TYPE_3_TX_PRE_FORK" => matches!(reason, R::UnsupportedType { .. }),
        _ => true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_must_be_one_of_the_names() {
        let reason = RejectReason::IntrinsicGas { got: 1, required: 2 };
        assert!(is_expected(&reason, "TransactionException.INTRINSIC_GAS_TOO_LOW"));
        assert!(is_expected(
            &reason,
            "TransactionException.SENDER_NOT_EOA|TransactionException.INTRINSIC_GAS_TOO_LOW"
        ));
        assert!(!is_expected(&reason, "TransactionException.SENDER_NOT_EOA"));
        assert!(is_expected(&reason, "TransactionException.OF_TOMORROW"));
    }
}

//! Drop reasons as bytes: a tag, then the fields.

use millrace_proto::RejectReason;

use super::codec::{CodecError, Reader, Writer};

/// Appends a reason.
pub(super) fn encode_reason(out: &mut Writer, reason: &RejectReason) {
    use RejectReason as R;
    match reason {
        R::BadEncoding { detail } => tagged_text(out, 1, detail),
        R::Oversize { size, limit } => tagged_pair(out, 2, *size, *limit),
        R::UnsupportedType { ty } => {
            out.u8(3);
            out.u8(*ty);
        }
        R::WrongChainId { got, expected } => tagged_pair(out, 4, *got, *expected),
        R::Unprotected => out.u8(5),
        R::BadSignature { detail } => tagged_text(out, 6, detail),
        R::NonceTooLow { got, expected } => tagged_pair(out, 7, *got, *expected),
        R::NonceTooFar { got, expected, limit } => {
            tagged_pair(out, 8, *got, *expected);
            out.u64(*limit);
        }
        R::Underpriced { required } => {
            out.u8(9);
            out.u128(*required);
        }
        R::InsufficientFunds { sender, balance, cost } => {
            out.u8(10);
            out.fixed(sender.as_slice());
            out.u256(*balance);
            out.u256(*cost);
        }
        R::FeeBelowFloor { got, floor } => tagged_fees(out, 11, *got, *floor),
        R::TipAboveMaxFee { tip, max_fee } => tagged_fees(out, 12, *tip, *max_fee),
        R::GasOverLimit { got, limit } => tagged_pair(out, 13, *got, *limit),
        R::IntrinsicGas { got, required } => tagged_pair(out, 14, *got, *required),
        R::InitCodeTooLarge { size, limit } => tagged_pair(out, 15, *size, *limit),
        R::SenderIsContract { sender } => {
            out.u8(16);
            out.fixed(sender.as_slice());
        }
        R::Invalid { detail } => tagged_text(out, 17, detail),
        R::AlreadyKnown { hash } => {
            out.u8(18);
            out.fixed(hash.as_slice());
        }
        R::PoolFull { limit } => {
            out.u8(19);
            out.u64(*limit);
        }
        R::Replaced { by } => {
            out.u8(20);
            out.fixed(by.as_slice());
        }
        R::Expired => out.u8(21),
        R::Evicted => out.u8(22),
        R::TipBelowFloor { got, floor, data_fee } => {
            tagged_fees(out, 24, *got, *floor);
            out.u128(*data_fee);
        }
        R::SourceLimit { limit } => {
            out.u8(23);
            out.u64(*limit);
        }
    }
}

/// Takes a reason.
pub(super) fn decode_reason(input: &mut Reader) -> Result<RejectReason, CodecError> {
    use RejectReason as R;
    Ok(match input.u8()? {
        1 => R::BadEncoding { detail: input.text()? },
        2 => R::Oversize { size: input.u64()?, limit: input.u64()? },
        3 => R::UnsupportedType { ty: input.u8()? },
        4 => R::WrongChainId { got: input.u64()?, expected: input.u64()? },
        5 => R::Unprotected,
        6 => R::BadSignature { detail: input.text()? },
        7 => R::NonceTooLow { got: input.u64()?, expected: input.u64()? },
        8 => R::NonceTooFar { got: input.u64()?, expected: input.u64()?, limit: input.u64()? },
        9 => R::Underpriced { required: input.u128()? },
        10 => R::InsufficientFunds {
            sender: input.address()?,
            balance: input.u256()?,
            cost: input.u256()?,
        },
        11 => R::FeeBelowFloor { got: input.u128()?, floor: input.u128()? },
        12 => R::TipAboveMaxFee { tip: input.u128()?, max_fee: input.u128()? },
        13 => R::GasOverLimit { got: input.u64()?, limit: input.u64()? },
        14 => R::IntrinsicGas { got: input.u64()?, required: input.u64()? },
        15 => R::InitCodeTooLarge { size: input.u64()?, limit: input.u64()? },
        16 => R::SenderIsContract { sender: input.address()? },
        17 => R::Invalid { detail: input.text()? },
        18 => R::AlreadyKnown { hash: input.b256()? },
        19 => R::PoolFull { limit: input.u64()? },
        20 => R::Replaced { by: input.b256()? },
        21 => R::Expired,
        22 => R::Evicted,
        24 => {
            R::TipBelowFloor { got: input.u128()?, floor: input.u128()?, data_fee: input.u128()? }
        }
        23 => R::SourceLimit { limit: input.u64()? },
        other => return Err(CodecError::UnknownReason(other)),
    })
}

fn tagged_text(out: &mut Writer, tag: u8, text: &str) {
    out.u8(tag);
    out.bytes(text.as_bytes());
}

fn tagged_pair(out: &mut Writer, tag: u8, first: u64, second: u64) {
    out.u8(tag);
    out.u64(first);
    out.u64(second);
}

fn tagged_fees(out: &mut Writer, tag: u8, first: u128, second: u128) {
    out.u8(tag);
    out.u128(first);
    out.u128(second);
}

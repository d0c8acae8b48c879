use std::time::Duration;

use alloy::primitives::{Address, B256, U256};
use proptest::prelude::*;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::*;
use crate::{
    service::{
        BlockSelector, ExecutorError, OpenPoint, SequencerError, SimulationCode, SimulationError,
        SubmitError, TraceLimit,
    },
    types::RejectReason,
};

fn hash() -> impl Strategy<Value = B256> {
    any::<[u8; 32]>().prop_map(B256::from)
}

fn address() -> impl Strategy<Value = Address> {
    any::<[u8; 20]>().prop_map(Address::from)
}

fn wei() -> impl Strategy<Value = U256> {
    any::<[u8; 32]>().prop_map(U256::from_be_bytes)
}

fn text() -> impl Strategy<Value = String> {
    "\\PC{0,60}"
}

fn reject() -> impl Strategy<Value = RejectReason> {
    use RejectReason as R;
    let n = any::<u64>;
    let fee = any::<u128>;
    prop_oneof![
        text().prop_map(|detail| R::BadEncoding { detail }),
        (n(), n()).prop_map(|(size, limit)| R::Oversize { size, limit }),
        any::<u8>().prop_map(|ty| R::UnsupportedType { ty }),
        (n(), n()).prop_map(|(got, expected)| R::WrongChainId { got, expected }),
        Just(R::Unprotected),
        text().prop_map(|detail| R::BadSignature { detail }),
        (n(), n()).prop_map(|(got, expected)| R::NonceTooLow { got, expected }),
        (n(), n(), n()).prop_map(|(got, expected, limit)| R::NonceTooFar { got, expected, limit }),
        fee().prop_map(|required| R::Underpriced { required }),
        (address(), wei(), wei()).prop_map(|(sender, balance, cost)| R::InsufficientFunds {
            sender,
            balance,
            cost
        }),
        (fee(), fee()).prop_map(|(got, floor)| R::FeeBelowFloor { got, floor }),
        (fee(), fee(), fee()).prop_map(|(got, floor, data_fee)| R::TipBelowFloor {
            got,
            floor,
            data_fee
        }),
        (fee(), fee()).prop_map(|(tip, max_fee)| R::TipAboveMaxFee { tip, max_fee }),
        (n(), n()).prop_map(|(got, limit)| R::GasOverLimit { got, limit }),
        (n(), n()).prop_map(|(got, required)| R::IntrinsicGas { got, required }),
        (n(), n()).prop_map(|(size, limit)| R::InitCodeTooLarge { size, limit }),
        address().prop_map(|sender| R::SenderIsContract { sender }),
        text().prop_map(|detail| R::Invalid { detail }),
        hash().prop_map(|hash| R::AlreadyKnown { hash }),
        n().prop_map(|limit| R::PoolFull { limit }),
        n().prop_map(|limit| R::SourceLimit { limit }),
        hash().prop_map(|by| R::Replaced { by }),
        Just(R::Expired),
        Just(R::Evicted),
    ]
}

fn transport() -> impl Strategy<Value = TransportError> {
    prop_oneof![
        Just(TransportError::Closed),
        (1..17i32, text()).prop_map(|(code, text)| {
            TransportError::Unreachable(Box::new(Status::new(Code::from_i32(code), text)))
        }),
    ]
}

fn selector() -> impl Strategy<Value = BlockSelector> {
    prop_oneof![
        Just(BlockSelector::Latest),
        any::<u64>().prop_map(BlockSelector::Number),
        hash().prop_map(BlockSelector::Hash),
        (any::<u64>(), hash(), hash()).prop_map(|(number, parent, last)| {
            BlockSelector::Open(OpenPoint { number, parent, last })
        }),
    ]
}

fn executor() -> impl Strategy<Value = ExecutorError> {
    use ExecutorError as E;
    prop_oneof![
        selector().prop_map(E::UnknownBlock),
        any::<(u64, u64)>().prop_map(|(block, oldest)| E::StatePruned { block, oldest }),
        (any::<u64>(), hash(), text()).prop_map(|(head_number, head_hash, problem)| {
            E::NotHead { head_number, head_hash, problem }
        }),
        text().prop_map(E::InvalidRequest),
        (hash(), reject()).prop_map(|(hash, reason)| E::NotIncludable { hash, reason }),
        any::<u64>().prop_map(|limit| E::LimitExceeded { what: "number of logs", limit }),
        any::<u32>().prop_map(|limit| E::TraceLimit(TraceLimit::Gas(limit.into()))),
        any::<u32>().prop_map(|limit| E::TraceLimit(TraceLimit::Bytes(limit.into()))),
        any::<u32>().prop_map(|limit| {
            E::TraceLimit(TraceLimit::Time(Duration::from_millis(limit.into())))
        }),
        (prop::sample::select(SimulationCode::ALL), text())
            .prop_map(|(code, message)| E::Simulation(SimulationError { code, message })),
        Just(()).prop_map(|()| E::BuildDiscarded),
        text().prop_map(|text| E::Store(Box::new(RemoteError(text)))),
        text().prop_map(E::Stopped),
        transport().prop_map(E::Transport),
    ]
}

fn sequencer() -> impl Strategy<Value = SequencerError> {
    use SequencerError as E;
    prop_oneof![
        hash().prop_map(E::UnknownTransaction),
        executor().prop_map(E::Executor),
        text().prop_map(|text| E::OrderLog(Box::new(RemoteError(text)))),
        text().prop_map(E::Unavailable),
        Just(()).prop_map(|()| E::NoStateDiffs),
        transport().prop_map(E::Transport),
    ]
}

/// The errors hold sources that cannot be compared; their debug forms can.
fn same<E: WireError + std::fmt::Debug>(error: &E) {
    assert_eq!(format!("{:?}", E::from_status(error.status())), format!("{error:?}"));
}

/// `docs/wire.md` has a row with this reason, code, and all facts.
fn assert_documented(fault: &Fault) {
    let name = fault.reason.as_ref();
    let reason = format!("`{name}`");
    let row = include_str!("../../../../docs/wire.md")
        .lines()
        .find(|line| line.split('|').nth(1).is_some_and(|cell| cell.contains(&reason)))
        .unwrap_or_else(|| panic!("{name} is not documented"));
    let code = format!("{:?}", fault.code).chars().fold(String::new(), |mut name, c| {
        if c.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(c.to_ascii_uppercase());
        name
    });
    assert!(row.contains(&format!("`{code}`")), "{name} has code {code}");
    // What a passed-on error adds, and the facts of an inner refusal, are described in words.
    if fault.text("service").is_empty() && fault.text("reject_reason").is_empty() {
        for fact in fault.metadata.keys() {
            assert!(row.contains(&format!("`{fact}`")), "{name} has the fact {fact}");
        }
    }
}

proptest! {
    #[test]
    fn refusals_survive_the_wire(reason in reject()) {
        let fault = reject_fault(&reason);
        prop_assert_eq!(reject_from_fault(&fault), Some(reason.clone()));
        let sent = Fault::from_rejection(fault.into_rejection());
        prop_assert_eq!(reject_from_fault(&sent), Some(reason.clone()));
        assert_documented(&reject_fault(&reason));
        same(&SubmitError::Rejected(reason));
    }

    #[test]
    fn executor_errors_survive_the_wire(error in executor()) {
        assert_documented(&error.fault());
        same(&error);
    }

    #[test]
    fn sequencer_errors_survive_the_wire(error in sequencer()) {
        assert_documented(&error.fault());
        same(&error);
        same(&SubmitError::Failed(error));
    }

    #[test]
    fn codes_follow_the_class(error in executor()) {
        use crate::service::ErrorClass;
        let caller = [Code::NotFound, Code::OutOfRange, Code::FailedPrecondition, Code::InvalidArgument];
        let code = error.status().code();
        match error.class() {
            ErrorClass::Retryable => prop_assert_eq!(code, Code::Unavailable),
            ErrorClass::Caller => prop_assert!(caller.contains(&code)),
            ErrorClass::Fatal => prop_assert_eq!(code, Code::Internal),
        }
    }
}

#[test]
fn a_refusal_says_why_and_when_to_try_again() {
    let status = SubmitError::Rejected(RejectReason::PoolFull { limit: 7 }).status();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(
        status.get_details_retry_info().and_then(|info| info.retry_delay),
        Some(Duration::from_millis(250))
    );
    let info = status.get_details_error_info().expect("every error has an ErrorInfo");
    assert_eq!((info.domain.as_str(), info.reason.as_str()), ("millrace.v1", "POOL_FULL"));
    assert_eq!(info.metadata.get("limit").map(String::as_str), Some("7"));
}

#[test]
fn long_texts_are_cut_at_a_character() {
    let detail = "ж".repeat(5000);
    let fault = reject_fault(&RejectReason::BadEncoding { detail });
    assert_eq!(fault.text("detail"), "ж".repeat(512));
    assert!(fault.message.len() <= 1024);
}

#[test]
fn a_status_without_our_details_is_a_transport_error() {
    let status = Status::unavailable("connection refused");
    let error = ExecutorError::from_status(status);
    assert!(matches!(
        error,
        ExecutorError::Transport(TransportError::Unreachable(status)) if status.code() == Code::Unavailable
    ));
}

#[test]
fn a_missing_fact_is_a_transport_error() {
    let mut fault = reject_fault(&RejectReason::NonceTooLow { got: 1, expected: 2 });
    fault.metadata.remove("got");
    let error = SubmitError::from_status(fault.into_status());
    assert!(matches!(error, SubmitError::Failed(SequencerError::Transport(_))));
}

use std::{sync::Arc, time::Duration};

use alloy::{
    consensus::{Header, Sealable, Signed, TxEip1559, TxLegacy},
    eips::BlockNumHash,
    primitives::{Address, B256, Bytes, Log, LogData, Signature, TxKind, U256},
};
use proptest::{collection::vec, option, prelude::*};

use super::{block::*, *};
use crate::{
    grpc::pb,
    service::{
        BlockSelector, CallOutcome, CallStatus, Executed, GasEstimate, OpenPoint, TransportError,
        TxLocation, TxOutcome,
    },
    types::{
        AccountInfo, BlockAttributes, ExecutedBlock, Inclusion, L1Ref, Receipt, RecoveredTx,
        RejectReason, SealedHeader, Stage, TxDeposit, TxEnvelope, TxStatus, TxType,
    },
};

fn b256() -> impl Strategy<Value = B256> {
    any::<[u8; 32]>().prop_map(B256::from)
}

fn addr() -> impl Strategy<Value = Address> {
    any::<[u8; 20]>().prop_map(Address::from)
}

fn wei() -> impl Strategy<Value = U256> {
    prop_oneof![Just(U256::ZERO), any::<u64>().prop_map(U256::from), b256().prop_map(Into::into)]
}

fn data() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..50).prop_map(Bytes::from)
}

fn block_ref() -> impl Strategy<Value = BlockNumHash> {
    (any::<u64>(), b256()).prop_map(|(number, hash)| BlockNumHash::new(number, hash))
}

fn tx() -> impl Strategy<Value = Arc<RecoveredTx>> {
    let signature = Signature::test_signature();
    let envelope = (0..3u8, any::<u64>(), option::of(addr()), wei(), data()).prop_map(
        move |(kind, nonce, to, value, input)| match kind {
            0 => TxEnvelope::Legacy(Signed::new_unhashed(
                TxLegacy { nonce, to: to.into(), value, input, ..TxLegacy::default() },
                signature,
            )),
            1 => TxEnvelope::Eip1559(Signed::new_unhashed(
                TxEip1559 { nonce, to: to.into(), value, input, ..TxEip1559::default() },
                signature,
            )),
            _ => TxEnvelope::from(TxDeposit {
                to: TxKind::Call(to.unwrap_or_default()),
                value,
                input,
                ..TxDeposit::default()
            }),
        },
    );
    (envelope, addr()).prop_map(|(tx, sender)| Arc::new(RecoveredTx::new_unchecked(tx, sender)))
}

fn receipt() -> impl Strategy<Value = Receipt> {
    let log = (addr(), vec(b256(), 0..=4), data()).prop_map(|(address, topics, data)| Log {
        address,
        data: LogData::new_unchecked(topics, data),
    });
    let ty = prop_oneof![
        Just(TxType::Legacy),
        Just(TxType::Eip1559),
        Just(TxType::Eip7702),
        Just(TxType::Deposit)
    ];
    (ty, any::<bool>(), any::<u64>(), vec(log, 0..3)).prop_map(
        |(tx_type, success, cumulative_gas_used, logs)| Receipt {
            tx_type,
            success,
            cumulative_gas_used,
            logs,
        },
    )
}

fn header() -> impl Strategy<Value = Header> {
    (any::<(u64, u64, u64)>(), b256(), option::of(any::<u64>()), vec(any::<u8>(), 0..32)).prop_map(
        |((number, timestamp, gas_limit), parent_hash, base_fee_per_gas, extra)| Header {
            number,
            timestamp,
            gas_limit,
            parent_hash,
            base_fee_per_gas,
            extra_data: extra.into(),
            ..Header::default()
        },
    )
}

fn block() -> impl Strategy<Value = ExecutedBlock> {
    (header(), vec((tx(), receipt()), 0..5)).prop_map(|(header, body)| {
        let (transactions, receipts) = body.into_iter().unzip();
        ExecutedBlock { header: header.seal_slow(), transactions, receipts }
    })
}

fn status() -> impl Strategy<Value = TxStatus> {
    let inclusion = (block_ref(), any::<(u64, u64)>(), receipt(), option::of(addr())).prop_map(
        |(block, (index, gas_used), receipt, contract_address)| Inclusion {
            block,
            index,
            gas_used,
            receipt,
            contract_address,
        },
    );
    let l1 = (b256(), block_ref()).prop_map(|(tx_hash, block)| L1Ref { tx_hash, block });
    let stage = prop_oneof![
        Just(Stage::Accepted),
        Just(Stage::Sequenced),
        Just(Stage::Posted),
        Just(Stage::Committed),
        Just(Stage::Finalized),
        Just(Stage::Dropped)
    ];
    let reason = b256().prop_map(|by| RejectReason::Replaced { by });
    (
        b256(),
        stage,
        option::of((1..u64::MAX).prop_map(Duration::from_millis)),
        option::of(inclusion),
        option::of(1..u64::MAX),
        option::of(l1),
        option::of(reason),
    )
        .prop_map(|(hash, stage, reached_at, inclusion, batch, l1, reason)| TxStatus {
            hash,
            stage,
            reached_at,
            inclusion,
            batch,
            l1,
            reason,
        })
}

proptest! {
    #[test]
    fn blocks_survive_the_wire(block in block()) {
        let message = block_to_pb(Some(&block));
        let parsed: Option<Arc<ExecutedBlock>> = message.try_into()?;
        prop_assert_eq!(parsed.as_deref(), Some(&block));
        let header: Option<_> = pb::SealedHeader::from(&block.header).try_into()?;
        prop_assert_eq!(header, Some(block.header));
    }

    #[test]
    fn statuses_survive_the_wire(status in status()) {
        let parsed = TxStatus::try_from(pb::TransactionStatus::from(status.clone()))?;
        prop_assert_eq!(parsed, status);
    }

    #[test]
    fn outcomes_survive_the_wire(index: u64, gas_used: u64, receipt in receipt(), got: u64) {
        for outcome in [
            TxOutcome::Included { index, gas_used, receipt: receipt.clone().into() },
            TxOutcome::Invalid(RejectReason::NonceTooLow { got, expected: index }),
            TxOutcome::NoRoom,
        ] {
            let executed = Executed { outcomes: vec![outcome], diff: None };
            prop_assert_eq!(executed_from_pb(executed_to_pb(executed.clone())?)?, executed);
        }
    }

    #[test]
    fn attributes_survive_the_wire(parent in header(), who in addr(), root in b256()) {
        let attributes = BlockAttributes {
            number: parent.number,
            parent_hash: parent.parent_hash,
            timestamp: parent.timestamp,
            fee_recipient: who,
            gas_limit: parent.gas_limit,
            prev_randao: root,
            parent_beacon_block_root: root,
            extra_data: parent.extra_data,
        };
        let message = pb::BlockAttributes::from(attributes.clone());
        prop_assert_eq!(BlockAttributes::try_from(message)?, attributes);
    }

    #[test]
    fn answers_survive_the_wire(nonce: u64, balance in wei(), hash in b256(), output in data(), place in block_ref()) {
        let account = Some(AccountInfo { nonce, balance, code_hash: hash });
        prop_assert_eq!(Option::try_from(pb::Account::from(account))?, account);
        prop_assert_eq!(U256::try_from(pb::StorageValue::from(balance))?, balance);
        let location = Some(TxLocation { block: place, index: nonce });
        prop_assert_eq!(Option::try_from(pb::TransactionLocation::from(location))?, location);
        for status in [CallStatus::Success, CallStatus::Reverted, CallStatus::Halted("out of gas".into())] {
            let outcome = CallOutcome { status, output: output.clone(), gas_used: nonce };
            prop_assert_eq!(CallOutcome::try_from(pb::CallResponse::from(outcome.clone()))?, outcome.clone());
            let estimate = GasEstimate::Fails(outcome);
            prop_assert_eq!(GasEstimate::try_from(pb::EstimateGasResponse::from(estimate.clone()))?, estimate);
        }
        let open = OpenPoint { number: nonce, parent: hash, last: hash };
        let selectors = [
            BlockSelector::Latest,
            BlockSelector::Number(nonce),
            BlockSelector::Hash(hash),
            BlockSelector::Open(open),
        ];
        for at in selectors {
            prop_assert_eq!(selector_from_pb(Some(at.into()))?, at);
        }
    }

    /// Whatever the bytes, parsing gives a value or an error.
    #[test]
    fn parsing_is_total(bytes in vec(any::<u8>(), 0..300)) {
        use prost::Message;
        let bytes = bytes.as_slice();
        let _ = pb::ExecutedBlock::decode(bytes).map(Option::<Arc<ExecutedBlock>>::try_from);
        let _ = pb::TransactionStatus::decode(bytes).map(TxStatus::try_from);
        let _ = pb::TransactionOutcomes::decode(bytes).map(executed_from_pb);
        let _ = pb::BlockAttributes::decode(bytes).map(BlockAttributes::try_from);
    }
}

#[test]
fn nothing_is_told_from_something() -> Parsed<()> {
    assert_eq!(Option::<Arc<ExecutedBlock>>::try_from(block_to_pb(None))?, None);
    assert_eq!(Option::<AccountInfo>::try_from(pb::Account::from(None))?, None);
    assert_eq!(Option::<TxLocation>::try_from(pb::TransactionLocation::from(None))?, None);
    Ok(())
}

#[test]
fn the_wrong_field_is_named() {
    let sealed = Header::default().seal_slow();
    let mut message = pb::SealedHeader::from(&sealed);
    message.hash = vec![1; 32].into();
    let error = Option::<SealedHeader>::try_from(message).expect_err("the hash is another's");
    let text = error.to_string();
    assert!(text.contains("SealedHeader.header") && text.contains("hash"), "{text}");

    let attributes = pb::BlockAttributes { parent_hash: vec![1; 31].into(), ..Default::default() };
    let error = BlockAttributes::try_from(attributes).expect_err("31 bytes are no hash");
    assert!(matches!(
        error,
        TransportError::Malformed { field: "BlockAttributes.parent_hash", problem } if problem == "must have 32 bytes, has 31"
    ));
}

#[test]
fn nobody_waits_for_dropped() {
    assert_eq!(Wait::parse(0, Stage::Sequenced).ok(), Some(Wait(Stage::Sequenced)));
    assert_eq!(Wait::parse(5, Stage::Sequenced).ok(), Some(Wait(Stage::Finalized)));
    assert!(Wait::parse(6, Stage::Sequenced).is_err());
    assert!(Wait::parse(7, Stage::Sequenced).is_err());
}

#[test]
fn a_reason_of_a_later_version_is_kept_by_its_text() {
    let reason = reason_from_parts("TOO_BLUE".into(), "it is blue".into(), Default::default());
    assert_eq!(reason, RejectReason::Invalid { detail: "TOO_BLUE: it is blue".into() });
}

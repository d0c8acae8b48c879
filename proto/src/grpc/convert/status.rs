//! Stages, and where a transaction is in its life.

use std::time::Duration;

use alloy::primitives::{Address, Log, LogData};

use crate::{
    grpc::{
        convert::{
            Parsed, address, address_bytes, block::reason_from_parts, block_ref_from_pb,
            block_ref_to_pb, hash, hash_bytes, missing,
        },
        error::reject_fault,
        pb,
    },
    service::TransportError,
    types::{Inclusion, Receipt, Stage, TxStatus, TxType},
};

impl From<Stage> for pb::Stage {
    fn from(stage: Stage) -> Self {
        match stage {
            Stage::Accepted => Self::Accepted,
            Stage::Sequenced => Self::Sequenced,
            Stage::Posted => Self::Posted,
            Stage::Committed => Self::Committed,
            Stage::Finalized => Self::Finalized,
            Stage::Dropped => Self::Dropped,
        }
    }
}

/// `None` for the unspecified one.
fn stage(field: &'static str, value: i32) -> Parsed<Option<Stage>> {
    let stage = pb::Stage::try_from(value)
        .map_err(|_| TransportError::malformed(field, format!("{value} is not a stage")))?;
    Ok(match stage {
        pb::Stage::Unspecified => None,
        pb::Stage::Accepted => Some(Stage::Accepted),
        pb::Stage::Sequenced => Some(Stage::Sequenced),
        pb::Stage::Posted => Some(Stage::Posted),
        pb::Stage::Committed => Some(Stage::Committed),
        pb::Stage::Finalized => Some(Stage::Finalized),
        pb::Stage::Dropped => Some(Stage::Dropped),
    })
}

/// The stage at which a submission is to be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wait(pub(crate) Stage);

impl Wait {
    /// Reads `wait_for`.
    pub(crate) fn parse(value: i32, default: Stage) -> Parsed<Self> {
        match stage("wait_for", value)? {
            Some(Stage::Dropped) => {
                Err(TransportError::malformed("wait_for", "nobody can wait for DROPPED"))
            }
            stage => Ok(Self(stage.unwrap_or(default))),
        }
    }
}

pub(crate) fn wait_to_pb(stage: Stage) -> i32 {
    pb::Stage::from(stage).into()
}

/// A receipt as the public API shows it.
pub(super) fn public_receipt(
    receipt: &Receipt,
    gas_used: u64,
    contract_address: Option<Address>,
) -> pb::Receipt {
    pb::Receipt {
        r#type: u8::from(receipt.tx_type).into(),
        success: receipt.success,
        gas_used,
        cumulative_gas_used: receipt.cumulative_gas_used,
        logs: receipt
            .logs
            .iter()
            .map(|log| pb::Log {
                address: address_bytes(log.address),
                topics: log.topics().iter().copied().map(hash_bytes).collect(),
                data: log.data.data.0.clone(),
            })
            .collect(),
        contract_address: contract_address.map(address_bytes).unwrap_or_default(),
    }
}

pub(super) fn receipt_from_public(message: pb::Receipt) -> Parsed<Receipt> {
    let tx_type =
        u8::try_from(message.r#type).ok().and_then(|ty| TxType::try_from(ty).ok()).ok_or_else(
            || TransportError::malformed("Receipt.type", format!("{} is unknown", message.r#type)),
        )?;
    let logs = message
        .logs
        .into_iter()
        .map(|log| {
            let topics = log
                .topics
                .iter()
                .map(|topic| hash("Log.topics", topic))
                .collect::<Parsed<Vec<_>>>()?;
            let data = LogData::new(topics, log.data.into())
                .ok_or_else(|| TransportError::malformed("Log.topics", "more than 4"))?;
            Ok(Log { address: address("Log.address", &log.address)?, data })
        })
        .collect::<Parsed<Vec<_>>>()?;
    Ok(Receipt {
        tx_type,
        success: message.success,
        cumulative_gas_used: message.cumulative_gas_used,
        logs,
    })
}

impl From<TxStatus> for pb::TransactionStatus {
    fn from(status: TxStatus) -> Self {
        let reached_at_ms =
            status.reached_at.map_or(0, |at| u64::try_from(at.as_millis()).unwrap_or(u64::MAX));
        let mut message = Self {
            hash: hash_bytes(status.hash),
            stage: pb::Stage::from(status.stage).into(),
            reached_at_ms,
            batch: status.batch.unwrap_or(0),
            l1: status.l1.map(Into::into),
            ..Self::default()
        };
        if let Some(inclusion) = &status.inclusion {
            message.block = Some(block_ref_to_pb(inclusion.block));
            message.index = inclusion.index;
            message.receipt = Some(public_receipt(
                &inclusion.receipt,
                inclusion.gas_used,
                inclusion.contract_address,
            ));
        }
        if let Some(reason) = &status.reason {
            let fault = reject_fault(reason);
            message.drop_reason = fault.reason.into_owned();
            message.drop_message = fault.message;
            message.drop_metadata = fault.metadata;
        }
        message
    }
}

impl TryFrom<pb::TransactionStatus> for TxStatus {
    type Error = TransportError;

    fn try_from(message: pb::TransactionStatus) -> Parsed<Self> {
        let inclusion = match message.receipt {
            Some(receipt) => Some(Inclusion {
                block: block_ref_from_pb("TransactionStatus.block", message.block)?,
                index: message.index,
                gas_used: receipt.gas_used,
                contract_address: match receipt.contract_address.is_empty() {
                    true => None,
                    false => Some(address("Receipt.contract_address", &receipt.contract_address)?),
                },
                receipt: receipt_from_public(receipt)?,
            }),
            None => None,
        };
        Ok(Self {
            hash: hash("TransactionStatus.hash", &message.hash)?,
            stage: stage("TransactionStatus.stage", message.stage)?
                .ok_or_else(|| missing("TransactionStatus.stage"))?,
            reached_at: (message.reached_at_ms > 0)
                .then(|| Duration::from_millis(message.reached_at_ms)),
            inclusion,
            batch: (message.batch > 0).then_some(message.batch),
            l1: message.l1.map(TryInto::try_into).transpose()?,
            reason: (!message.drop_reason.is_empty()).then(|| {
                reason_from_parts(message.drop_reason, message.drop_message, message.drop_metadata)
            }),
        })
    }
}

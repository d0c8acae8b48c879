//! What can be said of a transaction without any state: the cheapest checks first, the signature last.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use alloy::{
    consensus::Transaction,
    eips::Decodable2718,
    primitives::{Bytes, TxHash, U256},
};
use millrace_proto::{ChainSpec, DecodeTxError, Hardfork, RecoveredTx, RejectReason, TxEnvelope};

use super::{Checked, Submitted, intrinsic::least_gas_limit};
use crate::{data_fee::DataFees, pool::Asked};

/// EIP-3860: twice the code size limit of EIP-170.
const MAX_INIT_CODE: usize = 49_152;
/// EIP-7825.
const OSAKA_GAS_CAP: u64 = 1 << 24;

/// Tells whether a transaction is known already.
pub(crate) trait Known: fmt::Debug + Send + Sync {
    /// Whether it is in the pool or was in a block lately.
    fn is_known(&self, hash: TxHash) -> bool;

    /// Whether it is in the pool, acknowledged or not.
    fn holds(&self, hash: TxHash) -> bool;

    /// Whether the pool may have room for a transaction; the error is why not. What it holds already needs none.
    fn has_room_for(&self, asked: Asked) -> Result<(), RejectReason>;
}

/// The checks that need no state.
#[derive(Debug)]
pub(crate) struct Checker {
    spec: Arc<ChainSpec>,
    max_bytes: usize,
    min_fee: u64,
    /// Of the next block, wei per gas.
    next_base_fee: AtomicU64,
    /// Of the next block: number and timestamp decide over its hardfork.
    next_number: AtomicU64,
    next_timestamp: AtomicU64,
    known: Arc<dyn Known>,
    data_fees: Arc<DataFees>,
}

impl Checker {
    pub(crate) fn new(
        spec: Arc<ChainSpec>,
        max_bytes: usize,
        min_fee: u64,
        known: Arc<dyn Known>,
        data_fees: Arc<DataFees>,
    ) -> Self {
        Self {
            spec,
            max_bytes,
            min_fee,
            next_base_fee: AtomicU64::new(0),
            next_number: AtomicU64::new(0),
            next_timestamp: AtomicU64::new(0),
            known,
            data_fees,
        }
    }

    /// Says what the next block is like.
    pub(crate) fn set_next_block(&self, number: u64, timestamp: u64, base_fee: u64) {
        self.next_base_fee.store(base_fee, Ordering::Relaxed);
        self.next_number.store(number, Ordering::Relaxed);
        self.next_timestamp.store(timestamp, Ordering::Relaxed);
    }

    /// Whether a transaction is in the pool.
    pub(super) fn holds(&self, hash: TxHash) -> bool {
        self.known.holds(hash)
    }

    /// Decodes transactions, checks them, and recovers their senders, several at a time where the processor can. A result for each, in order.
    ///
    /// `shed`: refuses what the pool has no room for before its sender is recovered, for the sake of others that wait. Replacements, which need no room, and what could be executed at once are refused with it then, unless they offer more than the cheapest that waits in the pool.
    pub(super) fn check(&self, submitted: Vec<Submitted>, shed: bool) -> Checked {
        let (mut txs, mut encoded) = (Vec::new(), Vec::new());
        let mut checked: Vec<_> = submitted
            .into_iter()
            .map(|Submitted { raw, source }| {
                let tx = self.decode_and_check(&raw);
                tx.map(|tx| {
                    txs.push(tx);
                    encoded.push((raw, source));
                })
            })
            .collect();
        let hashed = TxEnvelope::hash_batch(txs);
        let mut new = Vec::with_capacity(hashed.len());
        let going_on = checked.iter_mut().filter(|checked| checked.is_ok());
        for ((tx, (raw, source)), checked) in hashed.into_iter().zip(encoded).zip(going_on) {
            let hash = tx.hash();
            if self.known.is_known(hash) {
                *checked = Err(RejectReason::AlreadyKnown { hash });
                continue;
            }
            let (bytes, max_fee) = (raw.len(), tx.max_fee_per_gas());
            let asked = Asked { hash, bytes, max_fee, source };
            if shed && let Err(reason) = self.known.has_room_for(asked) {
                *checked = Err(reason);
            } else {
                new.push((tx, raw));
            }
        }
        let mut recovered = RecoveredTx::recover_encoded_batch_once(new);
        checked
            .into_iter()
            .filter_map(|checked| match checked {
                Ok(()) => recovered.next().map(|tx| tx.map(Arc::new).map_err(unrecovered)),
                Err(reason) => Some(Err(reason)),
            })
            .collect()
    }

    /// All but whether it is known and who sent it.
    fn decode_and_check(&self, raw: &Bytes) -> Result<TxEnvelope, RejectReason> {
        if raw.len() > self.max_bytes {
            return Err(RejectReason::Oversize {
                size: raw.len() as u64,
                limit: self.max_bytes as u64,
            });
        }
        let fork = self.spec.hardfork(
            self.next_number.load(Ordering::Relaxed),
            self.next_timestamp.load(Ordering::Relaxed),
        );
        let tx = self.decode(raw, fork)?;
        self.check_chain(&tx)?;
        self.check_fees(&tx)?;
        self.check_gas(&tx, fork)?;
        check_fields(&tx)?;
        let base_fee = self.next_base_fee.load(Ordering::Relaxed);
        self.data_fees.check(&tx, raw, base_fee)?;
        Ok(tx)
    }

    fn decode(&self, raw: &[u8], fork: Hardfork) -> Result<TxEnvelope, RejectReason> {
        // A first byte of 0x80 or more starts the RLP list of a legacy transaction (EIP-2718).
        if let Some(ty) = raw.first().copied().filter(|first| *first < 0x80) {
            let since = match ty {
                1 => Hardfork::Berlin,
                2 => Hardfork::London,
                4 => Hardfork::Prague,
                _ => return Err(RejectReason::UnsupportedType { ty }),
            };
            if fork < since {
                return Err(RejectReason::UnsupportedType { ty });
            }
        }
        let mut rest = raw;
        let tx = TxEnvelope::decode_2718(&mut rest)
            .map_err(|error| RejectReason::BadEncoding { detail: error.to_string() })?;
        if rest.is_empty() {
            Ok(tx)
        } else {
            let detail = DecodeTxError::TrailingBytes(rest.len()).to_string();
            Err(RejectReason::BadEncoding { detail })
        }
    }

    fn check_chain(&self, tx: &TxEnvelope) -> Result<(), RejectReason> {
        let expected = self.spec.chain_id();
        match tx.chain_id() {
            None => Err(RejectReason::Unprotected),
            Some(got) if got != expected => Err(RejectReason::WrongChainId { got, expected }),
            Some(_) => Ok(()),
        }
    }

    fn check_fees(&self, tx: &TxEnvelope) -> Result<(), RejectReason> {
        let max_fee = tx.max_fee_per_gas();
        if let Some(tip) = tx.max_priority_fee_per_gas().filter(|tip| *tip > max_fee) {
            return Err(RejectReason::TipAboveMaxFee { tip, max_fee });
        }
        let floor = u128::from(self.min_fee.max(self.next_base_fee.load(Ordering::Relaxed)));
        if max_fee < floor {
            return Err(RejectReason::FeeBelowFloor { got: max_fee, floor });
        }
        Ok(())
    }

    fn check_gas(&self, tx: &TxEnvelope, fork: Hardfork) -> Result<(), RejectReason> {
        let got = tx.gas_limit();
        let mut limit = self.spec.rollup().gas_limit;
        if fork >= Hardfork::Osaka {
            limit = limit.min(OSAKA_GAS_CAP);
        }
        if got > limit {
            return Err(RejectReason::GasOverLimit { got, limit });
        }
        if tx.is_create() && fork >= Hardfork::Shanghai && tx.input().len() > MAX_INIT_CODE {
            return Err(RejectReason::InitCodeTooLarge {
                size: tx.input().len() as u64,
                limit: MAX_INIT_CODE as u64,
            });
        }
        let required = least_gas_limit(tx, fork);
        if got < required {
            return Err(RejectReason::IntrinsicGas { got, required });
        }
        Ok(())
    }
}

fn unrecovered(error: DecodeTxError) -> RejectReason {
    match error {
        DecodeTxError::Signature(error) => RejectReason::BadSignature { detail: error.to_string() },
        other => RejectReason::BadEncoding { detail: other.to_string() },
    }
}

fn check_fields(tx: &TxEnvelope) -> Result<(), RejectReason> {
    let invalid = |detail: &str| Err(RejectReason::Invalid { detail: detail.to_owned() });
    if tx.nonce() == u64::MAX {
        return invalid("the nonce is over the limit of EIP-2681");
    }
    if tx.authorization_list().is_some_and(<[_]>::is_empty) {
        return invalid("the authorization list is empty (EIP-7702)");
    }
    Ok(())
}

/// The most that a transaction can take from its sender: gas limit times maximum fee, plus value.
pub(crate) fn most_cost(tx: &TxEnvelope) -> U256 {
    U256::from(tx.gas_limit())
        .saturating_mul(U256::from(tx.max_fee_per_gas()))
        .saturating_add(tx.value())
}

//! One look at a journaled transaction, and what follows from it.

use std::time::Instant;

use alloy::{
    eips::{BlockNumHash, eip4844::Blob},
    primitives::{Bytes, TxKind, U256, hex},
    rpc::types::TransactionReceipt,
};
use millrace_proto::L1Ref;
use tracing::{debug, info, warn};

use super::{
    ConfirmedTx, JournalError, TxManagerError,
    fees::{Fees, Market},
    journal::{CANCEL, Inclusion, Journal, RECORD_VERSION, Record},
    manager::{GAS_PER_BLOB, Inner, gwei, today, total_cost},
    signed::{self, Unsigned},
};
use crate::L1Error;

/// Looks at L1, one poll apart, that have to agree that the nonce is used by a transaction that is not ours.
const NONCE_TAKEN_LOOKS: u32 = 3;

/// Final transactions are pruned by L1's finalized block, or by this depth where the node knows none.
const PRUNE_DEPTH: u64 = 256;

/// Gas of a transaction that does nothing.
const CANCEL_GAS: u64 = 21_000;

/// What a node made of a version that it was handed.
enum Answer {
    /// It has it, now or since before.
    Taken,
    /// The nonce is used: the next look tells by whom.
    NonceUsed,
    /// It has another version with fees that this one does not exceed by enough, or wants higher fees for any.
    Underpriced,
    /// It has one with blobs of the account, and takes none without until that is gone; or the other way around.
    Reserved,
    /// It does not have those with lower nonces.
    Gap,
    /// The account cannot pay.
    Unaffordable,
    /// It will not have it, whatever the fees.
    Refused(String),
}

/// Where a transaction is.
enum Look {
    Included(Inclusion),
    /// In no block; the nonce is free.
    Pending,
    /// In no block; the nonce is used.
    Displaced,
}

/// What is remembered of a transaction in flight from look to look.
#[derive(Debug)]
pub(super) struct Flight {
    started: Instant,
    last_sent: Option<Instant>,
    /// Looks in a row that found the nonce used by another transaction.
    displaced: u32,
    /// Since when, and how often in a row, nodes have taken none of its kind from the account.
    reserved: Option<(Instant, u32)>,
    /// Whether a node has taken its newest version.
    pub(super) in_pool: bool,
}

impl Flight {
    pub(super) fn new() -> Self {
        Self {
            started: Instant::now(),
            last_sent: None,
            displaced: 0,
            reserved: None,
            in_pool: false,
        }
    }
}

/// What is around a transaction in flight.
#[derive(Debug, Clone, Copy)]
pub(super) struct Around {
    /// The account's next nonce in L1.
    pub(super) next: u64,
    /// Whether there are others with lower nonces.
    pub(super) is_behind: bool,
    /// Whether one of those is not in the pool: nothing is handed in before it, as pools keep what comes too early, and then take no other kind.
    pub(super) is_held: bool,
}

impl Inner {
    /// One look at L1 and what follows from it.
    pub(super) async fn step(
        &self,
        record: &mut Record,
        flight: &mut Flight,
        around: Around,
    ) -> Result<Option<ConfirmedTx>, TxManagerError> {
        match self.look(record, around.next).await? {
            Look::Included(inclusion) => {
                flight.displaced = 0;
                if record.inclusion != Some(inclusion) {
                    debug!(target: "millrace::l1", id = record.id, hash = %inclusion.hash, block = inclusion.block_number, "included");
                    record.inclusion = Some(inclusion);
                    record.accepted = true;
                    self.save(record).await?;
                    let fee = inclusion.fee_paid;
                    self.journal(move |journal| journal.spend(today(), fee)).await?;
                }
                if self.config.confirmations > 1 {
                    let head = self.client.head().await?.number;
                    if head + 1 < inclusion.block_number + self.config.confirmations {
                        return Ok(None);
                    }
                }
                self.finish(record, inclusion, flight.started).await.map(Some)
            }
            Look::Pending => {
                flight.displaced = 0;
                if let Some(was) = record.inclusion.take() {
                    warn!(target: "millrace::l1", id = record.id, block = was.block_number, "a reorg took the transaction; sending it again");
                    self.metrics.reorged();
                    self.save(record).await?;
                    flight.last_sent = None;
                    flight.in_pool = false;
                }
                if around.is_held {
                    flight.in_pool = false;
                    return Ok(None);
                }
                self.push(record, flight, around).await?;
                Ok(None)
            }
            Look::Displaced => {
                flight.displaced += 1;
                if flight.displaced < NONCE_TAKEN_LOOKS {
                    return Ok(None);
                }
                let gone = record.clone();
                self.journal(move |journal| journal.remove(&gone)).await?;
                Err(TxManagerError::NonceTaken { id: record.id.clone(), nonce: record.nonce })
            }
        }
    }

    /// `next` has to be from before: a nonce that was used then has its receipt by the time that this is asked for.
    async fn look(&self, record: &Record, next: u64) -> Result<Look, TxManagerError> {
        if next <= record.nonce {
            return Ok(Look::Pending);
        }
        for attempt in record.attempts.iter().rev() {
            if let Some(receipt) = self.client.receipt(attempt.hash).await? {
                return Ok(Look::Included(inclusion(&receipt)?));
            }
        }
        Ok(Look::Displaced)
    }

    /// Sees to it that nodes have the transaction, at a price that gets it included.
    async fn push(
        &self,
        record: &mut Record,
        flight: &mut Flight,
        around: Around,
    ) -> Result<(), TxManagerError> {
        match flight.last_sent {
            Some(at) if at.elapsed() < self.config.resubmit_after => return Ok(()),
            Some(_) => {
                if self.raise(record, around.next).await? {
                    flight.in_pool = false;
                    self.metrics.resubmitted();
                } else {
                    self.metrics.rebroadcast();
                }
            }
            None if record.accepted => self.metrics.rebroadcast(),
            None => {}
        }
        loop {
            let answer = self.broadcast(record).await?;
            if !matches!(answer, Answer::Reserved) {
                flight.reserved = None;
            }
            match answer {
                Answer::Taken => {
                    flight.in_pool = true;
                    flight.last_sent = Some(Instant::now());
                    if !record.accepted {
                        record.accepted = true;
                        self.save(record).await?;
                    }
                    return Ok(());
                }
                // The next look tells by whom.
                Answer::NonceUsed => break,
                Answer::Underpriced => {
                    if !self.raise(record, around.next).await? {
                        break;
                    }
                    self.metrics.resubmitted();
                }
                Answer::Unaffordable => {
                    flight.last_sent = Some(Instant::now());
                    let others_cost = self.others_cost(record, around.next).await?;
                    let balance = self.client.balance(self.signer.address()).await?;
                    let (balance, needed) = (balance.saturating_sub(others_cost), cost(record)?);
                    if balance >= needed {
                        // The node has moved on since: it will be asked again.
                        return Ok(());
                    }
                    return Err(TxManagerError::InsufficientBalance {
                        id: record.id.clone(),
                        balance,
                        needed,
                    });
                }
                // Those before it, or what the pool has of it already, go first; it is handed in again at the next look.
                Answer::Gap => {
                    flight.last_sent = None;
                    return Ok(());
                }
                Answer::Reserved => {
                    flight.last_sent = None;
                    let (since, looks) = flight.reserved.unwrap_or((Instant::now(), 0));
                    flight.reserved = Some((since, looks + 1));
                    // One answer says little: the node may not have seen the last block yet.
                    let is_lasting = looks + 1 >= NONCE_TAKEN_LOOKS
                        && since.elapsed() >= self.config.resubmit_after;
                    if around.is_behind || record.accepted || record.is_cancel() || !is_lasting {
                        return Ok(());
                    }
                    self.cancel(record, record.blobs == 0).await?;
                    *flight = Flight::new();
                    let (id, nonce) = (record.id.clone(), record.nonce);
                    return Err(TxManagerError::Blocked { id, nonce });
                }
                Answer::Refused(message) => {
                    flight.last_sent = Some(Instant::now());
                    if record.is_cancel() {
                        // Whatever it is that the node does not like, one of the other kind may do. (After a while.)
                        warn!(target: "millrace::l1", id = record.id, message, "a transaction that does nothing is refused");
                        if !record.accepted {
                            self.cancel(record, record.blobs == 0).await?;
                        }
                        return Ok(());
                    }
                    if !record.accepted {
                        let gone = record.clone();
                        let removed =
                            self.journal(move |journal| journal.remove_last(&gone)).await?;
                        if !removed {
                            // Its nonce has to be used, or those behind it never get in.
                            self.cancel(record, record.blobs > 0).await?;
                            flight.last_sent = None;
                        }
                    }
                    return Err(TxManagerError::Refused { id: record.id.clone(), message });
                }
            }
        }
        flight.last_sent = Some(Instant::now());
        Ok(())
    }

    /// What the account's other transactions in flight may cost together, wei.
    async fn others_cost(&self, record: &Record, next: u64) -> Result<U256, TxManagerError> {
        let mut open = self.open_records(next).await?;
        open.retain(|other| other.nonce != record.nonce);
        total_cost(&open)
    }

    /// Hands the newest version to the node.
    async fn broadcast(&self, record: &Record) -> Result<Answer, TxManagerError> {
        let (attempt, nonce) = (newest(record)?.clone(), record.nonce);
        let raw = self
            .journal(move |journal| {
                let sidecar = journal.sidecar(nonce)?;
                signed::network_form(&attempt, sidecar.as_deref())
                    .map_err(|problem| corrupt(nonce, problem))
            })
            .await?;
        match self.client.send_raw_transaction(&raw).await {
            Ok(hash) => {
                debug!(target: "millrace::l1", id = record.id, nonce, %hash, version = record.attempts.len(), "sent");
                Ok(Answer::Taken)
            }
            Err(error) => classify(error).map_err(Into::into),
        }
    }

    /// Replaces a transaction that no node took by one that does nothing but use its nonce, with a blob or without.
    async fn cancel(&self, record: &Record, with_blob: bool) -> Result<(), TxManagerError> {
        let nonce = record.nonce;
        let (blob_hashes, sidecar) = match with_blob {
            true => {
                let blobs = vec![Blob::default()];
                let made = self.sidecar(&record.id, blobs).await?;
                (made.0, Some(made.1))
            }
            false => (Vec::new(), None),
        };
        let blobs = blob_hashes.len();
        let unsigned = Unsigned {
            chain_id: self.chain_id,
            nonce,
            gas_limit: CANCEL_GAS,
            to: TxKind::Call(self.signer.address()),
            value: U256::ZERO,
            input: Bytes::new(),
            blob_hashes,
        };
        let market = Market::read(&self.client, blobs > 0).await?;
        let fees = Fees::first(&market, blobs > 0, &self.config);
        let attempt = unsigned.sign(fees, &self.signer).await?;
        let cancel = Record {
            version: RECORD_VERSION,
            id: format!("{CANCEL}{nonce}-{}", hex::encode(&attempt.hash[..4])),
            nonce,
            intent: attempt.hash,
            gas_limit: CANCEL_GAS,
            blobs,
            attempts: vec![attempt],
            accepted: false,
            inclusion: None,
        };
        warn!(target: "millrace::l1", id = record.id, nonce, cancel = cancel.id, with_blob, "using up a nonce with a transaction that does nothing");
        self.metrics.cancelled();
        let gone = record.clone();
        self.journal(move |journal| journal.replace(&gone, &cancel, sidecar.as_deref())).await
    }

    /// Signs and journals a version with higher fees. `false` if a cap or the balance forbids it.
    async fn raise(&self, record: &mut Record, next: u64) -> Result<bool, TxManagerError> {
        let _budget = self.budget.lock().await;
        let others_cost = self.others_cost(record, next).await?;
        let market = Market::read(&self.client, record.blobs > 0).await?;
        let newest = newest(record)?;
        let Some(fees) = newest.fees.replacement(&market, &self.config) else {
            self.metrics.capped();
            warn!(target: "millrace::l1", id = record.id, fees = ?newest.fees, "stuck, and its fees are at their cap, or at fee_limit_multiplier times what L1 asks");
            return Ok(false);
        };
        let unsigned = Unsigned::of(newest).map_err(|problem| corrupt(record.nonce, problem))?;
        let blob_gas = GAS_PER_BLOB * record.blobs as u64;
        let cost = |fees: &Fees| fees.cost(record.gas_limit, blob_gas, unsigned.value);
        let balance = self.client.balance(self.signer.address()).await?.saturating_sub(others_cost);
        let fees = match fees.or_last(&self.config) {
            last if cost(&last) <= balance => last,
            _ => fees,
        };
        let needed = cost(&fees);
        if balance < needed {
            self.metrics.capped();
            warn!(target: "millrace::l1", id = record.id, %balance, %needed, "stuck, and the balance does not allow higher fees");
            return Ok(false);
        }
        record.attempts.push(unsigned.sign(fees, &self.signer).await?);
        self.save(record).await?;
        info!(target: "millrace::l1", id = record.id, version = record.attempts.len(), ?fees, "replaced with higher fees");
        Ok(true)
    }

    async fn finish(
        &self,
        record: &Record,
        inclusion: Inclusion,
        started: Instant,
    ) -> Result<ConfirmedTx, TxManagerError> {
        let l1 = L1Ref {
            tx_hash: inclusion.hash,
            block: BlockNumHash { number: inclusion.block_number, hash: inclusion.block_hash },
        };
        self.metrics.confirmed(inclusion.success, started.elapsed(), gwei(inclusion.fee_paid));
        let head = self.client.head().await?.number;
        let finalized = self.client.finalized().await?.map_or(0, |block| block.number);
        let prunable = finalized.max(head.saturating_sub(PRUNE_DEPTH));
        self.journal(move |journal: &Journal| journal.prune(prunable)).await?;

        if !inclusion.success {
            let settled = record.clone();
            self.journal(move |journal| journal.free_id(&settled)).await?;
            let unsigned =
                Unsigned::of(newest(record)?).map_err(|problem| corrupt(record.nonce, problem))?;
            let before = inclusion.block_number.saturating_sub(1);
            let reason = self.revert_reason(&unsigned, before).await;
            let (id, fee_paid) = (record.id.clone(), inclusion.fee_paid);
            return Err(TxManagerError::Reverted { id, l1, reason, fee_paid });
        }
        info!(target: "millrace::l1", id = record.id, nonce = record.nonce, hash = %l1.tx_hash, block = l1.block.number, fee = %inclusion.fee_paid, "confirmed");
        Ok(ConfirmedTx {
            l1,
            fee_paid: inclusion.fee_paid,
            gas_used: inclusion.gas_used,
            blob_gas_used: inclusion.blob_gas_used,
            nonce: record.nonce,
            attempts: u32::try_from(record.attempts.len()).unwrap_or(u32::MAX),
        })
    }

    async fn save(&self, record: &Record) -> Result<(), TxManagerError> {
        let record = record.clone();
        self.journal(move |journal| journal.update(&record)).await
    }
}

/// The most that the newest version of a transaction may cost, wei.
pub(super) fn cost(record: &Record) -> Result<U256, JournalError> {
    let newest = newest(record)?;
    let unsigned = Unsigned::of(newest).map_err(|problem| corrupt(record.nonce, problem))?;
    Ok(newest.fees.cost(record.gas_limit, GAS_PER_BLOB * record.blobs as u64, unsigned.value))
}

fn newest(record: &Record) -> Result<&super::journal::Attempt, JournalError> {
    record.attempts.last().ok_or_else(|| corrupt(record.nonce, "no signed version".to_owned()))
}

fn corrupt(nonce: u64, problem: String) -> JournalError {
    JournalError::Corrupt { entry: format!("transaction with nonce {nonce}"), problem }
}

fn inclusion(receipt: &TransactionReceipt) -> Result<Inclusion, L1Error> {
    let missing = |field: &str| L1Error::BadAnswer {
        method: "eth_getTransactionReceipt",
        problem: format!("a receipt without {field}"),
    };
    let gas = U256::from(receipt.gas_used) * U256::from(receipt.effective_gas_price);
    let blob_gas_used = receipt.blob_gas_used.unwrap_or_default();
    let blobs = U256::from(blob_gas_used) * U256::from(receipt.blob_gas_price.unwrap_or_default());
    Ok(Inclusion {
        hash: receipt.transaction_hash,
        block_number: receipt.block_number.ok_or_else(|| missing("blockNumber"))?,
        block_hash: receipt.block_hash.ok_or_else(|| missing("blockHash"))?,
        success: receipt.status(),
        fee_paid: gas + blobs,
        gas_used: receipt.gas_used,
        blob_gas_used,
    })
}

/// What nodes say of a transaction that they have already.
const KNOWN: [&str; 5] =
    ["already known", "known transaction", "already imported", "already in", "alreadyknown"];

/// Whether a node refuses a transaction because it has it.
pub(super) fn is_known(error: &L1Error) -> bool {
    error.response().is_some_and(|(_, message)| {
        let words = message.to_ascii_lowercase();
        KNOWN.iter().any(|phrase| words.contains(phrase))
    })
}

/// Whether a node says that the account cannot pay.
pub(super) fn is_unaffordable(error: &L1Error) -> bool {
    error.response().is_some_and(|(_, message)| cannot_pay(&message.to_ascii_lowercase()))
}

fn cannot_pay(words: &str) -> bool {
    ["insufficient funds", "insufficientfunds", "insufficient balance", "overshot"]
        .iter()
        .any(|phrase| words.contains(phrase))
}

/// Reads a refusal. The words are those of geth, reth, nethermind, besu, erigon and anvil; there are no codes for them.
fn classify(error: L1Error) -> Result<Answer, L1Error> {
    let Some((_, message)) = error.response() else { return Err(error) };
    if error.is_retryable() {
        return Err(error);
    }
    if is_known(&error) {
        return Ok(Answer::Taken);
    }
    let words = message.to_ascii_lowercase();
    let says = |any: &[&str]| any.iter().any(|phrase| words.contains(phrase));
    // geth, nethermind, reth, erigon.
    if says(&[
        "already reserved",
        "conflictingtype",
        "conflicts with existing transaction",
        "can't replace blob",
    ]) {
        return Ok(Answer::Reserved);
    }
    if says(&["nonce too high", "nonce gap", "gapped", "noncegap", "in-flight transaction limit"]) {
        return Ok(Answer::Gap);
    }
    if says(&["nonce too low", "oldnonce", "nonce is too low"]) {
        return Ok(Answer::NonceUsed);
    }
    if says(&[
        "underpriced",
        "fee too low",
        "feetoolow",
        "less than block base fee",
        "below base fee",
        "replacement",
    ]) {
        return Ok(Answer::Underpriced);
    }
    if cannot_pay(&words) {
        return Ok(Answer::Unaffordable);
    }
    // Full or busy pools come and go.
    if says(&["txpool is full", "pool is full", "limit exceeded", "timeout", "try again"]) {
        return Err(L1Error::Inconsistent(format!(
            "the node does not take transactions now: {message}"
        )));
    }
    Ok(Answer::Refused(message.to_owned()))
}

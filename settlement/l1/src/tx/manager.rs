//! The handle: one account, one journal.

use std::{fmt, path::Path, sync::Arc, time::SystemTime};

use alloy::{
    eips::{BlockNumberOrTag, eip4844::Blob},
    network::TransactionBuilder,
    primitives::{Address, B256, Bytes, TxKind, U64, U256},
    rpc::types::TransactionRequest,
};
use tokio::sync::Mutex;
use tracing::debug;

use super::{
    ConfirmedTx, TxManagerConfig, TxManagerError, TxRequest,
    crew::Crew,
    drive::{cost, is_unaffordable},
    fees::{Fees, Market},
    journal::{DAY, Identity, Journal, RECORD_VERSION, Record},
    signed::{self, Unsigned},
};
use crate::{L1Client, L1Error, L1Signer, blocking, metrics::TxMetrics, revert::RevertReason};

/// Gas of one blob (EIP-4844).
pub(super) const GAS_PER_BLOB: u64 = 131_072;
/// Gas that no transaction goes without (the yellow paper's G_transaction).
const LEAST_GAS: u64 = 21_000;

/// Sends transactions of one account, each of them once. Clones share everything.
///
/// Several may be in flight (see [`Self::send`]); whoever waits for one looks after all. What was
/// journaled before a restart is continued by the next [`Self::send`], whatever its id.
/// No other software may send from the account.
#[derive(Clone)]
pub struct TxManager {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) config: TxManagerConfig,
    pub(super) client: L1Client,
    pub(super) signer: L1Signer,
    pub(super) chain_id: u64,
    pub(super) metrics: TxMetrics,
    service: &'static str,
    /// Locked for the whole of a journal operation, also when the caller has gone meanwhile.
    journal: Arc<Mutex<Journal>>,
    /// Held while a transaction gets its nonce.
    admission: Mutex<()>,
    /// Held while an offer is made: what is in flight must not be dearer than the account together.
    pub(super) budget: Mutex<()>,
    pub(super) crew: Crew,
}

impl fmt::Debug for TxManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TxManager")
            .field("service", &self.inner.service)
            .field("account", &self.address())
            .field("chain_id", &self.inner.chain_id)
            .finish_non_exhaustive()
    }
}

impl TxManager {
    /// Opens the journal in a folder of its own and binds it to the account and the L1. `service` labels the metrics.
    ///
    /// # Errors
    /// If the folder's journal belongs to another account or L1, or is open elsewhere; if L1 does not answer.
    pub async fn open(
        config: TxManagerConfig,
        client: L1Client,
        signer: impl Into<L1Signer>,
        dir: impl AsRef<Path>,
        service: &'static str,
    ) -> Result<Self, TxManagerError> {
        config.validate()?;
        let signer = signer.into();
        let genesis =
            client.block(0).await?.ok_or_else(|| L1Error::BlockMissing("0".to_owned()))?;
        let chain_id = client.chain_id().await?;
        let identity = Identity { account: signer.address(), chain_id, genesis: genesis.hash };
        let dir = dir.as_ref().to_owned();
        let journal = blocking(move || Journal::open(&dir, &identity)).await?;
        let manager = Self {
            inner: Arc::new(Inner {
                config,
                client,
                signer,
                chain_id,
                metrics: TxMetrics::new(service),
                service,
                journal: Arc::new(Mutex::new(journal)),
                admission: Mutex::new(()),
                budget: Mutex::new(()),
                crew: Crew::default(),
            }),
        };
        manager.inner.update_gauges().await?;
        Ok(manager)
    }

    /// Who signs.
    pub fn signer(&self) -> &L1Signer {
        &self.inner.signer
    }

    /// The sending account.
    pub fn address(&self) -> Address {
        self.inner.signer.address()
    }

    /// The L1 node that it sends through.
    pub fn client(&self) -> &L1Client {
        &self.inner.client
    }

    /// Ids of the transactions that were signed and are in no block yet, as last seen, by nonce.
    pub async fn in_flight(&self) -> Result<Vec<String>, TxManagerError> {
        let records = self.inner.journal(Journal::records).await?;
        Ok(records
            .into_iter()
            .filter(|record| record.inclusion.is_none())
            .map(|record| record.id)
            .collect())
    }

    /// Gives a transaction its nonce, signs it and writes it down, so that whatever is begun after it comes behind it. [`Self::send`] with the same request
    /// brings it to L1.
    ///
    /// # Errors
    /// As [`Self::send`], before anything is sent.
    pub async fn begin(&self, request: TxRequest) -> Result<(), TxManagerError> {
        let request = Arc::new(request);
        let intent = self.inner.intent(&request).await;
        self.inner.admit(&request, intent).await
    }

    /// Sends a transaction and drives it until L1 has confirmed it: replaces it when it is stuck, sends it again when a
    /// reorg takes it.
    ///
    /// A request with a gas limit of its own joins those that are in flight, with the nonce after theirs; its call is not tried before it is paid for then, as
    /// it may rest on them. Any other waits until they are confirmed.
    ///
    /// Idempotent by [`TxRequest::id`], also across restarts and dropped futures: from the moment at which a version is
    /// journaled, the same id leads to that transaction and to no other, and an L1 that does not answer is waited for.
    ///
    /// # Errors
    /// See [`TxManagerError`] for what each one leaves behind.
    pub async fn send(&self, request: TxRequest) -> Result<ConfirmedTx, TxManagerError> {
        let result = self.inner.send(request).await;
        if let Err(error) = self.inner.update_gauges().await {
            debug!(target: "millrace::l1", %error, "cannot read the balance");
        }
        result
    }
}

impl Inner {
    async fn send(&self, request: TxRequest) -> Result<ConfirmedTx, TxManagerError> {
        let request = Arc::new(request);
        let intent = self.intent(&request).await;
        loop {
            let outcome = self.crew.wait_for(&request.id);
            self.admit(&request, intent).await?;
            // Or else it is gone without a word for this caller, who begins again.
            if let Some(outcome) = self.watch(&request.id, outcome).await? {
                return outcome;
            }
        }
    }

    async fn intent(&self, request: &Arc<TxRequest>) -> B256 {
        let request = Arc::clone(request);
        blocking(move || request.digest()).await
    }

    /// Makes sure that the journal has the transaction.
    async fn admit(&self, request: &TxRequest, intent: B256) -> Result<(), TxManagerError> {
        let _turn = self.admission.lock().await;
        let id = request.id.clone();
        match self.journal(move |journal| journal.by_id(&id)).await? {
            Some(record) if record.intent != intent => {
                return Err(TxManagerError::IdInUse { id: request.id.clone() });
            }
            Some(record) => {
                debug!(target: "millrace::l1", id = record.id, nonce = record.nonce, "continuing a transaction");
            }
            None => {
                if request.gas_limit.is_none() {
                    self.settle().await?;
                }
                self.prepare(request, intent).await?;
                self.crew.look_now();
            }
        }
        Ok(())
    }

    /// Estimates, signs and journals a new transaction.
    async fn prepare(&self, request: &TxRequest, intent: B256) -> Result<(), TxManagerError> {
        let (id, blobs) = (request.id.clone(), request.blobs.len());
        let (blob_hashes, sidecar) = if blobs > 0 {
            let (hashes, sidecar) = self.sidecar(&id, request.blobs.clone()).await?;
            (hashes, Some(sidecar))
        } else {
            (Vec::new(), None)
        };
        let _budget = self.budget.lock().await;
        let next = self.client.nonce(self.signer.address()).await?;
        let open: Vec<_> = self.open_records(next).await?;

        let mut unsigned = Unsigned {
            chain_id: self.chain_id,
            // What else of the account may be pending there is replaced, or this transaction is reported as displaced.
            nonce: open.last().map_or(next, |last| next.max(last.nonce + 1)),
            gas_limit: 0,
            to: TxKind::Call(request.to),
            value: request.value,
            input: request.input.clone(),
            blob_hashes,
        };
        let market = Market::read(&self.client, blobs > 0).await?;
        let first = Fees::first(&market, blobs > 0, &self.config);
        let blob_gas = GAS_PER_BLOB * blobs as u64;
        let balance = self.client.balance(self.signer.address()).await?;
        let left = balance.saturating_sub(total_cost(&open)?);
        unsigned.gas_limit = match request.gas_limit {
            Some(gas_limit) if !open.is_empty() => gas_limit,
            gas_limit => match self.estimate(&id, &unsigned).await {
                Ok(estimate) => gas_limit
                    .unwrap_or_else(|| estimate.saturating_mul(self.config.gas_percent) / 100),
                // Some nodes estimate nothing for an account that cannot pay: then it needs this at the least.
                Err(TxManagerError::L1(error)) if is_unaffordable(&error) => {
                    let needed =
                        first.cost(gas_limit.unwrap_or(LEAST_GAS), blob_gas, request.value);
                    return Err(TxManagerError::InsufficientBalance { id, balance: left, needed });
                }
                Err(error) => return Err(error),
            },
        };
        let cost = |fees: &Fees| fees.cost(unsigned.gas_limit, blob_gas, request.value);
        let fees = match first.or_last(&self.config) {
            last if cost(&last) <= left => last,
            _ => first,
        };
        let needed = cost(&fees);
        if left < needed {
            return Err(TxManagerError::InsufficientBalance { id, balance: left, needed });
        }

        let attempt = unsigned.sign(fees, &self.signer).await?;
        let nonce = unsigned.nonce;
        let record = Record {
            version: RECORD_VERSION,
            id: id.clone(),
            nonce,
            intent,
            gas_limit: unsigned.gas_limit,
            blobs,
            attempts: vec![attempt],
            accepted: false,
            inclusion: None,
        };
        let inserted =
            self.journal(move |journal| journal.insert(&record, sidecar.as_deref(), next)).await?;
        if inserted {
            self.metrics.pending(open.len() + 1);
            Ok(())
        } else {
            // A reorg or a lagging node took the nonce back below one that the journal knows as used; or what it was to follow is gone meanwhile.
            let problem = format!("nonce {nonce} is in the journal already, or does not follow it");
            Err(L1Error::Inconsistent(problem).into())
        }
    }

    /// Versioned hashes of blobs, and what travels with them.
    pub(super) async fn sidecar(
        &self,
        id: &str,
        blobs: Vec<Blob>,
    ) -> Result<(Vec<B256>, Vec<u8>), TxManagerError> {
        let proofs = self.config.blob_proofs;
        let made = blocking(move || signed::make_sidecar(blobs, proofs)).await;
        made.map_err(|problem| TxManagerError::Blobs { id: id.to_owned(), problem })
    }

    /// The gas that the call needs at the latest block.
    async fn estimate(&self, id: &str, unsigned: &Unsigned) -> Result<u64, TxManagerError> {
        let request = self.simulation(unsigned);
        match self.client.request::<_, U64>("eth_estimateGas", (request,)).await {
            Ok(gas) => Ok(gas.to()),
            Err(error) => Err(match error.revert_data() {
                Some(data) => TxManagerError::WouldRevert {
                    id: id.to_owned(),
                    reason: RevertReason::new(data),
                },
                None => error.into(),
            }),
        }
    }

    /// Why a call reverts after a block, if it does and the node can tell.
    pub(super) async fn revert_reason(
        &self,
        unsigned: &Unsigned,
        block: u64,
    ) -> Option<RevertReason> {
        let params = (self.simulation(unsigned), BlockNumberOrTag::Number(block));
        let error = self.client.request::<_, Bytes>("eth_call", params).await.err()?;
        error.revert_data().map(RevertReason::new)
    }

    fn simulation(&self, unsigned: &Unsigned) -> TransactionRequest {
        let mut request = TransactionRequest::default()
            .from(self.signer.address())
            .value(unsigned.value)
            .input(unsigned.input.clone().into());
        request.set_kind(unsigned.to);
        if !unsigned.blob_hashes.is_empty() {
            request.blob_versioned_hashes = Some(unsigned.blob_hashes.clone());
            request.transaction_type = Some(3);
        }
        request
    }

    /// Runs a journal operation to its end, off the async threads.
    pub(super) async fn journal<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&Journal) -> Result<T, super::JournalError> + Send + 'static,
    ) -> Result<T, TxManagerError> {
        let journal = Arc::clone(&self.journal).lock_owned().await;
        Ok(blocking(move || operation(&journal)).await?)
    }

    async fn update_gauges(&self) -> Result<(), TxManagerError> {
        let records = self.journal(Journal::records).await?;
        self.metrics.pending(records.iter().filter(|record| record.inclusion.is_none()).count());
        let balance = self.client.balance(self.signer.address()).await?;
        self.metrics.balance(f64::from(balance) / 1e18);
        if let Some(a_day) = self.journal(|journal| journal.spent_a_day(now())).await? {
            self.metrics.days_left(f64::from(balance) / f64::from(a_day));
        }
        Ok(())
    }
}

/// Seconds since the Unix epoch.
fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Days since the Unix epoch.
pub(super) fn today() -> u64 {
    now() / DAY
}

/// What transactions in flight may cost together, wei.
pub(super) fn total_cost(records: &[Record]) -> Result<U256, TxManagerError> {
    let costs = records.iter().map(cost).collect::<Result<Vec<_>, _>>()?;
    Ok(costs.into_iter().fold(U256::ZERO, U256::saturating_add))
}

/// Wei in whole gwei, for counters.
pub(super) fn gwei(wei: U256) -> u64 {
    (wei / U256::from(1_000_000_000u64)).saturating_to()
}

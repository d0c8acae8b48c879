//! The dev L1's pool: what waits for the next block, with blob sidecars.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use alloy::{
    consensus::{Transaction, transaction::PooledTransaction},
    eips::{
        BlockNumHash, Decodable2718,
        eip4844::{Blob, env_settings::EnvKzgSettings},
    },
    primitives::{Address, B256, Bytes, TxHash, U256},
};
use async_trait::async_trait;
use millrace_proto::{
    AccountInfo, BlockSelector, ChainHeads, ChainSpec, DecodeTxError, Executor, PoolStatus,
    RecoveredTx, RejectReason, SequencerError, SubmitError, TxEnvelope, TxPool, num_hash,
};
use parking_lot::Mutex;

/// Transactions that the pool holds at most.
const CAPACITY: usize = 4_096;
/// Bytes of a transaction without its sidecar, at most (as other clients limit it).
const MAX_TX_BYTES: usize = 128 * 1024;

/// What waits.
#[derive(Debug)]
pub(super) struct Pool {
    executor: Arc<dyn Executor>,
    spec: Arc<ChainSpec>,
    slots_per_epoch: u64,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    by_sender: HashMap<Address, BTreeMap<u64, Entry>>,
    by_hash: HashMap<TxHash, (Address, u64)>,
    arrivals: u64,
}

/// A waiting transaction.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) tx: Arc<RecoveredTx>,
    pub(super) blobs: Arc<Vec<(B256, Blob)>>,
    arrival: u64,
}

/// Fees of the block being made, wei per gas.
#[derive(Debug, Clone, Copy)]
pub(super) struct BlockFees {
    pub(super) base_fee: u64,
    pub(super) blob_fee: u128,
    pub(super) max_blobs: usize,
}

impl Pool {
    pub(super) fn new(
        executor: Arc<dyn Executor>,
        spec: Arc<ChainSpec>,
        slots_per_epoch: u64,
    ) -> Self {
        Self { executor, spec, slots_per_epoch, waiting: Mutex::default() }
    }

    /// Senders that have something waiting.
    pub(super) fn senders(&self) -> Vec<Address> {
        self.waiting.lock().by_sender.keys().copied().collect()
    }

    /// What a block with these fees can take, given the senders' next nonces: by arrival, nonces in order.
    pub(super) fn ready(&self, next_nonces: &HashMap<Address, u64>, fees: BlockFees) -> Vec<Entry> {
        let waiting = self.waiting.lock();
        let mut runs: Vec<Vec<Entry>> = Vec::new();
        for (sender, queue) in &waiting.by_sender {
            let next = next_nonces.get(sender).copied().unwrap_or(0);
            let affordable = |entry: &Entry| {
                let tx = entry.tx.tx();
                tx.max_fee_per_gas() >= u128::from(fees.base_fee)
                    && tx.max_fee_per_blob_gas().is_none_or(|fee| fee >= fees.blob_fee)
            };
            let run = (next..)
                .zip(queue.range(next..))
                .take_while(|(expected, (nonce, entry))| expected == *nonce && affordable(entry))
                .map(|(_, (_, entry))| entry.clone());
            runs.push(run.collect());
        }
        let mut ready: Vec<Entry> = runs
            .into_iter()
            .flat_map(|run| {
                // A replacement keeps its predecessor's place only as far as nonce order allows.
                let mut latest = 0;
                run.into_iter().map(move |mut entry| {
                    latest = latest.max(entry.arrival);
                    entry.arrival = latest;
                    entry
                })
            })
            .collect();
        ready.sort_by_key(|entry| (entry.arrival, entry.tx.tx().nonce()));
        let mut blobs = 0;
        let mut blocked = HashSet::new();
        ready.retain(|entry| {
            let fits = blobs + entry.blobs.len() <= fees.max_blobs;
            if !fits || blocked.contains(&entry.tx.sender()) {
                blocked.insert(entry.tx.sender());
                return false;
            }
            blobs += entry.blobs.len();
            true
        });
        ready
    }

    /// Forgets transactions: they are in a block, or can never be.
    pub(super) fn remove(&self, hashes: &[TxHash]) {
        let mut waiting = self.waiting.lock();
        for hash in hashes {
            waiting.remove(hash);
        }
    }

    /// Forgets what a sender's account nonce has passed.
    pub(super) fn prune(&self, next_nonces: &HashMap<Address, u64>) {
        let mut waiting = self.waiting.lock();
        let stale: Vec<TxHash> = next_nonces
            .iter()
            .filter_map(|(sender, next)| Some(waiting.by_sender.get(sender)?.range(..next)))
            .flatten()
            .map(|(_, entry)| entry.tx.hash())
            .collect();
        for hash in stale {
            waiting.remove(&hash);
        }
    }

    async fn account(&self, sender: Address) -> Result<AccountInfo, SequencerError> {
        let mut accounts = self.executor.accounts(&[sender], BlockSelector::Latest).await?;
        Ok(accounts.pop().flatten().unwrap_or_default())
    }

    fn check(&self, tx: &RecoveredTx, account: &AccountInfo) -> Result<(), RejectReason> {
        let envelope = tx.tx();
        if tx.encoded().len() > MAX_TX_BYTES {
            return Err(RejectReason::Oversize {
                size: tx.encoded().len() as u64,
                limit: MAX_TX_BYTES as u64,
            });
        }
        if envelope.is_deposit() {
            return Err(RejectReason::UnsupportedType { ty: 0x7e });
        }
        let expected = self.spec.chain_id();
        match envelope.chain_id() {
            Some(got) if got != expected => {
                return Err(RejectReason::WrongChainId { got, expected });
            }
            _ => {}
        }
        if envelope.nonce() < account.nonce {
            return Err(RejectReason::NonceTooLow {
                got: envelope.nonce(),
                expected: account.nonce,
            });
        }
        let gas_limit = self.spec.genesis().gas_limit;
        if envelope.gas_limit() > gas_limit {
            return Err(RejectReason::GasOverLimit { got: envelope.gas_limit(), limit: gas_limit });
        }
        let gas = U256::from(envelope.max_fee_per_gas()) * U256::from(envelope.gas_limit());
        let blob_gas = U256::from(envelope.max_fee_per_blob_gas().unwrap_or(0))
            * U256::from(envelope.blob_gas_used().unwrap_or(0));
        let cost = envelope.value().saturating_add(gas).saturating_add(blob_gas);
        if cost > account.balance {
            return Err(RejectReason::InsufficientFunds {
                sender: tx.sender(),
                balance: account.balance,
                cost,
            });
        }
        Ok(())
    }
}

impl Waiting {
    fn insert(
        &mut self,
        tx: Arc<RecoveredTx>,
        blobs: Vec<(B256, Blob)>,
    ) -> Result<(), RejectReason> {
        let hash = tx.hash();
        if self.by_hash.contains_key(&hash) {
            return Err(RejectReason::AlreadyKnown { hash });
        }
        let (sender, nonce) = (tx.sender(), tx.tx().nonce());
        let old = self.by_sender.get(&sender).and_then(|queue| queue.get(&nonce)).cloned();
        match &old {
            Some(old) => replaces(old.tx.tx(), tx.tx())?,
            None if self.by_hash.len() >= CAPACITY => {
                return Err(RejectReason::PoolFull { limit: CAPACITY as u64 });
            }
            None => {}
        }
        if let Some(old) = old {
            self.remove(&old.tx.hash());
        }
        self.arrivals += 1;
        let entry = Entry { tx, blobs: Arc::new(blobs), arrival: self.arrivals };
        self.by_sender.entry(sender).or_default().insert(nonce, entry);
        self.by_hash.insert(hash, (sender, nonce));
        Ok(())
    }

    fn remove(&mut self, hash: &TxHash) {
        let Some((sender, nonce)) = self.by_hash.remove(hash) else { return };
        if let Some(queue) = self.by_sender.get_mut(&sender) {
            queue.remove(&nonce);
            if queue.is_empty() {
                self.by_sender.remove(&sender);
            }
        }
    }
}

/// Ethereum's customary rule: every fee rises by at least a tenth, and doubles for blob transactions.
fn replaces(old: &TxEnvelope, new: &TxEnvelope) -> Result<(), RejectReason> {
    let percent: u128 = if old.max_fee_per_blob_gas().is_some() { 200 } else { 110 };
    let bumped = |fee: u128| (fee.saturating_mul(percent)).div_ceil(100);
    let fees = |tx: &TxEnvelope| {
        [
            tx.max_fee_per_gas(),
            tx.max_priority_fee_per_gas().unwrap_or_else(|| tx.max_fee_per_gas()),
            tx.max_fee_per_blob_gas().unwrap_or(0),
        ]
    };
    if fees(old).into_iter().zip(fees(new)).all(|(old, new)| new >= bumped(old)) {
        return Ok(());
    }
    Err(RejectReason::Underpriced { required: bumped(old.max_fee_per_gas()) })
}

/// Splits the network form of a blob transaction into the transaction and its checked blobs.
fn decode(raw: Bytes) -> Result<(RecoveredTx, Vec<(B256, Blob)>), RejectReason> {
    let bad = |detail: String| RejectReason::BadEncoding { detail };
    let recovered = |result: Result<RecoveredTx, DecodeTxError>| {
        result.map_err(|error| match error {
            DecodeTxError::Signature(_) => RejectReason::BadSignature { detail: error.to_string() },
            other => bad(other.to_string()),
        })
    };
    if raw.first() != Some(&0x03) {
        return Ok((recovered(RecoveredTx::decode(raw))?, Vec::new()));
    }
    let mut buf = raw.as_ref();
    let pooled = PooledTransaction::decode_2718(&mut buf).map_err(|error| {
        bad(format!("{error}; a blob transaction needs its sidecar with EIP-7594 cell proofs"))
    })?;
    let PooledTransaction::Eip4844(signed) = pooled else {
        return Err(bad("type 3 is a blob transaction".into()));
    };
    signed
        .tx()
        .validate_blob(EnvKzgSettings::Default.get())
        .map_err(|error| RejectReason::Invalid { detail: error.to_string() })?;
    let hash = *signed.hash();
    let (with_sidecar, signature, _) = signed.into_parts();
    let (tx, sidecar) = with_sidecar.into_parts();
    let blobs = tx.blob_versioned_hashes.iter().copied().zip(sidecar.blobs).collect();
    let envelope =
        TxEnvelope::Eip4844(alloy::consensus::Signed::new_unchecked(tx, signature, hash));
    Ok((recovered(RecoveredTx::recover(envelope))?, blobs))
}

#[async_trait]
impl TxPool for Pool {
    async fn submit(&self, raw: Bytes) -> Result<TxHash, SubmitError> {
        let (tx, blobs) =
            tokio::task::spawn_blocking(move || decode(raw)).await.map_err(|error| {
                SequencerError::Unavailable(format!("decoding was cancelled: {error}"))
            })??;
        let account = self.account(tx.sender()).await?;
        self.check(&tx, &account)?;
        let hash = tx.hash();
        self.waiting.lock().insert(Arc::new(tx), blobs)?;
        Ok(hash)
    }

    async fn pending_nonce(&self, sender: Address) -> Result<u64, SequencerError> {
        let mut next = self.account(sender).await?.nonce;
        let waiting = self.waiting.lock();
        if let Some(queue) = waiting.by_sender.get(&sender) {
            while queue.contains_key(&next) {
                next += 1;
            }
        }
        Ok(next)
    }

    async fn pooled(&self, hash: TxHash) -> Result<Option<Arc<RecoveredTx>>, SequencerError> {
        let waiting = self.waiting.lock();
        let found = waiting
            .by_hash
            .get(&hash)
            .and_then(|(sender, nonce)| waiting.by_sender.get(sender)?.get(nonce));
        Ok(found.map(|entry| Arc::clone(&entry.tx)))
    }

    async fn pool_status(&self) -> Result<PoolStatus, SequencerError> {
        Ok(PoolStatus { pending: self.waiting.lock().by_hash.len() as u64, queued: 0 })
    }

    async fn heads(&self) -> Result<ChainHeads, SequencerError> {
        let latest = self.executor.head().await?;
        let behind = async |blocks: u64| -> Result<BlockNumHash, SequencerError> {
            let number = latest.number.saturating_sub(blocks);
            let header = self.executor.header(BlockSelector::Number(number)).await?;
            Ok(BlockNumHash::new(number, header.map_or(B256::ZERO, |header| header.seal())))
        };
        Ok(ChainHeads {
            latest: num_hash(&latest),
            safe: behind(self.slots_per_epoch).await?,
            finalized: behind(2 * self.slots_per_epoch).await?,
        })
    }
}

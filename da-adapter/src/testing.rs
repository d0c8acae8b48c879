//! A chain of real blocks for this crate's tests, and an executor that serves it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use alloy::{
    consensus::{
        EthereumReceipt, Header, Sealable, SignableTransaction, TxEip1559,
        proofs::calculate_transaction_root,
    },
    primitives::{Address, B256, Bytes, TxKind, U256, keccak256},
    rpc::types::{
        AccessListResult, EIP1186AccountProofResponse, Filter, Log, simulate::SimulatePayload,
        trace::geth::GethDebugTracingOptions,
    },
    signers::{SignerSync, local::PrivateKeySigner},
};
use async_trait::async_trait;
use millrace_proto::{
    AccountInfo, AddressPrefix, Attestation, BatchPayload, BatchRecord, BatchVerdict,
    BlockAttributes, BlockBuild, BlockNumHash, BlockSelector, BoxStream, CallOutcome, CallRequest,
    ChainSpec, Deposit, ExecutedBlock, Executor, ExecutorError, FoundAccounts, GasEstimate,
    QueueMark, RecoveredTx, SealedHeader, Settlement, SettlementError, SettlementStatus,
    SimulatedBlock, StateDiff, TraceTarget, TxEnvelope, TxLocation, TxType,
};
use parking_lot::Mutex;
use serde_json::value::RawValue;
use tokio::sync::watch;

use crate::{
    chain::BatchedChain,
    outbox::{Cursor, Outbox, OutboxIdentity},
};

pub(crate) const CHAIN_ID: u64 = 7_077;
/// The chain, with batches of transactions.
pub(crate) const CHAIN: BatchedChain =
    BatchedChain { id: CHAIN_ID, payload: BatchPayload::Transactions };

/// The deposit at an index of the queue.
pub(crate) fn deposit(index: u64) -> Deposit {
    Deposit {
        index,
        from: Address::repeat_byte(1),
        to: Address::repeat_byte(2),
        value: U256::from(index + 1),
        gas_limit: 100_000,
        data: Bytes::from(index.to_be_bytes()),
    }
}

/// The queue's accumulator over the first `count` deposits, as the contract computes it.
pub(crate) fn accumulator(count: u64) -> B256 {
    (0..count).fold(B256::ZERO, |before, index| deposit(index).accumulate(before))
}

/// Makes consecutive blocks.
#[derive(Debug, Clone)]
pub(crate) struct Chain {
    parent: SealedHeader,
    deposits: u64,
    nonce: u64,
}

impl Chain {
    /// A chain with its genesis block alone. `name` makes it another one than the others.
    pub(crate) fn new(name: &'static str) -> Self {
        let header = Header { extra_data: name.as_bytes().into(), ..Header::default() };
        Self { parent: header.seal_slow(), deposits: 0, nonce: 0 }
    }

    pub(crate) fn head(&self) -> &SealedHeader {
        &self.parent
    }

    /// Where an outbox begins that has seen nothing but the genesis block.
    pub(crate) fn cursor(&self) -> Cursor {
        Cursor {
            batch: 0,
            block: alloy::eips::BlockNumHash::new(self.parent.number, self.parent.seal()),
            deposits_end: self.deposits,
            deposits_hash: accumulator(self.deposits),
        }
    }

    /// The next block, with so many deposits and a transaction for each input.
    pub(crate) fn block(&mut self, deposits: u64, inputs: &[Bytes]) -> Arc<ExecutedBlock> {
        let mut transactions: Vec<TxEnvelope> = (self.deposits..self.deposits + deposits)
            .map(|index| deposit(index).to_tx(Address::ZERO).into())
            .collect();
        transactions.extend(inputs.iter().map(|input| self.transaction(input.clone())));
        self.deposits += deposits;
        let number = self.parent.number + 1;
        let mark = QueueMark { end: self.deposits, hash: accumulator(self.deposits), forced: 0 };
        let header = Header {
            number,
            parent_hash: self.parent.seal(),
            timestamp: number / 4,
            transactions_root: calculate_transaction_root(&transactions),
            extra_data: mark.extra_data(),
            parent_beacon_block_root: Some(mark.hash),
            // What such a header has before it.
            base_fee_per_gas: Some(0),
            withdrawals_root: Some(B256::ZERO),
            blob_gas_used: Some(0),
            excess_blob_gas: Some(0),
            ..Header::default()
        };
        self.parent = header.seal_slow();
        let receipt = EthereumReceipt {
            tx_type: TxType::Eip1559,
            success: true,
            cumulative_gas_used: 0,
            logs: Vec::new(),
        };
        let recovered = |tx| Arc::new(RecoveredTx::new_unchecked(tx, Address::ZERO));
        Arc::new(ExecutedBlock {
            header: self.parent.clone(),
            receipts: vec![receipt; transactions.len()],
            transactions: transactions.into_iter().map(recovered).collect(),
        })
    }

    /// A block without anything in it.
    pub(crate) fn empty(&mut self) -> Arc<ExecutedBlock> {
        self.block(0, &[])
    }

    /// A block with a small transaction.
    pub(crate) fn small(&mut self) -> Arc<ExecutedBlock> {
        self.block(0, &[Bytes::new()])
    }

    /// A block with a transaction that no other block has.
    pub(crate) fn noisy(&mut self) -> Arc<ExecutedBlock> {
        let seed = u64::from_be_bytes(self.parent.seal()[..8].try_into().expect("eight"));
        self.block(0, &[noise(64, seed)])
    }

    /// Goes on after another chain's block, which has taken as many deposits.
    pub(crate) fn follow(&mut self, parent: &SealedHeader) {
        self.parent = parent.clone();
    }

    fn transaction(&mut self, input: Bytes) -> TxEnvelope {
        self.nonce += 1;
        let tx = TxEip1559 {
            chain_id: CHAIN_ID,
            nonce: self.nonce,
            gas_limit: 21_000,
            max_fee_per_gas: 1_000_000_000,
            to: TxKind::Call(Address::repeat_byte(3)),
            value: U256::from(self.nonce),
            input,
            ..TxEip1559::default()
        };
        let signer = PrivateKeySigner::from_bytes(&B256::repeat_byte(7)).expect("a valid key");
        let signature = signer.sign_hash_sync(&tx.signature_hash()).expect("signs");
        TxEnvelope::Eip1559(tx.into_signed(signature))
    }
}

fn words(a: u64, b: u64) -> Vec<u8> {
    [a.to_be_bytes(), b.to_be_bytes()].concat()
}

/// Bytes that do not compress, other ones for each seed.
pub(crate) fn noise(len: usize, seed: u64) -> Bytes {
    (0..).flat_map(|n| keccak256(words(seed, n)).0).take(len).collect::<Vec<u8>>().into()
}

/// An outbox in a folder.
pub(crate) fn open_outbox(folder: &std::path::Path) -> Arc<Outbox> {
    let identity = OutboxIdentity { chain_id: CHAIN_ID, rollup: Address::ZERO };
    Arc::new(Outbox::open(folder, identity).expect("a fresh or closed outbox opens"))
}

/// Serves the blocks that it is given.
#[derive(Debug)]
pub(crate) struct TestExecutor {
    pub(crate) genesis: Mutex<SealedHeader>,
    blocks: Mutex<Vec<Arc<ExecutedBlock>>>,
    /// What blocks changed, by their numbers.
    diffs: Mutex<BTreeMap<u64, Arc<StateDiff>>>,
    accounts: Mutex<BTreeSet<Address>>,
    /// It keeps no state before the head's.
    pruned: AtomicBool,
    grown: watch::Sender<()>,
    /// Down to which blocks the chain was taken back.
    unwound: Mutex<Vec<u64>>,
    /// Makes the streams that are open fail, once.
    broken: AtomicBool,
}

impl TestExecutor {
    pub(crate) fn new(genesis: &SealedHeader) -> Arc<Self> {
        Arc::new(Self {
            genesis: Mutex::new(genesis.clone()),
            blocks: Mutex::default(),
            diffs: Mutex::default(),
            accounts: Mutex::default(),
            pruned: AtomicBool::new(false),
            grown: watch::Sender::new(()),
            unwound: Mutex::default(),
            broken: AtomicBool::new(false),
        })
    }

    pub(crate) fn push(&self, block: Arc<ExecutedBlock>) {
        self.blocks.lock().push(block);
        self.grown.send_replace(());
    }

    /// Says which accounts the state has.
    pub(crate) fn set_accounts(&self, accounts: impl IntoIterator<Item = Address>) {
        *self.accounts.lock() = accounts.into_iter().collect();
    }

    /// Keeps no state before the head's.
    pub(crate) fn set_pruned(&self) {
        self.pruned.store(true, Ordering::SeqCst);
    }

    /// Adds a block with what it changed.
    pub(crate) fn push_changed(&self, block: Arc<ExecutedBlock>, diff: StateDiff) {
        self.diffs.lock().insert(block.number(), Arc::new(diff));
        self.push(block);
    }

    /// The last block.
    pub(crate) fn last(&self) -> SealedHeader {
        let last = self.blocks.lock().last().map(|block| block.header.clone());
        last.unwrap_or_else(|| self.genesis.lock().clone())
    }

    /// Takes back the blocks after `number`.
    pub(crate) fn unwind(&self, number: u64) {
        self.unwound.lock().push(number);
        self.blocks.lock().retain(|block| block.number() <= number);
        self.grown.send_replace(());
    }

    pub(crate) fn blocks_mut(&self) -> parking_lot::MutexGuard<'_, Vec<Arc<ExecutedBlock>>> {
        self.blocks.lock()
    }

    pub(crate) fn break_streams(&self) {
        self.broken.store(true, Ordering::SeqCst);
        self.grown.send_replace(());
    }

    fn get(&self, number: u64) -> Option<Arc<ExecutedBlock>> {
        self.blocks.lock().iter().find(|block| block.number() == number).cloned()
    }
}

/// What only other services ask an executor for.
fn elsewhere<T>() -> Result<T, ExecutorError> {
    Err(ExecutorError::InvalidRequest("this executor only has blocks".to_owned()))
}

/// A stream with its state.
struct Following {
    executor: Arc<TestExecutor>,
    next: u64,
    /// How many times it has seen the chain taken back.
    seen: usize,
    grown: watch::Receiver<()>,
}

impl Following {
    async fn next(mut self) -> Option<(Result<Arc<ExecutedBlock>, ExecutorError>, Self)> {
        loop {
            if self.executor.broken.swap(false, Ordering::SeqCst) {
                return Some((Err(ExecutorError::BuildDiscarded), self));
            }
            {
                let unwound = self.executor.unwound.lock();
                let lowest = unwound[self.seen..].iter().map(|to| to + 1).min();
                self.seen = unwound.len();
                self.next = lowest.map_or(self.next, |lowest| lowest.min(self.next));
            }
            if let Some(block) = self.executor.get(self.next) {
                self.next += 1;
                return Some((Ok(block), self));
            }
            self.grown.changed().await.ok()?;
        }
    }
}

/// The handle that is passed as an executor.
#[derive(Debug, Clone)]
pub(crate) struct TestExecutorHandle(pub(crate) Arc<TestExecutor>);

#[async_trait]
impl Executor for TestExecutorHandle {
    async fn spec(&self) -> Result<Arc<ChainSpec>, ExecutorError> {
        elsewhere()
    }

    async fn head(&self) -> Result<SealedHeader, ExecutorError> {
        Ok(self.0.last())
    }

    async fn header(&self, at: BlockSelector) -> Result<Option<SealedHeader>, ExecutorError> {
        match at {
            BlockSelector::Number(0) => Ok(Some(self.0.genesis.lock().clone())),
            BlockSelector::Number(number) => {
                Ok(self.0.get(number).map(|block| block.header.clone()))
            }
            BlockSelector::Hash(hash) => {
                let genesis = Some(self.0.genesis.lock().clone());
                let blocks = self.0.blocks_mut();
                let headers = blocks.iter().map(|block| block.header.clone());
                Ok(genesis.into_iter().chain(headers).find(|header| header.seal() == hash))
            }
            BlockSelector::Latest | BlockSelector::Open(_) => elsewhere(),
        }
    }

    async fn block(&self, at: BlockSelector) -> Result<Option<Arc<ExecutedBlock>>, ExecutorError> {
        match at {
            BlockSelector::Number(0) => Ok(Some(Arc::new(ExecutedBlock {
                header: self.0.genesis.lock().clone(),
                transactions: Vec::new(),
                receipts: Vec::new(),
            }))),
            BlockSelector::Number(number) => Ok(self.0.get(number)),
            _ => elsewhere(),
        }
    }

    async fn subscribe(
        &self,
        from: u64,
    ) -> Result<BoxStream<Arc<ExecutedBlock>, ExecutorError>, ExecutorError> {
        let executor = self.0.clone();
        let (seen, grown) = (executor.unwound.lock().len(), executor.grown.subscribe());
        let following = Following { next: from, seen, grown, executor };
        Ok(Box::pin(futures::stream::unfold(following, Following::next)))
    }

    async fn open_block(&self, _: BlockAttributes) -> Result<Box<dyn BlockBuild>, ExecutorError> {
        elsewhere()
    }

    async fn unwind(&self, to: BlockNumHash) -> Result<(), ExecutorError> {
        self.0.unwind(to.number);
        Ok(())
    }

    async fn locate(&self, _: B256) -> Result<Option<TxLocation>, ExecutorError> {
        elsewhere()
    }

    async fn accounts(
        &self,
        _: &[Address],
        _: BlockSelector,
    ) -> Result<Vec<Option<AccountInfo>>, ExecutorError> {
        elsewhere()
    }

    /// Of the accounts that are said to be in the state, of whichever block.
    async fn find_accounts(
        &self,
        prefixes: &[AddressPrefix],
        at: BlockSelector,
    ) -> Result<FoundAccounts, ExecutorError> {
        if self.header(at).await?.is_none() {
            return Err(ExecutorError::UnknownBlock(at));
        }
        if self.0.pruned.load(Ordering::SeqCst) {
            let head = self.0.last().number;
            return Err(ExecutorError::StatePruned { block: 0, oldest: head });
        }
        let accounts = self.0.accounts.lock();
        let found = prefixes.iter().map(|prefix| prefix.only_of(&*accounts));
        Ok(FoundAccounts { accounts: found.collect(), total: accounts.len() as u64 })
    }

    async fn storage(&self, _: Address, _: B256, _: BlockSelector) -> Result<U256, ExecutorError> {
        elsewhere()
    }

    async fn code(&self, _: Address, _: BlockSelector) -> Result<Bytes, ExecutorError> {
        elsewhere()
    }

    async fn proof(
        &self,
        _: Address,
        _: Vec<B256>,
        _: BlockSelector,
    ) -> Result<EIP1186AccountProofResponse, ExecutorError> {
        elsewhere()
    }

    async fn call(&self, _: CallRequest, _: BlockSelector) -> Result<CallOutcome, ExecutorError> {
        elsewhere()
    }

    async fn estimate_gas(
        &self,
        _: CallRequest,
        _: BlockSelector,
    ) -> Result<GasEstimate, ExecutorError> {
        elsewhere()
    }

    async fn create_access_list(
        &self,
        _: CallRequest,
        _: BlockSelector,
    ) -> Result<AccessListResult, ExecutorError> {
        elsewhere()
    }

    async fn trace(
        &self,
        _: TraceTarget,
        _: GethDebugTracingOptions,
    ) -> Result<Box<RawValue>, ExecutorError> {
        elsewhere()
    }

    async fn simulate(
        &self,
        _: SimulatePayload,
        _: BlockSelector,
    ) -> Result<Vec<SimulatedBlock>, ExecutorError> {
        elsewhere()
    }

    async fn logs(&self, _: &Filter, _: usize) -> Result<Vec<Log>, ExecutorError> {
        elsewhere()
    }

    async fn state_diff(&self, number: u64) -> Result<Option<Arc<StateDiff>>, ExecutorError> {
        Ok(self.0.diffs.lock().get(&number).cloned())
    }
}

/// What settlement has come to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Judged {
    pub(crate) verdicts: BTreeMap<u64, BatchVerdict>,
    pub(crate) halted: Option<String>,
}

#[async_trait]
impl Settlement for Judged {
    async fn settlement_status(&self) -> Result<SettlementStatus, SettlementError> {
        Ok(SettlementStatus { halted: self.halted.clone(), ..SettlementStatus::default() })
    }

    async fn subscribe_status(
        &self,
    ) -> Result<BoxStream<SettlementStatus, SettlementError>, SettlementError> {
        unreachable!("one answer is enough")
    }

    async fn batch_of_block(&self, _: u64) -> Result<Option<BatchRecord>, SettlementError> {
        unreachable!("batches are asked for")
    }

    async fn verdict(&self, batch: u64) -> Result<Option<BatchVerdict>, SettlementError> {
        Ok(self.verdicts.get(&batch).cloned())
    }

    async fn derived_block(&self, _: u64) -> Result<Option<Arc<ExecutedBlock>>, SettlementError> {
        unreachable!("the sequencer asks")
    }

    async fn attest(&self, _: u64) -> Result<Option<Attestation>, SettlementError> {
        Err(SettlementError::NotAVerifier)
    }
}

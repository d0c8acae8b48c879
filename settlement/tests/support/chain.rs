//! A chain whose state root is a hash over all transactions so far.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard},
};

use alloy::{
    consensus::{Header, Sealable, SignableTransaction, TxEip1559},
    primitives::{Address, B256, Log, LogData, TxKind, U256, keccak256},
    signers::{SignerSync, local::PrivateKeySigner},
    sol_types::SolEvent,
};
use millrace_proto::{
    AccountDiff, AccountInfo, AddressPrefix, Batch, BlockAttributes, ChainSpec, Deposit,
    DerivedBlock, DerivedStretch, DiffBatch, ExecutedBlock, MESSAGE_PASSER, MessageSent, QueueMark,
    Receipt, RecoveredTx, RejectReason, Replay, ReplayError, SealedHeader, SlotDiff, StateDiff,
    TxEnvelope, TxType, message_ids, message_slot,
};

pub(crate) const CHAIN_ID: u64 = 8_001;
/// A transfer to this address sends a message to L1.
pub(crate) const MESSENGER: Address = MESSAGE_PASSER;
/// A transfer to this address is invalid.
pub(crate) const POISON: Address = Address::repeat_byte(0xbd);

/// A signed transfer; `nonce` makes it unique.
pub(crate) fn transfer(nonce: u64, to: Address) -> Arc<RecoveredTx> {
    let signer = PrivateKeySigner::from_bytes(&B256::repeat_byte(7)).expect("a valid key");
    let tx = TxEip1559 {
        chain_id: CHAIN_ID,
        nonce,
        gas_limit: 21_000,
        max_fee_per_gas: 1_000_000_000,
        max_priority_fee_per_gas: 1,
        to: TxKind::Call(to),
        value: U256::from(nonce),
        ..TxEip1559::default()
    };
    let signature = signer.sign_hash_sync(&tx.signature_hash()).expect("signs");
    Arc::new(
        RecoveredTx::recover(TxEnvelope::Eip1559(tx.into_signed(signature))).expect("recovers"),
    )
}

/// A chain of blocks. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct TestChain {
    spec: Arc<ChainSpec>,
    blocks: Arc<Mutex<Vec<Arc<ExecutedBlock>>>>,
    /// Accounts that its state has, in every block.
    pub(crate) accounts: BTreeSet<Address>,
    /// Mixed into every state root: chains with different salts differ from their first block on.
    salt: u64,
}

impl TestChain {
    /// A chain with only the genesis block.
    pub(crate) fn new() -> Self {
        Self::salted(0)
    }

    /// A chain whose batches hold state diffs.
    pub(crate) fn of_diffs() -> Self {
        Self::with_rollup(0, r#"{"batchPayload":"stateDiffs","gasLimit":30000000}"#)
    }

    /// A chain with the same genesis whose execution gives other state roots.
    pub(crate) fn salted(salt: u64) -> Self {
        Self::with_rollup(salt, "{}")
    }

    fn with_rollup(salt: u64, rollup: &str) -> Self {
        let json = format!(
            r#"{{"config":{{"chainId":{CHAIN_ID},"homesteadBlock":0,"londonBlock":0,"shanghaiTime":0,"cancunTime":0,"pragueTime":0,"terminalTotalDifficulty":0,"millrace":{rollup}}},"alloc":{{}},"gasLimit":"0x3938700","timestamp":"0x64","difficulty":"0x0"}}"#
        );
        let spec = Arc::new(ChainSpec::from_json(json.as_bytes()).expect("a valid genesis"));
        let genesis = ExecutedBlock {
            header: spec.genesis_header(B256::repeat_byte(1)).seal_slow(),
            transactions: Vec::new(),
            receipts: Vec::new(),
        };
        Self {
            spec,
            blocks: Arc::new(Mutex::new(vec![Arc::new(genesis)])),
            accounts: BTreeSet::new(),
            salt,
        }
    }

    pub(crate) fn spec(&self) -> Arc<ChainSpec> {
        Arc::clone(&self.spec)
    }

    /// Another chain with the same blocks.
    pub(crate) fn copy(&self) -> Self {
        let blocks = Arc::new(Mutex::new(self.blocks().clone()));
        Self { spec: self.spec(), blocks, accounts: self.accounts.clone(), salt: self.salt }
    }

    /// Accounts by how their addresses begin.
    pub(crate) fn find_accounts(&self, prefixes: &[AddressPrefix]) -> Vec<Option<Address>> {
        prefixes.iter().map(|prefix| prefix.only_of(&self.accounts)).collect()
    }

    /// Takes back the blocks after `number`.
    pub(crate) fn truncate(&self, number: u64) {
        self.blocks().truncate(usize::try_from(number).expect("small") + 1);
    }

    pub(crate) fn block(&self, number: u64) -> Option<Arc<ExecutedBlock>> {
        self.blocks().get(usize::try_from(number).expect("small")).cloned()
    }

    pub(crate) fn head(&self) -> Arc<ExecutedBlock> {
        self.blocks().last().cloned().expect("never empty")
    }

    /// Adds a block. `deposits_end` and the deposits among `transactions` have to fit.
    pub(crate) fn extend(
        &self,
        timestamp: u64,
        deposits_end: u64,
        transactions: Vec<Arc<RecoveredTx>>,
    ) -> Arc<ExecutedBlock> {
        let parent = self.head();
        let before = QueueMark::of(&parent.header).expect("a rollup's header");
        let hash = (before.end..).zip(&transactions).fold(before.hash, |hash, (index, tx)| {
            let Some(tx) = tx.tx().as_deposit() else { return hash };
            let TxKind::Call(to) = tx.to else { panic!("a deposit creates no contract") };
            let deposit = Deposit {
                index,
                from: tx.from,
                to,
                value: tx.value,
                gas_limit: tx.gas_limit,
                data: tx.input.clone(),
            };
            deposit.accumulate(hash)
        });
        let queue = QueueMark { end: deposits_end, hash, forced: 0 };
        let attributes = BlockAttributes::rollup(&self.spec, &parent.header, timestamp, queue);
        let mut root = [parent.header.state_root.as_slice(), &self.salt.to_be_bytes()].concat();
        for tx in &transactions {
            root.extend_from_slice(tx.hash().as_slice());
        }
        let receipts = (1..).zip(&transactions).map(|(count, tx)| receipt(count, tx)).collect();
        let header = Header {
            number: attributes.number,
            parent_hash: attributes.parent_hash,
            timestamp: attributes.timestamp,
            beneficiary: attributes.fee_recipient,
            mix_hash: attributes.prev_randao,
            gas_limit: attributes.gas_limit,
            extra_data: attributes.extra_data,
            parent_beacon_block_root: Some(attributes.parent_beacon_block_root),
            // What such a header has before it.
            base_fee_per_gas: Some(0),
            withdrawals_root: Some(B256::ZERO),
            blob_gas_used: Some(0),
            excess_blob_gas: Some(0),
            state_root: keccak256(root),
            ..Header::default()
        };
        let block = Arc::new(ExecutedBlock { header: header.seal_slow(), transactions, receipts });
        self.blocks().push(Arc::clone(&block));
        block
    }

    /// The blocks `first..=last` as a batch.
    pub(crate) fn batch(&self, first: u64, last: u64) -> Batch {
        let blocks: Vec<_> =
            (first..=last).map(|number| self.block(number).expect("the block exists")).collect();
        let parent = self.block(first - 1).expect("the parent exists");
        let deposits = QueueMark::of(&parent.header).expect("a rollup's header").end;
        Batch::from_blocks(CHAIN_ID, deposits, parent.hash(), &blocks).expect("blocks that join")
    }

    /// The blocks `first..=last` as a batch of state diffs.
    pub(crate) fn diffs(&self, first: u64, last: u64) -> DiffBatch {
        let blocks: Vec<_> = (first..=last)
            .map(|number| {
                let block = self.block(number).expect("the block exists");
                let changed = Arc::new(changed(&block));
                (block, changed)
            })
            .collect();
        let parent = self.block(first - 1).expect("the parent exists");
        let deposits = QueueMark::of(&parent.header).expect("a rollup's header").end;
        DiffBatch::from_blocks(CHAIN_ID, deposits, parent.hash(), &blocks)
            .expect("blocks that join")
    }

    fn blocks(&self) -> MutexGuard<'_, Vec<Arc<ExecutedBlock>>> {
        self.blocks.lock().expect("no test panics while it holds the lock")
    }
}

/// What a block is said to have changed: so much that a state root follows from it.
pub(super) fn changed(block: &ExecutedBlock) -> StateDiff {
    let after = Some(AccountInfo { nonce: block.number(), ..AccountInfo::default() });
    let address = Address::from_word(block.header.state_root);
    let account = AccountDiff { after, ..AccountDiff::default() };
    let mut diff = StateDiff { accounts: [(address, account)].into(), ..StateDiff::default() };
    let sent = message_ids(&block.receipts);
    if !sent.is_empty() {
        let slot = |id| (message_slot(id), SlotDiff { before: U256::ZERO, after: U256::ONE });
        let info = Some(AccountInfo { nonce: 1, ..AccountInfo::default() });
        let storage = sent.into_iter().map(slot).collect();
        diff.accounts.insert(MESSAGE_PASSER, AccountDiff { before: info, after: info, storage });
    }
    diff
}

fn receipt(count: u64, tx: &RecoveredTx) -> Receipt {
    let mut logs = Vec::new();
    if let TxEnvelope::Eip1559(signed) = tx.tx()
        && signed.tx().to == TxKind::Call(MESSENGER)
    {
        let message = MessageSent {
            nonce: count,
            sender: tx.sender(),
            target: tx.sender(),
            value: U256::ZERO,
            gasLimit: 21_000,
            data: Default::default(),
            id: tx.hash(),
        };
        let data: LogData = message.encode_log_data();
        logs.push(Log { address: MESSENGER, data });
    }
    let tx_type = if tx.tx().is_deposit() { TxType::Deposit } else { TxType::Eip1559 };
    Receipt { tx_type, success: true, cumulative_gas_used: 21_000 * count, logs }
}

/// A replayed chain that counts the blocks that it executes.
#[derive(Debug)]
pub(crate) struct TestReplay {
    pub(crate) chain: TestChain,
    pub(crate) executed: Arc<Mutex<u64>>,
    /// The ends of the stretches that were applied.
    pub(crate) applied: Vec<(SealedHeader, B256)>,
}

impl TestReplay {
    pub(crate) fn new() -> Self {
        Self::over(TestChain::new())
    }

    /// A replayed chain that already holds blocks.
    pub(crate) fn over(chain: TestChain) -> Self {
        Self { chain, executed: Arc::default(), applied: Vec::new() }
    }
}

impl Replay for TestReplay {
    fn head(&self) -> SealedHeader {
        match self.applied.last() {
            Some((header, _)) => header.clone(),
            None => self.chain.head().header.clone(),
        }
    }

    fn find_accounts(
        &self,
        prefixes: &[AddressPrefix],
    ) -> Result<Vec<Option<Address>>, ReplayError> {
        Ok(self.chain.find_accounts(prefixes))
    }

    /// A state root is right if something was changed at the address that [`changed`] makes of it.
    fn apply(&mut self, stretch: DerivedStretch) -> Result<(), ReplayError> {
        let DerivedStretch { first_block, header, delta, messages, digest } = stretch;
        let number = header.number;
        let delta = delta
            .resolve(&self.chain.find_accounts(delta.names()), &messages)
            .map_err(|error| ReplayError::Invalid { number, problem: error.to_string() })?;
        if first_block != self.head().number + 1 {
            return Err(ReplayError::Invalid { number, problem: "does not follow".to_owned() });
        }
        let claimed = header.state_root;
        if !delta.accounts.contains_key(&Address::from_word(claimed)) {
            return Err(ReplayError::StateRoot { number, claimed, computed: B256::ZERO });
        }
        self.applied.push((header, digest));
        Ok(())
    }

    fn unwind(&mut self, number: u64) -> Result<(), ReplayError> {
        self.applied.retain(|(header, _)| header.number <= number);
        self.chain.truncate(number);
        Ok(())
    }

    fn applied(&self, number: u64) -> Result<Option<B256>, ReplayError> {
        let mut applied = self.applied.iter();
        Ok(applied.find(|(header, _)| header.number == number).map(|(_, digest)| *digest))
    }

    fn header(&self, number: u64) -> Result<Option<SealedHeader>, ReplayError> {
        let mut applied = self.applied.iter().map(|(header, _)| header.clone());
        Ok(applied
            .find(|header| header.number == number)
            .or_else(|| Some(self.chain.block(number)?.header.clone())))
    }

    fn replay(&mut self, block: DerivedBlock) -> Result<Arc<ExecutedBlock>, ReplayError> {
        let number = block.number;
        if number != self.chain.head().number() + 1 {
            return Err(ReplayError::Invalid { number, problem: "does not follow".to_owned() });
        }
        for tx in block.queued.txs.iter().chain(&block.transactions) {
            if let TxEnvelope::Eip1559(signed) = tx.tx()
                && signed.tx().to == TxKind::Call(POISON)
            {
                return Err(ReplayError::InvalidTransaction {
                    number,
                    hash: tx.hash(),
                    reason: RejectReason::BadEncoding { detail: "poison".to_owned() },
                });
            }
        }
        *self.executed.lock().expect("no test panics while it holds the lock") += 1;
        let transactions = [block.queued.txs, block.transactions].concat();
        Ok(self.chain.extend(block.timestamp, block.queued.mark.end, transactions))
    }

    fn block(&self, number: u64) -> Result<Option<Arc<ExecutedBlock>>, ReplayError> {
        Ok(self.chain.block(number))
    }
}

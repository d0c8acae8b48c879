//! The store: the chain and its state on disk, the head in memory.

use std::{path::Path, sync::Arc};

use alloy::{
    primitives::{Address, B256, TxHash, U256},
    rpc::types::EIP1186AccountProofResponse,
};
use millrace_proto::{
    BatchPayload, BlockSelector, ChainSpec, ExecutedBlock, Receipt, SealedHeader, StateDiff,
    TxLocation,
};
use parking_lot::{Mutex, MutexGuard, RwLock};
use tracing::{debug, error, info};

use super::{
    SCHEMA_VERSION, StoreConfig, StoreError, block_codec,
    chain::{ChainReader, meta},
    codec::{Cursor, u256_from},
    db::{Batch, Db, InTable},
    genesis,
    metrics::StoreMetrics,
    prune,
    recent::RecentBlocks,
    table::Table,
    unwind,
    write::{self, History},
};
use crate::state::{RootUpdate, StateView, genesis_header, state_root};

/// The chain and its state. One store owns its folder; reads and commits may come from any thread.
#[derive(Debug)]
pub(crate) struct Store {
    db: Arc<Db>,
    history_blocks: Option<u64>,
    /// Whether what blocks changed is kept longer than other history: for batches, however late they are made.
    keeps_diffs: bool,
    /// Whether transactions are found by their hashes.
    transaction_index: bool,
    chain: RwLock<Chain>,
    /// Held by the commit in progress; says why writing has stopped, if it has.
    failed: Mutex<Option<String>>,
    metrics: StoreMetrics,
}

#[derive(Debug)]
struct Chain {
    head: SealedHeader,
    recent: RecentBlocks,
    /// Whether the head, which is among the recent ones then, is stored without the index of its transactions yet.
    unindexed: bool,
}

impl Chain {
    /// The head, if its transactions are not in the index yet.
    fn unindexed(&self) -> Option<&Arc<ExecutedBlock>> {
        self.recent.last().filter(|_| self.unindexed)
    }
}

impl Store {
    /// Opens the store in a folder. Writes the chain's genesis block if there is none yet.
    ///
    /// # Errors
    /// When the folder holds another chain or another schema version, or RocksDB cannot open it.
    pub(crate) fn open(
        path: &Path,
        config: &StoreConfig,
        spec: &ChainSpec,
    ) -> Result<Self, StoreError> {
        let db = match Db::open(path, config) {
            Ok(db) => db,
            Err(source) => {
                // Another schema may have other tables, which RocksDB refuses to open.
                let found = Db::peek(path, Table::Meta, meta::SCHEMA);
                check_schema(path, found.as_deref())?;
                return Err(StoreError::Open { path: path.to_owned(), source });
            }
        };
        let chain = ChainReader(db.reader());
        check_schema(path, db.reader().get(Table::Meta, meta::SCHEMA)?.as_deref())?;

        let mut recent = RecentBlocks::default();
        let head = match chain.head()? {
            Some(head) => {
                check_genesis(path, chain, spec)?;
                if config.transaction_index {
                    complete_index(&db, head.number)?;
                }
                chain.header(BlockSelector::Number(head.number))?.ok_or_else(|| {
                    StoreError::corrupt(Table::Headers, format!("head {} is missing", head.number))
                })?
            }
            None => {
                let block = genesis::import(&db, spec)?;
                recent.push(Arc::clone(&block));
                info!(target: "millrace::executor", hash = %block.hash(), "genesis block written");
                block.header.clone()
            }
        };
        info!(
            target: "millrace::executor",
            path = %path.display(), number = head.number, hash = %head.seal(), "store open"
        );
        let metrics = StoreMetrics::new(config.name);
        metrics.oldest(chain.oldest()?);
        Ok(Self {
            db: Arc::new(db),
            history_blocks: config.history_blocks,
            keeps_diffs: spec.rollup().batch_payload == BatchPayload::StateDiffs,
            transaction_index: config.transaction_index,
            chain: RwLock::new(Chain { head, recent, unindexed: false }),
            failed: Mutex::new(None),
            metrics,
        })
    }

    /// The head.
    pub(crate) fn head(&self) -> SealedHeader {
        self.chain.read().head.clone()
    }

    /// A header, or `None` if there is no such block.
    pub(crate) fn header(&self, at: BlockSelector) -> Result<Option<SealedHeader>, StoreError> {
        {
            let chain = self.chain.read();
            if at == BlockSelector::Latest {
                return Ok(Some(chain.head.clone()));
            }
            if let Some(block) = chain.recent.get(at) {
                return Ok(Some(block.header.clone()));
            }
        }
        self.reader().header(at)
    }

    /// Headers from block `from` to block `to` inclusive, in order, as far as there are any.
    pub(crate) fn headers(
        &self,
        from: u64,
        to: u64,
    ) -> impl Iterator<Item = Result<SealedHeader, StoreError>> + '_ {
        let mut entries = self.db.reader().iter(Table::Headers);
        entries.seek(from.to_be_bytes());
        let mut done = false;
        std::iter::from_fn(move || {
            if done {
                return None;
            }
            let header = match entries.item() {
                Some((_, value)) => block_codec::decode_header(value).in_table(Table::Headers),
                None => {
                    done = true;
                    return entries.status().err().map(|error| Err(error.into()));
                }
            };
            done = header.as_ref().map_or(true, |header| header.number >= to);
            entries.next();
            Some(header).filter(|header| !header.as_ref().is_ok_and(|header| header.number > to))
        })
    }

    /// A block with its receipts, or `None` if there is no such block.
    pub(crate) fn block(
        &self,
        at: BlockSelector,
    ) -> Result<Option<Arc<ExecutedBlock>>, StoreError> {
        let recent = self.chain.read().recent.get(at).cloned();
        match recent {
            Some(block) => Ok(Some(block)),
            None => Ok(self.reader().block(at)?.map(Arc::new)),
        }
    }

    /// A block's receipts, or `None` if there is no such block.
    pub(crate) fn receipts(&self, number: u64) -> Result<Option<Vec<Receipt>>, StoreError> {
        let recent = self.chain.read().recent.get(BlockSelector::Number(number)).cloned();
        match recent {
            Some(block) => Ok(Some(block.receipts.clone())),
            None => self.reader().receipts(number),
        }
    }

    /// Where a transaction is, or `None` if no block holds it.
    pub(crate) fn locate(&self, hash: TxHash) -> Result<Option<TxLocation>, StoreError> {
        if let Some(location) = self.reader().locate(hash)? {
            return Ok(Some(location));
        }
        if let Some(block) = self.chain.read().unindexed()
            && let Some(index) = block.transactions.iter().position(|tx| tx.hash() == hash)
        {
            return Ok(Some(TxLocation { block: block.num_hash(), index: index as u64 }));
        }
        // It may have come into the index meanwhile.
        self.reader().locate(hash)
    }

    /// Every set slot of an account at the head, by key.
    pub(crate) fn storage_entries(
        &self,
        address: Address,
    ) -> impl Iterator<Item = Result<(B256, U256), StoreError>> + '_ {
        let mut entries = self.db.reader().prefix(Table::Storage);
        entries.seek(address);
        let mut done = false;
        std::iter::from_fn(move || {
            if done {
                return None;
            }
            let entry = match entries.item() {
                Some((key, value)) if key.starts_with(address.as_slice()) => slot_entry(key, value),
                _ => {
                    done = true;
                    return entries.status().err().map(|error| Err(error.into()));
                }
            };
            done = entry.is_err();
            entries.next();
            Some(entry)
        })
    }

    /// The state of a block, which stays as it is while blocks are committed.
    ///
    /// # Errors
    /// [`StoreError::UnknownBlock`], or [`StoreError::StatePruned`] if the block is older than the history that is kept.
    pub(crate) fn view(&self, at: BlockSelector) -> Result<StateView, StoreError> {
        StateView::open(Arc::clone(&self.db), at)
    }

    /// Merkle proofs of an account and its slots (EIP-1186) against a block's state root.
    ///
    /// # Errors
    /// As [`Self::view`].
    pub(crate) fn proof(
        &self,
        address: Address,
        slots: &[B256],
        at: BlockSelector,
    ) -> Result<EIP1186AccountProofResponse, StoreError> {
        self.view(at)?.proof(address, slots)
    }

    /// What a block changed, or `None` if there is no such block or its diff was pruned. The genesis block has none.
    pub(crate) fn state_diff(&self, number: u64) -> Result<Option<StateDiff>, StoreError> {
        self.reader().diff(number)
    }

    /// The state root after `diff` on top of the head. Reads only what lies on the changed keys' paths; writes nothing.
    pub(crate) fn root(&self, diff: &StateDiff) -> Result<RootUpdate, StoreError> {
        let parent = self.chain.read().head.seal();
        state_root(self.db.reader(), parent, diff)
    }

    /// Writes the block after the head, and everything that changes with it, in one atomic step, and makes it the head. Its transactions are found at once, but
    /// their index is written by [`Self::index`], or with the next block, or when the store is opened again.
    ///
    /// The write survives the end of this process; a power cut may undo it and others before it, the last ones first.
    ///
    /// # Errors
    /// [`StoreError::NotNext`] and [`StoreError::RootMismatch`] change nothing. After [`StoreError::Database`] nobody knows
    /// whether the block is on disk, so the store refuses every commit until it is opened again; reads go on.
    pub(crate) fn commit(
        &self,
        block: Arc<ExecutedBlock>,
        diff: &StateDiff,
        root: RootUpdate,
    ) -> Result<(), StoreError> {
        let mut failed = self.writing()?;
        let number = block.number();
        self.check_next(&block, &root)?;

        let mut batch = self.db.batch();
        write::state(&mut batch, diff, &root, History::Of(number));
        write::block(&mut batch, &block);
        self.index_before(&mut batch);
        let oldest = match self.history_blocks {
            Some(blocks) => {
                prune::prune(&mut batch, self.reader(), number, blocks, self.keeps_diffs)?
            }
            None => None,
        };
        self.commit_batch(batch, &mut failed, number, &root)?;
        {
            let mut chain = self.chain.write();
            chain.head = block.header.clone();
            chain.recent.push(block);
            chain.unindexed = self.transaction_index;
        }
        if let Some(oldest) = oldest {
            self.metrics.oldest(oldest);
        }
        Ok(())
    }

    /// Writes the index of the head's transactions, if it is not there yet.
    ///
    /// # Errors
    /// As [`Self::commit`].
    pub(crate) fn index(&self) -> Result<(), StoreError> {
        let mut failed = self.writing()?;
        let Some(head) = self.chain.read().unindexed().cloned() else { return Ok(()) };
        let mut batch = self.db.batch();
        write::locations(&mut batch, &head);
        self.write(batch, &mut failed, head.number(), "an index cannot be written")?;
        self.chain.write().unindexed = false;
        Ok(())
    }

    /// The same, as part of a larger step.
    fn index_before(&self, batch: &mut Batch<'_>) {
        if let Some(head) = self.chain.read().unindexed() {
            write::locations(batch, head);
        }
    }

    /// Writes the state after a block that may be any after the head, whose header alone is known, in one atomic step, and makes the block the
    /// head. `digest` is noted as the batch's that said what changed.
    ///
    /// # Errors
    /// As [`Self::commit`].
    pub(crate) fn jump(
        &self,
        header: SealedHeader,
        diff: &StateDiff,
        root: RootUpdate,
        digest: B256,
    ) -> Result<(), StoreError> {
        let mut failed = self.writing()?;
        let number = header.number;
        let head = self.head();
        if number <= head.number || root.parent != head.seal() {
            return Err(not_next(number, &head));
        }
        check_root(&header, &root)?;

        let mut batch = self.db.batch();
        write::state(&mut batch, diff, &root, History::Of(number));
        write::header(&mut batch, &header);
        self.index_before(&mut batch);
        batch.put(Table::Meta, meta::stretch(number), digest);
        batch.put(Table::Meta, meta::before(number), head.number.to_be_bytes());
        let oldest = match self.history_blocks {
            // Nobody makes batches of it.
            Some(blocks) => prune::prune(&mut batch, self.reader(), number, blocks, false)?,
            None => None,
        };
        self.commit_batch(batch, &mut failed, number, &root)?;
        *self.chain.write() =
            Chain { head: header, recent: RecentBlocks::default(), unindexed: false };
        if let Some(oldest) = oldest {
            self.metrics.oldest(oldest);
        }
        Ok(())
    }

    /// Takes back the blocks after `number`, the newest first, each in one atomic step: after a crash in between, the store is at one of
    /// them. A [jump](Self::jump) is taken back as a whole, also if that leads below `number`.
    ///
    /// # Errors
    /// [`StoreError::StatePruned`] if the history does not go back so far, with as many blocks taken back as it does;
    /// [`StoreError::Database`] as in [`Self::commit`].
    pub(crate) fn unwind(&self, number: u64) -> Result<(), StoreError> {
        let mut failed = self.writing()?;
        loop {
            let head = self.head();
            if head.number <= number {
                return Ok(());
            }
            let mut batch = self.db.batch();
            let parent = unwind::unwind(&mut batch, self.reader(), &head)?;
            self.write(batch, &mut failed, head.number, "a block cannot be taken back")?;
            debug!(target: "millrace::executor", number = head.number, hash = %head.seal(), "taken back");
            let mut chain = self.chain.write();
            chain.head = parent;
            chain.recent.pop();
            chain.unindexed = false;
        }
    }

    /// The digest of the batch that led to a block by what had changed, or `None` if none did.
    pub(crate) fn stretch(&self, number: u64) -> Result<Option<B256>, StoreError> {
        self.reader().stretch(number)
    }

    /// To be held while something is written.
    fn writing(&self) -> Result<MutexGuard<'_, Option<String>>, StoreError> {
        let failed = self.failed.lock();
        match &*failed {
            Some(reason) => Err(StoreError::Poisoned(reason.clone())),
            None => Ok(failed),
        }
    }

    /// Writes a batch that concerns a block. If that fails, which `problem` is said of, the store stops writing.
    fn write(
        &self,
        batch: Batch<'_>,
        failed: &mut Option<String>,
        number: u64,
        problem: &str,
    ) -> Result<(), StoreError> {
        self.db.write(batch).map_err(|source| {
            error!(target: "millrace::executor", number, error = %source, "{problem}, the store stops writing");
            *failed = Some(source.to_string());
            source.into()
        })
    }

    fn commit_batch(
        &self,
        batch: Batch<'_>,
        failed: &mut Option<String>,
        number: u64,
        root: &RootUpdate,
    ) -> Result<(), StoreError> {
        let bytes = batch.bytes();
        self.write(batch, failed, number, "commit failed")?;
        self.metrics.committed(bytes, root);
        self.metrics.memory(|| self.db.memory());
        debug!(target: "millrace::executor", number, bytes, "committed");
        Ok(())
    }

    fn check_next(&self, block: &ExecutedBlock, root: &RootUpdate) -> Result<(), StoreError> {
        let head = self.head();
        let number = block.number();
        if number != head.number + 1
            || block.header.parent_hash != head.seal()
            || root.parent != head.seal()
        {
            return Err(not_next(number, &head));
        }
        check_root(&block.header, root)
    }

    fn reader(&self) -> ChainReader<'_> {
        ChainReader(self.db.reader())
    }

    #[cfg(test)]
    pub(super) fn db(&self) -> &Db {
        &self.db
    }
}

/// Writes the index of the head's transactions if it was not written any more before the store was closed.
fn complete_index(db: &Db, head: u64) -> Result<(), StoreError> {
    let chain = ChainReader(db.reader());
    // A head that a jump led to has no transactions here.
    if chain.stretch(head)?.is_some() {
        return Ok(());
    }
    let Some(block) = chain.block(BlockSelector::Number(head))? else { return Ok(()) };
    // It is written in one step.
    let Some(first) = block.transactions.first() else { return Ok(()) };
    if chain.locate(first.hash())?.is_none() {
        let mut batch = db.batch();
        write::locations(&mut batch, &block);
        db.write(batch)?;
    }
    Ok(())
}

const fn not_next(number: u64, head: &SealedHeader) -> StoreError {
    StoreError::NotNext { number, head_number: head.inner().number, head_hash: head.seal() }
}

fn check_root(header: &SealedHeader, root: &RootUpdate) -> Result<(), StoreError> {
    let (number, claimed) = (header.number, header.state_root);
    if claimed != root.root {
        return Err(StoreError::RootMismatch { number, header: claimed, computed: root.root });
    }
    Ok(())
}

fn slot_entry(key: &[u8], value: &[u8]) -> Result<(B256, U256), StoreError> {
    let mut cursor = Cursor(key);
    let slot = cursor.take(Address::len_bytes()).and_then(|_| cursor.hash());
    let entry = slot.and_then(|slot| Ok((slot, u256_from(value)?)));
    entry.in_table(Table::Storage)
}

fn check_schema(path: &Path, found: Option<&[u8]>) -> Result<(), StoreError> {
    let Some(found) = found else { return Ok(()) };
    let found = Cursor(found).array().map(u32::from_be_bytes).in_table(Table::Meta)?;
    if found != SCHEMA_VERSION {
        let path = path.to_owned();
        return Err(StoreError::Schema { path, found, expected: SCHEMA_VERSION });
    }
    Ok(())
}

fn check_genesis(path: &Path, chain: ChainReader<'_>, spec: &ChainSpec) -> Result<(), StoreError> {
    let stored = chain
        .genesis()?
        .ok_or_else(|| StoreError::corrupt(Table::Meta, "there is a head, but no genesis"))?;
    let expected = genesis_header(spec).seal();
    if stored != expected {
        return Err(StoreError::WrongGenesis { path: path.to_owned(), stored, expected });
    }
    let (stored, expected) = (chain.payload()?, spec.rollup().batch_payload);
    if stored != expected {
        return Err(StoreError::WrongPayload { path: path.to_owned(), stored, expected });
    }
    Ok(())
}

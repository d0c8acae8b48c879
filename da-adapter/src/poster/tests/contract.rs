//! The contract's rules, and an L1 that does what a test tells it.

use super::*;
use crate::window::L1Window;

/// The contract's rules, and an L1 that does what a test tells it.
#[derive(Debug, Default)]
pub(super) struct TestContract {
    pub(super) state: Mutex<ContractState>,
    /// Says that something else was begun, or let go.
    pub(super) moved: watch::Sender<()>,
}

#[derive(Debug, Default)]
pub(super) struct ContractState {
    pub(super) batches: Vec<PostedBatch>,
    pub(super) deposits: u64,
    /// Whether the account has no role.
    pub(super) is_stranger: bool,
    /// How many of them are overdue.
    pub(super) overdue: u64,
    /// L1's head, and its last final block.
    pub(super) head: u64,
    pub(super) finalized: u64,
    /// Whether L1 does not answer.
    pub(super) down: bool,
    pub(super) epoch: u32,
    /// How many posts will revert.
    pub(super) reverts: u32,
    /// The numbers of all posts that were begun, and whether each was behind another.
    pub(super) begun: Vec<(u64, bool)>,
    /// Batches whose posts wait.
    pub(super) held: BTreeSet<u64>,
    /// The ids of all posts.
    pub(super) sent: Vec<String>,
    pub(super) market: Market,
    /// The pointers of all posts.
    pub(super) pointers: Vec<Bytes>,
}

impl TestContract {
    pub(super) fn reorg(&self, batches: usize) {
        self.state.lock().batches.truncate(batches);
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut ContractState)) {
        change(&mut self.state.lock());
    }

    pub(super) fn up(&self) -> Result<parking_lot::MutexGuard<'_, ContractState>, L1Error> {
        let state = self.state.lock();
        if state.down {
            return Err(L1Error::Inconsistent("down".to_owned()));
        }
        Ok(state)
    }
}

pub(super) fn l1(block: u64) -> L1Ref {
    let hash = B256::from(U256::from(block));
    L1Ref { tx_hash: hash, block: BlockNumHash { number: block, hash } }
}

#[async_trait]
impl PostTarget for TestContract {
    async fn batch_count(&self) -> Result<u64, L1Error> {
        Ok(self.up()?.batches.len() as u64)
    }

    async fn window(&self, consumed: u64, _: Duration) -> Result<L1Window, L1Error> {
        let state = self.up()?;
        let left = match consumed {
            consumed if consumed < state.overdue => 0,
            consumed if consumed < state.deposits => 10,
            _ => 100,
        };
        let due = state.overdue.max(consumed);
        Ok(L1Window { left, whole: 100, block_time: Duration::from_secs(12), due })
    }

    async fn epoch(&self) -> Result<u32, L1Error> {
        Ok(self.up()?.epoch)
    }

    async fn begin_epoch(&self, next: u32) -> Result<(), TxManagerError> {
        self.up()?.epoch = next;
        Ok(())
    }

    async fn deposit_accumulator(&self, count: u64) -> Result<B256, L1Error> {
        let state = self.up()?;
        Ok(if count <= state.deposits { accumulator(count) } else { B256::ZERO })
    }

    async fn records(&self, first: u64, last: u64) -> Result<Vec<PostedBatch>, L1Error> {
        let state = self.up()?;
        let records = state.batches[first as usize - 1..last as usize].iter().cloned();
        Ok(records
            .map(|record| PostedBatch { batch_hash: state.hash_of(record.header.number), ..record })
            .collect())
    }

    async fn last_commitment(&self) -> Result<Option<Commitment>, L1Error> {
        Ok(None)
    }

    async fn market(&self) -> Result<Market, L1Error> {
        Ok(self.up()?.market)
    }

    async fn fee(&self, _: TxHash) -> Result<U256, L1Error> {
        Ok(U256::from(7_000_000_000u64))
    }

    async fn finality(&self, at: &L1Ref) -> Result<Finality, L1Error> {
        let state = self.up()?;
        if at.block.number > state.finalized {
            return Ok(Finality::Pending);
        }
        let there = state.batches.iter().any(|batch| batch.l1 == *at);
        Ok(if there { Finality::Final } else { Finality::Gone })
    }

    async fn batch_hash(&self, number: u64) -> Result<B256, L1Error> {
        Ok(self.up()?.hash_of(number))
    }

    async fn begin(&self, posting: &Posting) -> Result<(), TxManagerError> {
        let mut state = self.up()?;
        let would_revert = |data: Vec<u8>| {
            let reason = RevertReason::new(data.into());
            Err(TxManagerError::WouldRevert { id: posting.id.clone(), reason })
        };
        if state.is_stranger {
            let (sender, open_from) = (Address::ZERO, U256::from(1));
            let alive = Rollup::SequencerIsAlive { sender, openFrom: open_from };
            return would_revert(alive.abi_encode());
        }
        let (index, due_at) = (posting.header.deposits_end, U256::from(1));
        if index < state.overdue {
            return would_revert(Rollup::EntryOverdue { index, dueAt: due_at }.abi_encode());
        }
        state.begun.push((posting.header.number, posting.is_behind));
        drop(state);
        self.moved.send_replace(());
        Ok(())
    }

    async fn post(&self, posting: Posting) -> Result<(), TxManagerError> {
        let number = posting.header.number;
        let mut moved = self.moved.subscribe();
        // As by nonces: none gets in before those that were begun before it.
        while self.state.lock().holds(number) {
            moved.changed().await.expect("it is there as long as the contract");
        }
        let mut state = self.up()?;
        assert_eq!(posting.epoch, state.epoch, "the contract would revert");
        state.sent.push(posting.id.clone());
        state.pointers.push(posting.da_pointer.clone());
        state.head += 1;
        let l1 = l1(state.head);
        if state.reverts > 0 {
            state.reverts -= 1;
            return Err(TxManagerError::Reverted {
                id: posting.id,
                l1,
                reason: None,
                fee_paid: U256::from(1),
            });
        }
        assert_eq!(
            posting.header.number,
            state.batches.len() as u64 + 1,
            "the contract would revert"
        );
        assert_eq!(posting.header.deposits_hash, accumulator(posting.header.deposits_end));
        let in_blobs = posting.header.da_kind == DaKind::L1Blob;
        assert_ne!(posting.blobs.is_empty(), in_blobs);
        assert_eq!(posting.da_pointer.is_empty(), in_blobs);
        state.batches.push(PostedBatch {
            header: posting.header,
            batch_hash: B256::ZERO,
            blob_hashes: Vec::new(),
            da_pointer: posting.da_pointer,
            l1,
            l1_timestamp: 0,
        });
        self.moved.send_replace(());
        Ok(())
    }
}

impl ContractState {
    /// As the contract chains them, as far as tests need it.
    pub(super) fn hash_of(&self, number: u64) -> B256 {
        let batches = self.batches.iter().take(number as usize);
        batches.fold(B256::ZERO, |before, batch| {
            keccak256([before.as_slice(), batch.header.digest.as_slice()].concat())
        })
    }

    pub(super) fn holds(&self, number: u64) -> bool {
        let is_early = self.batches.len() as u64 + 1 < number;
        self.held.contains(&number) || is_early && self.reverts == 0
    }
}

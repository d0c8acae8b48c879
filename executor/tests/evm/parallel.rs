//! What only execution on several threads has.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use alloy::{
    consensus::{
        ReceiptWithBloom, TxReceipt,
        proofs::{calculate_receipt_root, calculate_transaction_root},
    },
    primitives::{Address, B256, Bytes, U256},
};
use millrace_executor::{
    AccessListError, BlockBuilder, BlockOutput, BlockRoots, ExecutionError, ListedExecutor,
    MemoryState, ParallelExecutor, SharedReader, StateReadError, StateReader, WorkerPool,
};
use millrace_proto::{AccountInfo, StateDiff, TxOutcome};

use crate::{
    chain::Chain,
    support::{contracts, spec, wallet::Wallet, word},
};

/// A state that tells what is read, before it is.
struct Watched<F> {
    state: MemoryState,
    tell: F,
    keeps_reads: bool,
}

#[derive(Clone, Copy)]
struct Read {
    /// Whether a thread of the pool reads.
    worker: bool,
    address: Address,
    /// Whether it is a slot that is read, not the account.
    slot: bool,
}

impl<F: Fn(Read)> Watched<F> {
    const fn new(state: MemoryState, tell: F) -> Self {
        Self { state, tell, keeps_reads: false }
    }

    fn tell(&self, address: Address, slot: bool) {
        let worker = thread::current().name().is_some_and(|name| name.starts_with("execute-"));
        (self.tell)(Read { worker, address, slot });
    }
}

impl<F: Fn(Read)> StateReader for Watched<F> {
    fn account(&self, address: Address) -> Result<Option<AccountInfo>, StateReadError> {
        self.tell(address, false);
        self.state.account(address)
    }

    fn storage(&self, address: Address, slot: U256) -> Result<U256, StateReadError> {
        self.tell(address, true);
        self.state.storage(address, slot)
    }

    fn storage_of(&self, address: Address) -> Result<Vec<(U256, U256)>, StateReadError> {
        self.state.storage_of(address)
    }

    fn code(&self, hash: B256) -> Result<Option<Bytes>, StateReadError> {
        self.state.code(hash)
    }

    fn block_hash(&self, number: u64) -> Result<Option<B256>, StateReadError> {
        self.state.block_hash(number)
    }

    fn keeps_reads(&self) -> bool {
        self.keeps_reads
    }
}

/// A state that cannot be read on the pool's threads.
fn trap(state: MemoryState) -> SharedReader {
    Arc::new(Watched::new(state, |read: Read| assert!(!read.worker, "a trap")))
}

fn pool(threads: usize) -> Arc<WorkerPool> {
    let threads = NonZeroUsize::new(threads).expect("there is a thread");
    Arc::new(WorkerPool::new(threads).expect("threads start"))
}

/// Of groups of 256 transactions some are hashed while the block is open, whether or not a thread panics then.
#[test]
fn a_large_block_has_the_roots_that_it_has_at_once() {
    let mut chain = Chain::new(spec("prague", true, &contracts::all()));
    let wallets: Vec<_> = (0..8).map(Wallet::new).collect();
    let round = |nonce| {
        let send =
            move |wallet: &Wallet| wallet.send(nonce, contracts::STORE, 0, 100_000, &word(nonce));
        wallets.iter().map(send).collect::<Vec<_>>()
    };
    let transactions: Vec<_> = (0..100).flat_map(round).collect();
    let plan = chain.plan(0);
    let expected = chain.block(&transactions);
    assert_eq!(expected.output.transactions.len(), 800, "of which three groups are complete");
    let roots = |output: &BlockOutput| (output.transactions_root(), output.receipts_root());
    assert_eq!(roots(&expected.output), by_alloy(&expected.output));

    let state = Chain::new(chain.spec.clone()).state;
    let (trap, pool) = (trap(state.clone()), pool(4));
    let trapped = (0..1_000).any(|_| {
        let mut trapped = false;
        let readers: [SharedReader; 2] = [Arc::new(state.clone()), trap.clone()];
        for reader in readers {
            let mut block =
                BlockBuilder::open(plan.clone(), reader, chain.codes.clone(), pool.clone())
                    .expect("it opens");
            for frame in transactions.chunks(300) {
                block.execute(frame.to_vec()).expect("the state reads");
                block.hash_ahead();
            }
            trapped = block.stats().is_none();
            let (_, output, lists) = block.finish().expect("it closes");
            let BlockRoots { transactions, receipts, .. } =
                BlockRoots::of(&output, lists, B256::ZERO);
            assert_eq!((transactions, receipts), by_alloy(&expected.output));
        }
        trapped
    });
    assert!(trapped, "no thread has met the trap");
}

/// The roots of a block's transactions and receipts as alloy finds them.
fn by_alloy(output: &BlockOutput) -> (B256, B256) {
    let receipts = output.receipts.iter().cloned().map(TxReceipt::into_with_bloom);
    let receipts: Vec<ReceiptWithBloom<_>> = receipts.collect();
    let transactions: Vec<_> = output.transactions.iter().map(|tx| tx.tx().clone()).collect();
    (calculate_transaction_root(&transactions), calculate_receipt_root(&receipts))
}

#[test]
fn a_panic_fails_the_block_and_in_order_it_goes_on() {
    let mut chain = Chain::new(spec("prague", true, &contracts::all()));
    let wallets: Vec<_> = (0..8).map(Wallet::new).collect();
    let round = |nonce| {
        let calls = wallets
            .iter()
            .map(|wallet| wallet.send(nonce, contracts::STORE, 0, 100_000, &word(nonce)));
        calls.collect::<Vec<_>>()
    };
    let (first, second) = (round(0), round(1));
    let plan = chain.plan(0).with_access_list();
    let expected = chain.block(&[&first[..], &second[..]].concat());
    let state = Chain::new(chain.spec.clone()).state;
    let trap = trap(state);

    // Whether a thread of the pool comes to read at all is its own affair, so it is tried until one did.
    let pool = pool(4);
    let failed = (0..1_000).any(|_| {
        let mut parallel =
            ParallelExecutor::open(&plan, trap.clone(), chain.codes.clone(), pool.clone())
                .expect("it opens");
        let result = parallel.execute(first.clone().into());
        let panicked = matches!(result, Err(ExecutionError::Panicked));
        if panicked {
            let again = parallel.execute(second.clone().into());
            assert!(matches!(again, Err(ExecutionError::Panicked)), "{again:?}");
        }
        panicked
    });
    assert!(failed, "no thread has met the trap");

    // Whatever was told of it by then, the rest follows it.
    let mut noted = [false, true].into_iter().cycle();
    let fell_back = (0..1_000).any(|_| {
        let mut block =
            BlockBuilder::open(plan.clone(), trap.clone(), chain.codes.clone(), pool.clone())
                .expect("it opens");
        let mut told = StateDiff::default();
        if noted.next() == Some(true) {
            told.extend(block.changes().expect("the state reads")).expect("it is the first");
        }
        let mut outcomes = Vec::new();
        for frame in [&first, &second] {
            outcomes.extend(block.execute(frame.clone()).expect("it goes on"));
            let diff = block.changes().expect("the state reads");
            told.extend(diff).expect("it follows the frame before");
        }
        assert_eq!(outcomes, expected.outcomes);
        assert_eq!(told.net(), expected.output.diff);
        let in_order = block.stats().is_none();
        let (_, output, _) = block.finish().expect("it closes");
        assert_eq!(output, expected.output);
        in_order
    });
    assert!(fell_back, "no thread has met the trap");
}

#[test]
fn a_panic_fails_a_block_that_is_executed_by_its_list() {
    let mut chain = Chain::new(spec("prague", true, &contracts::all()));
    let calls =
        (0..8).map(|index| Wallet::new(index).send(0, contracts::STORE, 0, 90_000, &word(1)));
    let transactions: Vec<_> = calls.collect();
    let plan = chain.plan(0).with_access_list();
    let block = chain.block(&transactions);
    let trap = trap(Chain::new(chain.spec.clone()).state);
    let list = Arc::new(block.output.access_list.clone().expect("it was asked for"));

    // Whether a thread of the pool comes to read at all is its own affair, so it is tried until one did.
    let pool = pool(4);
    let failed = (0..1_000).any(|_| {
        let (trap, codes) = (trap.clone(), chain.codes.clone());
        let mut listed = ListedExecutor::open(
            &plan,
            trap,
            codes,
            pool.clone(),
            transactions.as_slice().into(),
            list.clone(),
        )
        .expect("it opens");
        match listed.execute() {
            Ok(outcomes) => {
                assert_eq!(outcomes, block.outcomes);
                false
            }
            Err(AccessListError::Execution(ExecutionError::Panicked)) => true,
            Err(error) => panic!("{error}"),
        }
    });
    assert!(failed, "no thread has met the trap");
}

#[test]
fn blocks_use_a_pool_in_turns_and_leave_nothing_behind() {
    let mut chain = Chain::new(spec("prague", true, &contracts::all()));
    let (a, b) = (Wallet::new(0), Wallet::new(1));
    let pool = pool(2);
    for nonce in 0..20 {
        let transactions = [
            a.send(nonce, contracts::STORE, 0, 100_000, &word(nonce)),
            b.send(nonce, contracts::STORE, 0, 100_000, &word(nonce + 100)),
            a.send(nonce + 7, contracts::STORE, 0, 100_000, &word(9)),
        ];
        let plan = chain.plan(0).with_access_list();
        let reader: SharedReader = Arc::new(chain.state.clone());
        let mut parallel =
            ParallelExecutor::open(&plan, reader.clone(), chain.codes.clone(), pool.clone())
                .expect("it opens");
        // One that is given up halfway.
        parallel.execute(transactions[..1].into()).expect("the state reads");
        drop(parallel);
        let mut parallel = ParallelExecutor::open(&plan, reader, chain.codes.clone(), pool.clone())
            .expect("it opens");
        let outcomes = parallel.execute(transactions[..].into()).expect("the state reads");
        assert!(matches!(outcomes[2], TxOutcome::Invalid(_)), "{outcomes:?}");
        let output = parallel.finish().expect("the state reads");
        assert_eq!(output, chain.block(&transactions).output);
    }
}

#[test]
fn accounts_of_plain_transfers_are_read_ahead_and_handed_over() {
    let mut chain = Chain::new(spec("prague", true, &contracts::all()));
    let wallet = Wallet::new(0);
    let recipient = |index: u64| Address::left_padding_from(&(0x10_0000 + index).to_be_bytes());
    let pays = |index| wallet.transfer(index, recipient(index), 1);
    let transactions: Vec<_> = (0..256).map(pays).collect();
    let plan = chain.plan(0).with_access_list();
    // While one thread, whichever has the front, waits at the first transfer, the other reads a chunk of 64 and hands it over, and then
    // reads on.
    let (first, later) = (recipient(0), recipient(128));
    let handed_over: Vec<_> = (64..128).map(recipient).collect();
    let reads = Arc::new(AtomicUsize::new(0));
    let counter = reads.clone();
    let (come, told) = (Mutex::new(false), Condvar::new());
    let tell = move |Read { address, .. }: Read| {
        if address == later {
            *come.lock().expect("no thread panics") = true;
            told.notify_all();
        } else if address == first {
            let come = come.lock().expect("no thread panics");
            let patience = Duration::from_secs(30);
            let waited = told.wait_timeout_while(come, patience, |come| !*come);
            assert!(*waited.expect("no thread panics").0, "nobody reads ahead");
        } else if handed_over.contains(&address) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    };
    let shared: SharedReader = Arc::new(Watched::new(chain.state.clone(), tell));
    let mut block =
        ParallelExecutor::open(&plan, shared, chain.codes.clone(), pool(2)).expect("it opens");
    let outcomes = block.execute(transactions.as_slice().into()).expect("the state reads");
    assert_eq!(reads.load(Ordering::Relaxed), 64, "each is read once");
    assert_eq!(block.stats().plain, 256);
    let expected = chain.block(&transactions);
    assert_eq!(outcomes, expected.outcomes);
    assert_eq!(block.finish().expect("the state reads"), expected.output);
}

#[test]
fn what_transactions_need_that_wait_is_read_ahead() {
    for keeps_reads in [false, true] {
        need_is_read_ahead(keeps_reads);
    }
}

fn need_is_read_ahead(keeps_reads: bool) {
    let mut chain = Chain::new(spec("prague", true, &contracts::all()));
    let wallet = Wallet::new(0);
    let recipient = |index: u64| Address::left_padding_from(&(0x10_0000 + index).to_be_bytes());
    let calls = |index| wallet.send(index, recipient(index), 1, 30_000, &word(0));
    let transactions: Vec<_> = (0..512).map(calls).collect();
    let plan = chain.plan(0).with_access_list();
    // Whoever has the first transaction waits until the other thread has read for one that is too far ahead to be run.
    let (first, later) = (recipient(0), recipient(400));
    let (come, told) = (Mutex::new(false), Condvar::new());
    let tell = move |Read { address, .. }: Read| {
        if address == later {
            *come.lock().expect("no thread panics") = true;
            told.notify_all();
        } else if address == first {
            let come = come.lock().expect("no thread panics");
            let patience = Duration::from_secs(30);
            let waited = told.wait_timeout_while(come, patience, |come| !*come);
            assert!(*waited.expect("no thread panics").0, "nobody reads ahead");
        }
    };
    let watched = Watched { keeps_reads, ..Watched::new(chain.state.clone(), tell) };
    let mut block = ParallelExecutor::open(&plan, Arc::new(watched), chain.codes.clone(), pool(2))
        .expect("it opens");
    let outcomes = block.execute(transactions.as_slice().into()).expect("the state reads");
    let expected = chain.block(&transactions);
    assert_eq!(outcomes, expected.outcomes);
    assert_eq!(block.finish().expect("the state reads"), expected.output);
}

#[test]
fn a_transaction_waits_for_what_failed_without_in_the_block_before() {
    let mut chain = Chain::new(spec("prague", true, &contracts::all()));
    let (a, b, c) = (Wallet::new(0), Wallet::new(1), Wallet::new(2));
    let pool = pool(2);
    let failed = [0, 1].map(|nonce| {
        let transactions = [
            a.send(nonce, contracts::STORE, 0, 100_000, &word(nonce + 5)),
            b.send(nonce, contracts::STORE, 0, 100_000, &word(nonce + 8)),
            c.send(nonce, contracts::ENV, 0, 100_000, &word(0)),
        ];
        // Whoever comes first waits until the other thread has come: to the same slot or, if it knows better, to another.
        let (come, told) = (Mutex::new(Vec::new()), Condvar::new());
        let tell = move |read: Read| {
            if read.slot && [contracts::STORE, contracts::ENV].contains(&read.address) {
                let mut come = come.lock().expect("no thread panics");
                if !come.contains(&read.worker) {
                    come.push(read.worker);
                    told.notify_all();
                }
                let patience = Duration::from_secs(30);
                let waited = told.wait_timeout_while(come, patience, |come| come.len() < 2);
                assert_eq!(waited.expect("no thread panics").0.len(), 2, "the other has not come");
            }
        };
        let plan = chain.plan(0).with_access_list();
        let shared: SharedReader = Arc::new(Watched::new(chain.state.clone(), tell));
        let mut block = ParallelExecutor::open(&plan, shared, chain.codes.clone(), pool.clone())
            .expect("it opens");
        let outcomes = block.execute(transactions.as_slice().into()).expect("the state reads");
        let failed = block.stats().failed;
        let expected = chain.block(&transactions);
        assert_eq!(outcomes, expected.outcomes);
        assert_eq!(block.finish().expect("the state reads"), expected.output);
        failed
    });
    assert_eq!(failed, [1, 0]);
}

//! The open block, read after one of its frames.

use std::sync::Arc;

use alloy::{
    primitives::{Address, B256, U256},
    rpc::types::{
        TransactionRequest,
        simulate::{SimBlock, SimulatePayload},
    },
};
use millrace_proto::{
    BlockBuild, BlockNumHash, BlockSelector, CallRequest, ExecutedBlock, Executor, ExecutorError,
    Noting, OpenPoint, RecoveredTx, StateDiff,
};
use proptest::{prelude::*, test_runner::TestRunner};

use crate::{
    chain::Chain,
    replay::build,
    support::{
        ETHER,
        contracts::{self, ENV, STORE},
        spec,
        wallet::Wallet,
        word,
    },
};

fn point(block: &ExecutedBlock, last: &RecoveredTx) -> OpenPoint {
    OpenPoint { number: block.number(), parent: block.header.parent_hash, last: last.hash() }
}

/// Executes transactions that are all valid, and names the block after them.
async fn frame(
    chain: &Chain,
    build: &mut Box<dyn BlockBuild>,
    transactions: Vec<Arc<RecoveredTx>>,
) -> BlockSelector {
    let head = chain.executor.head().await.expect("there is a head");
    let last = transactions.last().expect("there are some").hash();
    build.execute_noting(transactions, Noting::Kept).await.expect("it executes");
    BlockSelector::Open(OpenPoint { number: head.number + 1, parent: head.seal(), last })
}

/// The state of everything that `diff` names, and what runs on it, at two blocks of two chains.
async fn same(one: (&Chain, BlockSelector), other: (&Chain, BlockSelector), diff: &StateDiff) {
    for (address, account) in &diff.accounts {
        let accounts =
            [one.0.account(*address, one.1).await, other.0.account(*address, other.1).await];
        assert_eq!(accounts[0], accounts[1], "{address}");
        let mut codes = Vec::new();
        for (chain, at) in [one, other] {
            codes.push(chain.executor.code(*address, at).await.expect("it reads"));
        }
        assert_eq!(codes[0], codes[1], "{address}");
        for slot in account.storage.keys() {
            let mut values = Vec::new();
            for (chain, at) in [one, other] {
                values.push(chain.executor.storage(*address, *slot, at).await.expect("it reads"));
            }
            assert_eq!(values[0], values[1], "{address} {slot}");
        }
    }
    // Number, time, base fee, and a hash; with a price, so that the base fee counts.
    let call = TransactionRequest::default().to(ENV).from(Wallet::new(0).address());
    let call = CallRequest { transaction: call, ..CallRequest::default() };
    let mut payload = SimulatePayload::default();
    let of_block = SimBlock { calls: vec![call.transaction.clone()], ..SimBlock::default() };
    payload.block_state_calls = vec![of_block];
    let mut all = Vec::new();
    for (chain, at) in [one, other] {
        let executor = &chain.executor;
        let called = executor.call(call.clone(), at).await.expect("it runs");
        let estimated = executor.estimate_gas(call.clone(), at).await.expect("it runs");
        let listed = executor.create_access_list(call.clone(), at).await.expect("it runs");
        let simulated = executor.simulate(payload.clone(), at).await.expect("it runs");
        let block = &simulated[0].block;
        // The hash of the block before is in neither.
        let roots = (block.header.state_root, block.header.receipts_root, block.header.gas_used);
        all.push((called, estimated, listed.access_list, roots));
    }
    assert_eq!(all[0], all[1]);
}

/// The open block is at each of its frames what the sealed block of the same transactions is.
#[test]
fn an_open_block_reads_as_the_sealed_block_of_its_frames() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let picks = prop::collection::vec(prop::collection::vec((any::<u8>(), any::<u8>()), 1..16), 2);
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(6) };
    TestRunner::new(config)
        .run(&(picks, 0..3_usize), |(picks, begin)| {
            runtime.block_on(async {
                let original = Chain::with_spec(spec("prague", true, &contracts::all()));
                let blocks = build(&original, &picks).await;
                let (_, derived) = &blocks[1];
                let sealed = &blocks[1].0;
                let chain = Chain::with_spec(original.spec.clone());
                seal(&chain, &blocks[0].0, &blocks[0].0.transactions).await;
                let (head, time) =
                    (chain.executor.head().await.expect("a head"), derived.timestamp);
                let attributes = millrace_proto::BlockAttributes::rollup(
                    &chain.spec,
                    &head,
                    time,
                    derived.queued.mark,
                );
                let mut open = chain.executor.open_block(attributes).await.expect("it follows");
                let diff = original.executor.state_diff(2).await.expect("it reads");
                let diff = diff.expect("it is kept");
                let mut points = Vec::new();
                for (number, txs) in sealed.transactions.chunks(3).enumerate() {
                    // Kept from the beginning, or from some frame on.
                    let noting = if number < begin { Noting::Nothing } else { Noting::Kept };
                    open.execute_noting(txs.to_vec(), noting).await.expect("it executes");
                    if number >= begin {
                        let end = number * 3 + txs.len();
                        points.push((end, BlockSelector::Open(point(sealed, &txs[txs.len() - 1]))));
                    }
                }
                for (end, at) in points {
                    let until = Chain::with_spec(original.spec.clone());
                    seal(&until, &blocks[0].0, &blocks[0].0.transactions).await;
                    let transactions = &sealed.transactions[..end];
                    let prefix = seal(&until, sealed, transactions).await;
                    same((&chain, at), (&until, BlockSelector::Latest), &diff).await;
                    let block =
                        chain.executor.block(at).await.expect("it reads").expect("it is open");
                    assert!(block.is_open() && !prefix.is_open());
                    assert_eq!(block.transactions, prefix.transactions);
                    assert_eq!(block.receipts, prefix.receipts);
                    assert_eq!(block.header.gas_used, prefix.header.gas_used);
                }
            });
            Ok(())
        })
        .expect("they are the same");
}

/// Builds a block as another is, of some of its transactions.
async fn seal(
    chain: &Chain,
    like: &ExecutedBlock,
    transactions: &[Arc<RecoveredTx>],
) -> Arc<ExecutedBlock> {
    let head = chain.executor.head().await.expect("there is a head");
    let mark = millrace_proto::QueueMark::of(&like.header).expect("a rollup's");
    let attributes =
        millrace_proto::BlockAttributes::rollup(&chain.spec, &head, like.header.timestamp, mark);
    let mut build = chain.executor.open_block(attributes).await.expect("it follows");
    build.execute(transactions.to_vec()).await.expect("it executes");
    build.seal().await.expect("it seals")
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_read_until_it_is_stored_and_is_the_head_then() {
    let chain = Chain::new();
    let (a, b) = (Wallet::new(0), Address::repeat_byte(0xbb));
    let balance = async |at| chain.account(b, at).await.unwrap_or_default().balance;
    let ether = |count: u64| U256::from(count) * U256::from(ETHER);
    let mut first = chain.open_block(0).await;
    let one = frame(&chain, &mut first, vec![a.transfer(0, b, ETHER)]).await;
    let two = frame(&chain, &mut first, vec![a.transfer(1, b, ETHER)]).await;
    assert_eq!([balance(one).await, balance(two).await], [ether(1), ether(2)]);
    assert_eq!(balance(BlockSelector::Latest).await, U256::ZERO);
    let closed = first.close().await.expect("it closes");
    assert_eq!([balance(one).await, balance(two).await], [ether(1), ether(2)]);

    // The next one stands on what the closed one changed, whether that is stored or not.
    let mark = millrace_proto::QueueMark::of(&closed.header).expect("a rollup's");
    let timestamp = closed.header.timestamp + 1;
    let attributes =
        millrace_proto::BlockAttributes::rollup(&chain.spec, &closed.header, timestamp, mark);
    let mut second = chain.executor.open_block(attributes).await.expect("it follows");
    let txs = vec![a.transfer(2, b, ETHER), a.send(3, STORE, 0, 100_000, &word(9))];
    let last = txs[1].hash();
    second.execute_noting(txs, Noting::Kept).await.expect("it executes");
    let three = BlockSelector::Open(OpenPoint { number: 2, parent: closed.hash(), last });
    assert_eq!(balance(three).await, ether(3));
    first.seal().await.expect("it seals");
    assert_eq!(balance(three).await, ether(3));
    // Never less than the head.
    assert_eq!([balance(one).await, balance(two).await], [ether(2), ether(2)]);
    second.seal().await.expect("it seals");
    assert_eq!(balance(three).await, ether(3));
    let stored = chain.executor.storage(STORE, B256::ZERO, three).await.expect("it reads");
    assert_eq!(stored, U256::from(9));
    assert!(!chain.executor.block(three).await.expect("it reads").expect("the head").is_open());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_what_is_discarded_nothing_is_read() {
    let chain = Chain::new();
    let (a, b) = (Wallet::new(0), Address::repeat_byte(0xbb));
    let genesis = chain.executor.head().await.expect("there is a head");
    let gone = async |at| {
        let read = chain.executor.accounts(&[b], at).await;
        assert!(matches!(read, Err(ExecutorError::BuildDiscarded)), "{read:?}");
    };
    let mut open = chain.open_block(0).await;
    let at = frame(&chain, &mut open, vec![a.transfer(0, b, ETHER)]).await;
    assert!(chain.account(b, at).await.is_some());
    let BlockSelector::Open(point) = at else { panic!("it is open") };
    for other in [
        OpenPoint { parent: B256::ZERO, ..point },
        OpenPoint { last: B256::ZERO, ..point },
        OpenPoint { number: 7, ..point },
    ] {
        gone(BlockSelector::Open(other)).await;
    }
    // Another one in its place.
    let mut again = chain.open_block(0).await;
    gone(at).await;
    let at = frame(&chain, &mut again, vec![a.transfer(0, b, 1)]).await;
    chain.executor.unwind(BlockNumHash::new(0, genesis.seal())).await.expect("it is the head");
    gone(at).await;
    // Nobody asked for it to be kept.
    let mut plain = chain.open_block(0).await;
    let tx = a.transfer(0, b, 2);
    let last = tx.hash();
    plain.execute(vec![tx]).await.expect("it executes");
    let at = BlockSelector::Open(OpenPoint { number: 1, parent: genesis.seal(), last });
    gone(at).await;
    // It is kept from when somebody asks.
    plain.execute_noting(Vec::new(), Noting::Kept).await.expect("it executes");
    assert_eq!(chain.account(b, at).await.unwrap_or_default().balance, U256::from(2));
    assert!(chain.account(b, BlockSelector::Latest).await.is_none());
}

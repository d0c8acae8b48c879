//! The order of frames against a slow and plain way of saying it.

use super::*;

const NONCES: u64 = 5;
const MANY: u8 = 6;

/// A transaction of the test, in the order of arrival.
#[derive(Debug, Clone, Copy)]
struct Bid {
    sender: u8,
    nonce: u64,
    max_fee: u64,
    max_tip: u64,
}

impl Bid {
    fn tx(self) -> Arc<RecoveredTx> {
        let tx = TxEip1559 {
            nonce: self.nonce,
            gas_limit: GAS,
            max_fee_per_gas: self.max_fee.into(),
            max_priority_fee_per_gas: self.max_tip.into(),
            to: TxKind::Call(address(self.sender)),
            ..TxEip1559::default()
        };
        let tx = TxEnvelope::Eip1559(tx.into_signed(Signature::test_signature()));
        Arc::new(RecoveredTx::new_unchecked(tx, address(self.sender)))
    }

    fn tip(self, base_fee: u64) -> Option<u64> {
        Some(self.max_fee.checked_sub(base_fee)?.min(self.max_tip))
    }
}

/// All nonces of all senders, in some order of arrival.
fn arrivals() -> impl Strategy<Value = Vec<Bid>> {
    let keys: Vec<_> =
        (0..MANY).flat_map(|sender| (0..NONCES).map(move |nonce| (sender, nonce))).collect();
    let fees = prop::collection::vec((1..12_u64, 0..12_u64), keys.len());
    (Just(keys).prop_shuffle(), fees).prop_map(|(keys, fees)| {
        let bids = keys.into_iter().zip(fees);
        bids.map(|((sender, nonce), (max_fee, tip))| Bid {
            sender,
            nonce,
            max_fee,
            max_tip: tip.min(max_fee),
        })
        .collect()
    })
}

fn limits(count: usize, base_fee: u64) -> FrameLimits {
    let (gas_left, bytes_left, allowed) = (u64::MAX, usize::MAX, usize::MAX);
    FrameLimits { count, gas_left, bytes_left, allowed, base_fee, wall: WALL }
}

fn filled(order: OrderBy, bids: &[Bid]) -> World {
    let limits = PoolConfig { max_transactions: 40, ..PoolConfig::default() };
    let mut world = World::with_limits(order, limits);
    for bid in bids {
        let mut loaded = Loaded::default();
        let account = Account::for_tests(world.info(bid.sender));
        loaded.accounts.insert(address(bid.sender), account);
        let taken = world.pool.insert(bid.tx(), None, &loaded, world.now);
        world.acceptances.push(taken.expect("there is room"));
    }
    world
}

fn keys(txs: &[Arc<RecoveredTx>]) -> Vec<(u8, u64)> {
    txs.iter().map(|tx| (tx.sender()[0] - 1, tx.tx().nonce())).collect()
}

/// Takes everything that can be taken, in frames of so many.
fn taken(world: &mut World, count: usize, base_fee: u64) -> Vec<(u8, u64)> {
    let mut all = Vec::new();
    loop {
        let frame = world.pool.take_frame(limits(count, base_fee)).txs;
        if frame.is_empty() {
            return all;
        }
        assert!(frame.len() <= count);
        all.extend(keys(&frame));
    }
}

/// When each became executable: on its arrival, or on that of the last nonce before it.
fn executable_order(bids: &[Bid]) -> Vec<Bid> {
    let mut order: Vec<Bid> = Vec::new();
    let mut next = [0; MANY as usize];
    for at in 0..bids.len() {
        let sender = bids[at].sender;
        let here = |nonce| {
            let mut arrived = bids[..=at].iter();
            arrived.find(|bid| (bid.sender, bid.nonce) == (sender, nonce))
        };
        while let Some(bid) = here(next[usize::from(sender)]) {
            order.push(*bid);
            next[usize::from(sender)] += 1;
        }
    }
    order
}

/// The best of the senders' heads, again and again.
fn greedy(bids: &[Bid], base_fee: u64) -> Vec<(u8, u64)> {
    let order = executable_order(bids);
    let mut next = [0; MANY as usize];
    let mut taken = Vec::new();
    loop {
        let heads = order.iter().filter(|bid| bid.nonce == next[usize::from(bid.sender)]);
        let payable = heads.filter(|bid| bid.tip(base_fee).is_some());
        // Of equals, `max_by_key` gives the last.
        let Some(best) = payable.rev().max_by_key(|bid| bid.tip(base_fee)) else { return taken };
        taken.push((best.sender, best.nonce));
        next[usize::from(best.sender)] += 1;
    }
}

/// As they became executable, but for those whose fee, or an earlier nonce's, is too low.
fn first_come(bids: &[Bid], base_fee: u64) -> Vec<(u8, u64)> {
    let mut stuck = [false; MANY as usize];
    let mut taken = Vec::new();
    for bid in executable_order(bids) {
        let stuck = &mut stuck[usize::from(bid.sender)];
        *stuck |= bid.tip(base_fee).is_none();
        if !*stuck {
            taken.push((bid.sender, bid.nonce));
        }
    }
    taken
}

proptest! {
    /// Both take the same transactions, each in its order, however large the frames are, and the same again.
    #[test]
    fn what_is_taken_is_in_the_order_that_was_chosen(
        bids in arrivals(),
        base_fee in 0..8_u64,
        count in 1..40_usize,
    ) {
        let by_arrival = taken(&mut filled(OrderBy::Arrival, &bids), count, base_fee);
        let by_fee = taken(&mut filled(OrderBy::PriorityFee, &bids), count, base_fee);
        prop_assert_eq!(&by_arrival, &first_come(&bids, base_fee));
        prop_assert_eq!(&by_fee, &greedy(&bids, base_fee));
        for (order, all) in [(OrderBy::Arrival, &by_arrival), (OrderBy::PriorityFee, &by_fee)] {
            for sender in 0..MANY {
                let nonces: Vec<_> = all.iter().filter(|key| key.0 == sender).collect();
                prop_assert!(nonces.is_sorted(), "nonces in their order: {nonces:?}");
            }
            let again = taken(&mut filled(order, &bids), NONCES as usize * MANY as usize, base_fee);
            prop_assert_eq!(&again, all);
        }
        let (mut one, mut other) = (by_arrival, by_fee);
        one.sort_unstable();
        other.sort_unstable();
        prop_assert_eq!(one, other, "a permutation");
    }

    /// What was too dear for one block is ranked anew at the base fee of the next, and what comes back from a block too.
    #[test]
    fn another_base_fee_is_another_order(
        bids in arrivals(),
        base_fees in prop::collection::vec(0..10_u64, 3),
        count in 1..10_usize,
    ) {
        let mut world = filled(OrderBy::PriorityFee, &bids);
        for base_fee in base_fees {
            let frame = world.pool.take_frame(limits(count, base_fee)).txs;
            let expected: Vec<_> = greedy(&bids, base_fee).into_iter().take(count).collect();
            prop_assert_eq!(keys(&frame), expected);
            let returned = frame.iter().map(|tx| (tx.hash(), Verdict::Returned)).collect();
            world.pool.settle_frame(returned, world.now);
            world.pool.unpark();
            world.check();
        }
    }
}

#[test]
fn a_replacement_is_ranked_by_what_it_offers() {
    let bid = |sender, max_fee| Bid { sender, nonce: 0, max_fee, max_tip: max_fee };
    let mut world = filled(OrderBy::PriorityFee, &[bid(0, 5), bid(1, 6), bid(2, 7)]);
    assert!(world.pool.has_executable(0));
    let better = bid(0, 20);
    let taken_in = world.pool.insert(better.tx(), None, &Loaded::default(), world.now);
    world.acceptances.push(taken_in.expect("it offers more"));
    assert_eq!(taken(&mut world, 10, 0), [(0, 0), (2, 0), (1, 0)]);
}

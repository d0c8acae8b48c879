//! The pool against a list of everything that happened to it.

mod eviction;
mod order;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use alloy::{
    consensus::{Header, Sealable, SignableTransaction, TxEip1559},
    primitives::{Signature, TxKind},
};
use millrace_proto::{AccountDiff, AccountInfo, ExecutedBlock, TxEnvelope};
use proptest::prelude::*;

use super::*;

const SENDERS: u8 = 3;
const GAS: u64 = 21_000;
/// When what is fresh is accepted.
const WALL: Duration = Duration::from_secs(1);

#[derive(Debug, Clone)]
enum Step {
    Insert { sender: u8, ahead: u64, fee: u64, client: u8 },
    Frame { count: usize, base_fee: u64, verdicts: Vec<u8> },
    Write,
    Seal,
    Expire,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let insert = (0..SENDERS, 0..6_u64, 1..40_u64, 0..3_u8)
        .prop_map(|(sender, ahead, fee, client)| Step::Insert { sender, ahead, fee, client });
    let verdicts = prop::collection::vec(0..6_u8, 8);
    let frame = (1..8_usize, 0..20_u64, verdicts)
        .prop_map(|(count, base_fee, verdicts)| Step::Frame { count, base_fee, verdicts });
    let step = prop_oneof![
        8 => insert,
        3 => frame,
        2 => Just(Step::Write),
        2 => Just(Step::Seal),
        1 => Just(Step::Expire),
    ];
    prop::collection::vec(step, 1..120)
}

fn orders() -> impl Strategy<Value = OrderBy> {
    prop_oneof![Just(OrderBy::Arrival), Just(OrderBy::PriorityFee)]
}

fn source(client: u8) -> Option<Source> {
    let address = (client > 0).then(|| [192, 0, 2, client].into());
    Source::of(address, &PoolConfig::default().trusted_sources)
}

fn address(sender: u8) -> Address {
    Address::repeat_byte(sender + 1)
}

fn tx(sender: u8, nonce: u64, fee: u64) -> Arc<RecoveredTx> {
    let tx = TxEip1559 {
        nonce,
        gas_limit: GAS,
        max_fee_per_gas: fee.into(),
        max_priority_fee_per_gas: fee.into(),
        to: TxKind::Call(address(sender)),
        ..TxEip1559::default()
    };
    let tx = TxEnvelope::Eip1559(tx.into_signed(Signature::test_signature()));
    Arc::new(RecoveredTx::new_unchecked(tx, address(sender)))
}

/// The pool, the chain's nonces, and what the open block has included.
struct World {
    pool: Pool,
    nonces: BTreeMap<u8, u64>,
    included: Vec<Arc<RecoveredTx>>,
    number: u64,
    now: Now,
    acceptances: Vec<Acceptance>,
}

impl World {
    fn new(order: OrderBy) -> Self {
        let limits = PoolConfig {
            max_transactions: 24,
            max_per_sender: 20,
            max_per_source: 9,
            max_bytes_per_source: 900,
            ..Default::default()
        };
        Self::with_limits(order, limits)
    }

    fn with_limits(order: OrderBy, limits: PoolConfig) -> Self {
        Self {
            pool: Pool::new(limits, order, SequencerMetrics::new(), 0),
            nonces: BTreeMap::new(),
            included: Vec::new(),
            number: 0,
            now: Now { instant: Instant::now(), wall: Duration::ZERO },
            acceptances: Vec::new(),
        }
    }

    fn info(&self, sender: u8) -> AccountInfo {
        let nonce = self.nonces.get(&sender).copied().unwrap_or(0);
        AccountInfo { nonce, balance: U256::from(u128::MAX), ..AccountInfo::default() }
    }

    /// From a client; of client 0 nothing is known.
    fn insert(&mut self, sender: u8, ahead: u64, fee: u64, client: u8) {
        let at = self.pool.head();
        let mut loaded = Loaded { at, ..Loaded::default() };
        loaded.accounts.insert(address(sender), Account::for_tests(self.info(sender)));
        let next = self.pool.next_nonce(address(sender)).unwrap_or_default();
        let tx = tx(sender, (next + ahead).saturating_sub(3), fee);
        match self.pool.insert(tx, source(client), &loaded, self.now) {
            Ok(acceptance) => self.acceptances.push(acceptance),
            Err(Refusal::Rejected(_)) => {}
            Err(other) => panic!("{other:?}"),
        }
    }

    /// Takes a frame as the builder does, with made-up verdicts: an executor includes only what follows in its sender's nonces.
    fn frame(&mut self, count: usize, base_fee: u64, verdicts: &[u8]) {
        let (gas_left, bytes_left) = (5 * GAS, 100_000);
        let limits =
            FrameLimits { count, gas_left, bytes_left, allowed: usize::MAX, base_fee, wall: WALL };
        let frame = self.pool.take_frame(limits).txs;
        assert!(frame.len() <= count.min(6));
        let mut results = Vec::new();
        for (tx, verdict) in frame.iter().zip(verdicts.iter().cycle()) {
            assert!(tx.tx().max_fee_per_gas() >= u128::from(base_fee));
            let before = self.included.iter().filter(|other| other.sender() == tx.sender()).count();
            let sender = tx.sender()[0] - 1;
            let expected = self.info(sender).nonce + before as u64;
            let verdict = match verdict {
                _ if tx.tx().nonce() != expected => Verdict::Returned,
                0 => Verdict::Dropped(RejectReason::Expired),
                1 => Verdict::Returned,
                _ => {
                    self.included.push(tx.clone());
                    Verdict::Included
                }
            };
            results.push((tx.hash(), verdict));
        }
        self.write();
        self.pool.settle_frame(results, self.now);
    }

    fn write(&mut self) {
        let mut acks = Acks::default();
        let drops = self.pool.take_drops();
        let fresh = self.pool.take_fresh(WALL);
        self.pool.drops_written(&drops);
        self.pool.written(&fresh, Position(1), self.now, &mut acks);
        self.pool.written(&self.included.clone(), Position(1), self.now, &mut acks);
        acks.send();
    }

    fn seal(&mut self) {
        self.number += 1;
        let mut diff = StateDiff::default();
        for tx in &self.included {
            *self.nonces.entry(tx.sender()[0] - 1).or_default() += 1;
        }
        for sender in 0..SENDERS {
            let after = Some(self.info(sender));
            let change = AccountDiff { after, ..AccountDiff::default() };
            diff.accounts.insert(address(sender), change);
        }
        let header = Header { number: self.number, ..Header::default() };
        let block = ExecutedBlock {
            header: header.seal_slow(),
            transactions: std::mem::take(&mut self.included),
            receipts: Vec::new(),
        };
        self.pool.sealed(&block, Ok(Arc::new(diff)), self.now);
        self.pool.unpark();
    }

    /// What must hold after every step.
    fn check(&self) {
        let pool = &self.pool;
        let (mut count, mut bytes, mut queued, mut listed) = (0, 0, 0, 0);
        let mut known = (0, 0);
        for (address, sender) in &pool.senders {
            let mut cost = U256::ZERO;
            for (nonce, entry) in &sender.entries {
                count += 1;
                bytes += entry.tx.encoded().len();
                cost += entry.cost;
                assert_eq!(pool.by_hash.get(&entry.tx.hash()), Some(&(*address, *nonce)));
                assert_eq!((entry.tx.sender(), entry.tx.tx().nonce()), (*address, *nonce));
                let key = (*address, *nonce);
                let is_parked = matches!(entry.place, Place::Pending(place) if pool.parked.contains_key(&place));
                assert!(entry.listed || !(is_parked || entry.place == Place::Queued));
                assert_eq!(entry.listed, pool.waiting.names(entry));
                listed += usize::from(entry.listed);
                if entry.source.is_some() {
                    known = (known.0 + 1, known.1 + entry.tx.encoded().len());
                }
                match entry.place {
                    Place::Queued => {
                        queued += 1;
                        assert!(*nonce > sender.next, "{nonce} could be pending");
                        assert!(entry.expires.is_some(), "it expires");
                    }
                    Place::Pending(place) => {
                        assert!((sender.next_frame..sender.next).contains(nonce));
                        let ready = pool.ready.get(&place).or_else(|| pool.parked.get(&place));
                        assert_eq!(ready, Some(&key));
                    }
                    Place::Framed(_) => assert!(*nonce < sender.next_frame),
                }
            }
            assert_eq!(sender.cost, cost);
            assert!(!sender.entries.contains_key(&sender.next));
            let places: Vec<u64> = (sender.entries.values())
                .filter_map(|entry| match entry.place {
                    Place::Pending(place) | Place::Framed(place) => Some(place),
                    Place::Queued => None,
                })
                .collect();
            assert!(places.is_sorted(), "one sender's are in the order of their nonces");
        }
        assert_eq!((count, bytes, queued), (pool.by_hash.len(), pool.bytes, pool.queued));
        assert_eq!(listed, pool.waiting.len());
        assert_eq!(known, pool.sources.totals());
        assert!(count <= pool.limits.max_transactions && bytes <= pool.limits.max_bytes);
        let pending = pool.status().pending as usize;
        let framed = self.included.len();
        assert_eq!(pending + queued + framed, count);
    }
}

proptest! {
    #[test]
    fn it_always_holds_together(order in orders(), steps in steps()) {
        let mut world = World::new(order);
        for step in steps {
            match step {
                Step::Insert { sender, ahead, fee, client } => {
                    world.insert(sender, ahead, fee, client);
                }
                Step::Frame { count, base_fee, verdicts } => world.frame(count, base_fee, &verdicts),
                Step::Write => world.write(),
                Step::Seal => world.seal(),
                Step::Expire => {
                    world.now.instant += Duration::from_secs(700);
                    world.pool.expire(world.now);
                }
            }
            world.check();
        }
    }
}

#[test]
fn a_frame_takes_no_more_bytes_than_the_block_has_left() {
    let mut world = World::new(OrderBy::Arrival);
    for _ in 0..6 {
        world.insert(0, 3, 1, 0);
    }
    let size = tx(0, 0, 1).batch_bytes();
    let mut take = |bytes_left, allowed| {
        let limits = FrameLimits {
            count: 10,
            gas_left: u64::MAX,
            bytes_left,
            allowed,
            base_fee: 0,
            wall: WALL,
        };
        let frame = world.pool.take_frame(limits);
        (frame.txs.len(), frame.is_full)
    };
    assert_eq!(take(size - 1, usize::MAX), (0, true), "nobody overtakes the one that does not fit");
    assert_eq!(take(10 * size, size - 1), (0, false), "it may be taken later");
    assert_eq!(take(2 * size + 1, usize::MAX), (2, true));
    assert_eq!(take(10 * size, 2 * size), (2, false));
    assert_eq!(take(2 * size, usize::MAX), (2, false), "nobody waits");
}

#[test]
fn a_block_is_full_of_gas_when_the_first_does_not_fit() {
    let mut world = World::new(OrderBy::Arrival);
    for _ in 0..3 {
        world.insert(0, 3, 1, 0);
    }
    let mut take = |count, gas_left| {
        let (bytes_left, allowed) = (usize::MAX, usize::MAX);
        let limits = FrameLimits { count, gas_left, bytes_left, allowed, base_fee: 0, wall: WALL };
        let frame = world.pool.take_frame(limits);
        (frame.txs.len(), frame.is_full)
    };
    assert_eq!(take(10, GAS - 1), (0, true));
    assert_eq!(take(1, GAS), (1, false), "the frame is full, not the block");
    assert_eq!(take(10, GAS - 1), (0, true));
    assert_eq!(take(10, 3 * GAS / 2), (2, false), "the second may use less than it may use");
}

#[test]
fn times_of_expiry_do_not_pile_up() {
    let mut world = World::new(OrderBy::Arrival);
    for _ in 0..1_200 {
        // The second nonce, which waits for the first, and that.
        world.insert(0, 4, 1, 0);
        world.insert(0, 3, 1, 0);
        world.frame(2, 0, &[2]);
        world.seal();
        world.check();
    }
    assert_eq!(world.pool.by_hash.len(), 0);
    assert!(world.pool.expiry.len() >= 1_200, "nothing of it is due");
    world.pool.expire(world.now);
    assert!(world.pool.expiry.len() <= 1_024);
}

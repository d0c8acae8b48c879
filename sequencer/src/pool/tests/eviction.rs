//! What gives way in a full pool, and what never does.

use super::{super::eviction::Newcomer, *};

/// Sender, nonce, fee.
type Key = (u8, u64, u64);

fn full_of(max_transactions: usize, held: &[Key]) -> World {
    full_by(OrderBy::Arrival, max_transactions, held)
}

fn full_by(order: OrderBy, max_transactions: usize, held: &[Key]) -> World {
    let limits = PoolConfig { max_transactions, ..PoolConfig::default() };
    let mut world = World::with_limits(order, limits);
    for key in held {
        take(&mut world, *key).expect("there is room");
    }
    world.write();
    world
}

fn take(world: &mut World, (sender, nonce, fee): Key) -> Result<(), RejectReason> {
    let mut loaded = Loaded { at: world.pool.head(), ..Loaded::default() };
    let account = Account::for_tests(world.info(sender));
    loaded.accounts.insert(address(sender), account);
    let taken = world.pool.insert(tx(sender, nonce, fee), None, &loaded, world.now);
    world.check();
    match taken {
        Ok(acceptance) => {
            world.acceptances.push(acceptance);
            Ok(())
        }
        Err(Refusal::Rejected(reason)) => Err(reason),
        Err(other) => panic!("{other:?}"),
    }
}

fn holds(world: &World, (sender, nonce, fee): Key) -> bool {
    world.pool.holds(tx(sender, nonce, fee).hash())
}

const FULL: Result<(), RejectReason> = Err(RejectReason::PoolFull { limit: 4 });

#[test]
fn one_that_can_be_executed_takes_the_place_of_the_cheapest_that_waits() {
    let mut world = full_of(4, &[(0, 1, 30), (1, 1, 20), (1, 2, 40), (2, 0, 1)]);
    assert_eq!(take(&mut world, (3, 0, 20)), FULL, "what was there first stays, for the same");
    take(&mut world, (3, 0, 21)).expect("it offers more than 20");
    // Behind the cheapest there was another one, which could not be executed before it.
    assert!(!holds(&world, (1, 2, 40)) && holds(&world, (1, 1, 20)));
    let drops = world.pool.take_drops();
    assert_eq!(drops.len(), 1);
    let (dropped, reason) = (drops[0].tx.hash(), &drops[0].reason);
    assert_eq!((dropped, reason), (tx(1, 2, 40).hash(), &RejectReason::Evicted));
    take(&mut world, (4, 0, 21)).expect("it offers more than 20");
    assert!(!holds(&world, (1, 1, 20)));
    assert_eq!(take(&mut world, (5, 0, 30)), FULL);
    take(&mut world, (5, 0, 31)).expect("it offers more than 30");
    assert!(!holds(&world, (0, 1, 30)));
    assert_eq!(take(&mut world, (6, 0, 99)), FULL, "whatever it pays: nothing waits");
}

#[test]
fn one_that_would_wait_takes_the_place_of_what_offers_a_tenth_less() {
    let mut world = full_of(4, &[(0, 1, 100), (1, 1, 200), (2, 0, 1), (2, 1, 1)]);
    assert_eq!(take(&mut world, (3, 1, 109)), FULL);
    take(&mut world, (3, 1, 110)).expect("it offers a tenth more");
    assert!(!holds(&world, (0, 1, 100)));
    assert_eq!(take(&mut world, (0, 1, 100)), FULL, "it does not come back for the same");
    assert!(holds(&world, (2, 0, 1)) && holds(&world, (2, 1, 1)), "these can be executed");
}

#[test]
fn what_a_base_fee_keeps_waiting_gives_way_from_its_end() {
    let mut world = full_of(4, &[(0, 0, 5), (0, 1, 50), (1, 0, 9), (2, 3, 7)]);
    assert!(!world.pool.has_executable(10), "nobody pays as much");
    world.check();
    let asked = |max_fee| Asked { hash: TxHash::ZERO, bytes: 100, max_fee, source: None };
    assert!(world.pool.has_room_for(asked(6)).is_ok(), "5 and a tenth");
    assert!(world.pool.has_room_for(asked(5)).is_err());
    take(&mut world, (3, 0, 12)).expect("it offers more than 5");
    assert!(holds(&world, (0, 0, 5)) && !holds(&world, (0, 1, 50)));
    // It would follow one that waits.
    assert_eq!(take(&mut world, (1, 1, 5)), FULL);
    take(&mut world, (1, 1, 6)).expect("it offers more than 5");
    assert!(!holds(&world, (0, 0, 5)));
    // With a lower base fee they do not wait any more.
    world.pool.unpark();
    assert!(world.pool.has_executable(1));
    take(&mut world, (4, 0, 12)).expect("it offers more than 7");
    assert!(!holds(&world, (2, 3, 7)), "its nonce still does not come");
    assert_eq!(take(&mut world, (5, 0, 12)), FULL);
}

#[test]
fn what_a_base_fee_keeps_waiting_gives_way_though_others_are_never_all_taken() {
    let mut world =
        full_by(OrderBy::PriorityFee, 4, &[(0, 0, 5), (1, 0, 50), (2, 0, 50), (3, 0, 50)]);
    let limits = FrameLimits {
        count: 1,
        gas_left: u64::MAX,
        bytes_left: usize::MAX,
        allowed: usize::MAX,
        base_fee: 10,
        wall: WALL,
    };
    world.included = world.pool.take_frame(limits).txs;
    assert_eq!(world.included.len(), 1);
    take(&mut world, (4, 0, 12)).expect("5 is below the base fee");
    assert!(!holds(&world, (0, 0, 5)));
    assert_eq!(take(&mut world, (5, 0, 99)), FULL, "these can be executed");
}

#[test]
fn one_whose_nonce_does_not_come_takes_no_place_of_what_can_be_executed_at_a_lower_base_fee() {
    let mut world = full_of(4, &[(0, 0, 5), (1, 0, 9), (2, 0, 9), (3, 2, 7)]);
    assert!(!world.pool.has_executable(10), "nobody pays as much");
    take(&mut world, (4, 1, 99)).expect("nor does the other's nonce");
    assert!(!holds(&world, (3, 2, 7)) && holds(&world, (0, 0, 5)));
    assert_eq!(take(&mut world, (5, 1, 99)), FULL);
    take(&mut world, (5, 0, 12)).expect("it offers more than 5");
    assert!(!holds(&world, (0, 0, 5)));
}

#[test]
fn a_frame_and_what_a_sender_sends_after_it_are_safe() {
    let mut world = full_of(4, &[(0, 0, 5), (0, 1, 5), (1, 1, 5), (2, 1, 5)]);
    let limits = FrameLimits {
        count: 1,
        gas_left: u64::MAX,
        bytes_left: usize::MAX,
        allowed: usize::MAX,
        base_fee: 0,
        wall: WALL,
    };
    let frame = world.pool.take_frame(limits).txs;
    assert_eq!(frame.len(), 1);
    world.included = frame;
    for sender in [3, 4] {
        take(&mut world, (sender, 0, 6)).expect("it offers more than 5");
    }
    assert!(!holds(&world, (1, 1, 5)) && !holds(&world, (2, 1, 5)));
    assert!(holds(&world, (0, 0, 5)) && holds(&world, (0, 1, 5)));
    assert_eq!(take(&mut world, (5, 0, 500)), FULL);
}

#[test]
fn bytes_are_a_limit_too_and_nothing_goes_where_it_is_not_enough() {
    let size = tx(0, 1, 5).encoded().len();
    let limits = PoolConfig { max_bytes: 4 * size, ..PoolConfig::default() };
    let mut world = World::with_limits(OrderBy::Arrival, limits);
    for key in [(0, 1, 5), (0, 2, 5), (0, 3, 5), (1, 0, 5)] {
        take(&mut world, key).expect("there is room");
    }
    let limit = world.pool.limits.max_transactions as u64;
    let large =
        |bytes, waits| Newcomer { address: address(7), bytes, max_fee: 6, waits, has_gap: false };
    let full = Err(RejectReason::PoolFull { limit });
    assert_eq!(world.pool.victims(large(3 * size + 1, false)), full);
    let hashes = |nonces: &[u64]| nonces.iter().map(|nonce| tx(0, *nonce, 5).hash()).collect();
    assert_eq!(world.pool.victims(large(2 * size, false)), Ok(hashes(&[3, 2])));
    assert_eq!(world.pool.victims(large(3 * size, true)), Ok(hashes(&[3, 2, 1])));
    take(&mut world, (2, 0, 6)).expect("it offers more than 5");
    assert!(!holds(&world, (0, 3, 5)) && holds(&world, (0, 2, 5)));
}

use std::{
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use alloy_primitives::{B256, Signature};
use rand::RngExt;

use super::*;
use crate::{
    lanes::LANES,
    recover::{recover, recover_batch, recover_in_lanes, recover_key},
    torture::{Torture, edges, signed},
};

/// Recovered in lanes, the answers are libsecp256k1's.
fn agree<L: Lanes>(there: There<L>, signatures: &[(Signature, B256)]) {
    let keys = recover_in_lanes(there, signatures);
    assert_eq!(keys.len(), signatures.len());
    for (at, ((signature, hash), key)) in signatures.iter().zip(keys).enumerate() {
        assert_eq!(key, recover_key(signature, *hash), "{at}: {signature:?} {hash}");
    }
}

fn agree_everywhere(signatures: &[(Signature, B256)]) {
    agree(There::ALWAYS, signatures);
    if let Some(there) = There::<Avx512>::detect() {
        agree(there, signatures);
    }
}

#[test]
fn keys_are_libsecp256k1s() {
    let mut rng = rng(1);
    let signatures: Vec<_> = (0..1000).map(|_| signed(&mut rng)).collect();
    agree_everywhere(&signatures);
    for count in 0..30 {
        agree_everywhere(&signatures[..count]);
    }
}

#[test]
fn edges_in_every_lane() {
    let mut rng = rng(3);
    let edges = edges();
    // As many good ones in front as move each case to each lane.
    let mut signatures: Vec<_> = (0..LANES).map(|_| signed(&mut rng)).collect();
    for &r in &edges {
        for &s in &edges {
            for odd in [false, true] {
                let hash = edges[rng.random_range(0..edges.len())];
                signatures.push((Signature::new(r, s, odd), B256::from(hash)));
            }
        }
    }
    // With an r that is a point's x, so that the rest is reached.
    for &s in &edges {
        for &hash in &edges {
            let (good, _) = signed(&mut rng);
            signatures.push((Signature::new(good.r(), s, good.v()), B256::from(hash)));
        }
    }
    for lane in 0..LANES {
        agree_everywhere(&signatures[lane..]);
    }
}

/// More than a batch is shared out to threads, whose answers come in order.
#[test]
fn any_number_on_any_number_of_threads() {
    let mut rng = rng(5);
    let edges = edges();
    let signatures: Vec<_> = (0..1500)
        .map(|at| match (at % 5, signed(&mut rng)) {
            (0, (good, hash)) => {
                (Signature::new(edges[at % edges.len()], good.s(), good.v()), hash)
            }
            (_, good) => good,
        })
        .collect();
    let want: Vec<_> =
        signatures.iter().map(|(signature, hash)| recover(signature, *hash)).collect();
    for threads in [1, 2, 7, 64] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        for count in [0, 1, 65, 256, 257, 600, 1500] {
            let found = pool.install(|| recover_batch(&signatures[..count]));
            assert_eq!(found, want[..count], "{count} on {threads} threads");
        }
    }
}

/// A million made-up signatures, and some on the plain lanes where there are others. `millrace torture crypto` checks more.
#[test]
fn a_million_made_up_signatures() {
    let batches = 1_000_000_u64.div_ceil(Torture::BATCH);
    let (torture, plain) = (Torture::new(1, false), Torture::new(2, true));
    let next = AtomicU64::new(0);
    let check = || {
        let mut signers = 0;
        loop {
            let batch = next.fetch_add(1, Ordering::Relaxed);
            if batch >= batches {
                return signers;
            }
            let tally = torture.check(batch).unwrap_or_else(|difference| panic!("{difference}"));
            assert_eq!(tally.signatures, Torture::BATCH);
            signers += tally.signers;
            if batch.is_multiple_of(16) {
                plain.check(batch).unwrap_or_else(|difference| panic!("{difference}"));
            }
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let signers: u64 = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(check)).collect();
        threads.into_iter().map(|thread| thread.join().expect("no difference")).sum()
    });
    // Half of all numbers are no point's x.
    assert!(signers > 500_000 && signers < 600_000, "{signers}");
}

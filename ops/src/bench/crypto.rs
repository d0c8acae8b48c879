//! `millrace bench crypto`: signatures, hashes and whole transactions several at a time, beside one at a time.

use std::{convert::Infallible, hint::black_box, num::NonZeroUsize, path::PathBuf, time::Duration};

use alloy::{
    consensus::{EthereumTxEnvelope, TxEip4844, transaction::SignerRecoverable},
    eips::Decodable2718,
    primitives::{B256, Bytes, Signature, keccak256},
};
use clap::Args;
use eyre::{Result, WrapErr, bail};
use millrace_crypto::{engine, keccak256_batch, recover_keys};
use millrace_proto::RecoveredTx;
use millrace_workload::{
    Fixture,
    bench::{Row, Summary, Target},
};
use rayon::{ThreadPool, ThreadPoolBuilder};
use secp256k1::{
    Message, SECP256K1, SecretKey,
    ecdsa::{RecoverableSignature, RecoveryId},
};

use super::{is_wanted, median, print_json, print_summary, time};

/// For how long one way of a case is measured at a time.
const SLICE: Duration = Duration::from_millis(25);
/// How often bare recovery is measured where that is not given.
const ROUNDS: usize = 21;
/// As many at once as are not shared out to other threads.
const BATCH: usize = 256;

#[derive(Debug, Clone, Args)]
pub(crate) struct CryptoArgs {
    /// Ethereum mainnet blocks, whose transactions are measured: a file of the format `evm-block-fixture/1`, or a folder of them.
    #[arg(long, value_name = "FILE|DIR")]
    blocks: Option<PathBuf>,

    /// Numbers of threads.
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_value = "1,2")]
    threads: Vec<NonZeroUsize>,

    /// How often each way is measured, in turn with the others; the median counts.
    #[arg(long, value_name = "N", default_value_t = 11, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,

    /// Only cases whose names hold one of these.
    #[arg(long, value_name = "NAME,NAME", value_delimiter = ',')]
    cases: Vec<String>,

    /// Print one JSON object a line to standard output.
    #[arg(long)]
    json: bool,
}

/// A piece of work that can be done two ways.
struct Case {
    name: String,
    /// How many results one run of it gives.
    count: usize,
    /// How many times as fast ours has to be.
    goal: Option<f64>,
    singly: Work,
    batch: Work,
}

type Work = Box<dyn Fn() + Send + Sync>;

/// Runs the benchmark.
pub(super) fn run(args: &CryptoArgs) -> Result<()> {
    eprintln!("{}", engine());
    let cases = cases(args)?;
    let mut targets = Vec::new();
    for threads in args.threads.iter().map(|threads| threads.get()) {
        let pool = ThreadPoolBuilder::new().num_threads(threads).build()?;
        for case in &cases {
            let (singly, batch) = measure(case, &pool, usize::from(args.rounds));
            if args.json {
                for (way, time) in [("singly", singly), ("batch", batch)] {
                    print_json(&row(case, threads, way, time, singly))?;
                }
            } else {
                println!(
                    "{:20} {threads} threads  singly {singly:9.1} ns  batch {batch:9.1} ns ({:.2})",
                    case.name,
                    singly / batch
                );
            }
            if let Some(goal) = case.goal {
                targets.push(Target::new(
                    format!("{}, {threads} threads", case.name),
                    goal,
                    singly / batch,
                ));
            }
        }
    }
    let summary = Summary::new(targets);
    if args.json {
        return print_json(&summary);
    }
    print_summary(&summary);
    Ok(())
}

/// Signers that libsecp256k1 recovers a second on all processors, one at a time.
pub(super) fn recover_per_s() -> Result<f64> {
    let pool = ThreadPoolBuilder::new().build()?;
    let (singly, _) = measure(&recovery(BATCH, None)?, &pool, ROUNDS);
    Ok(pool.current_num_threads() as f64 * 1e9 / singly)
}

/// Results a second, of all threads.
fn row(case: &Case, threads: usize, way: &'static str, time: f64, singly: f64) -> Row {
    let rate = |time: f64| threads as f64 * 1e9 / time;
    Row {
        bench: "crypto",
        case: case.name.clone(),
        way,
        threads,
        metric: "throughput",
        value: rate(time),
        unit: "1/s",
        baseline: rate(singly),
        ratio: singly / time,
    }
}

/// Medians of nanoseconds a result and thread, both ways: every thread does the whole work for itself.
fn measure(case: &Case, pool: &ThreadPool, rounds: usize) -> (f64, f64) {
    let (mut singly, mut batch) = (Vec::new(), Vec::new());
    for round in 0..=rounds {
        for (work, times) in [(&case.singly, &mut singly), (&case.batch, &mut batch)] {
            let each: Vec<f64> = pool.broadcast(|_| nanoseconds(work, case.count));
            // The first round warms up.
            if round > 0 {
                times.push(each.iter().sum::<f64>() / each.len() as f64);
            }
        }
    }
    (median(&mut singly), median(&mut batch))
}

/// Nanoseconds that one of `count` results takes.
fn nanoseconds(work: &Work, count: usize) -> f64 {
    let Ok(seconds) = time(SLICE, || {
        work();
        Ok::<_, Infallible>(())
    });
    seconds * 1e9 / count as f64
}

fn cases(args: &CryptoArgs) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for count in [1, 4, 8, 16, 32, 64, 128, 256] {
        cases.push(recovery(count, (count == 256).then_some(4.0))?);
    }
    for length in [20, 32, 64, 100, 136, 532, 1100] {
        let goal = matches!(length, 64..=136 | 532).then_some(3.0);
        cases.push(hashing(format!("keccak256_{length}"), vec![length; 256], goal));
    }
    cases.push(hashing("keccak256_64_8".into(), vec![64; 8], None));
    let mixed = (0..256).map(|at| 64 + at * 37 % 500).collect();
    cases.push(hashing("keccak256_mixed".into(), mixed, None));
    if let Some(path) = &args.blocks {
        for block in Fixture::read_all(path).wrap_err("cannot read the blocks")? {
            let raw: Vec<Bytes> =
                block.transactions.iter().map(|tx| tx.encoded().clone()).collect();
            if !raw.is_empty() {
                cases.push(transactions(format!("block_{}", block.number), raw));
            }
        }
    }
    cases.retain(|case| is_wanted(&case.name, &args.cases));
    if cases.is_empty() {
        bail!("no case has such a name");
    }
    Ok(cases)
}

fn recovery(count: usize, goal: Option<f64>) -> Result<Case> {
    let signed =
        (0..count.next_multiple_of(256)).map(|at| sign(at as u64)).collect::<Result<Vec<_>>>()?;
    let ours = signed.clone();
    Ok(Case {
        name: format!("recovery_{count}"),
        count: signed.len(),
        goal,
        singly: Box::new(move || {
            for (signature, hash) in &signed {
                let _ = black_box(recover_singly(signature, *hash));
            }
        }),
        batch: Box::new(move || {
            for signatures in ours.chunks(count) {
                black_box(recover_keys(signatures));
            }
        }),
    })
}

fn hashing(name: String, lengths: Vec<usize>, goal: Option<f64>) -> Case {
    let messages: Vec<Vec<u8>> =
        lengths.into_iter().enumerate().map(|(at, length)| vec![at as u8; length]).collect();
    let ours = messages.clone();
    Case {
        name,
        count: messages.len(),
        goal,
        singly: Box::new(move || {
            for message in &messages {
                black_box(keccak256(message));
            }
        }),
        batch: Box::new(move || {
            black_box(keccak256_batch(&ours));
        }),
    }
}

/// From bytes to a transaction with its hash and its sender.
fn transactions(name: String, raw: Vec<Bytes>) -> Case {
    let ours = raw.clone();
    Case {
        name,
        count: raw.len(),
        goal: Some(3.5),
        singly: Box::new(move || {
            for raw in &raw {
                let tx = EthereumTxEnvelope::<TxEip4844>::decode_2718(&mut raw.as_ref());
                black_box(tx.map(|tx| (*tx.hash(), tx.recover_signer())).ok());
            }
        }),
        batch: Box::new(move || {
            for raw in ours.chunks(BATCH) {
                black_box(RecoveredTx::decode_batch(raw.to_vec()));
            }
        }),
    }
}

/// A good signature by a key that follows from a number.
fn sign(number: u64) -> Result<(Signature, B256)> {
    let key = SecretKey::from_byte_array(keccak256(number.to_le_bytes()).0)?;
    let hash = keccak256(key.secret_bytes());
    let signature = SECP256K1.sign_ecdsa_recoverable(Message::from_digest(hash.0), &key);
    let (id, rs) = signature.serialize_compact();
    Ok((Signature::from_bytes_and_parity(&rs, id == RecoveryId::One), hash))
}

/// As everyone does: libsecp256k1 for a signature.
fn recover_singly(signature: &Signature, hash: B256) -> Result<[u8; 65]> {
    let id = if signature.v() { RecoveryId::One } else { RecoveryId::Zero };
    let signature = RecoverableSignature::from_compact(&signature.as_rsy()[..64], id)?;
    let key = SECP256K1.recover_ecdsa(Message::from_digest(hash.0), &signature)?;
    Ok(key.serialize_uncompressed())
}

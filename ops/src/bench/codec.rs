//! `millrace bench codec`: the bytes of batches, and the time that making them takes, beside other encodings.

use std::{hint::black_box, path::PathBuf, time::Duration};

use alloy::{
    eips::{Decodable2718, Encodable2718},
    primitives::{Signature, U256},
};
use brotlic::{BrotliEncoderOptions, CompressorWriter, DecompressorReader, Quality, WindowSize};
use clap::Args;
use eyre::{Result, WrapErr, bail};
use millrace_da_adapter::DaAdapterConfig;
use millrace_proto::{Batch, BatchDictionary, BatchLimits, TxEnvelope};
use millrace_workload::{
    Artifacts, Fixture, Scenario,
    bench::{Row, Summary, Target},
    scenarios,
};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{is_wanted, median, print_json, print_summary, span_batch, time};
use crate::{
    cli::existing,
    dictionary::{Trainer, batch_of, mainnet_batch},
};

/// For how long one way is measured at a time, at least.
const SLICE: Duration = Duration::from_millis(20);

#[derive(Debug, Clone, Args)]
pub(crate) struct CodecArgs {
    /// A node_modules folder with the contracts' packages; `tests/setup.sh` makes this one.
    #[arg(long, value_name = "DIR", default_value = ".tools/node_modules")]
    packages: PathBuf,

    /// Ethereum mainnet blocks: a file of the format `evm-block-fixture/1`, or a folder of them.
    #[arg(long, value_name = "FILE|DIR", value_parser = existing)]
    blocks: Option<PathBuf>,

    /// zstd's level for Millrace's own batches; the DA adapter's where not given.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=22))]
    level: Option<i32>,

    /// How often each way is measured, in turn with the others; the median counts.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,

    /// Only cases whose names hold one of these.
    #[arg(long, value_name = "NAME,NAME", value_delimiter = ',')]
    cases: Vec<String>,

    /// Print one JSON object a line to standard output.
    #[arg(long)]
    json: bool,
}

/// A batch to encode.
struct Case {
    name: String,
    batch: Batch,
    /// The transactions as they were sent, one after another.
    raw: Vec<u8>,
    /// Made without having seen this batch.
    dictionary: Option<BatchDictionary>,
    /// Whether it counts for the goals: it is a real block.
    real: bool,
}

/// A way of encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Rlp,
    RlpZstd,
    RlpBrotli,
    SpanBrotli,
    Transactions,
}

impl Way {
    const ALL: [Self; 5] =
        [Self::Rlp, Self::RlpZstd, Self::RlpBrotli, Self::SpanBrotli, Self::Transactions];

    const fn name(self) -> &'static str {
        match self {
            Self::Rlp => "rlp",
            Self::RlpZstd => "rlp_zstd",
            Self::RlpBrotli => "rlp_brotli_11",
            Self::SpanBrotli => "span_brotli_10",
            Self::Transactions => "transactions",
        }
    }
}

/// What was measured of a way: bytes, and seconds.
#[derive(Debug, Clone, Copy)]
struct Measured {
    bytes: usize,
    encode: f64,
    decode: f64,
}

/// Runs the benchmark.
pub(super) fn run(args: &CodecArgs) -> Result<()> {
    let level = args.level.unwrap_or_else(|| DaAdapterConfig::default().zstd_level);
    let cases = cases(args)?;
    let mut ratios = Vec::new();
    for case in &cases {
        let measured = measure(case, level, args.rounds.into())?;
        let of = |way| measured[Way::ALL.iter().position(|other| *other == way).unwrap_or(0)];
        let span = of(Way::SpanBrotli);
        for (way, measured) in Way::ALL.into_iter().zip(&measured) {
            for row in rows(case, way, *measured, span) {
                if args.json {
                    print_json(&row)?;
                } else if row.metric == "bytes" {
                    print!(
                        "{:20} {:15} {:8.2} bytes a transaction ({:.3})",
                        row.case, row.way, row.value, row.ratio
                    );
                } else {
                    print!("  {} {:8.1} MB/s", row.metric, row.value);
                }
            }
            if !args.json {
                println!();
            }
        }
        if case.real {
            let ours = of(Way::Transactions);
            ratios.push((ours.bytes as f64 / span.bytes as f64, span.encode / ours.encode));
        }
    }
    let summary = Summary::new(targets(&ratios));
    if args.json {
        return print_json(&summary);
    }
    print_summary(&summary);
    Ok(())
}

fn targets(ratios: &[(f64, f64)]) -> Vec<Target> {
    if ratios.is_empty() {
        return Vec::new();
    }
    let mean =
        |of: fn(&(f64, f64)) -> f64| ratios.iter().map(of).sum::<f64>() / ratios.len() as f64;
    let slowest = ratios.iter().map(|(_, speed)| *speed).fold(f64::INFINITY, f64::min);
    vec![
        Target::at_most(
            "transactions, bytes of span + brotli: mean".into(),
            0.95,
            mean(|(bytes, _)| *bytes),
        ),
        Target::new(
            "transactions, encoding speed of span + brotli: mean".into(),
            10.0,
            mean(|(_, speed)| *speed),
        ),
        Target::new("transactions, encoding speed of span + brotli: worst".into(), 10.0, slowest),
    ]
}

/// Bytes a transaction, and MB of EIP-2718 bytes a second.
fn rows(case: &Case, way: Way, measured: Measured, span: Measured) -> [Row; 3] {
    let a_transaction = |bytes: usize| bytes as f64 / case.batch.transaction_count() as f64;
    let rate = |seconds: f64| case.raw.len() as f64 / 1e6 / seconds;
    let row = |metric, unit, value: f64, baseline: f64| Row {
        bench: "codec",
        case: case.name.clone(),
        way: way.name(),
        threads: 1,
        metric,
        value,
        unit,
        baseline,
        ratio: value / baseline,
    };
    [
        row("bytes", "B/tx", a_transaction(measured.bytes), a_transaction(span.bytes)),
        row("encode", "MB/s", rate(measured.encode), rate(span.encode)),
        row("decode", "MB/s", rate(measured.decode), rate(span.decode)),
    ]
}

fn measure(case: &Case, level: i32, rounds: usize) -> Result<Vec<Measured>> {
    let encoded = Way::ALL.map(|way| encode(case, way, level));
    let encoded = encoded.into_iter().collect::<Result<Vec<_>>>()?;
    let mut times = vec![(Vec::new(), Vec::new()); encoded.len()];
    for round in 0..=rounds {
        for ((way, bytes), (encoding, decoding)) in
            Way::ALL.into_iter().zip(&encoded).zip(&mut times)
        {
            let encode = time(SLICE, || encode(case, way, level).map(drop))?;
            let decode = time(SLICE, || decode(case, way, bytes))?;
            // The first round warms up.
            if round > 0 {
                encoding.push(encode);
                decoding.push(decode);
            }
        }
    }
    let measured = encoded.iter().zip(&mut times).map(|(bytes, (encode, decode))| Measured {
        bytes: bytes.len(),
        encode: median(encode),
        decode: median(decode),
    });
    Ok(measured.collect())
}

fn encode(case: &Case, way: Way, level: i32) -> Result<Vec<u8>> {
    Ok(match way {
        Way::Rlp => case.raw.clone(),
        Way::RlpZstd => zstd::bulk::compress(&case.raw, level)?,
        Way::RlpBrotli => brotli(&case.raw, 11, 24)?,
        // As op-batcher does it.
        Way::SpanBrotli => span_batch::frame(&brotli(&span_batch::encode(&case.batch), 10, 22)?),
        Way::Transactions => match &case.dictionary {
            Some(dictionary) => case.batch.encode_with(level, dictionary)?,
            None => case.batch.encode(level)?,
        }
        .into(),
    })
}

/// From bytes to transactions; for a span batch to its bytes only.
fn decode(case: &Case, way: Way, bytes: &[u8]) -> Result<()> {
    match way {
        Way::Rlp => decode_all(bytes)?,
        Way::RlpZstd => decode_all(&zstd::bulk::decompress(bytes, case.raw.len())?)?,
        Way::RlpBrotli => decode_all(&unbrotli(bytes)?)?,
        Way::SpanBrotli => drop(black_box(unbrotli(&bytes[24..bytes.len() - 1])?)),
        Way::Transactions => {
            let limits = BatchLimits::default();
            let batch = match &case.dictionary {
                Some(dictionary) => Batch::decode_with(bytes, dictionary, &limits)?,
                None => Batch::decode(bytes, &limits)?,
            };
            black_box(batch);
        }
    }
    Ok(())
}

fn decode_all(mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        black_box(TxEnvelope::decode_2718(&mut bytes)?);
    }
    Ok(())
}

fn brotli(bytes: &[u8], quality: u8, window: u8) -> Result<Vec<u8>> {
    use std::io::Write;
    let encoder = BrotliEncoderOptions::new()
        .quality(Quality::new(quality)?)
        .window_size(WindowSize::new(window)?)
        .size_hint(bytes.len().try_into()?)
        .build()?;
    let mut writer = CompressorWriter::with_encoder(encoder, Vec::new());
    writer.write_all(bytes)?;
    Ok(writer.into_inner()?)
}

fn unbrotli(bytes: &[u8]) -> Result<Vec<u8>> {
    use std::io::Read;
    let mut out = Vec::new();
    DecompressorReader::new(bytes).read_to_end(&mut out)?;
    Ok(out)
}

fn cases(args: &CodecArgs) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    if let Some(path) = &args.blocks {
        let blocks = Fixture::read_all(path).wrap_err("cannot read the blocks")?;
        let batches: Vec<Batch> = blocks.iter().map(mainnet_batch).collect();
        let trainer = Trainer::read(&args.packages)?;
        for (at, batch) in batches.iter().enumerate() {
            let others: Vec<Batch> = batches
                .iter()
                .enumerate()
                .filter(|(other, _)| *other != at)
                .map(|(_, batch)| batch.clone())
                .collect();
            // The dictionary that is part of Millrace has learnt from these blocks; this one has not seen the block that it is tried on.
            let dictionary =
                trainer.train(&others).map(|bytes| BatchDictionary::new(u8::MAX, bytes));
            let dictionary = if others.is_empty() { None } else { Some(dictionary?) };
            let name = format!("block_{}", batch.first_block);
            cases.push(case(name, batch.clone(), dictionary, true));
        }
    }
    let artifacts = Artifacts::read(&args.packages)?;
    let mut random = StdRng::seed_from_u64(1);
    for (name, block) in scenarios(SIZE, &artifacts)? {
        if ["transfers", "erc20", "swaps", "swaps_v3", "zipf_mix"].contains(&name) {
            let mut batch = batch_of(block.env.cfg.chain_id, 1, 1_700_000_000, &block.transactions);
            for tx in batch.blocks.iter_mut().flat_map(|block| &mut block.transactions) {
                sign(tx, &mut random);
            }
            cases.push(case(name.into(), batch, None, false));
        }
    }
    cases.retain(|case| is_wanted(&case.name, &args.cases));
    if cases.is_empty() {
        bail!("no case has such a name");
    }
    Ok(cases)
}

/// A few blobs' worth of each mix.
const SIZE: Scenario =
    Scenario { accounts: 20_000, transfers: 5_000, tokens: 5_000, swaps: 2_000, seed: 1 };

fn case(name: String, batch: Batch, dictionary: Option<BatchDictionary>, real: bool) -> Case {
    let transactions = batch.blocks.iter().flat_map(|block| &block.transactions);
    let raw = transactions.flat_map(Encodable2718::encoded_2718).collect();
    Case { name, batch, raw, dictionary, real }
}

/// Gives a made transaction the signature of nobody: as many bytes as a real one's, and as random.
fn sign(tx: &mut TxEnvelope, random: &mut StdRng) {
    let signature = Signature::new(
        U256::from_be_bytes::<32>(random.random()),
        U256::from_be_bytes::<32>(random.random()) >> 1,
        random.random(),
    );
    if let TxEnvelope::Eip1559(signed) = tx {
        *tx = TxEnvelope::Eip1559(alloy::consensus::Signed::new_unhashed(
            signed.tx().clone(),
            signature,
        ));
    }
}

//! `millrace bench codec`: the bytes of batches, and the time that making them takes, beside other encodings.

use std::{hint::black_box, path::PathBuf, sync::Arc, time::Duration};

use alloy::{
    eips::{Decodable2718, Encodable2718},
    primitives::{B256, Signature, U256},
};
use brotlic::{BrotliEncoderOptions, CompressorWriter, DecompressorReader, Quality, WindowSize};
use clap::Args;
use eyre::{Result, WrapErr, bail};
use millrace_da_adapter::DaAdapterConfig;
use millrace_proto::{
    Batch, BatchDictionary, BatchLimits, DiffBatch, ExecutedBlock, KeyHints, StateDiff, TxEnvelope,
};
use millrace_workload::{
    Artifacts, Fixture, Ground, Load, LoadKind, Scenario, as_rollup_block,
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
    /// The blocks and what they changed, where they were executed.
    executed: Vec<(Arc<ExecutedBlock>, Arc<StateDiff>)>,
    /// What it counts for.
    kind: CaseKind,
}

/// What a case counts for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CaseKind {
    /// The goals of transactions.
    Real,
    /// Those of state diffs.
    Load,
    /// None.
    Made,
}

/// A way of encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Rlp,
    RlpZstd,
    RlpBrotli,
    SpanBrotli,
    Transactions,
    StateDiffs,
}

impl Way {
    const ALL: [Self; 6] = [
        Self::Rlp,
        Self::RlpZstd,
        Self::RlpBrotli,
        Self::SpanBrotli,
        Self::Transactions,
        Self::StateDiffs,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Rlp => "rlp",
            Self::RlpZstd => "rlp_zstd",
            Self::RlpBrotli => "rlp_brotli_11",
            Self::SpanBrotli => "span_brotli_10",
            Self::Transactions => "transactions",
            Self::StateDiffs => "state_diffs",
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
    let mut of_diffs = Vec::new();
    for case in &cases {
        let ways = case.ways();
        let measured = measure(case, &ways, level, args.rounds.into())?;
        let of = |way| ways.iter().position(|other| *other == way).map(|at| measured[at]);
        let Some(span) = of(Way::SpanBrotli) else { continue };
        for (way, measured) in ways.iter().zip(&measured) {
            for row in rows(case, *way, *measured, span) {
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
        let bytes = |ours: Measured| ours.bytes as f64 / span.bytes as f64;
        match (case.kind, of(Way::Transactions), of(Way::StateDiffs)) {
            (CaseKind::Real, Some(ours), _) => {
                ratios.push((bytes(ours), span.encode / ours.encode));
            }
            (CaseKind::Load, _, Some(ours)) => of_diffs.push((case.name.clone(), bytes(ours))),
            _ => {}
        }
    }
    let mut targets = targets(&ratios);
    targets.extend(of_diffs.into_iter().map(|(case, bytes)| {
        Target::at_most(format!("state diffs, bytes of span + brotli: {case}"), 0.35, bytes)
    }));
    let summary = Summary::new(targets);
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

impl Case {
    /// The ways that it can be encoded in.
    fn ways(&self) -> Vec<Way> {
        let possible = |way: &Way| *way != Way::StateDiffs || !self.executed.is_empty();
        Way::ALL.into_iter().filter(possible).collect()
    }
}

fn measure(case: &Case, ways: &[Way], level: i32, rounds: usize) -> Result<Vec<Measured>> {
    let encoded = ways.iter().map(|way| encode(case, *way, level)).collect::<Result<Vec<_>>>()?;
    let mut times = vec![(Vec::new(), Vec::new()); encoded.len()];
    for round in 0..=rounds {
        for ((way, bytes), (encoding, decoding)) in ways.iter().zip(&encoded).zip(&mut times) {
            let encode = time(SLICE, || encode(case, *way, level).map(drop))?;
            let decode = time(SLICE, || decode(case, *way, bytes))?;
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
        // With finding out what keys follow from.
        Way::StateDiffs => {
            let Batch { chain_id, deposits_start, parent_hash, .. } = case.batch;
            DiffBatch::from_blocks(chain_id, deposits_start, parent_hash, &case.executed)?
                .encode(level, &KeyHints::of(&case.executed))?
                .into()
        }
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
        Way::StateDiffs => drop(black_box(DiffBatch::decode(bytes, &BatchLimits::default())?)),
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
            let case = case(name, batch.clone(), dictionary, CaseKind::Real);
            cases.push(Case { executed: vec![execute(&blocks[at], batch)?], ..case });
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
            cases.push(case(name.into(), batch, None, CaseKind::Made));
        }
    }
    for (name, kind, senders, counts) in LOADS {
        if is_wanted(name, &args.cases) {
            let load = Load { kind, senders, blocks: 20, transactions: 1_000, seed: 1 };
            let executed = load.execute(&artifacts)?.blocks;
            let parent = executed.first().map_or(B256::ZERO, |(block, _)| block.header.parent_hash);
            let blocks: Vec<_> = executed.iter().map(|(block, _)| block.clone()).collect();
            let mut batch = Batch::from_blocks(Load::CHAIN_ID, 0, parent, &blocks)?;
            for tx in batch.blocks.iter_mut().flat_map(|block| &mut block.transactions) {
                sign(tx, &mut random);
            }
            let case = case(name.into(), batch, None, counts);
            cases.push(Case { executed, ..case });
        }
    }
    cases.retain(|case| is_wanted(&case.name, &args.cases));
    if cases.is_empty() {
        bail!("no case has such a name");
    }
    Ok(cases)
}

/// A real block executed again, with what it changed.
fn execute(block: &Fixture, batch: &Batch) -> Result<(Arc<ExecutedBlock>, Arc<StateDiff>)> {
    let ground =
        Ground { env: block.env.clone(), state: block.state.clone(), codes: Arc::default() };
    let output = ground.in_order(&block.transactions)?.output;
    let diff = Arc::new(output.diff.clone());
    let timestamp = block.env.block.timestamp.saturating_to();
    let block = as_rollup_block(batch.first_block, timestamp, batch.parent_hash, output);
    Ok((Arc::new(block), diff))
}

/// Chains under load: what users do, how many they are, and whether it counts for the goals. (In the last, hardly anybody comes twice, so that there is
/// nothing to take together.)
const LOADS: [(&str, LoadKind, usize, CaseKind); 5] = [
    ("load_erc20_1k", LoadKind::Erc20, 1_000, CaseKind::Load),
    ("load_erc20_10k", LoadKind::Erc20, 10_000, CaseKind::Load),
    ("load_swap_1k", LoadKind::Swap { pools: 50 }, 1_000, CaseKind::Load),
    ("load_swap_10k", LoadKind::Swap { pools: 50 }, 10_000, CaseKind::Load),
    ("load_erc20_200k", LoadKind::Erc20, 200_000, CaseKind::Made),
];

/// A few blobs' worth of each mix.
const SIZE: Scenario =
    Scenario { accounts: 20_000, transfers: 5_000, tokens: 5_000, swaps: 2_000, seed: 1 };

fn case(name: String, batch: Batch, dictionary: Option<BatchDictionary>, kind: CaseKind) -> Case {
    let transactions = batch.blocks.iter().flat_map(|block| &block.transactions);
    let raw = transactions.flat_map(Encodable2718::encoded_2718).collect();
    Case { name, batch, raw, dictionary, executed: Vec::new(), kind }
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

//! `millrace bench codec`: the bytes of batches, and the time that making them takes, beside other encodings.

mod cases;

use std::{hint::black_box, path::PathBuf, time::Duration};

use alloy::eips::Decodable2718;
use brotlic::{BrotliEncoderOptions, CompressorWriter, DecompressorReader, Quality, WindowSize};
use clap::Args;
use eyre::Result;
use millrace_da_adapter::DaAdapterConfig;
use millrace_proto::{Batch, BatchLimits, DiffBatch, KeyHints, TxEnvelope};
use millrace_workload::bench::{Row, Summary, Target};

use self::cases::{Case, CaseKind};
use super::{median, print_json, print_summary, span_batch, time};
use crate::cli::existing;

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

/// How many ways there are.
const WAYS: usize = 6;

impl Way {
    /// In the order in which they are declared.
    const ALL: [Self; WAYS] = [
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
#[derive(Debug, Clone, Copy, Default)]
struct Measured {
    bytes: usize,
    encode: f64,
    decode: f64,
}

/// What was measured of a case, or of several together.
#[derive(Debug, Clone)]
struct Figures {
    name: String,
    kind: CaseKind,
    transactions: usize,
    /// Bytes of the transactions as they were sent.
    raw: usize,
    ways: [Measured; WAYS],
}

/// Runs the benchmark.
pub(super) fn run(args: &CodecArgs) -> Result<()> {
    let level = args.level.unwrap_or_else(|| DaAdapterConfig::default().zstd_level);
    let mut cases = Vec::new();
    for case in cases::cases(args)? {
        let figures = Figures::measure(&case, level, args.rounds.into())?;
        figures.print(args.json)?;
        cases.push(figures);
    }
    let together = Figures::together("blocks_together", of_kind(&cases, CaseKind::Real));
    if let Some(together) = &together {
        together.print(args.json)?;
    }
    let summary = Summary::new(targets(&cases, together.as_ref()));
    if args.json {
        return print_json(&summary);
    }
    print_summary(&summary);
    Ok(())
}

fn of_kind(cases: &[Figures], kind: CaseKind) -> impl Iterator<Item = &Figures> + Clone {
    cases.iter().filter(move |case| case.kind == kind)
}

/// Holds what was reached against the goals that there is a case for.
fn targets(cases: &[Figures], together: Option<&Figures>) -> Vec<Target> {
    let mut targets = Vec::new();
    let bytes = |figures: &Figures| figures.bytes_ratio(Way::Transactions);
    let speed = |figures: &Figures| figures.speed_ratio(Way::Transactions);
    if let Some(together) = together {
        let blocks = of_kind(cases, CaseKind::Real);
        let mean = |of: fn(&Figures) -> f64| {
            blocks.clone().map(of).sum::<f64>() / blocks.clone().count() as f64
        };
        let slowest = blocks.clone().map(speed).fold(f64::INFINITY, f64::min);
        let most = |what: &str, value| {
            Target::at_most(format!("transactions, bytes of span + brotli: {what}"), 0.95, value)
        };
        let least = |what: &str, value| {
            Target::new(
                format!("transactions, encoding speed of span + brotli: {what}"),
                10.0,
                value,
            )
        };
        targets.push(most("mean of the blocks", mean(bytes)));
        targets.push(most("all blocks together", bytes(together)));
        targets.push(least("mean of the blocks", mean(speed)));
        targets.push(least("all blocks together", speed(together)));
        targets.push(least("worst block", slowest));
    }
    targets.extend(of_kind(cases, CaseKind::Load).map(|case| {
        let name = format!("state diffs, bytes of span + brotli: {}", case.name);
        Target::at_most(name, 0.35, case.bytes_ratio(Way::StateDiffs))
    }));
    targets
}

impl Figures {
    fn measure(case: &Case, level: i32, rounds: usize) -> Result<Self> {
        Ok(Self {
            name: case.name.clone(),
            kind: case.kind,
            transactions: case.batch.transaction_count(),
            raw: case.raw.len(),
            ways: measure(case, level, rounds)?,
        })
    }

    /// The sums of several cases; `None` of none.
    fn together<'a>(name: &str, cases: impl Iterator<Item = &'a Self>) -> Option<Self> {
        let sum = cases.cloned().reduce(|mut sum, case| {
            sum.transactions += case.transactions;
            sum.raw += case.raw;
            for (sum, way) in sum.ways.iter_mut().zip(case.ways) {
                sum.bytes += way.bytes;
                sum.encode += way.encode;
                sum.decode += way.decode;
            }
            sum
        });
        sum.map(|sum| Self { name: name.to_owned(), ..sum })
    }

    const fn of(&self, way: Way) -> Measured {
        self.ways[way as usize]
    }

    /// Bytes, as a part of what a span batch takes.
    fn bytes_ratio(&self, way: Way) -> f64 {
        self.of(way).bytes as f64 / self.of(Way::SpanBrotli).bytes as f64
    }

    /// Encoding speed, as a multiple of a span batch's.
    fn speed_ratio(&self, way: Way) -> f64 {
        self.of(Way::SpanBrotli).encode / self.of(way).encode
    }

    fn print(&self, json: bool) -> Result<()> {
        for way in Way::ALL {
            for row in self.rows(way) {
                if json {
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
            if !json {
                println!();
            }
        }
        Ok(())
    }

    /// Bytes a transaction, and MB of EIP-2718 bytes a second.
    fn rows(&self, way: Way) -> [Row; 3] {
        let a_transaction = |of: Measured| of.bytes as f64 / self.transactions as f64;
        let rate = |seconds: f64| self.raw as f64 / 1e6 / seconds;
        let (of, span) = (self.of(way), self.of(Way::SpanBrotli));
        let row = |metric, unit, value: f64, baseline: f64| Row {
            bench: "codec",
            case: self.name.clone(),
            way: way.name(),
            threads: 1,
            metric,
            value,
            unit,
            baseline,
            ratio: value / baseline,
        };
        [
            row("bytes", "B/tx", a_transaction(of), a_transaction(span)),
            row("encode", "MB/s", rate(of.encode), rate(span.encode)),
            row("decode", "MB/s", rate(of.decode), rate(span.decode)),
        ]
    }
}

fn measure(case: &Case, level: i32, rounds: usize) -> Result<[Measured; WAYS]> {
    let ways = Way::ALL;
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
    let mut measured = [Measured::default(); WAYS];
    for (measured, (bytes, (encode, decode))) in
        measured.iter_mut().zip(encoded.iter().zip(&mut times))
    {
        *measured = Measured { bytes: bytes.len(), encode: median(encode), decode: median(decode) };
    }
    Ok(measured)
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
                .encode(level, &KeyHints::of(&case.executed), &case.names)?
                .into()
        }
    })
}

/// From bytes to transactions in memory; of state diffs, to what changed.
fn decode(case: &Case, way: Way, bytes: &[u8]) -> Result<()> {
    match way {
        Way::Rlp => decode_all(bytes)?,
        Way::RlpZstd => decode_all(&zstd::bulk::decompress(bytes, case.raw.len())?)?,
        Way::RlpBrotli => decode_all(&unbrotli(bytes)?)?,
        Way::SpanBrotli => {
            let channel = unbrotli(span_batch::unframe(bytes)?)?;
            black_box(span_batch::decode(&channel, case.batch.chain_id)?);
        }
        Way::Transactions => {
            let limits = BatchLimits::default();
            let batch = match &case.dictionary {
                Some(dictionary) => Batch::decode_with(bytes, dictionary, &limits)?,
                None => Batch::decode(bytes, &limits)?,
            };
            black_box(batch);
        }
        Way::StateDiffs => {
            let batch = DiffBatch::decode(bytes, &BatchLimits::default())?;
            let found = case.names.find(batch.delta.names());
            drop(black_box(batch.resolve(&found)?));
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A case of as many transactions and bytes, which ours takes a second to encode, and a span batch so many times that.
    fn figures(name: &str, kind: CaseKind, span: usize, ours: usize, times: f64) -> Figures {
        let measured = |bytes, encode| Measured { bytes, encode, decode: 1.0 };
        let mut ways = [measured(ours, 1.0); WAYS];
        ways[Way::SpanBrotli as usize] = measured(span, times);
        Figures { name: name.into(), kind, transactions: span, raw: span, ways }
    }

    #[test]
    fn ways_are_where_their_figures_are() {
        for (at, way) in Way::ALL.into_iter().enumerate() {
            assert_eq!(way as usize, at);
        }
    }

    #[test]
    fn blocks_count_by_themselves_and_by_their_bytes() {
        let cases = [
            figures("small", CaseKind::Real, 100, 80, 40.0),
            figures("large", CaseKind::Real, 900, 900, 8.0),
            figures("tokens", CaseKind::Load, 100, 40, 1.0),
            figures("ether", CaseKind::Made, 100, 40, 1.0),
        ];
        let together = Figures::together("both", of_kind(&cases, CaseKind::Real));
        let targets = targets(&cases, together.as_ref());
        let found: Vec<_> = (targets.iter())
            .map(|target| {
                let (_, of) = target.name.rsplit_once(": ").expect("a name says of what");
                (of, (target.value * 100.0).round(), target.met)
            })
            .collect();
        assert_eq!(
            found,
            [
                ("mean of the blocks", 90.0, true),
                ("all blocks together", 98.0, false),
                ("mean of the blocks", 2400.0, true),
                ("all blocks together", 2400.0, true),
                ("worst block", 800.0, false),
                ("tokens", 40.0, false),
            ]
        );
        let rows = together.expect("there are two").rows(Way::Transactions);
        assert_eq!(
            rows.map(|row| (row.metric, row.value)),
            [("bytes", 0.98), ("encode", 0.0005), ("decode", 0.0005),]
        );
        assert!(super::targets(&[], None).is_empty());
    }
}

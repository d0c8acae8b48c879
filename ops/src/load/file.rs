//! Plans in files: a line of JSON, then each transaction's sender and length as little-endian `u32`s and its bytes; all of it compressed with zstd.

use std::{
    fs::File,
    io::{BufRead, BufReader, BufWriter, Read, Write},
    path::Path,
};

use alloy::primitives::keccak256;
use eyre::{Result, WrapErr, ensure};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::plan::{Plan, Signed};

const FORMAT: &str = "millrace-load/1";
/// Fast, and most of a transaction is its signature.
const LEVEL: i32 = 1;
/// No transaction is larger: nobody would take it.
const MOST_BYTES: u32 = 4 << 20;
/// The first line is short.
const MOST_HEADER: u64 = 1 << 20;

#[derive(Debug, Serialize, Deserialize)]
struct Header {
    format: String,
    chain_id: u64,
    /// Transactions of each step of the setup.
    setup: Vec<u64>,
    /// Transactions of the load.
    load: u64,
}

impl Plan {
    /// Writes it to a file.
    pub(super) fn save(&self, path: &Path) -> Result<()> {
        let write = || -> Result<()> {
            let mut out = zstd::Encoder::new(BufWriter::new(File::create(path)?), LEVEL)?;
            let header = Header {
                format: FORMAT.to_owned(),
                chain_id: self.chain_id,
                setup: self.setup.iter().map(|step| step.len() as u64).collect(),
                load: self.load.len() as u64,
            };
            serde_json::to_writer(&mut out, &header)?;
            out.write_all(b"\n")?;
            for tx in self.setup.iter().flatten().chain(&self.load) {
                out.write_all(&tx.sender.to_le_bytes())?;
                out.write_all(&u32::try_from(tx.raw.len())?.to_le_bytes())?;
                out.write_all(&tx.raw)?;
            }
            out.finish()?.flush()?;
            Ok(())
        };
        write().wrap_err_with(|| format!("cannot write {}", path.display()))
    }

    /// Reads one from a file.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let read = || -> Result<Self> {
            let mut input = BufReader::new(zstd::Decoder::new(File::open(path)?)?);
            let mut line = String::new();
            (&mut input).take(MOST_HEADER).read_line(&mut line)?;
            let header: Header = serde_json::from_str(&line)?;
            ensure!(header.format == FORMAT, "its format is {:?}", header.format);
            let mut setup = Vec::new();
            for count in header.setup {
                setup.push(transactions(&mut input, count)?);
            }
            Ok(Self {
                chain_id: header.chain_id,
                setup,
                load: transactions(&mut input, header.load)?,
            })
        };
        read().wrap_err_with(|| {
            format!("{} is not what `millrace load --save` writes", path.display())
        })
    }
}

fn transactions(input: &mut impl Read, count: u64) -> Result<Vec<Signed>> {
    let mut raw = Vec::new();
    for _ in 0..count {
        let mut word = [0; 4];
        input.read_exact(&mut word)?;
        let sender = u32::from_le_bytes(word);
        input.read_exact(&mut word)?;
        let length = u32::from_le_bytes(word);
        ensure!(length <= MOST_BYTES, "a transaction of {length} bytes");
        let mut bytes = vec![0; length as usize];
        input.read_exact(&mut bytes)?;
        raw.push((sender, bytes));
    }
    let signed =
        |(sender, raw): (u32, Vec<u8>)| Signed { hash: keccak256(&raw), raw: raw.into(), sender };
    Ok(raw.into_par_iter().map(signed).collect())
}

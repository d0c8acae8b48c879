//! `millrace dictionary`: makes the dictionary that batches are compressed with.
//!
//! It holds what many transactions name: contracts' bytecode, the addresses of known tokens, and transactions of real blocks. zstd adds how
//! frequent everything is in such blocks.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::{Path, PathBuf},
    ptr,
    sync::Arc,
};

use alloy::{
    consensus::{Transaction, Typed2718},
    primitives::{Address, B256},
};
use clap::Args;
use eyre::{Result, WrapErr, bail, eyre};
use millrace_proto::{Batch, BatchBlock, RecoveredTx};
use millrace_workload::{Artifacts, Fixture};
use zstd::zstd_safe::{get_error_name, zstd_sys};

use crate::cli::existing;

/// Packages of which every address is taken: lists of tokens.
const ADDRESS_PACKAGES: [&str; 3] =
    ["@metamask/contract-metadata", "@uniswap/default-token-list", "@sushiswap/default-token-list"];
/// Transactions of each block that are taken as they are.
const EXAMPLES: usize = 25;
/// Transactions of a sample, from which frequencies are taken.
const SAMPLE: usize = 100;
/// The level that the frequencies are taken for.
const LEVEL: i32 = 16;
/// zstd's number of the dictionary, which frames do not hold. (Those up to 32,767 are for registered ones.)
const ID: u32 = 0x4d52_0001;
/// Space for the frequencies.
const MAX_HEADER: usize = 4096;

#[derive(Debug, Clone, Args)]
pub(crate) struct DictionaryArgs {
    /// A node_modules folder with the packages that addresses and bytecode are taken from; `tests/setup.sh` makes this one.
    #[arg(long, value_name = "DIR", default_value = ".tools/node_modules")]
    packages: PathBuf,

    /// Blocks to learn from: a file of the format `evm-block-fixture/1`, or a folder of them.
    #[arg(long, value_name = "FILE|DIR", value_parser = existing)]
    blocks: PathBuf,

    /// Where the dictionary is written to.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Makes the dictionary.
pub(crate) fn run(args: &DictionaryArgs) -> Result<()> {
    let trainer = Trainer::read(&args.packages)?;
    let blocks = Fixture::read_all(&args.blocks).wrap_err("cannot read the blocks")?;
    let batches: Vec<Batch> = blocks.iter().map(mainnet_batch).collect();
    let dictionary = trainer.train(&batches)?;
    fs::write(&args.out, &dictionary)
        .wrap_err_with(|| format!("cannot write {}", args.out.display()))?;
    eprintln!("{} bytes, from {} blocks", dictionary.len(), batches.len());
    Ok(())
}

/// A batch of a block of Ethereum mainnet, without its blob transactions, which are in no batch.
pub(crate) fn mainnet_batch(block: &Fixture) -> Batch {
    let timestamp = block.env.block.timestamp.saturating_to();
    batch_of(1, block.number, timestamp, &block.transactions)
}

/// A batch of one block.
pub(crate) fn batch_of(
    chain_id: u64,
    number: u64,
    timestamp: u64,
    transactions: &[Arc<RecoveredTx>],
) -> Batch {
    let transactions = transactions.iter().map(|tx| tx.tx().clone());
    Batch {
        chain_id,
        first_block: number,
        parent_hash: B256::repeat_byte(0x11),
        deposits_start: 0,
        last_block_hash: B256::repeat_byte(0x22),
        blocks: vec![BatchBlock {
            timestamp,
            deposits_end: 0,
            transactions: transactions.filter(|tx| tx.ty() != 3).collect(),
        }],
    }
}

/// What a dictionary holds whatever blocks it learns from.
#[derive(Debug)]
pub(crate) struct Trainer {
    code: Vec<u8>,
    /// In how many files each address is.
    listed: HashMap<Address, u32>,
}

impl Trainer {
    /// Reads the packages.
    pub(crate) fn read(packages: &Path) -> Result<Self> {
        let artifacts = Artifacts::read(packages)?;
        let code = [artifacts.factory, artifacts.erc20].concat();
        let mut listed = HashMap::new();
        for package in ADDRESS_PACKAGES {
            list_addresses(&packages.join(package), &mut listed).wrap_err_with(|| {
                format!("cannot read {package}; tests/setup.sh brings it into .tools/node_modules")
            })?;
        }
        Ok(Self { code, listed })
    }

    /// A dictionary for transactions like those of the batches. What is referred to most cheaply, and so most often, comes last.
    pub(crate) fn train(&self, batches: &[Batch]) -> Result<Vec<u8>> {
        let mut content = self.code.clone();
        let mut listed: Vec<_> =
            self.listed.iter().map(|(address, count)| (count, address)).collect();
        listed.sort_unstable();
        for (_, address) in listed {
            content.extend_from_slice(address.as_slice());
        }
        for (address, count) in recipients(batches) {
            if count > 1 && !self.listed.contains_key(&address) {
                content.extend_from_slice(address.as_slice());
            }
        }
        let mut samples = Vec::new();
        for batch in batches {
            let transactions: Vec<_> =
                batch.blocks.iter().flat_map(|block| &block.transactions).collect();
            let columns = |transactions: Vec<_>| {
                let block = BatchBlock { transactions, ..batch.blocks[0].clone() };
                Batch { blocks: vec![block], ..batch.clone() }.columns()
            };
            let step = (transactions.len() / EXAMPLES).max(1);
            let examples = transactions.iter().step_by(step).take(EXAMPLES);
            content.extend(columns(examples.map(|tx| (*tx).clone()).collect())?);
            for transactions in transactions.chunks(SAMPLE) {
                samples.push(columns(transactions.iter().map(|tx| (*tx).clone()).collect())?);
            }
        }
        finalize(&content, &samples)
    }
}

/// In how many batches each recipient is.
fn recipients(batches: &[Batch]) -> BTreeMap<Address, u32> {
    let mut count = BTreeMap::new();
    for batch in batches {
        let transactions = batch.blocks.iter().flat_map(|block| &block.transactions);
        let mut recipients: Vec<Address> = transactions.filter_map(Transaction::to).collect();
        recipients.sort_unstable();
        recipients.dedup();
        for recipient in recipients {
            *count.entry(recipient).or_default() += 1;
        }
    }
    count
}

/// Counts, for each address, the files under a folder that it is in.
fn list_addresses(folder: &Path, listed: &mut HashMap<Address, u32>) -> Result<()> {
    let mut entries = fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(fs::DirEntry::path);
    for entry in entries {
        let path = entry.path();
        if path.is_dir() {
            list_addresses(&path, listed)?;
        } else if path
            .extension()
            .is_some_and(|kind| kind == "json" || kind == "js" || kind == "ts")
        {
            let text = fs::read_to_string(&path)?;
            let mut found: Vec<Address> = text.split("0x").skip(1).filter_map(address).collect();
            found.sort_unstable();
            found.dedup();
            for address in found {
                *listed.entry(address).or_default() += 1;
            }
        }
    }
    Ok(())
}

/// The address that a text begins with, without `0x`: 40 hexadecimal digits and no more.
fn address(text: &str) -> Option<Address> {
    let digits = text.bytes().take_while(u8::is_ascii_hexdigit).count();
    if digits != 40 {
        return None;
    }
    text[..digits].parse().ok()
}

/// A zstd dictionary of this content, with the frequencies of the samples.
fn finalize(content: &[u8], samples: &[Vec<u8>]) -> Result<Vec<u8>> {
    if content.is_empty() || samples.is_empty() {
        bail!("there are no blocks to learn from");
    }
    let mut dictionary = vec![0; content.len() + MAX_HEADER];
    let sizes: Vec<usize> = samples.iter().map(Vec::len).collect();
    let samples = samples.concat();
    let parameters =
        zstd_sys::ZDICT_params_t { compressionLevel: LEVEL, notificationLevel: 0, dictID: ID };
    // SAFETY: each pointer is to as many bytes as are named beside it, and the sizes add up to the samples.
    let size = unsafe {
        zstd_sys::ZDICT_finalizeDictionary(
            ptr::from_mut(dictionary.as_mut_slice()).cast(),
            dictionary.len(),
            ptr::from_ref(content).cast(),
            content.len(),
            samples.as_ptr().cast(),
            sizes.as_ptr(),
            sizes.len() as u32,
            parameters,
        )
    };
    // SAFETY: any number is allowed.
    if unsafe { zstd_sys::ZDICT_isError(size) } != 0 {
        return Err(eyre!("zstd made no dictionary: {}", get_error_name(size)));
    }
    dictionary.truncate(size);
    Ok(dictionary)
}

#[cfg(test)]
mod tests {
    use millrace_proto::{BatchDictionary, BatchLimits};
    use millrace_workload::{Scenario, scenarios};

    use super::*;

    #[test]
    fn a_dictionary_of_some_blocks_makes_others_like_them_smaller() {
        let packages = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools/node_modules");
        let trainer = Trainer::read(&packages).expect("tests/setup.sh was run");
        let artifacts = Artifacts::read(&packages).expect("tests/setup.sh was run");
        let blocks = scenarios(Scenario::SMALL, &artifacts).expect("the contracts can be set up");
        let mut batches: Vec<Batch> = blocks
            .iter()
            .map(|(_, block)| batch_of(block.env.cfg.chain_id, 1, 1, &block.transactions))
            .collect();
        let unseen = batches.pop().expect("there are blocks");
        let trained = trainer.train(&batches).expect("there is something to learn");
        let dictionary = BatchDictionary::new(200, trained);
        let encoded = unseen.encode_with(15, &dictionary).expect("encodes");
        let decoded = Batch::decode_with(&encoded, &dictionary, &BatchLimits::default());
        assert_eq!(decoded.expect("decodes"), unseen);
        let columns = unseen.columns().expect("encodes");
        let without = zstd::bulk::compress(&columns, 15).expect("compresses");
        assert!(encoded.len() < without.len() + 64 * unseen.transaction_count());
        assert!(trainer.train(&[]).is_err());
    }

    #[test]
    fn addresses_are_forty_digits_and_no_more() {
        let digits = "00000000000000000000000000000000000070c3";
        assert_eq!(address(&format!("{digits}\"")), digits.parse().ok());
        assert_eq!(address(&format!("{digits}0")), None);
        assert_eq!(address("70c3"), None);
    }
}

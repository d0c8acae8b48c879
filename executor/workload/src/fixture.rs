//! Ethereum mainnet blocks with the state before them, in the format `evm-block-fixture/1`.
//!
//! A file is one JSON object, compressed with zstd: the header, the transactions, every account, slot and code that they
//! read, and what they must give.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufReader, Read},
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
};

use alloy_primitives::{Address, B256, Bloom, Bytes, U64, U256};
use millrace_executor::{EvmEnv, MemoryState};
use millrace_proto::{AccountInfo, DecodeTxError, RecoveredTx};
use revm::{
    context::BlockEnv, context_interface::block::BlobExcessGasAndPrice,
    primitives::hardfork::SpecId,
};
use serde::Deserialize;

/// A block of Ethereum mainnet, ready to be executed.
#[derive(Debug, Clone)]
pub struct Fixture {
    /// Its number.
    pub number: u64,
    /// Hardfork, as the file spells it.
    pub spec: String,
    /// Rules and block fields.
    pub env: EvmEnv,
    /// The state before the first transaction, as far as the block reads it.
    pub state: Arc<MemoryState>,
    /// The transactions, their senders recovered.
    pub transactions: Vec<Arc<RecoveredTx>>,
    /// Gas that the block used.
    pub gas_used: u64,
    /// Root of the receipts; `None` before Byzantium, whose receipts hold state roots.
    pub receipts_root: Option<B256>,
    /// The block's bloom.
    pub logs_bloom: Bloom,
    /// Gas and success of every transaction.
    pub results: Vec<(u64, bool)>,
    /// The accounts that differ after the last transaction; `None` for one that is gone.
    pub changes: BTreeMap<Address, Option<AccountChange>>,
}

/// What differs in an account after the block.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AccountChange {
    /// The new balance, if it differs.
    pub balance: Option<U256>,
    /// The new nonce, if it differs.
    pub nonce: Option<U64>,
    /// The new code, if it differs.
    pub code_hash: Option<B256>,
    /// The account was destroyed and made anew, so that slots not listed are zero.
    #[serde(default)]
    pub storage_cleared: bool,
    /// Slots that differ.
    #[serde(default)]
    pub storage: BTreeMap<U256, U256>,
}

/// Why a file is not a block.
#[derive(Debug, thiserror::Error)]
pub enum FixtureError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file holds something else.
    #[error("{path} is not a block of the format evm-block-fixture/1: {source}")]
    Format {
        /// The file.
        path: PathBuf,
        /// Where it differs.
        source: serde_json::Error,
    },
    /// A field has no meaning.
    #[error("{path}: {problem}")]
    Content {
        /// The file.
        path: PathBuf,
        /// Which.
        problem: String,
    },
    /// A transaction does not decode.
    #[error("{path}: transaction {index}: {source}")]
    Transaction {
        /// The file.
        path: PathBuf,
        /// Its index.
        index: usize,
        /// Why.
        source: DecodeTxError,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BlockFile {
    format: String,
    chain_id: U64,
    number: U64,
    spec: String,
    header: HeaderFields,
    transactions: Vec<RawTransaction>,
    block_hashes: BTreeMap<String, B256>,
    pre_state: BTreeMap<Address, PreAccount>,
    codes: BTreeMap<B256, Bytes>,
    expected: Expected,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct HeaderFields {
    miner: Address,
    gas_limit: U64,
    timestamp: U64,
    mix_hash: B256,
    difficulty: U256,
    base_fee_per_gas: Option<U64>,
    excess_blob_gas: Option<U64>,
}

#[derive(Deserialize)]
struct RawTransaction {
    raw: Bytes,
    /// Who sent it, and its hash, as a node told.
    from: Address,
    hash: B256,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PreAccount {
    balance: U256,
    nonce: U64,
    code_hash: Option<B256>,
    #[serde(default)]
    storage: BTreeMap<U256, U256>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Expected {
    gas_used: U64,
    receipts_root: B256,
    receipts_root_checkable: bool,
    logs_bloom: Bloom,
    txs: Vec<ExpectedTx>,
    post_state_diff: BTreeMap<Address, Option<AccountChange>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ExpectedTx {
    status: U64,
    gas_used: U64,
}

impl Fixture {
    /// Reads a file, `.json.zst` or `.json`.
    ///
    /// # Errors
    /// When it cannot be read or is of another format.
    pub fn read(path: &Path) -> Result<Self, FixtureError> {
        let read = |source| FixtureError::Read { path: path.to_owned(), source };
        let content = |problem: String| FixtureError::Content { path: path.to_owned(), problem };
        let file = BufReader::new(File::open(path).map_err(read)?);
        let mut json = Vec::new();
        if path.extension().is_some_and(|extension| extension == "zst") {
            zstd::Decoder::new(file).map_err(read)?.read_to_end(&mut json).map_err(read)?;
        } else {
            { file }.read_to_end(&mut json).map_err(read)?;
        }
        let file: BlockFile = serde_json::from_slice(&json)
            .map_err(|source| FixtureError::Format { path: path.to_owned(), source })?;
        if file.format != "evm-block-fixture/1" {
            return Err(content(format!("format {:?} is unknown", file.format)));
        }
        let spec = SpecId::from_str(&file.spec)
            .map_err(|_| content(format!("hardfork {:?} is unknown", file.spec)))?;
        let raw = file.transactions.iter().map(|tx| tx.raw.clone()).collect();
        let transactions: Vec<Arc<RecoveredTx>> = (RecoveredTx::decode_batch(raw).into_iter())
            .enumerate()
            .map(|(index, tx)| match tx {
                Ok(tx) => Ok(Arc::new(tx)),
                Err(source) => {
                    Err(FixtureError::Transaction { path: path.to_owned(), index, source })
                }
            })
            .collect::<Result<_, _>>()?;
        for (tx, told) in transactions.iter().zip(&file.transactions) {
            let (from, hash) = (tx.sender(), tx.hash());
            if (from, hash) != (told.from, told.hash) {
                return Err(content(format!(
                    "transaction {} from {} is, by its bytes, {hash} from {from}",
                    told.hash, told.from
                )));
            }
        }
        let mut state = MemoryState::default();
        for code in file.codes.into_values() {
            state.add_code(code);
        }
        for (address, account) in file.pre_state {
            let info = AccountInfo {
                balance: account.balance,
                nonce: account.nonce.to(),
                code_hash: account.code_hash.unwrap_or(AccountInfo::default().code_hash),
            };
            state.set_account(address, Some(info));
            for (slot, value) in account.storage {
                state.set_slot(address, slot, value);
            }
        }
        for (number, hash) in file.block_hashes {
            let number = number
                .parse()
                .map_err(|_| content(format!("block number {number:?} is no number")))?;
            state.set_block_hash(number, hash);
        }
        let expected = file.expected;
        Ok(Self {
            number: file.number.to(),
            env: environment(spec, file.chain_id.to(), file.number.to(), &file.header),
            spec: file.spec,
            state: Arc::new(state),
            transactions,
            gas_used: expected.gas_used.to(),
            receipts_root: expected.receipts_root_checkable.then_some(expected.receipts_root),
            logs_bloom: expected.logs_bloom,
            results: (expected.txs.iter())
                .map(|tx| (tx.gas_used.to(), !tx.status.is_zero()))
                .collect(),
            changes: expected.post_state_diff,
        })
    }

    /// Reads a file, or every block file of a folder in the order of their names.
    ///
    /// # Errors
    /// When there is none, or one cannot be read.
    pub fn read_all(path: &Path) -> Result<Vec<Self>, FixtureError> {
        Self::files(path)?.iter().map(|file| Self::read(file)).collect()
    }

    /// The file itself, or every block file of a folder in the order of their names.
    ///
    /// # Errors
    /// When the folder cannot be read or holds none.
    pub fn files(path: &Path) -> Result<Vec<PathBuf>, FixtureError> {
        if !path.is_dir() {
            return Ok(vec![path.to_owned()]);
        }
        let read = |source| FixtureError::Read { path: path.to_owned(), source };
        let mut files = Vec::new();
        for entry in path.read_dir().map_err(read)? {
            let file = entry.map_err(read)?.path();
            let name = file.to_string_lossy();
            if name.ends_with(".json.zst") || name.ends_with(".json") {
                files.push(file);
            }
        }
        files.sort();
        if files.is_empty() {
            let problem = "the folder holds no .json.zst file".to_owned();
            return Err(FixtureError::Content { path: path.to_owned(), problem });
        }
        Ok(files)
    }
}

fn environment(spec: SpecId, chain_id: u64, number: u64, header: &HeaderFields) -> EvmEnv {
    let block = BlockEnv {
        number: U256::from(number),
        beneficiary: header.miner,
        timestamp: U256::from(header.timestamp),
        gas_limit: header.gas_limit.to(),
        basefee: header.base_fee_per_gas.map_or(0, |fee| fee.to()),
        difficulty: header.difficulty,
        prevrandao: spec.is_enabled_in(SpecId::MERGE).then_some(header.mix_hash),
        blob_excess_gas_and_price: None,
        slot_num: 0,
    };
    let mut env = EvmEnv::ethereum(spec, chain_id, block);
    env.block.blob_excess_gas_and_price = env.blob_params.map(|params| {
        let excess_blob_gas = header.excess_blob_gas.map_or(0, |gas| gas.to());
        let blob_gasprice = params.calc_blob_fee(excess_blob_gas);
        BlobExcessGasAndPrice { excess_blob_gas, blob_gasprice }
    });
    env
}

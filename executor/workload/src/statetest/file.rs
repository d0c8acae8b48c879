//! Files of state tests.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use alloy_primitives::{Address, B256, Bytes, U64, U256, keccak256};
use millrace_executor::{EvmEnv, MemoryState};
use millrace_proto::AccountInfo;
use revm::{
    context::BlockEnv, context_interface::block::BlobExcessGasAndPrice,
    primitives::hardfork::SpecId,
};
use serde::Deserialize;

/// How many blocks back `BLOCKHASH` sees.
const BLOCK_HASHES: u64 = 256;

/// Why a path is not state tests.
#[derive(Debug, thiserror::Error)]
pub enum StateTestError {
    /// A file or folder cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file holds something else.
    #[error("{path} is not a file of state tests: {source}")]
    Format {
        /// Which.
        path: PathBuf,
        /// Where it differs.
        source: serde_json::Error,
    },
    /// A folder holds no file.
    #[error("{0} holds no .json file")]
    Empty(PathBuf),
}

/// The cases of a test under one fork's rules.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) test: String,
    pub(super) fork: String,
    /// `None` for a fork that is not known.
    pub(super) env: Option<EvmEnv>,
    pub(super) state: Arc<MemoryState>,
    pub(super) sender: Option<Address>,
    pub(super) cases: Vec<Case>,
}

/// One transaction.
#[derive(Debug)]
pub(super) struct Case {
    /// Which entry of the test's data, gas limits and values it has: `d0g0v0`.
    pub(super) name: String,
    pub(super) raw: Bytes,
    pub(super) state_root: B256,
    pub(super) logs_hash: B256,
    /// Names of what is wrong with it, one of which is to be found.
    pub(super) refusal: Option<String>,
}

#[derive(Deserialize)]
struct Test {
    env: Env,
    pre: BTreeMap<Address, Account>,
    transaction: Transaction,
    post: BTreeMap<String, Vec<Post>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Env {
    current_coinbase: Address,
    current_difficulty: U256,
    current_gas_limit: U64,
    current_number: U64,
    current_timestamp: U64,
    current_base_fee: Option<U64>,
    current_random: Option<B256>,
    current_excess_blob_gas: Option<U64>,
}

#[derive(Deserialize)]
struct Account {
    balance: U256,
    nonce: U64,
    code: Bytes,
    storage: BTreeMap<U256, U256>,
}

#[derive(Deserialize)]
struct Transaction {
    sender: Option<Address>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Post {
    hash: B256,
    logs: B256,
    txbytes: Bytes,
    indexes: Indexes,
    expect_exception: Option<String>,
}

#[derive(Deserialize)]
struct Indexes {
    data: usize,
    gas: usize,
    value: usize,
}

/// The `.json` files at a path: itself, or all below a folder, in the order of their names.
///
/// # Errors
/// When something cannot be read, or a folder holds none.
pub fn state_test_files(path: &Path) -> Result<Vec<PathBuf>, StateTestError> {
    let mut files = Vec::new();
    collect(path, &mut files)?;
    if files.is_empty() {
        return Err(StateTestError::Empty(path.to_owned()));
    }
    files.sort();
    Ok(files)
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> Result<(), StateTestError> {
    if !path.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    let read = |source| StateTestError::Read { path: path.to_owned(), source };
    for entry in path.read_dir().map_err(read)? {
        let path = entry.map_err(read)?.path();
        if path.is_dir() || path.extension().is_some_and(|extension| extension == "json") {
            collect(&path, files)?;
        }
    }
    Ok(())
}

/// Reads a file.
pub(super) fn read(path: &Path) -> Result<Vec<Group>, StateTestError> {
    let json =
        fs::read(path).map_err(|source| StateTestError::Read { path: path.to_owned(), source })?;
    let tests: BTreeMap<String, Test> = serde_json::from_slice(&json)
        .map_err(|source| StateTestError::Format { path: path.to_owned(), source })?;
    Ok(tests.into_iter().flat_map(|(name, test)| groups(&name, test)).collect())
}

fn groups(name: &str, test: Test) -> Vec<Group> {
    let Test { env, pre, transaction, post } = test;
    let state = Arc::new(state(&env, pre));
    let group = |(fork, cases): (String, Vec<Post>)| Group {
        test: name.to_owned(),
        env: spec(&fork).map(|spec| environment(spec, &env)),
        fork,
        state: state.clone(),
        sender: transaction.sender,
        cases: cases.into_iter().map(case).collect(),
    };
    post.into_iter().map(group).collect()
}

fn case(post: Post) -> Case {
    let Indexes { data, gas, value } = post.indexes;
    Case {
        name: format!("d{data}g{gas}v{value}"),
        raw: post.txbytes,
        state_root: post.hash,
        logs_hash: post.logs,
        refusal: post.expect_exception,
    }
}

fn state(env: &Env, pre: BTreeMap<Address, Account>) -> MemoryState {
    let mut state = MemoryState::default();
    for (address, account) in pre {
        let mut info = AccountInfo {
            balance: account.balance,
            nonce: account.nonce.to(),
            ..AccountInfo::default()
        };
        if !account.code.is_empty() {
            info.code_hash = state.add_code(account.code);
        }
        state.set_account(address, Some(info));
        for (slot, value) in account.storage {
            state.set_slot(address, slot, value);
        }
    }
    // The tests' blocks have no ancestors: the hash of a number is that of its decimal digits.
    let number: u64 = env.current_number.to();
    for ancestor in number.saturating_sub(BLOCK_HASHES)..number {
        state.set_block_hash(ancestor, keccak256(ancestor.to_string()));
    }
    state
}

fn environment(spec: SpecId, env: &Env) -> EvmEnv {
    let london = spec.is_enabled_in(SpecId::LONDON);
    let merge = spec.is_enabled_in(SpecId::MERGE);
    let base_fee = env.current_base_fee.filter(|_| london);
    let block = BlockEnv {
        number: U256::from(env.current_number),
        beneficiary: env.current_coinbase,
        timestamp: U256::from(env.current_timestamp),
        gas_limit: env.current_gas_limit.to(),
        basefee: base_fee.map_or(0, |fee| fee.to()),
        difficulty: env.current_difficulty,
        prevrandao: merge.then(|| env.current_random.unwrap_or_default()),
        blob_excess_gas_and_price: None,
        slot_num: 0,
    };
    let mut environment = EvmEnv::ethereum(spec, 1, block);
    environment.block.blob_excess_gas_and_price = environment.blob_params.map(|params| {
        let excess_blob_gas = env.current_excess_blob_gas.map_or(0, |gas| gas.to());
        let blob_gasprice = params.calc_blob_fee(excess_blob_gas);
        BlobExcessGasAndPrice { excess_blob_gas, blob_gasprice }
    });
    environment
}

/// The tests' names of hardforks.
fn spec(fork: &str) -> Option<SpecId> {
    Some(match fork {
        "Frontier" => SpecId::FRONTIER,
        "Homestead" => SpecId::HOMESTEAD,
        "EIP150" => SpecId::TANGERINE,
        "EIP158" => SpecId::SPURIOUS_DRAGON,
        "Byzantium" => SpecId::BYZANTIUM,
        "ConstantinopleFix" | "Petersburg" => SpecId::PETERSBURG,
        "Istanbul" => SpecId::ISTANBUL,
        "Berlin" => SpecId::BERLIN,
        "London" => SpecId::LONDON,
        "Paris" | "Merge" => SpecId::MERGE,
        "Shanghai" => SpecId::SHANGHAI,
        "Cancun" => SpecId::CANCUN,
        "Prague" => SpecId::PRAGUE,
        "Osaka" => SpecId::OSAKA,
        _ => return None,
    })
}

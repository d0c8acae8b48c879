//! The tests of the execution-apis specification (`tests/` of ethereum/execution-apis), where `MILLRACE_EXECUTION_APIS` names that folder.
//!
//! Its chain begins before the merge, which no chain of Millrace does. So its genesis gets all forks at once, and the transactions of each of its blocks go into a
//! block with the same number: contracts are where the tests look for them, but hashes, fees and roots are others. Held are therefore whether there is a result or an error, error
//! codes, and which fields results have in which format.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
};

use alloy::{
    consensus::{Block, EthereumTxEnvelope, TxEip4844},
    rlp::Decodable,
};
use millrace_proto::RecoveredTx;
use serde_json::{Value, json};

use crate::support::Chain;

/// Where answers differ, and why.
const DIFFERENT: &[(&str, &str)] = &[
    ("debug_getRawTransaction/get-invalid-hash", "hashes are read without 0x too"),
    ("eth_capabilities/", "nothing but state is ever deleted here"),
    ("eth_config/", "is not there"),
    ("testing_buildBlockV1/", "is not there"),
    (
        "eth_sendRawTransaction/send-blob-tx",
        "the rollup takes no blobs; the dev L1 does, and has a pool of its own",
    ),
    (
        "eth_simulateV1/ethSimulate-move-two-accounts-to-same-38023",
        "the specification's text makes it an error, -38023",
    ),
    (
        "eth_simulateV1/ethSimulate-overflow-nonce",
        "the last nonce is no transaction's, with validation and without (EIP-2681)",
    ),
    // Of the chain, which has all forks from the start, and other times.
    ("eth_getBlockByHash/get-block-by-hash", "blocks have the fields of later forks"),
    (
        "eth_getBlockByNumber/get-block-",
        "blocks have the fields of later forks, and no withdrawals",
    ),
    ("eth_getBlockByNumber/get-genesis", "blocks have the fields of later forks"),
    ("eth_getBlockReceipts/get-block-receipts-", "receipts have a status, not a root"),
    ("eth_getTransactionReceipt/get-legacy-", "receipts have a status, not a root"),
    (
        "eth_simulateV1/ethSimulate-empty-with-block-num-set-firstblock",
        "blocks have the fields of later forks",
    ),
    ("eth_simulateV1/ethSimulate-override-all-in-BlockStateCalls", "the head's time is another"),
];

/// A request, and what the specification's client answered.
#[derive(Debug)]
struct Exchange {
    test: String,
    request: Value,
    expected: Value,
}

fn genesis(folder: &Path) -> Value {
    let text = fs::read_to_string(folder.join("genesis.json")).expect("genesis.json");
    let mut genesis: Value = serde_json::from_str(&text).expect("JSON");
    let old = genesis["config"].take();
    let mut config = json!({
        "chainId": old["chainId"], "terminalTotalDifficulty": 0, "depositContractAddress": old["depositContractAddress"],
    });
    for fork in [
        "homestead",
        "eip150",
        "eip155",
        "eip158",
        "byzantium",
        "constantinople",
        "petersburg",
        "istanbul",
        "berlin",
        "london",
        "mergeNetsplit",
    ] {
        config[format!("{fork}Block")] = json!(0);
    }
    for fork in ["shanghai", "cancun", "prague", "osaka"] {
        config[format!("{fork}Time")] = json!(0);
    }
    genesis["config"] = config;
    genesis["difficulty"] = json!("0x0");
    // Legacy transactions of before London offer 1 wei.
    genesis["baseFeePerGas"] = json!("0x0");
    genesis
}

/// A chain whose blocks have the transactions of the specification's chain, as far as they are valid there; and what each block's hash became.
async fn chain(folder: &Path) -> (Chain, Vec<(String, String)>) {
    let chain = Chain::on(&genesis(folder)).await;
    let mut hashes = Vec::new();
    let bytes = fs::read(folder.join("chain.rlp")).expect("chain.rlp");
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        let block = Block::<EthereumTxEnvelope<TxEip4844>>::decode(&mut rest).expect("a block");
        let number = block.header.number;
        if number == 1 {
            let genesis = chain.result("eth_getBlockByNumber", json!(["0x0", false])).await;
            hashes.push((block.header.parent_hash.to_string(), genesis["hash"].to_string()));
        }
        let mut valid = Vec::new();
        for tx in block.body.transactions {
            let tx = Arc::new(RecoveredTx::recover(tx.into()).expect("a signature"));
            let with = [valid.clone(), vec![tx.clone()]].concat();
            match chain.pool.try_out(with).await {
                Ok(()) => valid.push(tx),
                Err(reason) => println!("block {number} is without {}: {reason}", tx.hash()),
            }
        }
        let sealed = chain.pool.seal(valid).await.expect("a block");
        hashes.push((block.header.hash_slow().to_string(), format!("\"{}\"", sealed.hash())));
        chain.pool.safe.store(number, Ordering::Relaxed);
        chain.pool.finalized.store(number, Ordering::Relaxed);
    }
    // What is sent stays in the pool, as there.
    chain.pool.hold().await;
    (chain, hashes)
}

fn exchanges(folder: &Path) -> Vec<Exchange> {
    let mut exchanges = Vec::new();
    let mut files: Vec<PathBuf> = Vec::new();
    for method in fs::read_dir(folder).expect("the folder") {
        let method = method.expect("an entry").path();
        if method.is_dir() {
            files.extend(
                fs::read_dir(method).expect("a folder").map(|file| file.expect("a file").path()),
            );
        }
    }
    files.sort();
    for file in files.iter().filter(|file| file.extension().is_some_and(|ext| ext == "io")) {
        let test = file.strip_prefix(folder).expect("below").display().to_string();
        let text = fs::read_to_string(file).expect("a test");
        let lines: Vec<_> = text.lines().collect();
        for pair in
            lines.iter().filter(|line| !line.starts_with("//")).collect::<Vec<_>>().chunks(2)
        {
            let [request, expected] = pair else { continue };
            let json = |line: &str, mark| {
                serde_json::from_str(line.strip_prefix(mark).expect("a mark")).expect("JSON")
            };
            exchanges.push(Exchange {
                test: test.clone(),
                request: json(request, ">> "),
                expected: json(expected, "<< "),
            });
        }
    }
    exchanges
}

/// What a value looks like: the names and the formats of all that it holds.
fn formats(value: &Value, path: &str, found: &mut BTreeMap<String, String>) {
    let format = match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                formats(field, &format!("{path}.{name}"), found);
            }
            "object".to_owned()
        }
        Value::Array(items) => {
            for item in items {
                formats(item, &format!("{path}[]"), found);
            }
            "list".to_owned()
        }
        Value::String(text) => match text.strip_prefix("0x") {
            None => "text".to_owned(),
            Some(digits) if matches!(digits.len(), 16 | 40 | 64 | 512) => {
                format!("{} bytes", digits.len() / 2)
            }
            Some(digits)
                if !digits.is_empty()
                    && (digits == "0" || !digits.starts_with('0'))
                    && digits.len() < 16 =>
            {
                "quantity".to_owned()
            }
            Some(_) => "data".to_owned(),
        },
        Value::Null => "null".to_owned(),
        Value::Bool(_) => "bool".to_owned(),
        Value::Number(_) => "number".to_owned(),
    };
    found.entry(path.to_owned()).or_insert(format);
}

/// How an answer differs from the expected one.
fn difference(expected: &Value, answer: &Value) -> Option<String> {
    if let Some(error) = expected.get("error") {
        let code = &answer["error"]["code"];
        return (*code != error["code"])
            .then(|| format!("expected {error}, got {}", short(answer)));
    }
    if answer.get("error").is_some() {
        return Some(format!("expected a result, got {}", short(answer)));
    }
    let (mut wanted, mut got) = (BTreeMap::new(), BTreeMap::new());
    formats(&expected["result"], "", &mut wanted);
    formats(&answer["result"], "", &mut got);
    let mut differences = Vec::new();
    for (path, format) in &wanted {
        match got.get(path) {
            None => differences.push(format!("no {path} ({format})")),
            Some(other) if other != format => {
                differences.push(format!("{path} is {other}, not {format}"))
            }
            Some(_) => {}
        }
    }
    differences.extend(
        got.keys().filter(|path| !wanted.contains_key(*path)).map(|path| format!("{path} is new")),
    );
    (!differences.is_empty()).then(|| differences.join("; "))
}

fn short(answer: &Value) -> String {
    answer.to_string().chars().take(300).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_have_the_form_that_the_specification_has() {
    let Some(folder) = env::var_os("MILLRACE_EXECUTION_APIS").map(PathBuf::from) else {
        println!("skipped: MILLRACE_EXECUTION_APIS names no tests/ of ethereum/execution-apis");
        return;
    };
    let (chain, hashes) = chain(&folder).await;
    let (mut same, mut alike, mut known, mut unknown) = (0, 0, 0, Vec::new());
    for Exchange { test, request, expected } in exchanges(&folder) {
        let mut request = request.to_string();
        for (theirs, ours) in &hashes {
            request = request.replace(&format!("\"{theirs}\""), ours);
        }
        let request = serde_json::from_str(&request).expect("JSON");
        let answer = chain.post(&request).await;
        let difference = difference(&expected, &answer);
        match difference {
            None if answer == expected => same += 1,
            None => alike += 1,
            Some(_) if DIFFERENT.iter().any(|(known, _)| test.starts_with(known)) => known += 1,
            Some(difference) => unknown.push(format!("{test}: {difference}")),
        }
    }
    println!("{same} the same, {alike} of the same form, {known} different for a reason");
    assert!(unknown.is_empty(), "{}", unknown.join("\n"));
}

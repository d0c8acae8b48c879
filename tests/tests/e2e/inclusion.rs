//! Inclusion proofs over real chains: made by the chain's own node, and checked with an L1 and nothing else.

use std::path::Path;

use alloy::{
    primitives::{B256, Bytes, U256, hex},
    providers::Provider,
};
use eyre::{Result, ensure, eyre};
use millrace_l1::testing::Anvil;
use millrace_proto::Stage;
use millrace_tests::{
    Chain, ChainOptions, Output, Services, ServicesOptions, Wallet, anvil, dev_key, eventually,
    fresh_address, millrace, run,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use url::Url;

/// Fast batches, and commitments that are final soon.
const SOON: [&str; 4] = ["--challenge-window", "1s", "--batch-age", "1s"];

/// A chain on an anvil, which outlives it.
async fn start(more: &[&str]) -> Result<(Anvil, Chain)> {
    let l1 = anvil(1)?;
    let options = ChainOptions::default().args(SOON).args(more.iter().copied());
    let chain = Chain::start(options.on(l1.url().clone())).await?;
    Ok((l1, chain))
}

/// Makes proofs of one node's transactions into files of one folder.
struct Prover<'a> {
    rpc: &'a Url,
    folder: TempDir,
}

impl<'a> Prover<'a> {
    fn new(rpc: &'a Url) -> Result<Self> {
        Ok(Self { rpc, folder: tempfile::tempdir()? })
    }

    async fn ask(&self, hash: B256, more: &[&str]) -> Result<Output> {
        let (hash, rpc) = (hash.to_string(), self.rpc.to_string());
        run(&millrace()?, &[&["prove-inclusion", &hash, "--url", &rpc], more].concat()).await
    }

    /// The file with a transaction's proof.
    async fn prove(&self, hash: B256) -> Result<String> {
        let file = self.folder.path().join(format!("{hash}.json"));
        let file = file.to_string_lossy().into_owned();
        self.ask(hash, &["--wait", "--out", &file]).await?.success()?;
        Ok(file)
    }
}

async fn check(file: &str, l1: &Url, more: &[&str]) -> Result<Output> {
    run(&millrace()?, &[&["verify-inclusion", file, "--l1", l1.as_str()], more].concat()).await
}

async fn shown(file: &str, l1: &Url, more: &[&str]) -> Result<Value> {
    check(file, l1, &[&["--json"], more].concat()).await?.success()?.last_json()
}

/// What a changed proof is refused with.
async fn refused(file: &str, l1: &Url, change: impl FnOnce(&mut Value)) -> Result<String> {
    let mut proof: Value = serde_json::from_str(&std::fs::read_to_string(file)?)?;
    change(&mut proof);
    let path = Path::new(file).with_extension("changed");
    std::fs::write(&path, proof.to_string())?;
    let output = check(&path.to_string_lossy(), l1, &[]).await?;
    ensure!(output.code == Some(1), "exit {:?}: {}", output.code, output.stdout);
    ensure!(output.stdout.is_empty(), "{}", output.stdout);
    Ok(output.stderr)
}

/// The bytes of a field with its last one changed.
fn flipped(field: &Value) -> Value {
    let bytes = field.as_str().and_then(|text| hex::decode(text).ok());
    let mut bytes = bytes.unwrap_or_default();
    if let Some(last) = bytes.last_mut() {
        *last ^= 1;
    }
    json!(hex::encode_prefixed(bytes))
}

/// A transaction's proof on a chain with this DA layer is checked after the chain was stopped, and changed ones are refused.
async fn outlives_its_chain(da: &str) -> Result<()> {
    let (l1, mut chain) = start(&["--da", da]).await?;
    let rpc = chain.ready().rpc.clone();
    let prover = Prover::new(&rpc)?;
    let mut wallet = Wallet::new(dev_key(1), chain.provider()).await?;
    let mut hashes = Vec::new();
    for _ in 0..3 {
        hashes.push(wallet.transfer(fresh_address(), U256::from(1)).await?);
    }
    let last = *hashes.last().ok_or_else(|| eyre!("three were sent"))?;
    let status = chain.wait_for(last, Stage::Finalized).await?;
    let receipt = chain.provider().get_transaction_receipt(last).await?;
    let receipt = receipt.ok_or_else(|| eyre!("no receipt"))?;
    let file = prover.prove(last).await?;
    let rollup = chain.ready().rollup.to_string();
    ensure!(chain.interrupt().await?.success(), "the chain did not stop");

    let l1_url = l1.url();
    let found = shown(&file, l1_url, &["--rollup", &rollup]).await?;
    ensure!(found["transaction"] == last.to_string() && found["held_by"] == "bytes", "{found}");
    ensure!(found["block"] == json!(receipt.block_number), "{found}");
    ensure!(found["block_hash"] == json!(receipt.block_hash), "{found}");
    ensure!(found["index"] == json!(receipt.transaction_index), "{found}");
    ensure!(found["batch"] == json!(status.batch) && found["da"] == da, "{found}");
    ensure!(found["commitment"]["l1_tx"] == json!(status.l1.map(|l1| l1.tx_hash)), "{found}");
    ensure!(found["commitment"]["proved_by_state"] == true, "{found}");
    // The L1 that was asked says itself that it is final by now.
    eventually("finality", || async {
        let output = check(&file, l1_url, &["--stage", "finalized"]).await?;
        Ok((output.code == Some(0)).then_some(()))
    })
    .await?;

    let changes: [(&str, &str); 7] = [
        ("/batch", "the batch's bytes have the digest"),
        ("/transaction", "the transaction has the hash"),
        ("/transactionHash", "the transaction has the hash"),
        ("/headers/0", "the headers lead to block"),
        ("/posted/receipt", "the receipt is not what"),
        ("/posted/header", "L1 does not have block"),
        ("/committed/transaction", "the L1 transaction is not what"),
    ];
    for (field, words) in changes {
        let change = |proof: &mut Value| {
            if let Some(field) = proof.pointer_mut(field) {
                *field = flipped(field);
            }
        };
        let said = refused(&file, l1_url, change).await?;
        // One header alone is the last: otherwise the next one does not follow it.
        let follows = field == "/headers/0" && said.contains("does not follow the one before it");
        ensure!(said.contains(words) || follows, "{field}: {said}");
    }
    let said = refused(&file, l1_url, |proof| proof["transactionIndex"] = json!("0x7")).await?;
    ensure!(said.contains("the transaction is not what the block's transactions root"), "{said}");
    let output = check(&file, l1_url, &["--rollup", &fresh_address().to_string()]).await?;
    ensure!(output.code == Some(1) && output.stderr.contains("is for the rollup contract"));
    // Another L1 with the same chain id does not have these blocks.
    let other = anvil(1)?;
    let output = check(&file, other.url(), &[]).await?;
    ensure!(output.code == Some(1), "exit {:?}: {}", output.code, output.stdout);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proof_from_blobs_is_checked_with_an_l1_alone() -> Result<()> {
    outlives_its_chain("l1_blob").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proof_from_calldata_is_checked_with_an_l1_alone() -> Result<()> {
    outlives_its_chain("l1_calldata").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proof_from_an_object_store_is_checked_with_an_l1_alone() -> Result<()> {
    outlives_its_chain("object_store").await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_posted_yet_has_no_proof_and_the_answer_says_so() -> Result<()> {
    // The embedded L1, and batches that are not closed while this runs.
    let chain = Chain::start(ChainOptions::default().args(["--batch-age", "4m"])).await?;
    let rpc = chain.ready().rpc.clone();
    let prover = Prover::new(&rpc)?;
    let unknown = B256::repeat_byte(7);
    let answer = async |hash: B256, reason: &str, words: &str| {
        let output = prover.ask(hash, &[]).await?;
        ensure!(output.code == Some(1) && output.stdout.is_empty(), "{output:?}");
        ensure!(output.stderr.contains(words), "{}", output.stderr);
        let provider = chain.provider();
        let method = "millrace_getInclusionProof".into();
        let asked = provider.raw_request::<_, Value>(method, (hash,)).await;
        let error = asked.expect_err("there is no proof");
        let error = error.as_error_resp().ok_or_else(|| eyre!("{error}"))?.clone();
        ensure!(error.code == -32001 && error.message.contains(words), "{error}");
        let data: Value = serde_json::from_str(error.data.ok_or_else(|| eyre!("no data"))?.get())?;
        ensure!(data == json!({ "reason": reason }), "{data}");
        Ok(())
    };
    answer(unknown, "UNKNOWN_TRANSACTION", "is unknown").await?;

    let mut wallet = Wallet::new(dev_key(1), chain.provider()).await?;
    let hash = wallet.transfer(fresh_address(), U256::from(1)).await?;
    chain.wait_for(hash, Stage::Sequenced).await?;
    answer(hash, "NOT_POSTED", "is in no batch on L1 yet").await?;

    // A nonce is missing before it.
    let mut wallet = Wallet::new(dev_key(2), chain.provider()).await?;
    wallet.sign(fresh_address().into(), U256::from(1), Bytes::new(), 21_000);
    let hash = wallet.transfer(fresh_address(), U256::from(1)).await?;
    answer(hash, "NOT_SEQUENCED", "is in no block yet").await?;

    let output = run(&millrace()?, &["prove-inclusion", "0x12", "--url", rpc.as_str()]).await?;
    ensure!(output.code == Some(2), "a wrong call: {output:?}");
    let output = check("/nowhere.json", &chain.ready().l1, &[]).await?;
    ensure!(output.code == Some(1) && output.stderr.contains("cannot read"), "{output:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn deposits_and_batches_of_state_diffs_are_proved_by_their_blocks() -> Result<()> {
    let (l1, mut chain) = start(&["--batch-payload", "state-diffs"]).await?;
    let rpc = chain.ready().rpc.clone();
    let prover = Prover::new(&rpc)?;
    let mut wallet = Wallet::new(dev_key(1), chain.provider()).await?;
    let hash = wallet.send(fresh_address().into(), U256::from(1), Bytes::new()).await?;
    let file = prover.prove(hash.transaction_hash).await?;
    chain.interrupt().await?;
    let found = shown(&file, l1.url(), &[]).await?;
    ensure!(found["held_by"] == "state_diffs", "{found}");

    let (l1, mut chain) = start(&[]).await?;
    let rpc = chain.ready().rpc.clone();
    let prover = Prover::new(&rpc)?;
    let to = fresh_address();
    chain.deposit(to, "2").await?;
    let l2 = chain.provider();
    let block = eventually("the deposit on L2", || async {
        let head = l2.get_block_number().await?;
        let came = !l2.get_balance(to).number(head).await?.is_zero();
        Ok(came.then_some(head))
    })
    .await?;
    let mut deposit = None;
    for number in (1..=block).rev() {
        let block = l2.get_block_by_number(number.into()).await?;
        let block = block.ok_or_else(|| eyre!("a block is missing"))?;
        if let Some(hash) = block.transactions.hashes().next() {
            deposit = Some(hash);
            break;
        }
    }
    let file = prover.prove(deposit.ok_or_else(|| eyre!("no deposit"))?).await?;
    chain.interrupt().await?;
    let found = shown(&file, l1.url(), &[]).await?;
    ensure!(found["held_by"] == "queue" && found["index"] == 0, "{found}");
    let text = check(&file, l1.url(), &[]).await?.success()?.stdout;
    ensure!(text.contains("it comes from L1's queue"), "{text}");
    ensure!(text.contains("make sure that it is the one you mean"), "{text}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_set_makes_proofs_too() -> Result<()> {
    let l1 = anvil(1)?;
    let options = ServicesOptions {
        l1: l1.url().clone(),
        beacon: l1.url().clone(),
        transactions: Default::default(),
        verifier: false,
        more: String::new(),
    };
    let services = Services::start(options).await?;
    let rpc = services.ready().rpc.clone();
    let prover = Prover::new(&rpc)?;
    let mut wallet = Wallet::new(dev_key(1), services.ready().provider()).await?;
    let hash = wallet.transfer(fresh_address(), U256::from(1)).await?;
    let file = prover.prove(hash).await?;
    drop(services);
    let found = shown(&file, l1.url(), &[]).await?;
    ensure!(found["transaction"] == hash.to_string() && found["held_by"] == "bytes", "{found}");
    ensure!(found["rollup_given"] == false, "{found}");
    let rollup = found["rollup"].as_str().ok_or_else(|| eyre!("no address in {found}"))?;
    let found = shown(&file, l1.url(), &["--rollup", rollup]).await?;
    ensure!(found["rollup_given"] == true, "{found}");
    Ok(())
}

//! Money in and out: the bridge, as a user with the command line meets it.

use std::path::Path;

use alloy::{
    network::TransactionBuilder,
    primitives::{Address, B256, U256, hex, utils::parse_ether},
    providers::{Provider, ProviderBuilder},
    rpc::types::TransactionRequest,
    sol_types::SolValue,
};
use eyre::{Result, ensure, eyre};
use millrace_l1::{
    contracts::{BridgedToken, L2TokenBridge, MessagePasser, Rollup},
    testing::SilentToken,
};
use millrace_proto::{MESSAGE_PASSER, Stage, TOKEN_BRIDGE};
use millrace_tests::{
    Chain, ChainOptions, Output, anvil, dev_key, eventually, fresh_address, millrace, repository,
    run,
};
use millrace_workload::Artifacts;
use serde_json::Value;

/// A chain whose commitments are final soon.
async fn chain() -> Result<Chain> {
    let options = ["--challenge-window", "1s", "--batch-age", "1s"];
    Chain::start(ChainOptions::default().args(options)).await
}

/// One of the commands of the bridge.
async fn command(arguments: &[&str]) -> Result<Output> {
    run(&millrace()?, arguments).await
}

/// Commands on a chain.
struct Cli<'a> {
    chain: &'a Chain,
    folder: &'a Path,
}

impl Cli<'_> {
    fn on_l1(&self) -> [String; 4] {
        let ready = self.chain.ready();
        ["--l1".into(), ready.l1.to_string(), "--rollup".into(), ready.rollup.to_string()]
    }

    async fn run(&self, name: &str, on_l1: bool, more: &[&str]) -> Result<Output> {
        let place = self.on_l1();
        let mut arguments = vec![name];
        if on_l1 {
            arguments.extend(place.iter().map(String::as_str));
        }
        arguments.extend(more);
        command(&arguments).await
    }

    async fn json(&self, name: &str, on_l1: bool, more: &[&str]) -> Result<Value> {
        self.run(name, on_l1, &[more, &["--json"]].concat()).await?.success()?.last_json()
    }

    /// Withdraws, proves, and has it paid out.
    async fn bring_out(&self, key: &str, more: &[&str]) -> Result<Value> {
        let rpc = self.chain.ready().rpc.to_string();
        let basics = ["--rpc", &rpc, "--dev-key", key];
        let sent = self.json("withdraw", false, &[&basics[..], more].concat()).await?;
        let tx = sent["tx"].as_str().ok_or_else(|| eyre!("{sent}"))?;
        let file = self.folder.join(format!("{tx}.json"));
        let file = file.to_string_lossy();
        let prove = ["--rpc", &rpc, "--tx", tx, "--wait", "--out", &file];
        self.run("prove-withdrawal", true, &prove).await?.success()?;
        // Anyone may have it delivered.
        let finalize = ["--proof", &file, "--dev-key", "4", "--wait"];
        let finalized = self.json("finalize-withdrawal", true, &finalize).await?;
        ensure!(finalized["state"] == "delivered", "{finalized}");
        let again = self.json("finalize-withdrawal", true, &finalize).await?;
        ensure!(again["state"] == "delivered before", "{again}");
        Ok(sent)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ether_goes_in_and_comes_out_once() -> Result<()> {
    let chain = chain().await?;
    let folder = tempfile::tempdir()?;
    let cli = Cli { chain: &chain, folder: folder.path() };
    let l1 = ProviderBuilder::new().connect_http(chain.ready().l1.clone());
    let l2 = chain.provider();
    let (to, back) = (fresh_address(), fresh_address());
    let [to_text, back_text] = [to, back].map(|address| address.to_string());

    let deposit = ["--dev-key", "1", "--amount", "2.5", "--to", &to_text];
    let deposited = cli.json("deposit", true, &deposit).await?;
    ensure!(deposited["index"] == 0, "{deposited}");
    eventually("the deposit on L2", || async {
        Ok((l2.get_balance(to).await? == parse_ether("2.5")?).then_some(()))
    })
    .await?;

    let withdraw = ["--amount", "1.25", "--to", &back_text];
    let sent = cli.bring_out("2", &withdraw).await?;
    ensure!(l1.get_balance(back).await? == parse_ether("1.25")?);
    let held = l1.get_balance(chain.ready().rollup).await?;
    ensure!(held == parse_ether("1.25")?, "{held}");

    // A plain transfer withdraws too, and L1 alone is enough to prove it.
    let wallet = ProviderBuilder::new().wallet(dev_key(5)).connect_http(chain.ready().rpc.clone());
    let plain = TransactionRequest::default().with_to(MESSAGE_PASSER).with_value(U256::from(7));
    let receipt = wallet.send_transaction(plain).await?.get_receipt().await?;
    ensure!(receipt.status(), "the transfer failed");
    let tx = receipt.transaction_hash.to_string();
    let rpc = chain.ready().rpc.to_string();
    let beacon = chain.ready().beacon.to_string();
    let proof = async |more: &[&str]| {
        let arguments = [&["--tx", &tx, "--wait", "--beacon", &beacon], more].concat();
        let output = cli.run("prove-withdrawal", true, &arguments).await?.success()?;
        Ok::<Value, eyre::Report>(serde_json::from_str(&output.stdout)?)
    };
    let by_l2 = proof(&["--rpc", &rpc]).await?;
    ensure!(by_l2 == proof(&[]).await?, "another proof from L1 alone");
    ensure!(by_l2["message"]["value"] == "0x7", "{by_l2}");
    let file = folder.path().join("plain.json");
    std::fs::write(&file, by_l2.to_string())?;
    let before = l1.get_balance(dev_key(5).address()).await?;
    let finalize = ["--proof", &file.to_string_lossy(), "--dev-key", "4", "--wait"];
    cli.json("finalize-withdrawal", true, &finalize).await?;
    ensure!(l1.get_balance(dev_key(5).address()).await? == before + U256::from(7));

    // A proof that was tampered with is refused, and nothing is paid.
    let mut forged = by_l2.clone();
    forged["message"]["value"] = "0x8".into();
    std::fs::write(&file, forged.to_string())?;
    let output = cli.run("finalize-withdrawal", true, &finalize).await?;
    ensure!(output.code == Some(1), "exit {:?}", output.code);
    ensure!(output.stderr.contains("names another message"), "{}", output.stderr);
    let id = sent["id"].as_str().ok_or_else(|| eyre!("{sent}"))?;
    ensure!(id.len() == 66, "{sent}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_go_in_and_come_out() -> Result<()> {
    let chain = chain().await?;
    let folder = tempfile::tempdir()?;
    let cli = Cli { chain: &chain, folder: folder.path() };
    let owner = dev_key(1);
    let l1 = ProviderBuilder::new().wallet(owner.clone()).connect_http(chain.ready().l1.clone());
    let l2 = chain.provider();
    let code = Artifacts::read(&repository().join(".tools/node_modules"))?.erc20;
    let supply = parse_ether("1000")?;
    let arguments = ("Grain".to_owned(), "GRN".to_owned(), supply, owner.address());
    let code = [code.as_ref(), &arguments.abi_encode_params()].concat();
    let deploy = TransactionRequest::default().with_deploy_code(code);
    let receipt = l1.send_transaction(deploy).await?.get_receipt().await?;
    let token = receipt.contract_address.ok_or_else(|| eyre!("no token"))?;
    let token_text = token.to_string();

    let deposit = ["--dev-key", "1", "--token", &token_text, "--amount", "12.5"];
    cli.json("deposit", true, &deposit).await?;
    let counterpart = brought_in(&l2, token, owner.address(), parse_ether("12.5")?).await?;
    let on_l2 = BridgedToken::new(counterpart, l2.clone());
    ensure!(on_l2.name().call().await? == "Grain" && on_l2.symbol().call().await? == "GRN");
    ensure!(on_l2.decimals().call().await? == 18 && on_l2.l1Token().call().await? == token);

    let back = fresh_address();
    let more = ["--token", &token_text, "--amount", "2.5", "--to", &back.to_string()];
    cli.bring_out("1", &more).await?;
    let on_l1 = BridgedToken::new(token, l1.clone());
    ensure!(on_l1.balanceOf(back).call().await? == parse_ether("2.5")?);
    ensure!(on_l2.totalSupply().call().await? == parse_ether("10")?);
    let bridge = Rollup::new(chain.ready().rollup, l1.clone()).tokenBridge().call().await?;
    ensure!(on_l1.balanceOf(bridge).call().await? == parse_ether("10")?);

    // More than there is does not leave L2, and the command says so.
    let rpc = chain.ready().rpc.to_string();
    let more = ["--rpc", &rpc, "--dev-key", "1", "--token", &token_text, "--amount", "11"];
    let output = cli.run("withdraw", false, &more).await?;
    ensure!(output.code == Some(1), "exit {:?}", output.code);
    ensure!(output.stderr.contains("ERC20InsufficientBalance"), "{}", output.stderr);
    Ok(())
}

/// Waits until an account has so many of an L1 token on L2, and tells their contract there.
async fn brought_in(
    l2: &impl Provider,
    token: Address,
    account: Address,
    amount: U256,
) -> Result<Address> {
    let counterpart = L2TokenBridge::new(TOKEN_BRIDGE, l2).tokenOf(token).call().await?;
    eventually("the tokens on L2", || async {
        if l2.get_code_at(counterpart).await?.is_empty() {
            return Ok(None);
        }
        let balance = BridgedToken::new(counterpart, l2).balanceOf(account).call().await?;
        Ok((balance == amount).then_some(()))
    })
    .await?;
    Ok(counterpart)
}

/// A token that answers nothing, and grants no allowance while another stands, as USDT.
#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_the_old_kind_go_in_and_come_out() -> Result<()> {
    let chain = chain().await?;
    let folder = tempfile::tempdir()?;
    let cli = Cli { chain: &chain, folder: folder.path() };
    let owner = dev_key(1);
    let l1 = ProviderBuilder::new().wallet(owner.clone()).connect_http(chain.ready().l1.clone());
    let token = SilentToken::deploy(l1.clone()).await?;
    let units = |whole: u64| U256::from(whole) * U256::from(1_000_000);
    let bridge = Rollup::new(chain.ready().rollup, l1.clone()).tokenBridge().call().await?;
    token.mint(owner.address(), units(100)).send().await?.get_receipt().await?;
    // What somebody has approved before, and not used up.
    token.approve(bridge, units(1)).send().await?.get_receipt().await?;
    ensure!(
        token.approve(bridge, units(2)).from(owner.address()).call().await.is_err(),
        "the token is not of that kind"
    );

    let token_text = token.address().to_string();
    for amount in ["12.5", "7.5"] {
        let deposit = ["--dev-key", "1", "--token", &token_text, "--amount", amount];
        cli.json("deposit", true, &deposit).await?;
    }
    ensure!(token.allowance(owner.address(), bridge).call().await?.is_zero());
    brought_in(&chain.provider(), *token.address(), owner.address(), units(20)).await?;

    let back = fresh_address();
    let more = ["--token", &token_text, "--amount", "5", "--to", &back.to_string()];
    cli.bring_out("1", &more).await?;
    ensure!(token.balanceOf(back).call().await? == units(5));
    ensure!(token.balanceOf(bridge).call().await? == units(15));
    Ok(())
}

/// No command guesses what a contract of another version means.
#[tokio::test(flavor = "multi_thread")]
async fn a_contract_of_another_version_is_refused() -> Result<()> {
    let chain = chain().await?;
    let l1 = ProviderBuilder::new().wallet(dev_key(1)).connect_http(chain.ready().l1.clone());
    // Code that answers 3 to whatever it is asked, behind what puts it there.
    let deploy =
        TransactionRequest::default().with_deploy_code(hex!("6760035f5260205ff35f5260086018f3"));
    let receipt = l1.send_transaction(deploy).await?.get_receipt().await?;
    let other = receipt.contract_address.ok_or_else(|| eyre!("no contract"))?.to_string();
    let url = chain.ready().l1.to_string();
    let place = ["--l1", &url, "--rollup", &other];
    let key = ["--dev-key", "1"];
    let hash = B256::repeat_byte(1).to_string();
    let rpc = chain.ready().rpc.to_string();
    let file = tempfile::tempdir()?.path().join("proof.json").to_string_lossy().into_owned();
    let commands: [(&str, Vec<&str>); 6] = [
        ("deposit", [&key[..], &["--amount", "1"]].concat()),
        ("force-include", [&key[..], &["--to", &other, "--nonce", "0"]].concat()),
        ("prove-withdrawal", vec!["--rpc", &rpc, "--tx", &hash]),
        ("finalize-withdrawal", [&key[..], &["--proof", &file]].concat()),
        ("post-batch", key.to_vec()),
        ("verify", Vec::new()),
    ];
    for (name, more) in commands {
        let output = command(&[&[name], &place[..], &more].concat()).await?;
        ensure!(output.code == Some(1), "{name}: exit {:?}", output.code);
        let told =
            output.stderr.contains("has version 3, and this build of millrace knows version 2");
        ensure!(told, "{name}: {}", output.stderr);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_proved_or_paid_yet_is_told() -> Result<()> {
    let options = ["--challenge-window", "1h", "--batch-age", "1s"];
    let chain = Chain::start(ChainOptions::default().args(options)).await?;
    let folder = tempfile::tempdir()?;
    let cli = Cli { chain: &chain, folder: folder.path() };
    let rpc = chain.ready().rpc.to_string();
    let unknown = "0x1111111111111111111111111111111111111111111111111111111111111111";
    let output = cli.run("prove-withdrawal", true, &["--rpc", &rpc, "--tx", unknown]).await?;
    ensure!(output.code == Some(1) && output.stderr.contains("no transaction"), "{output:?}");

    let withdraw = ["--rpc", &rpc, "--dev-key", "2", "--amount", "1"];
    let sent = cli.json("withdraw", false, &withdraw).await?;
    let tx = sent["tx"].as_str().ok_or_else(|| eyre!("{sent}"))?;
    let file = folder.path().join("proof.json");
    let file = file.to_string_lossy();
    let prove = ["--rpc", &rpc, "--tx", tx, "--wait", "--out", &file];
    cli.run("prove-withdrawal", true, &prove).await?.success()?;
    let finalize = ["--proof", &file, "--dev-key", "4"];
    let output = cli.run("finalize-withdrawal", true, &finalize).await?;
    ensure!(output.code == Some(1) && output.stderr.contains("is final from"), "{output:?}");

    // Ether that was not deposited does not leave: the predeploy records it, L1 does not pay.
    let passer = MessagePasser::new(MESSAGE_PASSER, chain.provider());
    ensure!(passer.nonce().call().await? == 1);
    let l1 = ProviderBuilder::new().connect_http(chain.ready().l1.clone());
    ensure!(l1.get_balance(chain.ready().rollup).await?.is_zero());
    Ok(())
}

/// With an L1 URL and a key alone, all services being down: what was committed is proved and paid, and what is put into L1's queue is in the chain later.
#[tokio::test(flavor = "multi_thread")]
async fn l1_is_enough_while_the_sequencer_is_down() -> Result<()> {
    let anvil = anvil(2)?;
    let options = ["--challenge-window", "1s", "--batch-age", "1s"];
    let options = ChainOptions::default().on(anvil.url().clone()).args(options);
    let mut chain = Chain::start(options).await?;
    let folder = tempfile::tempdir()?;
    let (to, back) = (fresh_address(), fresh_address());
    let [to_text, back_text] = [to, back].map(|address| address.to_string());
    chain.deposit(to, "2").await?;
    let rpc = chain.ready().rpc.to_string();
    let withdraw = ["--rpc", &rpc, "--dev-key", "2", "--amount", "1.25", "--to", &back_text];
    let cli = Cli { chain: &chain, folder: folder.path() };
    let sent = cli.json("withdraw", false, &withdraw).await?;
    let tx = sent["tx"].as_str().ok_or_else(|| eyre!("{sent}"))?;
    chain.wait_for(tx.parse()?, Stage::Committed).await?;
    eventually("the deposit on L2", || async {
        Ok((chain.provider().get_balance(to).await? == parse_ether("2")?).then_some(()))
    })
    .await?;

    chain.kill().await?;
    let cli = Cli { chain: &chain, folder: folder.path() };
    let beacon = chain.ready().beacon.to_string();
    let file = folder.path().join("proof.json");
    let file = file.to_string_lossy();
    let prove = ["--tx", tx, "--beacon", &beacon, "--out", &file];
    cli.run("prove-withdrawal", true, &prove).await?.success()?;
    let finalize = ["--proof", &file, "--dev-key", "4", "--wait"];
    let paid = cli.json("finalize-withdrawal", true, &finalize).await?;
    ensure!(paid["state"] == "delivered", "{paid}");
    ensure!(chain.l1_provider().get_balance(back).await? == parse_ether("1.25")?);
    let force = ["--dev-key", "3", "--to", &to_text, "--amount", "1", "--nonce", "0"];
    cli.json("force-include", true, &force).await?;
    chain.deposit(to, "4").await?;

    let chain = chain.restart().await?;
    eventually("what was queued meanwhile", || async {
        Ok((chain.provider().get_balance(to).await? == parse_ether("7")?).then_some(()))
    })
    .await?;
    ensure!(millrace_tests::verify(chain.ready(), &[]).await?["ok"] == true);
    Ok(())
}

/// The way around a sequencer that is gone: what users force on L1, anyone brings into the chain once the sequencer's time is over. If it comes back, it goes on behind that.
#[tokio::test(flavor = "multi_thread")]
async fn anyone_brings_in_what_was_forced_when_the_sequencer_is_gone() -> Result<()> {
    let anvil = anvil(2)?;
    let options = ["--challenge-window", "1s", "--batch-age", "1s", "--sequencer-timeout", "1h"];
    let archive = millrace_tests::BlobArchive::new()?;
    let options = ChainOptions::default().on(anvil.url().clone()).args(options);
    let options = options.args(archive.options());
    let mut chain = Chain::start(options).await?;
    let folder = tempfile::tempdir()?;
    let mut wallet = millrace_tests::Wallet::new(dev_key(0), chain.provider()).await?;
    let before = wallet.transfer(fresh_address(), U256::from(1)).await?;
    chain.wait_for(before, Stage::Committed).await?;
    chain.kill().await?;

    let (to, rich) = (fresh_address(), fresh_address());
    let to_text = to.to_string();
    let cli = Cli { chain: &chain, folder: folder.path() };
    let force = ["--dev-key", "3", "--to", &to_text, "--amount", "1", "--nonce", "0"];
    let forced = cli.json("force-include", true, &force).await?;
    chain.deposit(rich, "2").await?;
    let beacon = chain.ready().beacon.to_string();
    let post = ["--dev-key", "5", "--beacon", &beacon];
    let early = cli.run("post-batch", true, &post).await?;
    ensure!(early.code == Some(1) && early.stderr.contains("sign of life"), "{early:?}");

    anvil.rpc("evm_increaseTime", serde_json::json!([3_700])).await?;
    anvil.mine(2).await?;
    let posted = cli.json("post-batch", true, &post).await?;
    ensure!(posted["entries"] == 2, "{posted}");
    let summary = millrace_tests::verify(chain.ready(), &[]).await?;
    ensure!(summary["ok"] == true && summary["deposits"] == 2, "{summary}");
    ensure!(summary["head"]["hash"] == posted["last_block_hash"], "{summary} {posted}");
    let again = cli.run("post-batch", true, &post).await?;
    ensure!(again.code == Some(1) && again.stderr.contains("nothing waits"), "{again:?}");

    // It comes back.
    let chain = chain.restart().await?;
    let l2 = chain.provider();
    eventually("what was forced", || async {
        Ok((l2.get_balance(to).await? == parse_ether("1")?).then_some(()))
    })
    .await?;
    ensure!(l2.get_balance(rich).await? == parse_ether("2")?);
    let tx = forced["tx"].as_str().ok_or_else(|| eyre!("{forced}"))?.parse()?;
    let receipt = l2.get_transaction_receipt(tx).await?.and_then(|receipt| receipt.block_number);
    ensure!(receipt == posted["first_block"].as_u64(), "{receipt:?} {posted}");
    let mut wallet = millrace_tests::Wallet::new(dev_key(0), chain.provider()).await?;
    let after = wallet.transfer(fresh_address(), U256::from(1)).await?;
    chain.wait_for(after, Stage::Finalized).await?;
    ensure!(millrace_tests::verify(chain.ready(), &[]).await?["ok"] == true);

    // What others have posted is in the archive too: whoever has no other source of blobs gets the same chain.
    archive.complete(chain.ready()).await?;
    let empty = millrace_tests::anvil(2)?;
    let late = millrace_tests::Ready { beacon: empty.url().clone(), ..chain.ready().clone() };
    let verified = millrace_tests::verify(&late, &archive.options()).await?;
    ensure!(verified["ok"] == true && verified["deposits"] == 2, "{verified}");
    Ok(())
}

/// What is forced on L1 is in the chain, first of all, though nobody has sent it to the sequencer; what is not valid is passed over. L1 alone
/// gives the same chain.
async fn forced_transactions_are_included(payload: &str) -> Result<()> {
    let options = ["--challenge-window", "1s", "--batch-age", "1s", "--batch-payload", payload];
    let chain = Chain::start(ChainOptions::default().args(options)).await?;
    let folder = tempfile::tempdir()?;
    let cli = Cli { chain: &chain, folder: folder.path() };
    let l2 = chain.provider();
    let to = fresh_address();
    let to_text = to.to_string();
    let force =
        |nonce, amount| ["--dev-key", "3", "--to", &to_text, "--amount", amount, "--nonce", nonce];
    // Of these, the first and the last come too early, or too late.
    let early = cli.json("force-include", true, &force("1", "64")).await?;
    let first = cli.json("force-include", true, &force("0", "1")).await?;
    let second = cli.json("force-include", true, &force("1", "2")).await?;
    let late = cli.json("force-include", true, &force("0", "32")).await?;
    ensure!(early["index"] == 0 && late["index"] == 3, "{early} {late}");
    eventually("the forced transfers", || async {
        Ok((l2.get_balance(to).await? == parse_ether("3")?).then_some(()))
    })
    .await?;
    for forced in [&first, &second] {
        let hash = forced["tx"].as_str().ok_or_else(|| eyre!("{forced}"))?.parse()?;
        let receipt = l2.get_transaction_receipt(hash).await?;
        ensure!(receipt.is_some_and(|receipt| receipt.status()), "{forced}");
        chain.wait_for(hash, Stage::Finalized).await?;
    }
    // The sender's own transactions go on after them.
    let mut wallet = millrace_tests::Wallet::new(dev_key(3), chain.provider()).await?;
    let hash = wallet.transfer(to, U256::from(1)).await?;
    chain.wait_for(hash, Stage::Committed).await?;
    let summary = millrace_tests::verify(chain.ready(), &[]).await?;
    ensure!(summary["ok"] == true && summary["deposits"] == 4, "{summary}");
    ensure!(summary["skipped"].as_array().is_some_and(Vec::is_empty), "{summary}");

    // A transaction of another chain is noticed before it costs anything.
    let other = millrace_tests::cast(&[
        "mktx",
        "--private-key",
        &dev_key(3).to_bytes().to_string(),
        "--chain",
        "5",
        "--nonce",
        "9",
        "--gas-limit",
        "21000",
        "--gas-price",
        "1gwei",
        "--legacy",
        &to_text,
    ])
    .await?;
    let output = cli.run("force-include", true, &["--dev-key", "4", "--raw", &other]).await?;
    ensure!(output.code == Some(1) && output.stderr.contains("is for chain 5"), "{output:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn forced_transactions_are_included_in_batches_of_transactions() -> Result<()> {
    forced_transactions_are_included("transactions").await
}

#[tokio::test(flavor = "multi_thread")]
async fn forced_transactions_are_included_in_batches_of_state_diffs() -> Result<()> {
    forced_transactions_are_included("state-diffs").await
}

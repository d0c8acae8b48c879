//! Bad days of the L1: it goes away, and it reorgs.

use std::time::{Duration, Instant};

use alloy::{
    eips::BlockNumberOrTag,
    primitives::{B256, Bytes, U256, keccak256, utils::parse_ether},
    providers::Provider,
    signers::local::PrivateKeySigner,
};
use eyre::{Result, WrapErr, ensure, eyre};
use millrace_l1::testing::{Fault, FaultProxy};
use millrace_proto::{Sequencer, Stage};
use millrace_tests::{
    Chain, ChainOptions, Follower, Wallet, anvil, dev_key, eventually, fresh_address, millrace,
    run, transactions, verify,
};
use serde_json::{Value, json};

/// The chain that L1 gives is the sequencer's.
async fn derived_equals_sequenced(chain: &Chain) -> Result<()> {
    let summary = verify(chain.ready(), &[]).await?;
    let number = summary["head"]["number"].as_u64().ok_or_else(|| eyre!("{summary}"))?;
    let block = chain
        .provider()
        .get_block_by_number(number.into())
        .await?
        .ok_or_else(|| eyre!("the sequencer has no block {number}"))?;
    ensure!(summary["head"]["hash"] == block.header.hash.to_string(), "{summary}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn sequencing_goes_on_while_l1_is_down_for_a_minute() -> Result<()> {
    let anvil = anvil(8)?;
    let chain = Chain::start(ChainOptions::default().on(anvil.url().clone())).await?;
    let mut wallet = Wallet::new(dev_key(0), chain.provider()).await?;
    let first = wallet.transfer(fresh_address(), U256::from(1)).await?;
    chain.wait_for(first, Stage::Posted).await?;

    anvil.pause()?;
    let down = Instant::now();
    let (mut count, mut last) = (0, first);
    while down.elapsed() < Duration::from_secs(60) {
        last = wallet.transfer(fresh_address(), U256::from(1)).await?;
        chain.wait_for(last, Stage::Sequenced).await?;
        count += 1;
    }
    anvil.resume()?;
    ensure!(count > 10, "only {count} transactions were sequenced while L1 was down");

    chain.wait_for(last, Stage::Finalized).await?;
    derived_equals_sequenced(&chain).await
}

#[tokio::test(flavor = "multi_thread")]
async fn l1_reorgs_leave_the_chain_as_it_was() -> Result<()> {
    let anvil = anvil(8)?;
    let options = ChainOptions::default().on(anvil.url().clone()).args([
        "--l1-confirmations",
        "6",
        "--batch-age",
        "1s",
    ]);
    let chain = Chain::start(options).await?;
    let mut wallet = Wallet::new(dev_key(0), chain.provider()).await?;
    for depth in [1, 5] {
        // Several batches and commitments, the last of them inside what the reorg takes away.
        let mut last = wallet.transfer(fresh_address(), U256::from(1)).await?;
        for _ in 0..4 {
            chain.wait_for(last, Stage::Posted).await?;
            last = wallet.transfer(fresh_address(), U256::from(1)).await?;
        }
        chain.wait_for(last, Stage::Committed).await?;
        let before = chain.provider().get_block_number().await?;
        let hash = chain
            .provider()
            .get_block_by_number(before.into())
            .await?
            .ok_or_else(|| eyre!("no block {before}"))?
            .header
            .hash;
        anvil.reorg(depth).await?;

        let after = wallet.transfer(fresh_address(), U256::from(1)).await?;
        chain.wait_for(after, Stage::Finalized).await?;
        chain.wait_for(last, Stage::Finalized).await?;
        let kept = chain
            .provider()
            .get_block_by_number(before.into())
            .await?
            .ok_or_else(|| eyre!("block {before} is gone"))?;
        ensure!(kept.header.hash == hash, "a reorg of {depth} L1 blocks changed L2 block {before}");
        derived_equals_sequenced(&chain).await?;
    }
    // Heads did not move backwards on the way.
    let client = chain.sequencer()?;
    let status = client.status().await?;
    ensure!(status.heads.finalized.number <= status.heads.safe.number);
    ensure!(status.heads.safe.number <= status.heads.latest.number);
    eventually("nothing has halted", || async {
        let status = chain.status();
        Ok((status["status"]["halted"].is_null() && status["status"]["unsafe"].is_u64())
            .then_some(()))
    })
    .await
}

/// A reorg takes a deposit for good, deep below its confirmations, and all that was posted and committed over it: the blocks over it go too, what they hold besides is sequenced again, and everything
/// goes on by itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_reorg_that_takes_a_deposit_takes_the_blocks_over_it() -> Result<()> {
    deposit_taken_by_a_reorg(&["--batch-age", "1s"]).await
}

/// What settlement has put on its states goes too, and a full node goes with the sequencer.
#[tokio::test(flavor = "multi_thread")]
async fn a_reorg_that_takes_a_deposit_takes_the_state_diffs_over_it() -> Result<()> {
    deposit_taken_by_a_reorg(&["--batch-age", "1s", "--batch-payload", "state-diffs"]).await
}

async fn deposit_taken_by_a_reorg(more: &[&str]) -> Result<()> {
    let anvil = anvil(8)?;
    let options = ChainOptions::default().on(anvil.url().clone()).args(more.iter().copied());
    let chain = Chain::start(options).await?;
    let follower = Follower::start(chain.ready(), Some(&chain.ready().grpc), &[]).await?;
    let l2 = chain.provider();
    let mut wallet = Wallet::new(dev_key(0), chain.provider()).await?;
    let before = wallet.transfer(fresh_address(), U256::from(1)).await?;
    chain.wait_for(before, Stage::Committed).await?;
    let fork = chain.l1_provider().get_block_number().await?;

    // What is paid with the deposit cannot be paid without it.
    let rich = PrivateKeySigner::random();
    chain.deposit(rich.address(), "2").await?;
    eventually("the deposit on L2", || async {
        Ok((l2.get_balance(rich.address()).await? == parse_ether("2")?).then_some(()))
    })
    .await?;
    let mut depositor = Wallet::new(rich.clone(), chain.provider()).await?;
    let spent = depositor.transfer(fresh_address(), parse_ether("1")?).await?;
    let (mut others, paid) = (Vec::new(), fresh_address());
    for _ in 0..5 {
        let hash = wallet.transfer(paid, U256::from(1)).await?;
        chain.wait_for(hash, Stage::Sequenced).await?;
        others.push(hash);
    }
    chain.wait_for(others[4], Stage::Committed).await?;
    let (block, hash) = {
        let number = l2.get_block_number().await?;
        let block = l2.get_block_by_number(number.into()).await?;
        (number, block.ok_or_else(|| eyre!("no block {number}"))?.header.hash)
    };

    let depth = chain.l1_provider().get_block_number().await? - fork;
    anvil.reorg(depth).await?;
    let instead = fresh_address();
    chain.deposit(instead, "3").await?;
    eventually("the deposit that came instead", || async {
        Ok((l2.get_balance(instead).await? == parse_ether("3")?).then_some(()))
    })
    .await?;
    for hash in &others {
        chain.wait_for(*hash, Stage::Finalized).await?;
    }
    let client = chain.sequencer()?;
    let dropped = client.wait_for(spent, Stage::Finalized).await?;
    ensure!(dropped.stage == Stage::Dropped, "{dropped:?}");
    ensure!(l2.get_balance(paid).await? == U256::from(5), "each once");
    ensure!(l2.get_balance(rich.address()).await?.is_zero());
    let now = l2.get_block_by_number(block.into()).await?;
    ensure!(now.is_none_or(|now| now.header.hash != hash), "block {block} stands");
    ensure!(chain.log_contains("L2 reorg")?, "it is said");
    derived_equals_sequenced(&chain).await?;
    let node = follower.provider();
    eventually("the full node has gone with it", || async {
        let safe = node.get_block_by_number(BlockNumberOrTag::Safe).await?;
        let there = node.get_transaction_receipt(others[4]).await?;
        Ok(there.filter(|there| there.block_number <= safe.map(|safe| safe.header.number)))
    })
    .await
    .wrap_err_with(|| follower.log().unwrap_or_default())?;
    ensure!(node.get_balance(paid).await? == U256::from(5));
    ensure!(node.get_balance(rich.address()).await?.is_zero());
    ensure!(follower.status()["differs"].is_null(), "{}", follower.log()?);

    // So it does after a restart.
    let mut chain = chain;
    chain.interrupt().await?;
    let chain = chain.restart().await?;
    let mut wallet = Wallet::new(dev_key(0), chain.provider()).await?;
    let last = wallet.transfer(fresh_address(), U256::from(1)).await?;
    chain.wait_for(last, Stage::Finalized).await?;
    derived_equals_sequenced(&chain).await
}

/// L1 takes a deposit and all over it back, goes on without, and returns to what it had: the sequencer takes over the blocks that it had taken back.
#[tokio::test(flavor = "multi_thread")]
async fn an_l1_that_returns_to_what_it_had_brings_its_blocks_back() -> Result<()> {
    let anvil = anvil(64)?;
    let options = ChainOptions::default().on(anvil.url().clone());
    let options = options.args(["--batch-age", "1s", "--da", "l1_calldata"]);
    let chain = Chain::start(options).await?;
    let (l1, l2) = (chain.l1_provider(), chain.provider());
    let mut wallet = Wallet::new(dev_key(0), chain.provider()).await?;
    let before = wallet.transfer(fresh_address(), U256::from(1)).await?;
    chain.wait_for(before, Stage::Committed).await?;
    let fork = l1.get_block_number().await?;

    let (rich, paid) = (fresh_address(), fresh_address());
    chain.deposit(rich, "2").await?;
    eventually("the deposit on L2", || async {
        Ok((l2.get_balance(rich).await? == parse_ether("2")?).then_some(()))
    })
    .await?;
    let first = wallet.transfer(paid, U256::from(1)).await?;
    chain.wait_for(first, Stage::Posted).await?;
    let block = l2.get_block_by_number(l2.get_block_number().await?.into()).await?;
    let block = block.ok_or_else(|| eyre!("no head"))?.header;
    let tip = l1.get_block_number().await?;
    let held = transactions(&l1, fork + 1, tip).await?.into_iter();
    let held: Vec<_> = held.map(|(_, raw, before)| (raw, before)).collect();

    anvil.reorg(l1.get_block_number().await? - fork).await?;
    let instead = fresh_address();
    chain.deposit(instead, "3").await?;
    eventually("the deposit that came instead", || async {
        Ok((l2.get_balance(instead).await? == parse_ether("3")?).then_some(()))
    })
    .await?;
    let second = wallet.transfer(paid, U256::from(1)).await?;
    chain.wait_for(second, Stage::Committed).await?;
    chain.wait_for(first, Stage::Committed).await?;
    eventually("L1 is longer than it was", || async {
        Ok((l1.get_block_number().await? >= tip).then_some(()))
    })
    .await?;

    anvil.reorg_to(l1.get_block_number().await? - fork, &held).await?;
    eventually("the first deposit again", || async {
        let (rich, instead) = (l2.get_balance(rich).await?, l2.get_balance(instead).await?);
        Ok((rich == parse_ether("2")? && instead.is_zero()).then_some(()))
    })
    .await?;
    eventually("its blocks again", || async {
        let again = l2.get_block_by_number(block.number.into()).await?;
        Ok(again.is_some_and(|again| again.header.hash == block.hash).then_some(()))
    })
    .await?;
    let last = wallet.transfer(paid, U256::from(1)).await?;
    for hash in [first, second, last] {
        chain.wait_for(hash, Stage::Committed).await?;
    }
    ensure!(l2.get_balance(paid).await? == U256::from(3), "each once");
    ensure!(chain.log_contains("L1 holds other blocks")?, "it is said");
    derived_equals_sequenced(&chain).await
}

/// The machine is lost, with everything but the keys: all services go on after what L1 holds.
#[tokio::test(flavor = "multi_thread")]
async fn a_chain_that_has_lost_its_data_goes_on_after_what_l1_holds() -> Result<()> {
    let anvil = anvil(8)?;
    let options = ChainOptions::default().on(anvil.url().clone()).args(["--batch-age", "1s"]);
    let mut chain = Chain::start(options).await?;
    let mut wallet = Wallet::new(dev_key(0), chain.provider()).await?;
    let (rich, paid) = (fresh_address(), fresh_address());
    chain.deposit(rich, "2").await?;
    let mut last = wallet.transfer(paid, U256::from(1)).await?;
    for _ in 0..4 {
        chain.wait_for(last, Stage::Posted).await?;
        last = wallet.transfer(paid, U256::from(1)).await?;
    }
    // Everything; and then what the sequencer has alone.
    let all = ["sequencer", "executor", "da-adapter", "settlement"];
    for (count, lost) in [(5, &all[..]), (6, &all[..2])] {
        let place = chain.wait_for(last, Stage::Committed).await?.inclusion;
        let place = place.ok_or_else(|| eyre!("it is in no block"))?.block;
        chain.kill().await?;
        for service in lost {
            chain.lose(service)?;
        }
        let before = chain.log_length()?;
        chain = chain.restart().await?;
        let l2 = chain.provider();
        eventually("what L1 holds", || async {
            let found = l2.get_block_by_number(place.number.into()).await?;
            Ok(found.is_some_and(|found| found.header.hash == place.hash).then_some(()))
        })
        .await?;
        ensure!(l2.get_balance(paid).await? == U256::from(count));
        ensure!(l2.get_balance(rich).await? == parse_ether("2")?);
        let mut wallet = Wallet::new(dev_key(0), chain.provider()).await?;
        let after = wallet.transfer(paid, U256::from(1)).await?;
        for hash in [last, after] {
            chain.wait_for(hash, Stage::Finalized).await?;
        }
        let log = chain.log_from(before)?;
        ensure!(log.contains("taking them over") && !log.contains("L2 reorg"), "{log}");
        last = after;
    }
    derived_equals_sequenced(&chain).await
}

/// `verify` behind a node that leaves out an event which lies far back, at the end of its kind so that no gap shows, and that has the contract's views say what goes with it; and behind
/// one of another chain than was expected.
#[tokio::test(flavor = "multi_thread")]
async fn verify_finds_out_an_l1_node_that_lies() -> Result<()> {
    const QUEUED: &str = "DepositQueued(uint64,address,address,uint256,uint64,bytes,bytes32)";
    let anvil = anvil(8)?;
    let options = ChainOptions::default().on(anvil.url().clone()).args(["--batch-age", "1s"]);
    let mut chain = Chain::start(options).await?;
    chain.deposit(fresh_address(), "1").await?;
    let mut wallet = Wallet::new(dev_key(0), chain.provider()).await?;
    let last = wallet.transfer(fresh_address(), U256::from(1)).await?;
    chain.wait_for(last, Stage::Committed).await?;
    // That nobody takes, and too far back for blocks to be read one by one.
    let ready = chain.ready().clone();
    chain.kill().await?;
    let deposit = json!([{
        "from": dev_key(1).address(), "to": ready.rollup, "value": "0xde0b6b3a7640000", "gas": "0x40000"
    }]);
    anvil.rpc("eth_sendTransaction", deposit).await?;
    anvil.mine(50).await?;
    let summary = verify(&ready, &["--l1-chain-id", "31337"]).await?;
    ensure!(summary["ok"] == true && summary["l1_checked"] == "proof", "{summary}");

    let topic = keccak256(QUEUED).to_string();
    let count = keccak256("depositCount()")[..4].to_vec();
    let count = Bytes::from(count).to_string();
    let script = move |_, request: &Value| match request["method"].as_str() {
        Some("eth_getLogs") if request.to_string().contains(&topic) => Fault::Change(|logs| {
            let Some(logs) = logs.as_array_mut() else { return };
            let is_queued = |log: &Value| log["topics"][0] == keccak256(QUEUED).to_string();
            if let Some(last) = logs.iter().rposition(is_queued) {
                logs.remove(last);
            }
        }),
        Some("eth_call") if request.to_string().contains(&count) => Fault::Change(|word| {
            let told: U256 = serde_json::from_value(word.clone()).unwrap_or_default();
            *word = json!(B256::from(told.saturating_sub(U256::from(1))));
        }),
        _ => Fault::None,
    };
    let proxy = FaultProxy::start_reading(anvil.url().clone(), script).await;
    let (l1, beacon, rollup) =
        (proxy.url.to_string(), ready.beacon.to_string(), ready.rollup.to_string());
    let arguments = ["verify", "--json", "--l1", &l1, "--beacon", &beacon, "--rollup", &rollup];
    let output = run(&millrace()?, &arguments).await?;
    let summary = output.last_json()?;
    ensure!(output.code == Some(1) && summary["ok"] == false, "{output:?}");
    let error = summary["error"].as_str().unwrap_or_default();
    ensure!(error.contains("number of deposits"), "{summary}");

    let wrong = [&arguments[..], &["--l1-chain-id", "1"]].concat();
    let output = run(&millrace()?, &wrong).await?;
    ensure!(output.code == Some(1), "{output:?}");
    let said = output.stdout + &output.stderr;
    ensure!(said.contains("chain 31337") && said.contains("chain 1 "), "{said}");
    Ok(())
}

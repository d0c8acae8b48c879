//! Full nodes: the same chain, heads of their own, and an alarm when sequencer and L1 differ.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use alloy::{
    eips::BlockNumberOrTag,
    primitives::{B256, U256},
    providers::{Provider, RootProvider},
};
use eyre::{Result, WrapErr, ensure, eyre};
use millrace_l1::testing::{Fault, FaultProxy};
use millrace_proto::Stage;
use millrace_tests::{
    Chain, ChainOptions, Follower, Wallet, anvil, dev_key, eventually, fresh_address,
};

async fn hash_at(provider: &RootProvider, at: impl Into<BlockNumberOrTag>) -> Result<(u64, B256)> {
    let at = at.into();
    let block = provider.get_block_by_number(at).await?.ok_or_else(|| eyre!("no block {at}"))?;
    Ok((block.header.number, block.header.hash))
}

/// Waits until a node has a transaction in a block that it calls safe, or final, and returns that block.
async fn has(node: &RootProvider, hash: B256, tag: BlockNumberOrTag) -> Result<u64> {
    eventually(&format!("{hash} is {tag}"), || async {
        let Some(receipt) = node.get_transaction_receipt(hash).await? else { return Ok(None) };
        let block = receipt.block_number.ok_or_else(|| eyre!("a receipt without a block"))?;
        Ok((hash_at(node, tag).await?.0 >= block).then_some(block))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_has_the_same_chain_and_heads_of_its_own() -> Result<()> {
    let anvil = anvil(8)?;
    let options = ChainOptions::default().on(anvil.url().clone()).args(["--batch-age", "1s"]);
    let mut chain = Chain::start(options).await?;
    let ready = chain.ready().clone();
    let mut wallet = Wallet::new(dev_key(0), chain.provider()).await?;
    let early = wallet.transfer(fresh_address(), U256::from(1)).await?;
    chain.wait_for(early, Stage::Posted).await?;

    // With the sequencer's feed: blocks before they are on L1, and a way to the sequencer.
    let follower = Follower::start(&ready, Some(&ready.grpc), &[]).await?;
    let node = follower.provider();
    let mut through = Wallet::new(dev_key(1), node.clone()).await?;
    let sent = through.transfer(fresh_address(), U256::from(2)).await?;
    chain.wait_for(sent, Stage::Sequenced).await?;
    has(&node, sent, BlockNumberOrTag::Latest).await?;
    for hash in [early, sent] {
        let block = has(&node, hash, BlockNumberOrTag::Finalized).await?;
        ensure!(hash_at(&node, block).await? == hash_at(&chain.provider(), block).await?);
        let receipts = [
            node.get_transaction_receipt(hash).await?,
            chain.provider().get_transaction_receipt(hash).await?,
        ];
        ensure!(receipts[0] == receipts[1], "{receipts:?}");
    }

    // Killed in the middle of things, it goes on where it was.
    let follower = follower.restart(&ready, Some(&ready.grpc)).await?;
    let node = follower.provider();
    let last = wallet.transfer(fresh_address(), U256::from(3)).await?;
    has(&node, last, BlockNumberOrTag::Safe).await?;
    chain.wait_for(last, Stage::Posted).await?;

    // The sequencer is gone: everything that L1 has is there, and goes on becoming final.
    chain.kill().await?;
    has(&node, last, BlockNumberOrTag::Safe).await?;
    ensure!(node.get_balance(dev_key(0).address()).await? > U256::ZERO);

    // So it does without having seen the sequencer at all.
    let alone = Follower::start(&ready, None, &[]).await?;
    let block = has(&alone.provider(), last, BlockNumberOrTag::Safe).await?;
    ensure!(hash_at(&alone.provider(), block).await? == hash_at(&node, block).await?);
    let (raw, _) = through.sign(fresh_address().into(), U256::from(1), Default::default(), 21_000);
    let refused = alone.provider().send_raw_transaction(&raw).await.err();
    let refused = refused.ok_or_else(|| eyre!("it was taken"))?.to_string();
    ensure!(refused.contains("force-include"), "{refused}");
    for follower in [&follower, &alone] {
        ensure!(follower.status()["differs"].is_null(), "{}", follower.log()?);
    }
    Ok(())
}

/// From state diffs no blocks follow: they come from the sequencer, and have to come to the states that L1 has.
#[tokio::test(flavor = "multi_thread")]
async fn a_chain_of_state_diffs_is_followed_with_its_sequencer() -> Result<()> {
    let anvil = anvil(8)?;
    let options = ChainOptions::default().on(anvil.url().clone());
    let options = options.args(["--batch-age", "1s", "--batch-payload", "state-diffs"]);
    let mut chain = Chain::start(options).await?;
    let ready = chain.ready().clone();
    let mut wallet = Wallet::new(dev_key(0), chain.provider()).await?;
    let early = wallet.transfer(fresh_address(), U256::from(1)).await?;
    chain.wait_for(early, Stage::Posted).await?;
    let alone = Follower::start(&ready, None, &[]).await.err();
    let alone = alone.ok_or_else(|| eyre!("it follows L1 alone"))?.to_string();
    ensure!(alone.contains("--sequencer"), "{alone}");

    let follower = Follower::start(&ready, Some(&ready.grpc), &[]).await?;
    let late = wallet.transfer(fresh_address(), U256::from(2)).await?;
    has(&follower.provider(), late, BlockNumberOrTag::Latest).await?;
    let follower = follower.restart(&ready, Some(&ready.grpc)).await?;
    let node = follower.provider();
    for hash in [early, late] {
        let block = has(&node, hash, BlockNumberOrTag::Finalized).await?;
        ensure!(hash_at(&node, block).await? == hash_at(&chain.provider(), block).await?);
    }
    // What L1 has goes on becoming final without the sequencer.
    let last = wallet.transfer(fresh_address(), U256::from(3)).await?;
    has(&node, last, BlockNumberOrTag::Latest).await?;
    chain.wait_for(last, Stage::Committed).await?;
    chain.kill().await?;
    has(&node, last, BlockNumberOrTag::Safe).await?;
    ensure!(follower.status()["differs"].is_null(), "{}", follower.log()?);
    Ok(())
}

/// A sequencer that was restored from an old copy, and whose L1 node is away, makes other blocks than L1 has, until it sees L1 again.
#[tokio::test(flavor = "multi_thread")]
async fn a_sequencer_that_is_not_what_l1_has_raises_the_alarm() -> Result<()> {
    let anvil = anvil(8)?;
    let options = ChainOptions::default().on(anvil.url().clone()).args(["--batch-age", "1s"]);
    let options = options.args(["--beacon", anvil.url().as_str()]);
    let mut chain = Chain::start(options).await?;
    let mut wallet = Wallet::new(dev_key(0), chain.provider()).await?;
    let before = wallet.transfer(fresh_address(), U256::from(1)).await?;
    chain.wait_for(before, Stage::Posted).await?;
    chain.interrupt().await?;

    let away = Arc::new(AtomicBool::new(false));
    let told = away.clone();
    let script = move |_, _: &str| match told.load(Ordering::SeqCst) {
        true => Fault::Status(503),
        false => Fault::None,
    };
    let proxy = FaultProxy::start(anvil.url().clone(), script).await;
    // Its blocks from here on are seen by nobody but those who follow it.
    let copy = chain.start_on_copy(proxy.url.clone()).await?;
    away.store(true, Ordering::SeqCst);
    let mut other = Wallet::new(dev_key(2), copy.provider()).await?;
    let wrong = other.transfer(fresh_address(), U256::from(3)).await?;
    copy.wait_for(wrong, Stage::Sequenced).await?;
    let chain = chain.restart().await?;
    let mut wallet = Wallet::new(dev_key(0), chain.provider()).await?;
    let right = wallet.transfer(fresh_address(), U256::from(2)).await?;
    chain.wait_for(right, Stage::Posted).await?;
    let ready = chain.ready().clone();
    drop(chain);

    let follower =
        Follower::start(&ready, Some(&copy.ready().grpc), &["--difference-patience", "1s"]).await?;
    let node = follower.provider();
    eventually("the alarm", || async {
        let why = follower.status()["differs"].as_str().map(str::to_owned);
        Ok(why.filter(|why| why.contains("the sequencer has another one")))
    })
    .await?;
    // L1 has the last word.
    has(&node, right, BlockNumberOrTag::Safe).await?;
    ensure!(node.get_transaction_receipt(wrong).await?.is_none(), "L1 does not have it");
    let metrics = reqwest::get(follower.metrics().clone()).await?.text().await?;
    ensure!(metrics.contains("millrace_follow_difference 1"), "{metrics}");
    let ready_url = follower.metrics().join("/ready")?;
    ensure!(reqwest::get(ready_url).await?.status().as_u16() == 503);

    let asked = ["--difference-patience", "1s", "--exit-on-difference"];
    let mut exits = Follower::start(&ready, Some(&copy.ready().grpc), &asked).await?;
    ensure!(exits.ended().await? == Some(1), "{}", exits.log()?);

    // It sees L1 again, and takes over what is there; what it alone had comes after that.
    away.store(false, Ordering::SeqCst);
    has(&copy.provider(), right, BlockNumberOrTag::Safe).await.wrap_err_with(|| copy.log())?;
    has(&node, wrong, BlockNumberOrTag::Safe).await.wrap_err_with(|| copy.log())?;
    eventually("the end of the alarm", || async {
        Ok(follower.status()["differs"].is_null().then_some(()))
    })
    .await
}

//! Bad days of the L1: it goes away, and it reorgs.

use std::time::{Duration, Instant};

use alloy::{primitives::U256, providers::Provider};
use eyre::{Result, ensure, eyre};
use millrace_l1::testing::{Anvil, AnvilOptions};
use millrace_proto::{Sequencer, Stage};
use millrace_tests::{Chain, ChainOptions, Wallet, dev_key, eventually, fresh_address, verify};

fn anvil() -> Result<Anvil> {
    Ok(Anvil::start(AnvilOptions {
        block_time: Some(Duration::from_secs(1)),
        slots_in_an_epoch: Some(8),
        ..AnvilOptions::default()
    })?)
}

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
    let anvil = anvil()?;
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
    let anvil = anvil()?;
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

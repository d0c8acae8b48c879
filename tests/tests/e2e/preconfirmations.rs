//! What a chain tells of its open block, over gRPC and JSON-RPC, its own and a full node's, is what the sealed block holds.

use std::time::Duration;

use alloy::{
    eips::BlockId,
    primitives::{B256, U256},
    providers::{Provider, ProviderBuilder, RootProvider, WsConnect},
};
use eyre::{Result, WrapErr, ensure, eyre};
use futures::StreamExt;
use millrace_proto::{FrameDetail, Stage, TxPool};
use millrace_tests::{Chain, ChainOptions, Follower, Wallet, dev_key, fresh_address};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(60);

async fn websocket(url: &str) -> Result<RootProvider> {
    let provider = ProviderBuilder::default().connect_ws(WsConnect::new(url)).await;
    provider.wrap_err_with(|| url.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn open_blocks_are_told_as_they_will_be_sealed() -> Result<()> {
    let chain = Chain::start(ChainOptions::default()).await?;
    let ready = chain.ready().clone();
    let follower = Follower::start(&ready, Some(&ready.grpc), &[]).await?;
    let sockets = [websocket(ready.ws.as_str()).await?, websocket(&follower.ws()?).await?];
    let mut over_rpc = Vec::new();
    for socket in &sockets {
        // Room for all that is told: the client drops what is not read.
        let topic = ("newPreconfirmations", json!({ "stateDiff": true }));
        let frames = socket.subscribe::<_, Value>(topic).channel_size(1024);
        over_rpc.push(frames.await?.into_stream());
    }
    let client = chain.sequencer()?;
    let frames = client.preconfirmations(FrameDetail::StateDiffs).await?;
    let frames = frames.ok_or_else(|| eyre!("it tells nothing"))?;
    let mut frames = std::pin::pin!(tokio_stream::StreamExt::timeout(frames, SOON));

    let mut wallet = Wallet::new(dev_key(0), chain.provider()).await?;
    chain.deposit(fresh_address(), "1").await?;
    let mut sent = Vec::new();
    for _ in 0..20 {
        sent.push(wallet.transfer(fresh_address(), U256::from(1)).await?);
    }
    let last = *sent.last().ok_or_else(|| eyre!("some were sent"))?;
    chain.wait_for(last, Stage::Sequenced).await?;

    let mut told: Vec<B256> = Vec::new();
    while !told.contains(&last) {
        let frame = frames.next().await.ok_or_else(|| eyre!("the stream has ended"))???;
        let hashes: Vec<B256> = frame.transactions.iter().map(|tx| tx.hash()).collect();
        let block = chain.provider().get_block_receipts(BlockId::number(frame.block)).await?;
        // It was sealed before the last one was, or is sealed now.
        let block = block.ok_or_else(|| eyre!("block {} is not sealed", frame.block))?;
        let start = usize::try_from(frame.start.index)?;
        let sealed = &block[start..start + hashes.len()];
        ensure!(sealed.iter().map(|receipt| receipt.transaction_hash).eq(hashes.iter().copied()));
        let mut sealed = serde_json::to_value(sealed)?;
        for receipt in sealed.as_array_mut().into_iter().flatten() {
            receipt["blockHash"] = Value::Null;
        }
        let diff = frame.diff.as_deref().ok_or_else(|| eyre!("it was asked for"))?;
        let diff = serde_json::to_value(diff)?;
        for over_rpc in &mut over_rpc {
            let message = tokio::time::timeout(SOON, over_rpc.next()).await?;
            let message = message.ok_or_else(|| eyre!("the subscription has ended"))?;
            ensure!(message["transactions"] == json!(hashes), "{message}");
            ensure!(message["receipts"] == sealed, "{message}, not {sealed}");
            ensure!(message["stateDiff"] == diff, "{message}, not {diff}");
        }
        told.extend(hashes);
    }
    ensure!(sent.iter().all(|hash| told.contains(hash)), "each is told");
    Ok(())
}

/// Who is told of a frame reads it, over JSON-RPC, before its block is sealed; a full node reads it with its block.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_told_is_pending() -> Result<()> {
    let chain = Chain::start(ChainOptions::default()).await?;
    let ready = chain.ready().clone();
    let follower = Follower::start(&ready, Some(&ready.grpc), &[]).await?;
    let full_node = websocket(&follower.ws()?).await?;
    let frames = chain.sequencer()?.preconfirmations(FrameDetail::Receipts).await?;
    let mut frames = frames.ok_or_else(|| eyre!("it tells nothing"))?;
    let (node, payee) = (chain.provider(), fresh_address());
    let mut wallet = Wallet::new(dev_key(0), chain.provider()).await?;
    for count in 1..=10_u64 {
        let hash = wallet.transfer(payee, U256::from(1)).await?;
        loop {
            let frame = tokio::time::timeout(SOON, frames.next()).await?;
            let frame = frame.ok_or_else(|| eyre!("the stream has ended"))??;
            if frame.transactions.iter().any(|tx| tx.hash() == hash) {
                break;
            }
        }
        let pending = node.get_balance(payee).pending().await?;
        ensure!(pending == U256::from(count), "{pending} of {count} that were told");
        let latest = node.get_balance(payee).await?;
        ensure!(latest <= pending, "{latest} is sealed, {pending} pending");
        let there = full_node.get_balance(payee).pending().await?;
        ensure!(there <= U256::from(count), "a full node has sealed blocks");
    }
    Ok(())
}

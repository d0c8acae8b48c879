//! Brings the setup into blocks.

use std::time::Duration;

use eyre::{Result, WrapErr, bail, ensure, eyre};
use futures::{StreamExt, TryStreamExt, stream};
use millrace_proto::{
    RejectReason, Sequencer, Stage, SubmitError, TxStatus, grpc::SequencerClient,
};

use super::plan::Signed;

/// Transactions that are sent together; fewer than a pool takes of one sender.
const CHUNK: usize = 512;
/// Waits at the same time.
const WAITS: usize = 64;
/// How soon to come back when the pool is full.
const COME_BACK: Duration = Duration::from_millis(50);

/// Sends a step and returns once all of it is in blocks and has succeeded. Some of it may have been sent before.
pub(super) async fn step(
    client: &SequencerClient,
    txs: &[Signed],
    patience: Duration,
) -> Result<()> {
    for chunk in txs.chunks(CHUNK) {
        let sent = tokio::time::timeout(patience, send(client, chunk)).await;
        sent.wrap_err("the setup does not get into blocks; see --patience")??;
    }
    Ok(())
}

async fn send(client: &SequencerClient, txs: &[Signed]) -> Result<()> {
    let mut waiting: Vec<&Signed> = txs.iter().collect();
    let mut taken = Vec::new();
    while !waiting.is_empty() {
        let raw = waiting.iter().map(|tx| tx.raw.clone()).collect();
        let mut again = Vec::new();
        for (tx, result) in waiting.into_iter().zip(client.submit_many(raw).await) {
            match result {
                Ok(_) | Err(SubmitError::Rejected(RejectReason::AlreadyKnown { .. })) => {
                    taken.push(tx);
                }
                // Perhaps by itself; else the file was signed for another chain.
                Err(SubmitError::Rejected(RejectReason::NonceTooLow { .. })) => {
                    let known = client.transaction(tx.hash).await?;
                    ensure!(
                        known.is_some(),
                        "the account that pays has sent other transactions than {}: sign the load again",
                        tx.hash
                    );
                    taken.push(tx);
                }
                Err(SubmitError::Rejected(
                    RejectReason::PoolFull { .. } | RejectReason::NonceTooFar { .. },
                )) => again.push(tx),
                Err(error) => return Err(error).wrap_err("the setup was not taken"),
            }
        }
        if !again.is_empty() {
            tokio::time::sleep(COME_BACK).await;
        }
        waiting = again;
    }
    let included = stream::iter(taken).map(|tx| included(client, tx)).buffer_unordered(WAITS);
    included.try_collect::<Vec<()>>().await?;
    Ok(())
}

async fn included(client: &SequencerClient, tx: &Signed) -> Result<()> {
    let status: TxStatus = client.wait_for(tx.hash, Stage::Sequenced).await?;
    if let Some(reason) = status.reason {
        bail!("transaction {} of the setup was dropped: {reason}", tx.hash);
    }
    let inclusion = status.inclusion.ok_or_else(|| eyre!("{} is in no block", tx.hash))?;
    ensure!(inclusion.receipt.success, "transaction {} of the setup has failed", tx.hash);
    Ok(())
}

//! How fast a chain is rebuilt from L1, beside how fast it was made under full load on the same machine. Prints figures and asserts none: what they are to be is for a
//! release build to show.
//!
//! `MILLRACE_LOAD` sets the transfers of each of ten senders (default 50; 20000 for figures).

use std::time::Instant;

use alloy::{
    primitives::{Bytes, U256},
    providers::Provider,
};
use eyre::{Result, ensure, eyre};
use futures::future::try_join_all;
use millrace_proto::{Sequencer, Stage, SubmitError};
use millrace_tests::{Chain, ChainOptions, Wallet, dev_key, fresh_address, setting, verify};

/// Accounts that send at the same time.
const SENDERS: u32 = 10;
/// Transactions in one call.
const CALL: usize = 256;

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_is_rebuilt_faster_than_it_was_made() -> Result<()> {
    let count: usize = setting("MILLRACE_LOAD", 50);
    let chain = Chain::start(ChainOptions::default().args(["--da", "object_store"])).await?;
    let to = fresh_address();
    let mut loads = Vec::new();
    for index in 0..SENDERS {
        let mut wallet = Wallet::new(dev_key(index), chain.provider()).await?;
        let signed: Vec<_> = (0..count)
            .map(|_| wallet.sign(to.into(), U256::from(1), Bytes::new(), 21_000))
            .collect();
        loads.push(signed);
    }
    let last: Vec<_> = loads.iter().filter_map(|load| load.last()).map(|(_, hash)| *hash).collect();

    let began = Instant::now();
    let sending = loads.into_iter().map(async |load| {
        let client = chain.sequencer()?;
        for some in load.chunks(CALL) {
            let mut waiting: Vec<Bytes> = some.iter().map(|(raw, _)| raw.clone()).collect();
            while !waiting.is_empty() {
                let answers = client.submit_many(waiting.clone()).await;
                let mut again = Vec::new();
                for (raw, answer) in waiting.into_iter().zip(answers) {
                    match answer {
                        Ok(_) => {}
                        // The pool is full, or what came before it had no room.
                        Err(SubmitError::Rejected(reason))
                            if matches!(reason.code(), "POOL_FULL" | "NONCE_TOO_FAR") =>
                        {
                            again.push(raw);
                        }
                        Err(error) => return Err(eyre!("refused: {error}")),
                    }
                }
                if !again.is_empty() {
                    tokio::task::yield_now().await;
                }
                waiting = again;
            }
        }
        Ok(())
    });
    try_join_all(sending).await?;
    let client = chain.sequencer()?;
    for hash in &last {
        client.wait_for(*hash, Stage::Sequenced).await?;
    }
    let made = began.elapsed();
    ensure!(chain.provider().get_balance(to).await? == U256::from(count * SENDERS as usize));
    for hash in &last {
        chain.wait_for(*hash, Stage::Finalized).await?;
    }
    let began = Instant::now();
    let summary = verify(chain.ready(), &[]).await?;
    let rebuilt = began.elapsed();
    let transactions = count * SENDERS as usize;
    println!(
        "{transactions} transfers: made in {made:?} ({:.0}/s), rebuilt in {rebuilt:?} ({:.0}/s): {:.2} times as fast",
        transactions as f64 / made.as_secs_f64(),
        transactions as f64 / rebuilt.as_secs_f64(),
        made.as_secs_f64() / rebuilt.as_secs_f64()
    );
    ensure!(summary["ok"] == true, "{summary}");
    Ok(())
}

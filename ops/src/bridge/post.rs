//! `millrace post-batch`: what waits in L1's queue becomes a batch, when the sequencer is gone.

use std::time::Duration;

use alloy::{primitives::Address, sol_types::SolCall};
use clap::Args;
use eyre::{Result, WrapErr, ensure};
use millrace_l1::{DepositInbox, OneCall, Rollup, submit_once};
use millrace_proto::{
    Batch, BatchHeader, BatchPayload, DaKind, DerivedBlock, QueueEntry, QueueMark, QueuedTxs,
    Replay, SealedHeader, batch_digest,
};
use millrace_settlement::VerifyTarget;
use serde_json::json;

use super::KeyArgs;
use crate::{
    cli::ChainArgs,
    verify::{self, Rebuilt},
};

/// Entries that one batch takes at most: what it needs of L1's gas does not depend on them, what the blocks need of a computer does.
const MOST: usize = 10_000;
/// How hard the batch is compressed.
const LEVEL: i32 = 3;
/// What a stranger is told whom the contract does not let post.
const TOO_EARLY: &str = "the sequencer has given a sign of life: anyone may post only when its timeout is over, from L1's time `openFrom` (Unix seconds) on";
/// How long L1 may take.
const PATIENCE: Duration = Duration::from_secs(300);

#[derive(Debug, Clone, Args)]
pub(crate) struct PostArgs {
    #[command(flatten)]
    chain: ChainArgs,

    #[command(flatten)]
    key: KeyArgs,

    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

/// Rebuilds the chain from L1, makes blocks of what waits in L1's queue, and posts them in calldata.
pub(crate) async fn run(args: PostArgs) -> Result<()> {
    let rollup = args.chain.l1_config().rollup()?;
    let client = rollup.client();
    let l1_chain = client.chain_id().await.wrap_err("the L1 does not answer")?;
    let signer = args.key.load(l1_chain).await?;
    let scratch = verify::scratch()?;
    let rebuilt = verify::rebuild(&args.chain, scratch.path(), VerifyTarget::Latest, false).await?;
    let Rebuilt { spec, result } = rebuilt;
    ensure!(
        spec.rollup().batch_payload == BatchPayload::Transactions,
        "this chain's batches hold state diffs, which nobody but its batcher may post"
    );
    let report = result.wrap_err("the chain cannot be rebuilt from L1")?;
    let mut chain = verify::open_replay(scratch.path(), &spec)?;
    let parent = chain.head();
    let queue = QueueMark::of(&parent).unwrap_or_default();
    let inbox = DepositInbox::new(rollup.clone(), 1);
    let entries = inbox.confirmed(queue, MOST).await.wrap_err("cannot read L1's queue")?;
    ensure!(
        !entries.is_empty(),
        "nothing waits in L1's queue, of which batches have taken {} entries",
        queue.end
    );
    let count = entries.len();
    let timestamp = client.head().await.wrap_err("the L1 does not answer")?.timestamp;
    let (address, gas_limit) = (rollup.address(), spec.rollup().gas_limit);
    let chain_id = spec.chain_id();
    let made = tokio::task::spawn_blocking(move || {
        let mut blocks = Vec::new();
        let mut left = &entries[..];
        while !left.is_empty() {
            let (taken, rest) = left.split_at(fitting(left, gas_limit));
            left = rest;
            let block = derived(&chain.head(), taken, timestamp, address);
            blocks.push(chain.replay(block).wrap_err("what waits cannot be executed")?);
        }
        let batch = Batch::from_blocks(chain_id, queue.end, parent.seal(), &blocks)?;
        Ok::<_, eyre::Report>((batch.encode(LEVEL)?, chain.head()))
    });
    let (data, last) = made.await??;
    let number = report.batches + 1;
    let queue = QueueMark::of(&last).unwrap_or_default();
    let header = BatchHeader {
        number,
        first_block: report.head.number + 1,
        last_block: last.number,
        deposits_end: queue.end,
        deposits_hash: queue.hash,
        digest: batch_digest(&data),
        da_kind: DaKind::L1Calldata,
    };
    // Of no meaning for whoever has no role.
    let epoch = 0;
    let call = Rollup::postBatchCall { epoch, header: (&header).into(), daPointer: data };
    let call = OneCall::new(rollup.address(), call.abi_encode());
    let posted = submit_once(client, &signer, call, PATIENCE).await;
    let receipt = posted.map_err(|error| {
        let stranger = error.to_string().contains("SequencerIsAlive");
        let error = super::failed(error, "posted");
        if stranger { error.wrap_err(TOO_EARLY) } else { error }
    })?;
    let tx = receipt.transaction_hash;
    if args.json {
        println!(
            "{}",
            json!({
                "batch": number, "first_block": header.first_block, "last_block": header.last_block,
                "last_block_hash": last.seal(), "entries": count, "l1_tx": tx,
            })
        );
    } else {
        println!(
            "batch {number} holds {count} entries of L1's queue, in blocks {} to {} (L1 transaction {tx})",
            header.first_block, header.last_block
        );
    }
    Ok(())
}

/// How many of the entries fit into one block: one at least.
fn fitting(entries: &[QueueEntry], gas_limit: u64) -> usize {
    let mut left = gas_limit;
    let fit = entries.iter().take_while(|entry| match left.checked_sub(entry.gas_limit()) {
        Some(rest) => {
            left = rest;
            true
        }
        None => false,
    });
    fit.count().max(1)
}

/// A block of entries alone.
fn derived(
    parent: &SealedHeader,
    entries: &[QueueEntry],
    timestamp: u64,
    rollup: Address,
) -> DerivedBlock {
    DerivedBlock {
        number: parent.number + 1,
        timestamp: timestamp.max(parent.timestamp),
        queued: QueuedTxs::new(QueueMark::of(parent).unwrap_or_default(), entries, rollup),
        transactions: Vec::new(),
    }
}

//! `millrace post-batch`: what waits in L1's queue becomes a batch, when the sequencer is gone.

use std::time::Duration;

use alloy::{primitives::Address, sol_types::SolCall};
use clap::Args;
use eyre::{Result, WrapErr, bail, ensure};
use millrace_l1::{DepositInbox, OneCall, Rollup, RollupContract, submit_once};
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

/// Entries that are read at a time.
const MOST: usize = 4_096;
/// How hard the batch is compressed.
const LEVEL: i32 = 3;
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
    rollup.check_version().await.wrap_err("cannot read the contract")?;
    let signer = args.key.load(l1_chain).await?;
    let is_batcher = rollup.has_role("BATCHER_ROLE", signer.address()).await;
    let is_batcher = is_batcher.wrap_err("cannot read the contract")?;
    if !is_batcher {
        check_time(&rollup).await?;
    }
    let scratch = verify::scratch()?;
    // Batches follow batches, also where a wrong commitment stands.
    let until = VerifyTarget::Latest;
    let rebuilt = verify::rebuild(&args.chain, scratch.path(), until, false, false).await?;
    let Rebuilt { spec, result } = rebuilt;
    ensure!(
        spec.rollup().batch_payload == BatchPayload::Transactions,
        "this chain's batches hold state diffs, which nobody but its batcher may post"
    );
    let report = result.wrap_err("the chain cannot be rebuilt from L1")?;
    let mut chain = verify::open_replay(scratch.path(), &spec)?;
    let parent = chain.head();
    let queue = QueueMark::of(&parent).unwrap_or_default();
    // All of them: the contract takes no batch that leaves out an overdue one.
    let inbox = DepositInbox::new(rollup.clone(), 1);
    let (mut entries, mut mark) = (Vec::new(), queue);
    loop {
        let more = inbox.confirmed(mark, MOST).await.wrap_err("cannot read L1's queue")?;
        if more.is_empty() {
            break;
        }
        mark = QueuedTxs::new(mark, &more, rollup.address()).mark;
        entries.extend(more);
    }
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
            let (taken, rest) = left.split_at(QueueEntry::fitting(left, gas_limit));
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
    let epoch = if is_batcher { rollup.current_epoch().await? } else { 0 };
    let call = Rollup::postBatchCall { epoch, header: (&header).into(), daPointer: data };
    let call = OneCall::new(rollup.address(), call.abi_encode());
    let posted = submit_once(client, &signer, call, PATIENCE).await;
    let tx = match posted {
        Ok(receipt) => receipt.transaction_hash,
        // It may have arrived all the same, or another one in its place.
        Err(error) => match rollup.posted(number, number).await.as_deref() {
            Ok([record]) if record.header == header => record.l1.tx_hash,
            Ok(_) => bail!(
                "somebody else has posted batch {number} meanwhile: run it again for what still waits"
            ),
            Err(_) => return Err(super::failed(error, "posted")),
        },
    };
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

/// Makes sure that the contract takes a stranger's batch now.
async fn check_time(rollup: &RollupContract) -> Result<()> {
    let client = rollup.client();
    let unread = "cannot read the contract";
    let sign_of_life = rollup.last_posted_at().await.wrap_err(unread)?;
    let from = sign_of_life.saturating_add(rollup.sequencer_timeout().await.wrap_err(unread)?);
    let now = client.head().await.wrap_err("the L1 does not answer")?.timestamp;
    ensure!(
        now >= from,
        "the batcher gave a sign of life at {}: others may post from {} on, and L1's time is {}",
        super::prove::time(sign_of_life),
        super::prove::time(from),
        super::prove::time(now)
    );
    Ok(())
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

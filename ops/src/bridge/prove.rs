//! `millrace prove-withdrawal` and `millrace finalize-withdrawal`.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, UNIX_EPOCH},
};

use alloy::primitives::{B256, TxHash};
use clap::Args;
use eyre::{Result, WrapErr, bail, ensure, eyre};
use millrace_l1::{L1Client, MessageProof, MessageState, RollupContract, messages_in};
use millrace_proto::{BatchPayload, Commitment, Message, Replay, message_proof, message_root};
use millrace_settlement::VerifyTarget;
use serde_json::json;
use url::Url;

use super::{KeyArgs, RollupArgs, proof::ProofFile};
use crate::{cli::ChainArgs, verify};

/// Between two looks at L1 while a commitment becomes final.
const LOOK_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Args)]
pub(crate) struct ProveArgs {
    #[command(flatten)]
    chain: ChainArgs,

    /// The transaction of L2 that sent the withdrawal.
    #[arg(long, value_name = "HASH")]
    tx: TxHash,

    /// JSON-RPC of a node of L2. Without one, the chain is rebuilt from L1, which takes its time.
    #[arg(long, value_name = "URL", env = "MILLRACE_RPC")]
    rpc: Option<Url>,

    /// Which of the transaction's messages, if it sent several: 0 is the first.
    #[arg(long, value_name = "N", default_value_t = 0)]
    message: usize,

    /// Wait until the withdrawal's batch is committed.
    #[arg(long)]
    wait: bool,

    /// Write the proof to this file instead of standard output.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct FinalizeArgs {
    #[command(flatten)]
    rollup: RollupArgs,

    #[command(flatten)]
    key: KeyArgs,

    /// What `millrace prove-withdrawal` wrote; `-` for standard input.
    #[arg(long, value_name = "FILE")]
    proof: PathBuf,

    /// Wait until the commitment is final.
    #[arg(long)]
    wait: bool,

    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

/// A withdrawal on L2.
struct Sent {
    block: u64,
    message: Message,
}

/// Proves a withdrawal.
pub(crate) async fn prove(args: ProveArgs) -> Result<()> {
    let contract = RollupArgs {
        l1: args.chain.l1.l1.clone(),
        l1_chain_id: args.chain.l1.l1_chain_id,
        rollup: args.chain.rollup,
    };
    let rollup = contract.contract().await?;
    let (message, commitment, ids) = match &args.rpc {
        Some(url) => from_l2(&args, &rollup, &super::l2(url)?).await?,
        None => from_l1(&args, &rollup).await?,
    };
    let id = message.id();
    let root = message_root(&ids);
    ensure!(
        root == commitment.message_root,
        "the messages of blocks {} to {} have the root {root}, and batch {} was committed with {}: the node is wrong, or the commitment is",
        commitment.first_block,
        commitment.last_block,
        commitment.batch,
        commitment.message_root
    );
    let index = ids.iter().position(|other| *other == id);
    let path = index.and_then(|index| message_proof(&ids, index)).ok_or_else(|| {
        eyre!("blocks {} to {} have no message {id}", commitment.first_block, commitment.last_block)
    })?;
    let final_at = commitment.final_at;
    let proof = MessageProof { commitment, message, path };
    let text = serde_json::to_string_pretty(&ProofFile::new(rollup.address(), proof))?;
    match &args.out {
        Some(file) => {
            fs::write(file, text + "\n")
                .wrap_err_with(|| format!("cannot write {}", file.display()))?;
            eprintln!("withdrawal {id} can be finalized from {} on", time(final_at));
        }
        None => println!("{text}"),
    }
    Ok(())
}

/// What a node of L2 tells of the withdrawal, and of all messages of its batch.
async fn from_l2(
    args: &ProveArgs,
    rollup: &RollupContract,
    l2: &L1Client,
) -> Result<(Message, Commitment, Vec<B256>)> {
    let receipt = l2.receipt(args.tx).await.wrap_err("the L2 does not answer")?;
    let receipt = receipt.ok_or_else(|| eyre!("L2 has no transaction {}", args.tx))?;
    let block = receipt.block_number.unwrap_or_default();
    let logs = receipt.logs().iter();
    let sent = logs.filter_map(|log| Message::of_log(&log.inner)).collect();
    let message = one_of(args, sent)?;
    let commitment = commitment(args, rollup, block).await?;
    let messages = messages_in(l2, commitment.first_block, commitment.last_block).await?;
    Ok((message, commitment, messages.iter().map(Message::id).collect()))
}

/// The same from L1 alone.
async fn from_l1(
    args: &ProveArgs,
    rollup: &RollupContract,
) -> Result<(Message, Commitment, Vec<B256>)> {
    let scratch = verify::scratch()?;
    let rebuilt =
        verify::rebuild(&args.chain, scratch.path(), VerifyTarget::Latest, true, false).await?;
    let spec = rebuilt.spec;
    ensure!(
        spec.rollup().batch_payload == BatchPayload::Transactions,
        "this chain's batches hold state diffs: L1 alone does not tell what a transaction did; give a node of L2 with --rpc"
    );
    let report = rebuilt.result.wrap_err("the chain cannot be rebuilt from L1")?;
    let chain = verify::open_replay(scratch.path(), &spec)?;
    let Sent { block, message } = find(args, &chain, report.head.number)?;
    let commitment = commitment(args, rollup, block).await?;
    let mut ids = Vec::new();
    for number in commitment.first_block..=commitment.last_block {
        let block = chain.block(number)?;
        let block = block.ok_or_else(|| eyre!("block {number} was committed after this began"))?;
        ids.extend(millrace_proto::message_ids(&block.receipts));
    }
    Ok((message, commitment, ids))
}

/// Looks for the transaction, from the chain's end back, as it will be a late one.
fn find(args: &ProveArgs, chain: &impl Replay, head: u64) -> Result<Sent> {
    for number in (1..=head).rev() {
        let Some(block) = chain.block(number)? else { continue };
        let index = block.transactions.iter().position(|tx| *tx.hash() == args.tx);
        let Some(receipt) = index.and_then(|index| block.receipts.get(index)) else { continue };
        let message = one_of(args, receipt.logs.iter().filter_map(Message::of_log).collect())?;
        return Ok(Sent { block: number, message });
    }
    bail!("no batch on L1 holds transaction {}", args.tx)
}

/// The message that is meant.
fn one_of(args: &ProveArgs, mut sent: Vec<Message>) -> Result<Message> {
    ensure!(
        args.message < sent.len(),
        "transaction {} sent {} messages to L1, so there is none with the number {}",
        args.tx,
        sent.len(),
        args.message
    );
    Ok(sent.swap_remove(args.message))
}

/// The commitment to the batch of a block.
async fn commitment(args: &ProveArgs, rollup: &RollupContract, block: u64) -> Result<Commitment> {
    loop {
        let found = rollup.commitment_of(block).await.wrap_err("cannot read the contract")?;
        match found {
            Some(commitment) => return Ok(commitment),
            None if args.wait => tokio::time::sleep(LOOK_EVERY).await,
            None => {
                bail!("block {block} is not committed on L1 yet; try again later, or with --wait")
            }
        }
    }
}

/// Has a withdrawal paid out.
pub(crate) async fn finalize(args: FinalizeArgs) -> Result<()> {
    let rollup = args.rollup.contract().await?;
    let client = rollup.client();
    let file = ProofFile::load(&args.proof)?;
    ensure!(
        file.rollup == rollup.address(),
        "the proof is for the contract {}, not {}",
        file.rollup,
        rollup.address()
    );
    let proof = file.proof();
    let id = proof.message.id();
    let state = rollup.message_state(id).await.wrap_err("cannot read the contract")?;
    if state == MessageState::Delivered {
        return tell(&args, id, "delivered before", None);
    }
    loop {
        // A message whose call has failed was proved before.
        ensure!(
            state != MessageState::NotRelayed
                || rollup.stands(&proof.commitment).await.wrap_err("cannot read the contract")?,
            "the commitment of batch {}, which the proof leads to, does not stand any more: the guardian or an L1 reorg took it back; prove the withdrawal again",
            proof.commitment.batch
        );
        let now = client.head().await.wrap_err("the L1 does not answer")?.timestamp;
        let final_at = proof.commitment.final_at;
        if now >= final_at {
            break;
        }
        ensure!(
            args.wait,
            "the withdrawal's batch is final from {} on, L1's time is {}; try again then, or with --wait",
            time(final_at),
            time(now)
        );
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let chain_id = client.chain_id().await.wrap_err("the L1 does not answer")?;
    let signer = args.key.load(chain_id).await?;
    let delivered = rollup.deliver(&signer, &proof).await;
    let (state, receipt) = delivered.map_err(|error| super::failed(error, "delivered"))?;
    match state {
        MessageState::Delivered => tell(&args, id, "delivered", Some(receipt.transaction_hash)),
        _ => bail!(
            "the call to {} failed in transaction {}; the withdrawal is kept, and this command repeats the call",
            proof.message.target,
            receipt.transaction_hash
        ),
    }
}

fn tell(args: &FinalizeArgs, id: B256, state: &str, tx: Option<TxHash>) -> Result<()> {
    if args.json {
        println!("{}", json!({ "id": id, "state": state, "l1_tx": tx }));
    } else {
        let tx = tx.map_or_else(String::new, |tx| format!(" by L1 transaction {tx}"));
        println!("withdrawal {id}: {state}{tx}");
    }
    Ok(())
}

pub(super) fn time(seconds: u64) -> impl std::fmt::Display {
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(seconds))
}

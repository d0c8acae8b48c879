//! What an operator is told when posting halts: what happened, and what to do.

use alloy::primitives::{B256, U256, hex, utils::format_ether};
use millrace_l1::TxManagerError;
use millrace_proto::PostedBatch;

use crate::{backend::BackendError, outbox::BatchEntry, resume::ResumeError};

/// How to go on once nothing else posts any more.
const START_AFRESH: &str = "start this adapter with an empty data folder, which makes it go on \
                            after the contract's last valid batch";

/// What may have posted a batch that was not closed here.
const SOMETHING_ELSE: &str = "something else posts, with the batcher's key or, after the sequencer timeout, without; or a \
                              batch that was given up was mined after all. Stop the other one if it is yours";

/// The contract holds batches that were not closed here.
pub(super) fn unknown_batches(count: u64, closed: u64) -> String {
    format!(
        "the contract holds {count} batches and this adapter has closed {closed}: {SOMETHING_ELSE}"
    )
}

/// The contract holds another batch in the place of one that was seen there, or behind which one was.
pub(super) fn another_batch(number: u64) -> String {
    format!("the contract holds another batch {number} than was known: {SOMETHING_ELSE}")
}

/// The contract does not hold a batch any more that was not closed here.
pub(super) fn lost_foreign_batch(count: u64, lost: u64) -> String {
    format!(
        "the contract holds {count} batches: an L1 reorg removed batch {lost}, which was not closed here"
    )
}

/// What is to happen before batches go on after those that L1 holds.
pub(super) fn not_rejoined(why: &str, so_far: &ResumeError) -> String {
    format!(
        "{why}. Batches go on behind what L1 holds once settlement has judged it and the sequencer has taken it over; so far: {so_far}"
    )
}

/// Another adapter has begun an epoch.
pub(super) fn other_epoch(ours: u32, current: u32) -> String {
    format!(
        "this adapter posts in epoch {ours} and the contract is in epoch {current}: another one has taken over, and the \
         contract takes nothing of this one any more. Leave it to the other; or stop that, and {START_AFRESH}"
    )
}

/// The contract holds another batch under a number of ours.
pub(super) fn foreign_batch(record: &PostedBatch, ours: &BatchEntry) -> String {
    format!(
        "the contract holds batch {} with the digest {} (L1 transaction {}), and this adapter \
         closed it with the digest {}: {SOMETHING_ELSE}",
        ours.number, record.header.digest, record.l1.tx_hash, ours.digest
    )
}

/// A batch is gone that was final.
pub(super) fn lost_final_batch(count: u64, lost: u64) -> String {
    format!(
        "the contract holds {count} batches, but batch {lost} was final on L1 before: this is \
         another L1, or a broken L1 node. Check the L1 URL and the contract's address"
    )
}

/// The deposits on L1 are others than those that the chain took.
pub(super) fn replaced_deposits(entry: &BatchEntry, on_l1: B256) -> String {
    format!(
        "batch {} was built over other deposits than L1 holds up to {} (accumulator {} here, \
         {on_l1} on L1): an L1 reorg replaced deposits that the chain had taken; waiting for the \
         sequencer to take their blocks back, or for L1 to return to the old ones",
        entry.number, entry.deposits_end, entry.deposits_hash
    )
}

/// The sequencing window has ended for the batch.
pub(super) fn overdue(entry: &BatchEntry) -> String {
    format!(
        "the contract takes batch {} no more, as it ends before an entry of L1's queue that is overdue (entry {}), which no batch of these blocks reaches; waiting \
         for the sequencer to take the blocks from {} on back, and to begin with the entry",
        entry.number, entry.deposits_end, entry.first_block
    )
}

/// L1 takes the batch's transaction not at all.
pub(super) fn cannot_be_posted(number: u64, error: &TxManagerError) -> String {
    let told = error.to_string();
    // What the contract says to strangers.
    let hint = if told.contains("SequencerIsAlive") {
        ". The batcher's account does not have the contract's BATCHER_ROLE: grant it, or configure the key of the account that has it"
    } else {
        ""
    };
    format!("batch {number} cannot be posted: {told}{hint}")
}

/// The batch's transaction was paid for, and reverted, and it failed again.
pub(super) fn reverted_often(number: u64) -> String {
    format!(
        "batch {number} was reverted on L1, failed again, and is not sent any more. See the log for \
         the reasons; restart the adapter when the cause is gone"
    )
}

/// The day's limit is reached.
pub(super) fn spent_enough(number: u64, spent: U256, cost: U256, limit: U256) -> String {
    let [spent, cost, limit] = [spent, cost, limit].map(format_ether);
    format!(
        "posting has cost {spent} ETH today, batch {number} would cost some {cost} more, and max_ether_per_day is \
         {limit}: it waits for the next day (UTC), or for a higher limit"
    )
}

/// No backend of the list takes batches so large.
pub(super) fn no_backend_takes(number: u64, size: usize) -> String {
    format!(
        "no backend takes batch {number}, which has {size} bytes: add one that does to the list"
    )
}

/// The DA layer refuses the batch.
pub(super) fn backend_refuses(backend: &str, number: u64, error: &BackendError) -> String {
    format!(
        "the backend {backend} does not take batch {number}: {error}. Mend it, or configure \
         another one"
    )
}

/// The DA layer has lost a batch whose transaction may be on its way.
pub(super) fn lost_by_backend(backend: &str, number: u64, da_pointer: &[u8]) -> String {
    let pointer = hex::encode_prefixed(da_pointer);
    format!(
        "the backend {backend} took batch {number} and does not have it any more under {pointer}: nothing is paid for it on L1 before it is there again. \
         Restore the layer's data; or {START_AFRESH}"
    )
}

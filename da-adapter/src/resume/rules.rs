//! The rules by which derivation takes or skips a posted batch, as `docs/derivation.md` numbers them. Settlement's code for them
//! makes the blocks as well; here it is only told whether there are any.

use alloy::primitives::B256;
use millrace_proto::{
    BatchHeader, BatchLimits, BlockMark, DecodedBatch, RecoveredTx, batch_digest,
};

use crate::chain::BatchedChain;

/// Transactions whose senders are recovered at once.
const AT_ONCE: usize = 256;

/// The end of the derived chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) number: u64,
    pub(super) hash: B256,
    pub(super) timestamp: u64,
    pub(super) deposits_end: u64,
}

/// Rules 1 and 2, for which the header is enough. The error says why the batch is skipped.
pub(super) fn join(head: &Head, header: &BatchHeader) -> Result<(), String> {
    let expected = head.number.saturating_add(1);
    if header.first_block != expected {
        let first = header.first_block;
        return Err(format!("begins at block {first}, but the chain goes on at block {expected}"));
    }
    if header.deposits_end < head.deposits_end {
        return Err(format!(
            "ends at deposit {}, but the chain has consumed {}",
            header.deposits_end, head.deposits_end
        ));
    }
    Ok(())
}

/// The other rules. Returns the hash that the batch claims for its last block. Recovers senders: call it off the async threads.
pub(super) fn check(
    head: &Head,
    header: &BatchHeader,
    bytes: &[u8],
    chain: BatchedChain,
) -> Result<B256, String> {
    let digest = batch_digest(bytes);
    equal("the digest of its bytes", digest, header.digest)?;
    let batch = DecodedBatch::decode(bytes, chain.payload, &BatchLimits::default())
        .map_err(|error| format!("does not decode: {error}"))?;
    let outline = batch.outline();
    equal("its chain id", outline.chain_id, chain.id)?;
    equal("its first block", outline.first_block, header.first_block)?;
    equal("its last block", outline.last_block, header.last_block)?;
    equal("its deposits end", outline.deposits_end, header.deposits_end)?;
    equal("its parent", outline.parent_hash, head.hash)?;
    equal("its first deposit", outline.deposits_start, head.deposits_end)?;
    let (mut parent, mut consumed) = (head.timestamp, head.deposits_end);
    for BlockMark { number, timestamp, deposits_end } in batch.marks() {
        if timestamp < parent || deposits_end < consumed {
            return Err(format!("block {number} goes back behind its parent"));
        }
        (parent, consumed) = (timestamp, deposits_end);
    }
    if let DecodedBatch::Transactions(batch) = batch {
        let mut txs = batch.blocks.into_iter().flat_map(|block| block.transactions);
        loop {
            let some: Vec<_> = txs.by_ref().take(AT_ONCE).collect();
            if some.is_empty() {
                break;
            }
            RecoveredTx::recover_all(some).map_err(|unsigned| unsigned.to_string())?;
        }
    }
    Ok(outline.last_block_hash)
}

fn equal<T: PartialEq + std::fmt::Display>(
    what: &str,
    found: T,
    expected: T,
) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{what} is {found}, not {expected}")) }
}

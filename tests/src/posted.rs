//! What a chain's services have sent to L1.

use alloy::{
    primitives::{Address, B256, Bytes},
    providers::{Provider, ProviderBuilder, RootProvider},
};
use eyre::{Result, ensure, eyre};
use millrace_l1::{RollupContract, RollupEvent, TxManagerConfig, testing::Anvil};

use crate::{Bid, Ready, dev_key};

/// The development keys of the accounts that post and commit.
const SENDERS: [u32; 2] = [8, 7];

/// The accounts that post and commit.
pub fn l1_accounts() -> [Address; 2] {
    SENDERS.map(|key| dev_key(key).address())
}

/// The transactions of the L1 blocks `first..=last`, each with its sender, and how many of the blocks lie before its own.
///
/// # Errors
/// When L1 does not have them.
pub async fn transactions(
    l1: &RootProvider,
    first: u64,
    last: u64,
) -> Result<Vec<(Address, Bytes, u64)>> {
    let mut held = Vec::new();
    for number in first..=last {
        let block = l1.get_block_by_number(number.into()).full().await?;
        let block = block.ok_or_else(|| eyre!("no L1 block {number}"))?;
        for tx in block.transactions.txns() {
            let hash = *tx.inner.tx_hash();
            let raw = l1.get_raw_transaction_by_hash(hash).await?;
            let raw = raw.ok_or_else(|| eyre!("no L1 transaction {hash}"))?;
            held.push((tx.inner.signer(), raw, number - first));
        }
    }
    Ok(held)
}

/// What L1 holds of a chain.
#[derive(Debug, Clone)]
pub struct Posted {
    /// How many batches.
    pub batches: usize,
    /// The transactions that the chain's services have sent.
    pub sent: Vec<B256>,
}

/// Makes sure that each batch of a chain is on L1 once, one behind the other, that no transaction was sent for nothing, and that none of them bids more than its caps.
///
/// # Errors
/// Where that is not so, or L1 does not answer.
pub async fn posted_once(chain: &Ready, anvil: &Anvil, caps: &TxManagerConfig) -> Result<Posted> {
    let l1: RootProvider = ProviderBuilder::default().connect_http(anvil.url().clone());
    let rollup = RollupContract::new(anvil.client().clone(), chain.rollup);
    let head = l1.get_block_number().await?;
    let count = rollup.batch_count_at(head).await?;
    let events = rollup.events(0, head).await?;
    let posted: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            RollupEvent::Posted(batch) => Some(&batch.header),
            _ => None,
        })
        .collect();
    let mut next = 1;
    for header in &posted {
        ensure!(header.first_block == next, "batch {} does not begin at {next}", header.number);
        next = header.last_block + 1;
    }
    let mut sent = Vec::new();
    for number in 0..=head {
        let block = l1.get_block_by_number(number.into()).full().await?;
        let block = block.ok_or_else(|| eyre!("no L1 block {number}"))?;
        for tx in block.transactions.txns() {
            let (hash, sender) = (*tx.inner.tx_hash(), tx.inner.signer());
            if !l1_accounts().contains(&sender) {
                continue;
            }
            Bid::of(tx, hash, sender).check(caps)?;
            let receipt = l1.get_transaction_receipt(hash).await?;
            let receipt = receipt.ok_or_else(|| eyre!("no receipt of {hash}"))?;
            ensure!(receipt.status(), "{hash} reverted");
            sent.push(hash);
        }
    }
    ensure!(count == posted.len() as u64);
    Ok(Posted { batches: posted.len(), sent })
}

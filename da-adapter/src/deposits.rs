//! The deposit queue's accumulator, computed from the deposits that blocks hold.

use alloy::primitives::{B256, TxKind};
use millrace_proto::{Deposit, ExecutedBlock};

/// The accumulator after a block's deposits, of which the first has the index `start`; `before` is
/// the accumulator before them.
///
/// It equals the contract's if, and only if, the block holds the deposits that L1 queued.
pub(crate) fn accumulate(block: &ExecutedBlock, start: u64, before: B256) -> B256 {
    let deposits = block.transactions.iter().map_while(|tx| tx.tx().as_deposit());
    (start..).zip(deposits).fold(before, |before, (index, tx)| {
        let deposit = Deposit {
            index,
            from: tx.from,
            // The contract queues no creations: one here gives an accumulator that L1 does not
            // have.
            to: match tx.to {
                TxKind::Call(to) => to,
                TxKind::Create => Default::default(),
            },
            value: tx.value,
            gas_limit: tx.gas_limit,
            data: tx.input.clone(),
        };
        deposit.accumulate(before)
    })
}

//! A transaction's life as the sequencer sees it: from the pool, from recent blocks, from the executor's index, from the
//! order log's drops, and from how far settlement is.

mod heads;
mod recent;
mod status;
mod timeline;
mod waiters;

use self::timeline::Timeline;
pub(crate) use self::{
    heads::{Heads, SettledWhen, stage_of},
    recent::{RecentBlocks, RecentTx},
    status::{Known, reached, status_at},
    waiters::Waiters,
};

//! Millrace's sequencer: takes transactions, orders them in a log, and builds blocks from that order.
//!
//! ```text
//!  submit ─> recovery threads ─> pool ─┬─> order log (group commit) ─> ACCEPTED
//!            decode, check,     nonce  │
//!            recover            queues └─> builder ─> executor ─> sealed block ─> SEQUENCED
//!  L1 inbox ──────────────> deposits ──────┘                          settlement ─> POSTED ... FINALIZED
//! ```
//!
//! The order log is the only state: a start folds it, brings the executor up to it, and takes back what was accepted and is in
//! no block. docs/order-log.md describes it.

mod admission;
mod builder;
mod clock;
mod config;
mod data_fee;
mod deposits;
mod error;
mod handle;
mod lifecycle;
mod log;
mod metrics;
mod pool;
mod preconfirmations;
mod recovery;
mod replay;
mod service;
mod settlement;
mod shared;
mod submit;
mod throttle;

#[cfg(any(test, feature = "fuzzing"))]
pub use self::admission::fuzz::any_transactions;
pub use self::{
    clock::{Clock, SystemClock},
    config::{OrderBy, PoolConfig, SequencerConfig, SequencerConfigError},
    data_fee::DataFeeConfig,
    error::{OpenError, SequencerRunError},
    handle::SequencerHandle,
    log::{
        AcceptTimes, BlockOpened, BlockTimes, CodecError, DroppedTx, LogError, OrderLog, Position,
        Record, RecordIter, RocksOrderLog, SettledBlocks,
    },
    service::{SequencerDeps, SequencerService, SequencerTask},
    throttle::ThrottleConfig,
};

//! The service traits. In one process they are called directly; between processes the gRPC clients implement them.

mod background;
mod da;
mod error;
mod executor;
mod frame_feed;
mod l1;
mod replay;
mod report;
mod sequencer;
mod settlement;
mod simulate;
mod trace;

use std::pin::Pin;

use futures::Stream;

pub use self::{
    background::give_way,
    da::{
        DaAdapter, DaAdapterError, DaReadError, DaReader, DaStatus, OutboxBatch, RefusedBlocks,
        WindowLeft,
    },
    error::{ErrorClass, TransportError},
    executor::{
        BlockBuild, BlockSelector, CallOutcome, CallRequest, CallStatus, Executed, Executor,
        ExecutorError, FoundAccounts, GasEstimate, Noting, OpenPoint, TxLocation, TxOutcome,
    },
    frame_feed::FrameFeed,
    l1::{L1Inbox, L1InboxError, Standing},
    replay::{DerivedStretch, Replay, ReplayError},
    report::{ErrorChain, Outage, PastOutage},
    sequencer::{
        Admission, ChainHeads, FrameDetail, PoolContent, PoolStatus, PooledTx, Preconfirmations,
        Sequencer, SequencerError, SequencerStatus, SubmitError, TxPool, admitted,
    },
    settlement::{
        BatchPoint, BatchRecord, BatchVerdict, Settlement, SettlementError, SettlementStatus,
    },
    simulate::{SimulatedBlock, SimulatedCall, SimulationCode, SimulationError},
    trace::{TraceLimit, TraceTarget},
};

pub(crate) use self::error::status_message;

/// A boxed stream of results.
pub type BoxStream<T, E> = Pin<Box<dyn Stream<Item = Result<T, E>> + Send + 'static>>;

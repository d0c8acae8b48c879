//! Domain types.

mod block;
mod data_fee;
mod delta;
mod deposit;
mod diff;
mod l1;
mod message;
mod peer;
mod preconfirmation;
mod prefix;
mod receipt;
mod recover;
mod reject;
mod senders;
mod spec;
mod stage;
mod tx;

pub use alloy::{consensus::Header, eips::BlockNumHash};
pub use op_alloy_consensus::TxDeposit;

pub use self::{
    block::{
        BlockAttributes, DerivedBlock, ExecutedBlock, PublishedBlock, Receipt, SealedHeader,
        num_hash,
    },
    data_fee::{DataPrice, estimated_batch_bytes, most_batch_bytes, tip_for_data},
    delta::{AccountDelta, Change, StateDelta},
    deposit::{Deposit, ForcedTx, MAX_FORCED_GAS, QueueEntry, QueueMark, QueuedTxs},
    diff::{AccountDiff, AccountInfo, SlotDiff, StateDiff},
    l1::{
        Attestation, BatchHeader, BatchOutcome, Commitment, DaKind, L1Ref, PostedBatch,
        UnknownDaKind,
    },
    message::{
        BRIDGED_TOKEN, MESSAGE_COUNT_SLOT, MESSAGE_PASSER, Message, MessageSent, TOKEN_BRIDGE,
        message_ids, message_proof, message_root, message_slot,
    },
    peer::Peer,
    preconfirmation::{FrameStart, Preconfirmation},
    prefix::AddressPrefix,
    receipt::SharedReceipt,
    reject::RejectReason,
    spec::{BatchPayload, ChainSpec, Hardfork, RollupParams, SpecError},
    stage::{Inclusion, Stage, TxStatus},
    tx::{DecodeTxError, RecoveredTx, TxEnvelope, TxType, Unsigned},
};

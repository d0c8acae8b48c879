//! The L1 side of Millrace: what every service that reads or writes L1 shares.
//!
//! ```text
//!   L1 node ── L1Client ──┬── RollupContract ──┬── L1Follower      events at the head, through reorgs
//!   (JSON-RPC)            │   (views, events)  └── DepositInbox    confirmed deposits, for the sequencer
//!                         └── TxManager ── journal                 one intent, one inclusion
//!   beacon node ── BeaconClient                                    blobs, checked against their hashes
//! ```
//!
//! Nothing here decides what a batch means or when to post: that is the DA adapter's and the settlement service's.

mod attestation;
mod beacon;
mod blocking;
mod bridge;
mod client;
mod config;
pub mod contracts;
mod counters;
mod error;
mod follower;
mod inbox;
mod metrics;
mod nodes;
mod ordered_trie;
mod revert;
mod rollup;
mod signer;
mod tx;

#[cfg(feature = "testing")]
pub mod testing;

pub(crate) use self::blocking::blocking;
pub use self::{
    attestation::AttestationRules,
    beacon::{BeaconClient, BeaconError, BlobBlock, blob_versioned_hash},
    bridge::{MessageProof, MessageState, Withdrawal, messages_in, sign_transaction, withdraw},
    client::{L1Block, L1Client},
    config::{ClientOptions, L1Config},
    contracts::{MessagePasser, Rollup},
    counters::RollupCounters,
    error::L1Error,
    follower::{L1Follower, L1Update},
    inbox::{DepositError, DepositInbox},
    ordered_trie::{prove_entry, verify_entry},
    revert::RevertReason,
    rollup::{
        DeployParams, Deployment, EventProof, EventProofError, FinalityRule, MAX_GENESIS_BYTES,
        ProvenEvent, RollupContract, RollupEvent, RollupState, commitment_hash, deploy_rollup,
    },
    signer::{L1Signer, SignError, Web3Signer},
    tx::{
        BlobProofs, ConfirmedTx, JournalError, Market, OneCall, TxManager, TxManagerConfig,
        TxManagerError, TxRequest, submit_once,
    },
};

//! The harness: starts the real `millrace` binary on free ports and waits on conditions.
//!
//! ```text
//!  Chain     a `millrace dev` process: start, stop, kill -9, start again on the same folder
//!  Services  the same with each service in a process of its own
//!  Wallet    signs and sends transactions over JSON-RPC, tracks its nonce
//!  tools     the binary, anvil, cast, clients and Prometheus: where they are, how to run them
//!  bids      what a chain's services have offered L1, as a proxy sees it
//!  posted    what a chain's services have sent to L1
//!  archive   a folder that a chain keeps its blobs in
//!  wait      conditions with a deadline
//! ```

mod archive;
mod bids;
mod chain;
mod follower;
mod posted;
mod services;
mod tools;
mod wait;
mod wallet;

pub use self::{
    archive::BlobArchive,
    bids::{Bid, Bids},
    chain::{Chain, ChainOptions, Ready, anvil, occurrences},
    follower::Follower,
    posted::{Posted, l1_accounts, posted_once, transactions},
    services::{Service, Services, ServicesOptions},
    tools::{
        Output, cast, millrace, node_client, prometheus, promtool, python_client, repository, run,
        setting, strace, verify,
    },
    wait::{eventually, eventually_within},
    wallet::{Wallet, dev_key, fresh_address},
};

//! The harness: starts the real `millrace` binary on free ports and waits on conditions.
//!
//! ```text
//!  Chain     a `millrace dev` process: start, stop, kill -9, start again on the same folder
//!  Wallet    signs and sends transactions over JSON-RPC, tracks its nonce
//!  tools     the binary, anvil, cast, clients and Prometheus: where they are, how to run them
//!  posted    what a chain's services have sent to L1
//!  wait      conditions with a deadline
//! ```

mod chain;
mod follower;
mod posted;
mod tools;
mod wait;
mod wallet;

pub use self::{
    chain::{Chain, ChainOptions, Ready, anvil, occurrences},
    follower::Follower,
    posted::{l1_accounts, posted_once, transactions},
    tools::{
        Output, cast, millrace, node_client, prometheus, promtool, python_client, repository, run,
        setting, verify,
    },
    wait::{eventually, eventually_within},
    wallet::{Wallet, dev_key, fresh_address},
};

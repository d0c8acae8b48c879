//! The L1 transaction manager: one intent, one nonce, one inclusion, whatever happens in between. Several may be in flight.
//!
//! ```text
//!  send(id) ── known id? ── resume ───────────────┐
//!     │ no                                        │
//!  estimate (a revert is reported, nothing paid)  │
//!     │                                           v
//!  sign ── journal (fsync) ── broadcast ── drive: included? ── deep enough ── ConfirmedTx
//!                                 ^           │ no
//!                                 └── journal └─ too long: higher fees, within caps and balance
//! ```

mod config;
mod crew;
mod drive;
mod error;
mod fees;
mod journal;
mod manager;
mod once;
mod request;
mod signed;

pub(crate) use self::once::submit_all;
pub use self::once::{OneCall, submit_once};
pub use self::{
    config::{BlobProofs, TxManagerConfig},
    error::{JournalError, TxManagerError},
    fees::Market,
    manager::TxManager,
    request::{ConfirmedTx, TxRequest},
};

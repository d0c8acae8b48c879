//! State: accounts and storage at a block, the root after a diff, proofs.
//!
//! ```text
//!  record    an account as it is stored: with the root of its storage trie
//!  root      StateDiff on top of the head -> state root, records and trie nodes to write
//!  view      account, storage, code as of a block: the head's values, or the first entry of history after the block
//!  proof     EIP-1186 proofs from a view
//!  genesis   the allocation's root, without a database
//! ```

mod genesis;
mod nodes;
mod proof;
mod record;
mod root;
mod view;

pub use self::genesis::genesis_header;
pub(crate) use self::{
    record::AccountRecord,
    root::{RootUpdate, state_root},
    view::StateView,
};

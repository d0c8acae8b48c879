//! Execution of a block whose access list is known (EIP-7928): its transactions do not wait for each other.
//!
//! ```text
//!  BlockAccessList ──> Listed: values by key and transaction, over the state before the block
//!                        │
//!                        ├── ListedView ──> EVM: transaction n, on the state that the list says it finds
//!                        │                   │ journal
//!                        └── check <─────────┘ does n change what the list says, and read only what it lists?
//! ```
//!
//! When every transaction, executed on what the list says that those before it left, changes exactly what the list says that it
//! changes, then the list is right, transaction by transaction, and the block with it. Nothing is taken on trust: a list that says
//! too much, too little or something else is refused.

mod check;
mod error;
mod executor;
mod index;
mod task;
mod view;

pub use self::{error::AccessListError, executor::ListedExecutor};

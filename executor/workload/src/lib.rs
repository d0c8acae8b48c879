//! What the executor is measured and tested with: real blocks, blocks of real contracts, and the plain revm loop beside it.
//!
//! ```text
//!  scenario  blocks made for measuring: transfers, ERC-20, Uniswap; seeded
//!  fixture   Ethereum mainnet blocks with the state before them
//!  bare      the plainest correct loop over revm: what others are compared with
//! ```

mod bare;
mod fixture;
mod scenario;

pub use self::{
    bare::{BareOutcome, BareRevm},
    fixture::{Fixture, FixtureError},
    scenario::{ArtifactError, Artifacts, Block, Scenario, scenarios},
};

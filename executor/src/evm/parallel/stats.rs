//! How the work of a block was done.

/// Counts of one block's transactions by how they came into it. Each was executed once, but for `failed`, which were
/// executed twice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ParallelStats {
    /// Plain transfers, on the short path.
    pub plain: u64,
    /// Run ahead, and right.
    pub held: u64,
    /// Run ahead, and wrong: run again in their place.
    pub failed: u64,
    /// Run in their place, those counted in `failed` included.
    pub inline: u64,
}

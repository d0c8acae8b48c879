//! How large the open batch will be: a fast compression of the same bytes, or a count of what changed, corrected by how far it
//! was off before.

use std::io::{self, Write};

use alloy::primitives::{Address, B256, map::HashSet};
use millrace_proto::{ExecutedBlock, StateDiff};
use zstd::stream::write::Encoder;

use super::open_batch::Collected;

/// Bytes of `r ‖ s`, which do not compress.
const SIGNATURE_LEN: usize = 64;
/// Bytes of the batch's header, about.
const HEADER_LEN: usize = 80;
/// The fastest of zstd's levels.
const LEVEL: i32 = 1;

/// Bytes of an account that changed, about: its address, or its name if there was one before, and what its nonce and balance grew or fell by.
const ACCOUNT_LEN: usize = 28;
const NAMED_ACCOUNT_LEN: usize = 11;
/// Bytes of a slot that changed, about: where it is, and by how much.
const SLOT_LEN: usize = 10;

/// Keeps an estimate of a batch's encoded size while blocks are added.
pub(super) struct SizeEstimator {
    encoder: Encoder<'static, Counter>,
    signatures: usize,
    /// What changed so far: accounts, and their slots. (Each takes its bytes once, however often it changes.)
    changed: HashSet<(Address, Option<B256>)>,
    /// Bytes of that.
    changes: usize,
    correction: f64,
}

impl std::fmt::Debug for SizeEstimator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SizeEstimator").field("size", &self.size()).finish_non_exhaustive()
    }
}

/// Counts what is written.
#[derive(Debug, Default)]
struct Counter(usize);

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl SizeEstimator {
    /// `correction` multiplies what is counted; see [`SizeEstimator::correction`].
    pub(super) fn new(correction: f64) -> io::Result<Self> {
        let encoder = Encoder::new(Counter::default(), LEVEL)?;
        let changed = HashSet::default();
        Ok(Self { encoder, signatures: 0, changed, changes: 0, correction })
    }

    pub(super) fn add(&mut self, block: &Collected) -> io::Result<()> {
        match &block.diff {
            Some(diff) => {
                self.add_diff(diff);
                Ok(())
            }
            None => self.add_transactions(&block.block),
        }
    }

    fn add_diff(&mut self, diff: &StateDiff) {
        for (address, account) in &diff.accounts {
            if self.changed.insert((*address, None)) {
                let is_named = account.before.is_some();
                self.changes += if is_named { NAMED_ACCOUNT_LEN } else { ACCOUNT_LEN };
            }
            for key in account.storage.keys() {
                if self.changed.insert((*address, Some(*key))) {
                    self.changes += SLOT_LEN;
                }
            }
        }
        self.changes += diff.code.values().map(|code| code.len()).sum::<usize>();
    }

    fn add_transactions(&mut self, block: &ExecutedBlock) -> io::Result<()> {
        for tx in block.signed() {
            // In every type the signature comes last.
            let bytes = tx.encoded();
            let unsigned = bytes.len().saturating_sub(SIGNATURE_LEN);
            self.encoder.write_all(&bytes[..unsigned])?;
            self.signatures += SIGNATURE_LEN;
        }
        // A block costs a few bytes even if it is empty.
        self.encoder.write_all(&block.header.timestamp.to_be_bytes())?;
        self.encoder.flush()
    }

    /// Estimated bytes of the encoded batch.
    pub(super) fn size(&self) -> usize {
        HEADER_LEN + self.signatures + (self.counted() * self.correction) as usize
    }

    /// The correction with which the estimate would have been the batch's `actual` size.
    pub(super) fn correction(&self, actual: usize) -> f64 {
        let columns = actual.saturating_sub(HEADER_LEN + self.signatures) as f64;
        columns / self.counted()
    }

    /// Corrects the estimate.
    pub(super) const fn correct(&mut self, correction: f64) {
        self.correction = correction;
    }

    /// Bytes of the columns, as the fast compression has them or as they were counted.
    fn counted(&self) -> f64 {
        (self.encoder.get_ref().0 + self.changes).max(1) as f64
    }
}

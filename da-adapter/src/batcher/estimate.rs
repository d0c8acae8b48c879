//! How large the open batch will be: a fast compression of the same bytes, corrected by how far it
//! was off before.

use std::io::{self, Write};

use millrace_proto::ExecutedBlock;
use zstd::stream::write::Encoder;

/// Bytes of `r ‖ s`, which do not compress.
const SIGNATURE_LEN: usize = 64;
/// Bytes of the batch's header, about.
const HEADER_LEN: usize = 80;
/// The fastest of zstd's levels.
const LEVEL: i32 = 1;

/// Keeps an estimate of a batch's encoded size while blocks are added.
pub(super) struct SizeEstimator {
    encoder: Encoder<'static, Counter>,
    signatures: usize,
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
        Ok(Self { encoder, signatures: 0, correction })
    }

    pub(super) fn add(&mut self, block: &ExecutedBlock) -> io::Result<()> {
        for tx in &block.transactions {
            if tx.tx().is_deposit() {
                continue;
            }
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

    /// Bytes of the columns, as the fast compression has them.
    fn counted(&self) -> f64 {
        self.encoder.get_ref().0.max(1) as f64
    }
}

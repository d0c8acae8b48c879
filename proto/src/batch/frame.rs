//! The compressed columns: one zstd frame with its content size declared, without a dictionary.

use std::io;

use zstd::{bulk::Compressor, zstd_safe};

use super::{
    error::{BatchColumn, BatchDecodeError, BatchEncodeError},
    limits::BatchLimits,
};

/// Compresses the columns.
pub(super) fn compress(columns: &[u8], level: i32) -> Result<Vec<u8>, BatchEncodeError> {
    let mut compressor = Compressor::new(level).map_err(BatchEncodeError::Compression)?;
    compressor.compress(columns).map_err(BatchEncodeError::Compression)
}

/// Decompresses them, having checked that `frame` is one frame alone, and its declared size against
/// the limit.
pub(super) fn decompress(frame: &[u8], limits: &BatchLimits) -> Result<Vec<u8>, BatchDecodeError> {
    let invalid = |problem| BatchDecodeError::Invalid { column: BatchColumn::Frame, problem };
    let length = zstd_safe::find_frame_compressed_size(frame).map_err(|code| {
        BatchDecodeError::Compression(io::Error::other(zstd_safe::get_error_name(code)))
    })?;
    if length != frame.len() {
        return Err(BatchDecodeError::TrailingBytes {
            after: BatchColumn::Frame,
            count: frame.len().saturating_sub(length),
        });
    }
    let size = zstd_safe::get_frame_content_size(frame)
        .map_err(|_| invalid("no frame header"))?
        .ok_or_else(|| invalid("content size is not declared"))?;
    let capacity = match usize::try_from(size) {
        Ok(capacity) if capacity <= limits.max_decoded => capacity,
        _ => {
            return Err(BatchDecodeError::OverLimit {
                what: "column bytes",
                size,
                limit: limits.max_decoded,
            });
        }
    };
    zstd::bulk::decompress(frame, capacity).map_err(BatchDecodeError::Compression)
}

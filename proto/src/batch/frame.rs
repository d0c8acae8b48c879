//! The compressed columns: one zstd frame with its content size declared.

use std::io;

use zstd::zstd_safe;

use super::{
    dictionary::BatchDictionary,
    error::{BatchColumn, BatchDecodeError, BatchEncodeError},
    limits::{BatchLimits, within},
};

/// Compresses the columns.
pub(super) fn compress(
    columns: &[u8],
    level: i32,
    dictionary: &BatchDictionary,
) -> Result<Vec<u8>, BatchEncodeError> {
    dictionary
        .compressor(level)
        .and_then(|mut compressor| compressor.compress(columns))
        .map_err(BatchEncodeError::Compression)
}

/// What a frame begins with. (Others that zstd may know, of before RFC 8878, are not part of the format.)
const MAGIC: [u8; 4] = 0xfd2f_b528_u32.to_le_bytes();

/// Bytes of the frame that `bytes` begin with.
pub(super) fn length(bytes: &[u8]) -> Result<usize, BatchDecodeError> {
    if !bytes.starts_with(&MAGIC) {
        return Err(BatchDecodeError::Invalid {
            column: BatchColumn::Frame,
            problem: "not a zstd frame",
        });
    }
    zstd_safe::find_frame_compressed_size(bytes).map_err(|code| {
        BatchDecodeError::Compression(io::Error::other(zstd_safe::get_error_name(code)))
    })
}

/// Decompresses the columns, having checked their declared size against the limit.
pub(super) fn decompress(
    frame: &[u8],
    dictionary: &BatchDictionary,
    limits: &BatchLimits,
) -> Result<Vec<u8>, BatchDecodeError> {
    let invalid = |problem| BatchDecodeError::Invalid { column: BatchColumn::Frame, problem };
    let size = zstd_safe::get_frame_content_size(frame)
        .map_err(|_| invalid("no frame header"))?
        .ok_or_else(|| invalid("content size is not declared"))?;
    if zstd_safe::get_dict_id_from_frame(frame).is_some() {
        return Err(invalid("a dictionary's id, which the header has"));
    }
    let capacity = within(size, limits.max_decoded, "column bytes")?;
    dictionary
        .decompressor()
        .and_then(|mut decompressor| decompressor.decompress(frame, capacity))
        .map_err(BatchDecodeError::Compression)
}

//! The compressed columns: one zstd frame with its content size declared.

use std::io;

use ruzstd::decoding::{BlockDecodingStrategy, errors::FrameDecoderError};
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
    dictionary.compress(columns, level).map_err(BatchEncodeError::Compression)
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

/// The bit of the frame header's descriptor that says that a checksum follows.
const CHECKSUM: u8 = 1 << 2;
/// Bytes that are decompressed at a time.
const STEP: usize = 1 << 20;

/// Decompresses the columns, having checked their declared size against the limit.
///
/// Not with zstd's own decoder: that is several decoders, one for each kind of processor, and they differ in which malformed frames they refuse.
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
    if frame.get(MAGIC.len()).is_none_or(|descriptor| descriptor & CHECKSUM != 0) {
        return Err(invalid("a checksum, which the digest makes needless"));
    }
    let size = within(size, limits.max_decoded, "column bytes")?;
    let mut rest = frame;
    let mut decoder = dictionary.decoder(&mut rest, limits.max_decoded as u64).map_err(refused)?;
    let mut columns = Vec::with_capacity(size);
    while !decoder.is_finished() {
        decoder
            .decode_blocks(&mut rest, BlockDecodingStrategy::UptoBytes(STEP))
            .map_err(refused)?;
        if decoder.can_collect() > size - columns.len() {
            return Err(invalid("more content than is declared"));
        }
        decoder.collect_to_writer(&mut columns).map_err(BatchDecodeError::Compression)?;
    }
    if !rest.is_empty() {
        return Err(invalid("bytes that do not belong to it"));
    }
    if columns.len() != size {
        return Err(invalid("less content than is declared"));
    }
    Ok(columns)
}

fn refused(error: FrameDecoderError) -> BatchDecodeError {
    BatchDecodeError::Compression(io::Error::other(error))
}

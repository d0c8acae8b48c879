use super::*;

/// What every zstd frame begins with.
const FRAME_MAGIC: [u8; 4] = 0xfd2f_b528_u32.to_le_bytes();

pub(super) fn decode(encoded: &[u8]) -> Result<Batch, BatchDecodeError> {
    Batch::decode(encoded, &BatchLimits::default())
}

/// The header, the frame and the signatures.
pub(super) fn parts(encoded: &[u8]) -> (&[u8], &[u8], &[u8]) {
    let start = encoded.windows(4).position(|bytes| bytes == FRAME_MAGIC).unwrap();
    let (header, rest) = encoded.split_at(start);
    let (frame, signatures) =
        rest.split_at(zstd::zstd_safe::find_frame_compressed_size(rest).unwrap());
    (header, frame, signatures)
}

pub(super) fn columns(encoded: &[u8]) -> Vec<u8> {
    let dictionary = include_bytes!("../../src/batch/dictionary/1.zdict");
    let mut decompressor = zstd::bulk::Decompressor::with_dictionary(dictionary).unwrap();
    decompressor.decompress(parts(encoded).1, 1 << 24).unwrap()
}

/// The batch with other columns.
pub(super) fn with_columns(encoded: &[u8], columns: &[u8]) -> Vec<u8> {
    let (header, _, signatures) = parts(encoded);
    [header, &zstd::bulk::compress(columns, 1).unwrap(), signatures].concat()
}

/// Whatever decodes must encode to something that decodes to the same again, and its transactions
/// must stand.
pub(super) fn check_total(encoded: &[u8]) {
    if let Ok(batch) = decode(encoded) {
        check_transactions(&batch);
        assert_eq!(decode(&batch.encode(1).unwrap()).unwrap(), batch);
    }
}

/// Each transaction's EIP-2718 bytes decode to the same transaction with the same hash.
pub(super) fn check_transactions(batch: &Batch) {
    for tx in batch.blocks.iter().flat_map(|block| &block.transactions) {
        let bytes = tx.encoded_2718();
        let again = TxEnvelope::decode_2718(&mut bytes.as_slice()).unwrap();
        assert_eq!(again.hash(), tx.hash());
        assert_eq!(again.encoded_2718(), bytes);
    }
}

//! Whether a batch's bytes are what L1 carries, or commits to

use alloy::{consensus::Blob, eips::eip4844::BYTES_PER_BLOB};
use millrace_l1::blob_versioned_hash;
use millrace_proto::{DaKind, DaReadError, PostedBatch};

use super::InclusionProofError;
use crate::{
    backend::check_pointer,
    blob::{MAX_BLOBS, pack},
};

/// Checks bytes, which have the recorded digest, against what else L1 recorded: blobs by their KZG commitments (EIP-4844), which are computed
/// again; calldata byte for byte; elsewhere the form of the pointer, as there the digest alone is what L1 commits to.
pub(super) fn check(batch: &PostedBatch, bytes: &[u8]) -> Result<(), InclusionProofError> {
    let kind = batch.header.da_kind;
    let wrong = |problem: String| InclusionProofError::Da { kind, problem };
    match kind {
        DaKind::L1Blob => check_blobs(batch, bytes).map_err(wrong),
        DaKind::L1Calldata if batch.da_pointer.as_ref() == bytes => Ok(()),
        DaKind::L1Calldata => Err(wrong("the calldata has other bytes".to_owned())),
        DaKind::AltDa | DaKind::Celestia | DaKind::ObjectStore => {
            check_pointer(batch).map_err(|error| {
                wrong(match error {
                    DaReadError::Invalid { problem, .. } => problem,
                    other => other.to_string(),
                })
            })
        }
    }
}

fn check_blobs(batch: &PostedBatch, bytes: &[u8]) -> Result<(), String> {
    let recorded = &batch.blob_hashes;
    let packed = pack(bytes).ok_or("they fit no blobs")?;
    let blobs = packed.len() / BYTES_PER_BLOB;
    // A commitment takes some 40 ms of CPU.
    if blobs != recorded.len() || blobs > MAX_BLOBS {
        return Err(format!("they take {blobs} blobs, and it recorded {}", recorded.len()));
    }
    for (position, (blob, recorded)) in
        packed.chunks_exact(BYTES_PER_BLOB).zip(recorded).enumerate()
    {
        let blob = <&Blob>::try_from(blob).map_err(|error| error.to_string())?;
        let hash = blob_versioned_hash(blob)?;
        if hash != *recorded {
            return Err(format!("blob {position} has the versioned hash {hash}, not {recorded}"));
        }
    }
    Ok(())
}

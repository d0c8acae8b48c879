//! The chain's genesis, as it was published on L1.

use std::io::Read;

use alloy::{
    primitives::{Bytes, keccak256},
    sol_types::SolEvent,
};
use tracing::warn;

use super::RollupContract;
use crate::{L1Error, contracts::Rollup};

/// The most bytes that a genesis may have once it is decompressed. A published one that is larger is passed over.
pub const MAX_GENESIS_BYTES: usize = 64 * 1024 * 1024;

impl RollupContract {
    /// The published genesis (geth-format JSON) that `accept` takes: the caller decodes it and compares the hash of
    /// block 0 with [`Self::genesis_hash`]. Publications are tried in order; ones that cannot be read are passed over.
    ///
    /// # Errors
    /// [`L1Error::GenesisMissing`] if there is no such publication up to L1's head.
    pub async fn genesis(&self, mut accept: impl FnMut(&[u8]) -> bool) -> Result<Bytes, L1Error> {
        let head = self.client.head().await?.number;
        let digest = self.constants().await?.genesis_digest;
        let topics = vec![Rollup::GenesisPublished::SIGNATURE_HASH];
        let mut next = self.deployed_at().await?;
        while next <= head {
            let (logs, last) = self.logs_from(topics.clone(), next, head).await?;
            for log in logs {
                let Ok(event) = Rollup::GenesisPublished::decode_log_data(&log.inner) else {
                    continue;
                };
                // The contract publishes no other.
                if keccak256(&event.genesis) != digest {
                    self.forget_constants();
                    return Err(self
                        .client
                        .unproven_here("another genesis than the contract's".to_owned())
                        .await);
                }
                match decompress(&event.genesis) {
                    Ok(json) if accept(&json) => return Ok(json.into()),
                    Ok(_) => {
                        warn!(target: "millrace::l1", "a published genesis is not this chain's; passed over")
                    }
                    Err(error) => {
                        warn!(target: "millrace::l1", %error, "a published genesis cannot be read; passed over");
                    }
                }
            }
            next = last.saturating_add(1);
        }
        Err(L1Error::GenesisMissing { address: self.address, expected: self.genesis_hash().await? })
    }
}

/// Compresses a genesis for publication.
pub(super) fn compress(json: &[u8]) -> std::io::Result<Vec<u8>> {
    zstd::bulk::compress(json, 19)
}

fn decompress(compressed: &[u8]) -> std::io::Result<Vec<u8>> {
    let limit = MAX_GENESIS_BYTES as u64;
    let mut json = Vec::new();
    zstd::Decoder::new(compressed)?.take(limit + 1).read_to_end(&mut json)?;
    if json.len() > MAX_GENESIS_BYTES {
        return Err(std::io::Error::other(format!("more than {MAX_GENESIS_BYTES} bytes")));
    }
    Ok(json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_compressed_is_read_back() {
        let json = br#"{"config":{"chainId":1}}"#.repeat(1000);
        let compressed = compress(&json).expect("compress");
        assert!(compressed.len() < json.len() / 10);
        assert_eq!(decompress(&compressed).expect("decompress"), json);
    }

    #[test]
    fn a_bomb_is_refused() {
        let bomb = compress(&vec![0; MAX_GENESIS_BYTES + 1]).expect("compress");
        assert!(decompress(&bomb).is_err());
        assert!(decompress(b"not zstd").is_err());
    }
}

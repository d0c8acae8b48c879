//! Where a batch is on Celestia, as L1 has it. Whether a pointer is one does not depend on a client for Celestia.

use alloy::primitives::{B256, FixedBytes};
use millrace_proto::{DaReadError, PostedBatch};

use super::invalid;

/// First byte of a pointer that is laid out as [`CelestiaPointer::encode`] does.
const VERSION: u8 = 1;

/// A place on Celestia.
#[cfg_attr(not(feature = "celestia"), allow(dead_code, reason = "only a client goes there"))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CelestiaPointer {
    /// The block.
    height: u64,
    /// The blob's share commitment.
    commitment: B256,
    /// The last ten bytes of its namespace, of version 0.
    namespace: FixedBytes<10>,
}

impl CelestiaPointer {
    /// `None` where Celestia never has that block, or a blob in that namespace: those up to 255 are its own
    /// ([specification](https://celestiaorg.github.io/celestia-app/namespace.html#reserved-namespaces)).
    pub(crate) fn new(height: u64, commitment: B256, namespace: FixedBytes<10>) -> Option<Self> {
        let exists = i64::try_from(height).is_ok_and(|height| height > 0);
        let is_reserved = namespace[..9].iter().all(|byte| *byte == 0);
        (exists && !is_reserved).then_some(Self { height, commitment, namespace })
    }

    /// Where a batch was posted to be.
    pub(crate) fn of(batch: &PostedBatch) -> Result<Self, DaReadError> {
        Self::parse(&batch.da_pointer)
            .ok_or_else(|| invalid(batch, "its pointer is no place on Celestia"))
    }

    /// What is posted on L1, if it is one: what everybody can tell without a node.
    pub(crate) fn parse(pointer: &[u8]) -> Option<Self> {
        let (&[VERSION], rest) = pointer.split_first_chunk::<1>()? else { return None };
        let (height, rest) = rest.split_first_chunk::<8>()?;
        let (commitment, rest) = rest.split_first_chunk::<32>()?;
        let namespace = FixedBytes::<10>::try_from(rest).ok()?;
        Self::new(u64::from_be_bytes(*height), commitment.into(), namespace)
    }
}

#[cfg(any(feature = "celestia", test))]
impl CelestiaPointer {
    /// 51 bytes: the version, the height (big-endian), the commitment, the namespace. With the namespace, L1's record is all that a reader needs, and a
    /// chain may change it.
    pub(crate) fn encode(&self) -> alloy::primitives::Bytes {
        let height = self.height.to_be_bytes();
        [&[VERSION], &height[..], self.commitment.as_slice(), self.namespace.as_slice()]
            .concat()
            .into()
    }
}

#[cfg(feature = "celestia")]
impl CelestiaPointer {
    pub(crate) const fn height(&self) -> u64 {
        self.height
    }

    pub(crate) const fn commitment(&self) -> B256 {
        self.commitment
    }

    pub(crate) const fn namespace(&self) -> FixedBytes<10> {
        self.namespace
    }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::hex;

    use super::*;

    #[test]
    fn a_pointer_is_laid_out_as_documented() {
        let bytes = hex!(
            "01" "0000000000a1b2c3"
            "1111111111111111111111111111111111111111111111111111111111111111"
            "6d696c6c726163650000"
        );
        let namespace = FixedBytes(*b"millrace\0\0");
        let pointer = CelestiaPointer::new(0xa1_b2c3, B256::repeat_byte(0x11), namespace);
        assert_eq!(CelestiaPointer::parse(&bytes), pointer);
        assert_eq!(pointer.map(|pointer| pointer.encode()), Some(bytes.into()));

        for length in 0..bytes.len() {
            assert_eq!(CelestiaPointer::parse(&bytes[..length]), None, "{length}");
        }
        assert_eq!(CelestiaPointer::parse(&[&bytes[..], &[0]].concat()), None);
        let with = |at: usize, value: &[u8]| {
            let mut bytes = bytes;
            bytes[at..at + value.len()].copy_from_slice(value);
            CelestiaPointer::parse(&bytes)
        };
        assert_eq!(with(0, &[0]), None, "another version");
        assert_eq!(with(1, &[0; 8]), None, "no block");
        assert_eq!(with(1, &[0x80]), None, "over what a height can be");
        assert_eq!(with(41, &[0, 0, 0, 0, 0, 0, 0, 0, 0, 255]), None, "Celestia's own namespace");
        assert!(with(41, &[0, 0, 0, 0, 0, 0, 0, 0, 1, 0]).is_some());
    }

    /// That no client is needed to tell.
    #[cfg(feature = "celestia")]
    #[test]
    fn namespaces_that_celestia_keeps_are_those() {
        for last in [[0, 0], [0, 255], [1, 0], [255, 255]] {
            let mut id = FixedBytes::<10>::ZERO;
            id[8..].copy_from_slice(&last);
            let reserved = celestia_types::nmt::Namespace::const_v0(id.0).is_reserved();
            assert_eq!(CelestiaPointer::new(1, B256::ZERO, id).is_none(), reserved, "{last:?}");
        }
    }
}

//! Batches in blobs: 254 bits a field element, behind the batch's length. `docs/batch-format.md`
//! specifies it.

use alloy::eips::eip4844::{BYTES_PER_BLOB, FIELD_ELEMENTS_PER_BLOB};

/// Most blobs of one L1 transaction (EIP-7594).
pub const MAX_BLOBS: usize = 6;

/// Bytes in front of the batch.
const LENGTH_LEN: usize = 4;
/// Bytes of a field element.
const ELEMENT_LEN: usize = 32;
/// Bytes that a blob carries at 254 bits an element.
const BLOB_CAPACITY: usize = FIELD_ELEMENTS_PER_BLOB as usize * 254 / 8;

/// Bytes of batch that `blobs` blobs carry.
pub const fn capacity(blobs: usize) -> usize {
    (blobs * BLOB_CAPACITY).saturating_sub(LENGTH_LEN)
}

/// Blobs that a batch takes; at least one.
pub const fn blobs_needed(size: usize) -> usize {
    (size + LENGTH_LEN).div_ceil(BLOB_CAPACITY)
}

/// Why blobs hold no batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnpackError {
    /// Not whole blobs.
    #[error("a blob of {0} bytes")]
    BlobSize(usize),
    /// A field element uses one of the two bits that a batch leaves zero.
    #[error("element {element} of blob {blob} is over 254 bits")]
    Element {
        /// The blob, from 0.
        blob: usize,
        /// The element in it, from 0.
        element: usize,
    },
    /// The length says that another number of blobs is needed.
    #[error("a batch of {length} bytes does not take {blobs} blobs")]
    Length {
        /// What the length field says.
        length: usize,
        /// How many blobs there are.
        blobs: usize,
    },
    /// Something follows the batch.
    #[error("bits are set after the end of the batch")]
    Padding,
}

/// Lays a batch into blobs, one after another in one buffer of `blobs_needed(data.len())` times
/// 131,072 bytes.
///
/// Returns `None` if the length does not fit its field.
pub(crate) fn pack(data: &[u8]) -> Option<Vec<u8>> {
    let length = u32::try_from(data.len()).ok()?.to_be_bytes();
    let mut out = vec![0; blobs_needed(data.len()) * BYTES_PER_BLOB];
    let mut bits = BitReader::new(length.iter().chain(data));
    for element in out.chunks_exact_mut(ELEMENT_LEN) {
        // Bits of a big-endian integer below 2^254: six in the first byte, eight in each of the
        // others.
        element[0] = bits.take(6);
        for byte in &mut element[1..] {
            *byte = bits.take(8);
        }
        if bits.is_empty() {
            break;
        }
    }
    Some(out)
}

/// Reads a batch out of its blobs.
///
/// # Errors
/// When `pack` gives these blobs for no batch.
pub fn unpack<B: AsRef<[u8]>>(blobs: &[B]) -> Result<Vec<u8>, UnpackError> {
    let mut bytes = Vec::with_capacity(blobs.len() * BLOB_CAPACITY);
    let mut bits = BitWriter::new(&mut bytes);
    for (blob, elements) in blobs.iter().map(AsRef::as_ref).enumerate() {
        if elements.len() != BYTES_PER_BLOB {
            return Err(UnpackError::BlobSize(elements.len()));
        }
        for (element, value) in elements.chunks_exact(ELEMENT_LEN).enumerate() {
            if value[0] >> 6 != 0 {
                return Err(UnpackError::Element { blob, element });
            }
            bits.put(value[0], 6);
            for byte in &value[1..] {
                bits.put(*byte, 8);
            }
        }
    }
    let wrong = |length| UnpackError::Length { length, blobs: blobs.len() };
    let (length, data) = bytes.split_first_chunk::<LENGTH_LEN>().ok_or(wrong(0))?;
    let length = u32::from_be_bytes(*length) as usize;
    if blobs_needed(length) != blobs.len() {
        return Err(wrong(length));
    }
    let (data, rest) = data.split_at_checked(length).ok_or(wrong(length))?;
    if rest.iter().any(|byte| *byte != 0) {
        return Err(UnpackError::Padding);
    }
    Ok(data.to_vec())
}

/// Takes bits off bytes, highest first; zeros after the end.
struct BitReader<I> {
    bytes: I,
    held: u16,
    count: u32,
    ended: bool,
}

impl<'a, I: Iterator<Item = &'a u8>> BitReader<I> {
    const fn new(bytes: I) -> Self {
        Self { bytes, held: 0, count: 0, ended: false }
    }

    /// The next `bits` bits, at most 8.
    fn take(&mut self, bits: u32) -> u8 {
        if self.count < bits {
            let next = self.bytes.next();
            self.ended = next.is_none();
            self.held = self.held << 8 | u16::from(next.copied().unwrap_or(0));
            self.count += 8;
        }
        self.count -= bits;
        let taken = self.held >> self.count;
        self.held &= (1 << self.count) - 1;
        taken as u8
    }

    const fn is_empty(&self) -> bool {
        self.ended
    }
}

/// Puts bits into bytes, highest first.
struct BitWriter<'a> {
    bytes: &'a mut Vec<u8>,
    held: u16,
    count: u32,
}

impl<'a> BitWriter<'a> {
    const fn new(bytes: &'a mut Vec<u8>) -> Self {
        Self { bytes, held: 0, count: 0 }
    }

    /// Adds the low `bits` bits, at most 8, of `value`, which has no others.
    fn put(&mut self, value: u8, bits: u32) {
        self.held = self.held << bits | u16::from(value);
        self.count += bits;
        if self.count >= 8 {
            self.count -= 8;
            self.bytes.push((self.held >> self.count) as u8);
            self.held &= (1 << self.count) - 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use alloy::consensus::Blob;
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn blobs(packed: &[u8]) -> Vec<&[u8]> {
        packed.chunks(BYTES_PER_BLOB).collect()
    }

    /// The BLS12-381 scalar modulus.
    const MODULUS: [u8; 32] =
        alloy::primitives::hex!("73eda753299d7d483339d80809a1d80553bda402fffe5bfeffffffff00000001");

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn what_is_packed_unpacks_to_the_same(data in vec(any::<u8>(), 0..300_000)) {
            let packed = pack(&data).unwrap();
            prop_assert_eq!(packed.len(), blobs_needed(data.len()) * BYTES_PER_BLOB);
            prop_assert!(packed.chunks(32).all(|element| element < &MODULUS[..]));
            prop_assert_eq!(unpack(&blobs(&packed)).unwrap(), data);
        }

        #[test]
        fn any_elements_unpack_or_are_refused(
            start in vec(any::<u8>(), 0..200),
            count in 0..3usize,
        ) {
            let mut packed = vec![0; count * BYTES_PER_BLOB];
            for (to, from) in packed.iter_mut().zip(start) {
                *to = from;
            }
            if let Ok(data) = unpack(&blobs(&packed)) {
                prop_assert_eq!(pack(&data).unwrap(), packed);
            }
        }
    }

    #[test]
    fn the_sizes_at_the_edges_fit() {
        for count in 1..=MAX_BLOBS {
            let data = vec![0xff; capacity(count)];
            assert_eq!(blobs_needed(data.len()), count);
            assert_eq!(blobs_needed(data.len() + 1), count + 1);
            let packed = pack(&data).unwrap();
            assert_eq!(unpack(&blobs(&packed)).unwrap(), data);
        }
        assert_eq!((capacity(1), capacity(MAX_BLOBS)), (130_044, 780_284));
        assert_eq!(BYTES_PER_BLOB, Blob::ZERO.len());
    }

    /// What was posted must be readable for ever.
    #[test]
    fn the_packing_is_frozen() {
        let packed = pack(b"millrace").unwrap();
        let expected = alloy::primitives::hex!(
            "000000021b5a5b1b1c9858d9400000000000000000000000000000000000000000"
        );
        assert_eq!(packed[..33], expected);
        assert!(packed[33..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn what_no_batch_gives_is_refused() {
        let packed = pack(b"millrace").unwrap();
        let with = |index: usize, byte: u8| {
            let mut packed = packed.clone();
            packed[index] = byte;
            unpack(&blobs(&packed)).unwrap_err()
        };
        assert_eq!(with(64, 0x40), UnpackError::Element { blob: 0, element: 2 });
        assert_eq!(with(64, 1), UnpackError::Padding);
        assert_eq!(with(BYTES_PER_BLOB - 1, 1), UnpackError::Padding);
        assert!(matches!(with(0, 0x3f), UnpackError::Length { blobs: 1, .. }));
        assert_eq!(unpack::<&[u8]>(&[]), Err(UnpackError::Length { length: 0, blobs: 0 }));
        let two = [packed.as_slice(), &vec![0; BYTES_PER_BLOB]];
        assert_eq!(unpack(&two), Err(UnpackError::Length { length: 8, blobs: 2 }));
        assert_eq!(unpack(&[&packed[1..]]), Err(UnpackError::BlobSize(BYTES_PER_BLOB - 1)));
    }
}

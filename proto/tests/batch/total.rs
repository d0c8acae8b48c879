use super::{made::batch, *};

proptest! {
    #[test]
    fn what_is_encoded_decodes_to_the_same(batch in batch(), level in 1..=19i32) {
        let encoded = batch.encode(level).unwrap();
        prop_assert_eq!(&batch.encode(level).unwrap(), &encoded);
        let decoded = decode(&encoded).unwrap();
        prop_assert_eq!(&decoded, &batch);
        for (left, right) in batch.blocks.iter().zip(&decoded.blocks) {
            for (left, right) in left.transactions.iter().zip(&right.transactions) {
                prop_assert_eq!(left.encoded_2718(), right.encoded_2718());
                prop_assert_eq!(left.hash(), right.hash());
            }
        }
    }

    #[test]
    fn any_bytes_decode_to_a_batch_or_an_error(bytes in vec(any::<u8>(), 0..400)) {
        check_total(&bytes);
    }

    #[test]
    fn any_columns_decode_to_a_batch_or_an_error(batch in batch(), bytes in vec(any::<u8>(), 0..600)) {
        check_total(&with_columns(&batch.encode(1).unwrap(), &bytes));
    }

    #[test]
    fn changed_columns_decode_to_a_batch_or_an_error(
        batch in batch(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let encoded = batch.encode(1).unwrap();
        let mut columns = columns(&encoded);
        for (index, byte) in changes {
            let index = index.index(columns.len());
            columns[index] = byte;
        }
        check_total(&with_columns(&encoded, &columns));
    }
}

#[test]
fn every_truncation_is_an_error() {
    let encoded = frozen_batch().encode(9).unwrap();
    for len in 0..encoded.len() {
        assert!(decode(&encoded[..len]).is_err(), "{len} bytes decoded");
    }
    let columns = columns(&encoded);
    for len in 0..columns.len() {
        assert!(
            decode(&with_columns(&encoded, &columns[..len])).is_err(),
            "{len} column bytes decoded"
        );
    }
}

#[test]
fn every_flipped_bit_gives_a_batch_or_an_error() {
    let encoded = frozen_batch().encode(9).unwrap();
    let columns = columns(&encoded);
    for bit in 0..encoded.len() * 8 {
        let mut flipped = encoded.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        check_total(&flipped);
    }
    for bit in 0..columns.len() * 8 {
        let mut flipped = columns.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        check_total(&with_columns(&encoded, &flipped));
    }
}

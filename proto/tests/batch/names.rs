use std::collections::BTreeMap;

use millrace_proto::{
    AccountDelta, AccountNames, AddressPrefix, DiffBatch, KeyHints, NameError, StateDelta,
};

use super::{
    diffs::{decode_diffs, diff_batch, empty, encode, frozen_diffs},
    parts::{columns, with_columns},
    *,
};

/// Names for some accounts, as if they were all that the state has.
pub(super) fn named(bits: u8, accounts: &[Address]) -> AccountNames {
    let found = |address: &Address| AddressPrefix::of(*address, bits).only_of(accounts);
    AccountNames::new(bits, accounts, &accounts.iter().map(found).collect::<Vec<_>>())
}

proptest! {
    #[test]
    fn accounts_that_are_named_are_those_that_were_found(batch in diff_batch(), bits in 1..=70u8, kept in any::<u8>()) {
        // Some of them, as of the others the state has none.
        let accounts = batch.delta.accounts.keys().zip(0..8).filter(|(_, at)| kept >> at & 1 == 1);
        let accounts: Vec<_> = accounts.map(|(address, _)| *address).collect();
        let names = named(bits, &accounts);
        let encoded = batch.encode(9, &KeyHints::default(), &names).unwrap();
        let decoded = decode_diffs(&encoded).unwrap();
        let expected = batch.delta.accounts.keys().filter(|address| names.has(**address)).count();
        prop_assert_eq!(decoded.delta.names().len(), expected);
        let found = names.find(decoded.delta.names());
        prop_assert_eq!(&decoded.clone().resolve(&found).unwrap(), &batch);
        if let Some(name) = decoded.delta.names().last().copied() {
            // The state has none that begins so; or somebody looked for another.
            let mut none = found.clone();
            *none.last_mut().unwrap() = None;
            prop_assert_eq!(decoded.clone().resolve(&none), Err(NameError::Unknown(name)));
            let mut other = name.first();
            other[0] ^= 0x80;
            *none.last_mut().unwrap() = Some(other);
            prop_assert_eq!(decoded.clone().resolve(&none), Err(NameError::Unknown(name)));
            prop_assert_eq!(decoded.resolve(&found[..found.len() - 1]), Err(NameError::Unknown(name)));
        }
    }
}

/// An account that is named and told: one of the changes would be lost.
#[test]
fn an_account_twice_is_refused() {
    let changed = |nonce| AccountDelta::Changed {
        nonce,
        balance: None,
        code_hash: None,
        storage: BTreeMap::new(),
    };
    let [named_one, told] = [2, 3].map(Address::repeat_byte);
    let accounts = BTreeMap::from([(named_one, changed(1)), (told, changed(2))]);
    let delta = StateDelta { accounts, ..StateDelta::default() };
    let batch = DiffBatch { delta, messages: vec![], ..frozen_diffs() };
    let names = named(12, &[named_one]);
    let encoded = batch.encode(9, &KeyHints::default(), &names).unwrap();
    let decoded = decode_diffs(&encoded).unwrap();
    assert_eq!(decoded.clone().resolve(&[Some(named_one)]).unwrap(), batch);
    // Whom a name names, only the state before it can tell: that may be the one who is told.
    let mut alike = told;
    alike[0] = 2;
    alike[1] = 2;
    let accounts = BTreeMap::from([(named_one, changed(1)), (alike, changed(2))]);
    let delta = StateDelta { accounts, ..StateDelta::default() };
    let encoded = DiffBatch { delta, ..batch }.encode(9, &KeyHints::default(), &names).unwrap();
    let decoded = decode_diffs(&encoded).unwrap();
    assert!(decoded.clone().resolve(&[Some(named_one)]).is_ok());
    assert_eq!(decoded.resolve(&[Some(alike)]), Err(NameError::Twice(alike)));
}

#[test]
fn names_that_do_not_ascend_or_do_not_fit_are_refused() {
    let batch = empty();
    let encoded = encode(&batch);
    let right = columns(&encoded);
    // No names, no words of either kind.
    assert!(right.ends_with(&[0, 0, 0]), "{right:?}");
    let head = &right[..right.len() - 3];
    let with = |names: &[u8]| {
        // As many accounts as there are names, none of which changed; nothing else.
        let rest = [0, 0, 0, 0, 0, 0, 0, 0];
        decode_diffs(&with_columns(
            &encoded,
            &[head, names, &rest[..2 + usize::from(names[0])]].concat(),
        ))
    };
    // Two names of 9 bits: 3, and 3 + 1 + 300; the lower byte of each step apart.
    let found = with(&[2, 9, 1, 0, 1, 3, 44]).unwrap();
    let names = [AddressPrefix::new(9, 3).unwrap(), AddressPrefix::new(9, 304).unwrap()];
    assert_eq!(found.delta.names(), names);
    for (columns, problem) in [
        (vec![2, 9, 1, 0, 2, 3, 255], "a name that its bits do not hold"),
        (vec![1, 0, 0, 0], "a name that its bits do not hold"),
        (vec![1, 65, 0, 0], "a name that its bits do not hold"),
        (vec![1, 64, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0], "names over 64 bits"),
    ] {
        match with(&columns) {
            Err(BatchDecodeError::Invalid { column: BatchColumn::Names, problem: found }) => {
                assert_eq!(found, problem, "{columns:?}");
            }
            other => panic!("{columns:?}: {other:?}"),
        }
    }
}

//! A write-ahead log that a crash has torn.

use std::{fs, path::PathBuf};

use super::*;

/// The log that the last commits went into.
fn log_of(folder: &Path) -> PathBuf {
    let mut logs: Vec<_> = fs::read_dir(folder)
        .expect("the folder reads")
        .map(|entry| entry.expect("the folder reads").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect();
    logs.sort();
    logs.pop().expect("there is a log")
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("the folder reads") {
        let path = entry.expect("the folder reads").path();
        fs::copy(&path, to.join(path.file_name().expect("it has a name"))).expect("it is copied");
    }
}

#[test]
fn a_torn_log_leaves_whole_blocks() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    // Large enough that nothing is flushed while the folder is copied.
    let config = StoreConfig { write_buffer_bytes: 256 << 20, ..small() };
    let mut chain = Chain::new(folder.path(), &config, Model::default());
    for number in 0..12u64 {
        let changes: Vec<_> = (0..6)
            .flat_map(|byte| {
                let address = Address::repeat_byte(byte);
                let slot = B256::with_last_byte(number as u8 % 5);
                let value = U256::from(number * u64::from(byte) % 4);
                [Change::Account(address, number), Change::Slot(address, slot, value)]
            })
            .collect();
        chain.push(&changes);
    }
    // As a kill leaves it: no flush, no close.
    let image = tempfile::tempdir().expect("a temporary folder");
    copy(folder.path(), image.path());
    let log = log_of(image.path());
    let length = fs::metadata(&log).expect("the log is there").len();

    let mut heads = Vec::new();
    for cut in (0..24).map(|step| length - step * length / 40) {
        let torn = tempfile::tempdir().expect("a temporary folder");
        copy(image.path(), torn.path());
        let file = fs::OpenOptions::new().write(true).open(log_of(torn.path()));
        file.and_then(|file| file.set_len(cut)).expect("the log is cut");

        let store = open(torn.path(), &small(), &chain.states[0]).expect("the store opens");
        let head = store.head();
        heads.push(head.number);
        let torn = Chain { store, states: chain.states.clone(), diffs: chain.diffs.clone() };
        assert_eq!(head.state_root, torn.states[head.number as usize].root());
        for number in 0..=head.number {
            torn.check_block(number);
        }
        let above = BlockSelector::Number(head.number + 1);
        assert_eq!(torn.store.block(above).expect("it reads"), None);

        // And the chain goes on from there.
        let mut torn = torn;
        torn.states.truncate(head.number as usize + 1);
        torn.push(&[Change::Account(Address::repeat_byte(1), 99)]);
        torn.check_block(head.number + 1);
    }
    assert_eq!(heads[0], 12, "a whole log loses nothing");
    assert!(heads.last() < heads.first(), "a short log loses blocks: {heads:?}");
}

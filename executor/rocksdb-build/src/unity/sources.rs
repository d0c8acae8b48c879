//! Joins RocksDB's source files into units of about equal size.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use crate::BindgenError;

/// A file that includes a run of RocksDB's sources.
#[derive(Debug)]
pub(crate) struct Unit {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

/// Writes `count` units that together include every file of `list` once, in its order.
///
/// The list is relative to the folder `rocksdb` beside it. `util/build_version.cc` is left out, as
/// `librocksdb-sys` has its own in its place.
pub(crate) fn write_units(
    list: &Path,
    folder: &Path,
    count: usize,
) -> Result<Vec<Unit>, BindgenError> {
    let names = fs::read_to_string(list).map_err(BindgenError::io(list))?;
    let root = list.with_file_name("rocksdb");
    let mut files = Vec::new();
    for name in names
        .lines()
        .map(str::trim)
        .filter(|name| !name.is_empty() && *name != "util/build_version.cc")
    {
        let path = root.join(name);
        files.push((name, fs::metadata(&path).map_err(BindgenError::io(path))?.len()));
    }
    fs::create_dir_all(folder).map_err(BindgenError::io(folder))?;
    let mut units = Vec::with_capacity(count);
    for (index, group) in split(&files, count).into_iter().enumerate() {
        let path = folder.join(format!("unit_{index}.cc"));
        let mut text = String::new();
        for name in group {
            writeln!(text, "#include \"{name}\"").expect("a String takes every write");
        }
        fs::write(&path, &text).map_err(BindgenError::io(&path))?;
        units.push(Unit { path, text });
    }
    Ok(units)
}

/// Cuts the files, in order, into `count` runs of about the same number of bytes.
fn split<'a>(files: &[(&'a str, u64)], count: usize) -> Vec<Vec<&'a str>> {
    /// What a file costs beside its own bytes: headers that no other one of its unit needs.
    const OVERHEAD: u64 = 10_000;
    let total: u64 = files.iter().map(|(_, size)| size + OVERHEAD).sum::<u64>().max(1);
    let mut groups = vec![Vec::new(); count];
    let mut before = 0;
    for (name, size) in files {
        let slot = usize::try_from(before * count as u64 / total).unwrap_or(usize::MAX);
        groups[slot.min(count - 1)].push(*name);
        before += size + OVERHEAD;
    }
    groups.retain(|group| !group.is_empty());
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_included_once_and_in_order() {
        let names: Vec<String> = (0..97).map(|index| format!("db/file_{index}.cc")).collect();
        let files: Vec<_> =
            names.iter().zip(0..).map(|(name, size)| (name.as_str(), size * 1_000)).collect();
        let groups = split(&files, 6);
        assert_eq!(groups.len(), 6);
        assert_eq!(groups.concat(), names);
    }

    #[test]
    fn a_single_large_file_leaves_no_empty_unit() {
        assert_eq!(split(&[("a.cc", 1_000_000), ("b.cc", 1)], 6), [["a.cc"], ["b.cc"]]);
    }

    #[test]
    fn units_leave_out_the_replaced_version_file() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let list = root.path().join("rocksdb_lib_sources.txt");
        fs::write(&list, "db/a.cc\nutil/build_version.cc\nutil/b.cc\n")
            .expect("the list is written");
        for name in ["db/a.cc", "util/b.cc"] {
            let path = root.path().join("rocksdb").join(name);
            fs::create_dir_all(path.parent().expect("it has a folder"))
                .expect("the folder is made");
            fs::write(path, "int x;").expect("the source is written");
        }
        let units = write_units(&list, &root.path().join("units"), 1).expect("the sources exist");
        assert_eq!(units.len(), 1);
        assert_eq!(units[0].text, "#include \"db/a.cc\"\n#include \"util/b.cc\"\n");
        assert_eq!(fs::read_to_string(&units[0].path).expect("the unit exists"), units[0].text);
    }
}

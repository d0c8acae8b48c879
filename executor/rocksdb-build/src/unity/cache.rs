//! Keeps the archive beside cargo's own outputs, for all profiles and feature sets to share.
//!
//! Cargo gives every combination of profile and features its own output folder, but the archive is
//! the same in all of them.

use std::{
    env, fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::{Path, PathBuf},
    process,
};

use super::sources::Unit;
use crate::{BindgenError, VERSION};

/// The folder for archives: in cargo's target folder, which is marked with a `CACHEDIR.TAG`.
/// None where no such folder is found.
pub(super) fn folder(out_dir: &Path) -> Option<PathBuf> {
    let target = out_dir.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file())?;
    Some(target.join("rocksdb-unity"))
}

/// A name for the archive that `units` and the flags of `config` give: it changes with RocksDB's version,
/// the compiler, its flags and the headers of the compression libraries.
pub(super) fn key(config: &cc::Build, units: &[Unit]) -> String {
    let mut hasher = DefaultHasher::new();
    let compiler = config.get_compiler();
    compiler.path().hash(&mut hasher);
    compiler.args().hash(&mut hasher);
    let version = process::Command::new(compiler.path()).arg("--version").output();
    version.map(|output| output.stdout).unwrap_or_default().hash(&mut hasher);
    for unit in units {
        unit.text.hash(&mut hasher);
    }
    for folder in codec_headers() {
        let mut headers: Vec<PathBuf> = fs::read_dir(folder)
            .into_iter()
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "h"))
            .collect();
        headers.sort();
        for header in headers {
            fs::read(header).unwrap_or_default().hash(&mut hasher);
        }
    }
    format!("{VERSION}-{:016x}", hasher.finish())
}

/// Where lz4-sys and zstd-sys say that their headers are.
pub(super) fn codec_headers() -> impl Iterator<Item = PathBuf> {
    ["DEP_LZ4_INCLUDE", "DEP_ZSTD_INCLUDE"].into_iter().filter_map(env::var_os).map(PathBuf::from)
}

/// Puts the kept archive at `archive`. False where there is none.
pub(super) fn take(kept: &Path, archive: &Path) -> bool {
    place(kept, archive).is_ok()
}

/// Keeps `archive` as `kept`. Builds that do so at the same time do not see each other's halves.
pub(super) fn keep(archive: &Path, kept: &Path) -> Result<(), BindgenError> {
    let folder = kept.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(BindgenError::io(folder))?;
    let partial = kept.with_extension(process::id().to_string());
    place(archive, &partial).map_err(BindgenError::io(&partial))?;
    fs::rename(&partial, kept).map_err(BindgenError::io(kept))
}

/// Makes `to` the same file as `from`, or a copy where links cannot be made.
fn place(from: &Path, to: &Path) -> std::io::Result<()> {
    match fs::remove_file(to) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::hard_link(from, to).or_else(|_| fs::copy(from, to).map(drop))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_kept_and_taken_back() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let (built, taken) = (root.path().join("built.a"), root.path().join("taken.a"));
        let kept = root.path().join("rocksdb-unity/key/kept.a");
        assert!(!take(&kept, &taken));
        fs::write(&built, "archive").expect("the archive is written");
        keep(&built, &kept).expect("the archive is kept");
        keep(&built, &kept).expect("keeping again replaces it");
        fs::write(&taken, "older").expect("an older archive is written");
        assert!(take(&kept, &taken));
        assert_eq!(fs::read_to_string(&taken).expect("it was taken"), "archive");
    }

    #[test]
    fn the_folder_is_in_the_marked_target() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let out = root.path().join("debug/build/librocksdb-sys-1/out");
        fs::create_dir_all(&out).expect("the folders are made");
        fs::write(root.path().join("CACHEDIR.TAG"), "").expect("the tag is written");
        assert_eq!(folder(&out), Some(root.path().join("rocksdb-unity")));
    }
}

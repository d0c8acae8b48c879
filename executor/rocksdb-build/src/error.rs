//! Why the stand-in refuses.

use std::{fmt, io, path::PathBuf};

/// Why RocksDB's bindings or library could not be provided.
///
/// The build script prints this with `{:?}`, so `Debug` gives the same sentence as `Display`.
pub enum BindgenError {
    /// Something other than the one known version of `librocksdb-sys` asked.
    UnknownCaller {
        /// The asking package and its version.
        found: String,
        /// The only package and version that is served.
        expected: String,
    },
    /// The build script asks for bindings to a header other than the bundled one.
    ForeignHeader(String),
    /// The bindings hold for 64-bit Unix systems only.
    UnsupportedTarget(String),
    /// `MILLRACE_ROCKSDB` holds an unknown word.
    UnknownMode(String),
    /// `MILLRACE_ROCKSDB=unity` asks for a unity build that is not possible here.
    NoUnity(String),
    /// A file could not be read or written.
    Io {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
}

impl BindgenError {
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}

impl fmt::Display for BindgenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const OFF: &str =
            "delete the `bindgen` line from [patch.crates-io] to use the real bindgen";
        match self {
            Self::UnknownCaller { found, expected } => {
                write!(f, "this stand-in for bindgen serves {expected} only, not {found}; {OFF}")
            }
            Self::ForeignHeader(header) => {
                write!(
                    f,
                    "no committed bindings for the header {header}; unset ROCKSDB_INCLUDE_DIR, or {OFF}"
                )
            }
            Self::UnsupportedTarget(target) => {
                write!(f, "no committed bindings for {target}; {OFF}")
            }
            Self::UnknownMode(mode) => {
                write!(f, "MILLRACE_ROCKSDB is `{mode}`, but must be `unity` or `stock`")
            }
            Self::NoUnity(reason) => write!(f, "MILLRACE_ROCKSDB is `unity`, but: {reason}"),
            Self::Io { path, source } => write!(f, "{}: {source}", path.display()),
        }
    }
}

impl fmt::Debug for BindgenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for BindgenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

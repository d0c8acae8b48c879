//! The part of bindgen's builder that the build script calls.

use crate::{BindgenError, Bindings, caller::Caller, unity};

/// The calls which the build script of `librocksdb-sys` makes on bindgen's builder.
///
/// All options but the header are already part of the committed bindings, so their setters only
/// have to exist: the version check makes sure that they are the ones the bindings were made with.
#[derive(Debug, Default)]
pub struct Builder {
    header: String,
}

impl Builder {
    /// The header to bind; only RocksDB's bundled C header is accepted.
    #[must_use]
    pub fn header(mut self, header: impl Into<String>) -> Self {
        self.header = header.into();
        self
    }

    /// Part of the committed bindings.
    #[must_use]
    pub fn derive_debug(self, _: bool) -> Self {
        self
    }

    /// Part of the committed bindings.
    #[must_use]
    pub fn blocklist_type(self, _: impl AsRef<str>) -> Self {
        self
    }

    /// Part of the committed bindings.
    #[must_use]
    pub fn ctypes_prefix(self, _: impl Into<String>) -> Self {
        self
    }

    /// Part of the committed bindings.
    #[must_use]
    pub fn size_t_is_usize(self, _: bool) -> Self {
        self
    }

    /// Checks who asks, and for what, and compiles RocksDB unless that is switched off.
    ///
    /// # Errors
    /// See [`BindgenError`]. A C++ compiler that fails is among them only under `MILLRACE_ROCKSDB=unity`;
    /// otherwise the ordinary build follows.
    pub fn generate(self) -> Result<Bindings, BindgenError> {
        let caller = Caller::from_env();
        caller.check()?;
        if self.header != "rocksdb/include/rocksdb/c.h" {
            return Err(BindgenError::ForeignHeader(self.header));
        }
        unity::provide(&caller)?;
        Ok(Bindings(()))
    }
}

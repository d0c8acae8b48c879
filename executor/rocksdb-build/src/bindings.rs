//! The committed bindings, given out as bindgen would.

use std::{fs, io, path::Path};

/// What the real bindgen made of `rocksdb/c.h`, see `regenerate.sh`.
const GENERATED: &str = include_str!("../bindings-11.8.1.rs");

/// The committed bindings, ready to be written where the build script wants them.
#[derive(Debug)]
pub struct Bindings(pub(crate) ());

impl Bindings {
    /// Writes the bindings to `path`, replacing what is there.
    ///
    /// # Errors
    /// Those of writing the file.
    pub fn write_to_file(&self, path: impl AsRef<Path>) -> io::Result<()> {
        fs::write(path, GENERATED)
    }
}

#[cfg(test)]
mod tests {
    use super::GENERATED;
    use crate::VERSION;

    #[test]
    fn bindings_belong_to_the_served_version() {
        let first = GENERATED.lines().next().unwrap_or_default();
        assert!(first.contains(&format!("librocksdb-sys {VERSION}.")), "{first}");
        assert!(GENERATED.contains("pub fn rocksdb_open("));
    }
}

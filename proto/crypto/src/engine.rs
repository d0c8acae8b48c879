//! Which code runs on this processor.

use std::{ffi::OsStr, fmt, sync::LazyLock};

#[cfg(target_arch = "x86_64")]
use crate::lanes::{Avx2, Avx512, There};

/// How signatures are recovered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecoverPath {
    /// Eight at a time, with AVX-512 IFMA.
    Avx512Ifma,
    /// One by one, with libsecp256k1.
    Scalar,
}

/// How is hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum HashPath {
    /// Eight messages at a time, with AVX-512.
    Avx512,
    /// Four messages at a time, with AVX2.
    Avx2,
    /// One by one.
    Scalar,
}

/// The code that this process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Engine {
    /// For signatures.
    pub recover: RecoverPath,
    /// For hashes.
    pub hash: HashPath,
}

/// The environment's variable that leaves only the scalar paths, if it is `1`.
const FORCE_SCALAR: &str = "MILLRACE_FORCE_SCALAR";

static ENGINE: LazyLock<Engine> =
    LazyLock::new(|| Engine::chosen(std::env::var_os(FORCE_SCALAR).as_deref()));

/// The code that this process runs: the best for its processor, or the scalar code if `MILLRACE_FORCE_SCALAR` is `1` when this is first asked.
pub fn engine() -> Engine {
    *ENGINE
}

impl Engine {
    const SCALAR: Self = Self { recover: RecoverPath::Scalar, hash: HashPath::Scalar };

    /// By the value of [`FORCE_SCALAR`].
    fn chosen(force_scalar: Option<&OsStr>) -> Self {
        if force_scalar.is_some_and(|value| value == "1") { Self::SCALAR } else { Self::detected() }
    }

    /// The best for this processor.
    fn detected() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if There::<Avx512>::detect().is_some() {
                return Self { recover: RecoverPath::Avx512Ifma, hash: HashPath::Avx512 };
            }
            if There::<Avx2>::detect().is_some() {
                return Self { hash: HashPath::Avx2, ..Self::SCALAR };
            }
        }
        Self::SCALAR
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let recover = match self.recover {
            RecoverPath::Avx512Ifma => "AVX-512 IFMA, 8 at a time",
            RecoverPath::Scalar => "libsecp256k1",
        };
        let hash = match self.hash {
            HashPath::Avx512 => "AVX-512, 8 at a time",
            HashPath::Avx2 => "AVX2, 4 at a time",
            HashPath::Scalar => "one by one",
        };
        write!(f, "signatures: {recover}; hashes: {hash}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_forces_the_scalar_paths() {
        assert_eq!(Engine::chosen(Some(OsStr::new("1"))), Engine::SCALAR);
        for other in [None, Some(OsStr::new("0")), Some(OsStr::new(""))] {
            assert_eq!(Engine::chosen(other), Engine::detected());
        }
    }
}

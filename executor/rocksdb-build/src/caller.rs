//! Who calls: exactly one version of one build script.

use std::{env, path::PathBuf};

use crate::BindgenError;

/// The one version of `librocksdb-sys` that is served.
pub const VERSION: &str = "0.19.0+11.8.1";

const PACKAGE: &str = "librocksdb-sys";

/// The build script that runs, and what it builds for, as cargo's environment tells.
#[derive(Debug, Clone, Default)]
pub(crate) struct Caller {
    pub(crate) package: String,
    pub(crate) version: String,
    pub(crate) target: String,
    pub(crate) os: String,
    pub(crate) family: String,
    pub(crate) pointer_width: String,
    pub(crate) arch: String,
    /// CPU features of the target, without those of `-Ctarget-cpu`'s C++ counterpart.
    pub(crate) cpu_features: Vec<String>,
    /// The `-Ctarget-cpu` of the Rust build, where one is given.
    pub(crate) cpu: Option<String>,
    /// Cargo features of `librocksdb-sys`, as in its environment: upper case.
    pub(crate) cargo_features: Vec<String>,
    pub(crate) out_dir: PathBuf,
}

impl Caller {
    pub(crate) fn from_env() -> Self {
        let var = |name: &str| env::var(name).unwrap_or_default();
        let rustflags = var("CARGO_ENCODED_RUSTFLAGS");
        Self {
            package: var("CARGO_PKG_NAME"),
            version: var("CARGO_PKG_VERSION"),
            target: var("TARGET"),
            os: var("CARGO_CFG_TARGET_OS"),
            family: var("CARGO_CFG_TARGET_FAMILY"),
            pointer_width: var("CARGO_CFG_TARGET_POINTER_WIDTH"),
            arch: var("CARGO_CFG_TARGET_ARCH"),
            cpu_features: var("CARGO_CFG_TARGET_FEATURE").split(',').map(str::to_owned).collect(),
            cpu: target_cpu(&rustflags),
            cargo_features: env::vars()
                .filter_map(|(name, _)| name.strip_prefix("CARGO_FEATURE_").map(str::to_owned))
                .collect(),
            out_dir: PathBuf::from(var("OUT_DIR")),
        }
    }

    /// Refuses every package, version and target that the committed bindings do not hold for.
    pub(crate) fn check(&self) -> Result<(), BindgenError> {
        if self.package != PACKAGE || self.version != VERSION {
            return Err(BindgenError::UnknownCaller {
                found: format!("{} {}", self.package, self.version),
                expected: format!("{PACKAGE} {VERSION}"),
            });
        }
        if self.pointer_width != "64" || self.family != "unix" {
            return Err(BindgenError::UnsupportedTarget(self.target.clone()));
        }
        Ok(())
    }
}

/// The last `target-cpu` among flags separated as in `CARGO_ENCODED_RUSTFLAGS`.
fn target_cpu(encoded: &str) -> Option<String> {
    encoded
        .split('\u{1f}')
        .filter_map(|flag| flag.strip_prefix("-C").unwrap_or(flag).strip_prefix("target-cpu="))
        .next_back()
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Caller {
        Caller {
            package: PACKAGE.into(),
            version: VERSION.into(),
            pointer_width: "64".into(),
            family: "unix".into(),
            ..Caller::default()
        }
    }

    #[test]
    fn only_the_pinned_version_is_served() {
        assert!(known().check().is_ok());
        let newer = Caller { version: "0.20.0+12.0.0".into(), ..known() };
        let error = newer.check().expect_err("another version").to_string();
        assert!(error.contains("librocksdb-sys 0.20.0+12.0.0"), "{error}");
        let other = Caller { package: "other-sys".into(), ..known() };
        assert!(matches!(other.check(), Err(BindgenError::UnknownCaller { .. })));
    }

    #[test]
    fn targets_with_another_layout_are_refused() {
        let narrow = Caller { pointer_width: "32".into(), ..known() };
        assert!(matches!(narrow.check(), Err(BindgenError::UnsupportedTarget(_))));
        let windows = Caller { family: "windows".into(), ..known() };
        assert!(matches!(windows.check(), Err(BindgenError::UnsupportedTarget(_))));
    }

    #[test]
    fn target_cpu_is_found_in_both_spellings() {
        assert_eq!(target_cpu("-Ctarget-cpu=native").as_deref(), Some("native"));
        assert_eq!(target_cpu("-C\u{1f}target-cpu=broadwell").as_deref(), Some("broadwell"));
        assert_eq!(target_cpu("-Copt-level=3"), None);
    }
}

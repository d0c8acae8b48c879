//! Compiles RocksDB as a few large units and points the running build script at the archive.

mod cache;
mod sources;

use std::{env, fs, path::Path};

use crate::{BindgenError, caller::Caller};

/// Enough units to keep a few cores busy, few enough to parse every header only as often.
/// A unit takes the compiler about 2 GB.
const UNITS: usize = 6;

const ARCHIVE: &str = "librocksdb.a";

/// Cargo features of `librocksdb-sys` whose effect on the build is known here.
const KNOWN_FEATURES: [&str; 8] = [
    "BINDGEN_RUNTIME",
    "BINDGEN_STATIC",
    "DEFAULT",
    "LZ4",
    "LZ4_SYS",
    "STATIC",
    "ZSTD",
    "ZSTD_SYS",
];

/// Variables that shape the archive or choose who builds it.
const VARIABLES: [&str; 6] =
    ["MILLRACE_ROCKSDB", "ROCKSDB_CXX_STD", "CXX", "CXXFLAGS", "AR", "ARFLAGS"];

/// Builds or finds the archive and sets `ROCKSDB_LIB_DIR`, or leaves everything to the build script.
pub(crate) fn provide(caller: &Caller) -> Result<(), BindgenError> {
    for name in VARIABLES {
        println!("cargo:rerun-if-env-changed={name}");
    }
    let required = match env::var("MILLRACE_ROCKSDB").as_deref() {
        Ok("stock") => return Ok(()),
        Ok("unity") => true,
        Ok("") | Err(_) => false,
        Ok(mode) => return Err(BindgenError::UnknownMode(mode.to_owned())),
    };
    let step_aside = |reason: String| {
        if required {
            return Err(BindgenError::NoUnity(reason));
        }
        println!("cargo:warning=RocksDB is not built as joined sources: {reason}");
        Ok(())
    };
    if let Some(reason) = obstacle(caller) {
        return step_aside(reason);
    }
    let units = sources::write_units(
        Path::new("rocksdb_lib_sources.txt"),
        &caller.out_dir.join("units"),
        UNITS,
    )?;
    let config = settings(caller);
    let key = cache::key(&config, &units);
    let archive = caller.out_dir.join(ARCHIVE);
    let kept = cache::folder(&caller.out_dir).map(|folder| folder.join(key).join(ARCHIVE));
    if !kept.as_deref().is_some_and(|kept| cache::take(kept, &archive)) {
        if let Err(error) = compile(config, &units, &archive) {
            return step_aside(error.to_string());
        }
        if let Some(kept) = kept {
            cache::keep(&archive, &kept)?;
        }
    }
    // SAFETY: build scripts start with one thread, and the compiler's helpers have been joined, so
    // nothing reads the environment at the same time.
    unsafe {
        env::set_var("ROCKSDB_LIB_DIR", &caller.out_dir);
        env::set_var("ROCKSDB_STATIC", "1");
    }
    Ok(())
}

/// Why the units cannot stand in for the ordinary build, if something speaks against them.
fn obstacle(caller: &Caller) -> Option<String> {
    if caller.os != "linux" {
        return Some(format!("the target is {}, not Linux", caller.target));
    }
    if let Some(name) =
        ["ROCKSDB_LIB_DIR", "ROCKSDB_COMPILE"].iter().find(|name| env::var_os(name).is_some())
    {
        return Some(format!("{name} is set"));
    }
    let unknown =
        caller.cargo_features.iter().find(|feature| !KNOWN_FEATURES.contains(&feature.as_str()));
    unknown.map(|feature| format!("the feature {feature} of librocksdb-sys is on"))
}

/// The build script's flags for the same target and features; include paths come in [`compile`].
fn settings(caller: &Caller) -> cc::Build {
    let mut config = cc::Build::new();
    config.cpp(true).opt_level(2).debug(false).warnings(false).cargo_metadata(false);
    for feature in ["LZ4", "ZSTD"] {
        if caller.cargo_features.iter().any(|on| on == feature) {
            config.define(feature, "1");
        }
    }
    config.define("NDEBUG", "1");
    for name in [
        "HAVE_ALIGNED_NEW",
        "HAVE_UINT128_EXTENSION",
        "OS_LINUX",
        "ROCKSDB_PLATFORM_POSIX",
        "ROCKSDB_LIB_IO_POSIX",
        "ROCKSDB_SCHED_GETCPU_PRESENT",
        "ROCKSDB_AUXV_GETAUXVAL_PRESENT",
        "ROCKSDB_FALLOCATE_PRESENT",
        "ROCKSDB_RANGESYNC_PRESENT",
    ] {
        config.define(name, None);
    }
    cpu_flags(caller, &mut config);
    let standard = env::var("ROCKSDB_CXX_STD").unwrap_or_else(|_| "c++20".to_owned());
    config.flag(format!("-std={}", standard.trim_start_matches("-std=")));
    config.flag("-w").flag("-include").flag("cstdint");
    config
}

fn cpu_flags(caller: &Caller, config: &mut cc::Build) {
    let has = |name: &str| caller.cpu_features.iter().any(|feature| feature == name);
    match caller.arch.as_str() {
        "x86_64" => {
            if let Some(cpu) = &caller.cpu {
                config.flag_if_supported(format!("-march={cpu}"));
            }
            for (feature, flag) in [
                ("sse2", "-msse2"),
                ("sse4.1", "-msse4.1"),
                ("sse4.2", "-msse4.2"),
                ("avx2", "-mavx2"),
                ("bmi1", "-mbmi"),
                ("lzcnt", "-mlzcnt"),
                ("pclmulqdq", "-mpclmul"),
            ] {
                if has(feature) {
                    config.flag_if_supported(flag);
                }
            }
        }
        "aarch64" => {
            if let Some(cpu) = &caller.cpu {
                config.flag_if_supported(format!("-mcpu={cpu}"));
            } else if has("crc") && has("aes") {
                config.flag_if_supported("-march=armv8-a+crc+aes+crypto");
            }
        }
        _ => {}
    }
}

/// Compiles the units, in the folder of `librocksdb-sys`, into `archive`.
fn compile(
    mut config: cc::Build,
    units: &[sources::Unit],
    archive: &Path,
) -> Result<(), Box<dyn std::error::Error>> {
    let folder = archive.with_extension("objects");
    config
        .include("rocksdb/include/")
        .include("rocksdb/")
        .include(".")
        .includes(cache::codec_headers());
    config.files(units.iter().map(|unit| &unit.path)).file("build_version.cc");
    config.out_dir(&folder);
    config.try_compile(ARCHIVE)?;
    fs::rename(folder.join(ARCHIVE), archive)?;
    fs::remove_dir_all(&folder)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_settings_are_built_in_units() {
        let features = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let known = Caller {
            os: "linux".into(),
            cargo_features: features(&[
                "BINDGEN_RUNTIME",
                "LZ4",
                "LZ4_SYS",
                "STATIC",
                "ZSTD",
                "ZSTD_SYS",
            ]),
            ..Caller::default()
        };
        assert_eq!(obstacle(&known), None);
        let snappy = Caller { cargo_features: features(&["STATIC", "SNAPPY"]), ..known.clone() };
        assert!(obstacle(&snappy).is_some_and(|reason| reason.contains("SNAPPY")));
        let macos = Caller { os: "macos".into(), ..known };
        assert!(obstacle(&macos).is_some());
    }
}

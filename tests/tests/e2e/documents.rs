//! Documents that must keep up with the code.

use std::{
    fs,
    path::{Path, PathBuf},
};

use eyre::{Result, ensure, eyre};

fn root() -> Result<PathBuf> {
    Ok(Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .ok_or_else(|| eyre!("tests/ is in the workspace"))?
        .to_owned())
}

/// Every Rust file below a folder.
fn modules(dir: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            modules(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    Ok(())
}

#[test]
fn the_layout_names_every_module() -> Result<()> {
    let root = root()?;
    let layout = fs::read_to_string(root.join("docs/layout.md"))?;
    for krate in [
        "proto",
        "proto/crypto",
        "executor",
        "executor/rocksdb-build",
        "executor/workload",
        "executor/model",
        "sequencer",
        "sequencer/rpc",
        "sequencer/edge",
        "da-adapter",
        "settlement",
        "settlement/l1",
        "ops",
        "tests",
    ] {
        let section = layout
            .split("\n## ")
            .find(|section| section.starts_with(&format!("`{krate}/`")))
            .ok_or_else(|| eyre!("docs/layout.md has no section on {krate}/"))?;
        let src = root.join(krate).join("src");
        let mut found = Vec::new();
        modules(&src, &mut found)?;
        for path in found {
            let module = path.strip_prefix(&src)?.to_string_lossy().into_owned();
            let name = module.strip_suffix("mod.rs").unwrap_or(&module);
            let is_test = module.ends_with("tests.rs") || module.contains("tests/");
            ensure!(
                is_test
                    || matches!(name, "lib.rs" | "main.rs")
                    || section.contains(&format!("`{name}`")),
                "docs/layout.md does not name {name} of {krate}/"
            );
        }
    }
    Ok(())
}

#[test]
fn links_between_documents_lead_somewhere() -> Result<()> {
    let root = root()?;
    let mut documents = vec![root.join("README.md")];
    for entry in fs::read_dir(root.join("docs"))? {
        documents.push(entry?.path());
    }
    for document in documents {
        let text = fs::read_to_string(&document)?;
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap_or_default();
            let local = !target.is_empty() && !target.contains("://") && !target.contains(' ');
            let exists = document.parent().is_some_and(|dir| dir.join(target).exists());
            ensure!(!local || exists, "{} links to {link}, which is not there", document.display());
        }
    }
    Ok(())
}

//! Ethereum's own blocks and state tests, executed in order and on threads.
//!
//! The data is no part of the repository: it lies in the folder `shared` beside it, or where `MILLRACE_SHARED` says. Without
//! it these tests say so and pass. Of the state tests a sample runs, another with `MILLRACE_SEED`, all with
//! `MILLRACE_STATE_TESTS=all`; `millrace statetest` runs them all as well.

use std::{
    env, fs,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use eyre::{OptionExt, Result, ensure};
use millrace_executor::WorkerPool;
use millrace_workload::{
    CaseProblem, Fixture, FixtureReplay, ReplayProblem, StateTests, Verdict, state_test_files,
};
use rand::{SeedableRng, rngs::StdRng, seq::SliceRandom};
use tempfile::TempDir;

/// Files of the sample.
const SAMPLE: usize = 200;
/// Files that burn gas for longer than all of a sample, as they do with every gas limit there is.
const SLOW: [&str; 8] = [
    "run_until_out_of_gas",
    "point_evaluation_precompile",
    "tstoreCannotBeDosd",
    "static_Loop",
    "static_Call50000",
    "static_Return50000",
    "static_Call1MB",
    "Blake2f",
];

fn shared(folder: &str) -> Option<PathBuf> {
    let shared = match env::var_os("MILLRACE_SHARED") {
        Some(shared) => PathBuf::from(shared),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"),
    };
    let path = shared.join(folder);
    if !path.is_dir() {
        eprintln!("skipped: there is no {}; set MILLRACE_SHARED", path.display());
        return None;
    }
    Some(path)
}

fn threads(count: usize) -> Result<NonZeroUsize> {
    NonZeroUsize::new(count).ok_or_eyre("a pool has a thread")
}

fn state_tests() -> Result<Option<TempDir>> {
    let Some(folder) = shared("ethereum-tests") else { return Ok(None) };
    let scratch = tempfile::tempdir()?;
    let archive = folder.join("core.tar.xz");
    let status =
        Command::new("tar").arg("xJf").arg(archive).arg("-C").arg(scratch.path()).status()?;
    ensure!(status.success(), "tar: {status}");
    Ok(Some(scratch))
}

#[test]
fn mainnet_blocks_give_on_threads_what_they_gave_on_mainnet() -> Result<()> {
    let Some(folder) = shared("mainnet-blocks") else { return Ok(()) };
    let blocks = Fixture::read_all(&folder)?;
    for count in [1, 2, 4, 8] {
        let pools = [
            WorkerPool::new(threads(count)?)?,
            WorkerPool::disturbed(threads(count)?, count as u64)?,
        ];
        for pool in pools {
            let replay = FixtureReplay::new(Arc::new(pool), NonZeroUsize::MIN);
            for block in &blocks {
                let replayed = replay.run(block);
                let problems: Vec<_> = replayed.problems.iter().map(ToString::to_string).collect();
                ensure!(problems.is_empty(), "block {}: {problems:#?}", block.number);
            }
        }
    }
    Ok(())
}

#[test]
fn a_block_that_gives_something_else_is_found() -> Result<()> {
    let Some(folder) = shared("mainnet-blocks") else { return Ok(()) };
    let block = Fixture::read(&folder.join("19934116.json.zst"))?;
    let replay = FixtureReplay::new(Arc::new(WorkerPool::new(threads(2)?)?), NonZeroUsize::MIN);
    let problems = |change: &dyn Fn(&mut Fixture)| {
        let mut block = block.clone();
        change(&mut block);
        replay.run(&block).problems
    };

    assert!(problems(&|_| {}).is_empty());
    let found = problems(&|block| block.gas_used += 1);
    assert!(matches!(*found, [ReplayProblem::Gas { .. }]), "{found:?}");
    let found = problems(&|block| block.results[3].1 ^= true);
    assert!(matches!(*found, [ReplayProblem::Result { index: 3, .. }]), "{found:?}");
    let found = problems(&|block| block.receipts_root = Some(Default::default()));
    assert!(matches!(*found, [ReplayProblem::ReceiptsRoot { .. }]), "{found:?}");
    let found = problems(&|block| block.logs_bloom = Default::default());
    assert!(matches!(*found, [ReplayProblem::LogsBloom { .. }]), "{found:?}");
    let found = problems(&|block| drop(block.changes.pop_last()));
    assert!(matches!(*found, [ReplayProblem::State { .. }]), "{found:?}");
    Ok(())
}

#[test]
fn state_tests_hold_alone_and_stacked() -> Result<()> {
    let Some(scratch) = state_tests()? else { return Ok(()) };
    let mut files = state_test_files(scratch.path())?;
    let seed = env::var("MILLRACE_SEED").ok().map_or(Ok(1), |seed| seed.parse())?;
    if env::var("MILLRACE_STATE_TESTS").is_ok_and(|which| which == "all") {
        eprintln!("all {} files", files.len());
    } else {
        files.retain(|file| {
            let name = file.to_string_lossy();
            !SLOW.iter().any(|slow| name.contains(slow))
        });
        files.shuffle(&mut StdRng::seed_from_u64(seed));
        files.truncate(SAMPLE);
        eprintln!("{} files, seed {seed}", files.len());
    }
    let tests = StateTests::new(&[threads(1)?, threads(2)?, threads(4)?], seed)?;
    let mut passed = 0;
    let mut failures = Vec::new();
    for file in &files {
        let report = tests.run(file)?;
        for case in report.cases {
            match case.verdict {
                Verdict::Passed => passed += 1,
                Verdict::Failed(problem) => failures.push(format!("{}: {problem}", case.name)),
                Verdict::Skipped(_) => {}
            }
        }
        let stacks = report.stacks.iter();
        failures.extend(stacks.flat_map(|stack| {
            stack.problems.iter().map(|problem| format!("{}: {problem}", stack.name))
        }));
    }
    ensure!(failures.is_empty(), "{failures:#?}");
    ensure!(passed >= files.len(), "only {passed} cases ran");
    Ok(())
}

#[test]
fn a_case_that_gives_something_else_is_found() -> Result<()> {
    let Some(scratch) = state_tests()? else { return Ok(()) };
    let source = scratch.path().join("core/GeneralStateTests/stSStoreTest/sstore_0to0.json");
    let file = scratch.path().join("tampered.json");
    let tests = StateTests::new(&[threads(2)?], 1)?;
    let json: serde_json::Value = serde_json::from_slice(&fs::read(&source)?)?;
    let problem = |field: &str, value: &str| -> Result<CaseProblem> {
        let mut json = json.clone();
        json["sstore_0to0"]["post"]["Cancun"][0][field] = value.into();
        fs::write(&file, json.to_string())?;
        let first = tests.run(&file)?.cases.into_iter().next().ok_or_eyre("the file has cases")?;
        match first.verdict {
            Verdict::Failed(problem) => Ok(*problem),
            verdict => Err(eyre::eyre!("{verdict:?}")),
        }
    };

    let other = format!("0x{}", "11".repeat(32));
    assert!(matches!(problem("hash", &other)?, CaseProblem::StateRoot { .. }));
    assert!(matches!(problem("logs", &other)?, CaseProblem::Logs { .. }));
    let accepted = problem("expectException", "TransactionException.NONCE_IS_MAX")?;
    assert!(matches!(accepted, CaseProblem::Accepted(_)));
    assert!(matches!(problem("txbytes", "0x01")?, CaseProblem::Undecodable(_)));
    Ok(())
}

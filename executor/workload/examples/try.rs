//! scratch
use std::{path::Path, sync::Arc, time::Instant, num::NonZero};
use millrace_workload::*;
use millrace_executor::*;
#[global_allocator]
static A: mimalloc::MiMalloc = mimalloc::MiMalloc;
fn main() -> eyre::Result<()> {
    let artifacts = Artifacts::read(Path::new(".tools/node_modules"))?;
    let only: Vec<String> = std::env::args().skip(1).collect();
    let t = Instant::now();
    let mut blocks: Vec<(String, Block)> = vec![];
    if !only.iter().any(|o| o == "block") {
        blocks = scenarios(Scenario::FULL, &artifacts)?.into_iter().map(|(n, b)| (n.to_string(), b)).collect(); }
    eprintln!("setup {:?}", t.elapsed());
    for f in Fixture::read_all(Path::new("../shared/mainnet-blocks"))? {
        blocks.push((format!("block{}", f.number), Block { env: f.env.clone(), state: f.state.clone(), transactions: f.transactions.clone() }));
    }
    let check = std::env::var("CHECK").is_ok();
    for (name, block) in &blocks {
        if !only.is_empty() && !only.iter().any(|o| name.contains(o.as_str())) { continue; }
        let bare = BareRevm::new(block.state.clone());
        let txs: Arc<[_]> = block.transactions.clone().into();
        let codes = Arc::new(CodeCache::default());
        let pools: Vec<_> = [1usize, 2].iter().map(|t| Arc::new(WorkerPool::new(NonZero::new(*t).unwrap()).unwrap())).collect();
        let mut a = vec![]; let mut b = vec![]; let mut c: Vec<Vec<f64>> = vec![vec![]; pools.len()];
        let mut gas = 0; let mut stats = Default::default();
        if let Ok(which) = std::env::var("PROF") {
            let p = &pools[if which == "2" { 1 } else { 0 }];
            let t = Instant::now();
            while t.elapsed().as_secs() < 6 {
                if which == "s" {
                    let mut e = BlockExecutor::with_env(block.env.clone(), block.state.clone(), codes.clone());
                    for tx in &block.transactions { e.execute(tx)?; }
                } else if which == "b" { bare.run(&block.env, &block.transactions)?; } else {
                let mut e = ParallelExecutor::with_env(block.env.clone(), block.state.clone(), codes.clone(), p.clone());
                e.execute(txs.clone())?; }
            }
            continue;
        }
        if check {
            let mut e = BlockExecutor::with_env(block.env.clone(), block.state.clone(), codes.clone());
            let so: Vec<_> = block.transactions.iter().map(|t| e.execute(t).unwrap()).collect();
            let s = e.finish()?;
            for p in &pools {
                for _ in 0..5 {
                let mut e = ParallelExecutor::with_env(block.env.clone(), block.state.clone(), codes.clone(), p.clone());
                let po = e.execute(txs.clone())?;
                assert_eq!(so.len(), po.len());
                for (i, (x, y)) in so.iter().zip(&po).enumerate() { assert_eq!(x, y, "{name} {i}"); }
                let o = e.finish()?;
                for (k, v) in &s.diff.accounts { assert_eq!(Some(v), o.diff.accounts.get(k), "{k}"); }
                assert!(s.diff == o.diff); assert!(s == o);
                }
            }
            println!("{name} equal");
            continue;
        }
        for _ in 0..11 {
            let t = Instant::now();
            let out = bare.run(&block.env, &block.transactions)?;
            a.push(t.elapsed().as_secs_f64());
            gas = out.gas_used();
            drop(out);
            let t = Instant::now();
            let mut e = BlockExecutor::with_env(block.env.clone(), block.state.clone(), codes.clone());
            let mut o = Vec::with_capacity(block.transactions.len()); for t in &block.transactions { o.push(e.execute(t)?); }
            b.push(t.elapsed().as_secs_f64());
            assert_eq!(gas, e.gas_used()); drop(o);
            for (i, p) in pools.iter().enumerate() {
                let t = Instant::now();
                let mut e = ParallelExecutor::with_env(block.env.clone(), block.state.clone(), codes.clone(), p.clone());
                let o = e.execute(txs.clone())?;
                c[i].push(t.elapsed().as_secs_f64());
                assert_eq!(gas, e.gas_used());
                stats = e.stats(); drop(o);
            }
        }
        a.sort_by(f64::total_cmp); b.sort_by(f64::total_cmp);
        let n = block.transactions.len() as f64;
        print!("{name:20} n {n} gas/tx {:.0} bare {:.3} us/tx seq {:.3} ({:.2})", gas as f64 / n, a[5] * 1e6 / n, b[5] * 1e6 / n, a[5] / b[5]);
        for c in &mut c { c.sort_by(f64::total_cmp); print!("  par {:.3} ({:.2})", c[5] * 1e6 / n, a[5] / c[5]); }
        println!("  {stats:?}");
    }
    Ok(())
}

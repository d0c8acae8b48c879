//! A transaction is on disk before anybody is told that it was accepted: what the system sees of it, by strace.
//!
//! For each transaction, in the order in which the calls began and ended: the order log's file is written with the transaction's bytes, then
//! `fdatasync` of that file succeeds, and only then do bytes with its hash leave through a socket.

use std::{collections::HashMap, fs};

use alloy::{
    primitives::{B256, Bytes, U256, hex},
    providers::Provider,
};
use eyre::{Result, ensure, eyre};
use futures::future::try_join_all;
use millrace_proto::TxPool;
use millrace_tests::{Chain, ChainOptions, Wallet, dev_key, eventually, fresh_address, strace};

/// Transactions of each account, one after the other.
const EACH: usize = 5;

/// A system call: what it was on, what it was given, and between which others it ran.
#[derive(Debug)]
struct Call {
    name: String,
    /// The file descriptor with its connection, or with its path in hexadecimal digits.
    on: String,
    /// Strings among its arguments, in hexadecimal digits.
    data: String,
    succeeded: bool,
    began: usize,
    ended: usize,
}

/// Reads strace's lines (`-f -yy -xx`). A line that a call of another thread cuts in two names the beginning and the end of its call.
fn calls(trace: &str) -> Vec<Call> {
    let mut calls: Vec<Call> = Vec::new();
    let mut open: HashMap<&str, usize> = HashMap::new();
    for (at, line) in trace.lines().enumerate() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let rest = rest.trim_start();
        let succeeded = rest.rsplit_once(" = ").is_some_and(|(_, result)| !result.starts_with('-'));
        if rest.starts_with("<... ") {
            if let Some(call) = open.remove(thread).and_then(|call| calls.get_mut(call)) {
                (call.ended, call.succeeded) = (at, succeeded);
            }
            continue;
        }
        let Some((name, arguments)) = rest.split_once('(') else { continue };
        if rest.ends_with("<unfinished ...>") {
            open.insert(thread, calls.len());
        }
        let on = arguments.split_once('>').map_or(arguments, |(on, _)| on);
        calls.push(Call {
            name: name.to_owned(),
            on: on.replace("\\x", ""),
            data: arguments.split('"').skip(1).step_by(2).collect::<String>().replace("\\x", ""),
            succeeded,
            began: at,
            ended: at,
        });
    }
    calls
}

/// Submits over gRPC and JSON-RPC, from several accounts at the same time.
async fn submit(chain: &Chain) -> Result<Vec<(Bytes, B256)>> {
    let submissions = (0..6).map(|account| async move {
        let mut wallet = Wallet::new(dev_key(account), chain.provider()).await?;
        let client = chain.sequencer()?;
        let mut sent = Vec::new();
        for _ in 0..EACH {
            let (raw, hash) = wallet.sign(fresh_address().into(), U256::ONE, Bytes::new(), 21_000);
            let accepted = match account % 2 {
                0 => client.submit(raw.clone()).await?,
                _ => *chain.provider().send_raw_transaction(&raw).await?.tx_hash(),
            };
            ensure!(accepted == hash, "acknowledged {accepted} for {hash}");
            sent.push((raw, hash));
        }
        Ok(sent)
    });
    Ok(try_join_all(submissions).await?.concat())
}

/// Holds that a transaction was synced to the order log before its hash left.
fn durable_first(calls: &[Call], raw: &Bytes, hash: B256) -> Result<()> {
    let is_socket = |call: &Call| call.on.contains("<TCP");
    // In protobuf as it is, in JSON as text.
    let told = [hex::encode(hash), hex::encode(hash.to_string())];
    let sent = |call: &&Call| is_socket(call) && told.iter().any(|told| call.data.contains(told));
    let acknowledged = calls.iter().find(sent);
    let acknowledged = acknowledged.ok_or_else(|| eyre!("{hash} was told to nobody"))?;

    let raw = hex::encode(raw);
    let folder = hex::encode("/order-log/");
    let is_log = |call: &&Call| call.on.contains(&folder);
    let logged =
        calls.iter().filter(is_log).find(|call| call.succeeded && call.data.contains(&raw));
    let logged = logged.ok_or_else(|| eyre!("{hash} was not written to the order log"))?;
    let synced = calls.iter().filter(is_log).find(|call| {
        let syncs = matches!(call.name.as_str(), "fdatasync" | "fsync");
        syncs && call.on == logged.on && call.succeeded && call.began > logged.ended
    });
    let synced = synced.ok_or_else(|| eyre!("{} was not synced after {hash}", logged.on))?;
    ensure!(
        synced.ended < acknowledged.began,
        "{hash} was acknowledged at line {} and synced at {}: {acknowledged:?}",
        acknowledged.began,
        synced.ended
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_only_once_it_is_synced() -> Result<()> {
    let Some(strace) = strace().await else {
        println!("skipped: strace is not installed, or may not trace here");
        return Ok(());
    };
    let folder = tempfile::tempdir()?;
    let trace = folder.path().join("trace");
    let (strace, file) = (strace.display().to_string(), trace.display().to_string());
    let traced = "trace=write,pwrite64,writev,pwritev,pwritev2,sendto,sendmsg,fdatasync,fsync";
    // Beside the chain, not above it; strings whole and in hexadecimal digits; descriptors with what they are of.
    let arguments =
        ["-D", "-f", "--seccomp-bpf", "-yy", "-xx", "-s", "1000000", "-e", traced, "-o", &file];
    let under = [&[strace.as_str()], &arguments[..]].concat();
    let mut chain = Chain::start(ChainOptions::default().under(under)).await?;
    let sent = submit(&chain).await?;
    let process = chain.pid()?.to_string();
    // Short numbers are filled up with blanks.
    let is_end = |line: &str| {
        let (thread, what) = line.split_once(' ').unwrap_or_default();
        thread == process && what.trim_start().starts_with("+++ exited")
    };
    chain.interrupt().await?;
    let trace = eventually("the end of the trace", || async {
        let trace = fs::read_to_string(&trace)?;
        Ok(trace.lines().any(is_end).then_some(trace))
    })
    .await?;

    let calls = calls(&trace);
    for (raw, hash) in &sent {
        durable_first(&calls, raw, *hash)?;
    }
    Ok(())
}

#[test]
fn calls_that_overlap_are_told_apart() {
    let file = "5<\\x2f\\x6f\\x72\\x64\\x65\\x72\\x2d\\x6c\\x6f\\x67\\x2f\\x39>";
    let trace = format!(
        "1 write({file}, \"\\x0a\\x0b\", 2) = 2\n\
                 2 fdatasync({file} <unfinished ...>\n\
                 1 sendto(7<TCP:[1:2->3:4]>, \"\\xff\", 1, MSG_NOSIGNAL, NULL, 0 <unfinished ...>\n\
                 2 <... fdatasync resumed>) = 0\n\
                 1 <... sendto resumed>) = -1 EAGAIN (Resource temporarily unavailable)\n"
    );
    let calls = calls(&trace);
    let told: Vec<_> = calls.iter().map(|call| (call.began, call.ended, call.succeeded)).collect();
    assert_eq!(told, [(0, 0, true), (1, 3, true), (2, 4, false)]);
    assert_eq!(calls[0].data, "0a0b");
    assert!(calls[0].on.ends_with(&hex::encode("/9")) && calls[2].on.contains("<TCP"));
}

#[test]
fn what_is_told_too_early_is_found() {
    let call = |name: &str, on: &str, data: &str, began, ended| Call {
        name: name.to_owned(),
        on: on.to_owned(),
        data: data.to_owned(),
        succeeded: true,
        began,
        ended,
    };
    let (raw, hash) = (Bytes::from(vec![10, 11]), B256::repeat_byte(0xff));
    let log = format!("5<{}", hex::encode("/d/order-log/9.log"));
    let calls = |told| {
        let told = call("sendto", "7<TCP:[1:2-", &hex::encode(hash), told, told);
        vec![call("write", &log, "0a0b", 0, 0), call("fdatasync", &log, "", 2, 4), told]
    };
    assert!(durable_first(&calls(5), &raw, hash).is_ok());
    assert!(durable_first(&calls(3), &raw, hash).is_err(), "while the sync is under way");
    assert!(durable_first(&calls(1), &raw, hash).is_err(), "before the sync");
    assert!(durable_first(&calls(5)[..2], &raw, hash).is_err(), "not at all");
    assert!(durable_first(&calls(5)[1..], &raw, hash).is_err(), "and never written");
}

//! Prometheus' configuration, the alerts and the dashboard: well formed, and about metrics that a running chain has.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use alloy::{
    primitives::{Address, Bytes, U256},
    providers::Provider,
};
use eyre::{Result, WrapErr, bail, ensure, eyre};
use millrace_proto::Stage;
use millrace_tests::{
    Chain, ChainOptions, Follower, Ready, Wallet, dev_key, eventually, prometheus, promtool, run,
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};
use url::Url;

/// The dashboard's variables and what they stand for here.
const VARIABLES: [(&str, &str); 2] = [("$__rate_interval", "1m"), ("$network", "dev")];

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(repository(path)).wrap_err_with(|| path.to_owned())
}

fn dashboard() -> Result<Value> {
    Ok(serde_json::from_str(&read("ops/grafana/dashboards/millrace.json")?)?)
}

/// Names of the alerts.
fn alert_names() -> Result<Vec<String>> {
    let text = read("ops/prometheus/alerts.yml")?;
    let names: Vec<_> = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .map(str::to_owned)
        .collect();
    ensure!(names.len() > 20, "only these alerts were found: {names:?}");
    Ok(names)
}

#[tokio::test]
async fn promtool_accepts_configuration_and_alerts() -> Result<()> {
    let promtool = promtool()?;
    for (command, file) in [
        (["check", "config"], "ops/prometheus/prometheus.yml"),
        (["check", "rules"], "ops/prometheus/alerts.yml"),
        (["test", "rules"], "ops/prometheus/alerts.test.yml"),
    ] {
        let file = repository(file).display().to_string();
        run(&promtool, &[command[0], command[1], &file]).await?.success().wrap_err(file)?;
    }
    Ok(())
}

#[test]
fn every_alert_is_tested_and_explained() -> Result<()> {
    let (tests, manual) = (read("ops/prometheus/alerts.test.yml")?, read("docs/operating.md")?);
    for name in alert_names()? {
        let firing = format!("labels: 'ALERTS{{alertname=\"{name}\"");
        ensure!(tests.contains(&firing), "alerts.test.yml does not show {name} firing");
        ensure!(manual.contains(&format!("`{name}`")), "docs/operating.md does not explain {name}");
    }
    Ok(())
}

#[test]
fn every_panel_is_described() -> Result<()> {
    let dashboard = dashboard()?;
    let mut ids = BTreeSet::new();
    for panel in panels(&dashboard)? {
        let title = &panel["title"];
        ensure!(panel["id"].as_u64().is_some_and(|id| ids.insert(id)), "{title}: its id is taken");
        ensure!(title.as_str().is_some_and(|title| !title.is_empty()), "a panel without a title");
        if panel["type"] == "row" {
            continue;
        }
        let text = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
        ensure!(text(&panel["description"]), "{title} has no description");
        ensure!(text(&panel["fieldConfig"]["defaults"]["unit"]), "{title} has no unit");
        ensure!(panel["datasource"]["uid"] == "${datasource}", "{title} has a fixed data source");
        let targets =
            panel["targets"].as_array().ok_or_else(|| eyre!("{title} asks for nothing"))?;
        let references: BTreeSet<_> =
            targets.iter().map(|target| target["refId"].as_str()).collect();
        ensure!(references.len() == targets.len(), "{title} has a reference twice");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_alert_and_panel_finds_its_metrics() -> Result<()> {
    let options = ChainOptions::default().args(["--batch-age", "1s", "--challenge-window", "1s"]);
    let chain = Chain::start(options).await?;
    let ready = chain.ready();
    let follower = Follower::start(ready, Some(&ready.grpc), &[]).await?;
    let prometheus = Prometheus::start(ready, &follower).await?;
    transact(&chain).await?;
    only_histograms_with_help(chain.ready()).await?;

    let mut wanted = panel_queries()?;
    for rule in prometheus.rules().await? {
        let query =
            rule["query"].as_str().ok_or_else(|| eyre!("a rule without a query: {rule}"))?;
        wanted.extend(
            selectors(query)
                .into_iter()
                .map(|selector| (format!("alert {}", rule["name"]), selector)),
        );
    }
    ensure!(wanted.len() > 150, "only {} queries were found", wanted.len());
    // What has had data once is not asked again: a counter's increase ends.
    let wanted = tokio::sync::Mutex::new(wanted);
    eventually("data for every panel and alert", || async {
        let mut wanted = wanted.lock().await;
        let mut missing = Vec::new();
        for (place, query) in wanted.iter() {
            if prometheus.query(query).await.wrap_err_with(|| place.clone())?.is_empty() {
                missing.push((place.clone(), query.clone()));
            }
        }
        *wanted = missing;
        ensure!(wanted.is_empty(), "no data for {:#?}", *wanted);
        Ok(Some(()))
    })
    .await?;

    // The chain is well, so no alert fires, and none is broken.
    for rule in prometheus.rules().await? {
        ensure!(rule["health"] == "ok", "{rule}");
        ensure!(rule["state"] != "firing", "{rule}");
    }
    Ok(())
}

/// Sends some transactions, one of which is refused, and waits until the last one is final.
async fn transact(chain: &Chain) -> Result<()> {
    let provider = chain.provider();
    let mut wallet = Wallet::new(dev_key(0), provider.clone()).await?;
    let recipient = Address::repeat_byte(0x77);
    let (unaffordable, _) =
        wallet.clone().sign(recipient.into(), U256::MAX >> 8, Bytes::new(), 21_000);
    let refused = provider.send_raw_transaction(&unaffordable).await;
    ensure!(refused.is_err(), "a transaction over more than the balance was taken");
    let mut last = None;
    for _ in 0..5 {
        last = Some(wallet.transfer(recipient, U256::from(1)).await?);
    }
    let last = last.ok_or_else(|| eyre!("nothing was sent"))?;
    chain.wait_for(last, Stage::Finalized).await?;
    Ok(())
}

/// A histogram whose name has no known ending is rendered as a summary, which cannot be added up over services.
async fn only_histograms_with_help(ready: &Ready) -> Result<()> {
    let metrics = &ready.metrics;
    for url in [&metrics.sequencer, &metrics.executor, &metrics.da_adapter, &metrics.settlement] {
        let page = reqwest::get(url.clone()).await?.error_for_status()?.text().await?;
        for line in page.lines() {
            let Some(typed) = line.strip_prefix("# TYPE ") else { continue };
            ensure!(!typed.ends_with(" summary"), "{url}: {typed}");
            let name = typed.split(' ').next().unwrap_or_default();
            ensure!(page.contains(&format!("# HELP {name} ")), "{url}: {name} has no help text");
        }
    }
    Ok(())
}

fn panels(dashboard: &Value) -> Result<&Vec<Value>> {
    dashboard["panels"].as_array().ok_or_else(|| eyre!("the dashboard has no panels"))
}

/// Each panel's queries, with the variables filled in, and the panel's title.
fn panel_queries() -> Result<Vec<(String, String)>> {
    let mut queries = Vec::new();
    for panel in panels(&dashboard()?)? {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let place = format!("panel {}", panel["title"]);
            let written = target["expr"].as_str().ok_or_else(|| eyre!("{place}: no query"))?;
            let query = VARIABLES
                .iter()
                .fold(written.to_owned(), |query, (name, value)| query.replace(name, value));
            ensure!(!query.contains('$'), "{place}: unknown variable in {query}");
            queries.push((place, query));
        }
    }
    Ok(queries)
}

/// The metrics that a query selects, each with its label matchers.
fn selectors(query: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = query;
    while let Some(start) = rest.find(|c: char| c.is_ascii_alphabetic() || c == '"') {
        rest = &rest[start..];
        if let Some(string) = rest.strip_prefix('"') {
            rest = string.split_once('"').map_or("", |(_, after)| after);
            continue;
        }
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        rest = after;
        if name == "up" || name.starts_with("millrace_") {
            let matchers = match after.strip_prefix('{').and_then(|inside| inside.split_once('}')) {
                Some((matchers, after)) => {
                    rest = after;
                    format!("{{{matchers}}}")
                }
                None => String::new(),
            };
            found.push(format!("{name}{matchers}"));
        }
    }
    found
}

#[test]
fn selectors_are_found() {
    let query = r#"sum by (up_to, le) (rate(millrace_a_total{reason!="up"}[5m] offset 1h)) / millrace_b > up{job=~"millrace-.+"}"#;
    assert_eq!(
        selectors(query),
        [r#"millrace_a_total{reason!="up"}"#, "millrace_b", r#"up{job=~"millrace-.+"}"#]
    );
}

/// A Prometheus with the repository's configuration, pointed at a running chain.
struct Prometheus {
    url: Url,
    _process: Child,
    _folder: TempDir,
}

impl Prometheus {
    async fn start(ready: &Ready, follower: &Follower) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("millrace-prometheus-").tempdir()?;
        let config = folder.path().join("prometheus.yml");
        // A full node, as its operator would add it.
        let target = follower.metrics().authority();
        let job = format!(
            "\n  - job_name: millrace-follow\n    static_configs:\n      - targets: [\"{target}\"]\n        labels: {{ network: dev }}\n"
        );
        fs::write(&config, configuration(ready)? + &job)?;
        let mut process = Command::new(prometheus()?)
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg("--web.listen-address=127.0.0.1:0")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .wrap_err("cannot start Prometheus")?;
        let stderr = process.stderr.take().ok_or_else(|| eyre!("standard error is not piped"))?;
        let mut log = BufReader::new(stderr).lines();
        let mut seen = String::new();
        let address = loop {
            let Some(line) = log.next_line().await? else { bail!("Prometheus ended:\n{seen}") };
            if line.contains("Listening on")
                && let Some((_, address)) = line.split_once("address=")
            {
                break address.trim().to_owned();
            }
            seen.push_str(&line);
            seen.push('\n');
        };
        // It would stop at a full pipe.
        tokio::spawn(async move { while let Ok(Some(_)) = log.next_line().await {} });
        Ok(Self { url: format!("http://{address}/").parse()?, _process: process, _folder: folder })
    }

    async fn get(&self, path: &str, parameters: &[(&str, &str)]) -> Result<Value> {
        let mut url = self.url.join(path)?;
        url.query_pairs_mut().extend_pairs(parameters);
        let answer: Value = reqwest::get(url).await?.json().await?;
        ensure!(answer["status"] == "success", "{answer}");
        Ok(answer["data"].clone())
    }

    /// The series that a query gives now.
    async fn query(&self, query: &str) -> Result<Vec<Value>> {
        let data = self.get("api/v1/query", &[("query", query)]).await?;
        data["result"].as_array().cloned().ok_or_else(|| eyre!("{query}: {data}"))
    }

    /// The alerts, once each was evaluated.
    async fn rules(&self) -> Result<Vec<Value>> {
        let alerts = alert_names()?.len();
        eventually("the alerts' evaluation", || async {
            let data = self.get("api/v1/rules", &[]).await?;
            let groups = data["groups"].as_array().into_iter().flatten();
            let rules: Vec<_> = groups
                .flat_map(|group| group["rules"].as_array().into_iter().flatten())
                .cloned()
                .collect();
            ensure!(rules.len() == alerts, "{} rules were loaded of {alerts}", rules.len());
            Ok(rules.iter().all(|rule| rule["health"] != "unknown").then_some(rules))
        })
        .await
    }
}

/// The repository's configuration with this chain's endpoints, looking every second.
fn configuration(ready: &Ready) -> Result<String> {
    let mut text = read("ops/prometheus/prometheus.yml")?;
    let mut replace = |from: &str, to: &str| {
        ensure!(text.contains(from), "prometheus.yml has no {from:?}");
        text = text.replace(from, to);
        Ok(())
    };
    let metrics = &ready.metrics;
    for (port, url) in [
        (9101, &metrics.sequencer),
        (9102, &metrics.executor),
        (9103, &metrics.da_adapter),
        (9104, &metrics.settlement),
    ] {
        let port_of = url.port().ok_or_else(|| eyre!("{url} has no port"))?;
        replace(&format!("\"127.0.0.1:{port}\""), &format!("\"127.0.0.1:{port_of}\""))?;
    }
    replace("- alerts.yml", &format!("- {}", repository("ops/prometheus/alerts.yml").display()))?;
    replace("_interval: 5s", "_interval: 1s")?;
    Ok(text)
}

//! What the server counts.

use std::time::Duration;

use alloy::providers::{Provider, ProviderBuilder, WsConnect};
use metrics_exporter_prometheus::PrometheusBuilder;
use millrace_rpc::{RpcConfig, RpcLimits};
use reqwest::StatusCode;
use serde_json::json;

use crate::support::{Chain, signed};

/// What the metered server's line with these labels says.
fn value(text: &str, name: &str, labels: &[&str]) -> f64 {
    let matches = |line: &&str| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{'))
            && line.contains("server=\"metered\"")
            && labels.iter().all(|label| line.contains(label))
    };
    let line = text.lines().find(matches).unwrap_or_else(|| panic!("{name} {labels:?}"));
    line.rsplit(' ').next().and_then(|value| value.parse().ok()).expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_connections_and_subscriptions_are_counted() {
    let recorder = PrometheusBuilder::new().install_recorder().expect("the only recorder");
    let limits = RpcLimits { call_timeout: Duration::from_secs(2), ..RpcLimits::default() };
    let chain = Chain::with(RpcConfig { name: "metered", limits, ..RpcConfig::default() }).await;
    // Not answered in time, as no block has it.
    chain.pool.hold().await;
    let raw = signed(&chain, 0).await;
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "eth_sendRawTransactionSync", "params": [raw, "0xea60"]});
    let late = reqwest::Client::new().post(chain.http()).json(&call).send().await;
    assert_eq!(late.expect("an answer").status(), StatusCode::REQUEST_TIMEOUT);
    chain.pool.release().await;
    chain.result("eth_chainId", json!([])).await;
    chain.error("eth_getBalance", json!([])).await;
    chain.error("eth_nonsense", json!([])).await;
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "net_version", "params": []});
    chain.post(&json!([call, call])).await;
    let socket = ProviderBuilder::new().connect_ws(WsConnect::new(chain.ws())).await;
    let socket = socket.expect("connection");
    let _heads = socket.subscribe_blocks().await.expect("heads");

    // The exporter takes samples over when it gets to it.
    let taken_over = async {
        loop {
            let text = recorder.render();
            let seconds = "millrace_rpc_request_seconds_count";
            if value(&text, seconds, &["method=\"eth_chainId\""]) > 0.0 {
                return text;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let text = tokio::time::timeout(Duration::from_secs(60), taken_over).await.expect("in time");
    let value = |name: &str, labels: &[&str]| value(&text, name, labels);
    let calls = |method: &str, result: &str| {
        let (method, result) = (format!("method=\"{method}\""), format!("result=\"{result}\""));
        value("millrace_rpc_requests_total", &[&method, &result])
    };
    assert_eq!(calls("eth_chainId", "ok"), 1.0);
    assert_eq!(calls("eth_getBalance", "client_error"), 1.0);
    assert_eq!(calls("net_version", "ok"), 2.0, "each call of a batch");
    assert_eq!(calls("unknown", "client_error"), 1.0);
    assert_eq!(calls("eth_sendRawTransactionSync", "cut_off"), 1.0);
    assert!(!text.contains("eth_nonsense"));
    assert_eq!(value("millrace_rpc_request_seconds_count", &["method=\"eth_chainId\""]), 1.0);
    assert!(value("millrace_rpc_connections", &[]) >= 1.0);
    assert_eq!(value("millrace_rpc_subscriptions", &[]), 1.0);
}

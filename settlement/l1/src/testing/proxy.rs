//! An L1 node that fails as told: it passes requests on to anvil, or does something else with them.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use url::Url;

/// What happens to a request.
#[derive(Debug, Clone)]
pub enum Fault {
    /// It is passed on.
    None,
    /// An HTTP status without a useful body.
    Status(u16),
    /// It is passed on to another node.
    Elsewhere(Url),
    /// The connection closes without a reply.
    Close,
    /// The connection stays open without a reply.
    Hang,
    /// The reply is cut in the middle.
    Truncate,
    /// The request is passed on, but its answer is lost.
    LoseReply,
    /// This result instead of the node's.
    Result(Value),
    /// The node's result, changed.
    Change(fn(&mut Value)),
    /// This error instead of the node's.
    Error(i64, &'static str),
}

type Script = Arc<dyn Fn(u64, &Value) -> Fault + Send + Sync>;

/// A running proxy; dropping it ends it.
#[derive(Debug)]
pub struct FaultProxy {
    /// Where it listens.
    pub url: Url,
    requests: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl FaultProxy {
    /// Starts on a free port. `script` gets the number of the request, from 0, and its method.
    pub async fn start(
        upstream: Url,
        script: impl Fn(u64, &str) -> Fault + Send + Sync + 'static,
    ) -> Self {
        let by_method = move |number, request: &Value| {
            script(number, request["method"].as_str().unwrap_or_default())
        };
        Self::start_reading(upstream, by_method).await
    }

    /// Starts on a free port. `script` gets the number of the request, from 0, and all of it.
    pub async fn start_reading(
        upstream: Url,
        script: impl Fn(u64, &Value) -> Fault + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("address");
        let requests = Arc::new(AtomicU64::new(0));
        let script: Script = Arc::new(script);
        let counter = Arc::clone(&requests);
        let http = reqwest::Client::new();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (script, counter) = (Arc::clone(&script), Arc::clone(&counter));
                let (upstream, http) = (upstream.clone(), http.clone());
                tokio::spawn(async move {
                    // A client that goes away ends its connection; the test sees what it wants to see elsewhere.
                    let _ = serve(stream, upstream, http, script, counter).await;
                });
            }
        });
        let url = Url::parse(&format!("http://{address}")).expect("url");
        Self { url, requests, task }
    }

    /// How many requests came.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::SeqCst)
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    mut stream: TcpStream,
    upstream: Url,
    http: reqwest::Client,
    script: Script,
    counter: Arc<AtomicU64>,
) -> std::io::Result<()> {
    let body = read_body(&mut stream).await?;
    let request: Value = serde_json::from_slice(&body)?;
    let fault = script(counter.fetch_add(1, Ordering::SeqCst), &request);
    let forward = async || {
        let upstream = match &fault {
            Fault::Elsewhere(other) => other.clone(),
            _ => upstream.clone(),
        };
        let response = http.post(upstream).json(&request).send().await;
        match response {
            Ok(response) => response.bytes().await.map(|bytes| bytes.to_vec()).unwrap_or_default(),
            Err(_) => Vec::new(),
        }
    };
    let answer = |part: &str, value: Value| {
        json!({ "jsonrpc": "2.0", "id": request["id"], part: value }).to_string().into_bytes()
    };
    let (status, body, sent) = match &fault {
        Fault::None | Fault::Elsewhere(_) => {
            let body = forward().await;
            let whole = body.len();
            (200, body, whole)
        }
        Fault::Status(status) => (*status, b"no".to_vec(), 2),
        Fault::Close => return Ok(()),
        Fault::Hang => {
            // Until the client gives up.
            while stream.read(&mut [0]).await? > 0 {}
            return Ok(());
        }
        Fault::Truncate => {
            let body = forward().await;
            let half = body.len() / 2;
            (200, body, half)
        }
        Fault::LoseReply => {
            forward().await;
            return Ok(());
        }
        Fault::Result(value) => {
            let body = answer("result", value.clone());
            let whole = body.len();
            (200, body, whole)
        }
        Fault::Change(change) => {
            let mut reply: Value = serde_json::from_slice(&forward().await)?;
            change(&mut reply["result"]);
            let body = reply.to_string().into_bytes();
            let whole = body.len();
            (200, body, whole)
        }
        Fault::Error(code, message) => {
            let body = answer("error", json!({ "code": code, "message": message }));
            let whole = body.len();
            (200, body, whole)
        }
    };
    let head = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(&body[..sent]).await?;
    stream.shutdown().await
}

async fn read_body(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length:"))
                .and_then(|length| length.trim().parse::<usize>().ok())
                .unwrap_or(0);
            if bytes.len() >= end + 4 + length {
                return Ok(bytes[end + 4..end + 4 + length].to_vec());
            }
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
}

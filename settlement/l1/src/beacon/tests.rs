use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use alloy::primitives::hex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
};

use super::*;

const BLOCK: BlobBlock = BlobBlock { number: 7, timestamp: 1_240 };

/// A beacon API.
struct Beacon {
    url: Url,
    /// Whether it knows slots: number 20 is the block's.
    has_slots: AtomicBool,
    /// Whether it serves blobs by block number.
    by_number: bool,
    /// The status of what it does not serve.
    refusal: u16,
    specs: AtomicU64,
    requests: AtomicU64,
}

impl Beacon {
    async fn start(by_number: bool, refusal: u16) -> (Arc<Self>, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("address");
        let beacon = Arc::new(Self {
            url: Url::parse(&format!("http://{address}")).expect("url"),
            has_slots: AtomicBool::new(false),
            by_number,
            refusal,
            specs: AtomicU64::new(0),
            requests: AtomicU64::new(0),
        });
        let serving = Arc::clone(&beacon);
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = Vec::new();
                while !head.windows(4).any(|window| window == b"\r\n\r\n") {
                    if stream.read_buf(&mut head).await.expect("a request") == 0 {
                        break;
                    }
                }
                let head = String::from_utf8_lossy(&head).into_owned();
                let path = head.split(' ').nth(1).unwrap_or_default();
                let reply = match serving.answer(path) {
                    Some(body) => format!(
                        "HTTP/1.1 200 X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                        body.len()
                    ),
                    None => format!(
                        "HTTP/1.1 {} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
                        serving.refusal
                    ),
                };
                stream.write_all(reply.as_bytes()).await.expect("the client reads");
            }
        });
        (beacon, task)
    }

    fn answer(&self, path: &str) -> Option<String> {
        self.requests.fetch_add(1, Ordering::SeqCst);
        let has_slots = self.has_slots.load(Ordering::SeqCst);
        let (path, _) = path.split_once('?').unwrap_or((path, ""));
        match path.strip_prefix("/eth/v1/")? {
            "config/spec" => {
                self.specs.fetch_add(1, Ordering::SeqCst);
                has_slots.then(|| r#"{"data":{"SECONDS_PER_SLOT":"12"}}"#.to_owned())
            }
            "beacon/genesis" => has_slots.then(|| r#"{"data":{"genesis_time":"1000"}}"#.to_owned()),
            "beacon/blobs/20" if has_slots => Some(blob_reply()),
            "beacon/blobs/7" if self.by_number => Some(blob_reply()),
            _ => None,
        }
    }

    fn client(&self) -> BeaconClient {
        BeaconClient::new(self.url.clone(), Duration::from_secs(10), 3).expect("client")
    }
}

fn blob_reply() -> String {
    format!(r#"{{"data":["0x{}"]}}"#, hex::encode(Blob::default()))
}

/// The versioned hash of the blob of zeros, whose commitment is the point at infinity.
fn hash() -> B256 {
    let mut commitment = [0; 48];
    commitment[0] = 0xc0;
    kzg_to_versioned_hash(&commitment)
}

#[tokio::test]
async fn a_node_that_did_not_know_its_slots_at_first_is_asked_again() {
    let (beacon, task) = Beacon::start(false, 404).await;
    let client = beacon.client();
    let error = client.blobs(BLOCK, &[hash()]).await.expect_err("it is starting");
    assert!(matches!(error, BeaconError::BlobMissing { block: 7, .. }), "{error}");

    beacon.has_slots.store(true, Ordering::SeqCst);
    assert_eq!(client.blobs(BLOCK, &[hash()]).await.expect("by slot").len(), 1);
    client.blobs(BLOCK, &[hash()]).await.expect("by slot");
    assert_eq!(beacon.specs.load(Ordering::SeqCst), 2, "the clock is kept");
    task.abort();
}

#[tokio::test]
async fn an_l1_without_slots_is_not_asked_for_them_once_it_has_served_blobs() {
    let (beacon, task) = Beacon::start(true, 404).await;
    let client = beacon.client();
    for _ in 0..3 {
        client.blobs(BLOCK, &[hash()]).await.expect("by number");
    }
    assert_eq!(beacon.specs.load(Ordering::SeqCst), 1);
    task.abort();
}

#[tokio::test]
async fn an_endpoint_that_is_no_beacon_api_is_given_up_at_once() {
    let (beacon, task) = Beacon::start(false, 405).await;
    let error = beacon.client().blobs(BLOCK, &[hash()]).await.expect_err("no beacon API");
    assert!(matches!(error, BeaconError::Status { status: 405, .. }), "{error}");
    assert_eq!(error.class(), millrace_proto::ErrorClass::Fatal);
    assert_eq!(beacon.requests.load(Ordering::SeqCst), 1);
    task.abort();
}

//! A server of the health service behind the edge, seen by clients.

use std::{path::PathBuf, time::Duration};

use bytes::Bytes;
use futures::future::join_all;
use millrace_proto::grpc::{Access, ClientConfig, Transport};
use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Code, Status, service::Routes};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_types::StatusExt;

use super::server_builder;
use crate::{Edge, EdgeConfig, Http2Config, Limits, Port, TlsFiles};

const TOKEN: &str = "a-token-of-some-length";

struct Served {
    address: String,
    _stop: DropGuard,
}

impl Served {
    async fn start(config: EdgeConfig) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let edge = Edge::open(config, Port::Grpc, "test").unwrap();
        let (_, health) = tonic_health::server::health_reporter();
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET);
        let routes = Routes::new(health).add_service(reflection.build_v1().unwrap());
        let stop = CancellationToken::new();
        let connections = edge.connections(listener, stop.child_token());
        let connections = futures::StreamExt::map(connections, Ok::<_, std::io::Error>);
        let served = server_builder(&edge).add_routes(routes);
        let served =
            served.serve_with_incoming_shutdown(connections, stop.clone().cancelled_owned());
        tokio::spawn(served);
        Self { address, _stop: stop.drop_guard() }
    }

    fn client(&self, scheme: &str, access: Access) -> HealthClient<Transport> {
        let uri = format!("{scheme}://{}", self.address);
        let connection = ClientConfig::default().connect_with(&uri, access).unwrap();
        HealthClient::new(connection.transport())
    }

    fn plain(&self) -> HealthClient<Transport> {
        self.client("http", Access::default())
    }

    /// HTTP/2 without gRPC on top.
    async fn http2(
        &self,
    ) -> (h2::client::SendRequest<Bytes>, impl Future<Output = Option<h2::Error>>) {
        let socket = TcpStream::connect(&self.address).await.unwrap();
        let (sender, connection) = h2::client::handshake(socket).await.unwrap();
        let ended = tokio::spawn(async move { connection.await.err() });
        (sender, async move { ended.await.unwrap() })
    }
}

fn limits(limits: Limits) -> EdgeConfig {
    EdgeConfig { limits, ..EdgeConfig::default() }
}

async fn check(client: &HealthClient<Transport>) -> Result<(), Status> {
    client.clone().check(HealthCheckRequest::default()).await.map(|_| ())
}

/// A request for the health service; `path` is one of its methods.
fn request(path: &str) -> http::Request<()> {
    let uri = format!("http://x/grpc.health.v1.Health/{path}");
    let request = http::Request::post(uri).header("content-type", "application/grpc");
    request.header("te", "trailers").body(()).unwrap()
}

#[tokio::test]
async fn calls_over_the_caps_say_when_to_come_again() {
    for config in [
        Limits { max_calls: 1, ..Limits::default() },
        Limits { max_calls_per_peer: 1, ..Limits::default() },
    ] {
        let server = Served::start(limits(config)).await;
        let client = server.plain();
        let watch = client.clone().watch(HealthCheckRequest::default()).await.unwrap();
        let status = check(&client).await.unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
        let details = status.get_error_details();
        assert_eq!(details.error_info().unwrap().reason, "OVERLOADED");
        assert!(details.retry_info().unwrap().retry_delay.unwrap() > Duration::ZERO);
        drop(watch);
        let again = async { while check(&client).await.is_err() {} };
        timeout(Duration::from_secs(60), again).await.expect("a call that is over makes room");
    }
}

#[tokio::test]
async fn connections_of_one_peer_are_bounded() {
    let server =
        Served::start(limits(Limits { max_connections_per_peer: 2, ..Limits::default() })).await;
    let clients = [server.plain(), server.plain()];
    for client in &clients {
        check(client).await.unwrap();
    }
    check(&server.plain()).await.unwrap_err();
    drop(clients);
    let again = async { while check(&server.plain()).await.is_err() {} };
    timeout(Duration::from_secs(60), again).await.expect("a place is given back");
}

#[tokio::test]
async fn a_request_that_does_not_arrive_whole_is_not_waited_for() {
    let config = Limits { call_timeout: Duration::from_millis(200), ..Limits::default() };
    let server = Served::start(limits(config)).await;
    // Neither one that has no message, nor one of which a part is here; with a deadline of the call and without.
    for (path, start) in [("Check", &[][..]), ("Watch", &[]), ("Watch", &[0, 0, 0, 0, 9, 1])] {
        let (mut sender, _ended) = server.http2().await;
        let (answer, mut body) = sender.send_request(request(path), false).unwrap();
        body.send_data(Bytes::copy_from_slice(start), false).unwrap();
        let answer = timeout(Duration::from_secs(60), answer).await.expect("an end").unwrap();
        assert_eq!(answer.headers()["grpc-status"], "4", "{path}: {answer:?}");
    }
}

#[tokio::test]
async fn bytes_of_messages_that_are_not_whole_are_bounded_over_all_connections() {
    let config = Limits { max_held_bytes: 1_000, max_calls_per_peer: 0, ..Limits::default() };
    let server = Served::start(limits(config)).await;
    let (mut sender, _ended) = server.http2().await;
    let mut open = async || {
        let (answer, mut body) = sender.send_request(request("Watch"), false).unwrap();
        // Of a message of 800 bytes, 600.
        let start = [&[0, 0, 0, 3, 32][..], &[1; 600]].concat();
        body.send_data(start.into(), false).unwrap();
        (answer, body)
    };
    let first = open().await;
    let (answer, _body) = open().await;
    let answer = timeout(Duration::from_secs(60), answer).await.expect("an answer").unwrap();
    assert_eq!(answer.headers()["grpc-status"], "8", "{answer:?}");
    drop(first);
    check(&server.plain()).await.unwrap();
}

#[tokio::test]
async fn rapid_resets_end_the_connection_and_nothing_else() {
    let server = Served::start(EdgeConfig::default()).await;
    let other = server.plain();
    check(&other).await.unwrap();
    let (sender, ended) = server.http2().await;
    let resets = async {
        // Until the server has enough of it.
        while let Ok(mut sender) = sender.clone().ready().await {
            match sender.send_request(request("Watch"), false) {
                Ok((_, mut body)) => body.send_reset(h2::Reason::CANCEL),
                Err(_) => break,
            }
            tokio::task::yield_now().await;
        }
    };
    let (error, ()) = timeout(Duration::from_secs(60), futures::future::join(ended, resets))
        .await
        .expect("an end");
    let error = error.expect("not by the client");
    // What is on its way to a closed socket may take the reason with it.
    assert!(error.is_io() || error.reason() == Some(h2::Reason::ENHANCE_YOUR_CALM), "{error}");
    check(&other).await.unwrap();
}

#[tokio::test]
async fn the_settings_of_http2_are_those_configured() {
    let http2 = Http2Config { max_concurrent_streams: 7, ..Http2Config::default() };
    let server = Served::start(EdgeConfig { http2, ..EdgeConfig::default() }).await;
    let (mut sender, _ended) = server.http2().await;
    // The settings are here with the first answer.
    let (answer, _body) = sender.send_request(request("Nothing"), true).unwrap();
    answer.await.unwrap();
    assert_eq!(sender.current_max_send_streams(), 7);
    // A head that is larger than allowed is refused.
    let mut large = request("Check");
    large.headers_mut().insert("x-large", "x".repeat(20 << 10).parse().unwrap());
    let answer = sender.send_request(large, true).unwrap().0.await;
    assert!(answer.map_or(true, |answer| answer.status() == 431));
}

#[tokio::test]
async fn connections_without_a_call_end() {
    let config = Limits {
        header_timeout: Duration::from_millis(200),
        idle_timeout: Duration::from_millis(400),
        ..Limits::default()
    };
    let server = Served::start(limits(config)).await;
    let never = server.http2().await;
    let after_one = server.http2().await;
    let mut sender = after_one.0.clone();
    sender.send_request(request("Nothing"), true).unwrap().0.await.unwrap();
    let ends = join_all([
        Box::pin(never.1) as std::pin::Pin<Box<dyn Future<Output = _> + Send>>,
        Box::pin(after_one.1),
    ]);
    timeout(Duration::from_secs(60), ends).await.expect("both end");
}

#[tokio::test]
async fn only_a_token_lets_in_but_for_health() {
    let dir = tempfile::tempdir().unwrap();
    let tokens = dir.path().join("tokens");
    std::fs::write(&tokens, TOKEN).unwrap();
    let config = EdgeConfig { tokens: Some(tokens), ..EdgeConfig::default() };
    let server = Served::start(config).await;
    check(&server.plain()).await.unwrap();
    let ask = async |access: Access| {
        let uri = format!("http://{}", server.address);
        let connection = ClientConfig::default().connect_with(&uri, access).unwrap();
        let mut client =
            tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient::new(
                connection.transport(),
            );
        client.server_reflection_info(futures::stream::empty()).await.map(|_| ())
    };
    for access in [Access::default(), Access::default().showing("another-token-of-length").unwrap()]
    {
        let status = ask(access).await.unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated);
        assert_eq!(status.get_details_error_info().unwrap().reason, "NO_TOKEN");
    }
    ask(Access::default().showing(TOKEN).unwrap()).await.unwrap();
}

struct Certified {
    _dir: tempfile::TempDir,
    files: TlsFiles,
}

impl Certified {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let pair = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        let write = |name: &str, pem: String| -> PathBuf {
            let path = dir.path().join(name);
            std::fs::write(&path, pem).unwrap();
            path
        };
        let certificate = write("cert.pem", pair.cert.pem());
        let key = write("key.pem", pair.signing_key.serialize_pem());
        Self { _dir: dir, files: TlsFiles { certificate, key } }
    }

    fn trusted(&self) -> Access {
        Access::default().trusting(self.files.certificate.clone()).unwrap()
    }
}

/// What a person reads of a failed call.
fn told(status: Status) -> String {
    millrace_proto::TransportError::Unreachable(Box::new(status)).to_string()
}

#[tokio::test]
async fn tls_is_spoken_where_it_is_set_up_and_each_mistake_has_a_clear_line() {
    let (ours, others) = (Certified::new(), Certified::new());
    let config = EdgeConfig { tls: Some(ours.files.clone()), ..EdgeConfig::default() };
    let server = Served::start(config).await;
    check(&server.client("https", ours.trusted())).await.unwrap();

    let untrusted = check(&server.client("https", others.trusted())).await.unwrap_err();
    let untrusted = told(untrusted);
    assert!(untrusted.contains("invalid peer certificate"), "{untrusted}");
    let plain = told(check(&server.plain()).await.unwrap_err());
    assert!(plain.contains("this port speaks TLS: use https://"), "{plain}");

    let without = Served::start(EdgeConfig::default()).await;
    let tls = told(check(&without.client("https", ours.trusted())).await.unwrap_err());
    assert!(tls.contains("the port does not speak TLS: use http://"), "{tls}");
    for line in [untrusted, plain, tls] {
        assert_eq!(line.lines().count(), 1, "{line}");
    }
}

#[tokio::test]
async fn a_client_that_does_not_shake_hands_is_not_waited_for() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let tls = Certified::new();
    let config = EdgeConfig {
        tls: Some(tls.files.clone()),
        limits: Limits {
            header_timeout: Duration::from_millis(200),
            max_connections: 2,
            ..Limits::default()
        },
        ..EdgeConfig::default()
    };
    let server = Served::start(config).await;
    for start in [&[][..], &[0x16, 3, 1]] {
        let mut socket = TcpStream::connect(&server.address).await.unwrap();
        socket.write_all(start).await.unwrap();
        let mut rest = Vec::new();
        // An error is an end as well.
        let _ =
            timeout(Duration::from_secs(60), socket.read_to_end(&mut rest)).await.expect("an end");
    }
    check(&server.client("https", tls.trusted())).await.unwrap();
}

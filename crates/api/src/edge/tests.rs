//! The subtree over real sockets, in front of an engine that has not been
//! started.

use std::net::SocketAddr;

use supervision::Root;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::*;
use crate::server::tests::{config, engine};

const PATIENCE: Duration = Duration::from_secs(20);

struct Running {
    root: Root,
    address: SocketAddr,
    _storage: TempDir,
}

async fn start(change: impl FnOnce(&mut Config)) -> Running {
    let mut config = config();
    change(&mut config);
    let bound = config.bound.clone();
    let (engine, storage) = engine();
    let edge = edge(config, engine.shapes, engine.health);
    let root = supervisor("leyden", Strategy::OneForOne, INTENSITY, [edge]);
    let root = supervision::start(root).await.unwrap();
    let address = timeout(PATIENCE, bound.wait()).await.unwrap();
    Running { root, address, _storage: storage }
}

impl Running {
    async fn connect(&self) -> TcpStream {
        timeout(PATIENCE, TcpStream::connect(self.address)).await.unwrap().unwrap()
    }
}

/// The status line, or nothing when the connection ends first.
async fn ask(stream: &mut TcpStream, target: &str) -> Option<String> {
    let request = format!("GET {target} HTTP/1.1\r\nhost: leyden\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut buffer = [0; 4096];
    let count = timeout(PATIENCE, stream.read(&mut buffer)).await.unwrap().ok()?;
    let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
    text.lines().next().map(str::to_owned)
}

#[tokio::test]
async fn a_connection_serves_many_requests() {
    let running = start(|_| {}).await;
    let mut stream = running.connect().await;
    for _ in 0..3 {
        assert_eq!(ask(&mut stream, "/").await.as_deref(), Some("HTTP/1.1 200 OK"));
    }
    running.root.stop().await;
}

#[tokio::test]
async fn a_first_packet_of_one_byte_is_waited_for() {
    let running = start(|_| {}).await;
    let mut stream = running.connect().await;
    stream.write_all(b"P").await.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    let rest = b"OST /v1/health HTTP/1.1\r\nhost: leyden\r\ncontent-length: 0\r\n\r\n";
    stream.write_all(rest).await.unwrap();
    let mut buffer = [0; 12];
    timeout(PATIENCE, stream.read_exact(&mut buffer)).await.unwrap().unwrap();
    assert_eq!(&buffer, b"HTTP/1.1 404");
    running.root.stop().await;
}

#[tokio::test]
async fn new_connections_are_served_whoever_is_killed() {
    let running = start(|_| {}).await;
    for path in
        ["edge/listener", "edge/health", "edge/acceptors/1", "edge/acceptors/2", "edge/acceptors"]
    {
        running.root.kill(path).unwrap();
        // Its connections die with an acceptor, so a client may have to try
        // again, on the same port.
        let served = async {
            loop {
                let mut stream = running.connect().await;
                if ask(&mut stream, "/").await.is_some() {
                    return;
                }
            }
        };
        timeout(PATIENCE, served).await.unwrap_or_else(|_| panic!("not served after {path}"));
    }
    running.root.stop().await;
}

#[tokio::test]
async fn a_stop_ends_idle_connections_and_the_listener() {
    let running = start(|_| {}).await;
    let mut idle = running.connect().await;
    assert!(ask(&mut idle, "/").await.is_some());
    let _silent = running.connect().await;
    timeout(PATIENCE, running.root.stop()).await.unwrap();
    assert_eq!(ask(&mut idle, "/").await, None);
    TcpStream::connect(running.address).await.unwrap_err();
}

#[tokio::test]
async fn connections_over_the_limit_wait_for_a_free_slot() {
    let running = start(|config| (config.acceptors, config.connections_max) = (1, 1)).await;
    let mut first = running.connect().await;
    assert!(ask(&mut first, "/").await.is_some());
    let mut second = running.connect().await;
    let mut asking = Box::pin(ask(&mut second, "/"));
    assert!(timeout(Duration::from_millis(50), asking.as_mut()).await.is_err());
    drop(first);
    assert_eq!(asking.await.as_deref(), Some("HTTP/1.1 200 OK"));
    running.root.stop().await;
}

//! Requests against an engine that has not been started: everything that is
//! decided before a shape is needed, and what a server says that is not ready.
//! The rest needs Postgres and is in `tests/`.

use std::time::Duration;

use http::HeaderMap;
use http_body_util::{BodyExt, Full};
use tempfile::TempDir;

use super::*;
use crate::config::{Bound, MaxConcurrent, Secret};

struct Fixture {
    server: Arc<Server>,
    _storage: TempDir,
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    text: String,
}

pub(crate) fn config() -> Config {
    Config {
        address: "127.0.0.1:0".parse().unwrap(),
        bound: Bound::default(),
        secret: None,
        allow_shape_deletion: false,
        long_poll_timeout: Duration::from_secs(20),
        cache_max_age: Duration::from_secs(60),
        cache_stale_age: Duration::from_secs(300),
        max_concurrent: MaxConcurrent { initial: 10, existing: 10 },
        ready_wait: Duration::ZERO,
        tcp_send_timeout: Duration::from_secs(30),
        tcp_read_timeout: Duration::from_secs(60),
        acceptors: 2,
        connections_max: 100,
        extra: None,
    }
}

pub(crate) fn engine() -> (engine::Engine, TempDir) {
    let storage = TempDir::new().unwrap();
    let config = engine::Config {
        database: "postgresql://nobody@127.0.0.1:1/none".parse().unwrap(),
        storage_dir: storage.path().join("storage"),
        slot: "slot".to_owned(),
        publication: "publication".to_owned(),
        chunk_bytes_max: 1000,
        journal_segment_bytes: 1000,
        buffered_bytes_max: 1000,
        admin_pool_size: 1,
        snapshot_pool_size: 1,
    };
    (engine::build(config).unwrap().1, storage)
}

fn fixture(change: impl FnOnce(&mut Config)) -> Fixture {
    let mut config = config();
    change(&mut config);
    let (engine, storage) = engine();
    let server = Arc::new(Server::new(config, engine.shapes, Published::default()));
    Fixture { server, _storage: storage }
}

impl Fixture {
    async fn ask(&self, method: &str, target: &str) -> Answer {
        self.send(Request::builder().method(method).uri(target).body(Full::default()).unwrap())
            .await
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Answer {
        let server = Arc::clone(&self.server);
        let (head, body) = server.respond(request, CancellationToken::new()).await.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        Answer { status: head.status.as_u16(), headers: head.headers, text }
    }

    async fn check(&self, method: &str, target: &str, status: u16, text: &str) {
        let answer = self.ask(method, target).await;
        assert_eq!(answer.status, status, "{method} {target}: {}", answer.text);
        assert!(answer.text.contains(text), "{method} {target}: {}", answer.text);
        assert!(answer.headers.contains_key("x-request-id"), "{method} {target}");
        let origin = &answer.headers["access-control-allow-origin"];
        assert_eq!(origin, "*", "{method} {target}");
    }
}

#[tokio::test]
async fn each_path_has_its_answer() {
    let fixture = fixture(|_| {});
    fixture.check("GET", "/", 200, "").await;
    fixture.check("HEAD", "/", 200, "").await;
    fixture.check("GET", "/nope", 404, "Not found").await;
    fixture.check("PUT", "/v1/shape", 404, "Not found").await;
    fixture.check("POST", "/v1/health", 404, "Not found").await;
    fixture.check("OPTIONS", "/v1/shape", 204, "").await;
}

#[tokio::test]
async fn health_is_starting_until_somebody_says_otherwise_and_is_never_stored() {
    let fixture = fixture(|_| {});
    let answer = fixture.ask("GET", "/v1/health").await;
    assert_eq!((answer.status, answer.text.as_str()), (202, r#"{"status":"starting"}"#));
    assert_eq!(answer.headers["cache-control"], "no-cache, no-store, must-revalidate");
}

#[tokio::test]
async fn every_spelling_of_the_shape_path_needs_the_secret() {
    let fixture = fixture(|config| config.secret = Some(Secret::new("s3cret")));
    let unauthorised = r#"{"message":"Unauthorized - Invalid API secret"}"#;
    for path in ["/v1/shape", "/v1/shape/", "/v1//shape", "/v1/%73hape", "//v1/shape"] {
        for method in ["GET", "HEAD", "POST", "DELETE"] {
            fixture.check(method, path, 401, unauthorised).await;
        }
    }
    fixture.check("GET", "/v1/shape?secret=wrong&api_secret=s3cret", 401, unauthorised).await;
    fixture.check("GET", "/v1/shape?api_secret=s3cret", 503, "").await;
    fixture.check("OPTIONS", "/v1/shape", 204, "").await;
    fixture.check("GET", "/v1/health", 202, "").await;
    let request = Request::post("/v1/shape").body(Full::from(r#"{"secret":"s3cret"}"#)).unwrap();
    assert_eq!(fixture.send(request).await.status, 401);
}

#[tokio::test]
async fn a_server_that_is_not_ready_says_when_to_come_back() {
    let fixture = fixture(|config| config.allow_shape_deletion = true);
    for method in ["GET", "DELETE"] {
        let answer = fixture.ask(method, "/v1/shape?table=items&offset=-1").await;
        assert_eq!(answer.status, 503, "{method}");
        assert_eq!(answer.headers["retry-after"], "5", "{method}");
        assert_eq!(answer.headers["surrogate-control"], "no-store", "{method}");
    }
}

#[tokio::test]
async fn deletion_is_refused_unless_allowed() {
    let fixture = fixture(|_| {});
    fixture.check("DELETE", "/v1/shape?handle=x", 405, r#"{"message":"DELETE not allowed"}"#).await;
    let answer = fixture.ask("DELETE", "/v1/shape?handle=x").await;
    assert_eq!(answer.headers["cache-control"], "no-cache");
}

#[tokio::test]
async fn a_full_server_refuses_and_a_finished_request_makes_room() {
    let fixture_full = fixture(|config| config.max_concurrent.initial = 0);
    let code = r#""code":"concurrent_request_limit_exceeded""#;
    fixture_full.check("GET", "/v1/shape?table=items&offset=-1", 503, code).await;
    let fixture_one = fixture(|config| config.max_concurrent.initial = 1);
    for _ in 0..3 {
        fixture_one.check("GET", "/v1/shape?table=items&offset=-1", 503, "waiting").await;
    }
}

#[tokio::test]
async fn bodies_that_cannot_be_read_are_refused_before_anything_waits() {
    let fixture = fixture(|_| {});
    for (body, status) in [("{", 400), ("[]", 400), ("{}", 503), ("", 503)] {
        let request = Request::post("/v1/shape?offset=-1").body(Full::from(body)).unwrap();
        let answer = fixture.send(request).await;
        assert_eq!(answer.status, status, "{body:?}");
        assert_eq!(answer.headers["cache-control"], "no-cache", "{body:?}");
    }
}

#[tokio::test]
async fn extra_routes_answer_before_the_404_and_cannot_shadow_the_protocol() {
    let extra = axum::Router::new()
        .route("/demo", axum::routing::get(|| async { "demo" }))
        .route("/v1/health", axum::routing::get(|| async { "shadow" }));
    let fixture = fixture(|config| config.extra = Some(extra));
    let answer = fixture.ask("GET", "/demo").await;
    assert_eq!((answer.status, answer.text.as_str()), (200, "demo"));
    fixture.check("GET", "/nope", 404, "Not found").await;
    fixture.check("GET", "/v1/health", 202, "starting").await;
}

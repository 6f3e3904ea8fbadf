//! A. Routing, CORS, health.

use testkit::{Server, wait};

use std::time::Duration;

use crate::site::{LIMIT, Site};

#[tokio::test]
async fn p001_p002_the_root_answers_200_with_an_empty_body() {
    let site = Site::start().await;
    for reply in [site.http.get("/").await, site.http.head("/").await] {
        assert_eq!((reply.status, reply.text()), (200, ""));
    }
}

#[tokio::test]
async fn p003_p013_an_unknown_path_and_a_wrong_method_are_404() {
    let site = Site::items().await;
    let reply = site.http.get("/nope").await;
    assert_eq!((reply.status, reply.text()), (404, "Not found"));
    assert_eq!(reply.header("access-control-allow-methods"), Some("GET, HEAD"));

    let put = site.http.request("PUT".parse().unwrap(), "/v1/shape?table=items&offset=-1");
    assert_eq!(site.http.reply(put).await.status, 404);
}

#[tokio::test]
async fn p004_p006_health_of_a_ready_server_is_active_and_never_cached() {
    let site = Site::start().await;
    let reply = site.http.get("/v1/health").await;
    assert_eq!((reply.status, reply.text()), (200, r#"{"status":"active"}"#));
    assert_eq!(reply.header("cache-control"), Some("no-cache, no-store, must-revalidate"));
    assert!(reply.header("content-type").unwrap().starts_with("application/json"));
}

#[tokio::test]
async fn p005_health_says_starting_while_postgres_is_away() {
    // Port 1 refuses; the server must stay up and try again.
    let mut server = Server::new("postgresql://postgres@127.0.0.1:1/nothing?sslmode=disable");
    server.launch();
    let http = server.http();
    let reply = wait::until("an answer of /v1/health", Duration::from_secs(10), async || {
        assert_eq!(server.exited(), None, "{}", server.log());
        http.try_get("/v1/health").await.ok()
    })
    .await;
    assert_eq!((reply.status, reply.text()), (202, r#"{"status":"starting"}"#));
}

#[tokio::test]
async fn p005_health_says_waiting_while_another_server_has_the_lock() {
    let mut site = Site::items().await;
    let stream = site.server.stream_id().to_owned();
    let mut second = Server::new(&site.postgres.url()).set("LEYDEN_REPLICATION_STREAM_ID", &stream);
    second.launch();
    let http = second.http();
    wait::until("the second server to wait", LIMIT, async || {
        let reply = http.try_get("/v1/health").await.ok()?;
        (reply.status == 202 && reply.text() == r#"{"status":"waiting"}"#).then_some(())
    })
    .await;
    assert_eq!(site.http.get("/v1/health").await.status, 200);
    site.server.kill9();
    second.active().await;
    assert_eq!(http.get("/v1/shape?table=items&offset=-1").await.status, 200);
}

#[tokio::test]
async fn p007_head_has_the_headers_of_get_and_no_body() {
    let site = Site::items().await;
    let path = "/v1/shape?table=items&offset=-1";
    let (get, head) = (site.http.get(path).await, site.http.head(path).await);
    assert_eq!((head.status, head.text()), (200, ""));
    for name in ["electric-handle", "electric-offset", "electric-schema", "etag", "cache-control"] {
        assert_eq!(head.header(name), get.header(name), "{name}");
        assert!(head.header(name).is_some(), "{name}");
    }
}

#[tokio::test]
async fn p008_p009_p014_every_reply_has_cors_headers_and_a_request_id() {
    let site = Site::items().await;
    let origin = |reply: &testkit::Reply| {
        reply.header("access-control-allow-origin").unwrap_or_default().to_owned()
    };
    for path in ["/", "/nope", "/v1/health", "/v1/shape", "/v1/shape?table=items&offset=-1"] {
        let reply = site.http.get_with(path, "origin", "http://a.test").await;
        assert!(["http://a.test", "*"].contains(&origin(&reply).as_str()), "{path}");
        assert_eq!(origin(&site.http.get(path).await), "*", "{path}");
        assert!(reply.header("x-request-id").is_some_and(|id| id.len() >= 20), "{path}");
        let exposed = reply.header("access-control-expose-headers").unwrap_or_default();
        for name in [
            "electric-cursor",
            "electric-handle",
            "electric-has-data",
            "electric-offset",
            "electric-schema",
            "electric-up-to-date",
            "electric-internal-known-error",
            "retry-after",
        ] {
            assert!(exposed.split(',').any(|given| given == name), "{name} at {path}: {exposed}");
        }
    }
    let id = "a-request-id-of-the-callers-own";
    let reply = site.http.get_with("/", "x-request-id", id).await;
    assert_eq!(reply.header("x-request-id"), Some(id));
}

#[tokio::test]
async fn p010_p011_options_answers_a_preflight() {
    let site = Site::start().await;
    let request = site.http.request("OPTIONS".parse().unwrap(), "/v1/shape");
    let reply =
        site.http.reply(request.header("access-control-request-headers", "if-none-match")).await;
    assert_eq!((reply.status, reply.text()), (204, ""));
    assert_eq!(reply.header("access-control-max-age"), Some("86400"));
    let methods = reply.header("access-control-allow-methods").unwrap();
    assert!(methods.contains("POST") && methods.contains("DELETE"), "{methods}");
    assert_eq!(reply.header("access-control-allow-headers"), Some("if-none-match"));
}

#[tokio::test]
async fn p012_other_spellings_of_the_path_reach_the_shape_handler() {
    let site = Site::items().await;
    for path in ["/v1/shape/", "/v1//shape", "/v1/%73hape"] {
        let reply = site.http.get(&format!("{path}?table=items&offset=-1")).await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
    }
}

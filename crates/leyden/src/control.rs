//! The live tree over HTTP, and a way to kill its actors: for the demo and for
//! tests, never on in production.

use std::sync::Arc;

use axum::extract::Query;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;

use crate::root::Running;

/// Browsers send it only on their own page's behalf: no other site can make a
/// visitor's browser kill an actor.
const ORIGIN: &str = "origin";

#[derive(Debug, Deserialize)]
struct Kill {
    path: String,
}

/// `GET <prefix>/tree` and `POST <prefix>/kill?path=store/journal`.
pub(crate) fn routes(prefix: &str, running: Running) -> Router {
    let for_kill = Arc::clone(&running);
    Router::new().route(&format!("{prefix}/tree"), get(async move || tree(&running))).route(
        &format!("{prefix}/kill"),
        post(async move |headers: HeaderMap, Query(kill): Query<Kill>| {
            self::kill(&for_kill, &headers, &kill.path)
        }),
    )
}

fn tree(running: &Running) -> Response {
    match running.get() {
        Some(root) => Json(root.tree()).into_response(),
        None => starting(),
    }
}

fn kill(running: &Running, headers: &HeaderMap, path: &str) -> Response {
    if is_foreign(headers) {
        return (StatusCode::FORBIDDEN, "only from the page itself").into_response();
    }
    match running.get().map(|root| root.kill(path)) {
        Some(Ok(())) => StatusCode::ACCEPTED.into_response(),
        Some(Err(error)) => (StatusCode::NOT_FOUND, error.to_string()).into_response(),
        None => starting(),
    }
}

fn is_foreign(headers: &HeaderMap) -> bool {
    let text =
        |name| headers.get(name).and_then(|value: &axum::http::HeaderValue| value.to_str().ok());
    match (headers.contains_key(ORIGIN), text(ORIGIN), text("host")) {
        (false, _, _) => false,
        (true, Some(origin), Some(host)) => origin.strip_prefix("http://") != Some(host),
        (true, _, _) => true,
    }
}

fn starting() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, "the tree is starting").into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(origin: Option<&str>, host: &str, expected: bool) {
        let mut headers = HeaderMap::new();
        headers.insert("host", host.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(ORIGIN, origin.parse().unwrap());
        }
        assert_eq!(is_foreign(&headers), expected, "{origin:?} {host}");
    }

    #[test]
    fn another_sites_page_kills_nothing() {
        check(None, "localhost:3000", false);
        check(Some("http://localhost:3000"), "localhost:3000", false);
        check(Some("http://evil.test"), "localhost:3000", true);
        check(Some("https://localhost:3000"), "localhost:3000", true);
        check(Some("null"), "localhost:3000", true);
    }
}

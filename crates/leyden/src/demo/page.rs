//! The page's files, all from the binary but for the client.

use axum::Router;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::IntoResponse;
use axum::routing::get;
use bytes::Bytes;

const HTML: &str = include_str!("../../demo/index.html");
const STYLE: &str = include_str!("../../demo/page.css");
const SCRIPT: &str = include_str!("../../demo/page.js");

/// Nothing from anywhere else.
const POLICY: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:";

pub(super) fn routes(client: &str) -> Router {
    Router::new()
        .route("/", file("text/html; charset=utf-8", HTML))
        .route("/demo", file("text/html; charset=utf-8", HTML))
        .route("/demo/page.css", file("text/css; charset=utf-8", STYLE))
        .route("/demo/page.js", file("text/javascript; charset=utf-8", SCRIPT))
        .route("/demo/client.mjs", file("text/javascript; charset=utf-8", client))
}

fn file(kind: &'static str, text: &str) -> axum::routing::MethodRouter {
    let text = Bytes::copy_from_slice(text.as_bytes());
    get(async move || {
        let headers =
            [(CONTENT_TYPE, kind), (CACHE_CONTROL, "no-store"), (CONTENT_SECURITY_POLICY, POLICY)];
        (headers, text.clone()).into_response()
    })
}

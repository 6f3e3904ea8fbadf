//! Failures in the protocol's words. What the log of the server gets to read is
//! not what the client gets to read.

use engine::ShapeError;
use http::StatusCode;
use http::header::{self, HeaderValue};

use crate::admission::Full;
use crate::response::{Errors, Response, errors, message, must_refetch, name, problem};

/// `retry-after` of a server that is not ready, or whose engine went down
/// during a wait.
pub(super) const NOT_READY_S: u64 = 5;
pub(super) const DOWN_S: u64 = 10;

pub(super) fn shape(error: &ShapeError) -> Response {
    match error {
        ShapeError::TableNotFound { schema, name } => {
            let text = format!(
                "Table \"{schema}\".\"{name}\" does not exist. If the table name contains capitals or special characters \
                 you must quote it."
            );
            errors(&Errors::one("table", text))
        }
        ShapeError::Columns(text) => errors(&Errors::one("columns", text)),
        ShapeError::Unavailable { reason, retry_after_s } => unavailable(reason, *retry_after_s),
        ShapeError::Snapshot { message } => known(unavailable(message, DOWN_S)),
        ShapeError::SchemaChanged => must_refetch(None),
        ShapeError::Internal(detail) => internal(detail),
    }
}

pub(super) fn unavailable(reason: &str, retry_after_s: u64) -> Response {
    retry_after(message(StatusCode::SERVICE_UNAVAILABLE, reason), retry_after_s)
}

pub(super) fn full(full: Full) -> Response {
    let Full { kind, limit } = full;
    let text = format!(
        "Concurrent {} request limit exceeded (limit: {limit}), please retry",
        kind.as_str()
    );
    let fields = [("code", "concurrent_request_limit_exceeded"), ("message", text.as_str())];
    let response = problem(StatusCode::SERVICE_UNAVAILABLE, &fields);
    // Spread out, or all that were refused together come back together.
    known(retry_after(response, rand::random_range(6..=10)))
}

pub(super) fn out_of_bounds() -> Response {
    errors(&Errors::one("offset", "out of bounds for this shape"))
}

pub(super) fn unreadable(error: &storage::ReadError) -> Response {
    tracing::warn!(%error, "shape log cannot be read");
    message(
        StatusCode::INTERNAL_SERVER_ERROR,
        "Unable to retrieve shape log: it cannot be read at the moment",
    )
}

fn internal(detail: &str) -> Response {
    tracing::warn!(error = detail, "request failed");
    problem(StatusCode::INTERNAL_SERVER_ERROR, &[("error", "Internal server error")])
}

fn known(mut response: Response) -> Response {
    response.headers_mut().insert(name::KNOWN_ERROR, HeaderValue::from_static("true"));
    response
}

fn retry_after(mut response: Response, seconds: u64) -> Response {
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    response
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;
    use crate::admission::Kind;

    async fn check(error: ShapeError, status: u16, retry_after: Option<&str>, text: &str) {
        let response = shape(&error);
        assert_eq!(response.status(), status, "{error:?}");
        let header = response.headers().get("retry-after").map(|value| value.to_str().unwrap());
        assert_eq!(header, retry_after, "{error:?}");
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        assert!(String::from_utf8_lossy(&bytes).contains(text), "{bytes:?}");
    }

    #[tokio::test]
    async fn each_error_has_its_status() {
        let (schema, name) = ("public".to_owned(), "x".to_owned());
        let not_found = r#"{"table":["Table \"public\".\"x\" does not exist. If the table name"#;
        check(ShapeError::TableNotFound { schema, name }, 400, None, not_found).await;
        check(ShapeError::Columns("no".to_owned()), 400, None, r#"{"columns":["no"]}"#).await;
        let unavailable = ShapeError::Unavailable { reason: "r".to_owned(), retry_after_s: 1 };
        check(unavailable, 503, Some("1"), r#"{"message":"r"}"#).await;
        let snapshot = ShapeError::Snapshot { message: "m".to_owned() };
        check(snapshot, 503, Some("10"), r#"{"message":"m"}"#).await;
        check(ShapeError::SchemaChanged, 409, None, "must-refetch").await;
        let internal = r#"{"error":"Internal server error"}"#;
        check(ShapeError::Internal("secret detail".to_owned()), 500, None, internal).await;
    }

    #[test]
    fn a_full_server_says_when_to_come_back() {
        let response = full(Full { kind: Kind::Initial, limit: 3 });
        assert_eq!(response.status(), 503);
        let seconds: u64 = response.headers()["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((6..=10).contains(&seconds));
        assert_eq!(response.headers()["electric-internal-known-error"], "true");
        assert_eq!(response.headers()["cache-control"], "no-store");
    }
}

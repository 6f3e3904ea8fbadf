//! The body of a POST, bounded in size and time.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::time::timeout;

use crate::request::{PostError, Query, merge_post};
use crate::response::{Response, problem};
use crate::server::Incoming;

const BYTES_MAX: usize = 8_000_000;

pub(super) async fn read_into(
    query: &mut Query,
    body: impl Incoming,
    within: Duration,
) -> Result<(), Response> {
    let body = collect(body, within).await?;
    merge_post(query, &body).map_err(|error| match error {
        PostError::Json(source) => problem(
            StatusCode::BAD_REQUEST,
            &[("error", "Invalid JSON in request body"), ("details", &source.to_string())],
        ),
        PostError::NotAnObject => {
            problem(StatusCode::BAD_REQUEST, &[("error", "Request body must be a JSON object")])
        }
    })
}

async fn collect(body: impl Incoming, within: Duration) -> Result<Bytes, Response> {
    let limited = Box::pin(Limited::new(body, BYTES_MAX).collect());
    match timeout(within, limited).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err(problem(StatusCode::PAYLOAD_TOO_LARGE, &[("error", "Request body too large")]))
        }
        Ok(Err(_)) | Err(_) => {
            Err(problem(StatusCode::BAD_REQUEST, &[("error", "Failed to read request body")]))
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;

    use super::*;

    async fn check(body: impl Into<Bytes>, expected: Result<(), u16>) {
        let mut query = Query::default();
        let outcome = read_into(&mut query, Full::new(body.into()), Duration::from_secs(5)).await;
        assert_eq!(outcome.map_err(|response| response.status().as_u16()), expected);
    }

    #[tokio::test]
    async fn bodies_that_cannot_be_read_have_their_status() {
        check("", Ok(())).await;
        check(r#"{"table":"x"}"#, Ok(())).await;
        check("{", Err(400)).await;
        check("[]", Err(400)).await;
        check(vec![b' '; BYTES_MAX + 1], Err(413)).await;
    }
}

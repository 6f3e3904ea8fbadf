//! The answers of the protocol: data, rotation, errors.

use std::collections::BTreeMap;

use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use shape::{Handle, MUST_REFETCH, Offset};

use super::{Body, Etag, Freshness, name};

pub(crate) type Response = http::Response<Body>;

const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");

/// Validation errors by field, each with its texts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Errors(BTreeMap<&'static str, Vec<String>>);

impl Errors {
    pub(crate) fn one(field: &'static str, text: impl Into<String>) -> Self {
        let mut errors = Self::default();
        errors.add(field, text);
        errors
    }

    pub(crate) fn add(&mut self, field: &'static str, text: impl Into<String>) {
        self.0.entry(field).or_default().push(text.into());
    }

    pub(crate) fn check(&mut self) -> Result<(), Self> {
        if self.0.is_empty() { Ok(()) } else { Err(std::mem::take(self)) }
    }

    #[cfg(test)]
    pub(crate) fn to_json(&self) -> String {
        json(&self.0)
    }
}

/// The headers of a 200 or 304 that carries a range of a log.
#[derive(Debug)]
pub(crate) struct Data<'a> {
    pub(crate) handle: &'a Handle,
    pub(crate) end: Offset,
    pub(crate) schema: Option<&'a str>,
    pub(crate) cursor: Option<u64>,
    pub(crate) up_to_date: bool,
    pub(crate) has_data: bool,
    pub(crate) etag: Option<Etag<'a>>,
    pub(crate) freshness: Freshness,
}

pub(crate) fn data(status: StatusCode, head: &Data<'_>, body: Body) -> Response {
    let mut response = reply(status, JSON, head.freshness, body);
    let headers = response.headers_mut();
    insert(headers, name::HANDLE, head.handle.to_string());
    insert(headers, name::OFFSET, head.end.to_string());
    if let Some(schema) = head.schema {
        insert(headers, name::SCHEMA, schema.to_owned());
    }
    if let Some(cursor) = head.cursor {
        headers.insert(name::CURSOR, HeaderValue::from(cursor));
    }
    if head.up_to_date {
        headers.insert(name::UP_TO_DATE, HeaderValue::from_static(""));
    }
    let has_data = if head.has_data { "true" } else { "false" };
    headers.insert(name::HAS_DATA, HeaderValue::from_static(has_data));
    if let Some(etag) = head.etag {
        insert(headers, header::ETAG, format!("\"{etag}\""));
    }
    response
}

/// 409: the client starts afresh, with the handle named here if there is one.
pub(crate) fn must_refetch(successor: Option<&Handle>) -> Response {
    let freshness = if successor.is_some() { Freshness::RotatedTo } else { Freshness::Rotated };
    let body = Body::text(MUST_REFETCH);
    let mut response = reply(StatusCode::CONFLICT, JSON, freshness, body);
    if let Some(handle) = successor {
        let headers = response.headers_mut();
        insert(headers, name::HANDLE, handle.to_string());
        insert(headers, header::ETAG, format!("\"{handle}::\""));
    }
    response
}

/// 400 with what is wrong in which field.
pub(crate) fn errors(errors: &Errors) -> Response {
    #[derive(Serialize)]
    struct Text<'a> {
        message: &'a str,
        errors: &'a BTreeMap<&'static str, Vec<String>>,
    }
    let text = Text { message: "Invalid request", errors: &errors.0 };
    failure(StatusCode::BAD_REQUEST, json(&text))
}

/// A failure whose body has fields of its own.
pub(crate) fn problem(status: StatusCode, fields: &[(&str, &str)]) -> Response {
    let fields: BTreeMap<&str, &str> = fields.iter().copied().collect();
    failure(status, json(&fields))
}

pub(crate) fn message(status: StatusCode, text: &str) -> Response {
    problem(status, &[("message", text)])
}

pub(crate) fn plain(status: StatusCode, text: &'static str) -> Response {
    let content_type = HeaderValue::from_static("text/plain; charset=utf-8");
    reply(status, content_type, Freshness::Failure, Body::text(text))
}

fn failure(status: StatusCode, text: String) -> Response {
    let mut response = reply(status, JSON, Freshness::Failure, Body::text(text));
    let headers = response.headers_mut();
    headers.insert(name::SURROGATE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn reply(
    status: StatusCode,
    content_type: HeaderValue,
    freshness: Freshness,
    body: Body,
) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, content_type);
    freshness.set(headers);
    response
}

/// What cannot stand in a header is left out rather than cut: a client says so,
/// where it would misread a part.
fn insert(headers: &mut HeaderMap, name: HeaderName, text: String) {
    if let Ok(value) = HeaderValue::from_maybe_shared(bytes::Bytes::from(text)) {
        headers.insert(name, value);
    }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("maps with text keys always serialise")
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use shape::RequestOffset;

    use super::*;

    async fn text(response: Response) -> String {
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn a_rotation_names_the_successor_and_never_a_location() {
        let handle: Handle = "7-8".parse().unwrap();
        let response = must_refetch(Some(&handle));
        assert_eq!(response.status(), 409);
        assert_eq!(response.headers()["electric-handle"], "7-8");
        assert_eq!(response.headers()["etag"], "\"7-8::\"");
        assert_eq!(response.headers()["cache-control"], "public, max-age=60, must-revalidate");
        assert!(!response.headers().contains_key("location"));
        assert_eq!(text(response).await, r#"[{"headers":{"control":"must-refetch"}}]"#);
        let response = must_refetch(None);
        assert!(!response.headers().contains_key("electric-handle"));
        assert!(!response.headers().contains_key("etag"));
        assert_eq!(response.headers()["cache-control"], "public, max-age=1, must-revalidate");
    }

    #[tokio::test]
    async fn errors_are_never_stored() {
        let response = errors(&Errors::one("table", "can't be blank"));
        assert_eq!(response.status(), 400);
        assert_eq!(response.headers()["cache-control"], "no-store");
        assert_eq!(response.headers()["surrogate-control"], "no-store");
        assert!(!response.headers().contains_key("electric-handle"));
        assert_eq!(
            text(response).await,
            r#"{"message":"Invalid request","errors":{"table":["can't be blank"]}}"#
        );
    }

    #[test]
    fn data_has_the_headers_it_is_given_only() {
        let handle: Handle = "7-8".parse().unwrap();
        let end = Offset::new(0, 0);
        let etag = Etag { handle: &handle, from: RequestOffset::Start, to: end, unique: None };
        let head = Data {
            handle: &handle,
            end,
            schema: Some(r#"{"é":{"type":"int4"}}"#),
            cursor: None,
            up_to_date: false,
            has_data: true,
            etag: Some(etag),
            freshness: Freshness::Start,
        };
        let response = data(StatusCode::OK, &head, Body::empty());
        let headers = response.headers();
        assert_eq!(headers["content-type"], "application/json; charset=utf-8");
        assert_eq!(headers["electric-offset"], "0_0");
        assert_eq!(headers["electric-has-data"], "true");
        assert_eq!(headers["etag"], "\"7-8:-1:0_0\"");
        assert_eq!(headers["electric-schema"].as_bytes(), r#"{"é":{"type":"int4"}}"#.as_bytes());
        assert!(!headers.contains_key("electric-cursor"));
        assert!(!headers.contains_key("electric-up-to-date"));
    }
}

//! Headers every answer carries: which request it is the answer to, and who may
//! read it from a browser.
//!
//! The allowed origin is always `*`: echoing the request's would let a shared
//! cache mix up origins.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Request, Version};
use uuid::Uuid;

use super::{Body, Response};
use crate::route::Route;

pub(crate) mod name {
    use super::HeaderName;

    pub(crate) const HANDLE: HeaderName = HeaderName::from_static("electric-handle");
    pub(crate) const OFFSET: HeaderName = HeaderName::from_static("electric-offset");
    pub(crate) const SCHEMA: HeaderName = HeaderName::from_static("electric-schema");
    pub(crate) const CURSOR: HeaderName = HeaderName::from_static("electric-cursor");
    pub(crate) const UP_TO_DATE: HeaderName = HeaderName::from_static("electric-up-to-date");
    pub(crate) const HAS_DATA: HeaderName = HeaderName::from_static("electric-has-data");
    pub(crate) const KNOWN_ERROR: HeaderName =
        HeaderName::from_static("electric-internal-known-error");
    pub(crate) const SERVER: HeaderName = HeaderName::from_static("electric-server");
    pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
    pub(crate) const SURROGATE_CONTROL: HeaderName = HeaderName::from_static("surrogate-control");
}

const EXPOSED: &str = "electric-cursor,electric-handle,electric-has-data,electric-offset,electric-schema,electric-up-to-date,electric-internal-known-error,retry-after";
const SHAPE_METHODS: &str = "GET, POST, HEAD, DELETE, OPTIONS";
const OTHER_METHODS: &str = "GET, HEAD";
const SERVER: &str = concat!("Leyden/", env!("CARGO_PKG_VERSION"));

/// What an answer keeps of its request until it is sent.
#[derive(Clone, Debug)]
pub(crate) struct Stamp {
    route: Route,
    request_id: Option<HeaderValue>,
    is_http2: bool,
}

impl Stamp {
    pub(crate) fn new<B>(route: Route, request: &Request<B>) -> Self {
        let given = request.headers().get(name::REQUEST_ID);
        let request_id = given.filter(|id| (20..=200).contains(&id.len())).cloned();
        Self { route, request_id, is_http2: request.version() == Version::HTTP_2 }
    }

    pub(crate) fn put_on(self, mut response: Response) -> Response {
        let request_id = self.request_id.unwrap_or_else(|| {
            let id = Uuid::new_v4().simple().to_string();
            HeaderValue::try_from(id).expect("hexadecimal digits are valid in a header")
        });
        let methods = match self.route {
            Route::Shape => SHAPE_METHODS,
            Route::Root | Route::Health | Route::Other => OTHER_METHODS,
        };
        let fixed = HeaderValue::from_static;
        let headers = response.headers_mut();
        headers.insert(name::REQUEST_ID, request_id);
        headers.insert(name::SERVER, fixed(SERVER));
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, fixed("*"));
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, fixed(EXPOSED));
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, fixed(methods));
        if self.is_http2 {
            // Means nothing there, and is not allowed.
            headers.remove(header::CONNECTION);
        }
        response
    }
}

/// The answer to OPTIONS. Every header the browser asks for is allowed, as none
/// has an effect beyond its request.
pub(crate) fn preflight(request: &HeaderMap) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = http::StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("keep-alive"));
    if let Some(asked) = request.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(route: Route, request: &Request<()>, expected: &[(&str, &str)]) {
        let response = Stamp::new(route, request).put_on(Response::new(Body::empty()));
        for (name, value) in expected {
            assert_eq!(response.headers()[*name], *value, "{name}");
        }
    }

    #[test]
    fn every_answer_may_be_read_from_any_origin() {
        let request = Request::get("/")
            .header("origin", "http://a.test")
            .header("x-request-id", "0123456789012345678901");
        let request = request.body(()).unwrap();
        let shape = [
            ("access-control-allow-origin", "*"),
            ("access-control-allow-methods", SHAPE_METHODS),
            ("x-request-id", "0123456789012345678901"),
        ];
        check(Route::Shape, &request, &shape);
        check(Route::Other, &request, &[("access-control-allow-methods", "GET, HEAD")]);
        assert_eq!(EXPOSED.split(',').count(), 8);
    }

    #[test]
    fn a_request_id_of_unfit_length_is_replaced() {
        let request = Request::get("/").header("x-request-id", "short").body(()).unwrap();
        let response = Stamp::new(Route::Root, &request).put_on(Response::new(Body::empty()));
        assert_eq!(response.headers()["x-request-id"].len(), 32);
    }

    #[test]
    fn a_preflight_allows_every_header_asked_for() {
        let mut request = HeaderMap::new();
        let asked = HeaderValue::from_static("content-type, authorization");
        request.insert(header::ACCESS_CONTROL_REQUEST_HEADERS, asked.clone());
        let response = preflight(&request);
        assert_eq!(response.status(), 204);
        assert_eq!(response.headers()[header::ACCESS_CONTROL_ALLOW_HEADERS], asked);
        assert_eq!(response.headers()[header::ACCESS_CONTROL_MAX_AGE], "86400");
        assert!(!response.headers().contains_key(header::CACHE_CONTROL));
    }
}

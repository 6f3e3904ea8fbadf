//! What all connections share, and the way of a request to its route.

use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::Arc;

use axum::Extension;
use bytes::Bytes;
use engine::{HealthState, Shapes};
use futures_util::FutureExt;
use http::header::{self, HeaderValue};
use http::{Method, Request, StatusCode};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::admission::Admission;
use crate::config::Config;
use crate::edge::Published;
use crate::response::{Body, Etags, Response, Stamp, plain};
use crate::route::{Route, resolve};
use crate::shape;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A request's body, whatever carries it.
pub(crate) trait Incoming:
    http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static
{
}

impl<B> Incoming for B where B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static
{}

#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) config: Config,
    pub(crate) shapes: Shapes,
    pub(crate) admission: Admission,
    pub(crate) etags: Etags,
    /// Turns at reading files.
    pub(crate) files: Semaphore,
    health: Published,
    extra: Option<axum::Router>,
}

/// Marks the answer of the extra routes to a path they do not have.
#[derive(Clone, Copy, Debug)]
struct Unmatched;

impl Server {
    pub(crate) fn new(config: Config, shapes: Shapes, health: Published) -> Self {
        let admission = Admission::new(config.max_concurrent);
        let unmatched = || async { (StatusCode::NOT_FOUND, Extension(Unmatched)) };
        let extra = config.extra.clone().map(|router| router.fallback(unmatched));
        let (etags, files) = (Etags::default(), Semaphore::new(shape::READS_MAX));
        Self { config, shapes, admission, etags, files, health, extra }
    }

    /// `drain` wakes held requests, which then answer at once. The future is
    /// small however large the request is, as a connection keeps room for it.
    pub(crate) fn respond(
        self: Arc<Self>,
        request: Request<impl Incoming>,
        drain: CancellationToken,
    ) -> Pin<Box<dyn Future<Output = Response> + Send>> {
        let route = resolve(request.uri().path());
        let stamp = Stamp::new(route, &request);
        let is_get = matches!(*request.method(), Method::GET | Method::HEAD);
        match (route, is_get) {
            (Route::Health, true) => Box::pin(ready(stamp.put_on(health(self.health.state())))),
            (Route::Root | Route::Health, false) => Box::pin(ready(stamp.put_on(not_found()))),
            (Route::Shape, _) => Box::pin(
                shape::respond(self, request, drain).map(|response| stamp.put_on(response)),
            ),
            // The demo has a page of its own at the root.
            (Route::Root, true) => Box::pin(async move {
                let response = self.extra(request).await;
                response.unwrap_or_else(|| stamp.put_on(root()))
            }),
            (Route::Other, _) => Box::pin(async move {
                let response = self.extra(request).await;
                response.unwrap_or_else(|| stamp.put_on(not_found()))
            }),
        }
    }

    async fn extra(&self, request: Request<impl Incoming>) -> Option<Response> {
        let router = self.extra.clone()?;
        let answered = router.oneshot(request.map(axum::body::Body::new)).await;
        let response = answered.unwrap_or_else(|never| match never {});
        let is_matched = response.extensions().get::<Unmatched>().is_none();
        is_matched.then(|| response.map(Body::extra))
    }
}

pub(crate) fn not_found() -> Response {
    plain(StatusCode::NOT_FOUND, "Not found")
}

fn root() -> Response {
    let mut response = Response::new(Body::empty());
    let value = HeaderValue::from_static("max-age=0, private, must-revalidate");
    response.headers_mut().insert(header::CACHE_CONTROL, value);
    response
}

fn health(state: HealthState) -> Response {
    let (status, text) = match state {
        HealthState::Active => (StatusCode::OK, r#"{"status":"active"}"#),
        HealthState::Waiting => (StatusCode::ACCEPTED, r#"{"status":"waiting"}"#),
        HealthState::Starting => (StatusCode::ACCEPTED, r#"{"status":"starting"}"#),
    };
    let mut response = Response::new(Body::text(text));
    *response.status_mut() = status;
    let value = HeaderValue::from_static;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, value("application/json; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, value("no-cache, no-store, must-revalidate"));
    response
}

#[cfg(test)]
pub(crate) mod tests;

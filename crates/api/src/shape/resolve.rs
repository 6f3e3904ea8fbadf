//! From parameters to the shape that serves them, or to the handle a client
//! must go on with.

use std::sync::Arc;

use engine::{LiveShape, ShapeRequest};
use tokio::time::timeout;

use super::refusal;
use crate::request::Parameters;
use crate::response::{Response, must_refetch};
use crate::server::Server;

pub(super) async fn shape(
    server: &Server,
    parameters: &Parameters,
) -> Result<Arc<LiveShape>, Response> {
    let Parameters { shape: request, handle, .. } = parameters;
    let known = handle.as_ref().and_then(|handle| server.shapes.matching(handle, request));
    // No actor and no Postgres for a client that has a handle.
    if let Some(shape) = known.filter(|shape| !shape.is_removed()) {
        return Ok(shape);
    }
    let current =
        server.shapes.find_or_create(request).await.map_err(|error| refusal::shape(&error))?;
    match handle {
        Some(handle) if *handle != *current.handle.as_ref() => {
            Err(must_refetch(Some(&current.handle)))
        }
        Some(_) | None => Ok(current),
    }
}

/// The 409 for readers of a shape that is gone. They are many and come at once,
/// and they must not wait for a slow snapshot: without a successor in time the
/// answer goes out without one.
pub(super) async fn rotated(server: &Server, gone: &LiveShape, request: &ShapeRequest) -> Response {
    let wait = server.config.ready_wait;
    let successor = match timeout(wait, server.shapes.find_or_create(request)).await {
        Ok(Ok(shape)) if shape.handle != gone.handle => Some(shape),
        Ok(Ok(_) | Err(_)) | Err(_) => None,
    };
    must_refetch(successor.as_ref().map(|shape| &shape.handle))
}

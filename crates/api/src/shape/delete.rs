//! `DELETE /v1/shape`: for tests and operators, behind a setting. Readers of
//! the shape are told to fetch again.

use engine::{Level, ShapeRequest};
use http::StatusCode;
use shape::Handle;

use super::refusal;
use crate::request::{Deletion, Query};
use crate::response::{Body, Response, errors, message};
use crate::server::Server;

pub(super) async fn respond(server: &Server, query: &Query) -> Response {
    if !server.config.allow_shape_deletion {
        return message(StatusCode::METHOD_NOT_ALLOWED, "DELETE not allowed");
    }
    delete(server, query).await.unwrap_or_else(|refused| refused)
}

async fn delete(server: &Server, query: &Query) -> Result<Response, Response> {
    let ready = server.shapes.ready(Level::Write, server.config.ready_wait).await;
    ready.map_err(|not_ready| refusal::unavailable(&not_ready.reason, refusal::NOT_READY_S))?;
    let handle = match Deletion::parse(query).map_err(|mistakes| errors(&mistakes))? {
        Deletion::Handle(handle) => {
            server.shapes.by_handle(&handle).map(|shape| shape.handle.clone()).ok_or_else(none)?
        }
        Deletion::Shape { shape, handle } => current(server, &shape, handle.as_deref()).await?,
    };
    let is_removed = server.shapes.remove(&handle).await.map_err(|error| refusal::shape(&error))?;
    if !is_removed {
        return Err(none());
    }
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::ACCEPTED;
    Ok(response)
}

async fn current(
    server: &Server,
    request: &ShapeRequest,
    handle: Option<&str>,
) -> Result<Handle, Response> {
    let found = server.shapes.find(request).await.map_err(|error| refusal::shape(&error))?;
    let current = found.map(|shape| shape.handle.clone()).ok_or_else(none)?;
    if handle.is_some_and(|handle| handle != current.as_ref()) {
        let text = "The handle is not that of the shape described by the other parameters";
        return Err(message(StatusCode::BAD_REQUEST, text));
    }
    Ok(current)
}

fn none() -> Response {
    message(StatusCode::NOT_FOUND, "No existing shape found")
}

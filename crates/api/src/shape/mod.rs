//! `/v1/shape`: from a request to a range of a shape's log.
//!
//! Order decides which error wins, so it is the protocol's: route and secret,
//! admission, POST body, readiness, validation, the shape, `If-None-Match`, the
//! log. A request whose answer has to wait becomes a [`Hold`], which keeps only
//! what waiting needs: there may be a hundred thousand of them.

mod delete;
mod hold;
mod post;
mod read;
mod refusal;
mod resolve;
mod sse;

use std::future::Future;
use std::sync::Arc;

use engine::Level;
use http::header::{self, HeaderMap};
use http::{Method, Request, StatusCode};
use shape::RequestOffset;
use tokio_util::sync::CancellationToken;

use self::hold::Hold;
pub(crate) use self::read::READS_MAX;
use crate::admission::{Full, Kind, Permit};
use crate::auth::is_authorised;
use crate::request::{Parameters, Query};
use crate::response::{self, Freshness, Response, errors, preflight};
use crate::server::{Incoming, Server, not_found};

/// How far a request has come.
enum Step {
    Done(Response),
    Hold(Box<Hold>),
}

/// The request itself is gone once the future that this returns waits for news.
pub(crate) fn respond(
    server: Arc<Server>,
    request: Request<impl Incoming>,
    drain: CancellationToken,
) -> impl Future<Output = Response> + Send {
    let is_cacheable = !matches!(*request.method(), Method::POST | Method::DELETE);
    let begun = Box::pin(begin(server, request, drain));
    async move {
        let mut response = match begun.await {
            Step::Done(response) => response,
            Step::Hold(hold) => Box::pin(hold.wait()).await,
        };
        if !is_cacheable {
            Freshness::Never.set(response.headers_mut());
        }
        response
    }
}

async fn begin(
    server: Arc<Server>,
    request: Request<impl Incoming>,
    drain: CancellationToken,
) -> Step {
    let (head, body) = request.into_parts();
    let mut query = Query::parse(head.uri.query().unwrap_or_default());
    match head.method {
        Method::OPTIONS => return Step::Done(preflight(&head.headers)),
        Method::GET | Method::HEAD | Method::POST | Method::DELETE => {}
        _ => return Step::Done(not_found()),
    }
    if !is_authorised(server.config.secret.as_ref(), &query) {
        let text = "Unauthorized - Invalid API secret";
        return Step::Done(response::message(StatusCode::UNAUTHORIZED, text));
    }
    if head.method == Method::DELETE {
        return Step::Done(delete::respond(&server, &query).await);
    }
    let permit = match admit(&server, &query) {
        Ok(permit) => permit,
        Err(full) => return Step::Done(refusal::full(full)),
    };
    if head.method == Method::POST
        && let Err(response) =
            post::read_into(&mut query, body, server.config.tcp_read_timeout).await
    {
        return Step::Done(response);
    }
    // A condition makes sense for what a cache may hold only.
    let condition = (head.method != Method::POST).then(|| condition(&head.headers)).flatten();
    serve(server, &query, permit, condition, drain).await.unwrap_or_else(Step::Done)
}

fn admit(server: &Server, query: &Query) -> Result<Permit, Full> {
    let is_known = query.value("handle").is_some_and(|handle| server.shapes.is_known(handle));
    let kind = if is_known { Kind::Existing } else { Kind::Initial };
    server.admission.enter(kind)
}

fn condition(headers: &HeaderMap) -> Option<String> {
    let values: Vec<&str> = headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .collect();
    (!values.is_empty()).then(|| values.join(","))
}

async fn serve(
    server: Arc<Server>,
    query: &Query,
    mut permit: Permit,
    condition: Option<String>,
    drain: CancellationToken,
) -> Result<Step, Response> {
    let ready = server.shapes.ready(Level::Read, server.config.ready_wait).await;
    ready.map_err(|not_ready| refusal::unavailable(&not_ready.reason, refusal::NOT_READY_S))?;
    let parameters = Parameters::parse(query).map_err(|mistakes| errors(&mistakes))?;
    let shape = resolve::shape(&server, &parameters).await?;
    permit.promote();
    let hold = Box::new(Hold::new(server, shape, parameters, permit, drain));
    if hold.offset == RequestOffset::Now {
        Ok(Step::Done(hold.skip_history()))
    } else if hold.is_stream() {
        Ok(Step::Done(sse::respond(hold).await))
    } else {
        Ok(hold.begin(condition.as_deref()).await)
    }
}

//! A request on its shape: answered now, or held until there is news.
//!
//! ```text
//! begin ─ read ─┬─ data, or not live ──────────────► 200 (or 304)
//!               ├─ at the end, live ──► wait ──┬───► news: read again
//!               └─ ahead of the end ──► wait ──┘     time is up: no change, or out of bounds
//! ```
//! The tail is subscribed to before the log is read for the first time, so that
//! what comes between the two wakes the wait.

use std::sync::Arc;
use std::time::Duration;

use engine::{Level, LiveShape, ShapeRequest, Tail};
use http::StatusCode;
use shape::{Offset, RequestOffset, up_to_date};
use storage::ReadError;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::read::{Part, read};
use super::{Step, refusal, resolve};
use crate::admission::Permit;
use crate::request::{Live, Parameters};
use crate::response::{Body, Data, Etag, Freshness, Response, cursor, data, is_match};
use crate::server::Server;

#[derive(Debug)]
pub(super) struct Hold {
    pub(super) server: Arc<Server>,
    pub(super) shape: Arc<LiveShape>,
    tail: watch::Receiver<Tail>,
    drain: CancellationToken,
    /// For finding the successor if the shape goes.
    request: ShapeRequest,
    /// Where the log is read from.
    pub(super) offset: RequestOffset,
    live: Live,
    cursor: u64,
    permit: Option<Permit>,
}

/// What a look at the log gave.
pub(super) enum Look {
    Data(Part),
    /// Nothing after the offset, which is the end.
    End(Part),
    /// The log does not reach the offset yet.
    Ahead,
    Gone,
    /// Parts of the log are missing or damaged, and will be tomorrow.
    Lost(ReadError),
    Failed(ReadError),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Woken {
    News,
    TimeIsUp,
    /// The server stops: answer early.
    Draining,
}

impl Hold {
    pub(super) fn new(
        server: Arc<Server>,
        shape: Arc<LiveShape>,
        parameters: Parameters,
        permit: Permit,
        drain: CancellationToken,
    ) -> Self {
        let Parameters { shape: request, offset, handle: _, live, cursor } = parameters;
        let tail = shape.tail();
        Self { server, shape, tail, drain, request, offset, live, cursor, permit: Some(permit) }
    }

    pub(super) fn is_stream(&self) -> bool {
        self.live == Live::Sse
    }

    /// `offset=now`: where the log ends.
    pub(super) fn skip_history(self) -> Response {
        let seen_lsn = self.shape.seen_lsn();
        let end = self.shape.log.end();
        self.no_change(seen_lsn, end)
    }

    pub(super) async fn begin(self: Box<Self>, condition: Option<&str>) -> Step {
        match (self.look().await, self.live) {
            (Look::Data(part), _) | (Look::End(part), Live::No) => {
                Step::Done(self.reply(part, condition))
            }
            (Look::End(part), Live::LongPoll | Live::Sse) if self.is_fresh(&part, condition) => {
                Step::Done(self.reply(part, condition))
            }
            (Look::End(_), Live::LongPoll | Live::Sse) | (Look::Ahead, _) => Step::Hold(self),
            (Look::Gone, _) => Step::Done(self.rotated().await),
            (Look::Lost(error), _) => Step::Done(self.lost(&error).await),
            (Look::Failed(error), _) => Step::Done(refusal::unreadable(&error)),
        }
    }

    pub(super) async fn wait(mut self: Box<Self>) -> Response {
        let started = Instant::now();
        let whole = self.server.config.long_poll_timeout;
        let mut woken = Woken::News;
        loop {
            // Boxed, so that a held request does not keep the space of a look.
            let limit = match (Box::pin(self.look()).await, self.live, woken) {
                (Look::Data(part), _, _) | (Look::End(part), Live::No, _) => {
                    return self.reply(part, None);
                }
                (Look::End(_), Live::LongPoll | Live::Sse, Woken::News) => whole,
                (Look::End(part), _, Woken::TimeIsUp | Woken::Draining) => {
                    return Box::pin(self.nothing_came(part)).await;
                }
                (Look::Ahead, _, Woken::News) => whole / 2,
                (Look::Ahead, _, Woken::TimeIsUp) => return refusal::out_of_bounds(),
                (Look::Ahead, _, Woken::Draining) => {
                    return refusal::unavailable("the server is stopping", 1);
                }
                (Look::Gone, _, _) => return Box::pin(self.rotated()).await,
                (Look::Lost(error), _, _) => return Box::pin(self.lost(&error)).await,
                (Look::Failed(error), _, _) => return refusal::unreadable(&error),
            };
            woken = self.park(started + limit).await;
        }
    }

    pub(super) async fn park(&mut self, until: Instant) -> Woken {
        let news = async {
            tokio::select! {
                changed = self.tail.changed() => match changed {
                    Ok(()) => Woken::News,
                    // Nobody is left to bring news; only time can end this.
                    Err(_) => std::future::pending().await,
                },
                () = self.drain.cancelled() => Woken::Draining,
            }
        };
        timeout_at(until, news).await.unwrap_or(Woken::TimeIsUp)
    }

    pub(super) async fn look(&self) -> Look {
        if self.shape.is_removed() {
            return Look::Gone;
        }
        match read(&self.server.files, &self.shape, self.offset).await {
            Ok(part) if part.is_empty() => Look::End(part),
            Ok(part) => Look::Data(part),
            Err(ReadError::OutOfBounds) => Look::Ahead,
            // Readers are told of a removal before files go.
            Err(ReadError::Gone) if self.shape.is_removed() => Look::Gone,
            Err(error @ (ReadError::Gone | ReadError::Io(storage::Error::Damaged { .. }))) => {
                Look::Lost(error)
            }
            Err(error @ ReadError::Io(_)) => Look::Failed(error),
        }
    }

    async fn nothing_came(self: Box<Self>, part: Part) -> Response {
        if self.server.shapes.ready(Level::Read, Duration::ZERO).await.is_err() {
            return refusal::unavailable("the server is not ready", refusal::DOWN_S);
        }
        self.no_change(part.seen_lsn, part.slice.end)
    }

    pub(super) async fn rotated(&self) -> Response {
        resolve::rotated(&self.server, &self.shape, &self.request).await
    }

    /// Such a log heals only by another handle: without one its readers would
    /// get an error for ever.
    async fn lost(&self, error: &ReadError) -> Response {
        tracing::warn!(shape = %self.shape.handle, %error, "shape log is lost, clients fetch again");
        match self.server.shapes.remove(&self.shape.handle).await {
            Ok(_) => self.rotated().await,
            Err(error) => refusal::shape(&error),
        }
    }

    fn etag(&self, to: Offset, unique: Option<u64>) -> Etag<'_> {
        Etag { handle: &self.shape.handle, from: self.offset, to, unique }
    }

    fn is_fresh(&self, part: &Part, condition: Option<&str>) -> bool {
        let tag = || self.etag(part.slice.end, None).to_string();
        condition.is_some_and(|condition| is_match(condition, &tag()))
    }

    fn reply(mut self, part: Part, condition: Option<&str>) -> Response {
        let (is_fresh, permit) = (self.is_fresh(&part, condition), self.permit.take());
        let Part { slice, seen_lsn } = part;
        let is_start = self.offset == RequestOffset::Start;
        // A chunk of the snapshot is followed by the log, whatever the log
        // holds.
        let is_snapshot = slice.end.is_virtual() && slice.end != Offset::SNAPSHOT_END;
        let reaches_end = slice.at_end && !is_start && !is_snapshot;
        let schema = (!self.is_live()).then(|| self.shape.schema_header());
        let head = Data {
            handle: &self.shape.handle,
            end: slice.end,
            schema: schema.as_deref(),
            cursor: self.next_cursor(),
            up_to_date: reaches_end,
            has_data: true,
            etag: Some(self.etag(slice.end, None)),
            freshness: self.freshness(),
        };
        if is_fresh {
            return data(StatusCode::NOT_MODIFIED, &Data { schema: None, ..head }, Body::empty());
        }
        // Live replies are shared by all that wait, so theirs says no more than
        // what they carry.
        let lsn = if self.is_live() { slice.end.tx } else { slice.end.tx.max(seen_lsn) };
        let body = Body::array(slice.body, reaches_end.then(|| up_to_date(lsn)));
        data(StatusCode::OK, &head, body).map(|body| body.holding(permit))
    }

    /// The reply that brings nothing but the LSN up to which nothing came.
    fn no_change(mut self, seen_lsn: u64, end: Offset) -> Response {
        let permit = self.permit.take();
        let schema = (!self.is_live()).then(|| self.shape.schema_header());
        let head = Data {
            handle: &self.shape.handle,
            end,
            schema: schema.as_deref(),
            cursor: self.next_cursor(),
            up_to_date: true,
            has_data: false,
            etag: Some(self.etag(end, Some(self.server.etags.next()))),
            freshness: self.freshness(),
        };
        let body = Body::array(Vec::new(), Some(up_to_date(seen_lsn.max(end.tx))));
        data(StatusCode::OK, &head, body).map(|body| body.holding(permit))
    }

    fn is_live(&self) -> bool {
        match self.live {
            Live::No => false,
            Live::LongPoll | Live::Sse => true,
        }
    }

    pub(super) fn next_cursor(&self) -> Option<u64> {
        let timeout = self.server.config.long_poll_timeout;
        self.is_live().then(|| cursor(timeout, self.cursor))
    }

    fn freshness(&self) -> Freshness {
        let config = &self.server.config;
        match (self.offset, self.live) {
            (RequestOffset::Start, _) => Freshness::Start,
            (_, Live::LongPoll | Live::Sse) => Freshness::Live,
            (_, Live::No) => {
                Freshness::Log { max_age: config.cache_max_age, stale_age: config.cache_stale_age }
            }
        }
    }
}

//! A response's body: the log's own bytes between two brackets, never copied
//! into one piece.
//!
//! It also holds what must live as long as the response does: the permit of its
//! request.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::Stream;
use http_body::{Frame, SizeHint};

use crate::admission::Permit;

pub(crate) struct Body {
    kind: Kind,
    permit: Option<Permit>,
}

enum Kind {
    Frames { frames: std::vec::IntoIter<Bytes>, remaining: u64 },
    Stream(Pin<Box<dyn Stream<Item = Bytes> + Send>>),
    Extra(axum::body::Body),
}

impl Body {
    pub(crate) fn empty() -> Self {
        Self::frames(Vec::new())
    }

    pub(crate) fn frames(mut frames: Vec<Bytes>) -> Self {
        frames.retain(|frame| !frame.is_empty());
        let remaining = frames.iter().map(|frame| frame.len() as u64).sum();
        Self { kind: Kind::Frames { frames: frames.into_iter(), remaining }, permit: None }
    }

    pub(crate) fn text(text: impl Into<Bytes>) -> Self {
        Self::frames(vec![text.into()])
    }

    /// A JSON array of the entries of `parts`, which are comma-separated
    /// already, and then of `last`.
    pub(crate) fn array(parts: Vec<Bytes>, last: Option<String>) -> Self {
        let mut frames = Vec::with_capacity(parts.len() + 3);
        let has_entries = parts.iter().any(|part| !part.is_empty());
        frames.push(Bytes::from_static(b"["));
        frames.extend(parts);
        if let Some(last) = last {
            if has_entries {
                frames.push(Bytes::from_static(b","));
            }
            frames.push(Bytes::from(last));
        }
        frames.push(Bytes::from_static(b"]"));
        Self::frames(frames)
    }

    pub(crate) fn stream(stream: impl Stream<Item = Bytes> + Send + 'static) -> Self {
        Self { kind: Kind::Stream(Box::pin(stream)), permit: None }
    }

    pub(crate) fn extra(body: axum::body::Body) -> Self {
        Self { kind: Kind::Extra(body), permit: None }
    }

    pub(crate) fn holding(mut self, permit: Option<Permit>) -> Self {
        self.permit = permit;
        self
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        match &mut self.kind {
            Kind::Frames { frames, remaining } => Poll::Ready(frames.next().map(|frame| {
                *remaining -= frame.len() as u64;
                Ok(Frame::data(frame))
            })),
            Kind::Stream(stream) => {
                let next = ready!(stream.as_mut().poll_next(context));
                Poll::Ready(next.map(|bytes| Ok(Frame::data(bytes))))
            }
            Kind::Extra(body) => Pin::new(body).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Frames { remaining, .. } => *remaining == 0,
            Kind::Stream(_) => false,
            Kind::Extra(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Frames { remaining, .. } => SizeHint::with_exact(*remaining),
            Kind::Stream(_) => SizeHint::default(),
            Kind::Extra(body) => body.size_hint(),
        }
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Body").field("permit", &self.permit).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use http_body::Body as _;
    use http_body_util::BodyExt;

    use super::*;

    async fn check(parts: &[&'static str], last: Option<&str>, expected: &str) {
        let parts = parts.iter().map(|part| Bytes::from_static(part.as_bytes())).collect();
        let body = Body::array(parts, last.map(str::to_owned));
        assert_eq!(body.size_hint().exact(), Some(expected.len() as u64));
        let bytes = body.collect().await.unwrap().to_bytes();
        assert_eq!(bytes, expected.as_bytes());
    }

    #[tokio::test]
    async fn the_array_is_well_formed_whatever_is_missing() {
        check(&[], None, "[]").await;
        check(&[""], Some("{u}"), "[{u}]").await;
        check(&["{a}"], None, "[{a}]").await;
        check(&["{a},{b", "},{c}"], Some("{u}"), "[{a},{b},{c},{u}]").await;
    }

    #[test]
    fn a_body_without_bytes_is_at_its_end() {
        assert!(Body::empty().is_end_stream());
    }
}

//! Panics as exit reasons, with the place where they happened.
//!
//! The place is known only to the panic hook, and the payload only to whoever
//! catches it; both run on one thread, one after the other, so a thread-local
//! joins them. The hook that was there before still runs.

use std::any::Any;
use std::cell::Cell;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::pin::Pin;
use std::sync::Once;
use std::task::Poll;
use std::time::{Duration, Instant};

use tracing::Span;

use crate::ExitReason;

thread_local! {
    static LOCATION: Cell<Option<String>> = const { Cell::new(None) };
}

pub(crate) fn install_hook() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let previous = take_hook();
        set_hook(Box::new(move |info| {
            LOCATION.set(info.location().map(ToString::to_string));
            previous(info);
        }));
    });
}

/// Runs a future inside a span; a panic in it is a value.
///
/// Takes a pinned reference, since a future moved into another is stored
/// twice, and this wraps every message of every actor.
pub(crate) async fn catch<F: Future>(
    span: &Span,
    mut future: Pin<&mut F>,
) -> Result<F::Output, ExitReason> {
    poll_fn(|context| {
        let poll = AssertUnwindSafe(|| future.as_mut().poll(context));
        match span.in_scope(|| catch_unwind(poll)) {
            Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
            Ok(Poll::Pending) => Poll::Pending,
            Err(payload) => Poll::Ready(Err(reason(payload.as_ref()))),
        }
    })
    .await
}

/// As `catch`, and how long it took, waiting left out; nothing if it is not to
/// be timed.
pub(crate) async fn catch_timed<F: Future>(
    span: &Span,
    mut future: Pin<&mut F>,
    is_timed: bool,
) -> (Result<F::Output, ExitReason>, Duration) {
    let mut time = Duration::ZERO;
    poll_fn(move |context| {
        let begin = is_timed.then(Instant::now);
        let poll = AssertUnwindSafe(|| future.as_mut().poll(context));
        let polled = span.in_scope(|| catch_unwind(poll));
        time += begin.map_or(Duration::ZERO, |begin| begin.elapsed());
        match polled {
            Ok(Poll::Ready(output)) => Poll::Ready((Ok(output), time)),
            Ok(Poll::Pending) => Poll::Pending,
            Err(payload) => Poll::Ready((Err(reason(payload.as_ref())), time)),
        }
    })
    .await
}

pub(crate) fn catch_sync(body: impl FnOnce()) -> Result<(), ExitReason> {
    catch_unwind(AssertUnwindSafe(body)).map_err(|payload| reason(payload.as_ref()))
}

fn reason(payload: &(dyn Any + Send)) -> ExitReason {
    let message = match (payload.downcast_ref::<String>(), payload.downcast_ref::<&str>()) {
        (Some(text), _) => text.clone(),
        (None, Some(text)) => (*text).to_owned(),
        (None, None) => "a payload that is not text".to_owned(),
    };
    ExitReason::Panicked { message, location: LOCATION.take() }
}

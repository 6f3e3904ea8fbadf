//! A live request as a stream of server-sent events.
//!
//! At each up-to-date event the client takes `<global_last_seen_lsn>_0` for its
//! offset, forgetting the operation part. The event carries the transaction
//! part of the end of the log, and it is only sent after whole transactions, so
//! a client that comes back with `N_0` has all of transaction N: it goes on
//! behind it. Taken literally, its offset would send the rest of N again, each
//! time it comes.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::unfold;
use http::StatusCode;
use http::header::{self, HeaderName, HeaderValue};
use shape::{Offset, RequestOffset, up_to_date};
use tokio::time::Instant;

use super::hold::{Hold, Look, Woken};
use super::read::Part;
use crate::response::{Body, Data, Etag, Freshness, Response, data};

/// A stream ends after this long; the client comes back with another cursor.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Below the idle timeouts of proxies.
const KEEP_ALIVE: Duration = Duration::from_secs(21);
const KEEP_ALIVE_FRAME: &[u8] = b": keep-alive\n\n";

#[derive(Debug)]
struct Feed {
    hold: Box<Hold>,
    opened: Instant,
}

pub(super) async fn respond(mut hold: Box<Hold>) -> Response {
    let end = hold.shape.log.end();
    hold.offset = resume(hold.offset, end);
    let is_at_end = match hold.look().await {
        Look::Gone => return hold.rotated().await,
        Look::End(_) => true,
        // A stream that cannot go on ends without a word, and the client asks
        // without one.
        Look::Data(_) | Look::Ahead | Look::Lost(_) | Look::Failed(_) => false,
    };
    let start = match hold.offset {
        RequestOffset::At(offset) => offset,
        RequestOffset::Start | RequestOffset::Now => end,
    };
    let unique = Some(hold.server.etags.next());
    let head = Data {
        handle: &hold.shape.handle,
        end: start,
        schema: None,
        cursor: hold.next_cursor(),
        up_to_date: is_at_end,
        has_data: true,
        etag: Some(Etag { handle: &hold.shape.handle, from: hold.offset, to: start, unique }),
        freshness: Freshness::Sse { timeout: TIMEOUT },
    };
    let mut response = data(StatusCode::OK, &head, Body::empty());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("keep-alive"));
    // Some proxies hold back a stream unless told not to.
    let buffering = HeaderName::from_static("x-accel-buffering");
    headers.insert(buffering, HeaderValue::from_static("no"));
    let feed = Feed { hold, opened: Instant::now() };
    response.map(|_| Body::stream(unfold(feed, Feed::next)))
}

/// Where a stream asked for at `offset` begins, in a log that ends at `end`.
fn resume(offset: RequestOffset, end: Offset) -> RequestOffset {
    match offset {
        RequestOffset::At(Offset { tx, op: 0 }) if (1..=end.tx).contains(&tx) => {
            RequestOffset::At(end.min(Offset::new(tx, u64::MAX)))
        }
        RequestOffset::At(_) | RequestOffset::Start | RequestOffset::Now => offset,
    }
}

impl Feed {
    async fn next(mut self) -> Option<(Bytes, Self)> {
        let ends = self.opened + TIMEOUT;
        let quiet_until = Instant::now() + KEEP_ALIVE;
        let mut ahead_since = None;
        loop {
            let until = match self.hold.look().await {
                Look::Data(part) => {
                    self.hold.offset = RequestOffset::At(part.slice.end);
                    return Some((frames(&part), self));
                }
                Look::End(_) => quiet_until,
                Look::Ahead => {
                    let since = *ahead_since.get_or_insert(Instant::now());
                    since + self.hold.server.config.long_poll_timeout / 2
                }
                Look::Gone | Look::Lost(_) | Look::Failed(_) => return None,
            };
            match self.hold.park(until.min(ends)).await {
                Woken::News => {}
                Woken::TimeIsUp if Instant::now() >= ends || ahead_since.is_some() => return None,
                Woken::TimeIsUp => return Some((Bytes::from_static(KEEP_ALIVE_FRAME), self)),
                Woken::Draining => return None,
            }
        }
    }
}

/// One event for each entry, and up-to-date when they reach the end.
fn frames(part: &Part) -> Bytes {
    let entry_bytes: usize = part.slice.body.iter().map(Bytes::len).sum();
    let mut events = Events {
        text: Vec::with_capacity(entry_bytes + entry_bytes / 8 + 128),
        ..Events::default()
    };
    for bytes in &part.slice.body {
        events.push(bytes);
    }
    if part.slice.at_end {
        events.push(up_to_date(part.slice.end.tx).as_bytes());
    }
    events.text.into()
}

/// Cuts comma-separated JSON objects into events.
#[derive(Debug, Default)]
struct Events {
    text: Vec<u8>,
    depth: usize,
    is_string: bool,
    is_escaped: bool,
}

impl Events {
    fn push(&mut self, json: &[u8]) {
        for &byte in json {
            if self.depth == 0 {
                if byte != b'{' {
                    continue;
                }
                self.text.extend_from_slice(b"data: ");
            }
            self.text.push(byte);
            self.track(byte);
            if self.depth == 0 {
                self.text.extend_from_slice(b"\n\n");
            }
        }
    }

    fn track(&mut self, byte: u8) {
        if self.is_escaped {
            self.is_escaped = false;
            return;
        }
        match (self.is_string, byte) {
            (true, b'\\') => self.is_escaped = true,
            (_, b'"') => self.is_string = !self.is_string,
            (false, b'{' | b'[') => self.depth += 1,
            (false, b'}' | b']') => self.depth -= 1,
            (true | false, _) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_resume(offset: &str, end: &str, expected: &str) {
        let resumed = resume(offset.parse().unwrap(), end.parse().unwrap());
        assert_eq!(resumed.to_string(), expected, "{offset} in a log up to {end}");
    }

    #[test]
    fn a_stream_goes_on_behind_the_transaction_its_client_has() {
        check_resume("7_0", "7_4", "7_4");
        check_resume("7_0", "7_0", "7_0");
        check_resume("7_0", "9_2", "7_inf");
        check_resume("7_2", "7_4", "7_2");
        check_resume("8_0", "7_4", "8_0");
        check_resume("0_0", "7_4", "0_0");
        check_resume("0_inf", "0_inf", "0_inf");
    }

    #[test]
    fn each_entry_is_an_event_wherever_the_bytes_are_cut() {
        let json = r#"{"key":"a}\"{","value":{"a":[1,{}]}},{"key":"\\"}"#;
        let expected =
            "data: {\"key\":\"a}\\\"{\",\"value\":{\"a\":[1,{}]}}\n\ndata: {\"key\":\"\\\\\"}\n\n";
        for cut in 0..json.len() {
            let mut events = Events::default();
            events.push(&json.as_bytes()[..cut]);
            events.push(&json.as_bytes()[cut..]);
            assert_eq!(String::from_utf8(events.text).unwrap(), expected, "cut at {cut}");
        }
    }
}

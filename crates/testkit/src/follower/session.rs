//! The requests of a follower, one after the other.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;
use serde_json::value::RawValue;

use super::message::{Message, parse_offset};
use super::state::{State, digest};
use super::{Query, Rotation, Shared};
use crate::http::{Http, Reply};
use crate::wait;

/// Between a failed request and the next. A real client is slower.
const RETRY_PAUSE: Duration = Duration::from_millis(25);
/// Closed chunks remembered for a second reading.
const CLOSED_KEPT: usize = 64;
/// One request in so many is followed by a second reading of a closed chunk.
const REFETCH_ONE_IN: u32 = 6;

#[derive(Debug)]
pub(super) struct Session {
    http: Http,
    query: Query,
    shared: Arc<Shared>,
    position: Position,
    /// URLs whose bytes must never change, with a digest of the bytes.
    closed: Vec<(String, u64)>,
    rng: StdRng,
}

#[derive(Clone, Debug)]
struct Position {
    handle: Option<String>,
    offset: String,
    cursor: Option<String>,
    live: bool,
}

impl Position {
    fn beginning() -> Self {
        Self { handle: None, offset: "-1".to_owned(), cursor: None, live: false }
    }
}

/// A reply that ends the session: no client would go on.
struct Terminal(String);

impl Session {
    pub(super) fn new(base: &str, query: Query, shared: Arc<Shared>) -> Self {
        let rng = rand::make_rng();
        let (http, position) = (Http::new(base), Position::beginning());
        Self { http, query, shared, position, closed: Vec::new(), rng }
    }

    pub(super) async fn run(mut self) {
        loop {
            if let Err(Terminal(fault)) = self.step().await {
                self.shared.view().fault(fault);
                self.shared.changed.send_replace(());
                return;
            }
            self.shared.changed.send_replace(());
            if self.rng.random_ratio(1, REFETCH_ONE_IN) {
                self.refetch().await;
            }
        }
    }

    fn path(&self) -> String {
        let Position { handle, offset, cursor, live } = &self.position;
        let mut path = format!("/v1/shape?{}&offset={offset}", self.query.parameters());
        if let Some(handle) = handle {
            path.push_str(&format!("&handle={handle}"));
        }
        if *live {
            path.push_str(&format!("&live=true&cursor={}", cursor.as_deref().unwrap_or("")));
        }
        path
    }

    async fn step(&mut self) -> Result<(), Terminal> {
        let path = self.path();
        let reply = self.http.try_get(&path).await;
        match reply {
            Ok(reply) if reply.status == 200 => self.take(&path, &reply),
            Ok(reply) if reply.status == 409 => {
                self.rotate(&reply);
                Ok(())
            }
            Ok(reply) if reply.status >= 500 || reply.status == 429 => {
                self.pause().await;
                Ok(())
            }
            Ok(reply) => Err(Terminal(format!("{} for {path}: {}", reply.status, reply.text()))),
            Err(_) => {
                self.pause().await;
                Ok(())
            }
        }
    }

    async fn pause(&self) {
        self.shared.view().retry_count += 1;
        wait::pace(RETRY_PAUSE).await;
    }

    fn rotate(&mut self, reply: &Reply) {
        let mut view = self.shared.view();
        let successor = reply.header("electric-handle").map(ToOwned::to_owned);
        let handle = self.position.handle.take();
        let offset = std::mem::take(&mut self.position.offset);
        if reply.text() != r#"[{"headers":{"control":"must-refetch"}}]"# {
            view.fault(format!("body of a 409: {}", reply.text()));
        }
        if successor.is_some() && successor == handle {
            view.fault(format!("a 409 with the handle {handle:?} that it ends"));
        }
        view.rotations.push(Rotation { handle, offset, successor });
        let old = std::mem::take(&mut view.state);
        for fault in old.faults() {
            view.fault(fault.clone());
        }
        self.position = Position::beginning();
        self.closed.clear();
    }

    fn take(&mut self, path: &str, reply: &Reply) -> Result<(), Terminal> {
        let raw: Vec<&RawValue> = serde_json::from_slice(&reply.body)
            .map_err(|error| Terminal(format!("{error} in the body of {path}")))?;
        let mut messages = Vec::with_capacity(raw.len());
        for raw in raw {
            let message: Message = serde_json::from_str(raw.get())
                .map_err(|error| Terminal(format!("{error} in {} of {path}", raw.get())))?;
            messages.push((message, raw.get().as_bytes()));
        }
        let next = next_position(&self.position, reply)
            .map_err(|fault| Terminal(format!("{fault} in the headers of {path}")))?;

        let mut view = self.shared.view();
        if self.position.handle.is_none() {
            view.state = State::default();
            view.state.describe(key_columns(reply));
        }
        for fault in check_reply(&self.position, reply, &messages) {
            view.fault(format!("{fault} for {path}"));
        }
        for (message, raw) in messages {
            match message.headers.control.as_deref() {
                None => view.state.apply(message, raw),
                Some("up-to-date") => view.state.up_to_date(),
                Some("snapshot-end") => {}
                Some(other) => view.fault(format!("control {other} in the body of {path}")),
            }
        }
        if next.live {
            view.up_to_date_count += 1;
        } else if !self.position.live && self.closed.len() < CLOSED_KEPT {
            self.closed.push((path.to_owned(), digest(&reply.body)));
        }
        view.handle.clone_from(&next.handle);
        view.offset.clone_from(&next.offset);
        drop(view);
        self.position = next;
        Ok(())
    }

    /// Reads a closed chunk again: the same bytes, as long as the handle lives.
    async fn refetch(&mut self) {
        if self.closed.is_empty() {
            return;
        }
        let index = self.rng.random_range(0..self.closed.len());
        let (path, expected) = &self.closed[index];
        let Ok(reply) = self.http.try_get(path).await else { return };
        if reply.status != 200 || reply.header("electric-handle") != self.position.handle.as_deref()
        {
            return;
        }
        let mut view = self.shared.view();
        view.refetch_count += 1;
        if digest(&reply.body) != *expected {
            view.fault(format!("other bytes on a second reading of {path}"));
        }
    }
}

fn next_position(position: &Position, reply: &Reply) -> Result<Position, String> {
    let handle = reply.header("electric-handle").ok_or("no electric-handle")?;
    let offset = reply.header("electric-offset").ok_or("no electric-offset")?;
    if let Some(current) = &position.handle
        && current != handle
    {
        return Err(format!("handle {handle} where {current} was asked for"));
    }
    Ok(Position {
        handle: Some(handle.to_owned()),
        offset: offset.to_owned(),
        cursor: reply.header("electric-cursor").map(ToOwned::to_owned),
        live: position.live || reply.is_up_to_date(),
    })
}

/// What the headers say that the messages do not bear out.
fn check_reply(position: &Position, reply: &Reply, messages: &[(Message, &[u8])]) -> Vec<String> {
    let mut faults = Vec::new();
    let end = reply.header("electric-offset").and_then(parse_offset);
    let places: Vec<_> =
        messages.iter().filter_map(|(message, _)| message.place().ok().flatten()).collect();
    match (end, places.last()) {
        (None, _) => faults.push("the offset is no place".to_owned()),
        (Some(end), Some(last)) if end != *last => {
            faults.push(format!("offset {end:?} after the change {last:?}"));
        }
        (Some(end), None) if end.0 > 0 && Some(end) != parse_offset(&position.offset) => {
            faults.push(format!("offset {end:?} and no change from {}", position.offset));
        }
        (Some(_), _) => {}
    }
    if let (Some(from), Some(first)) = (parse_offset(&position.offset), places.first())
        && *first <= from
    {
        faults.push(format!("the change {first:?} was already seen"));
    }
    let controls: Vec<_> = messages
        .iter()
        .map(|(message, _)| message.headers.control.as_deref() == Some("up-to-date"))
        .collect();
    let at_end = controls.last() == Some(&true);
    if at_end != reply.is_up_to_date() || controls.iter().filter(|control| **control).count() > 1 {
        faults.push("header and message up-to-date disagree".to_owned());
    }
    let (wanted, unwanted) = if position.live {
        ("electric-cursor", "electric-schema")
    } else {
        ("electric-schema", "electric-cursor")
    };
    if reply.header(wanted).is_none() || reply.header(unwanted).is_some() {
        faults.push(format!("{wanted} is missing or {unwanted} is there"));
    }
    faults.extend(check_seen_lsn(position, end, messages, !places.is_empty()));
    faults
}

/// The LSN of an up-to-date message (protocol §4.5).
fn check_seen_lsn(
    position: &Position,
    end: Option<super::Place>,
    messages: &[(Message, &[u8])],
    has_changes: bool,
) -> Option<String> {
    let (message, _) = messages.last()?;
    if message.headers.control.as_deref() != Some("up-to-date") {
        return None;
    }
    let text = message.headers.global_last_seen_lsn.as_deref();
    let Some(lsn) = text.and_then(|text| text.parse::<u64>().ok()) else {
        return Some(format!("global_last_seen_lsn {text:?}"));
    };
    let end = end?.0;
    let wrong = if position.live && has_changes { lsn != end } else { lsn < end };
    wrong.then(|| format!("global_last_seen_lsn {lsn} at offset {end}"))
}

/// The primary key's columns in its order, from the schema header.
fn key_columns(reply: &Reply) -> Vec<String> {
    let schema: serde_json::Value = reply
        .header("electric-schema")
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default();
    let mut columns: Vec<(u64, String)> = schema
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(name, column)| Some((column["pk_index"].as_u64()?, name.clone())))
        .collect();
    columns.sort();
    columns.into_iter().map(|(_, name)| name).collect()
}

//! What happened in ours, in order: what workers note, and reports.

use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Metadata, Subscriber};

#[derive(Clone, Debug, Default)]
pub(crate) struct Record(Arc<Mutex<Vec<String>>>);

impl Record {
    pub(crate) fn note(&self, line: String) {
        self.0.lock().unwrap().push(line);
    }

    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// Hears supervisor reports only.
pub(crate) struct Reports {
    record: Record,
}

#[derive(Default)]
struct Fields {
    context: String,
    actor: String,
    reason: String,
    offender: String,
}

impl Reports {
    pub(crate) fn new(record: &Record) -> Self {
        Self { record: record.clone() }
    }
}

impl Subscriber for Reports {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && metadata.target() == "supervision::report"
    }

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        if let Some(line) = fields.line() {
            self.record.note(line);
        }
    }

    fn new_span(&self, _span: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _span: &Id, _values: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}
    fn enter(&self, _span: &Id) {}
    fn exit(&self, _span: &Id) {}
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let text = format!("{value:?}");
        match field.name() {
            "context" => self.context = text.trim_matches('"').to_owned(),
            "actor" => self.actor = text,
            "reason" => self.reason = text,
            "offender" => self.offender = text,
            _ => {}
        }
    }
}

impl Fields {
    fn line(&self) -> Option<String> {
        let id = last(&self.actor);
        // The root is nobody's child in OTP's half.
        let is_guardians = id == "guardian" || id == "root";
        match self.context.as_str() {
            "progress" if id.starts_with('s') || id == "root" => Some(format!("up {id}")),
            "shutdown" if id != "guardian" => {
                Some(format!("report shutdown {id} {}", last(&self.offender)))
            }
            "start_error" if !is_guardians => Some(format!("report start_error {id}")),
            "child_terminated" | "shutdown_error" if !is_guardians => {
                Some(format!("report {} {id} {}", self.context, class(&self.reason)))
            }
            _ => None,
        }
    }
}

fn last(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn class(reason: &str) -> &'static str {
    match reason {
        "normal" => "normal",
        text if text.starts_with("shutdown") => "shutdown",
        text if text.starts_with("killed") => "killed",
        _ => "other",
    }
}

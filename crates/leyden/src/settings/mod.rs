//! Every setting: its name, its default and its one line of help.
//!
//! Nothing else in Leyden knows a name or a default. A setting's variable is
//! its field's name in capitals after `LEYDEN_`; the peer's `ELECTRIC_` with
//! the same name is its alias. What the fields mean to each other is checked
//! in `check`, which also makes the configs of the components.

mod check;
mod command;
mod environment;
mod markdown;
mod peer;
mod refusal;
#[cfg(test)]
mod tests;
mod values;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

pub(crate) use check::Settings;
pub(crate) use command::{Command, Demo, parse, serve};
pub(crate) use environment::process as environment;
pub(crate) use markdown::markdown;
pub(crate) use refusal::{EXIT_CODE, Refusal};
use values::{Level, Limits, bytes, milliseconds, seconds};

use crate::logging::Format;

/// Durations are `20s`, `500ms`, `1m`; a bare number is milliseconds, and
/// seconds where the help says so.
#[derive(Args, Clone, Debug)]
pub(crate) struct Serve {
    /// Postgres to replicate from, `postgres://user:password@host:port/database?sslmode=…`.
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,

    /// Certificate authority that must have signed the database's certificate, a PEM file.
    #[arg(long, value_name = "PATH")]
    database_ca_certificate_file: Option<PathBuf>,

    /// Connections for catalog queries and snapshots together, at least 2.
    #[arg(long, value_name = "COUNT", default_value = "20", value_parser = values::pool_size)]
    db_pool_size: usize,

    /// Ends the names of the slot (`electric_slot_…`) and the publication (`electric_publication_…`).
    #[arg(long, value_name = "NAME", default_value = "default")]
    replication_stream_id: String,

    /// Must stay `false`: Leyden adds tables to its publication itself.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true")]
    manual_table_publishing: bool,

    /// What every request must carry as the parameter `secret`.
    #[arg(long, value_name = "TEXT")]
    secret: Option<String>,

    /// Serve without a secret.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true")]
    insecure: bool,

    /// Port of the HTTP API; 0 takes a free one.
    #[arg(long, value_name = "PORT", default_value = "3000")]
    port: u16,

    /// Listen on all IPv6 addresses (`[::]`) rather than on all IPv4 ones.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true")]
    listen_on_ipv6: bool,

    /// A client that takes no bytes for this long loses its connection.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = milliseconds)]
    tcp_send_timeout: Duration,

    /// A client that has not sent its whole request in this time loses its connection.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = milliseconds)]
    tcp_read_timeout: Duration,

    /// Open connections; past this, new ones wait to be accepted.
    #[arg(long, value_name = "COUNT", default_value = "20000", value_parser = values::count)]
    connections_max: usize,

    /// How long a live request without news is held.
    #[arg(long, value_name = "DURATION", default_value = "20s", value_parser = milliseconds)]
    long_poll_timeout: Duration,

    /// `max-age` of cacheable replies; a bare number is seconds.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = seconds)]
    cache_max_age: Duration,

    /// `stale-while-revalidate` of cacheable replies; a bare number is seconds.
    #[arg(long, value_name = "DURATION", default_value = "300s", value_parser = seconds)]
    cache_stale_age: Duration,

    /// A chunk of a shape's log is closed by the entry that reaches this size; a bare number is bytes.
    #[arg(long, value_name = "BYTES", default_value = "10485760", value_parser = bytes)]
    shape_chunk_bytes_threshold: usize,

    /// Shape requests in progress, past which the answer is 503.
    #[arg(long, value_name = "JSON", default_value = r#"{"initial":300,"existing":10000}"#)]
    max_concurrent_requests: Limits,

    /// Let clients delete shapes and tests kill actors. Not for production.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true")]
    enable_integration_testing: bool,

    /// Holds the journal and all shapes; one process at a time.
    #[arg(long, value_name = "PATH", default_value = "./persistent")]
    storage_dir: PathBuf,

    /// A journal file is closed at this size, and removed whole once no shape needs it.
    #[arg(long, value_name = "BYTES", default_value = "64MiB", value_parser = bytes)]
    journal_segment_bytes: usize,

    /// Changes between Postgres and the disk; past this Leyden stops reading and Postgres keeps them.
    #[arg(long, value_name = "BYTES", default_value = "64MiB", value_parser = bytes)]
    buffered_bytes_max: usize,

    /// `error`, `warning`, `info`, `debug`, `trace`, or directives such as `info,pg=debug`.
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log_level: Level,

    /// `text`, `json`, or `auto`: text on a terminal, JSON otherwise.
    #[arg(long, value_name = "FORMAT", default_value = "auto", value_parser = values::format)]
    log_format: Format,

    /// Colours in text logs on a terminal.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true")]
    log_colors: bool,
}

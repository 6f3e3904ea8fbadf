//! What settings mean together, and what they are to the components.

use std::fs::File;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use clap::ArgMatches;
use pg::{RootCertificates, SslMode};

use super::{Refusal, Serve, environment};
use crate::logging;

/// How long a request waits for the engine to come up before its 503.
const READY_WAIT: Duration = Duration::from_secs(5);
/// What Postgres leaves of 63 bytes beside `electric_publication_`.
const STREAM_ID_BYTES_MAX: usize = 40;

/// Checked, and in the form in which the components take them.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) engine: engine::Config,
    pub(crate) api: api::Config,
    pub(crate) logging: logging::Config,
    /// Whether actors can be looked at and killed over HTTP.
    pub(crate) is_testing: bool,
    /// `name=value` of every setting, secrets hidden.
    pub(crate) effective: String,
    /// Variables without effect, each with the reason.
    pub(crate) ignored: Vec<String>,
}

pub(super) fn settings(
    serve: Serve,
    values: &ArgMatches,
    ignored: Vec<String>,
) -> Result<Settings, Refusal> {
    let database = database(&serve)?;
    let secret = secret(&serve)?;
    if serve.manual_table_publishing {
        return Err(Refusal::ManualPublishing);
    }
    if serve.long_poll_timeout.is_zero() {
        return Err(Refusal::NoLongPoll);
    }
    Ok(Settings {
        effective: effective(values, &database),
        engine: engine(&serve, database)?,
        api: api(&serve, secret),
        logging: logging::Config {
            targets: serve.log_level.0,
            format: serve.log_format,
            has_colours: serve.log_colors,
        },
        is_testing: serve.enable_integration_testing,
        ignored,
    })
}

fn database(serve: &Serve) -> Result<pg::Config, Refusal> {
    let url = serve.database_url.as_deref().filter(|url| !url.is_empty());
    let mut config: pg::Config = match url.ok_or(Refusal::NoDatabase)?.parse() {
        Ok(config) => config,
        Err(error) => return Err(Refusal::Database { reason: error.to_string() }),
    };
    let Some(path) = &serve.database_ca_certificate_file else { return Ok(config) };
    check_file(path)?;
    let authority = RootCertificates::File(path.clone());
    if config.ssl_root_cert.as_ref().is_some_and(|other| *other != authority) {
        return Err(Refusal::Certificates);
    }
    config.ssl_mode = match config.ssl_mode {
        SslMode::Disable => return Err(Refusal::CertificateWithoutTls),
        // Who names an authority wants the certificate checked, as the peer does.
        SslMode::Allow | SslMode::Prefer | SslMode::Require => SslMode::VerifyFull,
        mode @ (SslMode::VerifyCa | SslMode::VerifyFull) => mode,
    };
    config.ssl_root_cert = Some(authority);
    Ok(config)
}

fn check_file(path: &Path) -> Result<(), Refusal> {
    let refused = |reason: &dyn std::fmt::Display| Refusal::CertificateFile {
        path: path.display().to_string(),
        reason: reason.to_string(),
    };
    let file = File::open(path).map_err(|error| refused(&error))?;
    let facts = file.metadata().map_err(|error| refused(&error))?;
    if facts.is_file() { Ok(()) } else { Err(refused(&"it is not a file")) }
}

fn secret(serve: &Serve) -> Result<Option<api::Secret>, Refusal> {
    let secret = serve.secret.as_deref().filter(|secret| !secret.is_empty());
    match (secret, serve.insecure) {
        (Some(_), true) => Err(Refusal::SecretAndInsecure),
        (None, false) => Err(Refusal::NoSecret),
        (secret, _) => Ok(secret.map(api::Secret::new)),
    }
}

fn engine(serve: &Serve, database: pg::Config) -> Result<engine::Config, Refusal> {
    let id = &serve.replication_stream_id;
    let is_allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_');
    if id.is_empty() || id.len() > STREAM_ID_BYTES_MAX || !id.bytes().all(is_allowed) {
        return Err(Refusal::StreamId { id: id.clone() });
    }
    // Catalog queries are short; snapshots are what fills a pool.
    let admin_pool_size = (serve.db_pool_size / 4).max(1);
    Ok(engine::Config {
        database,
        storage_dir: serve.storage_dir.clone(),
        slot: format!("electric_slot_{id}"),
        publication: format!("electric_publication_{id}"),
        chunk_bytes_max: serve.shape_chunk_bytes_threshold,
        journal_segment_bytes: serve.journal_segment_bytes as u64,
        buffered_bytes_max: serve.buffered_bytes_max,
        admin_pool_size,
        snapshot_pool_size: serve.db_pool_size - admin_pool_size,
    })
}

fn api(serve: &Serve, secret: Option<api::Secret>) -> api::Config {
    let address = if serve.listen_on_ipv6 {
        SocketAddr::from((Ipv6Addr::UNSPECIFIED, serve.port))
    } else {
        SocketAddr::from((Ipv4Addr::UNSPECIFIED, serve.port))
    };
    api::Config {
        address,
        bound: api::Bound::default(),
        secret,
        allow_shape_deletion: serve.enable_integration_testing,
        long_poll_timeout: serve.long_poll_timeout,
        cache_max_age: serve.cache_max_age,
        cache_stale_age: serve.cache_stale_age,
        max_concurrent: api::MaxConcurrent {
            initial: serve.max_concurrent_requests.initial,
            existing: serve.max_concurrent_requests.existing,
        },
        ready_wait: READY_WAIT,
        tcp_send_timeout: serve.tcp_send_timeout,
        tcp_read_timeout: serve.tcp_read_timeout,
        acceptors: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        connections_max: serve.connections_max,
        extra: None,
    }
}

/// Every setting as it is in force, on one line.
fn effective(values: &ArgMatches, database: &pg::Config) -> String {
    let serve = super::command::plain_serve();
    let shown = environment::ids(&serve).filter_map(|id| {
        let value = values.get_raw(&id)?.next_back()?.to_string_lossy();
        let value = match id.as_str() {
            "database_url" => database.redacted(),
            "secret" => "***".to_owned(),
            _ => value.into_owned(),
        };
        Some(format!("{id}={value}"))
    });
    shown.collect::<Vec<_>>().join(" ")
}

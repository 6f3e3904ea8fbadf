//! Everything that can go wrong with Postgres, and what would heal it.
//!
//! Two questions are answered here and nowhere else: what is wrong (the text),
//! and whether waiting helps, an operator must act, or the slot is gone
//! ([`Error::class`]). The tables have no `_` arm, so that a new error does not
//! compile until somebody decides. Whoever asks decides when to try again.

use std::fmt;
use std::io;

use crate::login_error::LoginError;
use crate::server_error::{Condition, ServerError, pooler, wal_level};
use crate::sql::{quote_identifier, quote_literal};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the database URL is not usable: {reason}")]
    DatabaseUrl { reason: String },
    #[error("cannot resolve host \"{host}\"")]
    Resolve { host: String, source: io::Error },
    #[error("cannot connect to {address}")]
    Connect { address: String, source: io::Error },
    #[error("no answer from {address} within the deadline for {phase}")]
    Timeout { address: String, phase: Phase },
    #[error("the TLS handshake failed")]
    Tls { source: io::Error },
    #[error(transparent)]
    Login(#[from] LoginError),
    #[error("postgres reported: {0}")]
    Server(Box<ServerError>),
    #[error("the connection to postgres failed")]
    Io(#[source] io::Error),
    #[error("the server closed the connection")]
    Closed,
    #[error("the server ended the replication stream")]
    StreamEnded,
    /// Bytes that the protocol does not allow here.
    #[error("postgres sent something unexpected: {reason}")]
    Protocol { reason: String },
    #[error("the query client failed: {reason}")]
    Client { reason: String },
    #[error("wal_level is \"{wal_level}\", and logical replication needs \"logical\"")]
    WalLevel { wal_level: String },
    #[error("publication \"{publication}\" does not publish {missing}")]
    PublicationOperations { publication: String, missing: String },
    #[error("replication slot \"{slot}\" was made for {found}")]
    SlotNotOurs { slot: String, found: String },
    #[error("replication slot \"{slot}\" is lost: {reason}")]
    SlotLost { slot: String, reason: String },
    #[error("table {schema}.{name} does not exist any more")]
    TableMissing { schema: String, name: String },
    #[error("a connection pooler answered, and its sessions cannot hold a lock")]
    Pooler,
    #[error("transactions of backends {pids:?} still hold locks on {table} after the deadline")]
    Lockers { table: String, pids: Vec<i32> },
}

/// What an attempt to connect was doing when its time ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Resolve,
    Connect,
    Tls,
    Login,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Resolve => "name resolution",
            Self::Connect => "the TCP connection",
            Self::Tls => "the TLS handshake",
            Self::Login => "the login",
        })
    }
}

/// What helps against an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Class {
    /// Time, or another connection.
    Retry,
    /// An operator, who is told exactly what to do.
    Blocked { code: &'static str, remedy: String },
    /// A new slot, and with it new shapes.
    SlotLost,
}

impl Error {
    pub fn class(&self) -> Class {
        let blocked = |code, remedy: &str| Class::Blocked { code, remedy: remedy.to_owned() };
        match self {
            Self::Server(error) => error.class(),
            Self::Login(error) => error.class(),
            Self::SlotLost { .. } => Class::SlotLost,
            Self::Connect { .. }
            | Self::Timeout { .. }
            | Self::Tls { .. }
            | Self::Io(_)
            | Self::Closed
            | Self::StreamEnded
            | Self::Protocol { .. }
            | Self::Client { .. }
            | Self::TableMissing { .. }
            | Self::Lockers { .. } => Class::Retry,
            // The resolver itself being out of reach; std keeps the code to itself.
            Self::Resolve { source, .. } if is_temporary(source) => Class::Retry,
            Self::Resolve { host, .. } => blocked(
                "unknown_host",
                &format!("check the host \"{host}\" in DATABASE_URL, and the DNS of this machine"),
            ),
            Self::DatabaseUrl { .. } => blocked(
                "bad_database_url",
                "set DATABASE_URL to postgres://user:password@host:5432/database, \
                 with special characters percent-encoded",
            ),
            Self::WalLevel { .. } => wal_level(),
            Self::Pooler => pooler(),
            Self::PublicationOperations { publication, .. } => blocked(
                "publication_incomplete",
                &format!(
                    "ALTER PUBLICATION {} SET (publish = 'insert, update, delete, truncate');",
                    quote_identifier(publication)
                ),
            ),
            Self::SlotNotOurs { slot, .. } => blocked(
                "slot_not_ours",
                &format!(
                    "if nothing else uses it: SELECT pg_drop_replication_slot({}); \
                     otherwise choose another replication stream id",
                    quote_literal(slot)
                ),
            ),
        }
    }

    /// The server's error code, when it was the server that said no.
    pub fn sqlstate(&self) -> Option<&str> {
        match self.server() {
            Some(error) => Some(&error.sqlstate),
            None => None,
        }
    }

    /// The condition the server reported, when it was the server that said no.
    pub fn condition(&self) -> Option<Condition> {
        self.server().map(ServerError::condition)
    }

    fn server(&self) -> Option<&ServerError> {
        if let Self::Server(error) = self { Some(error) } else { None }
    }

    pub(crate) fn protocol(reason: impl Into<String>) -> Self {
        Self::Protocol { reason: reason.into() }
    }
}

impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Self {
        if let Some(reported) = error.as_db_error() {
            return Self::Server(Box::new(reported.into()));
        }
        if error.is_closed() {
            return Self::Closed;
        }
        let cause = std::error::Error::source(&error);
        match cause.and_then(|cause| cause.downcast_ref::<io::Error>()) {
            Some(cause) => Self::Io(io::Error::new(cause.kind(), cause.to_string())),
            None => Self::Client { reason: error.to_string() },
        }
    }
}

/// `EAI_AGAIN`, as glibc and as musl put it.
fn is_temporary(error: &io::Error) -> bool {
    let text = error.to_string();
    text.contains("Temporary failure") || text.contains("Try again")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server_error::Login;

    #[track_caller]
    fn check(sqlstate: &str, message: &str, expected: &str) {
        let error = Error::Server(Box::new(ServerError {
            sqlstate: sqlstate.to_owned(),
            message: message.to_owned(),
            login: Some(Login { user: "ann".to_owned(), database: "shop".to_owned() }),
            ..ServerError::default()
        }));
        let class = match error.class() {
            Class::Retry => "retry".to_owned(),
            Class::SlotLost => "slot lost".to_owned(),
            Class::Blocked { code, remedy } => format!("{code}: {remedy}"),
        };
        assert!(class.starts_with(expected), "{sqlstate} {message}: {class}");
    }

    #[test]
    fn what_postgres_reports_has_a_class_and_a_remedy() {
        check("28P01", "password authentication failed", "wrong_password: correct the password");
        check("28000", "no pg_hba.conf entry for host, no encryption", "tls_required: put sslmode");
        check("28000", "no pg_hba.conf entry for host", "login_refused: allow user \"ann\"");
        check("3D000", "database \"shop\" does not exist", "no_such_database: correct the data");
        check(
            "42501",
            "must be superuser or replication role to start walsender",
            "replication_privilege_missing: ALTER ROLE \"ann\" WITH REPLICATION;",
        );
        check("42501", "must be owner of table x", "privilege_missing: make role \"ann\"");
        check(
            "55000",
            "logical decoding requires wal_level >= logical",
            "wal_level_not_logical: ALTER SYSTEM SET wal_level = 'logical'; then restart Postgres",
        );
        check("55000", "can no longer access replication slot \"s\"", "slot lost");
        check("42704", "replication slot \"s\" does not exist", "slot lost");
        check("42704", "publication \"p\" does not exist", "retry");
        check("55006", "replication slot \"s\" is active for PID 7", "retry");
        check("53300", "sorry, too many clients already", "retry");
        check("53400", "all replication slots are in use", "replication_slots_exhausted: ALTER");
        check("57P01", "terminating connection", "retry");
        check("57P03", "the database system is starting up", "retry");
        check("08P01", "unsupported startup parameter: bytea_output", "pooler_refused: name");
        check("XX000", "anything else", "retry");
    }

    #[test]
    fn an_invalidated_slot_is_recognised_by_its_detail() {
        let error = ServerError {
            sqlstate: "55000".to_owned(),
            message: "cannot read from logical replication slot \"x\"".to_owned(),
            detail: Some(
                "This slot has been invalidated because it exceeded the maximum reserved size."
                    .to_owned(),
            ),
            ..ServerError::default()
        };
        assert_eq!(Error::Server(Box::new(error)).class(), Class::SlotLost);
    }

    #[test]
    fn our_own_errors_say_the_exact_statement() {
        let source = io::Error::other("Name or service not known");
        let error = Error::Resolve { host: "nowhere".into(), source };
        assert!(matches!(error.class(), Class::Blocked { code: "unknown_host", .. }));
        assert_eq!(Error::Closed.class(), Class::Retry);
    }
}

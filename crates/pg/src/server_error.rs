//! What Postgres reported, and which of the known conditions it is.
//!
//! SQLSTATE decides first. Text decides only between conditions that share a
//! SQLSTATE, by words that Postgres does not translate or that the manual
//! fixes, since `lc_messages` is the operator's to choose.

use std::fmt;

use crate::error::Class;
use crate::sql::quote_identifier;

/// An ErrorResponse (Postgres manual, "Error and Notice Message Fields").
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerError {
    pub severity: String,
    /// Five characters.
    pub sqlstate: String,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
    /// The function in Postgres' source that raised it.
    pub routine: Option<String>,
    /// Who we were logged in as, for the remedy; absent when the driver that
    /// received the error did not know.
    pub login: Option<Login>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    pub user: String,
    pub database: String,
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (SQLSTATE {})", self.message, self.sqlstate)?;
        match &self.detail {
            Some(detail) => write!(f, ": {detail}"),
            None => Ok(()),
        }
    }
}

/// The conditions that are told apart; each has its row in `error.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    WrongPassword,
    /// `pg_hba.conf` has no entry for an unencrypted connection.
    TlsRequired,
    /// No entry in `pg_hba.conf`, no such role, no right to log in.
    LoginRefused,
    NoSuchDatabase,
    ReplicationPrivilege,
    /// Not the owner of a table, or no right to use it.
    Privilege,
    WalLevel,
    /// The server is a standby, or was made read-only.
    ReadOnly,
    SlotInvalidated,
    SlotMissing,
    SlotInUse,
    SlotLimit,
    WalSenderLimit,
    ConnectionLimit,
    PublicationMissing,
    /// The table went away or changed between two looks.
    ObjectMissing,
    ObjectExists,
    /// A pooler that does not take our session settings.
    StartupParameter,
    ShuttingDown,
    StartingUp,
    DiskFull,
    LockTimeout,
    Cancelled,
    Conflict,
    ConnectionLost,
    Other,
}

impl ServerError {
    /// Parses the body of an ErrorResponse or NoticeResponse. Fields it does
    /// not know are skipped, as the protocol asks; damage gives what was read.
    pub(crate) fn parse(mut body: &[u8], login: Option<Login>) -> Self {
        let mut error = Self { login, ..Self::default() };
        while let Some((&kind, rest)) = body.split_first() {
            let Some(end) = memchr::memchr(0, rest) else { break };
            let text = String::from_utf8_lossy(&rest[..end]).into_owned();
            match kind {
                b'S' if error.severity.is_empty() => error.severity = text,
                b'V' => error.severity = text,
                b'C' => error.sqlstate = text,
                b'M' => error.message = text,
                b'D' => error.detail = Some(text),
                b'H' => error.hint = Some(text),
                b'R' => error.routine = Some(text),
                _ => {}
            }
            body = &rest[end + 1..];
        }
        error
    }

    pub fn condition(&self) -> Condition {
        match self.sqlstate.as_str() {
            "28P01" => Condition::WrongPassword,
            "28000" if self.says("no encryption") => Condition::TlsRequired,
            "28000" => Condition::LoginRefused,
            "3D000" => Condition::NoSuchDatabase,
            "42501" if self.says_replication() => Condition::ReplicationPrivilege,
            "42501" => Condition::Privilege,
            "25006" => Condition::ReadOnly,
            "55000" => self.prerequisite(),
            "0A000" if self.says("recovery") || self.says("wal_level") => self.prerequisite(),
            "55006" => Condition::SlotInUse,
            "53400" => Condition::SlotLimit,
            "53300" if self.says("max_wal_senders") => Condition::WalSenderLimit,
            "53300" => Condition::ConnectionLimit,
            "42704" if self.says("publication") && !self.says("relation") => {
                Condition::PublicationMissing
            }
            "42704" if self.says("replication slot") => Condition::SlotMissing,
            "42704" | "42P01" | "42703" | "3F000" => Condition::ObjectMissing,
            "42710" | "42P07" => Condition::ObjectExists,
            "08P01" if self.says("startup parameter") => Condition::StartupParameter,
            "57P01" | "57P02" => Condition::ShuttingDown,
            "57P03" => Condition::StartingUp,
            "53100" => Condition::DiskFull,
            "55P03" => Condition::LockTimeout,
            "57014" | "25P03" | "57P05" => Condition::Cancelled,
            "40001" | "40P01" => Condition::Conflict,
            state if state.starts_with("08") => Condition::ConnectionLost,
            _ => Condition::Other,
        }
    }

    /// `object_not_in_prerequisite_state` covers four unlike things.
    fn prerequisite(&self) -> Condition {
        let invalidated = ["invalidated", "can no longer access", "can no longer get changes"];
        if self.says("wal_level") {
            Condition::WalLevel
        } else if self.says("recovery") {
            Condition::ReadOnly
        } else if invalidated.iter().any(|text| self.says(text)) {
            Condition::SlotInvalidated
        } else {
            Condition::Other
        }
    }

    /// Postgres 14–15 say "replication role", later ones "REPLICATION attribute".
    fn says_replication(&self) -> bool {
        ["replication role", "REPLICATION attribute", "replication slots", "WAL sender"]
            .iter()
            .any(|text| self.says(text))
    }

    fn says(&self, text: &str) -> bool {
        self.message.contains(text)
            || self.detail.as_ref().is_some_and(|detail| detail.contains(text))
    }
}

pub(crate) fn wal_level() -> Class {
    Class::Blocked {
        code: "wal_level_not_logical",
        remedy: "ALTER SYSTEM SET wal_level = 'logical'; then restart Postgres".to_owned(),
    }
}

pub(crate) fn pooler() -> Class {
    Class::Blocked {
        code: "pooler_refused",
        remedy: "name Postgres itself in DATABASE_URL: a connection pooler answered, \
                 and its sessions keep neither settings nor locks"
            .to_owned(),
    }
}

impl ServerError {
    /// The table of what Postgres reports.
    pub(crate) fn class(&self) -> Class {
        let (user, database) = match &self.login {
            Some(login) => (quote_identifier(&login.user), quote_identifier(&login.database)),
            None => ("<role>".to_owned(), "<database>".to_owned()),
        };
        let blocked = |code, remedy: String| Class::Blocked { code, remedy };
        match self.condition() {
            Condition::SlotInvalidated | Condition::SlotMissing => Class::SlotLost,
            Condition::SlotInUse
            | Condition::ConnectionLimit
            | Condition::PublicationMissing
            | Condition::ObjectMissing
            | Condition::ObjectExists
            | Condition::ShuttingDown
            | Condition::StartingUp
            | Condition::DiskFull
            | Condition::LockTimeout
            | Condition::Cancelled
            | Condition::Conflict
            | Condition::ConnectionLost
            | Condition::Other => Class::Retry,
            Condition::WrongPassword => blocked(
                "wrong_password",
                format!("correct the password in DATABASE_URL, or ALTER ROLE {user} PASSWORD '…';"),
            ),
            Condition::TlsRequired => blocked(
                "tls_required",
                "put sslmode=require in DATABASE_URL, or allow unencrypted connections \
             in pg_hba.conf"
                    .to_owned(),
            ),
            Condition::LoginRefused => blocked(
                "login_refused",
                format!(
                    "allow user {user} to reach database {database} in pg_hba.conf, then \
                 SELECT pg_reload_conf(); and check that the role exists and has LOGIN"
                ),
            ),
            Condition::NoSuchDatabase => blocked(
                "no_such_database",
                format!("correct the database in DATABASE_URL, or CREATE DATABASE {database};"),
            ),
            Condition::ReplicationPrivilege => blocked(
                "replication_privilege_missing",
                format!("ALTER ROLE {user} WITH REPLICATION;"),
            ),
            Condition::Privilege => blocked(
                "privilege_missing",
                format!(
                    "make role {user} the owner of the tables that shapes are on, \
                 with GRANT CREATE ON DATABASE {database} TO {user};"
                ),
            ),
            Condition::WalLevel => wal_level(),
            Condition::ReadOnly => blocked(
                "server_read_only",
                "name the primary in DATABASE_URL: this server is a standby or read-only"
                    .to_owned(),
            ),
            Condition::SlotLimit => blocked(
                "replication_slots_exhausted",
                "ALTER SYSTEM SET max_replication_slots = 20; then restart Postgres, \
             or drop a slot that nobody uses (SELECT * FROM pg_replication_slots;)"
                    .to_owned(),
            ),
            Condition::WalSenderLimit => blocked(
                "wal_senders_exhausted",
                "ALTER SYSTEM SET max_wal_senders = 20; then restart Postgres".to_owned(),
            ),
            Condition::StartupParameter => pooler(),
        }
    }
}

impl From<&tokio_postgres::error::DbError> for ServerError {
    fn from(error: &tokio_postgres::error::DbError) -> Self {
        Self {
            severity: error.severity().to_owned(),
            sqlstate: error.code().code().to_owned(),
            message: error.message().to_owned(),
            detail: error.detail().map(str::to_owned),
            hint: error.hint().map(str::to_owned),
            routine: error.routine().map(str::to_owned),
            login: None,
        }
    }
}

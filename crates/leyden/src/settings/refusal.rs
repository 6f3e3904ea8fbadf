//! Why Leyden does not start with these settings. Each text is one sentence
//! with the remedy; it never shows a secret.

/// The exit code of a refusal, as clap's.
pub(crate) const EXIT_CODE: u8 = 2;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// Clap's own text; also help and version, which are no error.
    #[error(transparent)]
    Usage(#[from] clap::Error),
    #[error("{variable} is not a setting of Leyden: {remedy}")]
    Unknown { variable: String, remedy: String },
    #[error("{first} and {second} differ: unset one of them")]
    Differ { first: String, second: String },
    #[error("{variable}=\"{value}\" cannot be used: {reason}")]
    Value { variable: String, value: String, reason: String },
    #[error("{variable} is not valid Unicode: set it again")]
    Encoding { variable: String },
    #[error(
        "no database is named: set DATABASE_URL to postgres://user:password@host:port/database"
    )]
    NoDatabase,
    #[error("DATABASE_URL cannot be used: {reason}")]
    Database { reason: String },
    #[error(
        "clients are neither asked for a secret nor let in without one: set LEYDEN_SECRET, or LEYDEN_INSECURE=true to let everybody in"
    )]
    NoSecret,
    #[error("LEYDEN_SECRET is set and LEYDEN_INSECURE is true: unset one of them")]
    SecretAndInsecure,
    #[error(
        "LEYDEN_DATABASE_CA_CERTIFICATE_FILE is set but DATABASE_URL says sslmode=disable: unset the one or change the other to verify-full"
    )]
    CertificateWithoutTls,
    #[error(
        "LEYDEN_DATABASE_CA_CERTIFICATE_FILE and the sslrootcert of DATABASE_URL differ: remove one of them"
    )]
    Certificates,
    #[error(
        "LEYDEN_DATABASE_CA_CERTIFICATE_FILE names {path}, which cannot be read ({reason}): name a readable PEM file"
    )]
    CertificateFile { path: String, reason: String },
    #[error(
        "LEYDEN_REPLICATION_STREAM_ID=\"{id}\" cannot end a slot's name: use at most 40 lower-case letters, digits and underscores"
    )]
    StreamId { id: String },
    #[error(
        "LEYDEN_MANUAL_TABLE_PUBLISHING=true is not supported: unset it, and let the database role own the tables that Leyden adds to its publication"
    )]
    ManualPublishing,
    #[error(
        "LEYDEN_LONG_POLL_TIMEOUT is 0, so that clients would ask without pause: set it to 20s"
    )]
    NoLongPoll,
}

//! What keeps us from getting in, short of what the server itself reports.
//!
//! Only an operator can heal these, so each has a remedy.

use std::path::PathBuf;

use crate::error::Class;

#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    #[error("the server does not offer TLS, which sslmode={ssl_mode} requires")]
    TlsNotOffered { ssl_mode: &'static str },
    #[error("the certificate of {host} was not accepted: {reason}")]
    Certificate { host: String, reason: String },
    #[error("cannot use the root certificates of {path}: {reason}", path = path.display())]
    RootCertificates { path: PathBuf, reason: String },
    #[error("the server asks user \"{user}\" for a password and the database URL has none")]
    PasswordMissing { user: String },
    #[error("the server asks for {method} authentication, which is not supported")]
    AuthenticationMethod { method: String },
    #[error("channel_binding=require, but the server does not offer SCRAM with channel binding")]
    ChannelBinding,
    #[error("the server could not prove that it knows the password: {reason}")]
    ServerNotAuthentic { reason: String },
}

impl LoginError {
    pub(crate) fn class(&self) -> Class {
        let (code, remedy) = match self {
            Self::TlsNotOffered { .. } => (
                "tls_not_offered",
                "enable TLS on the server (ALTER SYSTEM SET ssl = on; SELECT pg_reload_conf();) \
                 or put sslmode=disable in DATABASE_URL"
                    .to_owned(),
            ),
            Self::Certificate { host, .. } => (
                "certificate_refused",
                format!(
                    "put sslrootcert=/path/to/ca.pem of the authority that signed the certificate \
                     of {host} in DATABASE_URL, or sslmode=require to encrypt without verifying"
                ),
            ),
            Self::RootCertificates { path, .. } => (
                "root_certificates_unusable",
                format!("put a PEM file that this process may read at {}", path.display()),
            ),
            Self::PasswordMissing { user } => (
                "password_missing",
                format!("put the password in DATABASE_URL: postgres://{user}:<password>@…"),
            ),
            Self::AuthenticationMethod { .. } => (
                "authentication_unsupported",
                "use the method scram-sha-256 for this user in pg_hba.conf, \
                 then SELECT pg_reload_conf();"
                    .to_owned(),
            ),
            Self::ChannelBinding => (
                "channel_binding_unavailable",
                "connect with TLS and SCRAM, or put channel_binding=prefer in DATABASE_URL"
                    .to_owned(),
            ),
            Self::ServerNotAuthentic { .. } => (
                "server_not_authentic",
                "check that the host in DATABASE_URL is your Postgres and that nothing \
                 sits in between"
                    .to_owned(),
            ),
        };
        Class::Blocked { code, remedy }
    }
}

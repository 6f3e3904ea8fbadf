//! Postgres bytes to changes, and the SQL that makes Postgres send them.
//!
//! Three kinds of connection, one dialler: a [`Connection`] of our own for
//! replication and for snapshots (COPY), because no published client speaks
//! both without copying each row, and `tokio_postgres` for queries. Bytes from
//! the server are input: they give an [`Error`], never a panic. This crate
//! says what is wrong and how to heal it ([`Error::class`]); it never retries.

pub mod catalog;
mod config;
mod connect;
mod dialler;
mod error;
mod frame;
mod login;
mod login_error;
pub mod pgoutput;
pub mod publication;
pub mod replication;
mod server_error;
pub mod session;
pub mod slot;
pub mod snapshot;
pub mod splice;
mod sql;
mod stream;
mod tls;
mod wire;

pub use config::{ChannelBinding, Config, Host, Password, RootCertificates, SslMode};
pub use connect::{Session, client, dial};
pub use error::{Class, Error, Phase};
pub use login_error::LoginError;
pub use server_error::{Condition, Login, ServerError};
pub use sql::{quote_identifier, quote_literal, quote_table};
pub use wire::{CancelToken, Connection, CopyChunk, CopyRows};

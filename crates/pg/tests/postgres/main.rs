//! The crate against a real Postgres 15, which each test starts for itself.

#![allow(clippy::unwrap_used, reason = "all of this is tests, not only the functions marked so")]
#![allow(clippy::disallowed_methods, reason = "tests drive their connections on plain tasks")]

mod cluster;
mod login;
mod publication;
mod snapshot;
mod stream;

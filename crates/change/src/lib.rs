//! What happened in Postgres, as plain values.
//!
//! This crate is the vocabulary that the Postgres side writes and everything
//! behind it reads: positions in the WAL, tables, rows and changes. It is pure:
//! no sockets, no files, no clock, so that a replay of the same bytes is the
//! same value.

mod lsn;
mod relation;
mod row;
mod table;
mod transaction;

pub use lsn::{Lsn, ParseLsnError};
pub use relation::{Column, Relation, ReplicaIdentity};
pub use row::{Cell, Row, RowView, Value};
pub use table::{Table, TableColumn, TableKind};
pub use transaction::{Change, Commit, Fragment, Operation};

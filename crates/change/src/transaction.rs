//! Changes, in the order in which Postgres committed them.

use std::sync::Arc;

use crate::{Lsn, Relation, Row};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub relation: Arc<Relation>,
    /// Position in the transaction: 0, 2, 4 … over all published tables, so
    /// that it does not depend on which shapes exist. The odd numbers are for
    /// the second half of an update that changes the key.
    pub op_index: u64,
    pub operation: Operation,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    Insert {
        new: Row,
    },
    /// `old` is there under REPLICA IDENTITY FULL.
    Update {
        old: Option<Row>,
        new: Row,
    },
    Delete {
        old: Row,
    },
    Truncate,
    /// An update or delete without its old row, because the table's REPLICA
    /// IDENTITY is not FULL. Nothing can follow the table across it.
    Incomplete,
}

/// A part of one transaction. Parts of a transaction follow each other with
/// nothing in between; the last one carries `commit`. A small transaction is
/// one fragment, so memory is bounded whatever the size of the transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// From Begin, hence known before the commit arrives. With
    /// `Change::op_index` it orders all changes (invariant I-2).
    pub commit_lsn: Lsn,
    /// The 32-bit transaction id, as on the wire.
    pub xid: u32,
    pub changes: Vec<Change>,
    pub commit: Option<Commit>,
    /// No fragment of this transaction came before.
    pub first: bool,
    /// Bytes of WAL messages it was decoded from: what it weighs in a buffer.
    pub byte_count: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Just after the commit record. Confirming it to Postgres says that this
    /// transaction need not be sent again.
    pub end_lsn: Lsn,
    /// Microseconds since 2000-01-01, by the server's clock.
    pub time_us: i64,
}

//! What the engine needs to know, as plain data. Names, environment variables
//! and defaults are in `leyden/src/settings/`.

use std::path::PathBuf;

#[derive(Clone, Debug)]
pub struct Config {
    /// Where to replicate from. Its password never appears in `Debug`.
    pub database: pg::Config,
    /// Holds journal, catalog and shapes; one process at a time.
    pub storage_dir: PathBuf,
    /// Logical replication slot; created if missing. Its name is also the name
    /// of the advisory lock that keeps a second instance waiting.
    pub slot: String,
    /// Created if missing; tables are added as shapes need them.
    pub publication: String,
    /// A chunk of a shape's log is closed by the entry that reaches this size.
    pub chunk_bytes_max: usize,
    /// A journal file is closed at this size, and removed whole.
    pub journal_segment_bytes: u64,
    /// Bytes of WAL messages between the socket and the disk, over all tables.
    /// Past this we stop reading from Postgres, which keeps the WAL for us.
    pub buffered_bytes_max: usize,
    /// Connections for catalog queries and DDL.
    pub admin_pool_size: usize,
    /// Snapshots that are read at the same time.
    pub snapshot_pool_size: usize,
}

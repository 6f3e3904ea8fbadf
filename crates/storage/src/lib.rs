//! Files: the journal of transactions, the catalog of shapes, and each shape's
//! snapshot and log.
//!
//! Synchronous; the caller chooses the thread. The formats are in `format`.
//! Three rules hold everywhere: what a function reports as durable was synced
//! (file and directory entry) before it returned; after a crash a file ends at
//! its last valid record; and no bytes on disk, however wrong, cause a panic.

mod catalog;
#[cfg(test)]
#[allow(clippy::wildcard_enum_match_arm, reason = "tests name what they are about")]
mod crash;
mod directory;
mod error;
pub mod file;
mod format;
mod journal;
mod log;
mod record;
mod removal;
mod snapshot;

pub use catalog::{Catalog, CatalogChange, Contents, ShapeRecord, Source};
pub use directory::Directory;
pub use error::Error;
pub use journal::{Appended, Journal, JournalReader, Limits, Position};
pub use log::{Log, LogReader, ReadError, Slice};
pub use removal::{orphans, remove_shape};
pub use snapshot::{Snapshot, SnapshotWriter};

//! What can go wrong with the files, with the data an operator needs.

use std::io;
use std::path::{Path, PathBuf};

use change::Lsn;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("storage directory {} is in use by another process{}", path.display(), pid.map_or(String::new(), |pid| format!(" (pid {pid})")))]
    AlreadyLocked { path: PathBuf, pid: Option<u32> },
    #[error("{} was written by a newer version of leyden (format {found}, this one knows up to {known})", path.display())]
    NewerFormat { path: PathBuf, found: u32, known: u32 },
    #[error("{} is not empty and has no FORMAT file, so it is not a leyden storage directory; choose an empty directory (nothing was changed)", path.display())]
    Foreign { path: PathBuf },
    #[error("{} does not say a format that leyden knows: {found:?}", path.display())]
    UnknownFormat { path: PathBuf, found: String },
    #[error(
        "another process took over the storage directory (our fencing token {held}, on disk {found})"
    )]
    Fenced { held: u64, found: u64 },
    #[error("{} is damaged at byte {pos}: {reason}", path.display())]
    Damaged { path: PathBuf, pos: u64, reason: &'static str },
    /// A part of a transaction without its beginning, or of another one. The
    /// session must be opened again, so that Postgres sends it whole.
    #[error("a fragment of transaction {found} does not continue what was appended")]
    OutOfOrder { found: Lsn },
    /// The reader asks for transactions that were removed: what needs them
    /// cannot be rebuilt.
    #[error("the journal no longer holds all transactions after {after}; it starts after {oldest}")]
    Removed { after: Lsn, oldest: Lsn },
    /// An earlier fsync failed, so that nobody knows what is on disk. Open again.
    #[error("{} is unusable since an earlier failed write", path.display())]
    Unusable { path: PathBuf },
    /// Its chunks may be in clients' hands, so they are not written again.
    #[error("the snapshot in {} is complete already", path.display())]
    SnapshotComplete { path: PathBuf },
    #[error("a record of {byte_count} bytes is over the format's limit of 4 GiB")]
    TooLarge { byte_count: usize },
    #[error("cannot {act} {}", path.display())]
    Io {
        act: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// The disk or a quota is full: expected to pass, and to be retried.
    pub fn is_no_space(&self) -> bool {
        self.io_kind().is_some_and(|kind| {
            matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        })
    }

    /// The bytes on disk are wrong, and will be the next time.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::UnknownFormat { .. } | Self::NewerFormat { .. })
    }

    pub fn is_not_found(&self) -> bool {
        self.io_kind() == Some(io::ErrorKind::NotFound)
    }

    pub(crate) fn is_denied(&self) -> bool {
        self.io_kind().is_some_and(|kind| {
            matches!(kind, io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
        })
    }

    fn io_kind(&self) -> Option<io::ErrorKind> {
        match self {
            Self::Io { source, .. } => Some(source.kind()),
            Self::AlreadyLocked { .. }
            | Self::NewerFormat { .. }
            | Self::Foreign { .. }
            | Self::UnknownFormat { .. }
            | Self::Fenced { .. }
            | Self::Damaged { .. }
            | Self::OutOfOrder { .. }
            | Self::Removed { .. }
            | Self::Unusable { .. }
            | Self::SnapshotComplete { .. }
            | Self::TooLarge { .. } => None,
        }
    }

    pub(crate) fn damaged(path: &Path, pos: u64, reason: &'static str) -> Self {
        Self::Damaged { path: path.to_owned(), pos, reason }
    }
}

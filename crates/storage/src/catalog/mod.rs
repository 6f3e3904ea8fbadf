//! Which shapes exist: a record file of changes, folded at open.
//!
//! Nothing is known to exist, or to be gone, before [`Catalog::apply`] has
//! returned. One record holds one call's changes, so they share an fsync and
//! are applied whole or not at all. Read and compacted only at open.

use std::collections::BTreeMap;
use std::path::Path;

use change::Lsn;
use serde::{Deserialize, Serialize};
use shape::{Definition, Handle, Visibility};

use crate::directory::Directory;
use crate::error::Error;
use crate::file::{DiskFile, Mode};
use crate::format::{FileKind, HEADER_BYTES, Header, HeaderError};
use crate::record::{self, Records};

const CHANGES: u8 = 1;
/// Below this size garbage is not worth a rewrite.
const COMPACTION_BYTES_MIN: u64 = 64 * 1024;
/// How many shapes share a record of a rewritten catalog.
const COMPACTED_CHANGE_COUNT: usize = 256;

/// What the journal's transactions come from. When it changes, nothing that is
/// stored continues what Postgres will send.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    pub system_id: u64,
    pub timeline: u32,
    pub slot: String,
    pub publication: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShapeRecord {
    pub handle: Handle,
    pub definition: Definition,
    /// Journal position at registration: a replay starts after it.
    #[serde(with = "lsn")]
    pub registered_lsn: Lsn,
    /// WAL position just after the snapshot: what commits later is not in it.
    /// Transaction ids come round again, positions do not.
    #[serde(with = "lsn")]
    pub snapshot_lsn: Lsn,
    /// `Some`: the snapshot is complete and durable.
    pub snapshot: Option<Visibility>,
    /// Unix microseconds.
    pub created_us: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CatalogChange {
    Source(Source),
    Created(ShapeRecord),
    SnapshotComplete {
        handle: Handle,
        visibility: Visibility,
    },
    /// From here on the shape is gone for clients; its files may remain.
    Tombstone(Handle),
    /// Its files are gone, too.
    Removed(Handle),
}

/// What the changes so far amount to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    pub source: Option<Source>,
    /// By handle.
    pub shapes: Vec<ShapeRecord>,
    /// Removals to resume.
    pub tombstones: Vec<Handle>,
}

#[derive(Debug)]
pub struct Catalog {
    file: DiskFile,
    /// Just after the last durable record.
    pos: u64,
    buffer: Vec<u8>,
    /// A sync failed: what the file holds is unknown until it is read again.
    unusable: bool,
}

impl Catalog {
    pub fn open(directory: &Directory) -> Result<(Self, Contents), Error> {
        let (disk, path) = (directory.disk(), directory.catalog_path());
        let (state, valid_bytes) = match disk.read_if_exists(&path)? {
            Some(bytes) => read(bytes, &path)?,
            // It is there before the first shape is. Without it, every shape would
            // be taken for the rest of a removal.
            None if !disk.list(&directory.shapes_path())?.is_empty() => {
                return Err(Error::damaged(&path, 0, "it is missing, but there are shapes"));
            }
            None => (State::default(), 0),
        };
        let contents = state.into_contents();
        let compacted = encode(&contents, directory.token())?;
        let live_bytes = compacted.len() as u64;
        let file = if valid_bytes == 0
            || (valid_bytes > COMPACTION_BYTES_MIN && valid_bytes > 2 * live_bytes)
        {
            disk.replace(&path, &compacted)?;
            disk.open(&path, Mode::Write)?
        } else {
            disk.renew_suspect(&path, valid_bytes)?;
            let file = disk.open(&path, Mode::Write)?;
            file.set_len(valid_bytes)?;
            file.sync()?;
            disk.sync_dir(directory.path())?;
            file
        };
        let pos = file.byte_count()?;
        Ok((Self { file, pos, buffer: Vec::new(), unusable: false }, contents))
    }

    /// Durable when it returns. After an error the changes are not applied, but
    /// if it was in the sync they may be found applied after the next open.
    pub fn apply(&mut self, changes: &[CatalogChange]) -> Result<(), Error> {
        if self.unusable {
            return Err(Error::Unusable { path: self.file.path().to_owned() });
        }
        if changes.is_empty() {
            return Ok(());
        }
        self.buffer.clear();
        put(&mut self.buffer, changes)?;
        if let Err(error) = self.file.write_all_at(&self.buffer, self.pos) {
            // Best effort: what is left is no valid record, or is overwritten.
            let _ = self.file.set_len(self.pos);
            return Err(error);
        }
        self.file.sync().inspect_err(|_| self.unusable = true)?;
        self.pos += self.buffer.len() as u64;
        Ok(())
    }

    pub fn byte_count(&self) -> u64 {
        self.pos
    }
}

#[derive(Debug, Default)]
struct State {
    source: Option<Source>,
    shapes: BTreeMap<Handle, ShapeRecord>,
    tombstones: Vec<Handle>,
}

impl State {
    fn apply(&mut self, change: CatalogChange) {
        match change {
            CatalogChange::Source(source) => self.source = Some(source),
            CatalogChange::Created(shape) => {
                self.shapes.insert(shape.handle.clone(), shape);
            }
            CatalogChange::SnapshotComplete { handle, visibility } => {
                if let Some(shape) = self.shapes.get_mut(&handle) {
                    shape.snapshot = Some(visibility);
                }
            }
            CatalogChange::Tombstone(handle) => {
                self.shapes.remove(&handle);
                if !self.tombstones.contains(&handle) {
                    self.tombstones.push(handle);
                }
            }
            CatalogChange::Removed(handle) => {
                self.shapes.remove(&handle);
                self.tombstones.retain(|tombstone| *tombstone != handle);
            }
        }
    }

    fn into_contents(self) -> Contents {
        let shapes = self.shapes.into_values().collect();
        Contents { source: self.source, shapes, tombstones: self.tombstones }
    }
}

/// The state, and how much of the file made it; 0 when its creation was
/// interrupted.
fn read(bytes: bytes::Bytes, path: &Path) -> Result<(State, u64), Error> {
    match Header::decode(FileKind::Catalog, &bytes) {
        Ok(_) => {}
        // The file is renamed into place when it is complete.
        Err(error @ (HeaderError::Torn | HeaderError::OtherKind | HeaderError::Newer(_))) => {
            return Err(error.at(path));
        }
    }
    let byte_count = bytes.len();
    let mut state = State::default();
    let mut records = Records::new(bytes, HEADER_BYTES);
    for record in records.by_ref() {
        let changes: Vec<CatalogChange> = match record.kind {
            CHANGES => serde_json::from_slice(&record.payload)
                .map_err(|_| Error::damaged(path, record.pos, "a change is not understood"))?,
            _ => return Err(Error::damaged(path, record.pos, "unknown kind of record")),
        };
        changes.into_iter().for_each(|change| state.apply(change));
    }
    let valid_bytes = records.pos();
    // To go on from here would forget shapes that clients hold, and their files
    // would be taken for orphans.
    if records.is_followed_by_record(CHANGES) {
        return Err(Error::damaged(path, valid_bytes as u64, "a record in the middle is invalid"));
    }
    if valid_bytes < byte_count {
        tracing::warn!(cut_bytes = byte_count - valid_bytes, "catalog: cut an unfinished write");
    }
    Ok((state, valid_bytes as u64))
}

fn encode(contents: &Contents, token: u64) -> Result<Vec<u8>, Error> {
    let header = Header { kind: FileKind::Catalog, flags: 0, token, fields: [0; 4] };
    let mut out = header.encode().to_vec();
    let source = contents.source.iter().cloned().map(CatalogChange::Source);
    let shapes = contents.shapes.iter().cloned().map(CatalogChange::Created);
    let tombstones = contents.tombstones.iter().cloned().map(CatalogChange::Tombstone);
    let changes: Vec<_> = source.chain(shapes).chain(tombstones).collect();
    for changes in changes.chunks(COMPACTED_CHANGE_COUNT) {
        put(&mut out, changes)?;
    }
    Ok(out)
}

fn put(out: &mut Vec<u8>, changes: &[CatalogChange]) -> Result<(), Error> {
    let start = record::begin(out, CHANGES);
    serde_json::to_writer(&mut *out, changes)
        .expect("our own types have string keys and a Vec takes every write");
    record::end(out, start)
}

mod lsn {
    use change::Lsn;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(lsn: &Lsn, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(lsn.0)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Lsn, D::Error> {
        u64::deserialize(from).map(Lsn)
    }
}

#[cfg(test)]
pub(crate) mod tests;

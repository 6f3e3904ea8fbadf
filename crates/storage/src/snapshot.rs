//! A shape's snapshot: its initial rows, cut into chunks.
//!
//! Written once by one worker and never changed. It exists when its meta file
//! does, which is written last; chunks without it are the rest of an
//! interrupted attempt.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use shape::{Handle, Visibility};

use crate::directory::Directory;
use crate::error::Error;
use crate::file::{Disk, DiskFile, Mode};
use crate::format::{FileKind, HEADER_BYTES, Header};
use crate::record::{self, Records};

const META: u8 = 1;
const META_FILE: &str = "snapshot.meta";
/// How much a writer gathers before it writes.
const BUFFER_BYTES: usize = 256 * 1024;

/// What there is to know of a complete snapshot without reading its rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    chunks: Vec<Chunk>,
    visibility: Visibility,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Chunk {
    bytes: u64,
    crc32: u32,
}

impl Snapshot {
    pub fn chunk_count(&self) -> u32 {
        self.chunks.len() as u32
    }

    pub fn byte_count(&self) -> u64 {
        self.chunks.iter().map(|chunk| chunk.bytes).sum()
    }

    pub fn visibility(&self) -> &Visibility {
        &self.visibility
    }

    /// `None` when the shape has no complete snapshot.
    pub(crate) fn load(disk: &Disk, shape_path: &Path) -> Result<Option<Self>, Error> {
        let path = shape_path.join(META_FILE);
        let Some(bytes) = disk.read_if_exists(&path)? else { return Ok(None) };
        Header::expect(FileKind::SnapshotMeta, &bytes, &path)?;
        let damaged = || Error::damaged(&path, HEADER_BYTES as u64, "no valid record");
        let record = Records::new(bytes, HEADER_BYTES).next().ok_or_else(damaged)?;
        let snapshot: Self = serde_json::from_slice(&record.payload).map_err(|_| damaged())?;
        match record.kind == META && !snapshot.chunks.is_empty() {
            true => Ok(Some(snapshot)),
            false => Err(damaged()),
        }
    }

    /// The entries of chunk `index`, which must exist.
    pub(crate) fn read(&self, disk: &Disk, shape_path: &Path, index: u32) -> Result<Bytes, Error> {
        let path = chunk_path(shape_path, index);
        let bytes = disk.read(&path)?;
        let chunk = self.chunks.get(index as usize);
        match chunk.is_some_and(|chunk| {
            chunk.bytes == bytes.len() as u64 && chunk.crc32 == crc32fast::hash(&bytes)
        }) {
            true => Ok(bytes),
            false => Err(Error::damaged(&path, 0, "its length or CRC is not that of the snapshot")),
        }
    }
}

fn chunk_path(shape_path: &Path, index: u32) -> PathBuf {
    shape_path.join(format!("snapshot.{index}"))
}

/// Takes its files away again when it is dropped unfinished.
#[derive(Debug)]
pub struct SnapshotWriter {
    directory: Directory,
    path: PathBuf,
    chunk_bytes_max: u64,
    chunks: Vec<Chunk>,
    open: Option<OpenChunk>,
    buffer: Vec<u8>,
    finished: bool,
}

#[derive(Debug)]
struct OpenChunk {
    file: DiskFile,
    written_bytes: u64,
    crc: crc32fast::Hasher,
    /// Sum of row sizes, each with its comma: what decides where a chunk ends.
    row_bytes: u64,
}

impl SnapshotWriter {
    /// Replaces what an interrupted attempt left. Fails when the snapshot is
    /// complete, since its chunks may be in clients' hands.
    pub fn create(
        directory: &Directory,
        handle: &Handle,
        chunk_bytes_max: usize,
    ) -> Result<Self, Error> {
        let path = directory.create_shape_dir(handle)?;
        if Snapshot::load(directory.disk(), &path)?.is_some() {
            return Err(Error::SnapshotComplete { path });
        }
        remove_files(directory.disk(), &path)?;
        Ok(Self {
            directory: directory.clone(),
            path,
            chunk_bytes_max: chunk_bytes_max.max(1) as u64,
            chunks: Vec::new(),
            open: None,
            buffer: Vec::new(),
            finished: false,
        })
    }

    /// One row's entry, without comma.
    pub fn row(&mut self, json: &[u8]) -> Result<(), Error> {
        let chunk_bytes_max = self.chunk_bytes_max;
        let open = self.put(json)?;
        open.row_bytes += json.len() as u64 + 1;
        if open.row_bytes >= chunk_bytes_max {
            self.close_chunk()?;
        }
        Ok(())
    }

    /// Adds `end_message`, to the last chunk unless its last row closed it, and
    /// makes everything durable.
    pub fn finish(
        mut self,
        visibility: &Visibility,
        end_message: &[u8],
    ) -> Result<Snapshot, Error> {
        self.put(end_message)?;
        self.close_chunk()?;
        let snapshot =
            Snapshot { chunks: std::mem::take(&mut self.chunks), visibility: visibility.clone() };
        let token = self.directory.token();
        let header = Header { kind: FileKind::SnapshotMeta, flags: 0, token, fields: [0; 4] };
        let mut out = header.encode().to_vec();
        let start = record::begin(&mut out, META);
        serde_json::to_writer(&mut out, &snapshot)
            .expect("our own types have string keys and a Vec takes every write");
        record::end(&mut out, start)?;
        let disk = self.directory.disk();
        // The chunks' names before the file that says they exist.
        disk.sync_dir(&self.path)?;
        disk.replace(&self.path.join(META_FILE), &out)?;
        self.finished = true;
        Ok(snapshot)
    }

    fn put(&mut self, json: &[u8]) -> Result<&mut OpenChunk, Error> {
        let open = match self.open.take() {
            Some(open) => {
                self.buffer.push(b',');
                open
            }
            None => self.open_chunk()?,
        };
        let open = self.open.insert(open);
        self.buffer.extend_from_slice(json);
        if self.buffer.len() >= BUFFER_BYTES {
            open.write(&mut self.buffer)?;
        }
        Ok(open)
    }

    fn open_chunk(&self) -> Result<OpenChunk, Error> {
        let path = chunk_path(&self.path, self.chunks.len() as u32);
        let file = self.directory.disk().open(&path, Mode::Replace)?;
        Ok(OpenChunk { file, written_bytes: 0, crc: crc32fast::Hasher::new(), row_bytes: 0 })
    }

    fn close_chunk(&mut self) -> Result<(), Error> {
        let Some(mut open) = self.open.take() else { return Ok(()) };
        open.write(&mut self.buffer)?;
        open.file.sync()?;
        self.chunks.push(Chunk { bytes: open.written_bytes, crc32: open.crc.finalize() });
        Ok(())
    }
}

impl OpenChunk {
    fn write(&mut self, buffer: &mut Vec<u8>) -> Result<(), Error> {
        self.file.write_all_at(buffer, self.written_bytes)?;
        self.crc.update(buffer);
        self.written_bytes += buffer.len() as u64;
        buffer.clear();
        Ok(())
    }
}

impl Drop for SnapshotWriter {
    fn drop(&mut self) {
        if !self.finished
            && let Err(error) = remove_files(self.directory.disk(), &self.path)
        {
            tracing::debug!(%error, "an unfinished snapshot stays until the next attempt");
        }
    }
}

fn remove_files(disk: &Disk, path: &Path) -> Result<(), Error> {
    let names = match disk.list(path) {
        Err(error) if error.is_not_found() => return Ok(()),
        names => names?,
    };
    // The meta first, and durably: without it the rest is nothing, but it without
    // the rest is half a snapshot.
    if names.iter().any(|name| name == META_FILE) {
        disk.remove_file(&path.join(META_FILE))?;
        disk.sync_dir(path)?;
    }
    for name in names.iter().filter(|name| name.starts_with("snapshot.")) {
        disk.remove_file(&path.join(name))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    struct Fixture {
        _dir: tempfile::TempDir,
        directory: Directory,
        handle: Handle,
    }

    fn fixture() -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::open(dir.path()).unwrap();
        Fixture { _dir: dir, directory, handle: "1-1".parse().unwrap() }
    }

    fn visibility() -> Visibility {
        "10:20:12".parse().unwrap()
    }

    /// Writes the rows and reads the chunks back.
    #[track_caller]
    fn check(chunk_bytes_max: usize, rows: &[&str], expected: &[&str]) {
        let fixture = fixture();
        let mut writer =
            SnapshotWriter::create(&fixture.directory, &fixture.handle, chunk_bytes_max).unwrap();
        for row in rows {
            writer.row(row.as_bytes()).unwrap();
        }
        let snapshot = writer.finish(&visibility(), b"{end}").unwrap();
        let path = fixture.directory.shape_path(&fixture.handle);
        let loaded = Snapshot::load(fixture.directory.disk(), &path).unwrap().unwrap();
        assert_eq!(loaded, snapshot);
        assert_eq!(loaded.visibility(), &visibility());
        let chunks: Vec<_> = (0..loaded.chunk_count())
            .map(|k| loaded.read(fixture.directory.disk(), &path, k).unwrap())
            .collect();
        assert_eq!(chunks, expected);
        assert_eq!(
            loaded.byte_count(),
            expected.iter().map(|chunk| chunk.len() as u64).sum::<u64>()
        );
    }

    #[test]
    fn a_chunk_closes_with_the_row_that_fills_it() {
        check(100, &[], &["{end}"]);
        check(100, &["{a}"], &["{a},{end}"]);
        // With its comma a row is 4 bytes.
        check(9, &["{a}", "{b}"], &["{a},{b},{end}"]);
        check(8, &["{a}", "{b}"], &["{a},{b}", "{end}"]);
        check(8, &["{a}", "{b}", "{c}"], &["{a},{b}", "{c},{end}"]);
        check(5, &["{a}", "{large row}", "{c}"], &["{a},{large row}", "{c},{end}"]);
        check(1, &["{a}", "{b}"], &["{a}", "{b}", "{end}"]);
        check(0, &["{a}"], &["{a}", "{end}"]);
    }

    #[test]
    fn rows_larger_than_the_buffer_are_kept_whole() {
        let large = "x".repeat(BUFFER_BYTES + 1);
        let joined = format!("{large},{large}");
        check(2 * large.len(), &[&large, &large], &[&joined, "{end}"]);
    }

    #[test]
    fn an_unfinished_snapshot_leaves_nothing() {
        let fixture = fixture();
        let mut writer = SnapshotWriter::create(&fixture.directory, &fixture.handle, 1).unwrap();
        writer.row(b"{a}").unwrap();
        writer.row(b"{b}").unwrap();
        let path = fixture.directory.shape_path(&fixture.handle);
        assert!(path.join("snapshot.1").exists());
        drop(writer);
        assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
        assert_eq!(Snapshot::load(fixture.directory.disk(), &path).unwrap(), None);
    }

    #[test]
    fn a_killed_attempt_is_replaced_and_a_complete_snapshot_is_not() {
        let fixture = fixture();
        let path = fixture.directory.create_shape_dir(&fixture.handle).unwrap();
        for name in ["snapshot.0", "snapshot.7", "snapshot.tmp"] {
            fs::write(path.join(name), "left over").unwrap();
        }
        let writer = SnapshotWriter::create(&fixture.directory, &fixture.handle, 100).unwrap();
        writer.finish(&visibility(), b"{end}").unwrap();
        assert!(!path.join("snapshot.7").exists());
        SnapshotWriter::create(&fixture.directory, &fixture.handle, 100).unwrap_err();
        assert_eq!(fs::read_to_string(path.join("snapshot.0")).unwrap(), "{end}");
    }

    #[test]
    fn damage_to_a_chunk_or_to_the_meta_is_noticed() {
        let fixture = fixture();
        let path = fixture.directory.shape_path(&fixture.handle);
        let writer = SnapshotWriter::create(&fixture.directory, &fixture.handle, 100).unwrap();
        let snapshot = writer.finish(&visibility(), b"{end}").unwrap();
        fs::write(path.join("snapshot.0"), "{enD}").unwrap();
        assert!(matches!(
            snapshot.read(fixture.directory.disk(), &path, 0),
            Err(Error::Damaged { .. })
        ));
        let meta = fs::read(path.join(META_FILE)).unwrap();
        for cut in 0..meta.len() {
            fs::write(path.join(META_FILE), &meta[..cut]).unwrap();
            let loaded = Snapshot::load(fixture.directory.disk(), &path);
            assert!(matches!(loaded, Err(Error::Damaged { .. })), "cut at {cut}");
        }
    }
}

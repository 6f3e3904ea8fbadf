//! Chunk files of a log: frames, recovery, and reading a range.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use change::Lsn;
use shape::{EntryEnd, Offset};

use super::entries::{Entries, Head, Piece};
use crate::error::Error;
use crate::file::{Disk, DiskFile, Mode};
use crate::format::{Fields, FileKind, HEADER_BYTES, Header, HeaderError, Malformed, put_varint};
use crate::record::{self, Record, Records};

const PART: u8 = 1;
const COMMIT: u8 = 2;
/// Header flag: a transaction begins in an earlier chunk and goes on here.
const STARTS_INSIDE: u32 = 1;
const PREFIX: &str = "log.";

pub(super) fn path(shape_path: &Path, index: u32) -> PathBuf {
    shape_path.join(format!("{PREFIX}{index}"))
}

pub(super) fn put_frame(
    out: &mut Vec<u8>,
    commit: Option<Lsn>,
    pieces: &[Arc<Piece>],
) -> Result<(), Error> {
    let start = record::begin(out, if commit.is_some() { COMMIT } else { PART });
    out.extend_from_slice(&commit.unwrap_or_default().0.to_le_bytes());
    put_varint(out, pieces.iter().map(|piece| piece.entries.ends.len() as u64).sum());
    let mut previous = Offset::new(0, 0);
    for piece in pieces {
        let mut entry_start = 0;
        for entry in &piece.entries.ends {
            let tx_step = entry.offset.tx.wrapping_sub(previous.tx);
            put_varint(out, tx_step);
            let op_base = if tx_step == 0 { previous.op } else { 0 };
            put_varint(out, entry.offset.op.wrapping_sub(op_base));
            put_varint(out, u64::from(entry.end - entry_start));
            previous = entry.offset;
            entry_start = entry.end + 1;
        }
    }
    for piece in pieces {
        out.extend_from_slice(&piece.entries.json);
    }
    record::end(out, start)
}

struct Frame {
    commit: Option<Lsn>,
    entries: Entries,
}

fn decode_frame(record: &Record) -> Result<Frame, Malformed> {
    let mut fields = Fields::new(record.payload.clone());
    let commit_lsn = Lsn(fields.u64()?);
    let commit = match record.kind {
        PART => None,
        COMMIT => Some(commit_lsn),
        _ => return Err(Malformed),
    };
    let entry_count = fields.count()?;
    let mut ends = Vec::with_capacity(entry_count);
    let mut previous = Offset::new(0, 0);
    let mut json_bytes = 0u32;
    for _ in 0..entry_count {
        let tx_step = fields.varint()?;
        let op_base = if tx_step == 0 { previous.op } else { 0 };
        let tx = previous.tx.wrapping_add(tx_step);
        let offset = Offset::new(tx, op_base.wrapping_add(fields.varint()?));
        let length = u32::try_from(fields.varint()?).map_err(|_| Malformed)?;
        let end = json_bytes.checked_add(length).ok_or(Malformed)?;
        json_bytes = end.checked_add(1).ok_or(Malformed)?;
        ends.push(EntryEnd { offset, end });
        previous = offset;
    }
    let json = fields.take(json_bytes as usize)?;
    let is_ordered = ends.is_sorted_by(|a, b| a.offset < b.offset);
    match fields.is_empty() && is_ordered {
        true => Ok(Frame { commit, entries: Entries { json, ends: ends.into() } }),
        false => Err(Malformed),
    }
}

/// What a chunk file says of the log before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) after: Offset,
    pub(super) position: Lsn,
    pub(super) starts_inside: bool,
    pub(super) chunk_bytes_max: u64,
}

impl Origin {
    fn header(self, token: u64) -> Header {
        let fields = [self.after.tx, self.after.op, self.position.0, self.chunk_bytes_max];
        let flags = if self.starts_inside { STARTS_INSIDE } else { 0 };
        Header { kind: FileKind::Log, flags, token, fields }
    }

    fn of(header: &Header) -> Self {
        Self {
            after: Offset::new(header.fields[0], header.fields[1]),
            position: Lsn(header.fields[2]),
            starts_inside: header.flags & STARTS_INSIDE != 0,
            chunk_bytes_max: header.fields[3],
        }
    }
}

/// The chunk file that is written to. Open only while it has something to
/// sync, so that a shape at rest costs no file descriptor.
#[derive(Debug)]
pub(super) struct ChunkFile {
    pub(super) index: u32,
    path: PathBuf,
    file: Option<DiskFile>,
    /// How much of the file counts. What lies behind is overwritten or cut.
    pub(super) byte_count: u64,
    is_dirty: bool,
    has_rest: bool,
    /// An fsync failed: what is on disk is unknown.
    is_suspect: bool,
}

impl ChunkFile {
    pub(super) fn create(
        disk: &Disk,
        shape_path: &Path,
        index: u32,
        (origin, token): (Origin, u64),
    ) -> Result<Self, Error> {
        let path = path(shape_path, index);
        let file = disk.open(&path, Mode::Replace)?;
        let header = origin.header(token).encode();
        file.write_all_at(&header, 0)?;
        // The name now, since it is needed for everything that follows.
        disk.sync_dir(shape_path)?;
        Ok(Self { file: Some(file), ..Self::at(path, index, header.len() as u64) })
    }

    /// The file as it was when it counted `byte_count` bytes.
    pub(super) fn reopen(
        disk: &Disk,
        shape_path: &Path,
        index: u32,
        byte_count: u64,
    ) -> Result<Self, Error> {
        let path = path(shape_path, index);
        let file = disk.open(&path, Mode::Write)?;
        if file.byte_count()? != byte_count {
            file.set_len(byte_count)?;
        }
        Ok(Self::at(path, index, byte_count))
    }

    fn at(path: PathBuf, index: u32, byte_count: u64) -> Self {
        // Dirty also when it was there: what a killed process wrote may not be
        // on disk.
        let (is_dirty, has_rest, is_suspect) = (true, false, false);
        Self { index, path, file: None, byte_count, is_dirty, has_rest, is_suspect }
    }

    pub(super) fn append(&mut self, disk: &Disk, bytes: &[u8]) -> Result<(), Error> {
        let (byte_count, has_rest) = (self.byte_count, self.has_rest);
        let file = self.opened(disk)?;
        if has_rest {
            file.set_len(byte_count)?;
        }
        self.has_rest = true;
        self.is_dirty = true;
        self.opened(disk)?.write_all_at(bytes, byte_count)?;
        self.has_rest = false;
        self.byte_count += bytes.len() as u64;
        Ok(())
    }

    pub(super) fn sync(&mut self, disk: &Disk) -> Result<(), Error> {
        if self.is_dirty {
            self.opened(disk)?.sync().inspect_err(|_| self.is_suspect = true)?;
            self.is_dirty = false;
            self.file = None;
        }
        Ok(())
    }

    fn opened(&mut self, disk: &Disk) -> Result<&DiskFile, Error> {
        if self.is_suspect {
            return Err(Error::Unusable { path: self.path.clone() });
        }
        let file = match self.file.take() {
            Some(file) => file,
            None => disk.open(&self.path, Mode::Write)?,
        };
        Ok(self.file.insert(file))
    }
}

/// A log as its files say, cut at its last commit.
#[derive(Debug)]
pub(super) struct Recovered {
    /// Ends of closed chunks.
    pub(super) closed: Vec<Offset>,
    pub(super) head: Head,
    pub(super) position: Lsn,
    pub(super) chunk_bytes_max: u64,
    pub(super) file: Option<ChunkFile>,
}

/// `chunk_bytes_max` is for a log without files; a log keeps what it began with.
pub(super) fn recover(
    disk: &Disk,
    shape_path: &Path,
    chunk_bytes_max: u64,
) -> Result<Recovered, Error> {
    let mut count = count_files(disk, shape_path)?;
    while let Some(index) = count.checked_sub(1) {
        if let Some((origin, scan)) = scan(disk, shape_path, index)? {
            let mut closed = Vec::with_capacity(count as usize);
            for later in 1..count {
                let file = disk.open(&path(shape_path, later), Mode::Read)?;
                let bytes = file.read_range(0, HEADER_BYTES as u64)?;
                closed.push(Origin::of(&Header::expect(FileKind::Log, &bytes, file.path())?).after);
            }
            if scan.head.chunk > index {
                closed.push(scan.head.end);
            }
            disk.renew_suspect(&path(shape_path, index), scan.end_pos)?;
            let file = ChunkFile::reopen(disk, shape_path, index, scan.end_pos)?;
            let (head, position) = (scan.head, scan.position);
            let chunk_bytes_max = origin.chunk_bytes_max;
            return Ok(Recovered { closed, head, position, chunk_bytes_max, file: Some(file) });
        }
        disk.remove_file(&path(shape_path, index))?;
        disk.sync_dir(shape_path)?;
        count = index;
    }
    let (head, position) = (Head::START, Lsn::ZERO);
    Ok(Recovered { closed: Vec::new(), head, position, chunk_bytes_max, file: None })
}

/// They are numbered from 0 without a gap.
fn count_files(disk: &Disk, shape_path: &Path) -> Result<u32, Error> {
    let indexes = disk.list(shape_path)?;
    let indexes = indexes.iter().filter_map(|name| name.strip_prefix(PREFIX)?.parse::<u32>().ok());
    let (count, highest) =
        indexes.fold((0u32, 0u32), |(count, highest), index| (count + 1, highest.max(index)));
    match count == 0 || highest + 1 == count {
        true => Ok(count),
        false => Err(Error::damaged(shape_path, 0, "a chunk file of the log is missing")),
    }
}

/// The state after the last commit frame of a chunk file.
struct Scan {
    head: Head,
    position: Lsn,
    end_pos: u64,
}

/// `None` when the log does not reach into this file: its creation was
/// interrupted, or it has only the continuation of a transaction without the
/// commit.
fn scan(disk: &Disk, shape_path: &Path, index: u32) -> Result<Option<(Origin, Scan)>, Error> {
    let chunk_path = path(shape_path, index);
    let bytes = disk.read(&chunk_path)?;
    let origin = match Header::decode(FileKind::Log, &bytes) {
        Ok(header) => Origin::of(&header),
        Err(HeaderError::Torn) => return Ok(None),
        Err(error @ (HeaderError::OtherKind | HeaderError::Newer(_))) => {
            return Err(error.at(&chunk_path));
        }
    };
    let mut head = Head { chunk: index, chunk_bytes: 0, end: origin.after };
    let mut committed = Scan { head, position: origin.position, end_pos: HEADER_BYTES as u64 };
    let mut has_commit = false;
    for record in Records::new(bytes, HEADER_BYTES) {
        let damaged = |reason| Error::damaged(&chunk_path, record.pos, reason);
        let frame = decode_frame(&record).map_err(|_| damaged("a frame is malformed"))?;
        let mut start = 0;
        for entry in &frame.entries.ends {
            if entry.offset <= head.end || head.chunk != index {
                return Err(damaged("an entry is out of order"));
            }
            head.advance(entry.offset, u64::from(entry.end - start), origin.chunk_bytes_max);
            start = entry.end + 1;
        }
        if let Some(position) = frame.commit {
            if position <= committed.position {
                return Err(damaged("a commit is out of order"));
            }
            has_commit = true;
            committed = Scan { head, position, end_pos: record.end_pos() };
        }
    }
    Ok((has_commit || !origin.starts_inside).then_some((origin, committed)))
}

/// Appends the entries in `(after, until]`, which the chunk must hold. Looks at
/// nothing behind `until`, which may be being written.
pub(super) fn read(
    disk: &Disk,
    chunk_path: &Path,
    (after, until): (Offset, Offset),
    out: &mut Vec<Bytes>,
) -> Result<(), Error> {
    let bytes = disk.read(chunk_path)?;
    Header::expect(FileKind::Log, &bytes, chunk_path)?;
    let mut records = Records::new(bytes, HEADER_BYTES);
    let mut passed = None;
    for record in records.by_ref() {
        let damaged = |reason| Error::damaged(chunk_path, record.pos, reason);
        let frame = decode_frame(&record).map_err(|_| damaged("a frame is malformed"))?;
        if let Some(first) = frame.entries.ends.first() {
            if passed.is_some_and(|passed| first.offset <= passed) {
                return Err(damaged("a frame is out of order"));
            }
            passed = frame.entries.end();
        }
        let range = frame.entries.range(after, until);
        if !range.is_empty() {
            out.push(range);
        }
        if frame.entries.end().is_some_and(|end| end >= until) {
            return Ok(());
        }
    }
    Err(Error::damaged(chunk_path, records.pos() as u64, "entries that were committed are missing"))
}

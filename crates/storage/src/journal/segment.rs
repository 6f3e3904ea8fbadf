//! Segment files of the journal: their names, and recovery of the last one.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use change::Lsn;

use super::encoding::Head;
use super::{Closed, Position};
use crate::error::Error;
use crate::file::{Disk, DiskFile, Mode};
use crate::format::{FileKind, HEADER_BYTES, Header, HeaderError};
use crate::record::{Record, Stream};

pub(super) const FRAGMENT: u8 = 1;
pub(super) const MARK: u8 = 2;

const SUFFIX: &str = ".journal";

pub(super) fn path(journal_path: &Path, name: Lsn) -> PathBuf {
    journal_path.join(format!("{:016x}{SUFFIX}", name.0))
}

/// Where a segment is written before it has its name.
pub(super) fn unborn(journal_path: &Path) -> PathBuf {
    journal_path.join("next.tmp")
}

/// Names of all segments, oldest first. A name is one above the last commit LSN
/// before the file.
pub(super) fn list(disk: &Disk, journal_path: &Path) -> Result<Vec<Lsn>, Error> {
    let name = |file_name: &String| {
        let digits = file_name.strip_suffix(SUFFIX)?;
        let canonical = digits.len() == 16
            && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        u64::from_str_radix(digits, 16).ok().filter(|_| canonical).map(Lsn)
    };
    let mut names: Vec<_> = disk.list(journal_path)?.iter().filter_map(name).collect();
    names.sort_unstable();
    Ok(names)
}

pub(super) fn header(token: u64, before: Position) -> Header {
    let fields = [before.commit_lsn.0, before.ack_lsn.0, 0, 0];
    Header { kind: FileKind::Journal, flags: 0, token, fields }
}

/// What was journalled before this file.
pub(super) fn before(header: &Header) -> Position {
    Position { commit_lsn: Lsn(header.fields[0]), ack_lsn: Lsn(header.fields[1]) }
}

pub(super) fn read_header(file: &DiskFile) -> Result<Header, Error> {
    let bytes = file.read_range(0, HEADER_BYTES as u64)?;
    Header::expect(FileKind::Journal, &bytes, file.path())
}

/// Whether the file has no valid header, because its creation was interrupted.
pub(super) fn is_stillborn(disk: &Disk, path: &Path) -> Result<bool, Error> {
    let bytes = disk.open(path, Mode::Read)?.read_range(0, HEADER_BYTES as u64)?;
    match Header::decode(FileKind::Journal, &bytes) {
        Ok(_) => Ok(false),
        Err(HeaderError::Torn) => Ok(true),
        Err(error @ (HeaderError::OtherKind | HeaderError::Newer(_))) => Err(error.at(path)),
    }
}

/// The files before `newest`. The last commit LSN of each is in the header of
/// the next one, or else less than its name.
pub(super) fn closed(
    disk: &Disk,
    journal_path: &Path,
    names: &[Lsn],
    newest: Option<Lsn>,
) -> Result<VecDeque<Closed>, Error> {
    let mut closed = VecDeque::with_capacity(names.len());
    for (index, &name) in names.iter().enumerate() {
        let byte_count = disk.open(&path(journal_path, name), Mode::Read)?.byte_count()?;
        let last = match names.get(index + 1).copied().or(newest) {
            None => Lsn::MAX,
            Some(next) => {
                let next_file = disk.open(&path(journal_path, next), Mode::Read)?;
                let bytes = next_file.read_range(0, HEADER_BYTES as u64)?;
                match Header::decode(FileKind::Journal, &bytes) {
                    Ok(header) => before(&header).commit_lsn,
                    Err(_) => Lsn(next.0.saturating_sub(1)),
                }
            }
        };
        closed.push_back(Closed { name, last, byte_count });
    }
    Ok(closed)
}

/// A segment that ends with its last complete transaction or mark, durably.
#[derive(Debug)]
pub(super) struct Recovered {
    pub(super) file: DiskFile,
    pub(super) byte_count: u64,
    pub(super) position: Position,
    /// Whether it holds a transaction.
    pub(super) is_used: bool,
}

/// Cuts off an unfinished write and an unfinished transaction.
pub(super) fn recover(disk: &Disk, path: &Path) -> Result<Recovered, Error> {
    let file = disk.open(path, Mode::Write)?;
    let start = before(&read_header(&file)?);
    let mut scan = Scan { position: start, end_pos: HEADER_BYTES as u64, open: None };
    let mut stream = Stream::new(file, HEADER_BYTES as u64);
    while let Some(record) = stream.next()? {
        scan.take(&record)
            .map_err(|reason| Error::damaged(stream.file().path(), record.pos, reason))?;
    }
    let file = stream.into_file();
    let found_bytes = file.byte_count()?;
    if found_bytes > scan.end_pos {
        let cut_bytes = found_bytes - scan.end_pos;
        tracing::warn!(cut_bytes, path = %path.display(), "journal: cut an unfinished write");
        file.set_len(scan.end_pos)?;
    }
    // What a killed process wrote may be in the page cache only, and is about
    // to be reported as durable.
    let file = match disk.renew_suspect(path, scan.end_pos)? {
        true => disk.open(path, Mode::Write)?,
        false => file,
    };
    file.sync()?;
    let is_used = scan.position.commit_lsn > start.commit_lsn;
    Ok(Recovered { file, byte_count: scan.end_pos, position: scan.position, is_used })
}

struct Scan {
    position: Position,
    /// Just after the last complete transaction or mark.
    end_pos: u64,
    open: Option<Lsn>,
}

impl Scan {
    fn take(&mut self, record: &Record) -> Result<(), &'static str> {
        match record.kind {
            FRAGMENT => self.take_fragment(record),
            MARK => self.take_mark(record),
            _ => Err("unknown kind of record"),
        }
    }

    fn take_fragment(&mut self, record: &Record) -> Result<(), &'static str> {
        let head = Head::decode(&record.payload).map_err(|_| "a fragment is malformed")?;
        let in_order = match self.open {
            None => head.first && head.commit_lsn > self.position.commit_lsn,
            Some(open) => !head.first && head.commit_lsn == open,
        };
        if !in_order {
            return Err("a fragment is out of order");
        }
        self.open = Some(head.commit_lsn);
        if let Some(commit) = head.commit {
            self.open = None;
            self.position.commit_lsn = head.commit_lsn;
            self.position.ack_lsn = self.position.ack_lsn.max(commit.end_lsn);
            self.end_pos = record.end_pos();
        }
        Ok(())
    }

    fn take_mark(&mut self, record: &Record) -> Result<(), &'static str> {
        if self.open.is_some() {
            return Err("a mark inside a transaction");
        }
        let lsn = mark_lsn(record).ok_or("a mark is malformed")?;
        self.position.ack_lsn = self.position.ack_lsn.max(lsn);
        self.end_pos = record.end_pos();
        Ok(())
    }
}

fn mark_lsn(record: &Record) -> Option<Lsn> {
    record.payload[..].try_into().ok().map(u64::from_le_bytes).map(Lsn)
}

/// The highest fencing token that any segment was written under.
pub(crate) fn highest_token(disk: &Disk, journal_path: &Path) -> Result<u64, Error> {
    let mut highest = 0;
    for name in list(disk, journal_path)? {
        let file = disk.open(&path(journal_path, name), Mode::Read)?;
        let bytes = file.read_range(0, HEADER_BYTES as u64)?;
        if let Ok(header) = Header::decode(FileKind::Journal, &bytes) {
            highest = highest.max(header.token);
        }
    }
    Ok(highest)
}

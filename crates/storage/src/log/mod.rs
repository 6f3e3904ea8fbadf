//! One shape's log: encoded entries in chunks, as clients will get them.
//!
//! A pure function of what is appended (invariant I-4). Where a chunk ends
//! depends on the entries alone, never on when they are written or on what a
//! crash took away, so that a replay gives the same bytes for the same offset
//! (I-13, I-14).
//!
//! ```text
//! append ──► open ──commit──► tail, visible to readers ──write──► log.<k> ──sync──► durable
//! ```
//!
//! A chunk's file is created when the one before it is durable as a whole, so
//! recovery has to look at the last one only.

mod chunk;
mod entries;
mod reader;
mod tail;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use change::Lsn;
use shape::{Batch, Handle, Offset};

use self::chunk::{ChunkFile, Origin};
use self::entries::{Head, Piece};
pub use self::reader::{LogReader, ReadError, Slice};
use self::reader::{Shared, View};
use self::tail::{Tail, TailView};
use crate::directory::Directory;
use crate::error::Error;
use crate::journal::Appended;
use crate::snapshot::Snapshot;

/// How much of the newest entries stays in memory once it is written. Also how
/// large an open transaction grows in memory before `write` takes it along.
const MEMORY_BYTES_MAX: usize = 256 * 1024;
/// Commits are put together into frames of about this size.
const FRAME_BYTES_MAX: usize = 1024 * 1024;

/// The only writer of a shape's log.
#[derive(Debug)]
pub struct Log {
    shared: Arc<Shared>,
    chunk_bytes_max: u64,
    memory_bytes_max: usize,
    snapshot: Option<Arc<Snapshot>>,
    /// The end of what was appended, and of what was committed.
    head: Head,
    committed: Head,
    /// Commit LSN of the last transaction, whether or not it had entries.
    position: Lsn,
    /// As far as `unwritten` says so.
    queued_position: Lsn,
    written_position: Lsn,
    durable_position: Lsn,
    /// Ends of closed chunks, committed; and those of the open transaction.
    closed: Arc<Vec<Offset>>,
    closing: Vec<Offset>,
    /// The open transaction, as far as it is in memory.
    open: Vec<Arc<Piece>>,
    open_bytes: usize,
    /// Where the file was before a part of the open transaction was written.
    spilled_from: Option<Option<(u32, u64)>>,
    tail: Tail,
    unwritten: VecDeque<Unwritten>,
    unwritten_bytes: usize,
    /// The last thing written was a part of a transaction without its commit.
    is_written_inside: bool,
    file: Option<ChunkFile>,
    /// Files could not be taken back: `file` is not to be believed.
    is_broken: bool,
    /// A commit must be written before it may be shown.
    is_withheld: bool,
    buffer: Vec<u8>,
    /// Nothing is published before the log has come this far: readers have seen
    /// it already, from the writer before.
    published_end: Offset,
}

#[derive(Debug)]
enum Unwritten {
    Entries(Arc<Piece>),
    Commit(Lsn),
}

impl Log {
    /// Makes the shape's directory.
    pub fn create(
        directory: &Directory,
        handle: &Handle,
        chunk_bytes_max: usize,
    ) -> Result<Self, Error> {
        directory.create_shape_dir(handle)?;
        Self::open(directory, handle, chunk_bytes_max)
    }

    /// Cuts the log at its last valid commit. A log that has files keeps the
    /// `chunk_bytes_max` it began with.
    pub fn open(
        directory: &Directory,
        handle: &Handle,
        chunk_bytes_max: usize,
    ) -> Result<Self, Error> {
        let end = Offset::SNAPSHOT_END;
        let view = View { snapshot: None, closed: Arc::default(), tail: TailView::empty(end), end };
        Self::open_with(&LogReader {
            shared: Arc::new(Shared {
                directory: directory.clone(),
                handle: handle.clone(),
                path: directory.shape_path(handle),
                chunk_bytes_max: chunk_bytes_max.max(1) as u64,
                view: ArcSwap::from_pointee(view),
            }),
        })
    }

    /// Opens again for a reader whose writer has died. What the reader has shown
    /// stays visible while a replay from [`Log::position`] catches up with it.
    pub fn open_with(reader: &LogReader) -> Result<Self, Error> {
        let shared = Arc::clone(&reader.shared);
        let disk = shared.directory.disk();
        let snapshot = Snapshot::load(disk, &shared.path)?.map(Arc::new);
        let recovered = chunk::recover(disk, &shared.path, shared.chunk_bytes_max)?;
        let (head, position) = (recovered.head, recovered.position);
        let mut log = Self {
            chunk_bytes_max: recovered.chunk_bytes_max,
            memory_bytes_max: MEMORY_BYTES_MAX,
            snapshot,
            head,
            committed: head,
            position,
            queued_position: position,
            written_position: position,
            durable_position: Lsn::ZERO,
            closed: Arc::new(recovered.closed),
            closing: Vec::new(),
            open: Vec::new(),
            open_bytes: 0,
            spilled_from: None,
            tail: Tail::new(head.end, MEMORY_BYTES_MAX),
            unwritten: VecDeque::new(),
            unwritten_bytes: 0,
            is_written_inside: false,
            file: recovered.file,
            is_broken: false,
            is_withheld: false,
            buffer: Vec::new(),
            published_end: shared.view.load().end,
            shared,
        };
        log.publish();
        Ok(log)
    }

    pub fn reader(&self) -> LogReader {
        LogReader { shared: Arc::clone(&self.shared) }
    }

    /// Shows the snapshot, which was written after this log was opened.
    pub fn snapshot_complete(&mut self, snapshot: Snapshot) {
        self.snapshot = Some(Arc::new(snapshot));
        self.publish();
    }

    /// Commit LSN of the last transaction that went in; a replay starts after it.
    pub fn position(&self) -> Lsn {
        self.position
    }

    /// The last committed offset; `0_inf` when there is none.
    pub fn end(&self) -> Offset {
        self.committed.end
    }

    /// Adds entries to the open transaction. Entries that the log has are left
    /// out, so that a replay may start too early.
    pub fn append(&mut self, batch: &Batch) -> Result<Appended, Error> {
        let is_held = |offset: Offset| offset.tx <= self.position.0 || offset <= self.head.end;
        let first = batch.entries.partition_point(|entry| is_held(entry.offset));
        let Some(entry) = batch.entries.get(first) else {
            return Ok(if first > 0 { Appended::Duplicate } else { Appended::Kept });
        };
        if !entries::is_well_formed(batch) {
            return Err(Error::OutOfOrder { found: Lsn(entry.offset.tx) });
        }
        for piece in self.head.cut(batch, first, self.chunk_bytes_max) {
            // The head has moved on: this piece is the last of its chunk.
            if piece.chunk < self.head.chunk {
                self.closing.push(piece.end);
            }
            self.open_bytes += piece.entries.json.len();
            self.open.push(Arc::new(piece));
        }
        Ok(Appended::Kept)
    }

    /// Makes what was appended visible. `commit_lsn` is that of the last
    /// transaction in it; one without entries only moves the position. After
    /// one that `write` took parts of, and while it fails, it waits for `write`.
    pub fn commit(&mut self, commit_lsn: Lsn) -> Appended {
        if commit_lsn <= self.position {
            return Appended::Duplicate;
        }
        self.position = commit_lsn;
        if self.head == self.committed {
            return Appended::Kept;
        }
        let spilled = self.spilled_from.take().is_some();
        if spilled {
            // What a failed write has left of the spilled part.
            for item in &self.unwritten {
                match item {
                    Unwritten::Entries(piece) => self.tail.push(Arc::clone(piece)),
                    Unwritten::Commit(_) => {}
                }
            }
        }
        for piece in self.open.drain(..) {
            self.tail.push(Arc::clone(&piece));
            self.unwritten.push_back(Unwritten::Entries(piece));
        }
        self.tail.end_at(self.head.end);
        self.unwritten.push_back(Unwritten::Commit(commit_lsn));
        self.queued_position = commit_lsn;
        self.unwritten_bytes += std::mem::take(&mut self.open_bytes);
        self.committed = self.head;
        if !self.closing.is_empty() {
            Arc::make_mut(&mut self.closed).append(&mut self.closing);
        }
        // Without its commit frame the next writer would cut off what of this
        // transaction is in files only. Should this fail, `write` says so.
        self.is_withheld = (self.is_withheld || spilled) && self.write_queue().is_err();
        self.trim();
        self.publish();
        Appended::Kept
    }

    /// Forgets what was appended since the last commit.
    pub fn rollback(&mut self) -> Result<(), Error> {
        self.head = self.committed;
        self.open.clear();
        self.open_bytes = 0;
        self.closing.clear();
        match self.spilled_from.take() {
            Some(point) => self.unspill(point),
            None => Ok(()),
        }
    }

    /// Bytes of JSON that are in memory only.
    pub fn unwritten_bytes(&self) -> usize {
        self.unwritten_bytes + self.open_bytes
    }

    /// Bytes kept in memory for readers, including what is not written yet.
    pub fn memory_bytes(&self) -> usize {
        self.tail.byte_count() + self.open_bytes
    }

    /// How much stays in memory once it is written; 256 KiB unless told.
    pub fn set_memory_bytes_max(&mut self, bytes_max: usize) {
        self.memory_bytes_max = bytes_max;
        self.tail.set_bytes_max(bytes_max);
    }

    /// Hands everything committed to the operating system, and a part of a
    /// large open transaction, too. To be repeated after an error.
    pub fn write(&mut self) -> Result<(), Error> {
        self.write_queue()?;
        if self.open_bytes > self.memory_bytes_max {
            self.spill()?;
        }
        Ok(())
    }

    /// Makes everything committed durable and returns the position that is:
    /// the journal is no longer needed up to there.
    pub fn sync(&mut self) -> Result<Lsn, Error> {
        if self.queued_position < self.position && self.spilled_from.is_none() {
            self.unwritten.push_back(Unwritten::Commit(self.position));
            self.queued_position = self.position;
        }
        self.write()?;
        if let Some(file) = &mut self.file {
            file.sync(self.shared.directory.disk())?;
        }
        self.durable_position = self.written_position;
        Ok(self.durable_position)
    }

    /// Drops everything from memory that is written. Readers go to the files.
    pub fn release_memory(&mut self) {
        if self.unwritten.is_empty() {
            self.tail.clear();
            self.buffer = Vec::new();
            self.publish();
        }
    }

    fn trim(&mut self) {
        let first_unwritten = self.unwritten.iter().find_map(|item| match item {
            Unwritten::Entries(piece) => Some(piece.after),
            Unwritten::Commit(_) => None,
        });
        self.tail.trim(first_unwritten.unwrap_or(self.committed.end));
    }

    fn publish(&mut self) {
        let end = self.committed.end;
        if end < self.published_end || self.is_withheld {
            return;
        }
        self.published_end = end;
        let (snapshot, closed) = (self.snapshot.clone(), Arc::clone(&self.closed));
        let view = View { snapshot, closed, tail: self.tail.view(end), end };
        self.shared.view.store(Arc::new(view));
    }

    /// Writes a part of the open transaction, and forgets it.
    fn spill(&mut self) -> Result<(), Error> {
        let point = self.file.as_ref().map(|file| (file.index, file.byte_count));
        self.spilled_from.get_or_insert(point);
        self.unwritten.extend(self.open.drain(..).map(Unwritten::Entries));
        self.unwritten_bytes += std::mem::take(&mut self.open_bytes);
        self.write_queue()
    }

    /// Takes the files back to where they were before `spill`.
    fn unspill(&mut self, point: Option<(u32, u64)>) -> Result<(), Error> {
        self.unwritten.clear();
        self.unwritten_bytes = 0;
        self.is_written_inside = false;
        self.is_broken = true;
        let (disk, path) = (self.shared.directory.disk(), &self.shared.path);
        let last = self.file.take().map_or(0, |file| file.index + 1);
        let kept = point.map_or(0, |(index, _)| index + 1);
        // One after the other, or a crash may leave a later one without those
        // before it.
        for index in (kept..=last).rev() {
            disk.remove_file(&chunk::path(path, index))?;
            disk.sync_dir(path)?;
        }
        if let Some((index, byte_count)) = point {
            self.file = Some(ChunkFile::reopen(disk, path, index, byte_count)?);
        }
        self.is_broken = false;
        Ok(())
    }

    fn write_queue(&mut self) -> Result<(), Error> {
        if self.is_broken {
            return Err(Error::Unusable { path: self.shared.path.clone() });
        }
        while let Some(first) = self.unwritten.front() {
            let at = match first {
                Unwritten::Entries(piece) => Some((piece.chunk, piece.after)),
                Unwritten::Commit(_) => None,
            };
            let (index, file_after) = match (at, &self.file) {
                (Some(at), _) => at,
                (None, Some(file)) => (file.index, self.committed.end),
                (None, None) => (self.committed.chunk, self.committed.end),
            };
            self.open_file(index, file_after)?;
            let count = self.gather(index)?;
            if let Some(file) = &mut self.file {
                file.append(self.shared.directory.disk(), &self.buffer)?;
            }
            self.settle(count);
        }
        self.trim();
        if std::mem::take(&mut self.is_withheld) {
            self.publish();
        }
        Ok(())
    }

    /// Makes `file` that of chunk `index`, which begins after `after`.
    fn open_file(&mut self, index: u32, after: Offset) -> Result<(), Error> {
        if let Some(file) = &mut self.file {
            if file.index == index {
                return Ok(());
            }
            file.sync(self.shared.directory.disk())?;
        }
        let origin = Origin {
            after,
            position: self.written_position,
            starts_inside: self.is_written_inside,
            chunk_bytes_max: self.chunk_bytes_max,
        };
        let (directory, path): (_, &Path) = (&self.shared.directory, &self.shared.path);
        let created = (origin, directory.token());
        self.file = Some(ChunkFile::create(directory.disk(), path, index, created)?);
        Ok(())
    }

    /// Puts what goes to chunk `index` into `buffer`, as frames; returns how
    /// many items of the queue that is.
    fn gather(&mut self, index: u32) -> Result<usize, Error> {
        self.buffer.clear();
        let mut group = Group::default();
        let mut count = 0;
        for item in &self.unwritten {
            match item {
                Unwritten::Entries(piece) if piece.chunk != index => break,
                Unwritten::Entries(piece) => {
                    if group.byte_count >= FRAME_BYTES_MAX {
                        group.put(&mut self.buffer)?;
                    }
                    group.byte_count += piece.entries.json.len();
                    group.pieces.push(Arc::clone(piece));
                }
                Unwritten::Commit(lsn) => group.commit = Some((group.pieces.len(), *lsn)),
            }
            count += 1;
        }
        group.put(&mut self.buffer)?;
        Ok(count)
    }

    /// The first `count` items of the queue are in the file.
    fn settle(&mut self, count: usize) {
        for item in self.unwritten.drain(..count) {
            match item {
                Unwritten::Entries(piece) => {
                    self.unwritten_bytes -= piece.entries.json.len();
                    self.is_written_inside = true;
                }
                Unwritten::Commit(lsn) => {
                    self.written_position = lsn;
                    self.is_written_inside = false;
                }
            }
        }
    }
}

/// What will be one frame, or two when only a part of it is committed.
#[derive(Debug, Default)]
struct Group {
    pieces: Vec<Arc<Piece>>,
    byte_count: usize,
    /// How many of the pieces lie before the last commit.
    commit: Option<(usize, Lsn)>,
}

impl Group {
    fn put(&mut self, out: &mut Vec<u8>) -> Result<(), Error> {
        let committed = self.commit.map_or(0, |(count, _)| count);
        if let Some((_, lsn)) = self.commit {
            chunk::put_frame(out, Some(lsn), &self.pieces[..committed])?;
        }
        if committed < self.pieces.len() {
            chunk::put_frame(out, None, &self.pieces[committed..])?;
        }
        *self = Self::default();
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests;

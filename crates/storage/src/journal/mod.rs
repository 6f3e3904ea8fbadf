//! The journal: every transaction that any shape may need, in commit order.
//!
//! The one place whose durability is confirmed to Postgres (invariant I-1) and
//! the one place that drops repetitions (I-2). Appends gather in memory; one
//! [`Journal::sync`] makes all of them durable with one write and one fsync. A
//! transaction may be written in parts, but nothing counts before its commit:
//! [`Journal::position`] speaks of complete, durable transactions only.
//!
//! After an error of `sync` nothing is lost: it can be called again, which
//! writes the same bytes, after a failed fsync into a new file.

mod encoding;
mod reader;
mod segment;

use std::collections::VecDeque;
use std::path::PathBuf;

use change::{Fragment, Lsn};

pub use self::reader::JournalReader;
pub(crate) use self::segment::highest_token;
use self::segment::{FRAGMENT, MARK};
use crate::directory::Directory;
use crate::error::Error;
use crate::file::{DiskFile, Mode};
use crate::record;

#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// A file that has reached this takes no further transaction. It may exceed
    /// it by what one `sync` writes.
    pub segment_bytes: u64,
}

/// What is in the journal for good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Of the last transaction; nothing at or below it is taken again.
    pub commit_lsn: Lsn,
    /// The end of the last transaction, or the last mark if that is higher: the
    /// only LSN that is ever confirmed to Postgres.
    pub ack_lsn: Lsn,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    Kept,
    /// Held already: nothing was done.
    Duplicate,
}

/// The only writer. See the module header.
#[derive(Debug)]
pub struct Journal {
    directory: Directory,
    path: PathBuf,
    limits: Limits,
    encoder: encoding::Encoder,
    /// Oldest first; they take no more writes.
    closed: VecDeque<Closed>,
    current: Option<Current>,
    /// Records that are not durable yet, in order.
    pending: Vec<u8>,
    /// `pending` begins inside a transaction that begins here in the file.
    continues_from: Option<u64>,
    open: Option<Open>,
    /// What was appended is lost, up to `durable`. Nothing is taken until the
    /// session has ended, or there would be a hole.
    interrupted: bool,
    /// Complete transactions and marks, durable or pending.
    appended: Position,
    durable: Position,
}

#[derive(Clone, Copy, Debug)]
struct Closed {
    name: Lsn,
    /// Not below any commit LSN in the file.
    last: Lsn,
    byte_count: u64,
}

#[derive(Debug)]
struct Current {
    name: Lsn,
    file: DiskFile,
    /// How much of the file is written and synced.
    byte_count: u64,
    /// Whether it holds a whole transaction. Without, it is not closed, since the
    /// next one would have the same name.
    is_used: bool,
    state: FileState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FileState {
    Good,
    /// There may be bytes behind `byte_count` which must go first.
    Cut,
    /// An fsync failed. What the kernel holds of the file may differ from the
    /// disk for ever, so nothing more is written to it.
    Suspect,
}

/// The transaction whose commit has not been appended.
#[derive(Clone, Copy, Debug)]
struct Open {
    commit_lsn: Lsn,
    start: OpenStart,
}

#[derive(Clone, Copy, Debug)]
enum OpenStart {
    /// Index into `pending`.
    Pending(usize),
    /// Position in the current file.
    Written(u64),
}

impl Journal {
    pub fn open(directory: &Directory, limits: Limits) -> Result<Self, Error> {
        let (disk, path) = (directory.disk(), directory.journal_path());
        let mut names = segment::list(disk, &path)?;
        let mut current = None;
        let mut position = Position::default();
        while let Some(name) = names.pop() {
            let segment_path = segment::path(&path, name);
            if segment::is_stillborn(disk, &segment_path)? {
                // The power went while it was created: nothing in it was ever
                // reported as durable.
                tracing::warn!(path = %segment_path.display(), "journal: set an unborn file aside");
                disk.rename(&segment_path, &segment_path.with_extension("unborn"))?;
                continue;
            }
            let recovered = segment::recover(disk, &segment_path)?;
            let segment::Recovered { file, byte_count, is_used, .. } = recovered;
            position = recovered.position;
            current = Some(Current { name, file, byte_count, is_used, state: FileState::Good });
            break;
        }
        disk.sync_dir(&path)?;
        let closed = segment::closed(disk, &path, &names, current.as_ref().map(|file| file.name))?;
        Ok(Self {
            directory: directory.clone(),
            path,
            limits,
            encoder: encoding::Encoder::default(),
            closed,
            current,
            pending: Vec::new(),
            continues_from: None,
            open: None,
            interrupted: false,
            appended: position,
            durable: position,
        })
    }

    pub fn position(&self) -> Position {
        self.durable
    }

    /// Takes a fragment into memory. The fragments of a transaction come one
    /// after the other; the first one of the next discards an unfinished one,
    /// since then the session was opened again.
    pub fn append(&mut self, fragment: &Fragment) -> Result<Appended, Error> {
        if self.interrupted {
            return Err(Error::OutOfOrder { found: fragment.commit_lsn });
        }
        if fragment.first {
            self.discard_open();
        }
        if fragment.commit_lsn <= self.appended.commit_lsn {
            return Ok(Appended::Duplicate);
        }
        match (self.open, fragment.first) {
            (None, true) => self.begin(fragment.commit_lsn),
            (Some(open), false) if open.commit_lsn == fragment.commit_lsn => {}
            (None, false) | (Some(_), false | true) => {
                return Err(Error::OutOfOrder { found: fragment.commit_lsn });
            }
        }
        let start = record::begin(&mut self.pending, FRAGMENT);
        self.encoder.encode(fragment, &mut self.pending);
        record::end(&mut self.pending, start).inspect_err(|_| self.interrupt())?;
        if let Some(commit) = fragment.commit {
            self.open = None;
            self.appended.commit_lsn = fragment.commit_lsn;
            self.appended.ack_lsn = self.appended.ack_lsn.max(commit.end_lsn);
        }
        Ok(Appended::Kept)
    }

    fn begin(&mut self, commit_lsn: Lsn) {
        self.encoder.begin();
        self.open = Some(Open { commit_lsn, start: OpenStart::Pending(self.pending.len()) });
    }

    /// Takes the server's idle WAL end into memory, so that it may be confirmed
    /// once it is durable. Without effect inside a transaction, whose changes
    /// lie below it and are not held yet.
    pub fn mark(&mut self, lsn: Lsn) {
        if self.open.is_some() || lsn <= self.appended.ack_lsn {
            return;
        }
        let start = record::begin(&mut self.pending, MARK);
        self.pending.extend_from_slice(&lsn.0.to_le_bytes());
        record::end(&mut self.pending, start).expect("eight bytes are no more than 4 GiB");
        self.appended.ack_lsn = lsn;
    }

    /// Forgets the transaction whose commit has not come. To be called when a
    /// session ends; Postgres sends it again.
    pub fn discard_unfinished(&mut self) {
        self.interrupted = false;
        self.discard_open();
    }

    fn discard_open(&mut self) {
        let Some(Open { start, .. }) = self.open.take() else { return };
        match start {
            OpenStart::Pending(index) => self.pending.truncate(index),
            OpenStart::Written(pos) => {
                self.pending.clear();
                self.continues_from = None;
                if let Some(current) = &mut self.current {
                    current.cut(pos);
                }
            }
        }
    }

    /// Bytes that wait for [`Journal::sync`].
    pub fn pending_bytes(&self) -> usize {
        self.pending.len()
    }

    /// Makes everything appended durable. To be repeated after an error, when
    /// its cause may have passed.
    pub fn sync(&mut self) -> Result<Position, Error> {
        if self.pending.is_empty() {
            return Ok(self.durable);
        }
        self.leave_suspect()?;
        let is_full = self.current.as_ref().is_some_and(|current| {
            current.is_used && current.byte_count >= self.limits.segment_bytes
        });
        if is_full && self.continues_from.is_none() {
            self.directory.check_token()?;
            self.end_current()?;
        }
        let written_from = match &mut self.current {
            Some(current) => {
                let pos = current.byte_count;
                current.append(&self.pending)?;
                pos
            }
            None => self.create_segment()?,
        };
        self.settle(written_from);
        Ok(self.durable)
    }

    /// `pending` is durable, from this file position on.
    fn settle(&mut self, written_from: u64) {
        if let Some(Open { start: start @ OpenStart::Pending(_), .. }) = &mut self.open
            && let OpenStart::Pending(index) = *start
        {
            *start = OpenStart::Written(written_from + index as u64);
        }
        if let Some(current) = &mut self.current {
            current.is_used |= self.appended.commit_lsn > self.durable.commit_lsn;
        }
        self.continues_from = match self.open {
            Some(Open { start: OpenStart::Written(pos), .. }) => Some(pos),
            Some(Open { start: OpenStart::Pending(_), .. }) | None => None,
        };
        self.pending.clear();
        self.durable = self.appended;
    }

    /// A file whose fsync failed is cut to what was durable before, and closed:
    /// what waits goes into a new one.
    fn leave_suspect(&mut self) -> Result<(), Error> {
        if !self.current.as_ref().is_some_and(Current::is_suspect) {
            return Ok(());
        }
        if self.continues_from.is_some() {
            // The beginning is in the old file and a file must not begin in the
            // middle. Nothing here was confirmed, so Postgres sends it again.
            let found = self.open.map_or(self.appended.commit_lsn, |open| open.commit_lsn);
            self.interrupt();
            return Err(Error::OutOfOrder { found });
        }
        self.end_current()
    }

    fn interrupt(&mut self) {
        self.discard_open();
        if let (Some(pos), Some(current)) = (self.continues_from.take(), &mut self.current) {
            current.cut(pos);
        }
        self.pending.clear();
        self.appended = self.durable;
        self.interrupted = true;
    }

    /// Closes the current file where it counts: a discarded beginning of a
    /// transaction must not lie before the file in which it is whole.
    fn end_current(&mut self) -> Result<(), Error> {
        if let Some(current) = &self.current {
            current.end()?;
        }
        if let Some(Current { name, byte_count, .. }) = self.current.take() {
            self.closed.push_back(Closed { name, last: self.durable.commit_lsn, byte_count });
        }
        Ok(())
    }

    /// Writes `pending` as a new file and returns where in it it begins.
    fn create_segment(&mut self) -> Result<u64, Error> {
        let name = Lsn(self.durable.commit_lsn.0.saturating_add(1));
        let header = segment::header(self.directory.token(), self.durable).encode();
        let (path, unborn) = (segment::path(&self.path, name), segment::unborn(&self.path));
        let disk = self.directory.disk();
        // Not emptied but removed: an earlier attempt's fsync may have failed.
        disk.remove_file(&unborn)?;
        let file = disk.open(&unborn, Mode::Replace)?;
        file.write_all_at(&header, 0)?;
        file.write_all_at(&self.pending, header.len() as u64)?;
        file.sync()?;
        // It may take the place of a suspect one without transactions, of which
        // its header says all there is to say.
        disk.rename(&unborn, &path)?;
        let file = file.renamed(&path);
        disk.sync_dir(&self.path)?;
        self.closed.retain(|closed| closed.name != name);
        let written_from = header.len() as u64;
        let byte_count = written_from + self.pending.len() as u64;
        let state = FileState::Good;
        self.current = Some(Current { name, file, byte_count, is_used: false, state });
        Ok(written_from)
    }

    /// Deletes files whose every transaction is at or below `lsn`; never the
    /// newest, which keeps the position. Returns how many.
    pub fn remove_before(&mut self, lsn: Lsn) -> Result<u64, Error> {
        let mut removed = 0;
        while let Some(oldest) = self.closed.front()
            && oldest.last <= lsn
            && self.closed.len() + usize::from(self.current.is_some()) > 1
        {
            self.directory.disk().remove_file(&segment::path(&self.path, oldest.name))?;
            self.closed.pop_front();
            removed += 1;
        }
        if removed > 0 {
            self.directory.disk().sync_dir(&self.path)?;
        }
        Ok(removed)
    }

    /// For a new slot, whose WAL begins at `start`: removes everything, durably
    /// begins again there. A commit record may lie at `start` itself.
    pub fn reset(&mut self, start: Lsn) -> Result<Position, Error> {
        self.interrupt();
        self.interrupted = false;
        self.current = None;
        self.closed.clear();
        let disk = self.directory.disk();
        // The newest last, so that a crash in between leaves a journal whose
        // position is still the old one.
        for name in segment::list(disk, &self.path)? {
            disk.remove_file(&segment::path(&self.path, name))?;
        }
        disk.sync_dir(&self.path)?;
        let commit_lsn = Lsn(start.0.saturating_sub(1));
        self.durable = Position { commit_lsn, ack_lsn: commit_lsn };
        self.appended = self.durable;
        self.mark(start);
        self.sync()
    }

    /// Everything on disk and in memory.
    pub fn byte_count(&self) -> u64 {
        let closed: u64 = self.closed.iter().map(|closed| closed.byte_count).sum();
        let current = self.current.as_ref().map_or(0, |current| current.byte_count);
        closed + current + self.pending.len() as u64
    }

    /// Not above the first transaction that is held; `None` when there is none.
    pub fn first_lsn(&self) -> Option<Lsn> {
        match self.closed.front() {
            Some(closed) => Some(closed.name),
            None => self.current.as_ref().filter(|current| current.is_used).map(|file| file.name),
        }
    }
}

impl Current {
    /// Durable when it returns.
    fn append(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if self.state == FileState::Cut {
            self.file.set_len(self.byte_count)?;
            // Durably, or a power cut may keep the new bytes and undo this, and
            // old records would continue the new ones.
            self.file.sync().inspect_err(|_| self.state = FileState::Suspect)?;
        }
        self.state = FileState::Cut;
        self.file.write_all_at(bytes, self.byte_count)?;
        self.file.sync().inspect_err(|_| self.state = FileState::Suspect)?;
        self.state = FileState::Good;
        self.byte_count += bytes.len() as u64;
        Ok(())
    }

    /// What lies behind `byte_count` no longer counts.
    fn cut(&mut self, byte_count: u64) {
        self.byte_count = byte_count;
        self.state = match self.state {
            FileState::Good | FileState::Cut => FileState::Cut,
            FileState::Suspect => FileState::Suspect,
        };
    }

    fn end(&self) -> Result<(), Error> {
        match self.state {
            FileState::Good => Ok(()),
            FileState::Cut => {
                self.file.set_len(self.byte_count)?;
                self.file.sync()
            }
            // Never synced again; a reader can do with what is left of it.
            FileState::Suspect => self.file.set_len(self.byte_count),
        }
    }

    fn is_suspect(&self) -> bool {
        match self.state {
            FileState::Suspect => true,
            FileState::Good | FileState::Cut => false,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;

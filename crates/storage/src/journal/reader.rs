//! Reading the journal while it is being written.
//!
//! The reader never looks at more than the caller vouches for: bytes of a
//! transaction above `durable` may be half written, or be cut off again and
//! replaced by others. So what was read ahead is believed only for transactions
//! that were durable when it was read.

use std::path::PathBuf;

use change::{Fragment, Lsn};

use super::encoding::{Decoder, Head};
use super::segment::{self, FRAGMENT, MARK};
use crate::directory::Directory;
use crate::error::Error;
use crate::file::{Disk, Mode};
use crate::format::HEADER_BYTES;
use crate::record::{Record, Stream};

/// How often a file may vanish between being found and being opened.
const OPEN_ATTEMPTS: usize = 10;

/// Yields the transactions after some LSN, in order.
#[derive(Debug)]
pub struct JournalReader {
    disk: Disk,
    path: PathBuf,
    decoder: Decoder,
    /// Everything up to here was yielded, or is not wanted.
    after: Lsn,
    /// The transaction of which a part was yielded.
    open: Option<Lsn>,
    /// Of the last change of that part; they ascend within a transaction.
    op_index: Option<u64>,
    segment: Option<Segment>,
}

#[derive(Debug)]
struct Segment {
    name: Lsn,
    stream: Stream,
    /// Commit LSN of the last transaction passed in this file or before it.
    passed: Lsn,
    /// What was durable when the stream's buffer was read.
    vouched: Lsn,
    /// Where reading goes on: after the last durable record that was looked at.
    pos: u64,
    /// Opened when this was durable, as far as is known.
    opened_at: Lsn,
}

impl JournalReader {
    /// Fails with [`Error::Removed`] when transactions after `after` were
    /// removed.
    pub fn open(directory: &Directory, after: Lsn) -> Result<Self, Error> {
        let mut reader = Self {
            disk: directory.disk().clone(),
            path: directory.journal_path(),
            decoder: Decoder::default(),
            after,
            open: None,
            op_index: None,
            segment: None,
        };
        match reader.open_first() {
            // The first file is just being created. If it is not, `next` says so.
            Err(Error::Damaged { pos: 0, .. }) | Ok(()) => Ok(reader),
            Err(error) => Err(error),
        }
    }

    /// The next fragment of a transaction with `after < commit_lsn <= durable`,
    /// where `durable` is the journal's `Position::commit_lsn`; `None`: no more
    /// of them now. A fragment with `first` makes all that came before it of
    /// the same transaction void.
    pub fn next(&mut self, durable: Lsn) -> Result<Option<Fragment>, Error> {
        if durable <= self.after && self.open.is_none() {
            return Ok(None);
        }
        if self.segment.is_none() {
            self.open_first()?;
        }
        while let Some(segment) = &mut self.segment {
            match segment.next(durable)? {
                Found::Record(record, head) => {
                    if let Some(fragment) = self.take(record, head)? {
                        return Ok(Some(fragment));
                    }
                }
                Found::NotDurable => return Ok(None),
                Found::End => {
                    if !self.open_next(durable)? {
                        return Ok(None);
                    }
                }
            }
        }
        Ok(None)
    }

    /// The transactions that this reader has yielded whole, or skipped.
    pub fn position(&self) -> Lsn {
        self.after
    }

    fn take(&mut self, record: Record, head: Head) -> Result<Option<Fragment>, Error> {
        let damaged = |path, reason| Error::damaged(path, record.pos, reason);
        let Some(segment) = &mut self.segment else { return Ok(None) };
        let path = segment.stream.file().path();
        if head.commit.is_some() {
            segment.passed = segment.passed.max(head.commit_lsn);
        }
        if head.commit_lsn <= self.after {
            return Ok(None);
        }
        if self.open != (!head.first).then_some(head.commit_lsn) {
            return Err(damaged(path, "a fragment is out of order"));
        }
        let fragment = self
            .decoder
            .decode(record.payload.clone())
            .map_err(|_| damaged(path, "a fragment is malformed"))?;
        if head.first {
            self.op_index = None;
        }
        if let (Some(first), Some(last)) = (fragment.changes.first(), fragment.changes.last()) {
            if self.op_index.is_some_and(|op_index| first.op_index <= op_index) {
                return Err(damaged(path, "a fragment is there twice"));
            }
            self.op_index = Some(last.op_index);
        }
        self.open = Some(head.commit_lsn);
        if head.commit.is_some() {
            self.open = None;
            self.after = head.commit_lsn;
        }
        Ok(Some(fragment))
    }

    /// Opens the file in which the first transaction after `after` is, or will
    /// be. No file is no error: nothing was journalled yet.
    fn open_first(&mut self) -> Result<(), Error> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let names = segment::list(&self.disk, &self.path)?;
            let index = names.partition_point(|&name| name <= self.after);
            let Some(&name) = names.get(index.saturating_sub(1)) else { return Ok(()) };
            match Segment::open(&self.disk, &self.path, name) {
                Ok(segment) if segment.passed > self.after => {
                    return Err(Error::Removed { after: self.after, oldest: segment.passed });
                }
                Ok(segment) => {
                    self.segment = Some(segment);
                    return Ok(());
                }
                // Removed meanwhile, or just being created.
                Err(error) if error.is_not_found() && attempt < OPEN_ATTEMPTS => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Goes on to the next file, if there is one.
    fn open_next(&mut self, durable: Lsn) -> Result<bool, Error> {
        let Some(segment) = &mut self.segment else { return Ok(false) };
        let names = segment::list(&self.disk, &self.path)?;
        let index = names.partition_point(|&name| name <= segment.name);
        // One above `durable` may be half written.
        let Some(&name) = names.get(index).filter(|&&name| name <= durable) else {
            return self.open_again(durable);
        };
        let next = Segment::open(&self.disk, &self.path, name)?;
        // All that is durable was in the old file when it was read to its end. A
        // power cut may bring back some of the files that were removed, with
        // gaps between them, which do not matter to who is past them.
        if next.passed > segment.passed.max(self.after) {
            return Err(Error::Removed { after: self.after, oldest: next.passed });
        }
        // Left over from a file that could not be synced: here it is whole.
        self.open = None;
        self.segment = Some(next);
        Ok(true)
    }

    /// A file without transactions that could not be synced has its name taken
    /// by another one.
    fn open_again(&mut self, durable: Lsn) -> Result<bool, Error> {
        let Some(segment) = &self.segment else { return Ok(false) };
        if segment.opened_at >= durable {
            return Ok(false);
        }
        let again = Segment::open(&self.disk, &self.path, segment.name)?;
        self.open = None;
        self.segment = Some(Segment { opened_at: durable, ..again });
        Ok(true)
    }
}

enum Found {
    Record(Record, Head),
    NotDurable,
    End,
}

impl Segment {
    fn open(disk: &Disk, journal_path: &std::path::Path, name: Lsn) -> Result<Self, Error> {
        let file = disk.open(&segment::path(journal_path, name), Mode::Read)?;
        let passed = segment::before(&segment::read_header(&file)?).commit_lsn;
        let pos = HEADER_BYTES as u64;
        let (stream, none) = (Stream::new(file, pos), Lsn::ZERO);
        Ok(Self { name, stream, passed, vouched: none, pos, opened_at: none })
    }

    fn next(&mut self, durable: Lsn) -> Result<Found, Error> {
        loop {
            let record = self.stream.next()?;
            if self.stream.take_filled() {
                self.vouched = durable;
            }
            let Some(record) = record else {
                let is_fresh = self.vouched >= durable;
                self.rewind(durable);
                match is_fresh {
                    true => return Ok(Found::End),
                    false => continue,
                }
            };
            let malformed =
                || Error::damaged(self.stream.file().path(), record.pos, "a fragment is malformed");
            match record.kind {
                FRAGMENT => {}
                MARK => continue,
                _ => return Err(malformed()),
            }
            let head = Head::decode(&record.payload).map_err(|_| malformed())?;
            if head.commit_lsn <= self.vouched {
                self.pos = self.stream.pos();
                return Ok(Found::Record(record, head));
            }
            self.rewind(durable);
            if head.commit_lsn > durable {
                return Ok(Found::NotDurable);
            }
        }
    }

    fn rewind(&mut self, durable: Lsn) {
        self.stream.seek(self.pos);
        self.vouched = durable;
    }
}

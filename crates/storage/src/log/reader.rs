//! Reading a log, from any thread, without waiting for its writer.
//!
//! A reader takes the view that the writer published last and works on it
//! alone: closed chunks and older entries are in files that only grow behind
//! what the view covers, newer entries are in memory that never changes.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::{Bytes, BytesMut};
use shape::{Handle, Offset, RequestOffset, Visibility};

use super::chunk;
use super::tail::TailView;
use crate::directory::Directory;
use crate::error::Error;
use crate::snapshot::Snapshot;

/// Above this many pieces, copying them together costs less than handing each
/// of them to the socket.
const BODY_PARTS_MAX: usize = 32;

/// Outlives the writer, and shows what the next one writes.
#[derive(Clone, Debug)]
pub struct LogReader {
    pub(super) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) directory: Directory,
    pub(super) handle: Handle,
    pub(super) path: PathBuf,
    pub(super) chunk_bytes_max: u64,
    pub(super) view: ArcSwap<View>,
}

/// Everything committed up to some moment.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub(super) snapshot: Option<Arc<Snapshot>>,
    /// Ends of closed chunks, ascending.
    pub(super) closed: Arc<Vec<Offset>>,
    pub(super) tail: TailView,
    pub(super) end: Offset,
}

/// A piece of a log as a response carries it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// Together the entries, separated by commas; none at either end.
    pub body: Vec<Bytes>,
    /// The offset of the last entry, or the one asked for when there is none.
    pub end: Offset,
    /// Nothing came after it when it was read.
    pub at_end: bool,
    /// It goes up to the end of a closed chunk: the same request will always
    /// give the same bytes.
    pub closed: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Also when the snapshot is not complete and something of it is asked for.
    #[error("the offset is behind the end of the log")]
    OutOfBounds,
    #[error("the shape's files were removed")]
    Gone,
    #[error(transparent)]
    Io(Error),
}

impl From<Error> for ReadError {
    fn from(error: Error) -> Self {
        if error.is_not_found() { Self::Gone } else { Self::Io(error) }
    }
}

impl LogReader {
    /// The last committed offset; `0_inf` when there is none.
    pub fn end(&self) -> Offset {
        self.shared.view.load().end
    }

    /// 0 until the snapshot is complete.
    pub fn snapshot_chunks(&self) -> u32 {
        self.shared.view.load().snapshot.as_ref().map_or(0, |snapshot| snapshot.chunk_count())
    }

    pub fn snapshot(&self) -> Option<Arc<Snapshot>> {
        self.shared.view.load().snapshot.clone()
    }

    pub fn visibility(&self) -> Option<Visibility> {
        self.shared.view.load().snapshot.as_ref().map(|snapshot| snapshot.visibility().clone())
    }

    pub fn handle(&self) -> &Handle {
        &self.shared.handle
    }

    /// Whether [`Self::read`] needs no file for this.
    pub fn is_in_memory(&self, after: RequestOffset) -> bool {
        let view = self.shared.view.load();
        match after {
            RequestOffset::Now => true,
            RequestOffset::Start => false,
            RequestOffset::At(offset) if offset.is_virtual() && offset != Offset::SNAPSHOT_END => {
                false
            }
            RequestOffset::At(offset) => offset >= view.tail.start,
        }
    }

    /// Everything after `after` up to the end of its chunk, or to the end of
    /// the log if that comes first (protocol §5.2).
    pub fn read(&self, after: RequestOffset) -> Result<Slice, ReadError> {
        let view = self.shared.view.load_full();
        match after {
            RequestOffset::Now => Ok(Slice::empty(view.end)),
            RequestOffset::Start => self.read_snapshot(&view, 0),
            RequestOffset::At(offset) if offset.is_virtual() && offset != Offset::SNAPSHOT_END => {
                let next = offset.op.saturating_add(1);
                let chunk_count =
                    view.snapshot.as_ref().ok_or(ReadError::OutOfBounds)?.chunk_count();
                match u32::try_from(next).ok().filter(|&next| next < chunk_count) {
                    Some(next) => self.read_snapshot(&view, next),
                    None => self.read_log(&view, Offset::SNAPSHOT_END),
                }
            }
            RequestOffset::At(offset) => self.read_log(&view, offset),
        }
    }

    fn read_snapshot(&self, view: &View, index: u32) -> Result<Slice, ReadError> {
        let snapshot = view.snapshot.as_ref().ok_or(ReadError::OutOfBounds)?;
        let body = snapshot.read(self.shared.directory.disk(), &self.shared.path, index)?;
        let end = Offset::snapshot_chunk(index);
        Ok(Slice { body: vec![body], end, at_end: false, closed: true })
    }

    fn read_log(&self, view: &View, after: Offset) -> Result<Slice, ReadError> {
        if after > view.end {
            return Err(ReadError::OutOfBounds);
        }
        if after == view.end {
            return Ok(Slice::empty(after));
        }
        let index = view.closed.partition_point(|&end| end <= after);
        let (end, closed) = match view.closed.get(index) {
            Some(&end) => (end, true),
            None => (view.end, false),
        };
        let mut body = Vec::new();
        if after < view.tail.start {
            let path = chunk::path(&self.shared.path, index as u32);
            let until = end.min(view.tail.start);
            chunk::read(self.shared.directory.disk(), &path, (after, until), &mut body)?;
        }
        view.tail.collect(after.max(view.tail.start), end, &mut body);
        Ok(Slice { body: finish(body), end, at_end: end == view.end, closed })
    }
}

impl Slice {
    fn empty(end: Offset) -> Self {
        Self { body: Vec::new(), end, at_end: true, closed: false }
    }

    /// Bytes of the body.
    pub fn byte_count(&self) -> usize {
        self.body.iter().map(Bytes::len).sum()
    }
}

/// Takes the last comma off, and joins what is too scattered.
fn finish(mut parts: Vec<Bytes>) -> Vec<Bytes> {
    if let Some(last) = parts.last_mut() {
        last.truncate(last.len().saturating_sub(1));
    }
    if parts.len() <= BODY_PARTS_MAX {
        return parts;
    }
    let mut joined = BytesMut::with_capacity(parts.iter().map(Bytes::len).sum());
    parts.iter().for_each(|part| joined.extend_from_slice(part));
    vec![joined.freeze()]
}

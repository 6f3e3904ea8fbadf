//! Reads the fields of one message, and never past its end.

use bytes::Bytes;
use change::{Cell, Relation, Row};

use crate::error::Error;

/// Postgres' limit on the columns of a result (`MaxTupleAttributeNumber`).
const COLUMN_COUNT_MAX: usize = 1664;

/// A reader of one message that knows where in its block it is.
#[derive(Debug)]
pub(super) struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
    block: &'a Bytes,
    block_start: usize,
}

impl<'a> Input<'a> {
    /// `bytes` is the part of `block` that begins at `block_start`.
    pub(super) fn new(block: &'a Bytes, bytes: &'a [u8], block_start: usize) -> Self {
        Self { bytes, at: 0, block, block_start }
    }

    pub(super) fn byte_count(&self) -> usize {
        self.bytes.len()
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Error> {
        let end = self.at.checked_add(count).ok_or_else(cut_short)?;
        let taken = self.bytes.get(self.at..end).ok_or_else(cut_short)?;
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let rest = self.bytes.get(self.at..).ok_or_else(cut_short)?;
        let array = *rest.first_chunk::<N>().ok_or_else(cut_short)?;
        self.at += N;
        Ok(array)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Error> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Result<u16, Error> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Error> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Error> {
        self.array().map(u64::from_be_bytes)
    }

    pub(super) fn expect(&mut self, tag: u8) -> Result<(), Error> {
        match self.u8()? {
            found if found == tag => Ok(()),
            found => Err(bad(format!("a tuple of kind '{}'", found.escape_ascii()))),
        }
    }

    pub(super) fn text(&mut self) -> Result<&'a str, Error> {
        let rest = self.bytes.get(self.at..).ok_or_else(cut_short)?;
        let length = memchr::memchr(0, rest).ok_or_else(cut_short)?;
        self.at += length + 1;
        std::str::from_utf8(&rest[..length]).map_err(|_| bad("a name that is not UTF-8"))
    }

    pub(super) fn column_count(&mut self) -> Result<usize, Error> {
        match usize::from(self.u16()?) {
            count if count <= COLUMN_COUNT_MAX => Ok(count),
            count => Err(bad(format!("{count} columns"))),
        }
    }

    pub(super) fn tuple(&mut self, relation: &Relation) -> Result<Row, Error> {
        let count = self.column_count()?;
        if count != relation.columns.len() {
            let expected = relation.columns.len();
            return Err(bad(format!("a tuple of {count} columns for a table of {expected}")));
        }
        let start = self.at;
        let mut cells = Vec::with_capacity(count);
        for _ in 0..count {
            cells.push(match self.u8()? {
                b't' => {
                    let length = self.u32()? as usize;
                    let at = self.at - start;
                    let text = self.take(length)?;
                    if std::str::from_utf8(text).is_err() {
                        return Err(bad("a value that is not UTF-8"));
                    }
                    // A message is at most 1 GiB.
                    Cell::Text { start: at as u32, end: (at + length) as u32 }
                }
                b'n' => Cell::Null,
                b'u' => Cell::Unchanged,
                kind => return Err(bad(format!("a value of kind '{}'", kind.escape_ascii()))),
            });
        }
        let text = self.block.slice(self.block_start + start..self.block_start + self.at);
        Ok(Row::new(text, cells.into_boxed_slice()))
    }
}

pub(super) fn bad(what: impl Into<String>) -> Error {
    Error::protocol(format!("{} in the replication stream", what.into()))
}

pub(super) fn cut_short() -> Error {
    bad("a message that ends early")
}

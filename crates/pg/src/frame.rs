//! The protocol's frames, cut out of large reads.
//!
//! One system call takes as many rows as the kernel has, and what was read is
//! handed out as slices of the read buffer, not copied.

use std::io;

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::error::Error;

/// Room for one read. Large, because a walsender writes once per row, and each
/// of our reads that finds several rows is a wake-up less on both sides.
const READ_BYTES: usize = 256 * 1024;
/// The least room a read is started with.
const READ_BYTES_MIN: usize = 32 * 1024;
/// Postgres' own limit on a message (`PQ_LARGE_MESSAGE_LIMIT`).
const FRAME_BYTES_MAX: usize = 0x4000_0000;

/// The tag and the length that begin each message.
pub(crate) const HEADER_BYTES: usize = 5;

/// One message of the server.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) tag: u8,
    pub(crate) body: Bytes,
}

/// What has been read and not yet been parsed.
#[derive(Debug, Default)]
pub(crate) struct ReadBuffer {
    bytes: BytesMut,
}

impl ReadBuffer {
    /// Reads once, or for as long as there is something at hand. May be
    /// dropped at any time without losing bytes.
    pub(crate) async fn fill(
        &mut self,
        source: &mut (impl AsyncRead + Unpin),
    ) -> Result<usize, Error> {
        let missing = match frame_length(&self.bytes)? {
            // A length is believed only as bytes arrive: room doubles.
            Some(length) => length.saturating_sub(self.bytes.len()).min(self.bytes.len()),
            None => 0,
        };
        let spare = self.bytes.capacity() - self.bytes.len();
        if spare < READ_BYTES_MIN.max(missing) {
            self.bytes.reserve(READ_BYTES.max(missing));
        }
        let mut count = match source.read_buf(&mut self.bytes).await {
            Ok(0) => return Err(Error::Closed),
            Ok(count) => count,
            Err(error) => return Err(lost(error)),
        };
        // TLS gives one record (16 KiB) at a time.
        while count >= 4096 && self.bytes.capacity() > self.bytes.len() {
            match source.read_buf(&mut self.bytes).now_or_never() {
                Some(Ok(more)) if more > 0 => count += more,
                // An end or an error comes again with the next read.
                Some(Ok(_) | Err(_)) | None => break,
            }
        }
        Ok(count)
    }

    /// The next message, when all of it is there.
    pub(crate) fn frame(&mut self) -> Result<Option<Frame>, Error> {
        match frame_length(&self.bytes)? {
            Some(length) if self.bytes.len() >= length => {
                let frame = self.bytes.split_to(length).freeze();
                Ok(Some(Frame { tag: frame[0], body: frame.slice(HEADER_BYTES..) }))
            }
            Some(_) | None => Ok(None),
        }
    }

    /// The messages at the front that are complete and have this tag, as one
    /// block. Empty when the first is another one or is incomplete.
    pub(crate) fn frames_of(&mut self, tag: u8) -> Result<Bytes, Error> {
        let mut end = 0;
        while self.bytes.get(end) == Some(&tag) {
            match frame_length(&self.bytes[end..])? {
                Some(length) if self.bytes.len() - end >= length => end += length,
                Some(_) | None => break,
            }
        }
        Ok(self.bytes.split_to(end).freeze())
    }
}

/// The length of the message at the front, its tag included.
pub(crate) fn frame_length(bytes: &[u8]) -> Result<Option<usize>, Error> {
    let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
    let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
    match (4..=FRAME_BYTES_MAX).contains(&length) {
        true => Ok(Some(length + 1)),
        false => Err(Error::protocol(format!("a message of {length} bytes"))),
    }
}

/// Postgres and the kernel have many ways to say that the other end is gone.
pub(crate) fn lost(error: io::Error) -> Error {
    match error.kind() == io::ErrorKind::UnexpectedEof {
        true => Error::Closed,
        false => Error::Io(error),
    }
}

//! Records: the framing that all our files share (layout in `format`).

use bytes::Bytes;

use crate::error::Error;
use crate::file::DiskFile;

pub(crate) const FRAME_BYTES: usize = 9;
const CRC_POS: usize = 4;
const KIND_POS: usize = 8;
/// What a reader that does not know the length yet asks for at once.
const READ_BYTES: u64 = 256 * 1024;

/// Where a record under construction starts in its buffer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Start(usize);

pub(crate) fn begin(out: &mut Vec<u8>, kind: u8) -> Start {
    let start = Start(out.len());
    out.extend_from_slice(&[0; KIND_POS]);
    out.push(kind);
    start
}

/// Completes the record whose payload is everything after `start`. When it is
/// too large, it is taken off again.
pub(crate) fn end(out: &mut Vec<u8>, Start(start): Start) -> Result<(), Error> {
    let byte_count = out.len() - start - FRAME_BYTES;
    let Ok(length) = u32::try_from(byte_count) else {
        out.truncate(start);
        return Err(Error::TooLarge { byte_count });
    };
    let crc = crc32fast::hash(&out[start + KIND_POS..]);
    out[start..start + CRC_POS].copy_from_slice(&length.to_le_bytes());
    out[start + CRC_POS..start + KIND_POS].copy_from_slice(&crc.to_le_bytes());
    Ok(())
}

#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) kind: u8,
    pub(crate) payload: Bytes,
    /// File position of the record.
    pub(crate) pos: u64,
}

impl Record {
    /// File position of the next record.
    pub(crate) fn end_pos(&self) -> u64 {
        self.pos + (FRAME_BYTES + self.payload.len()) as u64
    }
}

/// What lies at the beginning of some bytes.
enum Peek {
    Record {
        kind: u8,
        byte_count: usize,
    },
    /// The bytes end before the record does; it claims to be that long.
    Short {
        byte_count: u64,
    },
    Invalid,
}

fn peek(bytes: &[u8]) -> Peek {
    let Some(frame) = bytes.get(..FRAME_BYTES) else {
        return Peek::Short { byte_count: FRAME_BYTES as u64 };
    };
    let number =
        |at: usize| u32::from_le_bytes([frame[at], frame[at + 1], frame[at + 2], frame[at + 3]]);
    let byte_count = FRAME_BYTES as u64 + u64::from(number(0));
    let whole = usize::try_from(byte_count).ok().and_then(|byte_count| bytes.get(..byte_count));
    match whole {
        None => Peek::Short { byte_count },
        Some(record) if crc32fast::hash(&record[KIND_POS..]) == number(CRC_POS) => {
            Peek::Record { kind: frame[KIND_POS], byte_count: record.len() }
        }
        Some(_) => Peek::Invalid,
    }
}

/// The records of a file that was read whole.
#[derive(Debug)]
pub(crate) struct Records {
    bytes: Bytes,
    pos: usize,
}

impl Records {
    pub(crate) fn new(bytes: Bytes, pos: usize) -> Self {
        let pos = pos.min(bytes.len());
        Self { bytes, pos }
    }

    /// Just after the last valid record.
    pub(crate) fn pos(&self) -> usize {
        self.pos
    }

    /// Whether a valid record lies anywhere behind the end of the valid ones:
    /// then this is not an interrupted write but damage.
    pub(crate) fn is_followed_by_record(&self, kind: u8) -> bool {
        let rest = &self.bytes[self.pos..];
        (1..rest.len().saturating_sub(KIND_POS))
            .filter(|start| rest[start + KIND_POS] == kind)
            .any(|start| matches!(peek(&rest[start..]), Peek::Record { .. }))
    }
}

impl Iterator for Records {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        match peek(&self.bytes[self.pos..]) {
            Peek::Record { kind, byte_count } => {
                let payload = self.bytes.slice(self.pos + FRAME_BYTES..self.pos + byte_count);
                let pos = self.pos as u64;
                self.pos += byte_count;
                Some(Record { kind, payload, pos })
            }
            Peek::Short { .. } | Peek::Invalid => None,
        }
    }
}

/// The records of a file that is read piece by piece, and may still grow.
#[derive(Debug)]
pub(crate) struct Stream {
    file: DiskFile,
    /// File position of the next record.
    pos: u64,
    /// What was read from there on.
    buffer: Bytes,
    filled: bool,
}

impl Stream {
    pub(crate) fn new(file: DiskFile, pos: u64) -> Self {
        Self { file, pos, buffer: Bytes::new(), filled: false }
    }

    pub(crate) fn file(&self) -> &DiskFile {
        &self.file
    }

    pub(crate) fn into_file(self) -> DiskFile {
        self.file
    }

    pub(crate) fn pos(&self) -> u64 {
        self.pos
    }

    /// Whether the file was read since this was last asked.
    pub(crate) fn take_filled(&mut self) -> bool {
        std::mem::take(&mut self.filled)
    }

    /// Goes to `pos` and forgets what was read.
    pub(crate) fn seek(&mut self, pos: u64) {
        self.pos = pos;
        self.buffer = Bytes::new();
    }

    /// `None`: no whole valid record here, now.
    pub(crate) fn next(&mut self) -> Result<Option<Record>, Error> {
        let mut found = peek(&self.buffer);
        if let Peek::Short { .. } = found {
            self.fill(READ_BYTES)?;
            found = peek(&self.buffer);
        }
        if let Peek::Short { byte_count } = found
            && byte_count <= self.file.byte_count()?.saturating_sub(self.pos)
        {
            self.fill(byte_count)?;
            found = peek(&self.buffer);
        }
        let Peek::Record { kind, byte_count } = found else { return Ok(None) };
        let mut bytes = self.buffer.split_to(byte_count);
        let pos = self.pos;
        self.pos += byte_count as u64;
        Ok(Some(Record { kind, payload: bytes.split_off(FRAME_BYTES), pos }))
    }

    fn fill(&mut self, byte_count: u64) -> Result<(), Error> {
        self.filled = true;
        self.buffer = self.file.read_range(self.pos, byte_count)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(payloads: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        for payload in payloads {
            let start = begin(&mut out, 1);
            out.extend_from_slice(payload);
            end(&mut out, start).unwrap();
        }
        out
    }

    #[test]
    fn a_file_ends_at_its_last_valid_record_wherever_it_is_cut_or_flipped() {
        let bytes = records(&[b"first", b"", b"third"]);
        let starts = [0, 14, 23, 37];
        for cut in 0..=bytes.len() {
            let whole = starts.iter().filter(|&&start| start > 0 && start <= cut).count();
            let read = Records::new(Bytes::copy_from_slice(&bytes[..cut]), 0).count();
            assert_eq!(read, whole, "cut at {cut}");
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let whole = starts.iter().filter(|&&start| start > 0 && start <= bit / 8).count();
            assert_eq!(Records::new(flipped.into(), 0).count(), whole, "bit {bit}");
        }
    }

    #[test]
    fn zeros_after_the_last_record_are_no_record() {
        let mut bytes = records(&[b"first"]);
        bytes.extend_from_slice(&[0; 4096]);
        assert_eq!(Records::new(bytes.into(), 0).count(), 1);
    }

    #[test]
    fn damage_differs_from_an_interrupted_write() {
        let mut bytes = records(&[b"first", b"second"]);
        bytes[10] ^= 1;
        let mut damaged = Records::new(bytes.clone().into(), 0);
        assert!(damaged.next().is_none());
        assert!(damaged.is_followed_by_record(1));
        bytes.truncate(20);
        assert!(!Records::new(bytes.into(), 0).is_followed_by_record(1));
    }
}

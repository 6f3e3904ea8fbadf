//! Every byte this crate writes, in one place. All integers little-endian.
//!
//! ```text
//! <storage>/
//!   FORMAT                    "leyden 1\n": the version of the whole layout
//!   lock                      flock'ed while in use; holds the owner's pid
//!   token                     "17\n": the fencing token, one higher at each open
//!   catalog                   record file 'C'
//!   journal/<lsn>.journal     record file 'J'; <lsn>: 16 hex digits, one above the
//!                             last commit LSN before the file
//!   shapes/<handle>/
//!     snapshot.<k>            JSON of chunk k as an HTTP body carries it, without
//!                             the brackets; its length and CRC are in the meta
//!     snapshot.meta           record file 'S'; exists = the snapshot is complete
//!     log.<k>                 record file 'L', chunk k of the log
//!   shapes/.trash-<handle>/   being deleted
//!
//! record file  = header (64 bytes), records
//! header       = "LEYDEN\0" kind u8 | version u32 | flags u32 | token u64
//!                | fields 4 × u64 | crc32 u32 over all before | 0 u32
//! record       = length u32 of payload | crc32 u32 over kind and payload
//!                | kind u8 | payload
//! varint       = LEB128, at most 10 bytes
//! string       = varint length, UTF-8
//!
//! C  fields –.  1 Changes: a JSON array of catalog changes, applied whole or not at all.
//! S  fields –.  1 Meta: {"chunks":[{"bytes":…,"crc32":…}],"visibility":…}
//! J  fields: commit LSN and ack LSN before this file.
//!    1 Fragment: commit_lsn u64 | xid u32 | flags u8 (1 first, 2 commit)
//!      | if commit: end_lsn u64, time_us i64 | byte_count varint
//!      | relations: count varint, each: length varint, relation
//!      | changes: count varint, each: op u8, relation index varint,
//!        op_index varint (difference to the one before), old row?, new row?
//!      op = 0 insert, 1 update, 2 update with old row, 3 delete, 4 truncate.
//!      A relation's index counts the relations of the transaction so far, so
//!      every transaction can be read without any other.
//!    2 Mark: lsn u64; only between transactions.
//!    relation = oid u32 | identity u8 | schema string | name string | columns:
//!      count varint, each: type_oid u32, type_mod i32, key u8, name string
//!    row = cell count varint | per cell a varint: 0 null, 1 unchanged, 2 + its
//!      length | the texts, one after the other
//! L  fields: offset (tx, op) before the chunk; commit LSN of the last commit frame
//!    before the chunk; chunk_bytes_max. flags: 1 = the chunk starts inside a transaction.
//!    1 Part, 2 Commit: commit_lsn u64 (0 in Part) | entries: count varint, each:
//!      tx varint (difference), op varint (difference when tx is the same),
//!      length varint | JSON `{…},{…},`
//! ```
//!
//! The end of a record file is its last valid record: what follows was being
//! written when the power went. A length is believed only when the file is that
//! long, and used only when the CRC agrees.

use bytes::{Buf, Bytes};

pub(crate) const LAYOUT_VERSION: u32 = 1;
pub(crate) const HEADER_BYTES: usize = 64;

const MAGIC: &[u8; 7] = b"LEYDEN\0";
const FILE_VERSION: u32 = 1;
const CRC_POS: usize = 56;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileKind {
    Catalog,
    Journal,
    Log,
    SnapshotMeta,
}

impl FileKind {
    fn byte(self) -> u8 {
        match self {
            Self::Catalog => b'C',
            Self::Journal => b'J',
            Self::Log => b'L',
            Self::SnapshotMeta => b'S',
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: FileKind,
    pub(crate) flags: u32,
    /// Fencing token of the process that created the file.
    pub(crate) token: u64,
    pub(crate) fields: [u64; 4],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeaderError {
    /// Too short, or the CRC disagrees: its creation was interrupted.
    Torn,
    OtherKind,
    Newer(u32),
}

impl Header {
    pub(crate) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..7].copy_from_slice(MAGIC);
        bytes[7] = self.kind.byte();
        bytes[8..12].copy_from_slice(&FILE_VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.flags.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.token.to_le_bytes());
        for (i, field) in self.fields.iter().enumerate() {
            bytes[24 + 8 * i..32 + 8 * i].copy_from_slice(&field.to_le_bytes());
        }
        let crc = crc32fast::hash(&bytes[..CRC_POS]);
        bytes[CRC_POS..CRC_POS + 4].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(kind: FileKind, bytes: &[u8]) -> Result<Self, HeaderError> {
        let mut bytes = bytes.get(..HEADER_BYTES).ok_or(HeaderError::Torn)?;
        let crc = crc32fast::hash(&bytes[..CRC_POS]);
        if bytes[CRC_POS..] != (u64::from(crc)).to_le_bytes() {
            return Err(HeaderError::Torn);
        }
        if bytes[..7] != *MAGIC || bytes[7] != kind.byte() {
            return Err(HeaderError::OtherKind);
        }
        bytes.advance(8);
        let version = bytes.get_u32_le();
        if version > FILE_VERSION {
            return Err(HeaderError::Newer(version));
        }
        let flags = bytes.get_u32_le();
        let token = bytes.get_u64_le();
        let fields = std::array::from_fn(|_| bytes.get_u64_le());
        Ok(Self { kind, flags, token, fields })
    }

    /// As [`Header::decode`], where a torn header is no news but a loss.
    pub(crate) fn expect(
        kind: FileKind,
        bytes: &[u8],
        path: &std::path::Path,
    ) -> Result<Self, crate::Error> {
        Self::decode(kind, bytes).map_err(|error| error.at(path))
    }
}

impl HeaderError {
    pub(crate) fn at(self, path: &std::path::Path) -> crate::Error {
        match self {
            Self::Torn => crate::Error::damaged(path, 0, "its header is incomplete"),
            Self::OtherKind => crate::Error::damaged(path, 0, "it is a file of another kind"),
            Self::Newer(found) => {
                crate::Error::NewerFormat { path: path.to_owned(), found, known: FILE_VERSION }
            }
        }
    }
}

pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(crate) fn put_string(out: &mut Vec<u8>, text: &str) {
    put_varint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// Reads what a payload says and never more than it has.
#[derive(Debug)]
pub(crate) struct Fields {
    bytes: Bytes,
}

/// A payload whose CRC is right does not follow its format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

impl Fields {
    pub(crate) fn new(bytes: Bytes) -> Self {
        Self { bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        self.bytes.try_get_u8().map_err(|_| Malformed)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        self.bytes.try_get_u32_le().map_err(|_| Malformed)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        self.bytes.try_get_u64_le().map_err(|_| Malformed)
    }

    pub(crate) fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0u64;
        for (i, &byte) in self.bytes.iter().take(10).enumerate() {
            let bits = u64::from(byte & 0x7F);
            if i == 9 && bits > 1 {
                return Err(Malformed);
            }
            value |= bits << (7 * i);
            if byte < 0x80 {
                self.bytes.advance(i + 1);
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    /// How many items follow. Each takes at least one byte, which bounds what
    /// may be allocated for them.
    pub(crate) fn count(&mut self) -> Result<usize, Malformed> {
        let count = self.varint()?;
        match usize::try_from(count) {
            Ok(count) if count <= self.bytes.len() => Ok(count),
            Ok(_) | Err(_) => Err(Malformed),
        }
    }

    pub(crate) fn take(&mut self, byte_count: usize) -> Result<Bytes, Malformed> {
        match byte_count <= self.bytes.len() {
            true => Ok(self.bytes.split_to(byte_count)),
            false => Err(Malformed),
        }
    }

    pub(crate) fn string(&mut self) -> Result<String, Malformed> {
        let byte_count = self.count()?;
        String::from_utf8(self.take(byte_count)?.into()).map_err(|_| Malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_round_trips_and_any_flipped_bit_is_noticed() {
        let header =
            Header { kind: FileKind::Log, flags: 1, token: 7, fields: [1, 2, 3, u64::MAX] };
        let bytes = header.encode();
        assert_eq!(Header::decode(FileKind::Log, &bytes), Ok(header));
        assert_eq!(Header::decode(FileKind::Journal, &bytes), Err(HeaderError::OtherKind));
        assert_eq!(Header::decode(FileKind::Log, &bytes[..63]), Err(HeaderError::Torn));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(
                Header::decode(FileKind::Log, &flipped),
                Err(HeaderError::Torn),
                "bit {bit}"
            );
        }
    }

    #[test]
    fn varints_round_trip_and_overlong_ones_are_refused() {
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            assert_eq!(Fields::new(out.into()).varint(), Ok(value));
        }
        assert_eq!(Fields::new(Bytes::from_static(&[0x80; 10])).varint(), Err(Malformed));
        assert_eq!(Fields::new(Bytes::from_static(&[0xFF; 10])).varint(), Err(Malformed));
        assert_eq!(Fields::new(Bytes::new()).varint(), Err(Malformed));
    }

    #[test]
    fn a_count_beyond_the_payload_is_refused_before_anything_is_allocated() {
        assert_eq!(Fields::new(Bytes::from_static(&[5, 1, 2])).count(), Err(Malformed));
        assert_eq!(
            Fields::new(Bytes::from_static(&[0xFF, 0xFF, 0xFF, 0x7F])).string(),
            Err(Malformed)
        );
    }
}

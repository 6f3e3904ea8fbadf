//! Encoded entries in memory, and how a batch of them is cut into chunks.

use bytes::Bytes;
use shape::{Batch, EntryEnd, Offset};

/// Entries as they are stored and served: `{…},{…},`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entries {
    /// Each entry is followed by a comma.
    pub(super) json: Bytes,
    /// Where each ends in `json`, its comma left out; offsets ascend.
    pub(super) ends: Box<[EntryEnd]>,
}

impl Entries {
    /// `None` when there are none.
    pub(super) fn end(&self) -> Option<Offset> {
        self.ends.last().map(|entry| entry.offset)
    }

    /// The entries in `(after, until]`, with their commas.
    pub(super) fn range(&self, after: Offset, until: Offset) -> Bytes {
        let first = self.ends.partition_point(|entry| entry.offset <= after);
        let last = self.ends.partition_point(|entry| entry.offset <= until);
        if first >= last {
            return Bytes::new();
        }
        self.json.slice(self.start(first)..self.start(last))
    }

    fn start(&self, index: usize) -> usize {
        if index == 0 { 0 } else { self.ends[index - 1].end as usize + 1 }
    }
}

/// Entries of one chunk that were appended together.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) chunk: u32,
    /// The end of the entry before.
    pub(super) after: Offset,
    pub(super) end: Offset,
    pub(super) entries: Entries,
}

/// Where the log ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// The chunk that the next entry goes to.
    pub(super) chunk: u32,
    /// Sum of the sizes of its entries.
    pub(super) chunk_bytes: u64,
    pub(super) end: Offset,
}

impl Head {
    pub(super) const START: Self = Self { chunk: 0, chunk_bytes: 0, end: Offset::SNAPSHOT_END };

    /// Counts an entry. True when it closes its chunk. This alone decides where
    /// chunks end, so it must depend on nothing but the entries.
    pub(super) fn advance(
        &mut self,
        offset: Offset,
        byte_count: u64,
        chunk_bytes_max: u64,
    ) -> bool {
        self.end = offset;
        self.chunk_bytes += byte_count;
        let closes = self.chunk_bytes >= chunk_bytes_max;
        if closes {
            self.chunk += 1;
            self.chunk_bytes = 0;
        }
        closes
    }

    /// Moves over the batch's entries from `first` on, and returns them cut at
    /// the ends of chunks.
    pub(super) fn cut(&mut self, batch: &Batch, first: usize, chunk_bytes_max: u64) -> Vec<Piece> {
        let entries = &batch.entries[first..];
        let base = if first == 0 { 0 } else { batch.entries[first - 1].end as usize + 1 };
        let mut json = Vec::with_capacity(batch.json.len() - base + 1);
        json.extend_from_slice(&batch.json[base..]);
        json.push(b',');
        let json = Bytes::from(json);
        let mut pieces = Vec::new();
        let (mut from, mut start) = (0, 0);
        let mut before = *self;
        for (index, entry) in entries.iter().enumerate() {
            let end = entry.end as usize - base;
            let previous_end =
                if index == 0 { 0 } else { entries[index - 1].end as usize - base + 1 };
            let closes = self.advance(entry.offset, (end - previous_end) as u64, chunk_bytes_max);
            if closes || index + 1 == entries.len() {
                let ends = entries[from..=index].iter().map(|entry| EntryEnd {
                    offset: entry.offset,
                    end: entry.end - (base + start) as u32,
                });
                let entries = Entries { json: json.slice(start..=end), ends: ends.collect() };
                let (chunk, after) = (before.chunk, before.end);
                pieces.push(Piece { chunk, after, end: self.end, entries });
                (from, start, before) = (index + 1, end + 1, *self);
            }
        }
        pieces
    }
}

/// Offsets ascend and each entry lies behind the one before, within the JSON.
pub(super) fn is_well_formed(batch: &Batch) -> bool {
    let ordered = batch.entries.is_sorted_by(|a, b| a.offset < b.offset && a.end < b.end);
    let last_end = batch.entries.last().map_or(0, |entry| entry.end as usize);
    ordered && last_end == batch.json.len()
}

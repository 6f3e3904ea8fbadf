//! Encoded entries on their way into a shape's log.

use crate::Offset;

/// Entries of one shape, encoded: JSON objects separated by single commas, as
/// they go into a response body, with the place where each ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    pub json: Vec<u8>,
    pub entries: Vec<EntryEnd>,
}

/// Where one entry ends in [`Batch::json`], its comma left out. The next one
/// begins a byte later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryEnd {
    pub offset: Offset,
    pub end: u32,
}

impl Batch {
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn clear(&mut self) {
        self.json.clear();
        self.entries.clear();
    }

    /// The bytes of entry `index`.
    pub fn entry(&self, index: usize) -> &[u8] {
        &self.json[self.start(index)..self.entries[index].end as usize]
    }

    fn start(&self, index: usize) -> usize {
        if index == 0 { 0 } else { self.entries[index - 1].end as usize + 1 }
    }

    /// Begins an entry; the caller writes its JSON and calls [`Self::end`].
    pub(crate) fn begin(&mut self) -> &mut Vec<u8> {
        if !self.entries.is_empty() {
            self.json.push(b',');
        }
        &mut self.json
    }

    pub(crate) fn end(&mut self, offset: Offset) {
        self.entries.push(EntryEnd { offset, end: self.json.len() as u32 });
    }

    /// Marks the last entry as the last one of its transaction in this shape.
    /// Only then is it known, and the headers object closes the entry.
    pub fn mark_last(&mut self) {
        if let Some(entry) = self.entries.last_mut() {
            self.json.truncate(entry.end as usize - b"}}".len());
            self.json.extend_from_slice(br#","last":true}}"#);
            entry.end = self.json.len() as u32;
        }
    }

    /// Removes and returns all entries but the last, which may yet have to be
    /// marked when the transaction ends.
    pub fn take_all_but_last(&mut self) -> Self {
        let Some(last) = self.entries.pop() else { return Self::default() };
        let start = self.start(self.entries.len());
        let held = self.json.split_off(start);
        self.json.truncate(start.saturating_sub(1));
        let taken = std::mem::take(self);
        self.entries.push(EntryEnd { offset: last.offset, end: held.len() as u32 });
        self.json = held;
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(count: u64) -> Batch {
        let mut batch = Batch::default();
        for op in 0..count {
            batch.begin().extend_from_slice(format!(r#"{{"headers":{{"op":{op}}}}}"#).as_bytes());
            batch.end(Offset::new(1, op));
        }
        batch
    }

    #[test]
    fn the_last_entry_can_be_held_back_and_marked() {
        let mut rest = batch(3);
        let taken = rest.take_all_but_last();
        assert_eq!(taken, batch(2));
        rest.mark_last();
        assert_eq!(rest.entry(0), br#"{"headers":{"op":2,"last":true}}"#);
        assert_eq!(rest.entries[0].offset, Offset::new(1, 2));

        let mut one = batch(1);
        assert!(one.take_all_but_last().is_empty());
        assert_eq!(one, batch(1));
        assert!(Batch::default().take_all_but_last().is_empty());
    }
}

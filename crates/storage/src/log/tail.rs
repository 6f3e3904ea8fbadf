//! The newest entries in memory, shared with the readers.
//!
//! Blocks of slots that are each set once. A commit fills slots and publishes
//! how many are set, so its price does not depend on how much is kept; readers
//! share blocks and go on with theirs when the writer has dropped it.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use shape::Offset;

use super::entries::Piece;

const SLOT_COUNT: usize = 32;
/// A block takes no more once it holds this much, since it is dropped as one.
const BLOCK_BYTES: usize = 32 * 1024;
/// What a piece weighs besides its JSON and its entries, roughly.
const PIECE_BYTES: usize = 160;

#[derive(Debug)]
struct Block {
    slots: [OnceLock<Arc<Piece>>; SLOT_COUNT],
}

impl Block {
    fn new() -> Self {
        Self { slots: std::array::from_fn(|_| OnceLock::new()) }
    }
}

/// What readers see of it; never changes.
#[derive(Clone, Debug)]
pub(super) struct TailView {
    blocks: Arc<[Arc<Block>]>,
    /// How many slots of the last block are visible.
    last_count: usize,
    /// The offset after which the blocks have everything.
    pub(super) start: Offset,
}

/// The writer's side.
#[derive(Debug)]
pub(super) struct Tail {
    blocks: VecDeque<Weighed>,
    /// The blocks as published; rebuilt when the list changes.
    published: Option<Arc<[Arc<Block>]>>,
    byte_count: usize,
    bytes_max: usize,
    end: Offset,
}

#[derive(Debug)]
struct Weighed {
    block: Arc<Block>,
    count: usize,
    byte_count: usize,
    end: Offset,
}

impl Tail {
    pub(super) fn new(end: Offset, bytes_max: usize) -> Self {
        Self { blocks: VecDeque::new(), published: None, byte_count: 0, bytes_max, end }
    }

    pub(super) fn push(&mut self, piece: Arc<Piece>) {
        // What lies between was written and is not in memory.
        if piece.after != self.end {
            self.clear();
        }
        let byte_count = piece.entries.json.len() + size_of_val(&*piece.entries.ends) + PIECE_BYTES;
        self.end = piece.end;
        self.byte_count += byte_count;
        let has_room =
            |last: &&mut Weighed| last.count < SLOT_COUNT && last.byte_count < BLOCK_BYTES;
        let last = match self.blocks.back_mut().filter(has_room) {
            Some(_) => self.blocks.back_mut(),
            None => {
                self.published = None;
                let block = Arc::new(Block::new());
                self.blocks.push_back(Weighed { block, count: 0, byte_count: 0, end: self.end });
                self.blocks.back_mut()
            }
        };
        if let Some(last) = last {
            // Set once: slots from `count` on have never been used.
            let _ = last.block.slots[last.count].set(piece);
            last.count += 1;
            last.byte_count += byte_count;
            last.end = self.end;
        }
    }

    /// Drops the oldest blocks while there is too much, but none with entries
    /// behind `written`, and not the last one, which clients are about to read.
    pub(super) fn trim(&mut self, written: Offset) {
        while self.byte_count > self.bytes_max
            && self.blocks.len() > 1
            && self.blocks.front().is_some_and(|oldest| oldest.end <= written)
        {
            if let Some(oldest) = self.blocks.pop_front() {
                self.byte_count -= oldest.byte_count;
                self.published = None;
            }
        }
    }

    /// The entries are in files, all up to the end of what was pushed last.
    pub(super) fn clear(&mut self) {
        self.blocks.clear();
        self.byte_count = 0;
        self.published = None;
    }

    /// What was pushed is of no use unless it reaches up to `end`.
    pub(super) fn end_at(&mut self, end: Offset) {
        if self.end != end {
            self.clear();
            self.end = end;
        }
    }

    pub(super) fn set_bytes_max(&mut self, bytes_max: usize) {
        self.bytes_max = bytes_max;
    }

    pub(super) fn byte_count(&self) -> usize {
        self.byte_count
    }

    /// `end`: of the log, which is where an empty tail starts.
    pub(super) fn view(&mut self, end: Offset) -> TailView {
        let blocks = self.published.get_or_insert_with(|| {
            self.blocks.iter().map(|block| Arc::clone(&block.block)).collect()
        });
        let last_count = self.blocks.back().map_or(0, |last| last.count);
        let first = self.blocks.front().and_then(|oldest| oldest.block.slots[0].get());
        let start = first.map_or(end, |piece| piece.after);
        TailView { blocks: Arc::clone(blocks), last_count, start }
    }
}

impl TailView {
    pub(super) fn empty(end: Offset) -> Self {
        Self { blocks: Arc::new([]), last_count: 0, start: end }
    }

    /// Appends the entries in `(after, until]`; `after` is not before `start`.
    pub(super) fn collect(&self, after: Offset, until: Offset, out: &mut Vec<Bytes>) {
        let starts_behind =
            |block: &Arc<Block>| block.slots[0].get().is_none_or(|piece| piece.after > after);
        let first = self.blocks.partition_point(|block| !starts_behind(block)).saturating_sub(1);
        for (index, block) in self.blocks.iter().enumerate().skip(first) {
            let is_last = index + 1 == self.blocks.len();
            let count = if is_last { self.last_count } else { SLOT_COUNT };
            let pieces = block.slots[..count].iter().map_while(OnceLock::get);
            for piece in pieces {
                if piece.after >= until {
                    return;
                }
                if piece.end > after {
                    out.push(piece.entries.range(after, until));
                }
            }
        }
    }
}

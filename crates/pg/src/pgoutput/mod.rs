//! The pgoutput plugin's messages, assembled to fragments of transactions
//! (Postgres manual, "Logical Replication Message Formats", protocol 1).
//!
//! The hot loop of ingest: a row's text is a slice of what was read from the
//! socket, and its only allocation is its table of cells. A transaction of any
//! size is cut into fragments, so memory is bounded. Input that makes no sense
//! is an error and never a panic.

mod input;

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use change::{Change, Column, Commit, Fragment, Lsn, Operation, Relation, ReplicaIdentity};

use self::input::{Input, bad, cut_short};
use crate::error::Error;

/// A fragment is closed when it has this many bytes of messages …
pub const FRAGMENT_BYTES: usize = 512 * 1024;
/// … or this many changes.
pub const FRAGMENT_CHANGES: usize = 4096;

/// Turns messages into fragments. Lives as long as one replication session:
/// the relations it knows are the ones the server sent in this session.
#[derive(Debug, Default)]
pub struct Decoder {
    relations: HashMap<u32, Arc<Relation>>,
    /// The relation of the change before; most transactions stay with one.
    recent: Option<Arc<Relation>>,
    open: Option<Open>,
    ignored_count: u64,
}

/// The transaction that began and has not committed.
#[derive(Debug)]
struct Open {
    commit_lsn: Lsn,
    xid: u32,
    next_op_index: u64,
    first: bool,
    changes: Vec<Change>,
    byte_count: usize,
}

impl Decoder {
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether a transaction began and its commit has not come.
    pub fn in_transaction(&self) -> bool {
        self.open.is_some()
    }

    /// Messages that were understood and carry nothing for us: origins, types,
    /// logical messages.
    pub fn ignored_count(&self) -> u64 {
        self.ignored_count
    }

    /// Takes one message, and gives the fragment it closes.
    pub fn feed(&mut self, message: &Bytes) -> Result<Option<Fragment>, Error> {
        self.feed_slice(message, 0, message.len())
    }

    /// As [`Self::feed`], for the message at `start..end` of a larger block.
    pub(crate) fn feed_slice(
        &mut self,
        block: &Bytes,
        start: usize,
        end: usize,
    ) -> Result<Option<Fragment>, Error> {
        let bytes = block.get(start..end).ok_or_else(cut_short)?;
        let mut input = Input::new(block, bytes, start);
        if let Some(open) = &mut self.open {
            open.byte_count += bytes.len();
        }
        match input.u8()? {
            b'I' => self.insert(&mut input)?,
            b'U' => self.update(&mut input)?,
            b'D' => self.delete(&mut input)?,
            b'R' => self.relation(&mut input)?,
            b'T' => self.truncate(&mut input)?,
            b'B' => self.begin(&mut input)?,
            b'C' => return self.commit(&mut input).map(Some),
            // Type, Origin, Message.
            b'Y' | b'O' | b'M' => self.ignored_count += 1,
            tag => return Err(bad(format!("a change of kind '{}'", tag.escape_ascii()))),
        }
        Ok(self.full())
    }

    /// The open fragment, if it has reached its limit.
    fn full(&mut self) -> Option<Fragment> {
        let open = self.open.as_mut()?;
        let full = open.byte_count >= FRAGMENT_BYTES || open.changes.len() >= FRAGMENT_CHANGES;
        (full && !open.changes.is_empty()).then(|| open.take(None))
    }

    fn begin(&mut self, input: &mut Input<'_>) -> Result<(), Error> {
        let commit_lsn = Lsn(input.u64()?);
        let _commit_time = input.u64()?;
        let xid = input.u32()?;
        if self.open.is_some() {
            return Err(bad("a transaction that begins inside another"));
        }
        let byte_count = input.byte_count();
        let changes = Vec::new();
        let open = Open { commit_lsn, xid, next_op_index: 0, first: true, changes, byte_count };
        self.open = Some(open);
        Ok(())
    }

    fn commit(&mut self, input: &mut Input<'_>) -> Result<Fragment, Error> {
        let _flags = input.u8()?;
        let commit_lsn = Lsn(input.u64()?);
        let end_lsn = Lsn(input.u64()?);
        let time_us = input.u64()? as i64;
        let mut open = self.open.take().ok_or_else(|| bad("a commit without a begin"))?;
        if open.commit_lsn != commit_lsn {
            let began = open.commit_lsn;
            return Err(bad(format!("a transaction begun for {began}, committed at {commit_lsn}")));
        }
        Ok(open.take(Some(Commit { end_lsn, time_us })))
    }

    fn insert(&mut self, input: &mut Input<'_>) -> Result<(), Error> {
        let relation = self.changed(input)?;
        input.expect(b'N')?;
        let new = input.tuple(&relation)?;
        self.push(relation, Operation::Insert { new })
    }

    fn update(&mut self, input: &mut Input<'_>) -> Result<(), Error> {
        let relation = self.changed(input)?;
        if relation.identity != ReplicaIdentity::Full {
            return self.push(relation, Operation::Incomplete);
        }
        let old = match input.u8()? {
            b'O' => {
                let old = input.tuple(&relation)?;
                input.expect(b'N')?;
                Some(old)
            }
            b'N' => None,
            b'K' => return self.push(relation, Operation::Incomplete),
            tag => return Err(bad(format!("a tuple of kind '{}'", tag.escape_ascii()))),
        };
        let mut new = input.tuple(&relation)?;
        if new.has_unchanged() {
            match &old {
                Some(old) if !old.has_unchanged() => new.fill_unchanged(old),
                Some(_) | None => return self.push(relation, Operation::Incomplete),
            }
        }
        self.push(relation, Operation::Update { old, new })
    }

    fn delete(&mut self, input: &mut Input<'_>) -> Result<(), Error> {
        let relation = self.changed(input)?;
        match input.u8()? {
            b'O' => {}
            b'K' => return self.push(relation, Operation::Incomplete),
            tag => return Err(bad(format!("a tuple of kind '{}'", tag.escape_ascii()))),
        }
        let old = input.tuple(&relation)?;
        if old.has_unchanged() {
            return self.push(relation, Operation::Incomplete);
        }
        self.push(relation, Operation::Delete { old })
    }

    fn truncate(&mut self, input: &mut Input<'_>) -> Result<(), Error> {
        let count = input.u32()?;
        // CASCADE and RESTART IDENTITY, in any combination; neither matters:
        // the relations that a cascade reached are in the list.
        let options = input.u8()?;
        if options > 3 {
            return Err(bad(format!("options {options} of a truncate")));
        }
        for _ in 0..count {
            let relation = self.changed(input)?;
            self.push(relation, Operation::Truncate)?;
        }
        Ok(())
    }

    /// Reads the relation of a change.
    fn changed(&mut self, input: &mut Input<'_>) -> Result<Arc<Relation>, Error> {
        let oid = input.u32()?;
        match &self.recent {
            Some(relation) if relation.oid == oid => Ok(relation.clone()),
            Some(_) | None => {
                let known = self.relations.get(&oid).cloned();
                let relation =
                    known.ok_or_else(|| bad(format!("a change of unknown relation {oid}")))?;
                self.recent = Some(relation.clone());
                Ok(relation)
            }
        }
    }

    fn push(&mut self, relation: Arc<Relation>, operation: Operation) -> Result<(), Error> {
        let open = self.open.as_mut().ok_or_else(outside)?;
        open.changes.push(Change { relation, op_index: open.next_op_index, operation });
        open.next_op_index += 2;
        Ok(())
    }

    fn relation(&mut self, input: &mut Input<'_>) -> Result<(), Error> {
        let oid = input.u32()?;
        let schema = match input.text()? {
            // The protocol's abbreviation.
            "" => "pg_catalog".to_owned(),
            schema => schema.to_owned(),
        };
        let name = input.text()?.to_owned();
        let identity = ReplicaIdentity::from_byte(input.u8()?)
            .ok_or_else(|| bad("an unknown replica identity"))?;
        let count = input.column_count()?;
        let mut columns = Vec::with_capacity(count);
        for _ in 0..count {
            let key = input.u8()? & 1 != 0;
            let name = input.text()?.to_owned();
            let type_oid = input.u32()?;
            let type_mod = input.u32()? as i32;
            columns.push(Column { name, type_oid, type_mod, key });
        }
        let relation = Relation { oid, schema, name, identity, columns };
        // The server repeats itself, for instance after autovacuum. The same
        // Arc lets everybody see by pointer that nothing changed.
        if self.relations.get(&oid).is_none_or(|known| **known != relation) {
            self.relations.insert(oid, Arc::new(relation));
            self.recent = None;
        }
        Ok(())
    }
}

impl Open {
    fn take(&mut self, commit: Option<Commit>) -> Fragment {
        Fragment {
            commit_lsn: self.commit_lsn,
            xid: self.xid,
            changes: std::mem::take(&mut self.changes),
            commit,
            first: std::mem::replace(&mut self.first, false),
            byte_count: std::mem::take(&mut self.byte_count),
        }
    }
}

fn outside() -> Error {
    bad("a change outside a transaction")
}

#[cfg(test)]
mod tests;

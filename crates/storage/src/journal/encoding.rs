//! Fragments as bytes and back (layout in `format`).
//!
//! Made for speed: a row is its cell lengths and one run of text, a relation is
//! encoded and decoded once as long as it stays the same.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use change::{Cell, Change, Column, Commit, Fragment, Lsn, Operation, Relation, ReplicaIdentity};
use change::{Row, Value};

use crate::format::{Fields, Malformed, put_string, put_varint};

const FIRST: u8 = 1;
const COMMIT: u8 = 2;

const NULL: u64 = 0;
const UNCHANGED: u64 = 1;
const TEXT: u64 = 2;

const INSERT: u8 = 0;
const UPDATE: u8 = 1;
const UPDATE_WITH_OLD: u8 = 2;
const DELETE: u8 = 3;
const TRUNCATE: u8 = 4;
const INCOMPLETE: u8 = 5;

/// Past this many relations a cache starts again: relations of dropped tables
/// and old versions are never asked for again.
const CACHED_RELATIONS_MAX: usize = 4096;

/// The encoder's memory: relations it has met.
#[derive(Debug, Default)]
pub(super) struct Encoder {
    /// Index in the open transaction, by address; `cache` keeps them alive.
    indexes: HashMap<usize, u64>,
    /// By address, each with its encoding.
    cache: HashMap<usize, (Arc<Relation>, Box<[u8]>)>,
}

impl Encoder {
    /// Forgets what the transaction before has written.
    pub(super) fn begin(&mut self) {
        self.indexes.clear();
        if self.cache.len() > CACHED_RELATIONS_MAX {
            self.cache.clear();
        }
    }

    pub(super) fn encode(&mut self, fragment: &Fragment, out: &mut Vec<u8>) {
        out.extend_from_slice(&fragment.commit_lsn.0.to_le_bytes());
        out.extend_from_slice(&fragment.xid.to_le_bytes());
        let first = if fragment.first { FIRST } else { 0 };
        let commit = if fragment.commit.is_some() { COMMIT } else { 0 };
        out.push(first | commit);
        if let Some(Commit { end_lsn, time_us }) = fragment.commit {
            out.extend_from_slice(&end_lsn.0.to_le_bytes());
            out.extend_from_slice(&time_us.to_le_bytes());
        }
        put_varint(out, fragment.byte_count as u64);
        self.put_relations(&fragment.changes, out);
        put_varint(out, fragment.changes.len() as u64);
        let mut op_index = 0u64;
        let mut relation = (0, 0);
        for change in &fragment.changes {
            let address = Arc::as_ptr(&change.relation) as usize;
            if relation.0 != address {
                relation = (address, self.indexes.get(&address).copied().unwrap_or(u64::MAX));
            }
            put_change(out, change, relation.1, change.op_index.wrapping_sub(op_index));
            op_index = change.op_index;
        }
    }

    /// The relations that the transaction has not named before.
    fn put_relations(&mut self, changes: &[Change], out: &mut Vec<u8>) {
        let mut new = Vec::new();
        let mut last = 0;
        for change in changes {
            let address = Arc::as_ptr(&change.relation) as usize;
            if address != last && !self.indexes.contains_key(&address) {
                self.indexes.insert(address, self.indexes.len() as u64);
                new.push(&change.relation);
            }
            last = address;
        }
        put_varint(out, new.len() as u64);
        for relation in new {
            let address = Arc::as_ptr(relation) as usize;
            let (_, bytes) = self
                .cache
                .entry(address)
                .or_insert_with(|| (Arc::clone(relation), encode_relation(relation)));
            put_varint(out, bytes.len() as u64);
            out.extend_from_slice(bytes);
        }
    }
}

fn encode_relation(relation: &Relation) -> Box<[u8]> {
    let mut out = Vec::new();
    out.extend_from_slice(&relation.oid.to_le_bytes());
    out.push(relation.identity.as_byte());
    put_string(&mut out, &relation.schema);
    put_string(&mut out, &relation.name);
    put_varint(&mut out, relation.columns.len() as u64);
    for column in &relation.columns {
        out.extend_from_slice(&column.type_oid.to_le_bytes());
        out.extend_from_slice(&column.type_mod.to_le_bytes());
        out.push(u8::from(column.key));
        put_string(&mut out, &column.name);
    }
    out.into_boxed_slice()
}

fn put_change(out: &mut Vec<u8>, change: &Change, relation_index: u64, op_index_step: u64) {
    let (op, rows) = match &change.operation {
        Operation::Insert { new } => (INSERT, [Some(new), None]),
        Operation::Update { old: None, new } => (UPDATE, [Some(new), None]),
        Operation::Update { old: Some(old), new } => (UPDATE_WITH_OLD, [Some(old), Some(new)]),
        Operation::Delete { old } => (DELETE, [Some(old), None]),
        Operation::Truncate => (TRUNCATE, [None, None]),
        Operation::Incomplete => (INCOMPLETE, [None, None]),
    };
    out.push(op);
    put_varint(out, relation_index);
    put_varint(out, op_index_step);
    for row in rows.into_iter().flatten() {
        put_row(out, row);
    }
}

fn put_row(out: &mut Vec<u8>, row: &Row) {
    let view = row.view();
    put_varint(out, row.cells.len() as u64);
    for index in 0..row.cells.len() {
        let code = match view.get(index) {
            Value::Null => NULL,
            Value::Unchanged => UNCHANGED,
            Value::Text(text) => TEXT + text.len() as u64,
        };
        put_varint(out, code);
    }
    // A row from the wire has the lengths of its values between them.
    match contiguous(row) {
        Some(text) => out.extend_from_slice(text),
        None => {
            for index in 0..row.cells.len() {
                if let Value::Text(text) = view.get(index) {
                    out.extend_from_slice(text);
                }
            }
        }
    }
}

/// The text of all cells, when it lies in one piece and in order.
fn contiguous(row: &Row) -> Option<&[u8]> {
    let mut range: Option<(u32, u32)> = None;
    for cell in &row.cells {
        if let Cell::Text { start, end } = *cell {
            range = match range {
                None => Some((start, end)),
                Some((first, last)) if last == start => Some((first, end)),
                Some(_) => return None,
            };
        }
    }
    let (start, end) = range.unwrap_or_default();
    row.text.get(start as usize..end as usize)
}

/// What recovery and the reader need to know before they decode the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) commit_lsn: Lsn,
    pub(super) xid: u32,
    pub(super) first: bool,
    pub(super) commit: Option<Commit>,
}

impl Head {
    pub(super) fn decode(payload: &Bytes) -> Result<Self, Malformed> {
        Self::read(&mut Fields::new(payload.clone()))
    }

    fn read(fields: &mut Fields) -> Result<Self, Malformed> {
        let commit_lsn = Lsn(fields.u64()?);
        let xid = fields.u32()?;
        let flags = fields.u8()?;
        if flags & !(FIRST | COMMIT) != 0 {
            return Err(Malformed);
        }
        let commit = match flags & COMMIT != 0 {
            true => Some(Commit { end_lsn: Lsn(fields.u64()?), time_us: fields.u64()? as i64 }),
            false => None,
        };
        Ok(Self { commit_lsn, xid, first: flags & FIRST != 0, commit })
    }
}

/// The decoder's memory: relations of the open transaction, and those it has
/// decoded before, so that equal ones are one.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    relations: Vec<Arc<Relation>>,
    cache: HashMap<Box<[u8]>, Arc<Relation>>,
}

impl Decoder {
    /// Rows share `payload`.
    pub(super) fn decode(&mut self, payload: Bytes) -> Result<Fragment, Malformed> {
        let mut fields = Fields::new(payload);
        let Head { commit_lsn, xid, first, commit } = Head::read(&mut fields)?;
        if first {
            self.relations.clear();
        }
        let byte_count = usize::try_from(fields.varint()?).map_err(|_| Malformed)?;
        for _ in 0..fields.count()? {
            let length = fields.count()?;
            let relation = self.relation(fields.take(length)?)?;
            self.relations.push(relation);
        }
        let change_count = fields.count()?;
        let mut changes = Vec::with_capacity(change_count);
        let mut op_index = 0u64;
        for _ in 0..change_count {
            let op = fields.u8()?;
            let index = usize::try_from(fields.varint()?).map_err(|_| Malformed)?;
            let relation = Arc::clone(self.relations.get(index).ok_or(Malformed)?);
            op_index = op_index.wrapping_add(fields.varint()?);
            changes.push(Change { relation, op_index, operation: operation(&mut fields, op)? });
        }
        match fields.is_empty() {
            true => Ok(Fragment { commit_lsn, xid, changes, commit, first, byte_count }),
            false => Err(Malformed),
        }
    }

    fn relation(&mut self, bytes: Bytes) -> Result<Arc<Relation>, Malformed> {
        if let Some(relation) = self.cache.get(&bytes[..]) {
            return Ok(Arc::clone(relation));
        }
        let relation = Arc::new(decode_relation(bytes.clone())?);
        if self.cache.len() > CACHED_RELATIONS_MAX {
            self.cache.clear();
        }
        self.cache.insert(bytes[..].into(), Arc::clone(&relation));
        Ok(relation)
    }
}

fn decode_relation(bytes: Bytes) -> Result<Relation, Malformed> {
    let mut fields = Fields::new(bytes);
    let oid = fields.u32()?;
    let identity = ReplicaIdentity::from_byte(fields.u8()?).ok_or(Malformed)?;
    let schema = fields.string()?;
    let name = fields.string()?;
    let column_count = fields.count()?;
    let mut columns = Vec::with_capacity(column_count);
    for _ in 0..column_count {
        let type_oid = fields.u32()?;
        let type_mod = fields.u32()? as i32;
        let key = fields.u8()? != 0;
        columns.push(Column { name: fields.string()?, type_oid, type_mod, key });
    }
    match fields.is_empty() {
        true => Ok(Relation { oid, schema, name, identity, columns }),
        false => Err(Malformed),
    }
}

fn operation(fields: &mut Fields, op: u8) -> Result<Operation, Malformed> {
    Ok(match op {
        INSERT => Operation::Insert { new: row(fields)? },
        UPDATE => Operation::Update { old: None, new: row(fields)? },
        UPDATE_WITH_OLD => Operation::Update { old: Some(row(fields)?), new: row(fields)? },
        DELETE => Operation::Delete { old: row(fields)? },
        TRUNCATE => Operation::Truncate,
        INCOMPLETE => Operation::Incomplete,
        _ => return Err(Malformed),
    })
}

fn row(fields: &mut Fields) -> Result<Row, Malformed> {
    let cell_count = fields.count()?;
    let mut cells = Vec::with_capacity(cell_count);
    let mut end = 0u32;
    for _ in 0..cell_count {
        cells.push(match fields.varint()? {
            NULL => Cell::Null,
            UNCHANGED => Cell::Unchanged,
            code => {
                let start = end;
                let length = u32::try_from(code - TEXT).map_err(|_| Malformed)?;
                end = start.checked_add(length).ok_or(Malformed)?;
                Cell::Text { start, end }
            }
        });
    }
    Ok(Row::new(fields.take(end as usize)?, cells.into_boxed_slice()))
}

//! From rows to entries: the one place where wire JSON rows are made.
//!
//! Snapshot and stream give the same text for a value and the same key for a
//! row because both come through here with Postgres' output text (protocol
//! §4.1–§4.4; the peer's two paths differ, which is a defect of it).

use std::io::Write;

use change::{Change, Lsn, Operation, Relation, Row, RowView, Value};

use crate::batch::Batch;
use crate::definition::{Definition, Replica};
use crate::json;
use crate::offset::Offset;

/// Which transaction a change belongs to.
#[derive(Clone, Copy, Debug)]
pub struct Transaction {
    pub commit_lsn: Lsn,
    pub xid: u32,
}

/// The stream's table is not the one the shape was defined on: its rows cannot
/// go on under the same handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the table's structure changed")]
pub struct SchemaChanged;

/// Encodes rows of one source (a snapshot query, or one version of a relation
/// in the stream) as entries of one shape.
#[derive(Clone, Debug)]
pub struct Encoder {
    fields: Vec<Field>,
    key: Vec<usize>,
    has_primary_key: bool,
    replica: Replica,
    /// `"schema"."table"`, as a JSON string's inside.
    key_prefix: Vec<u8>,
    /// `"relation":["schema","table"]`.
    relation: Vec<u8>,
}

/// A column that the client sees.
#[derive(Clone, Debug)]
struct Field {
    /// `"name":`
    prefix: Vec<u8>,
    source: usize,
    key: bool,
}

impl Encoder {
    /// For rows with the columns of [`Definition::source_columns`].
    pub fn for_snapshot(definition: &Definition) -> Self {
        let source = definition.source_columns();
        let place = |name: &str| source.iter().position(|have| *have == name);
        // Every name is there: the list was made from them.
        Self::new(definition, |name| place(name).unwrap_or_default())
    }

    /// For changes of `relation`.
    ///
    /// # Errors
    /// The relation lacks a column of the shape, or has it with another type;
    /// or the shape shows all columns and there are others now.
    pub fn for_relation(
        definition: &Definition,
        relation: &Relation,
    ) -> Result<Self, SchemaChanged> {
        let find = |name: &str| relation.columns.iter().position(|column| column.name == name);
        let same_table = definition.table_oid == relation.oid
            && definition.schema == relation.schema
            && definition.name == relation.name;
        let shown_are_there = definition.columns.iter().all(|column| {
            find(&column.name).is_some_and(|at| {
                relation.columns[at].type_oid == column.type_oid
                    && relation.columns[at].type_mod == column.type_mod
            })
        });
        let key_is_there = definition.key.iter().all(|column| {
            find(&column.name).is_some_and(|at| relation.columns[at].type_oid == column.type_oid)
        });
        let none_added =
            definition.explicit_columns || relation.columns.len() == definition.columns.len();
        // Without a primary key, a column more is a key of another form.
        let same_key = definition.has_primary_key || relation.columns.len() == definition.key.len();
        if !(same_table && shown_are_there && key_is_there && none_added && same_key) {
            return Err(SchemaChanged);
        }
        Ok(Self::new(definition, |name| find(name).unwrap_or_default()))
    }

    fn new(definition: &Definition, source: impl Fn(&str) -> usize) -> Self {
        let fields = definition.columns.iter().map(|column| {
            let mut prefix = Vec::new();
            json::string(&mut prefix, column.name.as_bytes());
            prefix.push(b':');
            let key = definition.key.iter().any(|key| key.name == column.name);
            Field { prefix, source: source(&column.name), key }
        });
        let mut relation = br#""relation":["#.to_vec();
        json::string(&mut relation, definition.schema.as_bytes());
        relation.push(b',');
        json::string(&mut relation, definition.name.as_bytes());
        relation.push(b']');
        let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
        let table = format!("{}.{}", quoted(&definition.schema), quoted(&definition.name));
        let mut key_prefix = Vec::new();
        json::escape(&mut key_prefix, table.as_bytes());
        Self {
            fields: fields.collect(),
            key: definition.key.iter().map(|column| source(&column.name)).collect(),
            has_primary_key: definition.has_primary_key,
            replica: definition.replica,
            key_prefix,
            relation,
        }
    }

    /// Appends one row of the initial snapshot as a JSON object.
    pub fn snapshot_row(&self, row: RowView<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(br#"{"key":""#);
        self.key(row, out);
        out.extend_from_slice(br#"","value":"#);
        self.value(row, out, |_| true);
        self.headers(b"insert", out);
        out.extend_from_slice(b"}}");
    }

    /// Appends what `change` is to this shape: no entry, one, or two.
    /// A TRUNCATE or an incomplete change is not an entry; it ends the shape.
    pub fn change(&self, change: &Change, transaction: Transaction, batch: &mut Batch) {
        let position = Position { transaction, op_index: change.op_index };
        match &change.operation {
            Operation::Insert { new } => self.insert(new, position, None, batch),
            Operation::Update { old: Some(old), new } => self.update(old, new, position, batch),
            // Without the old row nothing is known to be unchanged.
            Operation::Update { old: None, new } => {
                let entry = Entry { operation: b"update", row: new, position, link: None };
                self.entry(entry, batch, |_| true);
            }
            Operation::Delete { old } => self.delete(old, position, None, batch),
            Operation::Truncate | Operation::Incomplete => {}
        }
    }

    fn update(&self, old: &Row, new: &Row, position: Position, batch: &mut Batch) {
        let (old_view, new_view) = (old.view(), new.view());
        let differs = |source: usize| old_view.get(source) != new_view.get(source);
        if self.key.iter().any(|&source| differs(source)) {
            let second = Position { op_index: position.op_index + 1, ..position };
            self.delete(old, position, Some(new), batch);
            self.insert(new, second, Some(old), batch);
            return;
        }
        if !self.fields.iter().any(|field| differs(field.source)) {
            return;
        }
        match self.replica {
            Replica::Default => {
                let entry = Entry { operation: b"update", row: new, position, link: None };
                self.entry(entry, batch, |field| field.key || differs(field.source));
            }
            Replica::Full => {
                let out = batch.begin();
                out.extend_from_slice(br#"{"key":""#);
                self.key(new_view, out);
                out.extend_from_slice(br#"","value":"#);
                self.value(new_view, out, |_| true);
                out.extend_from_slice(br#","old_value":"#);
                self.value(old_view, out, |field| differs(field.source));
                self.log_headers(b"update", position, out);
                out.extend_from_slice(b"}}");
                batch.end(position.offset());
            }
        }
    }

    fn insert(&self, new: &Row, position: Position, from: Option<&Row>, batch: &mut Batch) {
        let link = from.map(|old| (&br#","key_change_from":""#[..], old));
        self.entry(Entry { operation: b"insert", row: new, position, link }, batch, |_| true);
    }

    fn delete(&self, old: &Row, position: Position, to: Option<&Row>, batch: &mut Batch) {
        let link = to.map(|new| (&br#","key_change_to":""#[..], new));
        let whole = self.replica == Replica::Full || !self.has_primary_key;
        let entry = Entry { operation: b"delete", row: old, position, link };
        self.entry(entry, batch, |field| whole || field.key);
    }

    /// Appends `entry` with the fields that `shown` picks.
    fn entry(&self, entry: Entry<'_>, batch: &mut Batch, shown: impl Fn(&Field) -> bool) {
        let Entry { operation, row, position, link } = entry;
        let out = batch.begin();
        out.extend_from_slice(br#"{"key":""#);
        self.key(row.view(), out);
        out.extend_from_slice(br#"","value":"#);
        self.value(row.view(), out, shown);
        self.log_headers(operation, position, out);
        if let Some((name, other)) = link {
            out.extend_from_slice(name);
            self.key(other.view(), out);
            out.push(b'"');
        }
        out.extend_from_slice(b"}}");
        batch.end(position.offset());
    }

    fn headers(&self, operation: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(br#","headers":{"operation":""#);
        out.extend_from_slice(operation);
        out.extend_from_slice(br#"","#);
        out.extend_from_slice(&self.relation);
    }

    fn log_headers(&self, operation: &[u8], position: Position, out: &mut Vec<u8>) {
        self.headers(operation, out);
        let Position { transaction: Transaction { commit_lsn, xid }, op_index } = position;
        // Writing to a Vec cannot fail.
        let _ =
            write!(out, r#","lsn":"{}","op_position":{op_index},"txids":[{xid}]"#, commit_lsn.0);
    }

    fn value(&self, row: RowView<'_>, out: &mut Vec<u8>, shown: impl Fn(&Field) -> bool) {
        out.push(b'{');
        let mut first = true;
        for field in self.fields.iter().filter(|field| shown(field)) {
            if !first {
                out.push(b',');
            }
            first = false;
            out.extend_from_slice(&field.prefix);
            match row.get(field.source) {
                Value::Null | Value::Unchanged => out.extend_from_slice(b"null"),
                Value::Text(text) => json::string(out, text),
            }
        }
        out.push(b'}');
    }

    /// Appends a row's key as a JSON string's inside: the table, then each key
    /// value in quotes with its slashes doubled; NULL is a bare underscore.
    fn key(&self, row: RowView<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.key_prefix);
        for &source in &self.key {
            match row.get(source) {
                Value::Null | Value::Unchanged => out.extend_from_slice(b"/_"),
                Value::Text(text) => {
                    out.extend_from_slice(br#"/\""#);
                    if memchr::memchr(b'/', text).is_none() {
                        json::escape(out, text);
                    } else {
                        for (index, part) in text.split(|byte| *byte == b'/').enumerate() {
                            if index > 0 {
                                out.extend_from_slice(b"//");
                            }
                            json::escape(out, part);
                        }
                    }
                    out.extend_from_slice(br#"\""#);
                }
            }
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Entry<'a> {
    operation: &'static [u8],
    row: &'a Row,
    position: Position,
    /// Half of a change of key: which header, and the row whose key it names.
    link: Option<(&'static [u8], &'a Row)>,
}

#[derive(Clone, Copy, Debug)]
struct Position {
    transaction: Transaction,
    op_index: u64,
}

impl Position {
    fn offset(self) -> Offset {
        Offset::new(self.transaction.commit_lsn.0, self.op_index)
    }
}

#[cfg(test)]
mod tests;

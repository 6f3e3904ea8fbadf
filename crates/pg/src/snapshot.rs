//! A table's rows at one instant: a read-only transaction and a COPY.
//!
//! COPY in text format prints values with the types' output functions, as
//! pgoutput does, so that a row's text is the same bytes from either side. A
//! cast to text is not: it strips `char(n)` and spells `bool` out.

use change::{Cell, Lsn, RowView, Table, TableKind};

use crate::connect::DISPLAY_SETTINGS;
use crate::error::Error;
use crate::session::lsn;
use crate::sql::{quote_identifier, quote_literal, quote_table};
use crate::wire::Connection;

/// What the transaction sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The text of `pg_current_snapshot()`.
    pub visibility: String,
    /// The end of WAL a moment later: every transaction that the snapshot
    /// contains has its commit record before it.
    pub wal_lsn: Lsn,
}

/// How long a table may be locked by somebody else's DDL.
const LOCK_TIMEOUT_MS: u64 = 10_000;

/// Opens the transaction. `table` is locked against being rewritten before
/// the snapshot is taken: ALTER TABLE may rewrite a table so that an older
/// snapshot finds it empty (Postgres manual, "Caveats" of MVCC).
pub async fn begin(connection: &mut Connection, table: Option<&Table>) -> Result<Bounds, Error> {
    // An abandoned snapshot may have left its transaction open, and BEGIN in
    // an open transaction keeps the old view. ROLLBACK outside one is harmless.
    connection.simple_query("ROLLBACK").await?;
    let mut sql = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;".to_owned();
    // Sent with the startup already, but a pooler may have dropped them.
    for (name, value) in DISPLAY_SETTINGS {
        sql.push_str(&format!("SET LOCAL {name} = {};", quote_literal(value)));
    }
    if let Some(table) = table {
        let (only, name) = (only(table), quote_table(&table.schema, &table.name));
        sql.push_str(&format!(
            "SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS};\
             LOCK TABLE {only}{name} IN ACCESS SHARE MODE;"
        ));
    }
    sql.push_str(
        "SELECT pg_catalog.pg_current_snapshot()::pg_catalog.text, \
         pg_catalog.pg_current_wal_insert_lsn()::pg_catalog.text",
    );
    let rows = connection.simple_query(&sql).await?;
    let missing = || Error::protocol("no snapshot bounds");
    let mut row = rows.into_iter().next().ok_or_else(missing)?.into_iter();
    let visibility = row.next().flatten().ok_or_else(missing)?;
    let wal_lsn = lsn(&row.next().flatten().ok_or_else(missing)?)?;
    Ok(Bounds { visibility, wal_lsn })
}

/// Closes the transaction.
pub async fn end(connection: &mut Connection) -> Result<(), Error> {
    connection.simple_query("COMMIT").await.map(drop)
}

/// The statement for [`Connection::copy_out`]. A plain table is read without
/// the tables that inherit from it: the stream keeps those apart as well.
pub fn copy_sql(table: &Table, columns: &[impl AsRef<str>]) -> String {
    let columns: Vec<_> = columns.iter().map(|name| quote_identifier(name.as_ref())).collect();
    let only = only(table);
    let from = quote_table(&table.schema, &table.name);
    format!("COPY (SELECT {} FROM {only}{from}) TO STDOUT", columns.join(", "))
}

fn only(table: &Table) -> &'static str {
    match table.kind {
        TableKind::Ordinary => "ONLY ",
        TableKind::Partitioned => "",
    }
}

/// Parses a line of COPY's text format into text and cells, which it replaces.
pub fn parse_copy_row(
    line: &[u8],
    out_text: &mut Vec<u8>,
    out_cells: &mut Vec<Cell>,
) -> Result<(), Error> {
    out_text.clear();
    out_cells.clear();
    check_utf8(line)?;
    if split(line, out_cells) {
        out_text.extend_from_slice(line);
    } else {
        unescape_row(line, out_text, out_cells);
    }
    Ok(())
}

/// Parses lines one after the other into the same memory. A row without
/// escapes, which most are, is not even copied.
#[derive(Debug, Default)]
pub struct CopyParser {
    text: Vec<u8>,
    cells: Vec<Cell>,
}

impl CopyParser {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn row<'a>(&'a mut self, line: &'a [u8]) -> Result<RowView<'a>, Error> {
        self.cells.clear();
        check_utf8(line)?;
        let text = if split(line, &mut self.cells) {
            line
        } else {
            self.text.clear();
            self.cells.clear();
            unescape_row(line, &mut self.text, &mut self.cells);
            &self.text
        };
        Ok(RowView { text, cells: &self.cells })
    }
}

fn check_utf8(line: &[u8]) -> Result<(), Error> {
    match std::str::from_utf8(line) {
        Ok(_) => Ok(()),
        Err(_) => Err(Error::protocol("a row of COPY that is not UTF-8")),
    }
}

/// Finds the cells of a line that has no escapes but `\N`. `false`, with some
/// of the cells, when it has others. A tab in a value is always escaped.
fn split(line: &[u8], cells: &mut Vec<Cell>) -> bool {
    let mut next_backslash = memchr::memchr(b'\\', line);
    let mut start = 0;
    for end in memchr::memchr_iter(b'\t', line).chain([line.len()]) {
        let cell = Cell::Text { start: start as u32, end: end as u32 };
        match next_backslash {
            Some(at) if at < end => {
                if line[start..end] != *b"\\N" {
                    return false;
                }
                cells.push(Cell::Null);
                next_backslash = memchr::memchr(b'\\', &line[end..]).map(|at| end + at);
            }
            Some(_) | None => cells.push(cell),
        }
        start = end + 1;
    }
    true
}

fn unescape_row(line: &[u8], text: &mut Vec<u8>, cells: &mut Vec<Cell>) {
    cells.clear();
    for field in line.split(|byte| *byte == b'\t') {
        if field == b"\\N" {
            cells.push(Cell::Null);
            continue;
        }
        let start = text.len() as u32;
        unescape(field, text);
        cells.push(Cell::Text { start, end: text.len() as u32 });
    }
}

fn unescape(mut field: &[u8], text: &mut Vec<u8>) {
    while let Some(at) = memchr::memchr(b'\\', field) {
        text.extend_from_slice(&field[..at]);
        let Some((&escaped, rest)) = field[at + 1..].split_first() else {
            text.push(b'\\');
            return;
        };
        // What COPY TO writes (Postgres manual, "COPY", Text Format). It uses
        // none of the numeric escapes that COPY FROM would take.
        text.push(match escaped {
            b'b' => 0x08,
            b'f' => 0x0c,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'v' => 0x0b,
            other => other,
        });
        field = rest;
    }
    text.extend_from_slice(field);
}

#[cfg(test)]
mod tests {
    use change::Value;
    use proptest::prelude::*;

    use super::*;

    fn show(view: RowView<'_>) -> Vec<Option<String>> {
        (0..view.cells.len())
            .map(|index| match view.get(index) {
                Value::Null => None,
                Value::Unchanged => panic!("COPY knows no unchanged values"),
                Value::Text(text) => Some(String::from_utf8(text.to_vec()).unwrap()),
            })
            .collect()
    }

    #[track_caller]
    fn check(line: &str, expected: &[Option<&str>]) {
        let expected: Vec<_> = expected.iter().map(|text| text.map(str::to_owned)).collect();
        let mut parser = CopyParser::new();
        assert_eq!(show(parser.row(line.as_bytes()).unwrap()), expected, "{line:?}");
        let (mut text, mut cells) = (b"old".to_vec(), vec![Cell::Null]);
        parse_copy_row(line.as_bytes(), &mut text, &mut cells).unwrap();
        assert_eq!(show(RowView { text: &text, cells: &cells }), expected, "{line:?}");
    }

    #[test]
    fn a_line_of_copy_is_split_and_unescaped() {
        check("", &[Some("")]);
        check("a", &[Some("a")]);
        check("a\tb\t", &[Some("a"), Some("b"), Some("")]);
        check("\\N", &[None]);
        check("\\N\t\\N\tx\t\\N", &[None, None, Some("x"), None]);
        check("\\\\N", &[Some("\\N")]);
        check("x\\\\xdead\t\\N", &[Some("x\\xdead"), None]);
        check("\\b\\f\\n\\r\\t\\v\\\\", &[Some("\u{8}\u{c}\n\r\t\u{b}\\")]);
        check("\\N\ta\\tb\té", &[None, Some("a\tb"), Some("é")]);
        check("a\\", &[Some("a\\")]);
    }

    #[test]
    fn a_line_that_is_not_utf8_is_refused() {
        assert!(CopyParser::new().row(b"a\xff").is_err());
    }

    fn escape(value: &Option<String>) -> String {
        let Some(value) = value else { return "\\N".to_owned() };
        let mut out = String::new();
        for char in value.chars() {
            match char {
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                other => out.push(other),
            }
        }
        out
    }

    proptest! {
        #[test]
        fn what_copy_writes_is_read_back(
            row in prop::collection::vec(prop::option::of("[\\\\N\t\n\ra-cé]{0,6}"), 1..6)
        ) {
            let line = row.iter().map(escape).collect::<Vec<_>>().join("\t");
            let mut parser = CopyParser::new();
            prop_assert_eq!(show(parser.row(line.as_bytes()).unwrap()), row);
        }
    }
}

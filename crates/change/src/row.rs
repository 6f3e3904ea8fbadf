//! A row: one shared buffer and where each column's text lies in it.
//!
//! A row is decoded once and then read by the journal and by every shape on
//! its table, so it is two allocations whatever its width, and a clone of it
//! shares the text.

use bytes::{Bytes, BytesMut};

/// One column of a [`Row`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell {
    Null,
    /// A TOASTed value that the UPDATE did not touch; Postgres leaves it out.
    Unchanged,
    /// The byte range of the text in the row's buffer.
    Text {
        start: u32,
        end: u32,
    },
}

/// One column's value, in Postgres' text output format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    Null,
    Unchanged,
    Text(&'a [u8]),
}

/// A tuple in text format. The ranges of `cells` lie inside `text`; whoever
/// decodes checks that and that each is UTF-8.
#[derive(Clone, Debug)]
pub struct Row {
    pub text: Bytes,
    pub cells: Box<[Cell]>,
}

/// A borrowed row: of a [`Row`], or of a snapshot's reused buffer.
#[derive(Clone, Copy, Debug)]
pub struct RowView<'a> {
    pub text: &'a [u8],
    pub cells: &'a [Cell],
}

impl Row {
    pub fn new(text: Bytes, cells: Box<[Cell]>) -> Self {
        Self { text, cells }
    }

    pub fn view(&self) -> RowView<'_> {
        RowView { text: &self.text, cells: &self.cells }
    }

    pub fn has_unchanged(&self) -> bool {
        self.cells.contains(&Cell::Unchanged)
    }

    /// Takes the values Postgres left out from the row's old version, which
    /// under REPLICA IDENTITY FULL has them all.
    pub fn fill_unchanged(&mut self, old: &Row) {
        let mut text = BytesMut::from(&self.text[..]);
        for (cell, old_cell) in self.cells.iter_mut().zip(old.cells.iter()) {
            if *cell != Cell::Unchanged {
                continue;
            }
            *cell = match *old_cell {
                Cell::Text { start, end } => {
                    let at = text.len() as u32;
                    text.extend_from_slice(&old.text[start as usize..end as usize]);
                    Cell::Text { start: at, end: at + (end - start) }
                }
                other @ (Cell::Null | Cell::Unchanged) => other,
            };
        }
        self.text = text.freeze();
    }
}

impl<'a> RowView<'a> {
    /// The value of column `index`; NULL past the end, as for a column that was
    /// added after the row was written.
    pub fn get(&self, index: usize) -> Value<'a> {
        match self.cells.get(index) {
            None | Some(Cell::Null) => Value::Null,
            Some(Cell::Unchanged) => Value::Unchanged,
            Some(&Cell::Text { start, end }) => {
                Value::Text(self.text.get(start as usize..end as usize).unwrap_or_default())
            }
        }
    }
}

/// Equal when every column has the same value, wherever its text lies.
impl PartialEq for Row {
    fn eq(&self, other: &Self) -> bool {
        self.cells.len() == other.cells.len()
            && (0..self.cells.len()).all(|i| self.view().get(i) == other.view().get(i))
    }
}

impl Eq for Row {}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(values: &[Value<'_>]) -> Row {
        let mut text = BytesMut::new();
        let cells = values
            .iter()
            .map(|value| match value {
                Value::Null => Cell::Null,
                Value::Unchanged => Cell::Unchanged,
                Value::Text(bytes) => {
                    let start = text.len() as u32;
                    text.extend_from_slice(bytes);
                    Cell::Text { start, end: text.len() as u32 }
                }
            })
            .collect();
        Row::new(text.freeze(), cells)
    }

    #[test]
    fn unchanged_columns_are_filled_from_the_old_row() {
        let old = row(&[Value::Text(b"1"), Value::Text(b"long"), Value::Null]);
        let mut new = row(&[Value::Text(b"2"), Value::Unchanged, Value::Unchanged]);
        assert!(new.has_unchanged());
        new.fill_unchanged(&old);
        assert_eq!(new, row(&[Value::Text(b"2"), Value::Text(b"long"), Value::Null]));
    }

    #[test]
    fn a_column_past_the_end_is_null() {
        assert_eq!(row(&[]).view().get(3), Value::Null);
    }
}

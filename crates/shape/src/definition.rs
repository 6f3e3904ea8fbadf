//! What a client asked for: a table, some of its columns, and how to show it.

use serde::{Deserialize, Serialize};

use crate::schema;
use change::Table;

/// How much of a row an update or delete shows (protocol §4.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Replica {
    /// The key and what changed.
    #[default]
    Default,
    /// The whole row, and the old values of what changed.
    Full,
}

/// Whether the log begins with the table's rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LogMode {
    #[default]
    Full,
    /// Only what changes after the shape was made.
    ChangesOnly,
}

/// A shape's definition, resolved against the catalog. Two requests address
/// the same shape iff their [`Self::identity`] is equal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    pub table_oid: u32,
    pub schema: String,
    pub name: String,
    /// Shown to the client, in attribute order.
    pub(crate) columns: Vec<Column>,
    /// The client listed the columns. Such a shape survives ADD COLUMN.
    pub(crate) explicit_columns: bool,
    /// What makes a row's key: the primary key in its own order, or every
    /// column of a table that has none.
    pub(crate) key: Vec<KeyColumn>,
    pub(crate) has_primary_key: bool,
    pub replica: Replica,
    pub log: LogMode,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) type_oid: u32,
    pub(crate) type_name: String,
    pub(crate) type_mod: i32,
    pub(crate) dims: i32,
    pub(crate) not_null: bool,
    pub(crate) pk_position: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeyColumn {
    pub(crate) name: String,
    pub(crate) type_oid: u32,
}

/// Why a list of columns does not make a shape. The texts are the client's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DefinitionError {
    #[error("The list of columns must not be empty")]
    NoColumns,
    #[error("The list of columns must include all primary key columns, missing: {}", .missing.join(", "))]
    PrimaryKeyMissing { missing: Vec<String> },
    #[error("The following columns are not found on the table: {}", .unknown.join(", "))]
    UnknownColumns { unknown: Vec<String> },
    #[error(
        "The following columns are generated and cannot be included in the shape: {}. \
         Leave them out by listing the other columns in the `columns` parameter",
        .generated.join(", ")
    )]
    Generated { generated: Vec<String> },
}

impl Definition {
    /// Resolves a request for `columns` (all when `None`) of `table`.
    pub fn new(
        table: &Table,
        columns: Option<&[String]>,
        replica: Replica,
        log: LogMode,
    ) -> Result<Self, DefinitionError> {
        if let Some(names) = columns {
            check_names(table, names)?;
        }
        let selected: Vec<&change::TableColumn> = table
            .columns
            .iter()
            .filter(|column| columns.is_none_or(|names| names.contains(&column.name)))
            .collect();
        let mut key: Vec<&change::TableColumn> =
            table.columns.iter().filter(|column| column.pk_position.is_some()).collect();
        key.sort_by_key(|column| column.pk_position);
        let has_primary_key = !key.is_empty();
        if !has_primary_key {
            // Generated columns are not in the stream, so they cannot be in the key.
            key = table.columns.iter().filter(|column| !column.generated).collect();
        }
        let generated = names_of(selected.iter().chain(&key).filter(|column| column.generated));
        if !generated.is_empty() {
            return Err(DefinitionError::Generated { generated });
        }
        Ok(Self {
            table_oid: table.oid,
            schema: table.schema.clone(),
            name: table.name.clone(),
            columns: selected.into_iter().map(Column::from).collect(),
            explicit_columns: columns.is_some(),
            key: key.into_iter().map(KeyColumn::from).collect(),
            has_primary_key,
            replica,
            log,
        })
    }

    /// The same request on the table as it is now.
    pub fn renewed(&self, table: &Table) -> Result<Self, DefinitionError> {
        let names: Vec<String> = self.columns.iter().map(|column| column.name.clone()).collect();
        let columns = self.explicit_columns.then_some(&names[..]);
        Self::new(table, columns, self.replica, self.log)
    }

    /// Equal for two definitions iff they are the same shape (protocol §2.7).
    /// Types are left out: a change of type ends the shape.
    pub fn identity(&self) -> String {
        let columns: Vec<&str> = self.columns.iter().map(|column| column.name.as_str()).collect();
        let key: Vec<&str> = self.key.iter().map(|column| column.name.as_str()).collect();
        serde_json::json!([
            self.table_oid,
            self.schema,
            self.name,
            columns,
            self.explicit_columns,
            key,
            self.has_primary_key,
            self.replica,
            self.log,
        ])
        .to_string()
    }

    /// Whether a request in the client's words means this shape, without
    /// asking the catalog what those words mean at present.
    pub fn answers(
        &self,
        (schema, name): (&str, &str),
        columns: Option<&[String]>,
        replica: Replica,
        log: LogMode,
    ) -> bool {
        let same_columns = match columns {
            None => !self.explicit_columns,
            Some(names) => {
                self.explicit_columns
                    && names.iter().all(|name| self.columns.iter().any(|have| have.name == *name))
                    && self.columns.iter().all(|have| names.contains(&have.name))
            }
        };
        self.schema == schema
            && self.name == name
            && same_columns
            && self.replica == replica
            && self.log == log
    }

    /// Whether the stored definition still describes the catalog's table:
    /// nullability aside, which only the schema header shows.
    pub fn same_structure(&self, other: &Self) -> bool {
        let plain = |columns: &[Column]| {
            columns
                .iter()
                .map(|column| Column { not_null: false, ..column.clone() })
                .collect::<Vec<_>>()
        };
        self.identity() == other.identity()
            && plain(&self.columns) == plain(&other.columns)
            && self.key == other.key
    }

    /// The value of the `electric-schema` header.
    pub fn schema_header(&self) -> String {
        schema::header(&self.columns)
    }

    /// The columns a snapshot must read, in this order: those shown, then
    /// those that only the key needs.
    pub fn source_columns(&self) -> Vec<&str> {
        let shown = self.columns.iter().map(|column| column.name.as_str());
        let key_only = self
            .key
            .iter()
            .map(|column| column.name.as_str())
            .filter(|name| self.columns.iter().all(|column| column.name != *name));
        shown.chain(key_only).collect()
    }
}

fn check_names(table: &Table, names: &[String]) -> Result<(), DefinitionError> {
    if names.is_empty() {
        return Err(DefinitionError::NoColumns);
    }
    let missing = names_of(
        table
            .columns
            .iter()
            .filter(|column| column.pk_position.is_some() && !names.contains(&column.name)),
    );
    if !missing.is_empty() {
        return Err(DefinitionError::PrimaryKeyMissing { missing });
    }
    let unknown: Vec<String> = names
        .iter()
        .filter(|name| table.columns.iter().all(|column| column.name != **name))
        .cloned()
        .collect();
    if !unknown.is_empty() {
        return Err(DefinitionError::UnknownColumns { unknown });
    }
    Ok(())
}

fn names_of<'a, C>(columns: impl Iterator<Item = C>) -> Vec<String>
where
    C: std::borrow::Borrow<&'a change::TableColumn>,
{
    let mut names: Vec<String> = columns.map(|column| column.borrow().name.clone()).collect();
    names.dedup();
    names
}

impl From<&change::TableColumn> for Column {
    fn from(column: &change::TableColumn) -> Self {
        Self {
            name: column.name.clone(),
            type_oid: column.type_oid,
            type_name: column.type_name.clone(),
            type_mod: column.type_mod,
            dims: column.dims,
            not_null: column.not_null,
            pk_position: column.pk_position,
        }
    }
}

impl From<&change::TableColumn> for KeyColumn {
    fn from(column: &change::TableColumn) -> Self {
        Self { name: column.name.clone(), type_oid: column.type_oid }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use change::{ReplicaIdentity, TableColumn, TableKind};

    /// A table `public.items`; each column is (name, place in the key).
    pub(crate) fn table(columns: &[(&str, Option<u32>)]) -> Table {
        Table {
            oid: 16_384,
            schema: "public".into(),
            name: "items".into(),
            kind: TableKind::Ordinary,
            identity: ReplicaIdentity::Full,
            columns: columns
                .iter()
                .map(|(name, pk_position)| TableColumn {
                    name: (*name).into(),
                    type_oid: 25,
                    type_name: "text".into(),
                    type_mod: -1,
                    dims: 0,
                    not_null: pk_position.is_some(),
                    pk_position: *pk_position,
                    generated: false,
                })
                .collect(),
        }
    }

    pub(crate) fn define(table: &Table, columns: Option<&[&str]>, replica: Replica) -> Definition {
        let names = columns.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
        let names: Option<Vec<String>> = names;
        Definition::new(table, names.as_deref(), replica, LogMode::Full).unwrap()
    }

    #[track_caller]
    fn refused(columns: &[&str], expected: &str) {
        let names: Vec<String> = columns.iter().map(|name| (*name).to_owned()).collect();
        let error = Definition::new(
            &table(&[("id", Some(0)), ("title", None)]),
            Some(&names),
            Replica::Default,
            LogMode::Full,
        );
        assert_eq!(error.unwrap_err().to_string(), expected);
    }

    #[test]
    fn bad_lists_of_columns_are_refused() {
        refused(&[], "The list of columns must not be empty");
        refused(
            &["title"],
            "The list of columns must include all primary key columns, missing: id",
        );
        refused(&["id", "nope"], "The following columns are not found on the table: nope");
    }

    #[test]
    fn order_of_columns_makes_no_new_shape_but_naming_all_does() {
        let table = table(&[("id", Some(0)), ("title", None)]);
        let all = define(&table, None, Replica::Default).identity();
        let listed = define(&table, Some(&["id", "title"]), Replica::Default).identity();
        let turned = define(&table, Some(&["title", "id"]), Replica::Default).identity();
        assert_eq!(listed, turned);
        assert_ne!(all, listed);
        assert_ne!(all, define(&table, None, Replica::Full).identity());
    }

    #[test]
    fn a_request_finds_its_shape_without_the_catalog() {
        let table = table(&[("id", Some(0)), ("title", None)]);
        let listed = define(&table, Some(&["id", "title"]), Replica::Default);
        let answers = |names: Option<&[&str]>| {
            let names = names
                .map(|names| names.iter().map(|name| (*name).to_owned()).collect::<Vec<String>>());
            listed.answers(("public", "items"), names.as_deref(), Replica::Default, LogMode::Full)
        };
        assert!(answers(Some(&["title", "id"])));
        assert!(answers(Some(&["title", "id", "id"])));
        assert!(!answers(None));
        assert!(!answers(Some(&["id"])));
        assert!(!answers(Some(&["id", "title", "more"])));
    }

    #[test]
    fn a_table_without_a_primary_key_has_all_columns_as_key() {
        let table = table(&[("a", None), ("b", None)]);
        let some = define(&table, Some(&["b"]), Replica::Default);
        assert_eq!(some.source_columns(), ["b", "a"]);
    }
}

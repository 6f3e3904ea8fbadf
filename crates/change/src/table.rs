//! A table as the catalog describes it, at the time it was asked.

use crate::relation::ReplicaIdentity;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    pub oid: u32,
    pub schema: String,
    pub name: String,
    pub kind: TableKind,
    pub identity: ReplicaIdentity,
    /// In attribute order, dropped columns left out.
    pub columns: Vec<TableColumn>,
}

/// The two kinds of relation a shape may be on (`pg_class.relkind` r and p).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableKind {
    Ordinary,
    Partitioned,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableColumn {
    pub name: String,
    /// The column's own type, also for arrays.
    pub type_oid: u32,
    /// `pg_type.typname`; for an array, of its element.
    pub type_name: String,
    /// `atttypmod`; −1 when the type has none.
    pub type_mod: i32,
    /// `attndims`, at least 1 for an array (CREATE TABLE AS leaves it 0), else 0.
    pub dims: i32,
    pub not_null: bool,
    /// Place in the primary key's own order, from 0.
    pub pk_position: Option<u32>,
    pub generated: bool,
}

//! A table as the replication stream describes it.

/// What a pgoutput Relation message says (Postgres manual, "Logical
/// Replication Message Formats"). Types and columns as of the transaction that
/// follows it, which may be older than the catalog's present state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    pub oid: u32,
    pub schema: String,
    pub name: String,
    pub identity: ReplicaIdentity,
    pub columns: Vec<Column>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    pub type_oid: u32,
    /// `atttypmod`; −1 when the type has none.
    pub type_mod: i32,
    /// Part of the replica identity, which under FULL is every column.
    pub key: bool,
}

/// Which old columns Postgres sends (Postgres manual, "ALTER TABLE … REPLICA
/// IDENTITY"). Leyden needs `Full`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplicaIdentity {
    Default,
    Nothing,
    Full,
    Index,
}

impl ReplicaIdentity {
    /// From `pg_class.relreplident`, also the byte used in the stream.
    pub fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            b'd' => Some(Self::Default),
            b'n' => Some(Self::Nothing),
            b'f' => Some(Self::Full),
            b'i' => Some(Self::Index),
            _ => None,
        }
    }

    pub fn as_byte(self) -> u8 {
        match self {
            Self::Default => b'd',
            Self::Nothing => b'n',
            Self::Full => b'f',
            Self::Index => b'i',
        }
    }
}

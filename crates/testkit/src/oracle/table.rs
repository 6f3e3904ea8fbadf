//! Random tables, with every kind of key.

use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};

use super::value::{KINDS, Kind, ODD_TEXT, identifier, quote, uuid};
use crate::follower::Query;

/// Rows of a table have keys below this, so that operations often meet.
pub(super) const KEY_COUNT: u64 = 40;

#[derive(Clone, Debug)]
pub(super) struct Table {
    pub(super) name: String,
    pub(super) key: Key,
    columns: Vec<Column>,
}

/// What identifies a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Int,
    Uuid,
    Text,
    /// Two columns, in another order than the table has them.
    Composite,
    /// A boolean in the key: its text is easily got wrong.
    Flag,
    /// No primary key. Rows may be equal.
    None,
    /// Insert-only rows that carry their transaction's name and row count.
    Ledger,
}

#[derive(Clone, Debug)]
struct Column {
    name: String,
    kind: Kind,
}

const KEYS: &[Key] = &[Key::Int, Key::Uuid, Key::Text, Key::Composite, Key::Flag, Key::None];

impl Table {
    /// The `index`-th table of a schema. The first few have one kind of key
    /// each, so that a small schema misses none.
    pub(super) fn random(index: usize, rng: &mut StdRng) -> Self {
        let key = KEYS[index % KEYS.len()];
        let name = match index % 3 {
            0 => format!("t{index}"),
            1 => format!("Mixed {index}"),
            _ => format!("o\"dd/ä.{index}"),
        };
        let mut kinds = KINDS.to_vec();
        kinds.shuffle(rng);
        kinds.truncate(rng.random_range(2..7));
        // Unchanged TOAST is the rarest path; let it be in every other table.
        if index.is_multiple_of(2) && !kinds.contains(&Kind::Large) {
            kinds.push(Kind::Large);
        }
        if key == Key::None {
            kinds.retain(|kind| *kind != Kind::Large);
        }
        let columns = kinds.into_iter().enumerate().map(|(index, kind)| Column {
            name: if index == 1 { "Sec\"ond".to_owned() } else { format!("c{index}") },
            kind,
        });
        Self { name, key, columns: columns.collect() }
    }

    /// One of the two tables that show whether transactions are whole.
    pub(super) fn ledger(name: &str) -> Self {
        Self { name: name.to_owned(), key: Key::Ledger, columns: Vec::new() }
    }

    pub(super) fn sql_name(&self) -> String {
        identifier(&self.name)
    }

    pub(super) fn create(&self) -> String {
        let mut columns: Vec<String> = match self.key {
            Key::Int => vec!["id int PRIMARY KEY".into()],
            Key::Uuid => vec!["id uuid PRIMARY KEY".into()],
            Key::Text => vec!["id text PRIMARY KEY".into()],
            Key::Composite => vec!["a int".into(), "b text".into(), "PRIMARY KEY (b, a)".into()],
            Key::Flag => vec!["f bool".into(), "i int8".into(), "PRIMARY KEY (f, i)".into()],
            Key::None => vec!["a int".into(), "b bool".into()],
            Key::Ledger => vec![
                "id bigserial PRIMARY KEY".into(),
                "txn text NOT NULL".into(),
                "seq int NOT NULL".into(),
                "n int NOT NULL".into(),
            ],
        };
        for column in &self.columns {
            columns.push(format!("{} {}", identifier(&column.name), column.kind.sql()));
        }
        format!("CREATE TABLE {} ({});", self.sql_name(), columns.join(", "))
    }

    /// The key's columns and their literals for row number `number`.
    pub(super) fn key_of(&self, number: u64) -> Vec<(&'static str, String)> {
        match self.key {
            Key::Int => vec![("id", number.to_string())],
            Key::Uuid => vec![("id", format!("'{}'", uuid(number)))],
            Key::Text => vec![("id", quote(&text_key(number)))],
            Key::Composite => {
                vec![("a", (number / 7).to_string()), ("b", quote(&text_key(number % 7)))]
            }
            Key::Flag => {
                vec![("f", number.is_multiple_of(2).to_string()), ("i", (number / 2).to_string())]
            }
            // Few values, so that equal rows are common.
            Key::None => {
                let a = if number == 3 { "NULL".into() } else { (number % 8).to_string() };
                vec![("a", a), ("b", number.is_multiple_of(2).to_string())]
            }
            Key::Ledger => vec![("id", number.to_string())],
        }
    }

    /// A condition that finds row number `number`.
    pub(super) fn finds(&self, number: u64) -> String {
        let parts = self.key_of(number);
        let parts = parts
            .into_iter()
            .map(|(name, value)| format!("{} IS NOT DISTINCT FROM {value}", identifier(name)));
        parts.collect::<Vec<_>>().join(" AND ")
    }

    /// `SET` for the key of row number `number`.
    pub(super) fn set_key(&self, number: u64) -> String {
        let parts = self.key_of(number).into_iter();
        parts.map(|(name, value)| format!("{name} = {value}")).collect::<Vec<_>>().join(", ")
    }

    /// An INSERT of random rows with these numbers.
    pub(super) fn insert(&self, numbers: &[u64], rng: &mut StdRng) -> String {
        let mut names: Vec<String> =
            self.key_of(0).iter().map(|(name, _)| identifier(name)).collect();
        names.extend(self.columns.iter().map(|column| identifier(&column.name)));
        let rows: Vec<String> = numbers
            .iter()
            .map(|number| {
                let mut values: Vec<String> =
                    self.key_of(*number).into_iter().map(|(_, value)| value).collect();
                values.extend(self.columns.iter().map(|column| column.kind.literal(rng)));
                format!("({})", values.join(", "))
            })
            .collect();
        let clash = if self.key == Key::None { "" } else { " ON CONFLICT DO NOTHING" };
        format!(
            "INSERT INTO {} ({}) VALUES {}{clash};",
            self.sql_name(),
            names.join(", "),
            rows.join(", ")
        )
    }

    /// `SET` for some of the columns that are not the key.
    pub(super) fn set_some(&self, rng: &mut StdRng) -> String {
        let count = rng.random_range(1..=self.columns.len());
        let chosen = self.columns.sample(rng, count).cloned();
        let chosen: Vec<Column> = chosen.collect();
        let parts = chosen
            .iter()
            .map(|column| format!("{} = {}", identifier(&column.name), column.kind.literal(rng)));
        parts.collect::<Vec<_>>().join(", ")
    }

    /// `SET` that changes nothing.
    pub(super) fn set_same(&self) -> String {
        let name = identifier(&self.columns[0].name);
        format!("{name} = {name}")
    }

    /// A random shape of this table.
    pub(super) fn shape(&self, rng: &mut StdRng) -> Query {
        let mut query = Query::table(&self.sql_name());
        if rng.random_ratio(1, 3) {
            query = query.replica_full();
        }
        if self.key != Key::None && !self.columns.is_empty() && rng.random_ratio(1, 3) {
            let mut names: Vec<&str> = self.key_of(0).into_iter().map(|(name, _)| name).collect();
            let count = rng.random_range(1..=self.columns.len());
            names.extend(self.columns[..count].iter().map(|column| column.name.as_str()));
            query = query.columns(&names);
        }
        query
    }
}

/// Different for every number: the odd texts do not end in digits.
fn text_key(number: u64) -> String {
    let (round, index) =
        (number / ODD_TEXT.len() as u64, (number % ODD_TEXT.len() as u64) as usize);
    let text = ODD_TEXT[index].replace("$1", "$x");
    if round == 0 { text } else { format!("{text}{round}") }
}

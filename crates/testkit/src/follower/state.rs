//! What a reader knows, and what it holds against the server.
//!
//! Pure: messages in, rows and faults out. Every rule a client may rely on is
//! checked as the messages come, since a later one can hide a fault.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};

use super::message::{Message, Operation, Place, Row};

/// Faults kept; the first ones say what went wrong.
const FAULTS_KEPT: usize = 20;

/// One handle's log as far as it was read.
#[derive(Clone, Debug, Default)]
pub struct State {
    rows: BTreeMap<String, Held>,
    /// Columns of the primary key, in its order; empty if there is none.
    pub(super) key_columns: Vec<String>,
    /// Rows of a table without a primary key may be equal, and share a key.
    keyless: bool,
    last: Option<Place>,
    /// The transaction whose last change has not been seen.
    open: Option<u64>,
    /// A delete that moved its row: the key it had, and the one it must get.
    moving: Option<(String, String)>,
    /// Each change's bytes by its place: the same on every reading.
    entries: BTreeMap<Place, u64>,
    ledger: Ledger,
    faults: Vec<String>,
}

#[derive(Clone, Debug, Default)]
struct Held {
    value: Row,
    count: usize,
}

/// Rows that say how many their transaction wrote: column `txn` names it, and
/// column `n` is the count. Such rows are only ever inserted.
#[derive(Clone, Debug, Default)]
struct Ledger {
    seen: HashMap<String, usize>,
    torn: BTreeMap<String, usize>,
}

/// The bytes of `text` as a number, to compare without keeping them.
pub(super) fn digest(text: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

impl State {
    pub(super) fn describe(&mut self, key_columns: Vec<String>) {
        self.keyless = key_columns.is_empty();
        self.key_columns = key_columns;
    }

    /// The rows as the client would show them, in no promised order.
    pub fn rows(&self) -> Vec<Row> {
        let held = self.rows.values();
        held.flat_map(|held| std::iter::repeat_n(held.value.clone(), held.count)).collect()
    }

    pub fn row_count(&self) -> usize {
        self.rows.values().map(|held| held.count).sum()
    }

    pub fn entries(&self) -> &BTreeMap<Place, u64> {
        &self.entries
    }

    pub fn faults(&self) -> &[String] {
        &self.faults
    }

    pub(super) fn fault(&mut self, text: String) {
        if self.faults.len() < FAULTS_KEPT {
            self.faults.push(text);
        }
    }

    /// Takes in a change or a row; `raw` is its bytes.
    pub(super) fn apply(&mut self, message: Message, raw: &[u8]) {
        if let Err(fault) = self.order(&message, raw) {
            self.fault(format!("{fault} in {}", shorten(raw)));
        }
        if let Err(fault) = self.check_move(&message) {
            self.fault(format!("{fault} in {}", shorten(raw)));
        }
        if let Err(fault) = self.materialise(message) {
            self.fault(format!("{fault} in {}", shorten(raw)));
        }
    }

    /// The log says that nothing is missing.
    pub(super) fn up_to_date(&mut self) {
        if let Some(lsn) = self.open {
            self.fault(format!("up-to-date inside transaction {lsn}"));
        }
        if let Some((txn, missing)) = self.ledger.torn.first_key_value() {
            self.fault(format!(
                "up-to-date with {missing} rows of ledger transaction {txn} missing"
            ));
        }
    }

    fn order(&mut self, message: &Message, raw: &[u8]) -> Result<(), String> {
        let Some(place) = message.place()? else {
            return match self.last {
                Some(last) => Err(format!("a snapshot row after {last:?}")),
                None => Ok(()),
            };
        };
        let result = self.follows(place);
        self.last = Some(place);
        self.open = (message.headers.last != Some(true)).then_some(place.0);
        self.entries.insert(place, digest(raw));
        if message.headers.txids.as_ref().is_none_or(Vec::is_empty) {
            return Err("a change without txids".to_owned());
        }
        result
    }

    fn follows(&self, place: Place) -> Result<(), String> {
        if self.last.is_some_and(|last| place <= last) {
            return Err(format!("{place:?} after {:?}", self.last));
        }
        match (self.open, self.last) {
            (Some(open), _) if open != place.0 => {
                Err(format!("{place:?} before the last change of transaction {open}"))
            }
            (None, Some(last)) if last.0 == place.0 => {
                Err(format!("{place:?} after the change marked last in its transaction"))
            }
            _ => Ok(()),
        }
    }

    /// A change of key is two entries that name each other's key.
    fn check_move(&mut self, message: &Message) -> Result<(), String> {
        let (headers, key) = (&message.headers, message.key.clone().unwrap_or_default());
        let found = headers.key_change_from.clone().map(|from| (from, key.clone()));
        let expected = self.moving.take();
        self.moving = headers.key_change_to.clone().map(|to| (key, to));
        if found == expected {
            Ok(())
        } else {
            Err(format!("a row moves from and to {found:?} where {expected:?} was told"))
        }
    }

    fn materialise(&mut self, message: Message) -> Result<(), String> {
        let (Some(key), Some(value), Some(operation)) =
            (message.key, message.value, message.headers.operation)
        else {
            return Err("a change lacks its key, value or operation".to_owned());
        };
        self.check_key(&key, &value)?;
        match operation {
            Operation::Insert => self.insert(key, value),
            Operation::Update => self.update(key, value, message.old_value),
            Operation::Delete => self.delete(&key, &value),
        }
    }

    /// The key must be the one that the primary key's values make.
    fn check_key(&self, key: &str, value: &Row) -> Result<(), String> {
        let mut tail = String::new();
        for column in &self.key_columns {
            let Some(Some(text)) = value.get(column) else {
                return Err(format!("key column {column:?} is not in the value"));
            };
            tail.push_str("/\"");
            tail.push_str(&text.replace('/', "//"));
            tail.push('"');
        }
        if key.ends_with(&tail) { Ok(()) } else { Err(format!("key {key:?} is not …{tail:?}")) }
    }

    fn insert(&mut self, key: String, value: Row) -> Result<(), String> {
        self.ledger.count(&value);
        let held = self.rows.entry(key).or_default();
        held.count = if self.keyless { held.count + 1 } else { 1 };
        let known = std::mem::replace(&mut held.value, value);
        if !known.is_empty() && !self.keyless {
            return Err(format!("an insert meets the row {known:?}"));
        }
        Ok(())
    }

    fn update(&mut self, key: String, value: Row, old: Option<Row>) -> Result<(), String> {
        let Some(held) = self.rows.get_mut(&key) else {
            self.rows.insert(key, Held { value, count: 1 });
            return Err("an update meets no row".to_owned());
        };
        let mut result = Ok(());
        for (column, text) in old.unwrap_or_default() {
            if held.value.get(&column) != Some(&text) {
                result = Err(format!(
                    "old value {text:?} of {column} where the row has {:?}",
                    held.value.get(&column)
                ));
            }
        }
        held.value.extend(value);
        result
    }

    fn delete(&mut self, key: &str, value: &Row) -> Result<(), String> {
        let Some(held) = self.rows.get_mut(key) else {
            return Err("a delete meets no row".to_owned());
        };
        let differs = value.iter().any(|(column, text)| held.value.get(column) != Some(text));
        let known = held.value.clone();
        held.count -= 1;
        if held.count == 0 {
            self.rows.remove(key);
        }
        if differs { Err(format!("a delete shows other values than {known:?}")) } else { Ok(()) }
    }
}

impl Ledger {
    fn count(&mut self, value: &Row) {
        let (Some(Some(txn)), Some(Some(n))) = (value.get("txn"), value.get("n")) else { return };
        let Ok(whole) = n.parse::<usize>() else { return };
        let seen = self.seen.entry(txn.clone()).or_default();
        *seen += 1;
        match whole.checked_sub(*seen) {
            Some(0) => self.torn.remove(txn),
            Some(missing) => self.torn.insert(txn.clone(), missing),
            None => self.torn.insert(txn.clone(), usize::MAX),
        };
    }
}

fn shorten(raw: &[u8]) -> String {
    let text = String::from_utf8_lossy(raw);
    let short: String = text.chars().take(600).collect();
    if short.len() < text.len() { format!("{short}…") } else { short }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(state: &mut State, messages: &[&str]) {
        for raw in messages {
            let message: Message = serde_json::from_str(raw).unwrap();
            if message.headers.control.is_some() {
                state.up_to_date();
            } else {
                state.apply(message, raw.as_bytes());
            }
        }
    }

    fn change(operation: &str, place: Place, id: u64, last: bool) -> String {
        let (lsn, op) = place;
        let last = if last { r#","last":true"# } else { "" };
        format!(
            r#"{{"key":"\"public\".\"t\"/\"{id}\"","value":{{"id":"{id}"}},"headers":{{"operation":"{operation}","lsn":"{lsn}","op_position":{op},"txids":[7]{last}}}}}"#
        )
    }

    const UP_TO_DATE: &str = r#"{"headers":{"control":"up-to-date"}}"#;

    #[track_caller]
    fn check(messages: &[&str], fault: Option<&str>) {
        let mut state = State::default();
        state.describe(vec!["id".into()]);
        read(&mut state, messages);
        match fault {
            None => assert_eq!(state.faults(), &[] as &[String]),
            Some(text) => assert!(
                state.faults().iter().any(|found| found.contains(text)),
                "{:?} has no {text:?}",
                state.faults()
            ),
        }
    }

    #[test]
    fn a_clean_log_has_no_fault() {
        let first = change("insert", (5, 0), 1, false);
        let second = change("insert", (5, 2), 2, true);
        let third = change("delete", (6, 0), 1, true);
        check(&[&first, &second, UP_TO_DATE, &third, UP_TO_DATE], None);
    }

    #[test]
    fn every_kind_of_fault_is_found() {
        let insert = change("insert", (5, 0), 1, true);
        let open = change("insert", (5, 0), 1, false);
        check(&[&insert, &insert], Some("after Some((5, 0))"));
        check(&[&insert, &change("insert", (6, 0), 1, true)], Some("an insert meets"));
        check(&[&change("update", (5, 0), 1, true)], Some("an update meets no row"));
        check(&[&change("delete", (5, 0), 1, true)], Some("a delete meets no row"));
        check(&[&open, UP_TO_DATE], Some("up-to-date inside transaction 5"));
        check(&[&open, &change("insert", (6, 0), 2, true)], Some("before the last change"));
        check(&[&insert, &change("insert", (5, 2), 2, true)], Some("after the change marked last"));
        check(&[&insert.replace("/\\\"1\\\"", "/\\\"2\\\"")], Some("is not …"));
    }

    #[test]
    fn equal_rows_of_a_table_without_a_key_are_counted() {
        let mut state = State::default();
        state.describe(Vec::new());
        let rows = [change("insert", (5, 0), 1, false), change("insert", (5, 2), 1, true)];
        read(&mut state, &[&rows[0], &rows[1]]);
        assert_eq!(state.row_count(), 2);
        read(&mut state, &[&change("delete", (6, 0), 1, true)]);
        assert_eq!(state.row_count(), 1);
        assert_eq!(state.faults(), &[] as &[String]);
    }

    #[test]
    fn a_ledger_transaction_must_be_whole_at_an_up_to_date() {
        let row = |key: u64| {
            format!(
                r#"{{"key":"/\"{key}\"","value":{{"id":"{key}","txn":"9","n":"2"}},"headers":{{"operation":"insert"}}}}"#
            )
        };
        check(&[&row(1), UP_TO_DATE], Some("1 rows of ledger transaction 9 missing"));
        check(&[&row(1), &row(2), UP_TO_DATE], None);
    }
}

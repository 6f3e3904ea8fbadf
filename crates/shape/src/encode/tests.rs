use std::sync::Arc;

use bytes::Bytes;
use change::{Cell, Column, ReplicaIdentity};
use serde_json::{Value as Json, json};

use super::*;
use crate::definition::tests::{define, table};

fn row(values: &[Option<&str>]) -> Row {
    let mut text = String::new();
    let cells = values
        .iter()
        .map(|value| match value {
            None => Cell::Null,
            Some(value) => {
                let start = text.len() as u32;
                text.push_str(value);
                Cell::Text { start, end: text.len() as u32 }
            }
        })
        .collect();
    Row::new(Bytes::from(text), cells)
}

fn relation(columns: &[&str]) -> Relation {
    Relation {
        oid: 16_384,
        schema: "public".into(),
        name: "items".into(),
        identity: ReplicaIdentity::Full,
        columns: columns
            .iter()
            .map(|name| Column { name: (*name).into(), type_oid: 25, type_mod: -1, key: true })
            .collect(),
    }
}

fn entries(definition: &Definition, columns: &[&str], operation: Operation) -> Vec<Json> {
    let relation = relation(columns);
    let encoder = Encoder::for_relation(definition, &relation).unwrap();
    let mut batch = Batch::default();
    let change = Change { relation: Arc::new(relation), op_index: 4, operation };
    encoder.change(&change, Transaction { commit_lsn: Lsn(99), xid: 7 }, &mut batch);
    let array = [b"[", &batch.json[..], b"]"].concat();
    let entries: Vec<Json> = serde_json::from_slice(&array).unwrap();
    assert_eq!(entries.len(), batch.entries.len());
    entries
}

fn headers(operation: &str, op: u64) -> Json {
    json!({"operation": operation, "relation": ["public", "items"], "lsn": "99",
           "op_position": op, "txids": [7]})
}

const COLUMNS: &[&str] = &["id", "a", "b"];

fn items(replica: Replica) -> Definition {
    define(&table(&[("id", Some(0)), ("a", None), ("b", None)]), None, replica)
}

#[test]
fn an_insert_shows_every_selected_column() {
    let new = row(&[Some("1"), None, Some("x\"y")]);
    let expected = json!({"key": r#""public"."items"/"1""#,
        "value": {"id": "1", "a": null, "b": "x\"y"}, "headers": headers("insert", 4)});
    assert_eq!(entries(&items(Replica::Default), COLUMNS, Operation::Insert { new }), [expected]);
}

#[test]
fn an_update_shows_the_key_and_what_changed() {
    let old = row(&[Some("1"), Some("a"), None]);
    let new = row(&[Some("1"), Some("a"), Some("")]);
    let update = Operation::Update { old: Some(old), new };
    let got = entries(&items(Replica::Default), COLUMNS, update.clone());
    assert_eq!(got[0]["value"], json!({"id": "1", "b": ""}));
    assert_eq!(got[0]["headers"], headers("update", 4));

    let got = entries(&items(Replica::Full), COLUMNS, update);
    assert_eq!(got[0]["value"], json!({"id": "1", "a": "a", "b": ""}));
    assert_eq!(got[0]["old_value"], json!({"b": null}));
}

#[test]
fn an_update_of_no_selected_column_is_no_entry() {
    let table = table(&[("id", Some(0)), ("a", None), ("b", None)]);
    let definition = define(&table, Some(&["id", "a"]), Replica::Full);
    let old = row(&[Some("1"), Some("a"), Some("b")]);
    let new = row(&[Some("1"), Some("a"), Some("c")]);
    assert!(entries(&definition, COLUMNS, Operation::Update { old: Some(old), new }).is_empty());
}

#[test]
fn a_change_of_key_is_a_delete_and_an_insert_that_name_each_other() {
    let old = row(&[Some("1"), Some("a"), None]);
    let new = row(&[Some("2"), Some("a"), None]);
    let got = entries(&items(Replica::Default), COLUMNS, Operation::Update { old: Some(old), new });
    assert_eq!(got.len(), 2);
    assert_eq!(got[0]["value"], json!({"id": "1"}));
    assert_eq!(got[0]["headers"]["key_change_to"], json!(r#""public"."items"/"2""#));
    assert_eq!(got[0]["headers"]["op_position"], json!(4));
    assert_eq!(got[1]["value"], json!({"id": "2", "a": "a", "b": null}));
    assert_eq!(got[1]["headers"]["key_change_from"], json!(r#""public"."items"/"1""#));
    assert_eq!(got[1]["headers"]["op_position"], json!(5));
}

#[test]
fn a_delete_shows_the_key_or_under_full_the_row() {
    let old = || row(&[Some("1"), Some("a"), None]);
    let got = entries(&items(Replica::Default), COLUMNS, Operation::Delete { old: old() });
    assert_eq!(got[0]["value"], json!({"id": "1"}));
    let got = entries(&items(Replica::Full), COLUMNS, Operation::Delete { old: old() });
    assert_eq!(got[0]["value"], json!({"id": "1", "a": "a", "b": null}));
}

#[test]
fn without_a_primary_key_every_update_is_a_pair() {
    let definition = define(&table(&[("a", None), ("b", None)]), None, Replica::Default);
    let old = row(&[Some("x/y"), None]);
    let new = row(&[Some("x/y"), Some("")]);
    let got = entries(&definition, &["a", "b"], Operation::Update { old: Some(old), new });
    assert_eq!(got[0]["key"], json!(r#""public"."items"/"x//y"/_"#));
    assert_eq!(got[0]["value"], json!({"a": "x/y", "b": null}));
    assert_eq!(got[1]["key"], json!(r#""public"."items"/"x//y"/"""#));
}

#[test]
fn a_composite_key_is_in_the_order_of_the_key() {
    let definition = define(&table(&[("x", Some(1)), ("z", Some(0))]), None, Replica::Default);
    let new = row(&[Some("1"), Some("2")]);
    let got = entries(&definition, &["x", "z"], Operation::Insert { new });
    assert_eq!(got[0]["key"], json!(r#""public"."items"/"2"/"1""#));
}

#[test]
fn a_snapshot_row_has_the_key_of_the_log_and_no_position() {
    let definition = items(Replica::Default);
    let new = row(&[Some("1"), Some("é\n"), None]);
    let mut out = Vec::new();
    Encoder::for_snapshot(&definition).snapshot_row(new.view(), &mut out);
    let snapshot: Json = serde_json::from_slice(&out).unwrap();
    let log = &entries(&definition, COLUMNS, Operation::Insert { new })[0];
    assert_eq!(snapshot["key"], log["key"]);
    assert_eq!(snapshot["value"], log["value"]);
    assert_eq!(
        snapshot["headers"],
        json!({"operation": "insert", "relation": ["public", "items"]})
    );
}

#[test]
fn a_changed_table_is_noticed() {
    let all = items(Replica::Default);
    let some = define(
        &table(&[("id", Some(0)), ("a", None), ("b", None)]),
        Some(&["id", "a"]),
        Replica::Default,
    );
    let fits = |definition: &Definition, relation: &Relation| {
        Encoder::for_relation(definition, relation).is_ok()
    };
    let more = relation(&["id", "a", "b", "c"]);
    assert!(!fits(&all, &more));
    assert!(fits(&some, &more));
    assert!(!fits(&some, &relation(&["id", "b"])));
    let mut other_type = relation(COLUMNS);
    other_type.columns[1].type_oid = 23;
    assert!(!fits(&some, &other_type));
    let mut renamed = relation(COLUMNS);
    renamed.name = "things".into();
    assert!(!fits(&all, &renamed));
}

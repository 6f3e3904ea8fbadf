//! Random transactions.

use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use super::table::{KEY_COUNT, Key, Table};

/// A key that no row keeps: rows pass through it when two swap theirs.
const SPARE: u64 = 999_999;

/// The statements of one transaction, its end included. `name` must be new.
pub(super) fn transaction(tables: &[Table], name: &str, rng: &mut StdRng) -> Vec<String> {
    let mut statements = vec!["BEGIN;".to_owned()];
    let count =
        if rng.random_ratio(1, 12) { rng.random_range(10..25) } else { rng.random_range(1..6) };
    for _ in 0..count {
        if rng.random_ratio(1, 8) {
            savepoint(tables, rng, &mut statements);
        } else {
            step(tables, rng, &mut statements);
        }
    }
    if rng.random_ratio(1, 2) {
        ledger(tables, name, rng, &mut statements);
    }
    let end = if rng.random_ratio(1, 8) { "ROLLBACK;" } else { "COMMIT;" };
    statements.push(end.to_owned());
    statements
}

fn savepoint(tables: &[Table], rng: &mut StdRng, statements: &mut Vec<String>) {
    statements.push("SAVEPOINT s;".to_owned());
    for _ in 0..rng.random_range(1..4) {
        step(tables, rng, statements);
    }
    let end = if rng.random() { "ROLLBACK TO s;" } else { "RELEASE s;" };
    statements.push(end.to_owned());
}

/// The same name and count in every ledger table, among the other changes.
fn ledger(tables: &[Table], name: &str, rng: &mut StdRng, statements: &mut Vec<String>) {
    let count = rng.random_range(1..6);
    for table in tables.iter().filter(|table| table.key == Key::Ledger) {
        for seq in 0..count {
            let at = rng.random_range(1..=statements.len());
            // Not inside a savepoint: the count must come true.
            let open = statements[..at].iter().filter(|text| *text == "SAVEPOINT s;").count();
            let ended = statements[..at]
                .iter()
                .filter(|text| *text == "ROLLBACK TO s;" || *text == "RELEASE s;")
                .count();
            let at = if open == ended { at } else { statements.len() };
            let insert = format!(
                "INSERT INTO {} (txn, seq, n) VALUES ('{name}', {seq}, {count});",
                table.sql_name()
            );
            statements.insert(at, insert);
        }
    }
}

fn step(tables: &[Table], rng: &mut StdRng, statements: &mut Vec<String>) {
    let table = loop {
        let table = tables.choose(rng).expect("a schema has tables");
        if table.key != Key::Ledger {
            break table;
        }
    };
    let name = table.sql_name();
    let number = rng.random_range(0..KEY_COUNT);
    let other = rng.random_range(0..KEY_COUNT);
    match rng.random_range(0..16) {
        0..=4 => {
            let count = if rng.random_ratio(1, 10) { KEY_COUNT } else { rng.random_range(1..5) };
            let numbers: Vec<u64> = (0..count).map(|_| rng.random_range(0..KEY_COUNT)).collect();
            statements.push(table.insert(&distinct(numbers), rng));
        }
        5..=8 => statements.push(format!(
            "UPDATE {name} SET {} WHERE {};",
            table.set_some(rng),
            table.finds(number)
        )),
        9 => statements.push(format!(
            "UPDATE {name} SET {} WHERE ctid IN (SELECT ctid FROM {name} LIMIT 7);",
            table.set_some(rng)
        )),
        10 => statements.push(format!("UPDATE {name} SET {};", table.set_same())),
        11 => statements.push(change_key(table, number, other)),
        12 => {
            statements.push(change_key(table, number, SPARE));
            statements.push(change_key(table, other, number));
            statements.push(change_key(table, SPARE, other));
        }
        13 => {
            statements.push(format!("DELETE FROM {name} WHERE {};", table.finds(number)));
            statements.push(table.insert(&[number], rng));
        }
        _ => statements.push(format!("DELETE FROM {name} WHERE {};", table.finds(number))),
    }
}

/// Gives row `from` the key `to`, if that is free.
fn change_key(table: &Table, from: u64, to: u64) -> String {
    let name = table.sql_name();
    let free = if table.key == Key::None {
        String::new()
    } else {
        format!(" AND NOT EXISTS (SELECT FROM {name} WHERE {})", table.finds(to))
    };
    format!("UPDATE {name} SET {} WHERE {}{free};", table.set_key(to), table.finds(from))
}

fn distinct(mut numbers: Vec<u64>) -> Vec<u64> {
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

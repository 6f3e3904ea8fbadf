//! Keys of rows (§4.3): the same row has the same key everywhere.

use serde_json::{Value, json};

use crate::site::Site;

/// The key that the row in `insert` has in the snapshot and, written again,
/// in the log.
async fn keys(site: &Site, table: &str, insert: &str) -> (String, String) {
    site.db.run(insert).await;
    let (snapshot, tail) = site.sync(&format!("table={table}")).await;
    site.db.run(&format!("DELETE FROM {table}")).await;
    let delete = site.live(&format!("table={table}"), &tail.handle(), &tail.offset()).await;
    site.db.run(insert).await;
    let live = site.live(&format!("table={table}"), &tail.handle(), &delete.offset()).await;
    let key = |message: &Value| message["key"].as_str().unwrap().to_owned();
    assert_eq!(key(&delete.changes()[0]), key(&snapshot[0]));
    (key(&snapshot[0]), key(&live.changes()[0]))
}

#[tokio::test]
async fn p075_p076_p077_keys_are_the_same_in_snapshot_and_log() {
    let site = Site::start().await;
    let cases = [
        ("(z text, a int, PRIMARY KEY (z, a))", "('a/b', 1)", r#"/"a//b"/"1""#),
        ("(a int, z text, PRIMARY KEY (z, a))", "(1, 'q\"q')", r#"/"q"q"/"1""#),
        ("(c char(5) PRIMARY KEY)", "('ab')", "/\"ab   \""),
        ("(i inet PRIMARY KEY)", "('10.0.0.1')", "/\"10.0.0.1\""),
        ("(t text PRIMARY KEY)", "('')", "/\"\""),
    ];
    for (index, (columns, values, tail)) in cases.into_iter().enumerate() {
        let table = format!("k{index}");
        site.db.run(&format!("CREATE TABLE {table} {columns}")).await;
        let insert = format!("INSERT INTO {table} VALUES {values}");
        let (snapshot, live) = keys(&site, &table, &insert).await;
        assert_eq!(snapshot, format!("\"public\".\"{table}\"{tail}"));
        assert_eq!(snapshot, live);
    }
    site.db.run("CREATE TABLE flags (f bool PRIMARY KEY)").await;
    let (snapshot, live) = keys(&site, "flags", "INSERT INTO flags VALUES (true)").await;
    assert_eq!(snapshot, live);
}

#[tokio::test]
async fn p074_a_table_without_a_primary_key_is_keyed_by_all_its_columns() {
    let site = Site::start().await;
    site.db.run("CREATE TABLE bare (b text, a int); INSERT INTO bare VALUES (NULL, 1)").await;
    let (snapshot, tail) = site.sync("table=bare").await;
    assert_eq!(snapshot[0]["key"], r#""public"."bare"/_/"1""#);
    site.db.run("UPDATE bare SET b = 'x'").await;
    let live = site.live("table=bare", &tail.handle(), &tail.offset()).await;
    let changes = live.changes();
    let brief = |change: &Value| {
        (change["headers"]["operation"].clone(), change["key"].clone(), change["value"].clone())
    };
    assert_eq!(
        changes.iter().map(brief).collect::<Vec<_>>(),
        [
            (json!("delete"), json!(r#""public"."bare"/_/"1""#), json!({ "a": "1", "b": null })),
            (json!("insert"), json!(r#""public"."bare"/"x"/"1""#), json!({ "a": "1", "b": "x" })),
        ]
    );
}

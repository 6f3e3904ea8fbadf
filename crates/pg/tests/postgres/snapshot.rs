use std::collections::BTreeSet;

use change::{Operation, RowView, Value};
use pg::snapshot::{self, CopyParser};
use pg::{Connection, catalog};

use crate::cluster::Cluster;
use crate::stream::{publish, stream, texts, transactions};

/// Every base, range and multirange type of the catalog, with a value that
/// prints in more than one way, or needs escaping.
const VALUES: [(&str, &str); 74] = [
    ("aclitem", "'postgres=r/postgres'"),
    ("bit", "B'1'"),
    ("bool", "true"),
    ("box", "'(1.1,2),(3,4)'"),
    ("bpchar", "'ab  '"),
    ("bytea", "'\\xdeadbeef'"),
    ("char", "'c'"),
    ("cid", "'7'"),
    ("cidr", "'10.0.0.0/8'"),
    ("circle", "'<(1,2),3>'"),
    ("date", "'2026-11-23'"),
    ("float4", "0.1"),
    ("float8", "0.1::float8 + 0.2"),
    ("gtsvector", "NULL"),
    ("inet", "'10.0.0.1'"),
    ("int2", "-7"),
    ("int2vector", "'1 2 3'"),
    ("int4", "2147483647"),
    ("int8", "-9223372036854775808"),
    ("interval", "'1 year 2 mons -3 days 04:05:06.789'"),
    ("json", "'{\"a\":  \"\\t\\\\\"}'"),
    ("jsonb", "'{\"b\": 1, \"a\":  [null, \"\\u00e9\"]}'"),
    ("jsonpath", "'$.a[*] ? (@ > 1)'"),
    ("line", "'{1,2,3}'"),
    ("lseg", "'[(1,2),(3,4)]'"),
    ("macaddr", "'08:00:2b:01:02:03'"),
    ("macaddr8", "'08:00:2b:01:02:03:04:05'"),
    ("money", "-1234.5"),
    ("name", "'a \"name\"'"),
    ("numeric", "1.50"),
    ("oid", "4294967295"),
    ("oidvector", "'1 2'"),
    ("path", "'[(1,2),(3,4)]'"),
    ("pg_brin_bloom_summary", "NULL"),
    ("pg_brin_minmax_multi_summary", "NULL"),
    ("pg_dependencies", "NULL"),
    ("pg_lsn", "'16/B374D848'"),
    ("pg_mcv_list", "NULL"),
    ("pg_ndistinct", "NULL"),
    ("pg_node_tree", "NULL"),
    ("pg_snapshot", "'10:20:10,14,15'"),
    ("point", "'(0.1,2e-30)'"),
    ("polygon", "'((1,2),(3,4))'"),
    ("refcursor", "'cursor'"),
    ("regclass", "'pg_class'"),
    ("regcollation", "'\"C\"'"),
    ("regconfig", "'english'"),
    ("regdictionary", "'simple'"),
    ("regnamespace", "'public'"),
    ("regoper", "NULL"),
    ("regoperator", "'+(int4,int4)'"),
    ("regproc", "'pg_backend_pid'"),
    ("regprocedure", "'lower(text)'"),
    ("regrole", "'postgres'"),
    ("regtype", "'timestamp with time zone'"),
    ("text", "E'tab\\tline\\nback\\\\slash\\r\\b\\f\\v \\\\N é'"),
    ("tid", "'(1,2)'"),
    ("time", "'08:30:01.5'"),
    ("timestamp", "'2026-11-23 08:30:01.187492'"),
    ("timestamptz", "'infinity'"),
    ("timetz", "'08:30:01-05'"),
    ("tsquery", "'fat & !rat:ab'"),
    ("tsvector", "'a fat:2,4 cat:3A'"),
    ("txid_snapshot", "'10:20:10,14,15'"),
    ("uuid", "'0a0b0c0d-0000-4000-8000-000000000001'"),
    ("varbit", "B'1010'"),
    ("varchar", "''"),
    ("xid", "'7'"),
    ("xid8", "'70000000000'"),
    ("xml", "'<a>&lt;</a>'"),
    ("daterange", "'[2026-01-01,2026-02-01)'"),
    ("tstzrange", "'[2026-01-01 00:00+02,)'"),
    ("nummultirange", "'{[1.0,2.50),(3,)}'"),
    ("int4range", "'(1,5]'"),
];

/// Ranges whose elements print as in one of the above.
const SAME: [&str; 9] = [
    "datemultirange",
    "int4multirange",
    "int8multirange",
    "int8range",
    "numrange",
    "tsmultirange",
    "tsrange",
    "tstzmultirange",
    "record",
];

/// What a base type alone does not show.
const MORE: [(&str, &str); 8] = [
    ("timestamptz", "'2026-11-23 08:30:01.187492-05'"),
    ("char(5)", "'ab'"),
    ("numeric(8,3)", "1.5"),
    ("text[]", "ARRAY['a,b', NULL, E'\"\\\\', '']"),
    ("bytea[]", "ARRAY['\\xde'::bytea]"),
    ("interval[]", "ARRAY['1 day'::interval]"),
    ("mood", "'so so'"),
    ("pair", "ROW(1, E'x\\t\"')"),
];

async fn copy(connection: &mut Connection, sql: &str) -> Vec<Vec<Option<String>>> {
    connection.copy_out(sql).await.unwrap();
    let mut parser = CopyParser::new();
    let mut rows = Vec::new();
    while let Some(chunk) = connection.next_copy().await.unwrap() {
        rows.extend(chunk.rows().map(|line| show(parser.row(line).unwrap())));
    }
    rows
}

fn show(row: RowView<'_>) -> Vec<Option<String>> {
    (0..row.cells.len())
        .map(|index| match row.get(index) {
            Value::Null => None,
            Value::Unchanged => panic!("an unchanged value in a snapshot"),
            Value::Text(text) => Some(String::from_utf8(text.to_vec()).unwrap()),
        })
        .collect()
}

#[tokio::test]
async fn a_snapshot_has_the_bytes_of_the_stream_for_every_type() {
    let cluster = Cluster::start(&[]);
    let client = cluster.client().await;
    let rows = client
        .query(
            "SELECT typname::text FROM pg_type WHERE typnamespace = 'pg_catalog'::regnamespace
             AND typtype IN ('b', 'r', 'm') AND typname NOT LIKE E'\\\\_%'",
            &[],
        )
        .await
        .unwrap();
    let known: BTreeSet<String> = rows.iter().map(|row| row.get(0)).collect();
    let tested: BTreeSet<String> =
        VALUES.iter().map(|(name, _)| *name).chain(SAME).map(str::to_owned).collect();
    let untested: Vec<_> = known.difference(&tested).collect();
    assert!(untested.is_empty(), "{untested:?}");

    let all: Vec<_> = VALUES.iter().chain(&MORE).collect();
    let columns = all.iter().enumerate().map(|(index, (name, _))| {
        let quoted = if *name == "char" { "\"char\"" } else { name };
        format!("c{index} {quoted}")
    });
    let columns = columns.collect::<Vec<_>>().join(", ");
    let values = all.iter().map(|(_, value)| *value).collect::<Vec<_>>().join(", ");
    let sql = format!(
        "CREATE TYPE mood AS ENUM ('so so'); CREATE TYPE pair AS (a int, b text);
         CREATE TABLE t (id int PRIMARY KEY, {columns})"
    );
    client.batch_execute(&sql).await.unwrap();
    publish(&cluster, &client, &["t"]).await;
    let (mut receiver, _sender) = stream(&cluster).await;
    client.batch_execute(&format!("INSERT INTO t VALUES (1, {values})")).await.unwrap();

    let table = catalog::table(&client, "public", "t").await.unwrap().unwrap();
    let names: Vec<_> = table.columns.iter().map(|column| column.name.as_str()).collect();
    let mut connection = cluster.connection().await;
    snapshot::begin(&mut connection, None).await.unwrap();
    let copied = copy(&mut connection, &snapshot::copy_sql(&table, &names)).await;
    snapshot::end(&mut connection).await.unwrap();

    let transactions = transactions(&mut receiver, 1).await;
    let Operation::Insert { new } = &transactions[0].changes[0].operation else { panic!() };
    let streamed = texts(new);
    for (index, (name, _)) in all.iter().enumerate() {
        assert_eq!(copied[0][index + 1], streamed[index + 1], "{name}");
    }
    let value = |wanted: &str| {
        let index = all.iter().rposition(|(name, _)| *name == wanted).unwrap();
        streamed[index + 1].as_deref().unwrap()
    };
    // And these are the forms that http-protocol §4.4 asks for.
    assert_eq!(value("bool"), "t");
    assert_eq!(value("bytea"), "\\xdeadbeef");
    assert_eq!(value("timestamptz"), "2026-11-23 13:30:01.187492+00");
    assert_eq!(value("interval"), "P1Y2M-3DT4H5M6.789S");
    assert_eq!(value("float8"), "0.30000000000000004");
    assert_eq!(value("char(5)"), "ab   ");
    assert_eq!(value("numeric(8,3)"), "1.500");
    assert_eq!(value("inet"), "10.0.0.1");
}

#[tokio::test]
async fn a_snapshot_is_one_instant_and_an_abandoned_one_leaves_nothing() {
    let cluster = Cluster::start(&[]);
    let client = cluster.client().await;
    let sql = "CREATE TABLE \"My Table\" (\"a\"\"b\" int, b text);
        CREATE TABLE child () INHERITS (\"My Table\"); INSERT INTO child VALUES (9, 'child');
        INSERT INTO \"My Table\" SELECT i, 'row' FROM generate_series(1, 50000) i";
    client.batch_execute(sql).await.unwrap();
    let table = catalog::table(&client, "public", "My Table").await.unwrap().unwrap();
    let sql = snapshot::copy_sql(&table, &["b", "a\"b"]);

    let mut connection = cluster.connection().await;
    let first = snapshot::begin(&mut connection, None).await.unwrap().visibility;
    connection.copy_out(&sql).await.unwrap();
    assert!(connection.next_copy().await.unwrap().is_some());
    client.batch_execute("DELETE FROM \"My Table\" WHERE \"a\"\"b\" > 3").await.unwrap();

    // Left in the middle: the rest is skipped, and the view is a new one.
    let second = snapshot::begin(&mut connection, None).await.unwrap().visibility;
    assert_ne!(first, second);
    client.batch_execute("TRUNCATE child").await.unwrap();
    let rows = copy(&mut connection, &sql).await;
    let expected = [1, 2, 3].map(|i| vec![Some("row".to_owned()), Some(i.to_string())]);
    assert_eq!(rows, expected);
    let error = connection.copy_out("COPY (SELECT 1 FROM nothing) TO STDOUT").await.unwrap_err();
    assert_eq!(error.sqlstate(), Some("42P01"));
    assert!(connection.next_copy().await.unwrap().is_none());
    let sql = "COPY (SELECT 1 / (4 - i) FROM generate_series(1, 9) i) TO STDOUT";
    snapshot::begin(&mut connection, None).await.unwrap();
    connection.copy_out(sql).await.unwrap();
    let error = loop {
        match connection.next_copy().await {
            Ok(chunk) => assert!(chunk.is_some(), "an end without the error"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.sqlstate(), Some("22012"));
    snapshot::begin(&mut connection, None).await.unwrap();
}

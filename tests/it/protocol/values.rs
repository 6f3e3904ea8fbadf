//! The schema header and the text of values (§3.3, §4.4).

use serde_json::{Value, json};

use crate::site::Site;

const TABLE: &str = "
    CREATE TYPE mood AS ENUM ('glad', 'sad');
    CREATE DOMAIN small AS int CHECK (VALUE < 1000);
    CREATE TABLE many (
        z int, x uuid, PRIMARY KEY (z, x),
        b bool, i2 int2, i8 int8 NOT NULL, f4 float4, f8 float8, num numeric, num2 numeric(10,2),
        t text, v varchar(10), va varchar(10)[], c char(5), bits bit(3), varb varbit(9),
        bt bytea, d date, tm time(3), ts timestamp, tz timestamptz(0), iv interval,
        ivy interval year, ivd interval day to second(2),
        js json, jb jsonb, ip inet, m mood, dom small, ia int[], ta text[][])";

#[tokio::test]
async fn p050_the_schema_of_one_column_of_each_type_family() {
    let site = Site::start().await;
    site.db.run(TABLE).await;
    let reply = site.http.get("/v1/shape?table=many&offset=-1").await;
    let schema: Value = serde_json::from_str(reply.header("electric-schema").unwrap()).unwrap();
    let expected = json!({
        "z": { "type": "int4", "pk_index": 0, "not_null": true },
        "x": { "type": "uuid", "pk_index": 1, "not_null": true },
        "b": { "type": "bool" },
        "i2": { "type": "int2" },
        "i8": { "type": "int8", "not_null": true },
        "f4": { "type": "float4" },
        "f8": { "type": "float8" },
        "num": { "type": "numeric" },
        "num2": { "type": "numeric", "precision": 10, "scale": 2 },
        "t": { "type": "text" },
        "v": { "type": "varchar", "max_length": 10 },
        "va": { "type": "varchar", "dims": 1, "max_length": 10 },
        "c": { "type": "bpchar", "length": 5 },
        "bits": { "type": "bit", "length": 3 },
        "varb": { "type": "varbit", "length": 9 },
        "bt": { "type": "bytea" },
        "d": { "type": "date" },
        "tm": { "type": "time", "precision": 3 },
        "ts": { "type": "timestamp" },
        "tz": { "type": "timestamptz", "type_mod": 0 },
        "iv": { "type": "interval" },
        "ivy": { "type": "interval", "fields": "YEAR" },
        "ivd": { "type": "interval", "fields": "DAY TO SECOND", "precision": 2 },
        "js": { "type": "json" },
        "jb": { "type": "jsonb" },
        "ip": { "type": "inet" },
        "m": { "type": "mood" },
        "dom": { "type": "small" },
        "ia": { "type": "int4", "dims": 1 },
        "ta": { "type": "text", "dims": 2 },
    });
    for (name, column) in expected.as_object().unwrap() {
        assert_eq!(&schema[name], column, "{name}");
    }
    assert_eq!(schema.as_object().unwrap().len(), expected.as_object().unwrap().len());
}

#[tokio::test]
async fn p061_p062_values_are_text_whatever_the_database_is_set_to() {
    let site = Site::start().await;
    let name = site.db.value("SELECT current_database()").await;
    site.db
        .run(&format!(
            "ALTER DATABASE \"{name}\" SET DateStyle = 'German';
             ALTER DATABASE \"{name}\" SET TimeZone = 'Asia/Tokyo';
             ALTER DATABASE \"{name}\" SET bytea_output = 'escape';
             ALTER DATABASE \"{name}\" SET IntervalStyle = 'postgres_verbose';
             ALTER DATABASE \"{name}\" SET extra_float_digits = -10"
        ))
        .await;
    // A new connection of the server has these settings for its defaults.
    let site = site.restarted().await;
    site.db
        .run(
            "CREATE TABLE v (id int PRIMARY KEY, tz timestamptz, d date, b bytea, i interval,
                 f float8, n numeric(6,2), e text, u text, c char(4), flag bool)",
        )
        .await;
    let insert = |id: u32| {
        format!(
            "INSERT INTO v VALUES ({id}, '2026-11-23 17:30:01.187492+09', '2026-11-23', '\\xDEAD',
             '1 day 2 hours', 0.1, 1.5, '', NULL, 'ab', true)"
        )
    };
    site.db.run(&insert(1)).await;
    let expected = json!({
        "tz": "2026-11-23 08:30:01.187492+00", "d": "2026-11-23", "b": "\\xdead", "i": "P1DT2H",
        "f": "0.1", "n": "1.50", "e": "", "u": null, "c": "ab  ",
    });
    let (snapshot, tail) = site.sync("table=v").await;
    site.db.run(&insert(2)).await;
    let live = site.live("table=v", &tail.handle(), &tail.offset()).await;
    for row in [&snapshot[0], &live.changes()[0]] {
        for (name, text) in expected.as_object().unwrap() {
            assert_eq!(&row["value"][name], text, "{name}");
        }
    }
    // One form for booleans, in the snapshot and in the log.
    assert_eq!(snapshot[0]["value"]["flag"], live.changes()[0]["value"]["flag"]);
}

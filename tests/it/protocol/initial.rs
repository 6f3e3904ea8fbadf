//! D. The initial sync.

use serde_json::json;
use testkit::{Follower, Query};

use crate::site::{LIMIT, Site};

#[tokio::test]
async fn p048_initial_sync_of_a_populated_table() {
    let site = Site::items().await;
    site.db.run("INSERT INTO items VALUES (1, 'one'), (2, NULL), (3, '')").await;
    let reply = site.http.get("/v1/shape?table=items&offset=-1").await;
    let messages = reply.messages();
    assert_eq!(reply.offset(), "0_0");
    assert!(!reply.is_up_to_date());
    assert_eq!(reply.header("content-type"), Some("application/json; charset=utf-8"));

    let (end, rows) = messages.split_last().unwrap();
    // Item 61: NULL is null, the empty string is itself.
    let expected = [("1", json!("one")), ("2", json!(null)), ("3", json!(""))];
    assert_eq!(rows.len(), expected.len());
    for (row, (id, title)) in rows.iter().zip(expected) {
        assert_eq!(
            *row,
            json!({
                "key": format!("\"public\".\"items\"/\"{id}\""),
                "value": { "id": id, "title": title },
                "headers": { "operation": "insert", "relation": ["public", "items"] },
            })
        );
    }
    assert_eq!(end["headers"]["control"], "snapshot-end");
}

#[tokio::test]
async fn p049_p056_an_empty_table_has_only_the_snapshot_end() {
    let site = Site::items().await;
    let reply = site.http.get("/v1/shape?table=items&offset=-1").await;
    assert_eq!(reply.offset(), "0_0");
    assert!(!reply.is_up_to_date());
    assert_eq!(reply.controls(), ["snapshot-end"]);
    let end = &reply.messages()[0]["headers"];
    let decimal = |value: &serde_json::Value| value.as_str().unwrap().parse::<u64>().unwrap();
    assert!(decimal(&end["xmin"]) <= decimal(&end["xmax"]));
    for xid in end["xip_list"].as_array().unwrap() {
        assert!(decimal(xid) < decimal(&end["xmax"]));
    }
}

#[tokio::test]
async fn p051_p083_p084_the_request_after_the_snapshot_is_up_to_date() {
    let site = Site::items().await;
    site.db.run("INSERT INTO items VALUES (1, 'one')").await;
    let handle = site.http.get("/v1/shape?table=items&offset=-1").await.handle();
    let reply = site.http.get(&format!("/v1/shape?table=items&offset=0_0&handle={handle}")).await;
    assert_eq!(reply.controls(), ["up-to-date"]);
    assert_eq!(reply.messages().len(), 1);
    assert_eq!(reply.offset(), "0_inf");
    assert_eq!(reply.header("electric-up-to-date"), Some(""));
    assert_eq!(reply.header("electric-has-data"), Some("true"));
    let lsn = reply.messages()[0]["headers"]["global_last_seen_lsn"].clone();
    assert!(lsn.as_str().unwrap().bytes().all(|byte| byte.is_ascii_digit()), "{lsn}");
}

#[tokio::test]
async fn p052_p053_the_same_shape_has_one_handle() {
    let site = Site::items().await;
    site.db.run("INSERT INTO items SELECT i, 'x' FROM generate_series(1, 20) i").await;
    let path = "/v1/shape?table=items&offset=-1";
    let first = site.http.get(path).await;
    for path in [path.to_owned(), format!("{path}&handle=bogus")] {
        let again = site.http.get(&path).await;
        assert_eq!(again.handle(), first.handle(), "{path}");
        assert_eq!(again.body, first.body, "{path}");
    }
}

#[tokio::test]
async fn p054_p055_a_large_snapshot_comes_in_chunks_that_never_change() {
    let site =
        Site::items_with(|server| server.set("LEYDEN_SHAPE_CHUNK_BYTES_THRESHOLD", "10000")).await;
    site.db
        .run("INSERT INTO items SELECT i, repeat('x', 100) FROM generate_series(1, 500) i")
        .await;
    let mut path = "/v1/shape?table=items&offset=-1".to_owned();
    let mut ids = Vec::new();
    for chunk in 0.. {
        let reply = site.http.get(&path).await;
        assert_eq!(site.http.get(&path).await.body, reply.body, "{path}");
        let is_log = reply.is_up_to_date();
        assert_eq!(reply.offset(), if is_log { "0_inf".into() } else { format!("0_{chunk}") });
        if is_log {
            assert!(chunk > 5, "the snapshot came in {chunk} chunks");
            break;
        }
        assert!(reply.body.len() < 10_800, "{} bytes", reply.body.len());
        let rows = reply.changes();
        ids.extend(rows.iter().map(|row| row["value"]["id"].as_str().unwrap().to_owned()));
        let ends = reply.controls();
        assert_eq!(ends.is_empty(), ids.len() < 500, "snapshot-end is in the last chunk");
        let (handle, offset) = (reply.handle(), reply.offset());
        path = format!("/v1/shape?table=items&offset={offset}&handle={handle}");
    }
    let expected: Vec<String> = (1..=500).map(|id| id.to_string()).collect();
    assert_eq!(ids, expected);
}

#[tokio::test]
async fn p057_changes_during_the_snapshot_appear_once() {
    let site = Site::items().await;
    site.db
        .run("INSERT INTO items SELECT i, repeat('x', 90) FROM generate_series(1, 40000) i")
        .await;
    let reader = Follower::start(&site.server.url(), Query::table("items"));
    for id in 1..=60 {
        site.db
            .run(&format!(
                "INSERT INTO items VALUES ({0}, 'new'); UPDATE items SET title = '{0}' WHERE id = {1};
                 DELETE FROM items WHERE id = {2}",
                100_000 + id,
                id,
                39_000 + id
            ))
            .await;
    }
    reader.holds(&site.db.rows("SELECT * FROM items").await, LIMIT).await;
    reader.check();
    reader.check_reread().await;
}

#[tokio::test]
async fn p059_p060_offset_now_skips_history() {
    let site = Site::items().await;
    site.db.run("INSERT INTO items VALUES (1, 'one')").await;
    let reply = site.http.get("/v1/shape?table=items&offset=now").await;
    assert_eq!(reply.controls(), ["up-to-date"]);
    assert_eq!(reply.messages().len(), 1);
    assert_eq!(reply.offset(), "0_inf");
    assert_eq!(reply.header("electric-has-data"), Some("false"));
    assert!(reply.is_up_to_date());
    assert!(reply.header("electric-schema").is_some());
    assert_eq!(reply.header("electric-cursor"), None);

    // It joins the log where it stands, and later changes follow.
    site.db.run("INSERT INTO items VALUES (2, 'two')").await;
    let live = site.live("table=items", &reply.handle(), &reply.offset()).await;
    assert_eq!(live.changes()[0]["value"]["id"], "2");
    let now = site.http.get("/v1/shape?table=items&offset=now").await;
    assert_eq!(now.offset(), live.offset());
    assert_eq!(now.handle(), live.handle());
}

#[tokio::test]
async fn p063_cache_headers_of_the_beginning() {
    let site = Site::items().await;
    let reply = site.http.get("/v1/shape?table=items&offset=-1").await;
    assert_eq!(
        reply.header("cache-control"),
        Some("public, max-age=604800, s-maxage=3600, stale-while-revalidate=2629746")
    );
    assert_eq!(reply.header("etag"), Some(format!("\"{}:-1:0_0\"", reply.handle()).as_str()));
}

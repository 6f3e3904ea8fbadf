//! E. The log.

use serde_json::{Value, json};
use testkit::Reply;

use crate::site::Site;

/// The last change stands where the reply says it ends.
#[track_caller]
fn check_end(reply: &Reply) {
    let last = reply.changes().pop().unwrap();
    let headers = &last["headers"];
    let lsn = headers["lsn"].as_str().unwrap();
    assert_eq!(reply.offset(), format!("{lsn}_{}", headers["op_position"].as_u64().unwrap()));
    assert_eq!(headers["last"], true);
    // Item 96.
    let up_to_date = reply.messages().pop().unwrap();
    assert_eq!(up_to_date["headers"]["control"], "up-to-date");
    assert_eq!(up_to_date["headers"]["global_last_seen_lsn"], lsn);
}

fn operations(reply: &Reply) -> Vec<Value> {
    reply.changes().iter().map(|change| change["headers"]["operation"].clone()).collect()
}

/// Runs `sql` and gives the live reply it causes.
async fn change(site: &Site, query: &str, at: &Reply, sql: &str) -> Reply {
    site.db.run(sql).await;
    site.live(query, &at.handle(), &at.offset()).await
}

#[tokio::test]
async fn p064_p065_p066_p096_changes_say_where_they_stand() {
    let site = Site::items().await;
    let (_, tail) = site.sync("table=items").await;
    let xid = "SELECT xmin::text::bigint FROM items WHERE id = 1";
    let one = change(&site, "table=items", &tail, "INSERT INTO items VALUES (1, 'one')").await;
    check_end(&one);
    let inserts = one.changes();
    let headers = &inserts[0]["headers"];
    assert!(headers["lsn"].as_str().unwrap().bytes().all(|byte| byte.is_ascii_digit()));
    assert_eq!(headers["txids"].to_string(), format!("[{}]", site.db.value(xid).await));
    assert_eq!(headers["relation"], json!(["public", "items"]));

    let two =
        change(&site, "table=items", &one, "INSERT INTO items VALUES (2, 'two'), (3, 'three')")
            .await;
    check_end(&two);
    let changes = two.changes();
    let headers = [&changes[0]["headers"], &changes[1]["headers"]];
    assert_eq!(headers[0]["lsn"], headers[1]["lsn"]);
    assert_eq!((&headers[0]["op_position"], &headers[1]["op_position"]), (&json!(0), &json!(2)));
    assert_eq!(headers[0].get("last"), None);
}

#[tokio::test]
async fn p067_p069_p070_changes_in_default_mode_are_brief() {
    let site = Site::items().await;
    site.db.run("ALTER TABLE items ADD note text; INSERT INTO items VALUES (1, 'one', 'n')").await;
    let query = "table=items";
    let (_, tail) = site.sync(query).await;
    let update = change(&site, query, &tail, "UPDATE items SET title = 'uno'").await;
    assert_eq!(update.changes()[0]["value"], json!({ "id": "1", "title": "uno" }));
    assert_eq!(update.changes()[0].get("old_value"), None);
    // What changes nothing is no message, and does not end the wait.
    let delete =
        change(&site, query, &update, "UPDATE items SET title = title; DELETE FROM items").await;
    assert_eq!(operations(&delete), ["delete"]);
    assert_eq!(delete.changes()[0]["value"], json!({ "id": "1" }));
    check_end(&delete);
}

#[tokio::test]
async fn p068_p070_changes_in_full_mode_show_the_whole_row() {
    let site = Site::items().await;
    site.db.run("ALTER TABLE items ADD note text; INSERT INTO items VALUES (1, 'one', 'n')").await;
    let query = "table=items&replica=full";
    let (_, tail) = site.sync(query).await;
    let update = change(&site, query, &tail, "UPDATE items SET title = 'uno'").await;
    let row = json!({ "id": "1", "title": "uno", "note": "n" });
    assert_eq!(update.changes()[0]["value"], row);
    assert_eq!(update.changes()[0]["old_value"], json!({ "title": "one" }));
    let delete = change(&site, query, &update, "DELETE FROM items").await;
    assert_eq!(delete.changes()[0]["value"], row);
    assert_ne!(
        tail.handle(),
        site.http.get("/v1/shape?table=items&offset=-1").await.handle(),
        "full and default are two shapes"
    );
}

#[tokio::test]
async fn p069_an_update_of_other_columns_is_no_message() {
    let site = Site::items().await;
    site.db.run("ALTER TABLE items ADD note text; INSERT INTO items VALUES (1, 'one', 'n')").await;
    let query = "table=items&columns=id,title";
    let (_, tail) = site.sync(query).await;
    let sql = "BEGIN; UPDATE items SET note = 'm'; UPDATE items SET title = 'uno'; COMMIT";
    let reply = change(&site, query, &tail, sql).await;
    assert_eq!(operations(&reply), ["update"]);
    // It still counts in the numbering.
    assert_eq!(reply.changes()[0]["headers"]["op_position"], 2);
}

#[tokio::test]
async fn p071_a_change_of_key_is_a_delete_and_an_insert() {
    let site = Site::items().await;
    site.db.run("INSERT INTO items VALUES (1, 'one')").await;
    let (_, tail) = site.sync("table=items").await;
    let reply = change(&site, "table=items", &tail, "UPDATE items SET id = 2").await;
    check_end(&reply);
    let changes = reply.changes();
    let key = |id: u32| json!(format!("\"public\".\"items\"/\"{id}\""));
    assert_eq!(operations(&reply), ["delete", "insert"]);
    assert_eq!((&changes[0]["key"], &changes[0]["headers"]["key_change_to"]), (&key(1), &key(2)));
    assert_eq!((&changes[1]["key"], &changes[1]["headers"]["key_change_from"]), (&key(2), &key(1)));
    assert_eq!(changes[0]["value"], json!({ "id": "1" }));
    assert_eq!(changes[1]["value"], json!({ "id": "2", "title": "one" }));
    assert_eq!(changes[0]["headers"].get("last"), None);
    let op = |change: &Value| change["headers"]["op_position"].as_u64().unwrap();
    assert_eq!(op(&changes[1]), op(&changes[0]) + 1);
}

#[tokio::test]
async fn p078_an_unchanged_toast_column_is_absent_or_right() {
    let site = Site::items().await;
    site.db
        .run(
            "ALTER TABLE items ADD big text;
             INSERT INTO items SELECT 1, 'one', string_agg(md5(i::text), '')
             FROM generate_series(1, 2000) i",
        )
        .await;
    let (_, brief) = site.sync("table=items").await;
    let (_, full) = site.sync("table=items&replica=full").await;
    site.db.run("UPDATE items SET title = 'uno'").await;
    let brief = site.live("table=items", &brief.handle(), &brief.offset()).await;
    let full = site.live("table=items&replica=full", &full.handle(), &full.offset()).await;
    assert_eq!(brief.changes()[0]["value"], json!({ "id": "1", "title": "uno" }));
    let big = site.db.value("SELECT big FROM items").await;
    assert_eq!(full.changes()[0]["value"], json!({ "id": "1", "title": "uno", "big": big }));
    assert_eq!(full.changes()[0]["old_value"], json!({ "title": "one" }));
}

#[tokio::test]
async fn p080_p095_a_request_from_an_old_offset_gets_what_came_after_it() {
    let site = Site::items().await;
    let (_, tail) = site.sync("table=items").await;
    let one = change(&site, "table=items", &tail, "INSERT INTO items VALUES (1, 'one')").await;
    let two = change(&site, "table=items", &one, "INSERT INTO items VALUES (2, 'two')").await;
    let path =
        |offset: &str| format!("/v1/shape?table=items&handle={}&offset={offset}", tail.handle());
    let all = site.http.get(&path("0_inf")).await;
    assert_eq!(all.changes(), [one.changes(), two.changes()].concat());
    assert_eq!(site.http.get(&path(&one.offset())).await.changes(), two.changes());
    assert_eq!(site.http.get(&path(&two.offset())).await.controls(), ["up-to-date"]);
    // Live and behind the end: at once.
    let live = site.live("table=items", &tail.handle(), "0_inf").await;
    assert_eq!(live.changes(), all.changes());
}

#[tokio::test]
async fn p081_a_completed_chunk_ends_a_reply() {
    let site =
        Site::items_with(|server| server.set("LEYDEN_SHAPE_CHUNK_BYTES_THRESHOLD", "10000")).await;
    let (_, tail) = site.sync("table=items").await;
    let insert = "INSERT INTO items SELECT i, repeat('x', 100) FROM generate_series(1, 300) i";
    site.db.run(insert).await;
    let mut offset = tail.offset();
    // Live answers end at a chunk's end as others do.
    let first = site.live("table=items", &tail.handle(), &offset).await;
    assert!(!first.is_up_to_date());
    assert!(first.controls().is_empty());
    let mut ids = Vec::new();
    for replies in 0.. {
        let path = format!("/v1/shape?table=items&handle={}&offset={offset}", tail.handle());
        let reply = site.http.get(&path).await;
        ids.extend(
            reply.changes().iter().map(|row| row["value"]["id"].as_str().unwrap().to_owned()),
        );
        offset = reply.offset();
        if reply.is_up_to_date() {
            assert!(replies >= 3, "the log came in {replies} chunks");
            break;
        }
        assert!((10_000..11_000).contains(&reply.body.len()), "{} bytes", reply.body.len());
        assert_eq!(site.http.get(&path).await.body, reply.body);
    }
    let expected: Vec<String> = (1..=300).map(|id| id.to_string()).collect();
    assert_eq!(ids, expected);
}

#[tokio::test]
async fn p082_what_is_rolled_back_leaves_no_trace() {
    let site = Site::items().await;
    let (_, tail) = site.sync("table=items").await;
    let sql = "BEGIN; INSERT INTO items VALUES (1, 'one'); ROLLBACK;
               BEGIN; INSERT INTO items VALUES (2, 'two'); SAVEPOINT s;
               INSERT INTO items VALUES (3, 'three'); ROLLBACK TO s; COMMIT";
    let reply = change(&site, "table=items", &tail, sql).await;
    assert_eq!(reply.changes().len(), 1);
    assert_eq!(reply.changes()[0]["value"]["id"], "2");
    check_end(&reply);
}

#[tokio::test]
async fn p085_p086_a_restart_changes_no_byte_and_loses_nothing() {
    let mut site = Site::items().await;
    site.db.run("INSERT INTO items VALUES (1, 'one')").await;
    let (_, tail) = site.sync("table=items").await;
    let two = change(&site, "table=items", &tail, "INSERT INTO items VALUES (2, 'two')").await;
    let path =
        |offset: &str| format!("/v1/shape?table=items&handle={}&offset={offset}", tail.handle());
    let (start, log) = (site.http.get(&path("-1")).await, site.http.get(&path("0_inf")).await);

    assert!(site.server.terminate().await.success());
    site.db.run("INSERT INTO items VALUES (3, 'three')").await;
    site.server.launch();
    site.server.active().await;

    assert_eq!(site.http.get(&path("-1")).await.body, start.body);
    let three = site.live("table=items", &tail.handle(), &two.offset()).await;
    assert_eq!(operations(&three), ["insert"]);
    assert_eq!(three.changes()[0]["value"]["id"], "3");
    let again = site.http.get(&path("0_inf")).await;
    assert_eq!(again.changes(), [log.changes(), three.changes()].concat());
}

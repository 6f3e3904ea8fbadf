//! H. Rotation: when a handle ends, and what a client is told.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use testkit::{Reply, wait};

use crate::site::{LIMIT, Site};

const MUST_REFETCH: &str = r#"[{"headers":{"control":"must-refetch"}}]"#;

#[track_caller]
fn check_must_refetch(reply: &Reply) {
    assert_eq!((reply.status, reply.text()), (409, MUST_REFETCH));
    // Item 109.
    assert_eq!(reply.header("location"), None);
    if let Some(handle) = reply.header("electric-handle") {
        assert_eq!(reply.header("cache-control"), Some("public, max-age=60, must-revalidate"));
        assert_eq!(reply.header("etag"), Some(format!("\"{handle}::\"").as_str()));
    } else {
        assert_eq!(reply.header("cache-control"), Some("public, max-age=1, must-revalidate"));
        assert_eq!(reply.header("etag"), None);
    }
}

#[tokio::test]
async fn p106_p107_p109_an_unknown_handle_is_sent_to_the_right_one() {
    let site = Site::items().await;
    for live in ["", "&live=true"] {
        let path = format!("/v1/shape?table=items&offset=0_0&handle=unknown-1{live}");
        let reply = site.http.get(&path).await;
        check_must_refetch(&reply);
        let current = site.http.get("/v1/shape?table=items&offset=-1").await.handle();
        assert_eq!(reply.header("electric-handle"), Some(current.as_str()));
    }
}

#[tokio::test]
async fn p108_the_handle_of_another_shape_is_sent_to_the_right_one() {
    let site = Site::items().await;
    site.db.run("CREATE TABLE others (id int PRIMARY KEY)").await;
    let other = site.http.get("/v1/shape?table=others&offset=-1").await.handle();
    let reply = site.http.get(&format!("/v1/shape?table=items&offset=0_0&handle={other}")).await;
    check_must_refetch(&reply);
    let current = site.http.get("/v1/shape?table=items&offset=-1").await.handle();
    assert_eq!(reply.header("electric-handle"), Some(current.as_str()));
    // The other shape is none the worse for it.
    let reply = site.http.get(&format!("/v1/shape?table=others&offset=0_0&handle={other}")).await;
    assert_eq!(reply.status, 200);
}

#[tokio::test]
async fn p110_p111_p112_a_shape_can_be_deleted() {
    let site = Site::items().await;
    site.db.run("INSERT INTO items VALUES (1, 'one')").await;
    let (_, tail) = site.sync("table=items").await;
    let old = tail.handle();

    let mismatch = site.http.delete("/v1/shape?table=items&handle=another-1").await;
    assert_eq!(mismatch.status, 400, "{}", mismatch.text());
    assert!(mismatch.json()["message"].is_string() && mismatch.json().get("errors").is_none());
    let blank = site.http.delete("/v1/shape").await;
    assert_eq!(blank.status, 400);
    assert_eq!(
        blank.json()["errors"]["handle"][0],
        "can't be blank when shape definition is missing"
    );
    let unknown = site.http.delete("/v1/shape?handle=unknown-1").await;
    assert_eq!((unknown.status, unknown.text()), (404, r#"{"message":"No existing shape found"}"#));

    let waiting = async {
        let start = Instant::now();
        let path = format!("/v1/shape?table=items&live=true&handle={old}&offset={}", tail.offset());
        (site.http.get(&path).await, start.elapsed())
    };
    let deleting = async {
        wait::pace(Duration::from_millis(100)).await;
        site.http.delete("/v1/shape?table=items").await
    };
    let ((held, waited), deleted) = tokio::join!(waiting, deleting);
    assert_eq!((deleted.status, deleted.text()), (202, ""));
    // Item 126, for the method that is there.
    assert_eq!(deleted.header("cache-control"), Some("no-cache"));
    check_must_refetch(&held);
    assert!(waited < Duration::from_secs(3), "the holder of a live request waited {waited:?}");

    let reply = site.http.get(&format!("/v1/shape?table=items&offset=0_0&handle={old}")).await;
    check_must_refetch(&reply);
    let new = reply.handle();
    assert_ne!(new, old);
    let (rows, _) = site.sync("table=items").await;
    assert_eq!(rows.len(), 1);

    assert_eq!(site.http.delete(&format!("/v1/shape?handle={new}")).await.status, 202);
    let reply = site.http.get(&format!("/v1/shape?table=items&offset=0_0&handle={new}")).await;
    check_must_refetch(&reply);
}

#[tokio::test]
async fn p111_delete_is_refused_unless_it_is_enabled() {
    let site = Site::items_with(|server| server.unset("LEYDEN_ENABLE_INTEGRATION_TESTING")).await;
    let handle = site.http.get("/v1/shape?table=items&offset=-1").await.handle();
    let reply = site.http.delete("/v1/shape?table=items").await;
    assert_eq!((reply.status, reply.text()), (405, r#"{"message":"DELETE not allowed"}"#));
    assert_eq!(reply.header("cache-control"), Some("no-cache"));
    assert_eq!(site.http.get("/v1/shape?table=items&offset=-1").await.handle(), handle);
    // The test routes are behind the same setting.
    assert_eq!(site.http.get("/_test/tree").await.status, 404);
}

#[tokio::test]
async fn p113_truncate_ends_the_handle() {
    let site = Site::items().await;
    site.db.run("INSERT INTO items VALUES (1, 'one')").await;
    let (_, tail) = site.sync("table=items").await;
    let (handle, offset) = (tail.handle(), tail.offset());
    let path = format!("/v1/shape?table=items&live=true&handle={handle}&offset={offset}");
    let truncating = async {
        wait::pace(Duration::from_millis(100)).await;
        // What else the transaction did is of no matter.
        let sql = "BEGIN; INSERT INTO items VALUES (2, 'two'); TRUNCATE items;
                   INSERT INTO items VALUES (3, 'three'); COMMIT";
        site.db.run(sql).await;
    };
    let (held, ()) = tokio::join!(site.http.get(&path), truncating);
    check_must_refetch(&held);
    let (rows, tail) = site.sync("table=items").await;
    assert_ne!(tail.handle(), handle);
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0]["value"]["id"], "3");
    let reply = site.http.get(&path).await;
    check_must_refetch(&reply);
    assert_eq!(reply.header("electric-handle"), Some(tail.handle().as_str()));
}

#[tokio::test]
async fn p120_handles_are_never_repeated() {
    let mut site = Site::items().await;
    let mut handles = HashSet::new();
    for round in 0..12 {
        let handle = wait::until("a shape after a DELETE", LIMIT, async || {
            let reply = site.http.get("/v1/shape?table=items&offset=-1").await;
            (reply.status == 200).then(|| reply.handle())
        })
        .await;
        assert!(handles.insert(handle.clone()), "{handle} came again in round {round}");
        assert_eq!(site.http.delete("/v1/shape?table=items").await.status, 202);
        if round == 6 {
            site = site.restarted().await;
        }
    }
}

#[tokio::test]
async fn p121_p122_an_offset_beyond_the_end_is_waited_for() {
    let site = Site::items_with(|server| server.set("LEYDEN_LONG_POLL_TIMEOUT", "1600")).await;
    let (_, tail) = site.sync("table=items").await;
    let handle = tail.handle();
    for live in ["", "&live=true"] {
        let path = format!("/v1/shape?table=items&handle={handle}&offset=999999999999_0{live}");
        let start = Instant::now();
        let reply = site.http.get(&path).await;
        assert_eq!(reply.status, 400, "{}", reply.text());
        assert_eq!(reply.json()["errors"]["offset"][0], "out of bounds for this shape");
        let waited = start.elapsed();
        assert!((700..1_500).contains(&waited.as_millis()), "{waited:?}");
    }
    // A client may be ahead of a server that is catching up.
    let lsn = site.db.value("SELECT (pg_current_wal_lsn() - '0/0')::text").await;
    let path = format!("/v1/shape?table=items&handle={handle}&offset={lsn}_0");
    let writing = async {
        wait::pace(Duration::from_millis(100)).await;
        site.db.run("INSERT INTO items VALUES (1, 'one')").await;
    };
    let (reply, ()) = tokio::join!(site.http.get(&path), writing);
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(reply.changes().len(), 1);
}

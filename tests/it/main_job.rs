//! The main job: a write to Postgres reaches HTTP subscribers, and a restart
//! is invisible to them.

use std::time::{Duration, Instant};

use testkit::{Follower, Query};

use crate::site::{LIMIT, Site};

#[tokio::test]
async fn a_write_reaches_every_subscriber() {
    let site = Site::items().await;
    site.db.run("INSERT INTO items SELECT i, 'row ' || i FROM generate_series(1, 1000) i").await;
    let readers: Vec<Follower> = [
        Query::table("items"),
        Query::table("items").replica_full(),
        Query::table("items").columns(&["id"]),
    ]
    .into_iter()
    .map(|query| Follower::start(&site.server.url(), query))
    .collect();
    for reader in &readers {
        reader.synced().await;
    }
    site.db
        .run(
            "INSERT INTO items VALUES (2000, 'new'); UPDATE items SET title = 'x' WHERE id < 50;
             UPDATE items SET id = id + 10000 WHERE id BETWEEN 100 AND 150;
             DELETE FROM items WHERE id > 900 AND id < 950",
        )
        .await;
    for reader in &readers {
        let columns = if reader.query().columns.is_some() { "id" } else { "*" };
        reader.holds(&site.db.rows(&format!("SELECT {columns} FROM items")).await, LIMIT).await;
        reader.check();
        reader.check_never_rotated();
        reader.check_reread().await;
    }
}

#[tokio::test]
async fn many_subscribers_are_answered_by_one_write() {
    let site = Site::items().await;
    let readers: Vec<Follower> =
        (0..100).map(|_| Follower::start(&site.server.url(), Query::table("items"))).collect();
    for reader in &readers {
        reader.synced().await;
    }
    site.db.run("INSERT INTO items VALUES (1, 'one')").await;
    let rows = site.db.rows("SELECT * FROM items").await;
    for reader in &readers {
        reader.holds(&rows, LIMIT).await;
        reader.check();
    }
}

#[tokio::test]
async fn a_restart_goes_on_with_the_same_handle_and_offset() {
    let mut site = Site::items().await;
    site.db.run("INSERT INTO items VALUES (1, 'one')").await;
    let reader = Follower::start(&site.server.url(), Query::table("items"));
    reader.synced().await;
    let handle = reader.view().handle;
    for round in 2..8 {
        if round % 2 == 0 {
            site.server.kill9();
        } else {
            let start = Instant::now();
            assert!(site.server.terminate().await.success());
            assert!(start.elapsed() < Duration::from_secs(2), "took {:?} to end", start.elapsed());
        }
        site.db.run(&format!("INSERT INTO items VALUES ({round}, 'while away')")).await;
        site.server.launch();
        site.server.active().await;
        site.db.run(&format!("UPDATE items SET title = 'after {round}' WHERE id = 1")).await;
        reader.holds(&site.db.rows("SELECT * FROM items").await, LIMIT).await;
    }
    reader.check();
    reader.check_never_rotated();
    assert_eq!(reader.view().handle, handle);
    reader.check_reread().await;
}

#[tokio::test]
async fn what_is_on_disk_is_served_while_postgres_is_away_at_start() {
    let mut site = Site::items().await;
    site.db.run("INSERT INTO items VALUES (1, 'one')").await;
    let (rows, tail) = site.sync("table=items").await;
    site.server.kill9();
    site.postgres.stop().await;
    site.server.launch();
    let http = &site.http;
    let reply = testkit::wait::until("the shape from disk", LIMIT, async || {
        http.try_get("/v1/shape?table=items&offset=-1").await.ok().filter(|r| r.status == 200)
    })
    .await;
    assert_eq!((reply.handle(), reply.changes()), (tail.handle(), rows));
    site.postgres.start_again().await;
    site.server.active().await;
}

#[tokio::test]
async fn a_subscriber_follows_truncate_and_delete_of_the_shape() {
    let site = Site::items().await;
    site.db.run("INSERT INTO items VALUES (1, 'one')").await;
    let reader = Follower::start(&site.server.url(), Query::table("items"));
    reader.synced().await;
    site.db.run("TRUNCATE items; INSERT INTO items VALUES (2, 'two')").await;
    reader.until("the rotation", LIMIT, |view| (view.rotations.len() == 1).then_some(())).await;
    reader.holds(&site.db.rows("SELECT * FROM items").await, LIMIT).await;
    assert_eq!(site.http.delete("/v1/shape?table=items").await.status, 202);
    reader.until("the rotation", LIMIT, |view| (view.rotations.len() == 2).then_some(())).await;
    reader.holds(&site.db.rows("SELECT * FROM items").await, LIMIT).await;
    reader.check();
}

#[tokio::test]
async fn a_transaction_of_any_size_arrives_whole() {
    let site = Site::items().await;
    let reader = Follower::start(&site.server.url(), Query::table("items"));
    reader.synced().await;
    site.db.run("INSERT INTO items SELECT i, md5(i::text) FROM generate_series(1, 60000) i").await;
    reader.holds(&site.db.rows("SELECT * FROM items").await, Duration::from_secs(60)).await;
    site.db
        .run("UPDATE items SET title = 'x' WHERE id % 3 = 0; DELETE FROM items WHERE id % 3 = 1")
        .await;
    reader.holds(&site.db.rows("SELECT * FROM items").await, Duration::from_secs(60)).await;
    reader.check();
    reader.check_never_rotated();
    // It came in several chunks, and none ended a transaction early.
    reader.check_reread().await;
}

#[tokio::test]
async fn a_large_transaction_reaches_the_table_that_only_its_beginning_touches() {
    let site = Site::items().await;
    site.db.run("CREATE TABLE large (id int PRIMARY KEY, t text)").await;
    let readers =
        ["items", "large"].map(|table| Follower::start(&site.server.url(), Query::table(table)));
    for reader in &readers {
        reader.synced().await;
    }
    for round in 0..3 {
        // Over a megabyte, so that it travels in parts.
        site.db
            .run(&format!(
                "BEGIN; INSERT INTO items VALUES ({round}, 'a'), (100 + {round}, 'b');
                 INSERT INTO large SELECT 1000 * {round} + i,
                     (SELECT string_agg(md5((random() + i + j)::text), '')
                      FROM generate_series(1, 600) j)
                 FROM generate_series(1, 60) i; COMMIT"
            ))
            .await;
    }
    for reader in &readers {
        let rows = site.db.rows(&format!("SELECT * FROM {}", reader.query().table)).await;
        reader.holds(&rows, LIMIT).await;
        reader.check();
    }
}

#[tokio::test]
async fn a_server_stops_within_a_second_with_requests_waiting() {
    let mut site = Site::items().await;
    let readers: Vec<Follower> =
        (0..20).map(|_| Follower::start(&site.server.url(), Query::table("items"))).collect();
    for reader in &readers {
        reader.synced().await;
    }
    let start = Instant::now();
    let status = site.server.terminate().await;
    assert!(status.success(), "{status}");
    // The promise is 1 s; a debug build on a busy machine gets a little more.
    assert!(start.elapsed() < Duration::from_millis(1_500), "{:?}", start.elapsed());
}

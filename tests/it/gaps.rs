//! Gaps between two steps that something may fall into. Each test is named by
//! a defect that a review of the data path found, or that we once had.

use std::time::Duration;

use testkit::{Follower, Http, Query, encode, wait};

use crate::site::{LIMIT, Site, small_files};

async fn kill(http: &Http, path: &str) {
    let path = format!("/_test/kill?path={}", encode(path));
    let request = http.request("POST".parse().unwrap(), &path);
    // Not there at this moment: it is being restarted, which is as good.
    let _ = http.try_reply(request).await;
}

/// How many sessions of the server wait for a lock.
async fn waits_for_lock(site: &Site) -> Option<()> {
    let sql = "SELECT count(*) FROM pg_stat_activity
        WHERE wait_event_type = 'Lock' AND application_name LIKE 'leyden%'";
    (site.db.value(sql).await != "0").then_some(())
}

#[tokio::test]
async fn an_idle_shape_outlives_the_journal_files_of_others() {
    let mut site = Site::items_with(small_files).await;
    site.db.run("CREATE TABLE busy (id int PRIMARY KEY, note text)").await;
    site.db.run("INSERT INTO items VALUES (1, 'one')").await;
    let idle = Follower::start(&site.server.url(), Query::table("items"));
    let busy = Follower::start(&site.server.url(), Query::table("busy"));
    idle.synced().await;
    busy.synced().await;
    let journal = site.server.storage().join("journal");
    let first_file = || {
        let names = std::fs::read_dir(&journal).unwrap().map(|file| file.unwrap().file_name());
        names.min().unwrap()
    };
    let before = first_file();
    // Three files and a bit; then it is the compactor's turn.
    for block in 1..=15 {
        let insert = format!(
            "INSERT INTO busy SELECT {block} * 1000 + i, repeat('x', 200)
             FROM generate_series(1, 500) i"
        );
        site.db.run(&insert).await;
    }
    // What the idle shape was registered at goes with the first file.
    let gone = async || (first_file() > before).then_some(());
    wait::until("the first journal file to go", Duration::from_secs(60), gone).await;
    site.server.kill9();
    site.server.launch();
    site.server.active().await;
    site.db.run("INSERT INTO items VALUES (2, 'two')").await;
    idle.holds(&site.db.rows("SELECT * FROM items").await, LIMIT).await;
    busy.holds(&site.db.rows("SELECT * FROM busy").await, LIMIT).await;
    for reader in [idle, busy] {
        reader.check();
        reader.check_never_rotated();
    }
}

#[tokio::test]
async fn a_truncate_is_not_forgotten_with_the_registry() {
    let site = Site::items().await;
    let reader = Follower::start(&site.server.url(), Query::table("items"));
    reader.synced().await;
    for round in 0..5 {
        site.db.run(&format!("INSERT INTO items VALUES ({round}, 'before')")).await;
        site.db.run("TRUNCATE items").await;
        kill(&site.http, "shapes/registry").await;
        site.db.run(&format!("INSERT INTO items VALUES (100 + {round}, 'after')")).await;
        reader.holds(&site.db.rows("SELECT * FROM items").await, LIMIT).await;
    }
    reader.check();
}

#[tokio::test]
async fn a_publication_dropped_by_hand_is_not_forgotten_by_a_kill() {
    let site = Site::items().await;
    site.db.run("INSERT INTO items VALUES (1, 'one')").await;
    let reader = Follower::start(&site.server.url(), Query::table("items"));
    reader.synced().await;
    for round in 0..3 {
        site.db.run(&format!("DROP PUBLICATION {}", site.server.publication())).await;
        // At every stage of the new session that finds it missing.
        for _ in 0..5 {
            kill(&site.http, "postgres/leader/replication").await;
            wait::pace(Duration::from_millis(15)).await;
        }
        site.db.run(&format!("INSERT INTO items VALUES (10 + {round}, 'unpublished')")).await;
        reader.holds(&site.db.rows("SELECT * FROM items").await, LIMIT).await;
        site.db.run(&format!("INSERT INTO items VALUES (20 + {round}, 'published')")).await;
        reader.holds(&site.db.rows("SELECT * FROM items").await, LIMIT).await;
    }
    reader.check();
}

#[tokio::test]
async fn a_table_taken_out_of_the_publication_by_hand_is_put_back() {
    let site = Site::items().await;
    site.db.run("INSERT INTO items VALUES (1, 'one')").await;
    let reader = Follower::start(&site.server.url(), Query::table("items"));
    reader.synced().await;
    let publication = site.server.publication();
    site.db.run(&format!("ALTER PUBLICATION {publication} DROP TABLE items")).await;
    site.db.run("INSERT INTO items VALUES (2, 'unpublished')").await;
    reader.holds(&site.db.rows("SELECT * FROM items").await, LIMIT).await;
    site.db.run("INSERT INTO items VALUES (3, 'published')").await;
    reader.holds(&site.db.rows("SELECT * FROM items").await, LIMIT).await;
    reader.check();
}

#[tokio::test]
async fn a_replica_identity_changed_by_hand_costs_that_table_alone() {
    let site = Site::items().await;
    site.db.run("CREATE TABLE other (id int PRIMARY KEY, title text)").await;
    site.db.run("INSERT INTO items VALUES (1, 'one'); INSERT INTO other VALUES (1, 'one')").await;
    let reader = Follower::start(&site.server.url(), Query::table("items"));
    let other = Follower::start(&site.server.url(), Query::table("other"));
    reader.synced().await;
    other.synced().await;
    for round in 0..3 {
        site.db
            .run(&format!(
                "ALTER TABLE items REPLICA IDENTITY DEFAULT;
                 UPDATE items SET title = 'partial {round}'; INSERT INTO other VALUES (10 + {round}, 'x')"
            ))
            .await;
        kill(&site.http, "shapes/registry").await;
        reader.holds(&site.db.rows("SELECT * FROM items").await, LIMIT).await;
        site.db.run(&format!("UPDATE items SET title = 'whole {round}'")).await;
        reader.holds(&site.db.rows("SELECT * FROM items").await, LIMIT).await;
        other.holds(&site.db.rows("SELECT * FROM other").await, LIMIT).await;
    }
    reader.check();
    other.check();
    other.check_never_rotated();
}

#[tokio::test]
async fn a_table_rewritten_while_its_snapshot_begins_is_not_empty() {
    let site = Site::items().await;
    site.db.run("INSERT INTO items SELECT i, 'row' FROM generate_series(1, 100) i").await;
    // Published by another shape already, so that nothing waits before the snapshot.
    site.sync("table=items").await;
    let writer = testkit::Db::connect(&site.postgres.url()).await;
    writer.run("BEGIN; ALTER TABLE items ADD COLUMN extra float DEFAULT random()").await;
    let reader = Follower::start(&site.server.url(), Query::table("items").columns(&["id"]));
    wait::until("the snapshot to wait for the table", LIMIT, async || waits_for_lock(&site).await)
        .await;
    writer.run("COMMIT").await;
    reader.synced().await;
    reader.holds(&site.db.rows("SELECT id FROM items").await, LIMIT).await;
    reader.check();
}

#[tokio::test]
async fn a_shape_whose_maker_is_killed_is_routed_or_gone() {
    let site = Site::items().await;
    site.db.run("INSERT INTO items SELECT i, 'row' FROM generate_series(1, 20000) i").await;
    for round in 0..4 {
        let reader = Follower::start(&site.server.url(), Query::table("items"));
        for path in ["shapes/snapshots", "shapes/registry", "shapes/consumers"] {
            wait::pace(Duration::from_millis(11 * round)).await;
            kill(&site.http, path).await;
        }
        reader.synced().await;
        site.db.run(&format!("UPDATE items SET title = 'round {round}' WHERE id = 7")).await;
        reader.holds(&site.db.rows("SELECT * FROM items").await, LIMIT).await;
        reader.check();
        let path = format!("/v1/shape?table=items&handle={}", reader.view().handle.unwrap());
        assert_eq!(site.http.delete(&path).await.status, 202);
    }
}

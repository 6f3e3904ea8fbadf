//! Where the snapshot meets the stream, and what Postgres is told: the
//! invariants of architecture §3 that need a Postgres in trouble.

use std::time::Duration;

use storage::{Directory, Journal, Limits};
use testkit::{Db, Follower, Load, Oracle, Postgres, Query, seed, wait};

use crate::site::{LIMIT, Site, small_files};

/// The LSN that Postgres believes we hold, as a number.
async fn confirmed_flush(site: &Site) -> u64 {
    let sql = format!(
        "SELECT coalesce(confirmed_flush_lsn - '0/0', 0)::text FROM pg_replication_slots
         WHERE slot_name = '{}'",
        site.server.slot()
    );
    site.db.value(&sql).await.parse().unwrap()
}

/// I-1: what Postgres was told is no more than what a journal opened on a copy
/// of the files finds.
pub(crate) async fn check_acknowledged_is_on_disk(site: &Site) {
    let confirmed = confirmed_flush(site).await;
    let copy = tempfile::tempdir().unwrap();
    site.server.copy_storage(copy.path());
    let directory = Directory::open(copy.path()).unwrap();
    let journal = Journal::open(&directory, Limits { segment_bytes: 1 << 30 }).unwrap();
    let held = journal.position().ack_lsn.0;
    assert!(confirmed <= held, "Postgres was told {confirmed:X}, the disk holds {held:X}");
}

#[tokio::test]
async fn i_01_postgres_is_never_told_more_than_the_disk_holds() {
    let site = Site::start_with(small_files).await;
    let url = site.server.url();
    let mut oracle = Oracle::start(seed(), &site.postgres.url(), &url, Load::default()).await;
    oracle.join_all();
    for reader in oracle.readers() {
        reader.synced().await;
    }
    let before = confirmed_flush(&site).await;
    for _ in 0..40 {
        oracle.write(5).await;
        check_acknowledged_is_on_disk(&site).await;
    }
    oracle.quiesce().await;
    wait::until("an acknowledgement", LIMIT, async || {
        (confirmed_flush(&site).await > before).then_some(())
    })
    .await;
}

#[tokio::test]
async fn i_01_idle_wal_is_acknowledged_too() {
    let site = Site::items().await;
    site.sync("table=items").await;
    site.db.run("CREATE TABLE noise (t text)").await;
    let before = confirmed_flush(&site).await;
    // WAL of tables that are in no shape must not pile up behind our slot.
    site.db.run("INSERT INTO noise SELECT repeat('x', 1000) FROM generate_series(1, 20000)").await;
    wait::until("the idle WAL to be acknowledged", Duration::from_secs(25), async || {
        (confirmed_flush(&site).await > before + 10_000_000).then_some(())
    })
    .await;
    check_acknowledged_is_on_disk(&site).await;
}

#[tokio::test]
async fn i_06_transactions_around_the_snapshot_appear_once() {
    let site = Site::items().await;
    site.db.run("INSERT INTO items SELECT i, 'old' FROM generate_series(1, 100) i").await;
    // The table is published from here on, so the next shape waits for no lock.
    let first = Follower::start(&site.server.url(), Query::table("items"));
    first.synced().await;
    let mut open = Vec::new();
    for id in 0..5 {
        let db = Db::connect(&site.postgres.url()).await;
        db.run(&format!(
            "BEGIN; INSERT INTO items VALUES ({0}, 'open'); DELETE FROM items WHERE id = {1}",
            1000 + id,
            1 + id
        ))
        .await;
        open.push(db);
        // Committed between two that are not.
        site.db.run(&format!("INSERT INTO items VALUES ({}, 'done')", 2000 + id)).await;
    }
    let second = Follower::start(&site.server.url(), Query::table("items").replica_full());
    second.synced().await;
    assert_eq!(second.view().state.row_count(), 105);
    for (id, db) in open.iter().enumerate() {
        let end = if id == 2 { "ROLLBACK" } else { "COMMIT" };
        db.run(&format!("UPDATE items SET title = 'late' WHERE id = {}; {end}", 50 + id)).await;
    }
    let rows = site.db.rows("SELECT * FROM items").await;
    for reader in [&first, &second] {
        reader.holds(&rows, LIMIT).await;
        reader.check();
        reader.check_never_rotated();
    }
}

#[tokio::test]
async fn i_07_a_row_decoded_before_it_is_visible_is_in_the_shape() {
    let site = Site::items().await;
    site.db.run("INSERT INTO items VALUES (1, 'one')").await;
    let first = Follower::start(&site.server.url(), Query::table("items"));
    first.synced().await;

    // A commit now waits for a standby that never comes: it is in the WAL, and
    // in the stream, but no snapshot shows it.
    site.db.run("ALTER SYSTEM SET synchronous_standby_names = 'nosuch'").await;
    site.db.run("SELECT pg_reload_conf()").await;
    let writer = Db::connect(&site.postgres.url()).await;
    let (visible, stalled) = stall(&site, &writer).await;
    let during = async {
        first
            .until("the row in the stream", LIMIT, |view| {
                (view.state.row_count() > visible).then_some(())
            })
            .await;
        let count = site.db.value("SELECT count(*) FROM items").await;
        assert_eq!(count, visible.to_string());
        // Now a new shape. Its first snapshot cannot show the row.
        let second = Follower::start(&site.server.url(), Query::table("items").replica_full());
        let asked = || site.http.try_get("/v1/shape?table=items&replica=full&offset=-1");
        // Long enough for a snapshot to have been taken, were it not refused.
        let early = tokio::time::timeout(Duration::from_millis(800), asked()).await;
        if let Ok(Ok(reply)) = early {
            assert_ne!(reply.status, 200, "a snapshot without the row: {}", reply.text());
        }
        site.db.run("ALTER SYSTEM RESET synchronous_standby_names").await;
        site.db.run("SELECT pg_reload_conf()").await;
        second
    };
    let (stalled, second) = tokio::join!(stalled, during);
    stalled.unwrap();
    let rows = site.db.rows("SELECT * FROM items").await;
    assert_eq!(rows.len(), visible + 1);
    for reader in [&first, &second] {
        reader.holds(&rows, LIMIT).await;
        reader.check();
        reader.check_never_rotated();
    }
}

/// Inserts rows until a commit waits for the standby: how many are visible
/// then, and the end of the one that waits. The setting is with the sessions
/// before it is with the process that makes them wait.
async fn stall<'a>(
    site: &Site,
    writer: &'a Db,
) -> (usize, impl Future<Output = Result<(), testkit::DbError>> + 'a) {
    let pid = writer.value("SELECT pg_backend_pid()").await;
    let waits = format!("SELECT coalesce(wait_event, '') FROM pg_stat_activity WHERE pid = {pid}");
    for visible in 1.. {
        let insert = format!("INSERT INTO items VALUES ({}, 'waits')", visible + 1);
        let mut ended = Box::pin(async move { writer.batch_execute(&insert).await });
        let waiting = wait::until("the commit to wait", LIMIT, async || {
            (site.db.value(&waits).await == "SyncRep").then_some(())
        });
        tokio::select! {
            result = &mut ended => result.unwrap(),
            () = waiting => return (visible, ended),
        }
    }
    unreachable!("a test does not insert for ever")
}

/// S-23. `identity` is what the table has before its first shape.
async fn publication_gap(identity: &str) {
    let site = Site::items().await;
    site.db.run(&format!("ALTER TABLE items REPLICA IDENTITY {identity}")).await;
    let open = Db::connect(&site.postgres.url()).await;
    open.run("BEGIN; INSERT INTO items VALUES (1, 'before')").await;
    let reader = Follower::start(&site.server.url(), Query::table("items"));
    // The server has changed the publication, or waits to.
    let publication = site.server.publication();
    if identity == "FULL" {
        wait::until("the table to be published", LIMIT, async || {
            let sql = format!(
                "SELECT count(*) FROM pg_publication_tables WHERE pubname = '{publication}'"
            );
            (site.db.value(&sql).await == "1").then_some(())
        })
        .await;
        // And it keeps no writer waiting.
        site.db.run("SET lock_timeout = '2s'; INSERT INTO items VALUES (3, 'other')").await;
    } else {
        wait::pace(Duration::from_millis(500)).await;
    }
    open.run("INSERT INTO items VALUES (2, 'after'); COMMIT").await;
    let rows = site.db.rows("SELECT * FROM items").await;
    reader.holds(&rows, LIMIT).await;
    site.db.run("UPDATE items SET title = title || '!'").await;
    reader.holds(&site.db.rows("SELECT * FROM items").await, LIMIT).await;
    reader.check();
    reader.check_never_rotated();
}

#[tokio::test]
async fn i_08_a_transaction_open_while_its_table_is_published_is_whole() {
    publication_gap("FULL").await;
}

#[tokio::test]
async fn i_08_also_when_the_replica_identity_must_be_set() {
    publication_gap("DEFAULT").await;
}

#[tokio::test]
async fn s_13_a_crash_of_postgres_loses_and_doubles_nothing() {
    let postgres = Postgres::start(15, &[]).await;
    let mut site = Site::on(postgres, small_files).await;
    let load = Load { pause: Duration::from_millis(8), ..Load::default() };
    let url = site.server.url();
    let mut oracle = Oracle::start(seed(), &site.postgres.url(), &url, load).await;
    oracle.join_all();
    for reader in oracle.readers() {
        reader.synced().await;
    }
    for round in 0..6 {
        oracle.write(25).await;
        if round % 2 == 0 {
            site.postgres.kill9().await;
        } else {
            site.postgres.stop_immediate().await;
        }
        site.postgres.start_again().await;
        site.server.active().await;
    }
    oracle.finish().await;
    oracle.check_never_rotated();
    eprintln!("{}", oracle.summary());
}

#[tokio::test]
async fn s_01_terminated_backends_cost_no_reader_anything() {
    let mut site = Site::start().await;
    let load = Load { pause: Duration::from_millis(8), ..Load::default() };
    let url = site.server.url();
    let mut oracle = Oracle::start(seed(), &site.postgres.url(), &url, load).await;
    oracle.join_all();
    let pid = site.server.pid();
    for round in 0..15 {
        oracle.write(10).await;
        if round == 5 {
            oracle.join();
        }
        // One of the server's own, of any kind.
        site.db
            .run(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                 WHERE application_name ILIKE '%leyden%' OR backend_type = 'walsender'
                 ORDER BY random() LIMIT 1",
            )
            .await;
    }
    site.server.active().await;
    oracle.finish().await;
    oracle.check_never_rotated();
    assert_eq!((site.server.pid(), site.server.exited()), (pid, None));
}

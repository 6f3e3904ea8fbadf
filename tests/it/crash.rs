//! `kill -9` of the server at random moments under load, on the same files:
//! nothing lost, nothing doubled, no reader sent back to the beginning.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use testkit::{Load, Oracle, seed, wait};

use crate::site::{Site, small_files};
use crate::splice::check_acknowledged_is_on_disk;

const KILLS: u32 = 50;

#[tokio::test]
async fn fifty_kills_under_load_lose_nothing() {
    let seed = seed();
    let mut rng = StdRng::seed_from_u64(seed ^ 1);
    let mut site = Site::start_with(small_files).await;
    let load = Load { pause: Duration::from_millis(12), ..Load::default() };
    let url = site.server.url();
    let mut oracle = Oracle::start(seed, &site.postgres.url(), &url, load).await;
    oracle.join_all();
    for reader in oracle.readers() {
        reader.synced().await;
    }
    for kill in 1..=KILLS {
        // Some kills hit a server that is still starting.
        wait::pace(Duration::from_millis(rng.random_range(1..500))).await;
        site.server.kill9();
        check_acknowledged_is_on_disk(&site).await;
        site.server.launch();
        if kill % 10 == 5 {
            site.server.active().await;
            oracle.join();
        }
        if kill % 25 == 0 {
            site.server.active().await;
            oracle.quiesce().await;
        }
    }
    oracle.finish().await;
    oracle.check_never_rotated();
    eprintln!("{}", oracle.summary());
}

#[tokio::test]
async fn kills_while_shapes_are_being_made_leave_no_half_shape() {
    let seed = seed();
    let mut rng = StdRng::seed_from_u64(seed ^ 1);
    let mut site = Site::items().await;
    site.db
        .run("INSERT INTO items SELECT i, repeat('x', 200) FROM generate_series(1, 20000) i")
        .await;
    let mut readers = Vec::new();
    for kill in 0..12 {
        // A different shape each time, whose snapshot the kill cuts short.
        let columns = if kill % 2 == 0 { &["id"][..] } else { &["id", "title"][..] };
        let query = testkit::Query::table("items").columns(columns);
        let query = if kill % 3 == 0 { query.replica_full() } else { query };
        readers.push(testkit::Follower::start(&site.server.url(), query));
        wait::pace(Duration::from_millis(rng.random_range(1..300))).await;
        site.server.kill9();
        site.db
            .run(&format!("UPDATE items SET title = 'kill {kill}' WHERE id % 1000 = {kill}"))
            .await;
        site.server.launch();
        site.server.active().await;
    }
    for reader in &readers {
        let names = reader.query().columns.clone().unwrap().join(", ");
        let rows = site.db.rows(&format!("SELECT {names} FROM items")).await;
        reader.holds(&rows, Duration::from_secs(60)).await;
        reader.check();
        reader.check_never_rotated();
    }
}

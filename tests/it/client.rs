//! The published JavaScript client, unmodified, in Node.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::Postgres;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::site::Site;

/// The whole table as one digest, made as `sync.mjs` makes it.
const DIGEST: &str = "
    SELECT count(*) || ' ' || md5(coalesce(string_agg(line, E'\\n' ORDER BY id), '')) FROM (
        SELECT id, concat_ws('|', id, coalesce(title, '∅'), coalesce(score::text, '∅'),
            coalesce(done::text, '∅'), coalesce(at::text, '∅'),
            coalesce(array_to_string(tags, ','), '∅')) AS line
        FROM items) lines";

const ROW_COUNT: u32 = 100_000;

struct Client {
    _process: Child,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Client {
    async fn start(url: &str) -> Self {
        let folder = folder().await;
        let mut process = Command::new("node")
            .arg("sync.mjs")
            .args([url, "items"])
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("node is installed");
        let orders = process.stdin.take().unwrap();
        let answers = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { _process: process, orders, answers }
    }

    /// What it holds now.
    async fn state(&mut self) -> Value {
        self.orders.write_all(b"state\n").await.unwrap();
        let line = self.answers.next_line().await.unwrap().expect("the client still runs");
        serde_json::from_str(&line).unwrap()
    }

    /// Waits until it holds what the table has.
    async fn holds_the_table(&mut self, site: &Site, what: &str) {
        let expected = site.db.value(DIGEST).await;
        let start = Instant::now();
        testkit::wait::until(what, Duration::from_secs(90), async || {
            let state = self.state().await;
            assert_eq!(state["errors"], serde_json::json!([]), "{what}");
            let held = format!("{} {}", state["rows"], state["md5"].as_str().unwrap());
            (held == expected).then_some(())
        })
        .await;
        eprintln!("{what}: {:?}", start.elapsed());
    }
}

/// The script's folder, its packages installed.
async fn folder() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("node");
    let lock = std::fs::File::create(std::env::temp_dir().join("leyden-npm-ci.lock")).unwrap();
    // Two of these tests may start at once, in two processes.
    let _locked = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock)).await.unwrap();
    if !folder.join("node_modules/@electric-sql/client").exists() {
        let install = Command::new("npm").arg("ci").current_dir(&folder).output().await;
        let install = install.expect("npm is installed");
        assert!(install.status.success(), "{}", String::from_utf8_lossy(&install.stderr));
    }
    folder
}

async fn run(version: u16) {
    let site = Site::on(Postgres::start(version, &[]).await, |server| server).await;
    site.db
        .run(&format!(
            "CREATE TABLE items (id int PRIMARY KEY, title text, score int8, done bool NOT NULL,
                 at timestamptz, tags int[]);
             INSERT INTO items SELECT i, 'title \"' || i || '\"', i::int8 * 1000000000000,
                 i % 3 = 0, '2026-11-23 10:00:00+02'::timestamptz + i * interval '1 second',
                 ARRAY[i, -i] FROM generate_series(1, {ROW_COUNT}) i"
        ))
        .await;
    let mut client = Client::start(&site.server.url()).await;
    client.holds_the_table(&site, "initial sync").await;
    let steps = [
        ("inserts", "INSERT INTO items (id, done) SELECT i, true FROM generate_series(200001, 200050) i"),
        ("updates", "UPDATE items SET title = NULL, tags = '{}' WHERE id % 1000 = 7"),
        ("deletes", "DELETE FROM items WHERE id % 1000 = 8"),
        ("a change of key", "UPDATE items SET id = 500000 WHERE id = 1"),
        (
            "a transaction of 10 000 rows",
            "BEGIN; UPDATE items SET score = score + 1 WHERE id BETWEEN 20001 AND 25000;
             INSERT INTO items (id, done) SELECT i, false FROM generate_series(300001, 305000) i; COMMIT",
        ),
    ];
    for (what, sql) in steps {
        site.db.run(sql).await;
        client.holds_the_table(&site, what).await;
    }
    assert_eq!(client.state().await["mustRefetch"], 0);
    site.db.run("TRUNCATE items").await;
    client.holds_the_table(&site, "TRUNCATE").await;
    site.db.run("INSERT INTO items (id, done) VALUES (1, true)").await;
    client.holds_the_table(&site, "an insert after TRUNCATE").await;
    assert_eq!(client.state().await["mustRefetch"], 1);
}

#[tokio::test]
async fn the_published_client_follows_a_table_on_14() {
    run(14).await;
}

#[tokio::test]
async fn the_published_client_follows_a_table_on_18() {
    run(18).await;
}

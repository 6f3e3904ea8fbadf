//! (a) A backlog of inserts through to a durable shape log, against
//! pg_recvlogical on the same backlog.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::report::Report;
use crate::scene::Scene;

const ROW_COUNT: u64 = 1_000_000;
const ROWS_PER_TRANSACTION: u64 = 100;
const REFERENCE_SLOT: &str = "reference";

pub(crate) async fn run(scene: &mut Scene, report: &mut Report) -> anyhow::Result<()> {
    scene
        .db
        .run(
            "CREATE TABLE backlog (id bigint PRIMARY KEY, tenant int NOT NULL, name text NOT NULL,
                 email text NOT NULL, note text NOT NULL, at timestamptz NOT NULL DEFAULT now())",
        )
        .await;
    let (_, before) = scene.tail("backlog").await;
    // The publication has the table from here on, so both slots send the same.
    scene
        .db
        .run(&format!("SELECT pg_create_logical_replication_slot('{REFERENCE_SLOT}', 'pgoutput')"))
        .await;
    ensure!(scene.server.terminate().await.success(), "the server stops when asked");
    for block in 0..ROW_COUNT / 100_000 {
        let (first, last) = (block * 100_000, (block + 1) * 100_000 - ROWS_PER_TRANSACTION);
        scene
            .db
            .run(&format!(
                "DO $$ BEGIN
                    FOR start IN {first}..{last} BY {ROWS_PER_TRANSACTION} LOOP
                        INSERT INTO backlog (id, tenant, name, email, note)
                        SELECT i, i % 100, 'customer ' || i, 'customer' || i || '@example.com',
                            repeat('x', 110)
                        FROM generate_series(start, start + {ROWS_PER_TRANSACTION} - 1) i;
                        COMMIT;
                    END LOOP; END $$"
            ))
            .await;
    }
    // The end of the last commit: what is idle behind it is confirmed later.
    let end = scene.db.value("SELECT pg_current_wal_insert_lsn()").await;
    scene.db.run("CHECKPOINT").await;
    let reference = recvlogical(scene, &end)?;

    let begin = Instant::now();
    scene.server.launch();
    scene.server.active().await;
    let streaming = begin.elapsed();
    let confirmed = format!(
        "SELECT coalesce(bool_and(confirmed_flush_lsn >= '{end}'), false)
         FROM pg_replication_slots WHERE slot_name = '{}'",
        scene.server.slot()
    );
    // Journal durability first, then the shape's log to its last entry.
    let last_change = loop {
        let (_, offset) = scene.tail("backlog").await;
        if offset != before && scene.db.value(&confirmed).await == "t" {
            break offset;
        }
        testkit::wait::pace(Duration::from_millis(20)).await;
    };
    let ours = begin.elapsed();
    ensure!(scene.tail("backlog").await.1 == last_change, "the log had ended");
    let rate = |time: Duration| ROW_COUNT as f64 / time.as_secs_f64() / 1000.0;
    report.add(
        "(a) 1 M inserts, backlog to durable shape log",
        format!(
            "{:.1} k/s against {:.1} k/s of pg_recvlogical: {:.2} x (start-up of {:.2} s included)",
            rate(ours),
            rate(reference),
            rate(ours) / rate(reference),
            streaming.as_secs_f64()
        ),
        ">= 0.5 x",
    );
    Ok(())
}

fn recvlogical(scene: &Scene, end: &str) -> anyhow::Result<Duration> {
    let begin = Instant::now();
    let publication = format!("publication_names=\"{}\"", scene.server.publication());
    let status = Command::new("pg_recvlogical")
        .args(["--dbname", &scene.cluster.url("postgres"), "--slot", REFERENCE_SLOT])
        .args(["--start", "--endpos", end, "--file", "/dev/null", "--no-loop"])
        .args(["--option", "proto_version=1", "--option", &publication])
        .stdin(Stdio::null())
        .status()
        .context("pg_recvlogical")?;
    ensure!(status.success(), "pg_recvlogical: {status}");
    Ok(begin.elapsed())
}

//! (b) First sync of a table over HTTP, against COPY of the same query by psql.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::report::Report;
use crate::scene::Scene;

const ROW_COUNT: u64 = 1_000_000;
const ROUNDS: usize = 3;

pub(crate) async fn run(scene: &Scene, report: &mut Report) -> anyhow::Result<()> {
    scene
        .db
        .run(&format!(
            "CREATE TABLE people AS SELECT i::bigint AS id, (i % 100)::int AS tenant,
                 'customer ' || i AS name, 'customer' || i || '@example.com' AS email,
                 repeat('x', 110) AS note, now() AS at
             FROM generate_series(1, {ROW_COUNT}) i;
             ALTER TABLE people ADD PRIMARY KEY (id)"
        ))
        .await;
    scene.db.run("VACUUM ANALYZE people").await;
    let mut ratios = Vec::new();
    let mut times = String::new();
    for _ in 0..ROUNDS {
        let reference = copy(scene)?;
        let (ours, handle) = first_sync(scene).await?;
        ratios.push(ours.as_secs_f64() / reference.as_secs_f64());
        times.push_str(&format!(" {:.2}/{:.2} s", ours.as_secs_f64(), reference.as_secs_f64()));
        // The next round reads the table anew.
        let path = format!("/v1/shape?table=people&handle={handle}");
        ensure!(scene.server.http().delete(&path).await.status == 202, "DELETE is enabled");
    }
    ratios.sort_by(f64::total_cmp);
    report.add(
        "(b) first sync of 1 M rows over HTTP",
        format!("{:.2} x the time of COPY (median of{times})", ratios[ROUNDS / 2]),
        "<= 2.5 x",
    );
    Ok(())
}

fn copy(scene: &Scene) -> anyhow::Result<Duration> {
    let begin = Instant::now();
    let query = "COPY (SELECT id, tenant, name, email, note, at FROM people) TO STDOUT";
    let status = Command::new("psql")
        .args(["--no-psqlrc", "--quiet", "--dbname", &scene.cluster.url("postgres")])
        .args(["--command", query])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .context("psql")?;
    ensure!(status.success(), "psql: {status}");
    Ok(begin.elapsed())
}

/// As a client does: from -1 to up-to-date, every body read whole.
async fn first_sync(scene: &Scene) -> anyhow::Result<(Duration, String)> {
    let http = scene.server.http();
    let begin = Instant::now();
    let (mut handle, mut offset, mut byte_count) = (String::new(), "-1".to_owned(), 0);
    loop {
        let given = if handle.is_empty() { String::new() } else { format!("&handle={handle}") };
        let reply = http.get(&format!("/v1/shape?table=people&offset={offset}{given}")).await;
        ensure!(reply.status == 200, "{}", reply.text());
        byte_count += reply.body.len();
        (handle, offset) = (reply.handle(), reply.offset());
        if reply.is_up_to_date() {
            ensure!(byte_count > ROW_COUNT as usize * 200, "all rows came: {byte_count} bytes");
            return Ok((begin.elapsed(), handle));
        }
    }
}

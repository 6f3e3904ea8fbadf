//! (d), (e) Memory when idle and with parked long-polls, and the time in which
//! one write answers them all.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::report::Report;
use crate::scene::{Scene, request};

const CLIENT_COUNT: usize = 1_000;

pub(crate) async fn run(scene: &Scene, report: &mut Report) -> anyhow::Result<()> {
    scene.db.run("CREATE TABLE parked (id bigint PRIMARY KEY, note text)").await;
    let (handle, offset) = scene.tail("parked").await;
    settle(scene).await?;
    let idle = scene.resident_bytes()?;
    report.add("(e) resident memory, idle", format!("{:.1} MB", idle as f64 / 1e6), "<= 40 MB");

    let address = scene.address();
    let path = format!("/v1/shape?table=parked&handle={handle}&offset={offset}&live=true&cursor=1");
    let mut streams = Vec::with_capacity(CLIENT_COUNT);
    for _ in 0..CLIENT_COUNT {
        let mut stream = TcpStream::connect(&address).await?;
        stream.write_all(request(&path, &address).as_bytes()).await?;
        streams.push(stream);
    }
    settle(scene).await?;
    let parked = scene.resident_bytes()?;
    report.add(
        "(d) resident memory per parked long-poll",
        format!("{:.1} KiB", (parked.saturating_sub(idle)) as f64 / 1024.0 / CLIENT_COUNT as f64),
        "<= 16 KiB",
    );

    let mut answers = JoinSet::new();
    for mut stream in streams {
        answers.spawn(async move {
            let mut buffer = [0; 2048];
            let count = stream.read(&mut buffer).await?;
            anyhow::ensure!(buffer[..count].starts_with(b"HTTP/1.1 200"), "an answer");
            Ok(Instant::now())
        });
    }
    scene.db.run("INSERT INTO parked VALUES (1, 'wake')").await;
    let committed = Instant::now();
    let mut last = committed;
    while let Some(answer) = answers.join_next().await {
        last = last.max(answer??);
    }
    report.add(
        "(d) one write answered to 1 000 parked long-polls",
        format!("{:.0} ms", last.duration_since(committed).as_secs_f64() * 1000.0),
        "<= 150 ms",
    );
    Ok(())
}

/// Until the memory has not moved for a second.
async fn settle(scene: &Scene) -> anyhow::Result<()> {
    let mut before = 0;
    loop {
        testkit::wait::pace(Duration::from_secs(1)).await;
        let now = scene.resident_bytes()?;
        if now.abs_diff(before) < 64 << 10 {
            return Ok(());
        }
        before = now;
    }
}

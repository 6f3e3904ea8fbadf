//! (c) From the end of an INSERT's commit to the body of a waiting long-poll.

use std::sync::Arc;
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::report::{Report, percentile};
use crate::scene::{Scene, request};

const INSERT_COUNT: usize = 2_000;

pub(crate) async fn run(scene: &Scene, report: &mut Report) -> anyhow::Result<()> {
    scene.db.run("CREATE TABLE ticks (id bigint PRIMARY KEY, note text)").await;
    let (handle, offset) = scene.tail("ticks").await;
    let (seen, mut arrivals) = mpsc::channel(16);
    let (asked, mut parked) = mpsc::channel::<()>(1);
    let address = scene.address();
    let mut reader = JoinSet::new();
    reader.spawn(async move {
        let mut stream = TcpStream::connect(&address).await?;
        stream.set_nodelay(true)?;
        let mut offset = offset;
        loop {
            let path =
                format!("/v1/shape?table=ticks&handle={handle}&offset={offset}&live=true&cursor=1");
            stream.write_all(request(&path, &address).as_bytes()).await?;
            // The server has the request well before the next insert commits.
            if asked.send(()).await.is_err() {
                return anyhow::Ok(());
            }
            let (next, body) = read_reply(&mut stream).await?;
            offset = next;
            if seen.send((Instant::now(), body)).await.is_err() {
                return Ok(());
            }
        }
    });
    let insert = Arc::new(scene.db.prepare("INSERT INTO ticks VALUES ($1, 'tick')").await?);
    let mut times = Vec::with_capacity(INSERT_COUNT);
    for id in 0..INSERT_COUNT as i64 {
        parked.recv().await;
        testkit::wait::pace(std::time::Duration::from_millis(2)).await;
        scene.db.execute(&*insert, &[&id]).await?;
        let committed = Instant::now();
        let Some((arrived, body)) = arrivals.recv().await else { break };
        anyhow::ensure!(body.contains(&format!("\"{id}\"")), "{body}");
        times.push(arrived.saturating_duration_since(committed).as_secs_f64() * 1000.0);
    }
    reader.abort_all();
    times.sort_by(f64::total_cmp);
    report.add(
        "(c) INSERT committed to long-poll body",
        format!("p50 {:.2} ms, p99 {:.2} ms", percentile(&times, 0.5), percentile(&times, 0.99)),
        "p50 <= 1.5 ms, p99 <= 10 ms",
    );
    Ok(())
}

/// Reads one reply with a content length: its offset and its body.
async fn read_reply(stream: &mut TcpStream) -> anyhow::Result<(String, String)> {
    let (mut text, mut buffer) = (Vec::new(), vec![0; 16 << 10]);
    loop {
        let count = stream.read(&mut buffer).await?;
        anyhow::ensure!(count > 0, "the connection ended");
        text.extend_from_slice(&buffer[..count]);
        let Some(end) = text.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = std::str::from_utf8(&text[..end])?.to_owned();
        let header = |name: &str| {
            head.lines().find_map(|line| {
                let (have, value) = line.split_once(':')?;
                have.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
            })
        };
        let length: usize = header("content-length").unwrap_or_default().parse()?;
        while text.len() < end + 4 + length {
            let count = stream.read(&mut buffer).await?;
            anyhow::ensure!(count > 0, "the connection ended");
            text.extend_from_slice(&buffer[..count]);
        }
        let body = String::from_utf8(text.split_off(end + 4))?;
        return Ok((header("electric-offset").unwrap_or_default(), body));
    }
}

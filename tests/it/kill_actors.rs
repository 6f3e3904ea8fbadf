//! Every actor of the live tree is killed by its path, under load, one after
//! the other. An actor added later is covered the day it is added.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::{Http, Load, Oracle, encode, seed, wait};

use crate::site::{LIMIT, Site, small_files};

#[derive(Clone, Debug)]
struct Node {
    path: String,
    state: String,
    uptime: Duration,
    kind: String,
}

/// The live tree, without its root.
async fn tree(http: &Http) -> Option<Vec<Node>> {
    let reply = http.try_get("/_test/tree").await.ok().filter(|reply| reply.status == 200)?;
    let tree = reply.json();
    let text = |node: &Value, name: &str| node[name].as_str().unwrap_or_default().to_owned();
    let nodes = tree["nodes"].as_array()?.iter().map(|node| Node {
        path: text(node, "path"),
        state: text(node, "state"),
        uptime: Duration::from_millis(node["uptime_ms"].as_u64().unwrap_or_default()),
        kind: text(node, "kind"),
    });
    Some(nodes.filter(|node| node.path != "leyden" && !node.path.is_empty()).collect())
}

/// Actors that live as long as the server: killing one must bring it back.
fn lasts(path: &str) -> bool {
    !path.starts_with("shapes/snapshots/")
}

/// The tree once everything in it runs.
async fn settled(http: &Http) -> Vec<Node> {
    wait::until("the tree to settle", LIMIT, async || {
        let nodes = tree(http).await?;
        let at_rest = |node: &Node| ["running", "stopped"].contains(&node.state.as_str());
        nodes.iter().all(at_rest).then_some(nodes)
    })
    .await
}

async fn kill(http: &Http, path: &str) -> u16 {
    let request =
        http.request("POST".parse().unwrap(), &format!("/_test/kill?path={}", encode(path)));
    // The acceptor that answers may be the one that is killed.
    http.try_reply(request).await.map_or(202, |reply| reply.status)
}

/// Waits until `path`, killed at `start`, runs again. Its age says so, however
/// far up the restart went.
async fn came_back(http: &Http, path: &str, start: Instant) -> Duration {
    wait::until(&format!("{path} to come back"), LIMIT, async || {
        let asked = start.elapsed();
        let nodes = tree(http).await?;
        let node = nodes.iter().find(|node| node.path == path)?;
        (node.state == "running" && node.uptime <= asked).then_some(())
    })
    .await;
    start.elapsed()
}

#[tokio::test]
async fn every_actor_can_be_killed_under_load() {
    let seed = seed();
    let mut site = Site::start_with(small_files).await;
    let load = Load { pause: Duration::from_millis(10), ..Load::default() };
    let url = site.server.url();
    let mut oracle = Oracle::start(seed, &site.postgres.url(), &url, load).await;
    oracle.join_all();
    for reader in oracle.readers() {
        reader.synced().await;
    }
    let pid = site.server.pid();
    let mut killed = BTreeSet::new();
    // The tree is read again after each kill: it may have changed.
    loop {
        let nodes = settled(&site.http).await;
        let next = nodes.into_iter().find(|node| {
            node.state == "running" && lasts(&node.path) && !killed.contains(&node.path)
        });
        let Some(node) = next else { break };
        let start = Instant::now();
        let status = kill(&site.http, &node.path).await;
        assert!((200..300).contains(&status), "{status} for killing {}", node.path);
        let took = came_back(&site.http, &node.path, start).await;
        eprintln!("{:10} {:40} back in {took:?}", node.kind, node.path);
        killed.insert(node.path.clone());
        assert_eq!(site.server.exited(), None, "the process ended with {}", node.path);
        // Some load between two kills, and proof that the data flows again.
        oracle.write(10).await;
        if killed.len().is_multiple_of(5) {
            site.server.active().await;
            oracle.join();
            oracle.quiesce().await;
            oracle.check_never_rotated();
        }
    }
    // Every part of the tree was there to be killed.
    for part in [
        "store/journal",
        "store/catalog",
        "shapes/registry",
        "shapes/consumers",
        "postgres/leader/lock-connection",
        "postgres/leader/router",
        "postgres/leader/replication",
        "postgres/admin-pool",
        "postgres/snapshot-pool",
        "postgres/publication",
        "edge/listener",
        "edge/acceptors",
        "edge/health",
    ] {
        assert!(killed.iter().any(|path| path.starts_with(part)), "{part} is not in {killed:?}");
    }
    assert!(killed.iter().any(|path| path.starts_with("shapes/consumers/")), "{killed:?}");
    oracle.finish().await;
    oracle.check_never_rotated();
    assert_eq!(site.server.pid(), pid);
    assert_eq!(site.server.exited(), None);
    eprintln!("{} actors killed; {}", killed.len(), oracle.summary());
}

#[tokio::test]
async fn snapshot_workers_can_be_killed_at_work() {
    let mut site = Site::items().await;
    site.db
        .run("INSERT INTO items SELECT i, repeat('x', 300) FROM generate_series(1, 60000) i")
        .await;
    let reader = testkit::Follower::start(&site.server.url(), testkit::Query::table("items"));
    let mut hits = 0;
    let start = Instant::now();
    while hits < 3 && start.elapsed() < Duration::from_secs(10) && reader.view().handle.is_none() {
        let Some(nodes) = tree(&site.http).await else { continue };
        if let Some(node) = nodes.iter().find(|node| node.path.starts_with("shapes/snapshots/")) {
            // It may have ended in the meantime.
            kill(&site.http, &node.path).await;
            hits += 1;
        }
    }
    eprintln!("{hits} snapshot workers killed");
    reader.holds(&site.db.rows("SELECT * FROM items").await, Duration::from_secs(60)).await;
    reader.check();
    assert_eq!(site.server.exited(), None);
}

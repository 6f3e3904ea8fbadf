//! The view of a tree, and what may be a tree.

use std::time::Duration;

use supervision::Strategy::{OneForOne, RestForOne};
use supervision::{Dynamic, Intensity, Node, Restart, StartError, dynamic, start, supervisor};

use crate::probe::{Diary, MANY, PATIENT, Probe, SECOND};

fn sample() -> Node {
    let diary = Diary::default();
    let [a, b] = ["a", "b"].map(|id| Probe::new(id, &diary));
    let few = Intensity::new(3, Duration::from_secs(30));
    let inner = supervisor("inner", RestForOne, few, [b.node_with(Restart::Transient, PATIENT)]);
    let kids = dynamic("kids", few, &Dynamic::default()).restart(Restart::Temporary);
    supervisor("leyden", OneForOne, MANY, [a.node(), inner, kids]).cool_down(5 * SECOND)
}

#[test]
fn an_outline_is_the_tree_as_written() {
    let lines: Vec<String> = sample()
        .outline()
        .nodes
        .iter()
        .map(|node| {
            let strategy = node.strategy.unwrap_or("-");
            let intensity = node.intensity.as_deref().unwrap_or("-");
            let cool_down = node.cool_down.as_deref().unwrap_or("-");
            let (path, depth, kind) = (&node.path, node.depth, node.kind);
            let (restart, shutdown) = (node.restart, &node.shutdown);
            format!("{depth} {path} {kind} {strategy} {intensity} {restart} {shutdown} {cool_down}")
        })
        .collect();
    assert_eq!(
        lines,
        [
            "0 leyden supervisor one_for_one 1000/1s permanent infinity 5s",
            "1 a worker - - permanent 1s -",
            "1 inner supervisor rest_for_one 3/30s permanent infinity -",
            "2 inner/b worker - - transient 1s -",
            "1 kids dynamic one_for_one 3/30s temporary infinity -",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn the_view_has_the_paths_of_the_outline() {
    let node = sample();
    let outline: Vec<_> = node.outline().nodes.into_iter().map(|node| node.path).collect();
    let root = start(node).await.unwrap();
    tokio::time::sleep(SECOND).await;
    let tree = root.tree();
    let paths: Vec<_> = tree.nodes.iter().map(|node| node.path.clone()).collect();
    assert_eq!(paths, outline);
    for node in &tree.nodes {
        assert_eq!((node.state, node.generation, node.uptime_ms), ("running", 1, 1000), "{node:?}");
    }
    assert!(tree.is_settled());
    let json = serde_json::to_value(&tree).unwrap();
    assert_eq!(json["nodes"][3]["path"], "inner/b");
    assert_eq!(json["nodes"][3]["restart"], "transient");
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn only_what_is_in_the_tree_can_be_killed() {
    let root = start(sample()).await.unwrap();
    for path in ["", "b", "leyden/a", "inner/b/c", "inner/"] {
        assert!(root.kill(path).is_err(), "{path:?}");
    }
    for path in ["leyden", "a", "inner", "inner/b", "kids"] {
        assert!(root.kill(path).is_ok(), "{path:?}");
    }
    root.stop().await;
}

#[tokio::test]
async fn a_tree_whose_paths_are_ambiguous_is_refused() {
    let probe = |id| Probe::new(id, &Diary::default()).node();
    for (bad, children) in [
        ("a", vec![probe("a"), probe("a")]),
        ("a/b", vec![probe("a/b")]),
        ("", vec![probe("")]),
        ("root", vec![probe("root")]),
        ("b", vec![supervisor("a", OneForOne, MANY, [probe("b"), probe("b")])]),
    ] {
        let error = start(supervisor("root", OneForOne, MANY, children)).await.unwrap_err();
        let StartError::Invalid { id, .. } = error else { panic!("{error}") };
        assert_eq!(id, bad);
    }
}

//! Who shares the fate of a failed child.

use supervision::Strategy::{self, OneForAll, OneForOne, RestForOne};
use supervision::{Restart, Root, start, supervisor};

use crate::probe::{
    Diary, MANY, Message, PATIENT, Probe, SECOND, generation, state_of, until, until_running,
};

async fn three(strategy: Strategy) -> (Root, Diary, [Probe; 3]) {
    let diary = Diary::default();
    let probes = ["a", "b", "c"].map(|id| Probe::new(id, &diary));
    let nodes = probes.clone().map(|probe| probe.node());
    let root = start(supervisor("root", strategy, MANY, nodes)).await.unwrap();
    diary.take();
    (root, diary, probes)
}

async fn settled(root: &Root) {
    until("settled", || root.tree().nodes.iter().all(|node| node.state == "running")).await;
}

#[tokio::test(start_paused = true)]
async fn one_for_one_restarts_only_the_failed_child() {
    let (root, diary, [_, b, _]) = three(OneForOne).await;
    b.send(Message::Fail("boom"));
    until_running(&root, "b", 2).await;
    settled(&root).await;
    diary.check(&["gone b", "start b"]);
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn one_for_all_stops_all_in_reverse_and_starts_all_in_order() {
    let (root, diary, [_, b, _]) = three(OneForAll).await;
    b.send(Message::Fail("boom"));
    until_running(&root, "c", 2).await;
    settled(&root).await;
    diary.check(&[
        "gone b", "stop c", "gone c", "stop a", "gone a", "start a", "start b", "start c",
    ]);
    assert_eq!(root.tree().get("root").unwrap().restarts_in_window, 1);
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn rest_for_one_restarts_the_failed_child_and_those_after_it() {
    let (root, diary, [_, b, _]) = three(RestForOne).await;
    b.send(Message::Fail("boom"));
    until_running(&root, "c", 2).await;
    settled(&root).await;
    diary.check(&["gone b", "stop c", "gone c", "start b", "start c"]);
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn siblings_that_fail_together_are_one_restart_round() {
    for strategy in [OneForAll, RestForOne] {
        let (root, diary, _) = three(strategy).await;
        for path in ["a", "b", "c"] {
            root.kill(path).unwrap();
        }
        until_running(&root, "c", 2).await;
        settled(&root).await;
        tokio::time::sleep(SECOND).await;
        let starts: Vec<_> =
            diary.take().into_iter().filter(|line| line.starts_with("start")).collect();
        assert_eq!(starts, ["start a", "start b", "start c"], "{strategy}");
        assert_eq!(root.tree().get("root").unwrap().restarts_in_window, 1, "{strategy}");
        root.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_before_a_running_round_extends_it() {
    let diary = Diary::default();
    let mut probes = ["a", "b", "c", "d"].map(|id| Probe::new(id, &diary));
    probes[3].stop_takes = SECOND / 2;
    let nodes = probes.clone().map(|probe| probe.node());
    let root = start(supervisor("root", RestForOne, MANY, nodes)).await.unwrap();
    probes[2].send(Message::Fail("boom"));
    until("d is being stopped", || state_of(&root, "d") == "stopping").await;
    diary.take();
    probes[1].send(Message::Fail("boom"));
    until_running(&root, "b", 2).await;
    settled(&root).await;
    diary.check(&["gone b", "stop d", "gone d", "start b", "start c", "start d"]);
    assert_eq!(generation(&root, "a"), 1);
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_child_that_fails_again_during_its_round_is_restarted_after_it() {
    let (root, _diary, [a, b, c]) = three(OneForAll).await;
    c.hanging_starts.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    b.send(Message::Fail("boom"));
    until("a is up again", || generation(&root, "c") == 2).await;
    a.send(Message::Fail("boom"));
    until("a is down again", || !a.mailbox.is_up()).await;
    // The round is still starting `c`; its end brings the next.
    root.kill("c").unwrap();
    until_running(&root, "c", 3).await;
    settled(&root).await;
    assert!(a.ping().await && b.ping().await && c.ping().await);
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_start_in_a_group_restart_is_retried_from_the_failed_child() {
    let (root, diary, [a, b, _]) = three(RestForOne).await;
    b.fail_next_starts(1);
    a.send(Message::Fail("boom"));
    until_running(&root, "c", 2).await;
    settled(&root).await;
    diary.check(&[
        "gone a", "stop c", "gone c", "stop b", "gone b", "start a", "fail b", "start b", "start c",
    ]);
    assert_eq!(root.tree().get("root").unwrap().restarts_in_window, 2);
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_temporary_child_is_stopped_and_forgotten_by_a_group_restart() {
    let diary = Diary::default();
    let [a, b] = ["a", "b"].map(|id| Probe::new(id, &diary));
    let nodes = [a.node(), b.node_with(Restart::Temporary, PATIENT)];
    let root = start(supervisor("root", OneForAll, MANY, nodes)).await.unwrap();
    diary.take();
    a.send(Message::Fail("boom"));
    until("forgotten", || state_of(&root, "b") == "absent").await;
    until_running(&root, "a", 2).await;
    diary.check(&["gone a", "stop b", "gone b", "start a"]);
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_transient_child_that_had_ended_well_is_started_by_a_group_restart() {
    let diary = Diary::default();
    let [a, b] = ["a", "b"].map(|id| Probe::new(id, &diary));
    let nodes = [a.node(), b.node_with(Restart::Transient, PATIENT)];
    let root = start(supervisor("root", OneForAll, MANY, nodes)).await.unwrap();
    b.send(Message::Stop(None));
    until("ended", || state_of(&root, "b") == "stopped").await;
    a.send(Message::Fail("boom"));
    until_running(&root, "b", 2).await;
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_restarted_supervisor_starts_its_temporary_children_too() {
    let diary = Diary::default();
    let [a, b] = ["a", "b"].map(|id| Probe::new(id, &diary));
    let nodes = [a.node(), b.node_with(Restart::Temporary, PATIENT)];
    let inner = supervisor("inner", OneForAll, MANY, nodes);
    let root = start(supervisor("root", OneForOne, MANY, [inner])).await.unwrap();
    b.send(Message::Stop(None));
    until("forgotten", || state_of(&root, "inner/b") == "absent").await;
    root.kill("inner").unwrap();
    until_running(&root, "inner", 2).await;
    assert!(b.ping().await);
    root.stop().await;
}

//! Starting and stopping.

use std::time::Duration;

use supervision::Strategy::{OneForAll, OneForOne};
use supervision::{ExitReason, Restart, Shutdown, StartError, start, supervisor};
use tokio::time::Instant;

use crate::probe::{Diary, MANY, Message, PATIENT, Probe, SECOND, state_of, until};

#[tokio::test(start_paused = true)]
async fn children_start_left_to_right_and_stop_right_to_left() {
    let diary = Diary::default();
    let [a, b, c, d] = ["a", "b", "c", "d"].map(|id| Probe::new(id, &diary));
    let inner = supervisor("inner", OneForOne, MANY, [b.node(), c.node()]);
    let tree = supervisor("root", OneForOne, MANY, [a.node(), inner, d.node()]);
    let root = start(tree).await.unwrap();
    diary.check(&["start a", "start b", "start c", "start d"]);
    root.stop().await;
    diary.check(&["stop d", "gone d", "stop c", "gone c", "stop b", "gone b", "stop a", "gone a"]);
}

#[tokio::test(start_paused = true)]
async fn a_failed_start_stops_what_had_started_in_reverse_and_fails() {
    let diary = Diary::default();
    let [a, b, c, d] = ["a", "b", "c", "d"].map(|id| Probe::new(id, &diary));
    c.fail_next_starts(1);
    let inner = supervisor("inner", OneForOne, MANY, [b.node(), c.node(), d.node()]);
    let error = start(supervisor("root", OneForOne, MANY, [a.node(), inner])).await.unwrap_err();
    diary.check(&["start a", "start b", "fail c", "stop b", "gone b", "stop a", "gone a"]);
    let StartError::Failed { path, reason } = error else { panic!("{error}") };
    assert_eq!(path, "root");
    assert_eq!(reason.to_string(), "failed: inner/c did not start: failed: told to fail");
}

#[tokio::test(start_paused = true)]
async fn a_child_that_overruns_its_shutdown_time_is_killed() {
    let diary = Diary::default();
    let mut slow = Probe::new("slow", &diary);
    slow.stop_takes = Duration::from_secs(60);
    let root = start(supervisor("root", OneForOne, MANY, [slow.node()])).await.unwrap();
    let begin = Instant::now();
    root.clone().stop().await;
    assert!(begin.elapsed() >= SECOND && begin.elapsed() < 2 * SECOND, "{:?}", begin.elapsed());
    diary.check(&["start slow", "gone slow"]);
    assert_eq!(root.tree().get("slow").unwrap().last_exit.as_ref().unwrap().reason, "killed");
}

#[tokio::test(start_paused = true)]
async fn a_child_in_a_long_handler_is_killed_when_its_time_is_over() {
    let diary = Diary::default();
    let probe = Probe::new("a", &diary);
    let root = start(supervisor("root", OneForOne, MANY, [probe.node()])).await.unwrap();
    probe.send(Message::Wait(Duration::from_secs(3600)));
    root.stop().await;
    diary.check(&["start a", "gone a"]);
}

#[tokio::test(start_paused = true)]
async fn a_brutally_killed_child_does_not_run_its_post_stop() {
    let diary = Diary::default();
    let probe = Probe::new("a", &diary);
    let node = probe.node_with(Restart::Permanent, Shutdown::BrutalKill);
    let root = start(supervisor("root", OneForOne, MANY, [node])).await.unwrap();
    root.stop().await;
    diary.check(&["start a", "gone a"]);
}

#[tokio::test(start_paused = true)]
async fn infinite_shutdown_waits_for_as_long_as_it_takes() {
    let diary = Diary::default();
    let mut slow = Probe::new("slow", &diary);
    slow.stop_takes = Duration::from_secs(3600);
    let node = slow.node_with(Restart::Permanent, Shutdown::Infinity);
    let root = start(supervisor("root", OneForOne, MANY, [node])).await.unwrap();
    root.stop().await;
    diary.check(&["start slow", "stop slow", "gone slow"]);
}

#[tokio::test(start_paused = true)]
async fn a_stop_during_a_group_restart_stops_everything_once() {
    let diary = Diary::default();
    let mut a = Probe::new("a", &diary);
    a.stop_takes = SECOND / 2;
    let b = Probe::new("b", &diary);
    let root = start(supervisor("root", OneForAll, MANY, [a.node(), b.node()])).await.unwrap();
    b.send(Message::Fail("boom"));
    until("a is being stopped", || state_of(&root, "a") == "stopping").await;
    root.clone().stop().await;
    diary.check(&["start a", "start b", "gone b", "stop a", "gone a"]);
    assert!(root.tree().nodes.iter().all(|node| node.state == "stopped"), "{:?}", root.tree());
}

#[tokio::test(start_paused = true)]
async fn a_hanging_start_does_not_keep_a_supervisor_from_stopping() {
    let diary = Diary::default();
    let [a, b] = ["a", "b"].map(|id| Probe::new(id, &diary));
    let root = start(supervisor("root", OneForOne, MANY, [a.node(), b.node()])).await.unwrap();
    a.hanging_starts.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    a.send(Message::Panic("boom"));
    until("hanging", || diary.take().contains(&"hang a".to_owned())).await;
    assert!(b.ping().await, "siblings go on");
    root.stop().await;
    diary.check(&["stop b", "gone b"]);
}

#[tokio::test(start_paused = true)]
async fn a_nested_supervisor_that_hangs_in_its_start_is_stopped_in_order() {
    let diary = Diary::default();
    let [a, b] = ["a", "b"].map(|id| Probe::new(id, &diary));
    let inner = supervisor("inner", OneForOne, MANY, [a.node(), b.node()]);
    let root = start(supervisor("root", OneForOne, MANY, [inner])).await.unwrap();
    b.hanging_starts.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    root.kill("inner").unwrap();
    until("hanging", || b.hanging_starts.load(std::sync::atomic::Ordering::SeqCst) == 0).await;
    diary.take();
    root.stop().await;
    diary.check(&["stop a", "gone a"]);
}

#[tokio::test(start_paused = true)]
async fn a_start_that_exceeds_its_start_timeout_has_failed() {
    let diary = Diary::default();
    let a = Probe::new("a", &diary);
    a.hanging_starts.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    let node = a.node().start_timeout(SECOND);
    let error = start(supervisor("root", OneForOne, MANY, [node])).await.unwrap_err();
    assert!(error.to_string().contains("not started within 1s"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_stopped_root_has_exited_with_shutdown() {
    let diary = Diary::default();
    let a = Probe::new("a", &diary);
    let node = a.node_with(Restart::Transient, PATIENT);
    let root = start(supervisor("root", OneForOne, MANY, [node])).await.unwrap();
    root.clone().stop().await;
    assert_eq!(root.exited().await, ExitReason::Shutdown(None));
    root.stop().await;
}

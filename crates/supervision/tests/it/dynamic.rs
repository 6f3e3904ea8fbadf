//! Children that come and go.

use std::sync::atomic::Ordering;

use supervision::Strategy::OneForOne;
use supervision::{Dynamic, Intensity, Restart, Root, StartError, start, supervisor};

use crate::probe::{
    Diary, MANY, Message, PATIENT, Probe, SECOND, generation, state_of, until, until_running,
};

async fn with(children: &Dynamic) -> (Root, Diary) {
    let node = supervision::dynamic("kids", MANY, children);
    let root = start(supervisor("root", OneForOne, MANY, [node])).await.unwrap();
    (root, Diary::default())
}

#[tokio::test(start_paused = true)]
async fn children_are_started_and_terminated_on_demand() {
    let children = Dynamic::default();
    let (root, diary) = with(&children).await;
    let [a, b] = ["a", "b"].map(|id| Probe::new(id, &diary));
    children.start_child(a.node()).await.unwrap();
    children.start_child(b.node()).await.unwrap();
    assert_eq!((children.child_ids(), children.count()), (vec!["a".into(), "b".into()], 2));
    assert_eq!(root.tree().get("kids/a").unwrap().depth, 2);
    children.terminate_child("a").await.unwrap();
    assert_eq!(children.child_ids(), ["b"]);
    assert!(children.terminate_child("a").await.is_err());
    diary.check(&["start a", "start b", "stop a", "gone a"]);
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_id_in_use_is_refused_without_harm() {
    let children = Dynamic::default();
    let (root, diary) = with(&children).await;
    let probe = Probe::new("a", &diary);
    children.start_child(probe.node()).await.unwrap();
    let error = children.start_child(probe.node()).await.unwrap_err();
    assert!(matches!(error, StartError::AlreadyStarted { .. }), "{error}");
    assert!(probe.ping().await);
    assert_eq!(generation(&root, "kids/a"), 1);
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_maximum_counts_children_that_wait_for_a_restart() {
    let children = Dynamic::with_max(1);
    let (root, diary) = with(&children).await;
    let [a, b] = ["a", "b"].map(|id| Probe::new(id, &diary));
    children.start_child(a.node()).await.unwrap();
    a.fail_next_starts(1000);
    a.send(Message::Fail("boom"));
    until("waiting", || generation(&root, "kids/a") > 4).await;
    let error = children.start_child(b.node()).await.unwrap_err();
    assert!(matches!(error, StartError::AtCapacity { max: 1 }), "{error}");
    children.terminate_child("a").await.unwrap();
    children.start_child(b.node()).await.unwrap();
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_first_start_that_fails_is_not_retried() {
    let children = Dynamic::default();
    let (root, diary) = with(&children).await;
    let probe = Probe::new("a", &diary);
    probe.fail_next_starts(1);
    let error = children.start_child(probe.node()).await.unwrap_err();
    assert_eq!(error.to_string(), "kids/a could not be started: failed: told to fail");
    assert_eq!(children.count(), 0);
    children.start_child(probe.node()).await.unwrap();
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn terminating_a_child_ends_its_pending_restart() {
    let children = Dynamic::default();
    let (root, diary) = with(&children).await;
    let probe = Probe::new("a", &diary);
    children.start_child(probe.node()).await.unwrap();
    probe.fail_next_starts(1000);
    probe.send(Message::Fail("boom"));
    until("waiting", || generation(&root, "kids/a") > 4).await;
    children.terminate_child("a").await.unwrap();
    probe.fail_next_starts(0);
    diary.take();
    tokio::time::sleep(60 * SECOND).await;
    diary.check(&[]);
    assert_eq!(children.count(), 0);
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn terminating_a_child_ends_its_start() {
    let children = Dynamic::default();
    let (root, diary) = with(&children).await;
    let probe = Probe::new("a", &diary);
    probe.hanging_starts.fetch_add(1, Ordering::SeqCst);
    let terminate = async {
        until("hanging", || diary.take() == ["hang a"]).await;
        children.terminate_child("a").await
    };
    let (started, terminated) = tokio::join!(children.start_child(probe.node()), terminate);
    assert!(matches!(started.unwrap_err(), StartError::Failed { .. }));
    terminated.unwrap();
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_start_does_not_delay_other_children() {
    let children = Dynamic::default();
    let (root, diary) = with(&children).await;
    let [a, b] = ["a", "b"].map(|id| Probe::new(id, &diary));
    a.hanging_starts.fetch_add(1, Ordering::SeqCst);
    tokio::select! {
        biased;
        _ = children.start_child(a.node()) => panic!("a hangs"),
        started = children.start_child(b.node()) => started.unwrap(),
    }
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn temporary_and_well_ended_children_are_forgotten() {
    let children = Dynamic::default();
    let (root, diary) = with(&children).await;
    let [a, b] = ["a", "b"].map(|id| Probe::new(id, &diary));
    children.start_child(a.node_with(Restart::Temporary, PATIENT)).await.unwrap();
    children.start_child(b.node_with(Restart::Transient, PATIENT)).await.unwrap();
    a.send(Message::Fail("boom"));
    b.send(Message::Stop(None));
    until("forgotten", || children.count() == 0).await;
    assert_eq!(state_of(&root, "kids/a"), "absent");
    root.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_that_ends_by_itself_can_be_started_again_at_once() {
    let children = Dynamic::default();
    let (root, diary) = with(&children).await;
    let probe = Probe::new("a", &diary);
    let node = probe.node_with(Restart::Transient, PATIENT);
    children.start_child(node.clone()).await.unwrap();
    for _ in 0..300 {
        probe.send(Message::Stop(None));
        while probe.mailbox.is_up() {
            tokio::task::yield_now().await;
        }
        children.start_child(node.clone()).await.unwrap();
    }
    assert_eq!(children.count(), 1);
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn children_do_not_survive_a_crash_of_their_supervisor_and_the_owner_can_tell() {
    let children = Dynamic::default();
    let (root, diary) = with(&children).await;
    let probe = Probe::new("a", &diary);
    children.start_child(probe.node()).await.unwrap();
    assert_eq!(children.generation(), 1);
    root.kill("kids").unwrap();
    until("a new generation", || children.generation() == 2 && children.is_running()).await;
    diary.check(&["start a", "gone a"]);
    assert_eq!(children.count(), 0);
    children.start_child(probe.node()).await.unwrap();
    assert!(probe.ping().await);
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn without_its_supervisor_nothing_is_started() {
    let children = Dynamic::default();
    let probe = Probe::new("a", &Diary::default());
    let error = children.start_child(probe.node()).await.unwrap_err();
    assert!(matches!(error, StartError::NotRunning), "{error}");
    let (root, _) = with(&children).await;
    root.stop().await;
    let error = children.start_child(probe.node()).await.unwrap_err();
    assert!(matches!(error, StartError::NotRunning), "{error}");
    assert!(children.terminate_child("a").await.is_err());
}

#[tokio::test(start_paused = true)]
async fn past_its_intensity_the_supervisor_of_dynamic_children_gives_up_too() {
    let children = Dynamic::default();
    let none = Intensity::new(0, SECOND);
    let node = supervision::dynamic("kids", none, &children);
    let root = start(supervisor("root", OneForOne, MANY, [node])).await.unwrap();
    let probe = Probe::new("a", &Diary::default());
    children.start_child(probe.node()).await.unwrap();
    probe.send(Message::Fail("boom"));
    until_running(&root, "kids", 2).await;
    assert_eq!(children.count(), 0);
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn dynamic_children_are_stopped_side_by_side() {
    let children = Dynamic::default();
    let (root, diary) = with(&children).await;
    let ids: [&'static str; 5] = ["a", "b", "c", "d", "e"];
    for id in ids {
        let mut probe = Probe::new(id, &diary);
        probe.stop_takes = SECOND * 9 / 10;
        children.start_child(probe.node()).await.unwrap();
    }
    let begin = tokio::time::Instant::now();
    root.stop().await;
    assert!(begin.elapsed() < 2 * SECOND, "{:?}", begin.elapsed());
    assert_eq!(diary.take().iter().filter(|line| line.starts_with("stop")).count(), 5);
}

//! OTP's functions on a supervisor, one rule a test.

use std::time::Duration;

use supervision::Strategy::{OneForAll, OneForOne, RestForOne};
use supervision::{
    AutoShutdown, ChildCounts, ChildError, ChildKind, ChildState, Intensity, Restart, Root,
    Shutdown, StartError, Strategy, SupervisorHandle, start, supervisor,
};

use crate::probe::{Diary, MANY, Message, PATIENT, Probe, state_of, until_running};

async fn run(strategy: Strategy, probes: &[&Probe]) -> (Root, SupervisorHandle) {
    let children: Vec<_> = probes.iter().map(|probe| probe.node()).collect();
    let root = start(supervisor("root", strategy, MANY, children)).await.unwrap();
    let handle = root.supervisor("root").unwrap();
    (root, handle)
}

async fn ids(handle: &SupervisorHandle) -> Vec<String> {
    handle.which_children().await.unwrap().into_iter().map(|child| child.id).collect()
}

#[tokio::test(start_paused = true)]
async fn a_started_child_comes_last_and_is_part_of_the_group() {
    let diary = Diary::default();
    let [a, b] = ["a", "b"].map(|id| Probe::new(id, &diary));
    let (root, handle) = run(RestForOne, &[&a]).await;
    handle.start_child(b.node()).await.unwrap();
    assert_eq!(ids(&handle).await, ["a", "b"]);
    root.kill("a").unwrap();
    until_running(&root, "b", 2).await;
    root.stop().await;
    assert_eq!(diary.take().last().unwrap(), "gone a");
}

#[tokio::test(start_paused = true)]
async fn a_child_that_does_not_start_is_not_kept() {
    let diary = Diary::default();
    let a = Probe::new("a", &diary);
    let (root, handle) = run(OneForOne, &[]).await;
    a.fail_next_starts(1);
    let failed = handle.start_child(a.node()).await;
    assert!(matches!(failed, Err(StartError::Failed { .. })), "{failed:?}");
    assert_eq!(handle.count_children().await.unwrap(), ChildCounts::default());
    handle.start_child(a.node()).await.unwrap();
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_terminated_child_is_kept_and_can_be_restarted_or_deleted() {
    let a = Probe::new("a", &Diary::default());
    let (root, handle) = run(OneForOne, &[&a]).await;
    let running = handle.restart_child("a").await;
    assert!(matches!(running, Err(ChildError::Running { .. })), "{running:?}");
    let running = handle.delete_child("a").await;
    assert!(matches!(running, Err(ChildError::Running { .. })), "{running:?}");
    handle.terminate_child("a").await.unwrap();
    handle.terminate_child("a").await.unwrap();
    assert_eq!(state_of(&root, "a"), "stopped");
    let present = handle.start_child(a.node()).await;
    assert!(matches!(present, Err(StartError::AlreadyPresent { .. })), "{present:?}");
    handle.restart_child("a").await.unwrap();
    assert_eq!(state_of(&root, "a"), "running");
    let started = handle.start_child(a.node()).await;
    assert!(matches!(started, Err(StartError::AlreadyStarted { .. })), "{started:?}");
    handle.terminate_child("a").await.unwrap();
    handle.delete_child("a").await.unwrap();
    assert_eq!(state_of(&root, "a"), "absent");
    let unknown = handle.delete_child("a").await;
    assert!(matches!(unknown, Err(ChildError::NotFound { .. })), "{unknown:?}");
    handle.start_child(a.node()).await.unwrap();
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_restart_that_fails_leaves_the_child_down() {
    let a = Probe::new("a", &Diary::default());
    let (root, handle) = run(OneForOne, &[&a]).await;
    handle.terminate_child("a").await.unwrap();
    a.fail_next_starts(1);
    let failed = handle.restart_child("a").await;
    assert!(matches!(failed, Err(ChildError::Failed { .. })), "{failed:?}");
    assert_eq!(handle.which_children().await.unwrap()[0].state, ChildState::Stopped);
    handle.restart_child("a").await.unwrap();
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_terminated_temporary_child_is_forgotten() {
    let a = Probe::new("a", &Diary::default());
    let (root, handle) = run(OneForOne, &[]).await;
    handle.start_child(a.node_with(Restart::Temporary, PATIENT)).await.unwrap();
    handle.terminate_child("a").await.unwrap();
    assert_eq!(ids(&handle).await, [""; 0]);
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_request_that_meets_a_group_restart_is_answered_after_it() {
    let diary = Diary::default();
    let [a, mut b] = ["a", "b"].map(|id| Probe::new(id, &diary));
    b.stop_takes = Duration::from_millis(500);
    let (root, handle) = run(OneForAll, &[&a, &b]).await;
    root.kill("a").unwrap();
    crate::probe::until("b is stopping", || state_of(&root, "b") == "stopping").await;
    handle.terminate_child("a").await.unwrap();
    assert_eq!(state_of(&root, "a"), "stopped");
    assert_eq!(state_of(&root, "b"), "running");
    assert_eq!(crate::probe::generation(&root, "a"), 2);
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_restarted_supervisor_has_the_children_that_were_written_down() {
    let diary = Diary::default();
    let [a, b] = ["a", "b"].map(|id| Probe::new(id, &diary));
    let inner = supervisor("inner", OneForOne, MANY, [a.node()]);
    let root = start(supervisor("root", OneForOne, MANY, [inner])).await.unwrap();
    let handle = root.supervisor("inner").unwrap();
    handle.terminate_child("a").await.unwrap();
    handle.delete_child("a").await.unwrap();
    handle.start_child(b.node()).await.unwrap();
    root.kill("inner").unwrap();
    until_running(&root, "inner", 2).await;
    assert_eq!(ids(&handle).await, ["a"]);
    assert!(!b.mailbox.is_up());
    root.stop().await;
    assert!(matches!(handle.which_children().await, Err(ChildError::NotRunning)));
}

#[tokio::test(start_paused = true)]
async fn children_are_counted_and_described() {
    let diary = Diary::default();
    let [a, b] = ["a", "b"].map(|id| Probe::new(id, &diary));
    let children = [
        a.node(),
        b.node_with(Restart::Transient, Shutdown::BrutalKill).significant(),
        supervisor("inner", OneForOne, MANY, []),
    ];
    let tree =
        supervisor("root", OneForOne, MANY, children).auto_shutdown(AutoShutdown::AllSignificant);
    let root = start(tree).await.unwrap();
    let handle = root.supervisor("root").unwrap();
    handle.terminate_child("a").await.unwrap();
    let counts = ChildCounts { specs: 3, active: 2, supervisors: 1, workers: 2 };
    assert_eq!(handle.count_children().await.unwrap(), counts);
    let spec = handle.get_childspec("b").unwrap();
    assert_eq!((spec.restart, spec.shutdown), (Restart::Transient, Shutdown::BrutalKill));
    assert_eq!((spec.kind, spec.significant), (ChildKind::Worker, true));
    assert!(root.supervisor("a").is_none(), "a worker");
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_handle_kills_what_is_below_it() {
    let a = Probe::new("a", &Diary::default());
    let inner = supervisor("inner", OneForOne, MANY, [a.node()]);
    let root = start(supervisor("root", OneForOne, MANY, [inner])).await.unwrap();
    let handle = root.supervisor("inner").unwrap();
    handle.kill("a").unwrap();
    until_running(&root, "inner/a", 2).await;
    assert!(handle.kill("b").is_err());
    a.send(Message::Stop(None));
    until_running(&root, "inner/a", 3).await;
    root.stop().await;
}

#[test]
fn the_defaults_are_otps() {
    assert_eq!(Restart::default(), Restart::Permanent);
    assert_eq!(Strategy::default(), OneForOne);
    assert_eq!(AutoShutdown::default(), AutoShutdown::Never);
    assert_eq!(Intensity::default(), Intensity::new(1, Duration::from_secs(5)));
    assert_eq!(Shutdown::default(), Shutdown::Timeout(Duration::from_secs(5)));
}

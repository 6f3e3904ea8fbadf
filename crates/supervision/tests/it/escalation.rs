//! Intensity, escalation, and trees of supervisors.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use supervision::Strategy::OneForOne;
use supervision::{
    ExitReason, Intensity, Mailbox, Restart, Shutdown, Thread, owned_thread, start, supervisor,
    worker,
};
use tokio::time::Instant;

use crate::probe::{
    Diary, MANY, Message, Probe, SECOND, generation, state_of, until, until_running,
};

const NONE: Intensity = Intensity::new(0, SECOND);

#[tokio::test(start_paused = true)]
async fn past_its_intensity_a_supervisor_stops_its_children_in_reverse_and_exits_with_shutdown() {
    let diary = Diary::default();
    let [a, b, c] = ["a", "b", "c"].map(|id| Probe::new(id, &diary));
    let nodes = [a.node(), b.node(), c.node()];
    let root = start(supervisor("root", OneForOne, NONE, nodes)).await.unwrap();
    diary.take();
    b.send(Message::Fail("boom"));
    let reason = root.exited().await;
    assert_eq!(reason, ExitReason::Shutdown(Some("restart intensity exceeded".into())));
    diary.check(&["gone b", "stop c", "gone c", "stop a", "gone a"]);
}

#[tokio::test(start_paused = true)]
async fn a_supervisor_that_gave_up_is_restarted_by_its_own() {
    let diary = Diary::default();
    let [a, b] = ["a", "b"].map(|id| Probe::new(id, &diary));
    let inner = supervisor("inner", OneForOne, NONE, [a.node(), b.node()]);
    let root = start(supervisor("root", OneForOne, MANY, [inner])).await.unwrap();
    a.send(Message::Fail("boom"));
    until_running(&root, "inner", 2).await;
    until_running(&root, "inner/b", 2).await;
    let tree = root.tree();
    assert_eq!(tree.get("root").unwrap().restarts_in_window, 1);
    assert_eq!(tree.get("inner").unwrap().restarts_in_window, 0);
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_supervisor_that_cools_down_does_not_give_up() {
    let probe = Probe::new("a", &Diary::default());
    let twice = Intensity::new(2, 60 * SECOND);
    let tree = supervisor("root", OneForOne, twice, [probe.node()]).cool_down(20 * SECOND);
    let root = start(tree).await.unwrap();
    for least in 2..=3 {
        probe.send(Message::Fail("boom"));
        until_running(&root, "a", least).await;
    }
    for least in 4..=6 {
        let begin = Instant::now();
        probe.send(Message::Fail("boom"));
        until_running(&root, "a", least).await;
        assert!(begin.elapsed() >= 20 * SECOND, "{:?}", begin.elapsed());
    }
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_killed_supervisor_is_restarted_when_all_below_it_are_gone() {
    let diary = Diary::default();
    let [a, b] = ["a", "b"].map(|id| Probe::new(id, &diary));
    let deep = supervisor("deep", OneForOne, MANY, [b.node()]);
    let inner = supervisor("inner", OneForOne, MANY, [a.node(), deep]);
    let root = start(supervisor("root", OneForOne, MANY, [inner])).await.unwrap();
    diary.take();
    root.kill("inner").unwrap();
    until_running(&root, "inner", 2).await;
    let lines = diary.take();
    assert_eq!(lines[2..], ["start a", "start b"], "{lines:?}");
    assert!(lines[..2].iter().all(|line| line.starts_with("gone")), "{lines:?}");
    assert!(b.ping().await);
    assert_eq!(generation(&root, "inner/deep"), 2);
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_root_that_cools_down_comes_back_when_it_is_killed_itself() {
    let probe = Probe::new("a", &Diary::default());
    let tree = supervisor("root", OneForOne, MANY, [probe.node()]).cool_down(SECOND);
    let root = start(tree).await.unwrap();
    for least in 2..5 {
        root.kill("root").unwrap();
        until_running(&root, "root", least).await;
        assert!(probe.ping().await);
    }
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_root_that_may_give_up_ends_when_it_is_killed() {
    let diary = Diary::default();
    let probe = Probe::new("a", &diary);
    let root = start(supervisor("root", OneForOne, MANY, [probe.node()])).await.unwrap();
    root.kill("root").unwrap();
    assert_eq!(root.exited().await, ExitReason::Killed);
    diary.check(&["start a", "gone a"]);
}

/// Owns a thread that ends when it is told to, not when its owner dies.
#[derive(Clone, Debug)]
struct Threaded;

#[derive(Clone, Debug)]
struct Release(Arc<AtomicBool>);

impl Actor for Threaded {
    type Arguments = Release;
    type Msg = ();
    type State = Thread;

    async fn pre_start(
        &self,
        myself: ActorRef<()>,
        release: Release,
    ) -> Result<Thread, ActorProcessingErr> {
        let body = move || {
            let (_sender, receiver) = mpsc::channel::<()>();
            while !release.0.load(Ordering::SeqCst) {
                let _ = receiver.recv_timeout(Duration::from_millis(1));
            }
        };
        Ok(owned_thread(&myself, "threaded", body)?)
    }
}

#[tokio::test(start_paused = true)]
async fn a_child_that_cannot_be_stopped_is_given_up_on_and_replaced() {
    let release = Release(Arc::default());
    let mailbox = Mailbox::new();
    let node = worker(
        "stuck",
        Restart::Permanent,
        Shutdown::Infinity,
        &mailbox,
        Threaded,
        release.clone(),
    );
    let root = start(supervisor("root", OneForOne, MANY, [node])).await.unwrap();
    let begin = Instant::now();
    root.kill("stuck").unwrap();
    until_running(&root, "stuck", 2).await;
    assert!(begin.elapsed() >= 5 * SECOND, "not without waiting for it first");
    assert_eq!(root.orphan_count(), 1);
    assert!(mailbox.is_up());
    let begin = Instant::now();
    root.clone().stop().await;
    assert!(begin.elapsed() < 10 * SECOND, "{:?}", begin.elapsed());
    assert_eq!(root.tree().orphans, 2);
    release.0.store(true, Ordering::SeqCst);
}

/// Blocks its thread in the handler, as no actor should.
#[derive(Clone, Debug)]
struct Blocking;

impl Actor for Blocking {
    type Arguments = Release;
    type Msg = ();
    type State = Release;

    async fn pre_start(
        &self,
        _myself: ActorRef<()>,
        release: Release,
    ) -> Result<Release, ActorProcessingErr> {
        Ok(release)
    }

    async fn handle(
        &self,
        _myself: ActorRef<()>,
        (): (),
        release: &mut Release,
    ) -> Result<(), ActorProcessingErr> {
        while !release.0.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_child_that_blocks_is_given_up_on_and_its_end_changes_nothing() {
    let release = Release(Arc::default());
    let mailbox = Mailbox::new();
    let node = worker(
        "blocking",
        Restart::Permanent,
        Shutdown::Timeout(SECOND / 10),
        &mailbox,
        Blocking,
        release.clone(),
    );
    let probe = Probe::new("a", &Diary::default());
    let root = start(supervisor("root", OneForOne, MANY, [node, probe.node()])).await.unwrap();
    mailbox.send(()).unwrap();
    until("in the handler", || root.tree().get("blocking").unwrap().handled == 1).await;
    root.kill("blocking").unwrap();
    assert!(probe.ping().await);
    // ractor does not report the death of an actor that does not yield.
    until_running(&root, "blocking", 2).await;
    assert_eq!(root.orphan_count(), 1);
    let address = mailbox.actor().unwrap();
    release.0.store(true, Ordering::SeqCst);
    mailbox.send(()).unwrap();
    until("handled", || root.tree().get("blocking").unwrap().handled == 1).await;
    assert_eq!(mailbox.actor().unwrap().get_id(), address.get_id());
    assert_eq!(generation(&root, "blocking"), 2);
    root.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_blocking_child_does_not_hold_up_the_stop_for_ever() {
    let release = Release(Arc::default());
    let mailbox = Mailbox::new();
    let node = worker(
        "blocking",
        Restart::Permanent,
        Shutdown::Timeout(SECOND / 10),
        &mailbox,
        Blocking,
        release.clone(),
    );
    let root = start(supervisor("root", OneForOne, MANY, [node])).await.unwrap();
    mailbox.send(()).unwrap();
    until("in the handler", || root.tree().get("blocking").unwrap().handled == 1).await;
    let begin = Instant::now();
    root.clone().stop().await;
    assert!(begin.elapsed() < 8 * SECOND, "{:?}", begin.elapsed());
    assert_eq!(root.orphan_count(), 1);
    assert_eq!(state_of(&root, "blocking"), "stopped");
    release.0.store(true, Ordering::SeqCst);
}

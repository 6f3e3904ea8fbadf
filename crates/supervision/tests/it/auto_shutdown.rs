//! A supervisor that ends with its significant children.

use supervision::Strategy::OneForOne;
use supervision::{AutoShutdown, ExitReason, Node, Restart, Root, StartError, start, supervisor};

use crate::probe::{Diary, MANY, Message, PATIENT, Probe, state_of, until};

fn group(auto_shutdown: AutoShutdown, children: impl IntoIterator<Item = Node>) -> Node {
    supervisor("group", OneForOne, MANY, children)
        .auto_shutdown(auto_shutdown)
        .restart(Restart::Transient)
}

async fn run(group: Node) -> Root {
    start(supervisor("root", OneForOne, MANY, [group])).await.unwrap()
}

async fn until_stopped(root: &Root) {
    until("stopped", || state_of(root, "group") == "stopped").await;
}

#[tokio::test(start_paused = true)]
async fn any_significant_ends_the_supervisor_with_the_first() {
    let diary = Diary::default();
    let [a, b] = ["a", "b"].map(|id| Probe::new(id, &diary));
    let children = [&a, &b].map(|probe| probe.node_with(Restart::Transient, PATIENT).significant());
    let root = run(group(AutoShutdown::AnySignificant, children)).await;
    a.send(Message::Stop(None));
    until_stopped(&root).await;
    assert!(!b.mailbox.is_up());
    let reason = root.tree().get("group").and_then(|node| node.last_exit.clone()).unwrap().reason;
    assert!(reason.starts_with("shutdown"), "{reason}");
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn all_significant_ends_the_supervisor_with_the_last() {
    let diary = Diary::default();
    let [a, b, c] = ["a", "b", "c"].map(|id| Probe::new(id, &diary));
    let children = [
        a.node_with(Restart::Transient, PATIENT).significant(),
        b.node_with(Restart::Temporary, PATIENT).significant(),
        c.node(),
    ];
    let root = run(group(AutoShutdown::AllSignificant, children)).await;
    a.send(Message::Stop(None));
    until("a stopped", || state_of(&root, "group/a") == "stopped").await;
    assert_eq!(state_of(&root, "group"), "running");
    b.send(Message::Fail("boom"));
    until_stopped(&root).await;
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_significant_child_that_is_restarted_or_terminated_ends_nothing() {
    let diary = Diary::default();
    let a = Probe::new("a", &diary);
    let child = a.node_with(Restart::Transient, PATIENT).significant();
    let root = run(group(AutoShutdown::AnySignificant, [child])).await;
    a.send(Message::Fail("boom"));
    crate::probe::until_running(&root, "group/a", 2).await;
    root.supervisor("group").unwrap().terminate_child("a").await.unwrap();
    assert_eq!(state_of(&root, "group"), "running");
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_root_may_end_by_itself() {
    let a = Probe::new("a", &Diary::default());
    let child = a.node_with(Restart::Temporary, PATIENT).significant();
    let tree = supervisor("root", OneForOne, MANY, [child])
        .restart(Restart::Temporary)
        .auto_shutdown(AutoShutdown::AnySignificant);
    let root = start(tree).await.unwrap();
    a.send(Message::Fail("boom"));
    assert!(matches!(root.exited().await, ExitReason::Shutdown(_)));
}

#[tokio::test(start_paused = true)]
async fn a_significant_child_must_be_able_to_end_and_to_matter() {
    let a = Probe::new("a", &Diary::default());
    let matters_not =
        group(AutoShutdown::Never, [a.node_with(Restart::Transient, PATIENT).significant()]);
    let ends_not = group(AutoShutdown::AnySignificant, [a.node().significant()]);
    for node in [matters_not, ends_not] {
        let refused = start(supervisor("root", OneForOne, MANY, [node])).await;
        assert!(matches!(refused, Err(StartError::Invalid { .. })), "{refused:?}");
    }
}

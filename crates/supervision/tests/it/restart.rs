//! Which exits lead to a restart, and when.

use std::time::Duration;

use supervision::Strategy::OneForOne;
use supervision::{Intensity, Restart, Root, start, supervisor};
use tokio::time::Instant;

use crate::probe::{
    Diary, MANY, Message, PATIENT, Probe, SECOND, generation, state_of, until, until_running,
};

async fn alone(restart: Restart) -> (Root, Probe) {
    let probe = Probe::new("a", &Diary::default());
    let node = probe.node_with(restart, PATIENT);
    let root = start(supervisor("root", OneForOne, MANY, [node])).await.unwrap();
    (root, probe)
}

async fn check_restarted(restart: Restart, message: Message, reason: &str) {
    let (root, probe) = alone(restart).await;
    probe.send(message);
    until_running(&root, "a", 2).await;
    assert!(probe.ping().await, "{restart} after {reason}");
    let node = root.tree().get("a").cloned().unwrap();
    assert_eq!((node.generation, node.restarts_total), (2, 1), "{restart} after {reason}");
    assert_eq!(node.last_exit.unwrap().reason, reason);
    root.stop().await;
}

async fn check_not_restarted(restart: Restart, message: Message, then: &'static str) {
    let (root, probe) = alone(restart).await;
    let text = format!("{message:?}");
    probe.send(message);
    until("ended", || state_of(&root, "a") == then).await;
    tokio::time::sleep(10 * SECOND).await;
    assert_eq!(state_of(&root, "a"), then, "{restart} after {text}");
    assert!(!probe.mailbox.is_up());
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_permanent_child_is_always_restarted() {
    use Restart::Permanent;
    check_restarted(Permanent, Message::Stop(None), "normal").await;
    check_restarted(Permanent, Message::Stop(Some("shutdown")), "shutdown").await;
    check_restarted(Permanent, Message::Stop(Some("shutdown: idle")), "shutdown: idle").await;
    check_restarted(Permanent, Message::Stop(Some("boom")), "failed: boom").await;
    check_restarted(Permanent, Message::Fail("boom"), "failed: boom").await;
}

#[tokio::test(start_paused = true)]
async fn a_transient_child_is_restarted_after_an_abnormal_exit_only() {
    use Restart::Transient;
    check_restarted(Transient, Message::Stop(Some("boom")), "failed: boom").await;
    check_restarted(Transient, Message::Fail("boom"), "failed: boom").await;
    check_not_restarted(Transient, Message::Stop(None), "stopped").await;
    check_not_restarted(Transient, Message::Stop(Some("shutdown")), "stopped").await;
    check_not_restarted(Transient, Message::Stop(Some("shutdown: idle")), "stopped").await;
}

#[tokio::test(start_paused = true)]
async fn a_temporary_child_is_never_restarted_and_forgotten() {
    use Restart::Temporary;
    check_not_restarted(Temporary, Message::Stop(None), "absent").await;
    check_not_restarted(Temporary, Message::Fail("boom"), "absent").await;
    check_not_restarted(Temporary, Message::Panic("boom"), "absent").await;
}

#[tokio::test(start_paused = true)]
async fn a_killed_transient_child_is_restarted() {
    let (root, probe) = alone(Restart::Transient).await;
    root.kill("a").unwrap();
    until_running(&root, "a", 2).await;
    assert!(probe.ping().await);
    assert_eq!(root.tree().get("a").unwrap().last_exit.as_ref().unwrap().reason, "killed");
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_kill_interrupts_a_long_handler() {
    let (root, probe) = alone(Restart::Permanent).await;
    probe.send(Message::Wait(Duration::from_secs(3600)));
    root.kill("a").unwrap();
    until_running(&root, "a", 2).await;
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_a_reason_with_its_message_and_place() {
    let (root, probe) = alone(Restart::Permanent).await;
    probe.send(Message::Panic("boom"));
    until_running(&root, "a", 2).await;
    let reason = root.tree().get("a").unwrap().last_exit.clone().unwrap().reason;
    assert!(reason.starts_with("panicked at crates/supervision/tests/it/probe.rs:"), "{reason}");
    assert!(reason.ends_with(": boom"), "{reason}");
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_start_in_a_restart_is_retried_and_each_try_counts() {
    let (root, probe) = alone(Restart::Transient).await;
    probe.fail_next_starts(2);
    probe.send(Message::Fail("boom"));
    until_running(&root, "a", 4).await;
    let tree = root.tree();
    assert_eq!(tree.get("a").unwrap().restarts_total, 3);
    assert_eq!(tree.get("root").unwrap().restarts_in_window, 3);
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn restarts_out_of_the_period_do_not_count() {
    let probe = Probe::new("a", &Diary::default());
    let once = Intensity::new(1, 5 * SECOND);
    let root = start(supervisor("root", OneForOne, once, [probe.node()])).await.unwrap();
    for least in 2..10 {
        probe.send(Message::Fail("boom"));
        until_running(&root, "a", least).await;
        tokio::time::sleep(6 * SECOND).await;
    }
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_first_restart_is_immediate_and_later_ones_wait_longer() {
    let (root, probe) = alone(Restart::Permanent).await;
    let mut delays = Vec::new();
    for least in 2..=8 {
        let begin = Instant::now();
        probe.send(Message::Fail("boom"));
        until_running(&root, "a", least).await;
        delays.push(begin.elapsed());
    }
    for (delay, full) in delays.iter().zip([0, 10, 50, 250, 1250, 5000, 5000]) {
        let full = Duration::from_millis(full);
        let slack = Duration::from_millis(10);
        assert!(*delay >= full / 2 && *delay <= full + slack, "{delays:?}");
    }
    tokio::time::sleep(6 * SECOND).await;
    let begin = Instant::now();
    probe.send(Message::Fail("boom"));
    until_running(&root, "a", 9).await;
    assert!(begin.elapsed() < Duration::from_millis(10), "healthy since, {:?}", begin.elapsed());
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_a_pending_restart() {
    let diary = Diary::default();
    let probe = Probe::new("a", &diary);
    let root = start(supervisor("root", OneForOne, MANY, [probe.node()])).await.unwrap();
    probe.fail_next_starts(100);
    probe.send(Message::Fail("boom"));
    until("in a long delay", || generation(&root, "a") >= 6).await;
    let begin = Instant::now();
    root.clone().stop().await;
    assert!(begin.elapsed() < Duration::from_millis(10), "{:?}", begin.elapsed());
    let generation_then = generation(&root, "a");
    tokio::time::sleep(60 * SECOND).await;
    assert_eq!(generation(&root, "a"), generation_then);
    assert_eq!(state_of(&root, "a"), "stopped");
}

//! Ending a child: ask, wait its time, kill, and make sure that it is gone.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::Message;
use crate::incarnation::Incarnation;
use crate::report;
use crate::slot::{Slot, Standing};
use crate::spec::Shutdown;

/// A killed actor ends at its next await. One that has not come to any in this
/// time is blocked or spins, and waiting longer would block the tree as well.
const GIVE_UP_AFTER: Duration = Duration::from_secs(5);

/// Returns when the child and all below it are gone or given up on. Also right
/// for a child that is starting, has ended by itself, or was never started.
/// `then` is what it is afterwards: stopped, or about to be started again.
pub(crate) async fn end(slot: &Arc<Slot>, then: Standing) {
    let running = slot.live().filter(|incarnation| !slot.has_noted_exit(incarnation));
    match running {
        Some(incarnation) => {
            slot.set_standing(Standing::Stopping);
            let overrun = ask(slot, &incarnation).await;
            purge(slot).await;
            if let Some(crash) = incarnation.crash() {
                report::shutdown_error(slot, crash);
            } else if let Some(time) = overrun {
                let reason = format_args!("killed, not stopped within {time:?}");
                report::shutdown_error(slot, &reason);
            }
            slot.infer_exit(&incarnation);
        }
        // It has ended, but its state or what it supervised may be left.
        None => purge(slot).await,
    }
    slot.set_standing(then);
}

/// Returns the time it was given, if that was not enough.
async fn ask(slot: &Slot, incarnation: &Incarnation) -> Option<Duration> {
    incarnation.is_asked_to_stop.set();
    let cell = incarnation.cell()?;
    // A worker cannot be asked before it has started. A supervisor can, and
    // then stops in order those of its children that had been.
    let is_supervisor = slot.table.is_some();
    if !is_supervisor && !incarnation.has_started() {
        return None;
    }
    let limit = match slot.node.shutdown_kind() {
        Shutdown::BrutalKill => return None,
        Shutdown::Timeout(time) => Some(time),
        Shutdown::Infinity => None,
    };
    cell.stop(Some("shutdown".to_owned()));
    // Not until it is gone: what a stopped actor leaves behind is not covered
    // by its own time, which may be infinite.
    let stopped = async {
        tokio::select! {
            _ = cell.wait(None) => {}
            () = incarnation.gone.wait() => {}
        }
    };
    match limit {
        None => {
            stopped.await;
            None
        }
        Some(time) => tokio::time::timeout(time, stopped).await.err().map(|_| time),
    }
}

/// Kills what is left of a subtree and waits until it is gone.
pub(crate) async fn purge(slot: &Arc<Slot>) {
    let mut left = Vec::new();
    kill_subtree(slot, None, &mut left);
    let deadline = Instant::now() + GIVE_UP_AFTER;
    for (each, incarnation) in left {
        let gone = incarnation.gone.wait();
        if tokio::time::timeout_at(deadline, gone).await.is_err() {
            give_up_on(&each, &incarnation);
        }
        each.infer_exit(&incarnation);
    }
    note_all_stopped(slot);
}

/// As if someone outside had killed this child. Nothing if it is not running.
///
/// The supervisor hears of the death from ractor; what is returned makes sure
/// that it also hears of a death that does not happen.
pub(crate) fn kill(slot: &Arc<Slot>) -> Option<impl Future<Output = ()> + Send + 'static> {
    let incarnation = slot.live()?;
    kill_subtree(slot, Some(incarnation.generation), &mut Vec::new());
    let slot = Arc::clone(slot);
    Some(async move {
        if tokio::time::timeout(GIVE_UP_AFTER, incarnation.gone.wait()).await.is_ok() {
            return;
        }
        give_up_on(&slot, &incarnation);
        let supervisor = slot.facts.lock().supervisor.clone();
        let generation = incarnation.generation;
        if let Some(supervisor) = supervisor {
            // If it is down, its own supervisor takes care of the rest.
            let _ = supervisor.send_message(Message::ChildGivenUp { key: slot.key, generation });
        }
    })
}

/// Nobody else notes what became of children whose supervisor is gone.
fn note_all_stopped(slot: &Slot) {
    for child in slot.children() {
        if let Some(incarnation) = child.incarnation() {
            child.infer_exit(&incarnation);
        }
        child.set_standing(Standing::Stopped);
        note_all_stopped(&child);
    }
    if slot.node.group().is_some_and(|group| group.dynamic().is_some()) {
        slot.forget_children();
    }
}

/// Kills one generation of the top, or whichever it is, and all below it.
fn kill_subtree(
    slot: &Arc<Slot>,
    generation: Option<u64>,
    killed: &mut Vec<(Arc<Slot>, Arc<Incarnation>)>,
) {
    // First no new children, then those that there are.
    let children = slot.close(generation);
    if let Some(incarnation) = slot.live() {
        incarnation.kill();
        killed.push((Arc::clone(slot), incarnation));
    }
    for child in children {
        kill_subtree(&child, None, killed);
    }
}

fn give_up_on(slot: &Slot, incarnation: &Incarnation) {
    // Whatever still waits for it may go on.
    incarnation.given_up.set();
    incarnation.gone.set();
    slot.forest.orphan_count.fetch_add(1, Ordering::Relaxed);
    report::shutdown_error(slot, &format_args!("killed, but still there after {GIVE_UP_AFTER:?}"));
}

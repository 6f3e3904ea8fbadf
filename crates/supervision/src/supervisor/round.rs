//! One restart round: stop some children, wait, start some again.
//!
//! A round is a task of its own, so that its supervisor can meanwhile be asked
//! to stop, to end the round, or to start a larger one. It works on slots only;
//! what its outcome means is decided by the supervisor.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::task::AbortOnDropHandle;

use super::stop::{end, purge};
use super::{Context, Watcher};
use crate::incarnation::Incarnation;
use crate::slot::{Slot, Standing};
use crate::{ExitReason, report};

#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) round: u64,
    /// Tasks that this round replaces.
    pub(crate) replaced: Vec<AbortOnDropHandle<()>>,
    /// In the order of starting.
    pub(crate) slots: Vec<Slotted>,
    pub(crate) delay: Duration,
    pub(crate) is_exclusive: bool,
}

#[derive(Debug)]
pub(crate) struct Slotted {
    pub(crate) slot: Arc<Slot>,
    /// False for a temporary child, which a group restart stops and forgets.
    pub(crate) starts_again: bool,
}

#[derive(Debug)]
pub(crate) enum Failure {
    Start {
        key: u64,
        reason: ExitReason,
    },
    /// The supervisor itself has been killed and only has not noticed yet.
    Closed,
}

pub(crate) async fn run(context: &Arc<Context>, plan: Plan) -> Result<(), Failure> {
    // Group rounds replace each other, several at once perhaps; one at a time
    // touches the children.
    let _turn = if plan.is_exclusive { Some(context.turn.lock().await) } else { None };
    settle(plan.replaced).await;
    for slotted in plan.slots.iter().rev() {
        let then = if slotted.starts_again { Standing::Restarting } else { Standing::Stopped };
        end(&slotted.slot, then).await;
    }
    if !plan.delay.is_zero() {
        // Even a sleep of nothing takes a millisecond.
        tokio::time::sleep(plan.delay).await;
    }
    for slotted in plan.slots.iter().filter(|slotted| slotted.starts_again) {
        start(context, &slotted.slot, plan.round).await?;
    }
    Ok(())
}

/// Waits until aborted tasks have really ended, so that they start nothing more.
pub(crate) async fn settle(tasks: Vec<AbortOnDropHandle<()>>) {
    for task in tasks {
        task.abort();
        // The result only says that it was aborted.
        let _ = task.await;
    }
}

/// Returns when the child's `pre_start` has ended.
pub(crate) async fn start(
    context: &Arc<Context>,
    slot: &Arc<Slot>,
    round: u64,
) -> Result<(), Failure> {
    let watcher = Watcher { context: Arc::clone(context), key: slot.key };
    let supervisor = Some((&*context.slot, context.generation));
    let Some((incarnation, starting)) = slot.launch(supervisor, round, Some(watcher)) else {
        return Err(Failure::Closed);
    };
    let limit = async {
        match slot.node.start_limit() {
            None => std::future::pending().await,
            Some(limit) => {
                tokio::time::sleep(limit).await;
                incarnation.crashed(ExitReason::Failed(format!("not started within {limit:?}")));
            }
        }
    };
    let is_started = tokio::select! {
        biased;
        started = starting => matches!(started, Ok(Ok(_))),
        () = incarnation.given_up.wait() => false,
        () = limit => false,
    };
    if is_started {
        slot.set_running(&incarnation);
        report::progress(slot);
        return Ok(());
    }
    // A supervisor may have started some of its children.
    purge(slot).await;
    Err(failed(context, slot, &incarnation))
}

fn failed(context: &Context, slot: &Slot, incarnation: &Incarnation) -> Failure {
    // ractor tells of no exit before the start has succeeded.
    if let Some(cell) = incarnation.cell() {
        context.keys.lock().remove(&cell.get_id());
    }
    // Only a kill leaves no trace in the shell.
    let reason = incarnation.crash().cloned().unwrap_or(ExitReason::Killed);
    slot.note_exit(incarnation, reason.clone());
    Failure::Start { key: slot.key, reason }
}

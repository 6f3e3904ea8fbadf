//! OTP's reports: four events explain every failure of a tree.
//!
//! One shape for all: `context`, `actor`, `reason`, `restarts`. Nobody else
//! logs a crash. Each is a tracing event, and goes to whoever follows the tree
//! with [`crate::Root::reports`]; one who is slow loses the oldest.

use std::fmt::Display;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::broadcast;

use crate::slot::Slot;

/// Reports that a slow follower may be behind.
const FOLLOWED_COUNT: usize = 1024;

const EXCEEDED: &str = "restart intensity exceeded";

/// What a supervisor reports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// `start_error`, `child_terminated`, `shutdown`, `shutdown_error`,
    /// `cool_down` or `progress`.
    pub context: &'static str,
    /// The path of the child, or of the supervisor that shuts or cools down.
    pub actor: String,
    /// None for `progress`.
    pub reason: Option<String>,
    /// The child's restarts in total; a supervisor's, in its window.
    pub restarts: u64,
    /// The child with which the intensity was exceeded.
    pub offender: Option<String>,
}

/// Those who follow the reports of one tree.
#[derive(Debug)]
pub(crate) struct Followers(broadcast::Sender<Report>);

impl Default for Followers {
    fn default() -> Self {
        Self(broadcast::Sender::new(FOLLOWED_COUNT))
    }
}

impl Followers {
    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Report> {
        self.0.subscribe()
    }

    fn tell(&self, report: impl FnOnce() -> Report) {
        if self.0.receiver_count() > 0 {
            // The last one may have gone.
            let _ = self.0.send(report());
        }
    }
}

/// A child could not be started. `restarts` is its number of restarts so far.
pub(crate) fn start_error(slot: &Slot, reason: &dyn Display) {
    let restarts = child("start_error", slot, Some(reason));
    tracing::warn!(context = "start_error", actor = %slot.path, %reason, restarts, "supervisor report");
}

/// A child ended without having been asked to, and that was a failure.
pub(crate) fn child_terminated(slot: &Slot, reason: &dyn Display) {
    let restarts = child("child_terminated", slot, Some(reason));
    tracing::warn!(context = "child_terminated", actor = %slot.path, %reason, restarts, "supervisor report");
}

/// A permanent child ended well, and is started again all the same.
pub(crate) fn child_ended(slot: &Slot, reason: &dyn Display) {
    let restarts = child("child_terminated", slot, Some(reason));
    tracing::info!(context = "child_terminated", actor = %slot.path, %reason, restarts, "supervisor report");
}

/// A supervisor has used up its intensity and ends.
pub(crate) fn shutdown(supervisor: &Slot, offender: &Slot) {
    let restarts = group("shutdown", supervisor, offender);
    let (actor, offender, reason) = (&supervisor.path, &offender.path, EXCEEDED);
    if supervisor.depth.unwrap_or(0) == 0 {
        // Nobody is left to start it again.
        tracing::error!(context = "shutdown", %actor, reason, restarts, %offender, "supervisor report");
    } else {
        tracing::warn!(context = "shutdown", %actor, reason, restarts, %offender, "supervisor report");
    }
}

/// A child that was asked to end did so in another way.
pub(crate) fn shutdown_error(slot: &Slot, reason: &dyn Display) {
    let restarts = child("shutdown_error", slot, Some(reason));
    tracing::warn!(context = "shutdown_error", actor = %slot.path, %reason, restarts, "supervisor report");
}

/// The intensity is used up, but this supervisor waits rather than ends.
pub(crate) fn cool_down(supervisor: &Slot, offender: &Slot, time: Duration) {
    let restarts = group("cool_down", supervisor, offender);
    tracing::warn!(
        context = "cool_down",
        actor = %supervisor.path,
        reason = EXCEEDED,
        restarts,
        offender = %offender.path,
        delay_ms = time.as_millis() as u64,
        "supervisor report"
    );
}

pub(crate) fn progress(slot: &Slot) {
    let restarts = child("progress", slot, None);
    tracing::debug!(context = "progress", actor = %slot.path, restarts, "supervisor report");
}

fn child(context: &'static str, slot: &Slot, reason: Option<&dyn Display>) -> u64 {
    let restarts = slot.facts.lock().restarts_total;
    slot.forest.followers.tell(|| Report {
        context,
        actor: slot.path.to_string(),
        reason: reason.map(ToString::to_string),
        restarts,
        offender: None,
    });
    restarts
}

fn group(context: &'static str, supervisor: &Slot, offender: &Slot) -> usize {
    let restarts = supervisor.facts.lock().restarts_in_window;
    supervisor.forest.followers.tell(|| Report {
        context,
        actor: supervisor.path.to_string(),
        reason: Some(EXCEEDED.to_owned()),
        restarts: restarts as u64,
        offender: Some(offender.path.to_string()),
    });
    restarts
}

//! OTP's reports: four events explain every failure of a tree.
//!
//! One shape for all: `context`, `actor`, `reason`, `restarts`. Nobody else
//! logs a crash.

use std::fmt::Display;
use std::time::Duration;

use crate::slot::Slot;

/// A child could not be started. `restarts` is its number of restarts so far.
pub(crate) fn start_error(slot: &Slot, reason: &dyn Display) {
    let restarts = slot.facts.lock().restarts_total;
    tracing::warn!(context = "start_error", actor = %slot.path, %reason, restarts, "supervisor report");
}

/// A child ended without having been asked to, and that was a failure.
pub(crate) fn child_terminated(slot: &Slot, reason: &dyn Display) {
    let restarts = slot.facts.lock().restarts_total;
    tracing::warn!(context = "child_terminated", actor = %slot.path, %reason, restarts, "supervisor report");
}

/// A permanent child ended well, and is started again all the same.
pub(crate) fn child_ended(slot: &Slot, reason: &dyn Display) {
    let restarts = slot.facts.lock().restarts_total;
    tracing::info!(context = "child_terminated", actor = %slot.path, %reason, restarts, "supervisor report");
}

/// A supervisor has used up its intensity and ends.
pub(crate) fn shutdown(supervisor: &Slot, offender: &Slot) {
    let restarts = supervisor.facts.lock().restarts_in_window;
    let (actor, offender) = (&supervisor.path, &offender.path);
    let reason = "restart intensity exceeded";
    if supervisor.depth.unwrap_or(0) == 0 {
        // Nobody is left to start it again.
        tracing::error!(context = "shutdown", %actor, reason, restarts, %offender, "supervisor report");
    } else {
        tracing::warn!(context = "shutdown", %actor, reason, restarts, %offender, "supervisor report");
    }
}

/// A child that was asked to end did so in another way.
pub(crate) fn shutdown_error(slot: &Slot, reason: &dyn Display) {
    let restarts = slot.facts.lock().restarts_total;
    tracing::warn!(context = "shutdown_error", actor = %slot.path, %reason, restarts, "supervisor report");
}

/// The intensity is used up, but this supervisor waits rather than ends.
pub(crate) fn cool_down(supervisor: &Slot, offender: &Slot, time: Duration) {
    let restarts = supervisor.facts.lock().restarts_in_window;
    tracing::warn!(
        context = "cool_down",
        actor = %supervisor.path,
        reason = "restart intensity exceeded",
        restarts,
        offender = %offender.path,
        delay_ms = time.as_millis() as u64,
        "supervisor report"
    );
}

pub(crate) fn progress(slot: &Slot) {
    let restarts = slot.facts.lock().restarts_total;
    tracing::debug!(context = "progress", actor = %slot.path, restarts, "supervisor report");
}

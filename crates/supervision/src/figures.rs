//! What an actor costs, counted while it works.
//!
//! Written by the actor alone, and by those who send to it; read by the
//! snapshot. Nothing here is locked.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ractor::ActorRef;

use crate::incarnation::{Incarnation, Life};

/// Reading the clock twice costs as much as half of an empty message. So after
/// a message that took no longer than this, the next few are not timed.
const SHORT: Duration = Duration::from_micros(1);

/// A short message stands for so many.
const TIMED_ONE_IN: u64 = 8;

/// A message this long stands for itself only.
const LONG: Duration = Duration::from_millis(10);

/// Of one incarnation.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    handled: AtomicU64,
    busy_ns: AtomicU64,
    /// Messages until the next that is timed.
    untimed: AtomicU64,
    /// Whether that one stands for those before it too.
    is_sampled: AtomicBool,
    bytes: AtomicU64,
    /// Counted by the mailbox, over all incarnations.
    sent: OnceLock<Arc<AtomicU64>>,
    /// How many of those this incarnation, or one before it, has taken.
    taken: AtomicU64,
    depth_max: AtomicU64,
}

impl Figures {
    pub(crate) fn begin(&self, sent: &Arc<AtomicU64>) {
        self.taken.store(sent.load(Ordering::Relaxed), Ordering::Relaxed);
        // Once for each incarnation.
        let _ = self.sent.set(Arc::clone(sent));
    }

    /// Whether to time this message. Called by the actor only, so what it writes
    /// it may read first.
    pub(crate) fn take_message(&self) -> bool {
        add(&self.handled, 1);
        self.take_from_mailbox();
        let untimed = self.untimed.load(Ordering::Relaxed);
        self.untimed.store(untimed.saturating_sub(1), Ordering::Relaxed);
        untimed == 0
    }

    fn take_from_mailbox(&self) {
        let Some(sent) = self.sent.get() else { return };
        let sent = sent.load(Ordering::Relaxed);
        let taken = self.taken.load(Ordering::Relaxed);
        let depth = sent.saturating_sub(taken);
        if depth > self.depth_max.load(Ordering::Relaxed) {
            self.depth_max.store(depth, Ordering::Relaxed);
        }
        // A message that did not come through the mailbox, an actor's to itself,
        // is in no count; taken for another, it is made up for here as soon as
        // the mailbox is empty.
        self.taken.store((taken + 1).min(sent), Ordering::Relaxed);
    }

    /// How long a message that was timed has taken.
    pub(crate) fn was_busy(&self, time: Duration) {
        let stands_for_many = self.is_sampled.load(Ordering::Relaxed) && time < LONG;
        let weight = if stands_for_many { TIMED_ONE_IN } else { 1 };
        add(&self.busy_ns, time.as_nanos() as u64 * weight);
        let is_short = time <= SHORT;
        self.is_sampled.store(is_short, Ordering::Relaxed);
        self.untimed.store(if is_short { TIMED_ONE_IN - 1 } else { 0 }, Ordering::Relaxed);
    }

    pub(crate) fn handled(&self) -> u64 {
        self.handled.load(Ordering::Relaxed)
    }

    pub(crate) fn busy(&self) -> Duration {
        Duration::from_nanos(self.busy_ns.load(Ordering::Relaxed))
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn depth(&self) -> u64 {
        let sent = self.sent.get().map_or(0, |sent| sent.load(Ordering::Relaxed));
        sent.saturating_sub(self.taken.load(Ordering::Relaxed))
    }

    /// What it is now may be more than the actor has seen.
    pub(crate) fn depth_max(&self) -> u64 {
        self.depth_max.load(Ordering::Relaxed).max(self.depth())
    }
}

/// A locked addition is not needed where one thread at a time writes.
fn add(counter: &AtomicU64, more: u64) {
    counter.store(counter.load(Ordering::Relaxed) + more, Ordering::Relaxed);
}

/// Where an actor says how much it holds, since nobody else can know.
#[derive(Clone)]
pub struct Bytes {
    incarnation: Option<Arc<Incarnation>>,
}

/// Of this incarnation of the actor. Does nothing for one that is not ours.
pub fn bytes_held<M>(owner: &ActorRef<M>) -> Bytes {
    let life = Life::of(owner.get_id());
    Bytes { incarnation: life.map(|life| Arc::clone(&life.incarnation)) }
}

impl Bytes {
    pub fn set(&self, bytes: u64) {
        if let Some(incarnation) = &self.incarnation {
            incarnation.figures.bytes.store(bytes, Ordering::Relaxed);
        }
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.incarnation.as_ref().map(|incarnation| incarnation.figures.bytes());
        f.debug_tuple("Bytes").field(&bytes).finish()
    }
}

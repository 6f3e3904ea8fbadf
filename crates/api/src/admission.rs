//! How many shape requests may be in progress, counted apart for those that may
//! cost a snapshot and those that only read.
//!
//! A permit travels with its request and then with the response's body, so it
//! is given back whenever the client is done or gone, whatever the reason.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::config::MaxConcurrent;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Initial,
    Existing,
}

impl Kind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Kind::Initial => "initial",
            Kind::Existing => "existing",
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Admission(Arc<Counters>);

#[derive(Debug)]
struct Counters {
    limits: MaxConcurrent,
    initial: AtomicUsize,
    existing: AtomicUsize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full {
    pub(crate) kind: Kind,
    pub(crate) limit: usize,
}

#[derive(Debug)]
pub(crate) struct Permit {
    counters: Arc<Counters>,
    kind: Kind,
}

impl Admission {
    pub(crate) fn new(limits: MaxConcurrent) -> Self {
        let (initial, existing) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self(Arc::new(Counters { limits, initial, existing }))
    }

    pub(crate) fn enter(&self, kind: Kind) -> Result<Permit, Full> {
        let (counter, limit) = self.0.of(kind);
        if !take(counter, limit) {
            return Err(Full { kind, limit });
        }
        Ok(Permit { counters: Arc::clone(&self.0), kind })
    }
}

impl Counters {
    fn of(&self, kind: Kind) -> (&AtomicUsize, usize) {
        match kind {
            Kind::Initial => (&self.initial, self.limits.initial),
            Kind::Existing => (&self.existing, self.limits.existing),
        }
    }
}

impl Permit {
    /// From initial to existing, if there is room: what is left to do is
    /// reading.
    pub(crate) fn promote(&mut self) {
        let (counter, limit) = self.counters.of(Kind::Existing);
        if self.kind == Kind::Initial && take(counter, limit) {
            self.counters.initial.fetch_sub(1, Ordering::Relaxed);
            self.kind = Kind::Existing;
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.counters.of(self.kind).0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn take(counter: &AtomicUsize, limit: usize) -> bool {
    let next = |count| (count < limit).then_some(count + 1);
    counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_holds_per_kind_and_a_dropped_permit_makes_room() {
        let admission = Admission::new(MaxConcurrent { initial: 1, existing: 1 });
        let first = admission.enter(Kind::Initial).unwrap();
        let full = admission.enter(Kind::Initial).unwrap_err();
        assert_eq!(full, Full { kind: Kind::Initial, limit: 1 });
        let _existing = admission.enter(Kind::Existing).unwrap();
        drop(first);
        admission.enter(Kind::Initial).unwrap();
    }

    #[test]
    fn a_promoted_permit_counts_as_existing_only_if_there_is_room() {
        let admission = Admission::new(MaxConcurrent { initial: 2, existing: 1 });
        let (mut first, mut second) =
            (admission.enter(Kind::Initial).unwrap(), admission.enter(Kind::Initial).unwrap());
        first.promote();
        second.promote();
        assert_eq!((first.kind, second.kind), (Kind::Existing, Kind::Initial));
        drop((first, second));
        assert_eq!(admission.0.initial.load(Ordering::Relaxed), 0);
        assert_eq!(admission.0.existing.load(Ordering::Relaxed), 0);
    }
}

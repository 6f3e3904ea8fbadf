//! One run of one child, from its launch until nothing of it is left.
//!
//! ractor says that an actor has stopped; we need to know that its state, its
//! tasks and its threads are gone too, since each may hold what the successor
//! needs: a slot, a lock, a file. All of them share one [`Life`], and the
//! incarnation is over when the last owner lets go.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, OnceLock, Weak};

use dashmap::DashMap;
use ractor::{ActorCell, ActorId};
use tracing::Span;

use crate::ExitReason;
use crate::figures::Figures;
use crate::flag::Flag;

/// Lets a task find the life of its owner, of which it has only the ractor
/// reference. Ids are never reused, so trees in one process do not meet here.
static LIVES: LazyLock<DashMap<ActorId, Weak<Life>>> = LazyLock::new(DashMap::new);

pub(crate) struct Incarnation {
    /// Counts the launches of one slot, from 1.
    pub(crate) generation: u64,
    /// The restart round that launched it; 0 is the supervisor's own start.
    pub(crate) round: u64,
    pub(crate) span: Span,
    /// Its supervisor has asked it to end, so its exit is no failure.
    pub(crate) is_asked_to_stop: Flag,
    /// Nothing of it is left, or it was given up on.
    pub(crate) gone: Flag,
    /// It was killed and did not yield; set before `gone`.
    pub(crate) given_up: Flag,
    cell: OnceLock<ActorCell>,
    crash: OnceLock<ExitReason>,
    has_started: AtomicBool,
    is_killed: AtomicBool,
    pub(crate) figures: Figures,
}

impl Incarnation {
    pub(crate) fn new(path: &str, generation: u64, round: u64) -> Self {
        Self {
            generation,
            round,
            // Without a parent: the actor is no part of what started it.
            span: tracing::info_span!(parent: None, "actor", actor = path),
            is_asked_to_stop: Flag::default(),
            gone: Flag::default(),
            given_up: Flag::default(),
            cell: OnceLock::new(),
            crash: OnceLock::new(),
            has_started: AtomicBool::new(false),
            is_killed: AtomicBool::new(false),
            figures: Figures::default(),
        }
    }

    pub(crate) fn set_cell(&self, cell: ActorCell) {
        // Set once, by the launch that made this incarnation.
        let _ = self.cell.set(cell);
    }

    pub(crate) fn cell(&self) -> Option<&ActorCell> {
        self.cell.get()
    }

    /// The first cause wins; what follows is a consequence of it.
    pub(crate) fn crashed(&self, reason: ExitReason) {
        let _ = self.crash.set(reason);
    }

    pub(crate) fn crash(&self) -> Option<&ExitReason> {
        self.crash.get()
    }

    pub(crate) fn set_started(&self) {
        self.has_started.store(true, Ordering::SeqCst);
    }

    pub(crate) fn has_started(&self) -> bool {
        self.has_started.load(Ordering::SeqCst)
    }

    pub(crate) fn kill(&self) {
        self.is_killed.store(true, Ordering::SeqCst);
        if let Some(cell) = self.cell() {
            cell.kill();
        }
    }

    pub(crate) fn is_killed(&self) -> bool {
        self.is_killed.load(Ordering::SeqCst)
    }
}

impl fmt::Debug for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incarnation")
            .field("generation", &self.generation)
            .field("cell", &self.cell)
            .field("is_gone", &self.gone.is_set())
            .finish_non_exhaustive()
    }
}

/// Held by everything that belongs to an incarnation.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) incarnation: Arc<Incarnation>,
    id: OnceLock<ActorId>,
}

impl Life {
    pub(crate) fn new(incarnation: Arc<Incarnation>) -> Arc<Self> {
        Arc::new(Self { incarnation, id: OnceLock::new() })
    }

    pub(crate) fn begin(self: &Arc<Self>, id: ActorId) {
        let _ = self.id.set(id);
        LIVES.insert(id, Arc::downgrade(self));
    }

    /// None for an actor that is not ours, or that is gone.
    pub(crate) fn of(id: ActorId) -> Option<Arc<Self>> {
        LIVES.get(&id).and_then(|life| life.upgrade())
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        if let Some(id) = self.id.get() {
            LIVES.remove(id);
        }
        self.incarnation.gone.set();
    }
}

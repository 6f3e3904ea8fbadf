//! Definition → shape and handle → shape, for readers without locks of ours.
//!
//! Written by the registry alone, and kept outside it so that readers go on
//! with what they had while the registry restarts.

use std::sync::Arc;

use change::Lsn;
use dashmap::DashMap;
use shape::{Definition, Handle};
use tokio::sync::watch;

use super::facade::{LiveShape, ShapeError};

/// What became of a creation; `None` while it goes on.
pub(crate) type Outcome = Option<Result<Arc<LiveShape>, ShapeError>>;

#[derive(Debug, Default)]
pub(crate) struct Index {
    by_definition: DashMap<String, Slot>,
    by_handle: DashMap<Handle, Arc<LiveShape>>,
}

/// Concurrent first requests share one creation.
#[derive(Clone, Debug)]
pub(crate) enum Slot {
    Creating(Arc<Creation>),
    Live(Arc<LiveShape>),
}

/// A shape whose snapshot is being read.
#[derive(Debug)]
pub(crate) struct Creation {
    pub(crate) handle: Handle,
    /// The journal is kept from here on: the new shape's log begins with it.
    pub(crate) registered_lsn: Lsn,
    outcome: watch::Receiver<Outcome>,
}

/// Held by the snapshot worker. Dropped without a word (the worker was killed),
/// it frees the slot, and whoever waits tries again.
#[derive(Debug)]
pub(crate) struct Ticket {
    index: Arc<Index>,
    identity: String,
    handle: Handle,
    outcome: watch::Sender<Outcome>,
}

impl Creation {
    pub(crate) fn outcome(&self) -> watch::Receiver<Outcome> {
        self.outcome.clone()
    }
}

impl Index {
    pub(crate) fn by_handle(&self, handle: &str) -> Option<Arc<LiveShape>> {
        self.by_handle.get(handle).map(|shape| Arc::clone(&shape))
    }

    pub(crate) fn slot(&self, identity: &str) -> Option<Slot> {
        self.by_definition.get(identity).map(|slot| slot.clone())
    }

    pub(crate) fn live(&self, identity: &str) -> Option<Arc<LiveShape>> {
        match self.slot(identity)? {
            Slot::Live(shape) => Some(shape),
            Slot::Creating(_) => None,
        }
    }

    /// The shape whose definition satisfies `wanted`, by looking at all: for
    /// when the catalog cannot be asked.
    pub(crate) fn find(&self, wanted: impl Fn(&Definition) -> bool) -> Option<Arc<LiveShape>> {
        self.by_handle
            .iter()
            .find(|shape| wanted(&shape.definition))
            .map(|shape| Arc::clone(&shape))
    }

    pub(crate) fn shape_count(&self) -> usize {
        self.by_handle.len()
    }

    pub(crate) fn shapes(&self) -> Vec<Arc<LiveShape>> {
        self.by_handle.iter().map(|shape| Arc::clone(&shape)).collect()
    }

    pub(crate) fn creations(&self) -> Vec<Arc<Creation>> {
        let slots = self.by_definition.iter();
        slots
            .filter_map(|slot| match slot.value() {
                Slot::Creating(creation) => Some(Arc::clone(creation)),
                Slot::Live(_) => None,
            })
            .collect()
    }

    /// Takes the slot for a creation.
    pub(crate) fn begin(
        self: &Arc<Self>,
        definition: &Definition,
        handle: &Handle,
        registered_lsn: Lsn,
    ) -> Ticket {
        let (sender, outcome) = watch::channel(None);
        let creation = Creation { handle: handle.clone(), registered_lsn, outcome };
        let identity = definition.identity();
        self.by_definition.insert(identity.clone(), Slot::Creating(Arc::new(creation)));
        let index = Arc::clone(self);
        Ticket { index, identity, handle: handle.clone(), outcome: sender }
    }

    pub(crate) fn insert(&self, shape: &Arc<LiveShape>) {
        self.by_handle.insert(shape.handle.clone(), Arc::clone(shape));
        self.by_definition.insert(shape.definition.identity(), Slot::Live(Arc::clone(shape)));
    }

    /// Takes a shape out, so that the next request makes a new one.
    pub(crate) fn remove(&self, shape: &LiveShape) {
        self.by_definition.remove_if(
            &shape.definition.identity(),
            |_, slot| matches!(slot, Slot::Live(live) if live.handle == shape.handle),
        );
        self.by_handle.remove(&shape.handle);
    }
}

impl Ticket {
    pub(crate) fn outcome(&self) -> watch::Receiver<Outcome> {
        self.outcome.subscribe()
    }

    /// Tells whoever waits.
    pub(crate) fn finish(self, result: Result<Arc<LiveShape>, ShapeError>) {
        if result.is_err() {
            self.free();
        }
        self.outcome.send_replace(Some(result));
    }

    fn free(&self) {
        self.index.by_definition.remove_if(
            &self.identity,
            |_, slot| matches!(slot, Slot::Creating(creation) if creation.handle == self.handle),
        );
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.free();
    }
}

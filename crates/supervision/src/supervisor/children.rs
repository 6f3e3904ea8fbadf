//! The children of one incarnation of a supervisor, in start order.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use ractor::ActorStatus;
use tokio::sync::oneshot;
use tokio_util::task::AbortOnDropHandle;

use super::restart::Backoff;
use crate::node::Node;
use crate::slot::Slot;
use crate::{ChildError, StartError};

pub(crate) type StartReply = oneshot::Sender<Result<(), StartError>>;
pub(crate) type ChildReply = oneshot::Sender<Result<(), ChildError>>;

/// Who has asked for a start.
#[derive(Debug)]
pub(crate) enum Asked {
    Start(StartReply),
    Restart(ChildReply),
}

#[derive(Debug)]
pub(crate) struct Child {
    pub(crate) slot: Arc<Slot>,
    pub(crate) phase: Phase,
    pub(crate) backoff: Backoff,
    /// To be started in place of this one, should it end for good.
    pub(crate) successor: Option<Box<Successor>>,
}

#[derive(Debug)]
pub(crate) struct Successor {
    pub(crate) node: Node,
    pub(crate) reply: StartReply,
}

#[derive(Debug)]
pub(crate) enum Phase {
    /// Running, as far as is known here: an exit may be in the queue.
    Up,
    /// In the hands of a round, be it stopping, waiting or starting.
    InRound { round: u64 },
    /// Not to be started again; waited for until it is gone.
    Ending { task: AbortOnDropHandle<()>, replies: Vec<oneshot::Sender<bool>> },
    /// Ended for good, but not forgotten: a group restart starts it again.
    Down,
}

#[derive(Debug, Default)]
pub(crate) struct Children {
    by_key: BTreeMap<u64, Child>,
    by_id: HashMap<Arc<str>, u64>,
    next_key: u64,
}

impl Child {
    /// Whether it is on its way out and nobody has asked to follow it yet.
    pub(crate) fn may_be_succeeded(&self) -> bool {
        let is_leaving = match &self.phase {
            Phase::Ending { .. } => true,
            Phase::InRound { .. } | Phase::Down => false,
            Phase::Up => self.slot.live().is_none_or(|incarnation| {
                incarnation.cell().is_some_and(|cell| cell.get_status() >= ActorStatus::Draining)
            }),
        };
        is_leaving && self.successor.is_none()
    }
}

impl Children {
    pub(crate) fn next_key(&self) -> u64 {
        self.next_key
    }

    pub(crate) fn push(&mut self, slot: Arc<Slot>, phase: Phase) {
        self.next_key = self.next_key.max(slot.key + 1);
        self.by_id.insert(slot.node.id_shared(), slot.key);
        let child =
            Child { phase, backoff: Backoff::default(), successor: None, slot: Arc::clone(&slot) };
        self.by_key.insert(slot.key, child);
    }

    pub(crate) fn remove(&mut self, key: u64) -> Option<Child> {
        let child = self.by_key.remove(&key)?;
        self.by_id.remove(child.slot.node.id());
        Some(child)
    }

    pub(crate) fn get_mut(&mut self, key: u64) -> Option<&mut Child> {
        self.by_key.get_mut(&key)
    }

    pub(crate) fn key_of(&self, id: &str) -> Option<u64> {
        self.by_id.get(id).copied()
    }

    pub(crate) fn len(&self) -> usize {
        self.by_key.len()
    }

    /// From this key on, in start order.
    pub(crate) fn from(&self, key: u64) -> impl DoubleEndedIterator<Item = &Child> {
        self.by_key.range(key..).map(|(_, child)| child)
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Child> {
        self.by_key.values_mut()
    }
}

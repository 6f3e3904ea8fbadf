//! A child's place in the tree, which outlives the child and its supervisor.
//!
//! ractor forgets a supervisor's children when it dies; here they stay known,
//! so that whoever restarts the supervisor can wait until the last actor of the
//! old subtree is gone. Also what [`crate::Root::tree`] reads.
//!
//! Lock order: the forest's gate, a supervisor's table, a child's facts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use ractor::{ActorId, ActorRef};
use tokio::time::Instant;

use crate::ExitReason;
use crate::incarnation::{Incarnation, Life};
use crate::node::Node;
use crate::report::Followers;
use crate::shell::Starting;
use crate::supervisor::{Message, Watcher};

/// What all slots of one tree share.
#[derive(Debug, Default)]
pub(crate) struct Forest {
    /// Taken for reading by every change, for writing by the view.
    pub(crate) gate: RwLock<()>,
    pub(crate) orphan_count: AtomicU64,
    pub(crate) followers: Followers,
}

#[derive(Debug)]
pub(crate) struct Slot {
    /// Unique among siblings and ascending in start order.
    pub(crate) key: u64,
    pub(crate) path: Arc<str>,
    /// None for the guardian, which is no part of the tree that is shown.
    pub(crate) depth: Option<usize>,
    pub(crate) node: Node,
    pub(crate) forest: Arc<Forest>,
    pub(crate) facts: Mutex<Facts>,
    /// The children, for a supervisor.
    pub(crate) table: Option<Box<Mutex<Table>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Starting,
    Running,
    Restarting,
    Stopping,
    Stopped,
}

#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) standing: Standing,
    pub(crate) current: Option<Arc<Incarnation>>,
    /// Who launched it, and hears when it is given up on.
    pub(crate) supervisor: Option<ActorRef<Message>>,
    pub(crate) generation: u64,
    pub(crate) started_at: Instant,
    pub(crate) restarts_total: u64,
    pub(crate) restarts_in_window: usize,
    pub(crate) last_exit: Option<Exit>,
}

#[derive(Clone, Debug)]
pub(crate) struct Exit {
    pub(crate) generation: u64,
    pub(crate) reason: ExitReason,
    pub(crate) at: Instant,
}

#[derive(Debug, Default)]
pub(crate) struct Table {
    /// The generation of the supervisor that may launch children. A killed
    /// supervisor's tasks may still be at work when its children are killed;
    /// what they launch after that would belong to nobody.
    open_for: Option<u64>,
    pub(crate) slots: BTreeMap<u64, Arc<Slot>>,
}

impl Slot {
    pub(crate) fn new(parent: Option<&Slot>, key: u64, node: Node, forest: &Arc<Forest>) -> Self {
        let depth = parent.map(|parent| parent.depth.map_or(0, |depth| depth + 1));
        let path = match (parent, depth) {
            // The root's id is no part of the paths below it.
            (Some(parent), Some(2..)) => format!("{}/{}", parent.path, node.id()).into(),
            _ => node.id().into(),
        };
        let table = node.group().map(|_| Box::default());
        let facts = Facts {
            standing: Standing::Stopped,
            current: None,
            supervisor: None,
            generation: 0,
            started_at: Instant::now(),
            restarts_total: 0,
            restarts_in_window: 0,
            last_exit: None,
        };
        let forest = Arc::clone(forest);
        Self { key, path, depth, node, forest, facts: Mutex::new(facts), table }
    }

    /// Starts a new incarnation; none if `supervisor`'s present one may not.
    pub(crate) fn launch(
        self: &Arc<Self>,
        supervisor: Option<(&Slot, u64)>,
        round: u64,
        watcher: Option<Watcher>,
    ) -> Option<(Arc<Incarnation>, Starting)> {
        let _gate = self.forest.gate.read();
        let table = supervisor.and_then(|(slot, generation)| Some((slot.lock()?, generation)));
        if let Some((table, generation)) = &table
            && table.open_for != Some(*generation)
        {
            return None;
        }
        let mut facts = self.facts.lock();
        facts.generation += 1;
        facts.standing =
            if facts.generation == 1 { Standing::Starting } else { Standing::Restarting };
        let incarnation = Arc::new(Incarnation::new(&self.path, facts.generation, round));
        facts.supervisor = watcher.as_ref().map(Watcher::supervisor);
        let life = Life::new(Arc::clone(&incarnation));
        let (cell, starting) = self.node.launch(self, life, watcher);
        incarnation.set_cell(cell);
        facts.current = Some(Arc::clone(&incarnation));
        Some((incarnation, starting))
    }

    /// The present incarnation, unless it is gone.
    pub(crate) fn live(&self) -> Option<Arc<Incarnation>> {
        self.facts.lock().current.clone().filter(|incarnation| !incarnation.gone.is_set())
    }

    /// The present incarnation, gone or not.
    pub(crate) fn incarnation(&self) -> Option<Arc<Incarnation>> {
        self.facts.lock().current.clone()
    }

    /// As `incarnation`, if it is this actor.
    pub(crate) fn incarnation_of(&self, id: ActorId) -> Option<Arc<Incarnation>> {
        self.incarnation()
            .filter(|incarnation| incarnation.cell().is_some_and(|cell| cell.get_id() == id))
    }

    pub(crate) fn set_standing(&self, standing: Standing) {
        let _gate = self.forest.gate.read();
        self.facts.lock().standing = standing;
    }

    pub(crate) fn set_running(&self, incarnation: &Incarnation) {
        let _gate = self.forest.gate.read();
        let mut facts = self.facts.lock();
        // Its exit may have been noted first.
        if facts.last_exit.as_ref().is_none_or(|exit| exit.generation != incarnation.generation) {
            facts.standing = Standing::Running;
            facts.started_at = Instant::now();
        }
    }

    /// Returns how long it had been running.
    pub(crate) fn note_exit(&self, incarnation: &Incarnation, reason: ExitReason) -> Duration {
        let _gate = self.forest.gate.read();
        let mut facts = self.facts.lock();
        if facts.generation != incarnation.generation {
            return Duration::ZERO;
        }
        let uptime = match facts.standing {
            Standing::Running => facts.started_at.elapsed(),
            Standing::Starting | Standing::Restarting | Standing::Stopping | Standing::Stopped => {
                Duration::ZERO
            }
        };
        // What it is now, its supervisor decides next.
        facts.last_exit =
            Some(Exit { generation: incarnation.generation, reason, at: Instant::now() });
        uptime
    }

    pub(crate) fn has_noted_exit(&self, incarnation: &Incarnation) -> bool {
        let facts = self.facts.lock();
        facts.last_exit.as_ref().is_some_and(|exit| exit.generation == incarnation.generation)
    }

    /// As `note_exit`, for a reason that is only inferred.
    pub(crate) fn infer_exit(&self, incarnation: &Incarnation) {
        if self.has_noted_exit(incarnation) {
            return;
        }
        let reason = match incarnation.crash() {
            Some(crash) => crash.clone(),
            None if incarnation.is_killed() => ExitReason::Killed,
            None => ExitReason::Shutdown(None),
        };
        self.note_exit(incarnation, reason);
    }

    pub(crate) fn count_restart(&self) -> u64 {
        let _gate = self.forest.gate.read();
        let mut facts = self.facts.lock();
        facts.restarts_total += 1;
        facts.restarts_total
    }

    pub(crate) fn set_restarts_in_window(&self, count: usize) {
        let _gate = self.forest.gate.read();
        self.facts.lock().restarts_in_window = count;
    }

    /// Lets this generation launch children. `wanted` are the children of a
    /// static supervisor; a slot that is there already keeps its history.
    pub(crate) fn open(&self, generation: u64, wanted: &[Node]) -> Vec<Arc<Slot>> {
        let _gate = self.forest.gate.read();
        let Some(mut table) = self.lock() else { return Vec::new() };
        table.open_for = Some(generation);
        let mut old = std::mem::take(&mut table.slots);
        for (key, node) in (0..).zip(wanted) {
            let slot = old.remove(&key).unwrap_or_else(|| {
                Arc::new(Self::new(Some(self), key, node.clone(), &self.forest))
            });
            table.slots.insert(key, slot);
        }
        table.slots.values().cloned().collect()
    }

    /// Adds a child of a dynamic supervisor.
    pub(crate) fn insert(&self, key: u64, node: Node) -> Arc<Slot> {
        let _gate = self.forest.gate.read();
        let slot = Arc::new(Self::new(Some(self), key, node, &self.forest));
        if let Some(mut table) = self.lock() {
            table.slots.insert(key, Arc::clone(&slot));
        }
        slot
    }

    pub(crate) fn remove(&self, key: u64) {
        let _gate = self.forest.gate.read();
        if let Some(mut table) = self.lock() {
            table.slots.remove(&key);
        }
    }

    pub(crate) fn forget_children(&self) {
        let _gate = self.forest.gate.read();
        if let Some(mut table) = self.lock() {
            table.slots.clear();
        }
    }

    /// From now on no child is launched: by this generation, or by any.
    pub(crate) fn close(&self, generation: Option<u64>) -> Vec<Arc<Slot>> {
        let Some(mut table) = self.lock() else { return Vec::new() };
        if generation.is_none() || table.open_for == generation {
            table.open_for = None;
        }
        table.slots.values().cloned().collect()
    }

    pub(crate) fn children(&self) -> Vec<Arc<Slot>> {
        self.lock().map(|table| table.slots.values().cloned().collect()).unwrap_or_default()
    }

    pub(crate) fn find(self: &Arc<Self>, path: &str) -> Option<Arc<Slot>> {
        let mut slot = Arc::clone(self);
        for id in path.split('/') {
            slot = slot.child(id)?;
        }
        Some(slot)
    }

    pub(crate) fn child(&self, id: &str) -> Option<Arc<Self>> {
        self.lock()?.slots.values().find(|child| child.node.id() == id).cloned()
    }

    pub(crate) fn last_exit(&self) -> Option<ExitReason> {
        self.facts.lock().last_exit.as_ref().map(|exit| exit.reason.clone())
    }

    pub(crate) fn lock(&self) -> Option<parking_lot::MutexGuard<'_, Table>> {
        self.table.as_ref().map(|table| table.lock())
    }
}

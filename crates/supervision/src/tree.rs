//! The tree as it is at one moment.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::Serialize;

use crate::figures::Figures;
use crate::node::Group;
use crate::slot::{Facts, Slot, Standing};

/// Taken at one moment: no start, stop or exit falls in between two nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tree {
    /// Depth first, in start order.
    pub nodes: Vec<NodeView>,
    /// Actors that were killed but did not yield, and were given up on.
    pub orphans: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NodeView {
    /// Ids from below the root, joined by `/`; the root's path is its id.
    pub path: String,
    pub id: String,
    pub depth: usize,
    /// `supervisor` or `worker`.
    pub kind: &'static str,
    pub strategy: Option<&'static str>,
    pub intensity: Option<String>,
    pub restart: &'static str,
    pub shutdown: String,
    pub significant: bool,
    pub auto_shutdown: Option<&'static str>,
    /// `starting`, `running`, `restarting`, `stopping` or `stopped`.
    pub state: &'static str,
    /// ractor's id of the present incarnation.
    pub pid: Option<String>,
    /// 1 for the first incarnation.
    pub generation: u64,
    /// Since this child was first started, whoever caused them.
    pub restarts_total: u64,
    /// A supervisor's count towards its intensity; 0 for a worker.
    pub restarts_in_window: usize,
    pub last_exit: Option<LastExit>,
    /// 0 unless running.
    pub uptime_ms: u64,
    /// Messages handled by this incarnation.
    pub handled: u64,
    /// Time that this incarnation spent in handling them, waiting left out. Of
    /// messages of a microsecond one in eight is timed, so it is an estimate.
    pub busy_us: u64,
    /// Messages sent through the mailbox and not yet taken.
    pub mailbox_depth: u64,
    /// The most that this incarnation has found, or has, waiting.
    pub mailbox_depth_max: u64,
    /// What the actor says: see [`crate::bytes_held`].
    pub bytes_held: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LastExit {
    pub reason: String,
    pub ms_ago: u64,
}

impl Tree {
    pub(crate) fn of(guardian: &Arc<Slot>) -> Self {
        // Nothing in the tree changes while this is held.
        let _gate = guardian.forest.gate.write();
        let mut nodes = Vec::new();
        for root in guardian.children() {
            view_into(&root, &mut nodes);
        }
        Self { nodes, orphans: guardian.forest.orphan_count.load(Ordering::Relaxed) }
    }

    pub fn get(&self, path: &str) -> Option<&NodeView> {
        self.nodes.iter().find(|node| node.path == path)
    }

    /// Whether nothing is on its way up or down.
    pub fn is_settled(&self) -> bool {
        self.nodes.iter().all(|node| matches!(node.state, "running" | "stopped"))
    }
}

fn view_into(slot: &Arc<Slot>, nodes: &mut Vec<NodeView>) {
    nodes.push(view(slot));
    for child in slot.children() {
        view_into(&child, nodes);
    }
}

fn view(slot: &Slot) -> NodeView {
    let facts = slot.facts.lock();
    let group = slot.node.group().map(Arc::as_ref);
    let state = state(&facts);
    let uptime = if state == "running" { facts.started_at.elapsed() } else { Duration::ZERO };
    let none = Figures::default();
    let figures = facts.current.as_ref().map_or(&none, |incarnation| &incarnation.figures);
    let is_up = facts.current.as_ref().is_some_and(|incarnation| !incarnation.gone.is_set());
    let pid = facts.current.as_ref().filter(|_| is_up).and_then(|incarnation| incarnation.cell());
    NodeView {
        path: slot.path.to_string(),
        id: slot.node.id().to_owned(),
        depth: slot.depth.unwrap_or_default(),
        kind: if group.is_some() { "supervisor" } else { "worker" },
        strategy: group.map(|group: &Group| group.strategy.as_str()),
        intensity: group.map(|group| group.intensity.to_string()),
        restart: slot.node.restart_kind().as_str(),
        shutdown: slot.node.shutdown_kind().to_string(),
        significant: slot.node.is_significant(),
        auto_shutdown: group.map(|group| group.auto_shutdown.as_str()),
        pid: pid.map(|cell| cell.get_id().to_string()),
        state,
        generation: facts.generation,
        restarts_total: facts.restarts_total,
        restarts_in_window: facts.restarts_in_window,
        last_exit: facts.last_exit.as_ref().map(|exit| LastExit {
            reason: exit.reason.to_string(),
            ms_ago: millis(exit.at.elapsed()),
        }),
        uptime_ms: millis(uptime),
        handled: figures.handled(),
        busy_us: u64::try_from(figures.busy().as_micros()).unwrap_or(u64::MAX),
        mailbox_depth: if is_up { figures.depth() } else { 0 },
        mailbox_depth_max: figures.depth_max(),
        bytes_held: if is_up { figures.bytes() } else { 0 },
    }
}

fn state(facts: &Facts) -> &'static str {
    let is_dying = facts
        .current
        .as_ref()
        .is_some_and(|incarnation| incarnation.is_killed() || incarnation.gone.is_set())
        || facts.last_exit.as_ref().is_some_and(|exit| exit.generation == facts.generation);
    match facts.standing {
        Standing::Starting => "starting",
        // Its supervisor will hear of it.
        Standing::Running if is_dying => "stopping",
        Standing::Running => "running",
        Standing::Restarting => "restarting",
        Standing::Stopping => "stopping",
        Standing::Stopped => "stopped",
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

//! The tree as it is at one moment.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::Serialize;

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
    /// `starting`, `running`, `restarting`, `stopping` or `stopped`.
    pub state: &'static str,
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
    NodeView {
        path: slot.path.to_string(),
        id: slot.node.id().to_owned(),
        depth: slot.depth.unwrap_or_default(),
        kind: if group.is_some() { "supervisor" } else { "worker" },
        strategy: group.map(|group: &Group| group.strategy.as_str()),
        intensity: group.map(|group| group.intensity.to_string()),
        restart: slot.node.restart_kind().as_str(),
        shutdown: slot.node.shutdown_kind().to_string(),
        state,
        generation: facts.generation,
        restarts_total: facts.restarts_total,
        restarts_in_window: facts.restarts_in_window,
        last_exit: facts.last_exit.as_ref().map(|exit| LastExit {
            reason: exit.reason.to_string(),
            ms_ago: millis(exit.at.elapsed()),
        }),
        uptime_ms: millis(uptime),
        handled: facts.current.as_ref().map_or(0, |incarnation| incarnation.handled()),
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

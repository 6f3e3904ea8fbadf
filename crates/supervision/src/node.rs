//! The description of a tree: values that are put together, then started.
//!
//! A node can be started any number of times, so everything in it can be
//! cloned: a restarted actor gets what its first incarnation got.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorCell};

use crate::dynamic::Dynamic;
use crate::incarnation::Life;
use crate::shell::{self, Launch, Starting};
use crate::slot::Slot;
use crate::spec::{
    AutoShutdown, ChildKind, ChildSpec, Intensity, Outline, OutlineNode, Restart, RestartDelay,
    Shutdown, Strategy,
};
use crate::supervisor::{self, Watcher};
use crate::{Mailbox, StartError};

/// A description of a subtree; it can be started any number of times.
#[derive(Clone)]
pub struct Node {
    id: Arc<str>,
    restart: Restart,
    shutdown: Shutdown,
    is_significant: bool,
    start_timeout: Option<Duration>,
    kind: Kind,
}

#[derive(Clone)]
enum Kind {
    Worker(Arc<dyn Launcher>),
    Supervisor(Arc<Group>),
}

/// What makes a supervisor of a node.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) strategy: Strategy,
    pub(crate) intensity: Intensity,
    pub(crate) auto_shutdown: AutoShutdown,
    pub(crate) restart_delay: RestartDelay,
    /// Rather than give up, let the failed child wait this long.
    pub(crate) cool_down: Option<Duration>,
    pub(crate) members: Members,
}

#[derive(Clone, Debug)]
pub(crate) enum Members {
    Static(Vec<Node>),
    Dynamic(Dynamic),
}

/// Keeps the type of the actor, which a tree of many types cannot.
trait Launcher: Send + Sync {
    fn launch(&self, life: Arc<Life>, watcher: Option<Watcher>) -> (ActorCell, Starting);
}

struct Recipe<A: Actor> {
    mailbox: Mailbox<A::Msg>,
    actor: A,
    args: A::Arguments,
}

impl<A> Launcher for Recipe<A>
where
    A: Actor + Clone,
    A::Arguments: Clone + Sync,
{
    fn launch(&self, life: Arc<Life>, watcher: Option<Watcher>) -> (ActorCell, Starting) {
        shell::launch(Launch {
            actor: self.actor.clone(),
            args: self.args.clone(),
            mailbox: Some(self.mailbox.clone()),
            watcher,
            life,
        })
    }
}

/// `mailbox` is the worker's address, up whenever the worker is.
#[allow(clippy::too_many_arguments, reason = "OTP's child spec, and the address")]
pub fn worker<A>(
    id: impl Into<String>,
    restart: Restart,
    shutdown: Shutdown,
    mailbox: &Mailbox<A::Msg>,
    actor: A,
    args: A::Arguments,
) -> Node
where
    A: Actor + Clone,
    A::Arguments: Clone + Sync,
{
    let recipe = Recipe { mailbox: mailbox.clone(), actor, args };
    Node {
        id: id.into().into(),
        restart,
        shutdown,
        is_significant: false,
        start_timeout: None,
        kind: Kind::Worker(Arc::new(recipe)),
    }
}

/// Permanent, with infinite shutdown: its children have limits of their own.
pub fn supervisor(
    id: impl Into<String>,
    strategy: Strategy,
    intensity: Intensity,
    children: impl IntoIterator<Item = Node>,
) -> Node {
    let members = Members::Static(children.into_iter().collect());
    Node::of_group(id.into(), Group::new(strategy, intensity, members))
}

/// A supervisor whose children come and go through the [`Dynamic`] handle.
pub fn dynamic(id: impl Into<String>, intensity: Intensity, children: &Dynamic) -> Node {
    let members = Members::Dynamic(children.clone());
    Node::of_group(id.into(), Group::new(Strategy::OneForOne, intensity, members))
}

impl Node {
    fn of_group(id: String, group: Group) -> Self {
        Self {
            id: id.into(),
            restart: Restart::Permanent,
            shutdown: Shutdown::Infinity,
            is_significant: false,
            start_timeout: None,
            kind: Kind::Supervisor(Arc::new(group)),
        }
    }

    /// A supervisor that never escalates: past its intensity, the child that
    /// failed waits this long. No effect on a worker.
    pub fn cool_down(self, time: Duration) -> Self {
        self.with_group(|group| group.cool_down = Some(time))
    }

    /// Whether the supervisor ends with its significant children. No effect on
    /// a worker.
    pub fn auto_shutdown(self, auto_shutdown: AutoShutdown) -> Self {
        self.with_group(|group| group.auto_shutdown = auto_shutdown)
    }

    /// How long this supervisor's children wait for a restart. No effect on a
    /// worker.
    pub fn restart_delay(self, restart_delay: RestartDelay) -> Self {
        self.with_group(|group| group.restart_delay = restart_delay)
    }

    fn with_group(mut self, change: impl FnOnce(&mut Group)) -> Self {
        match &mut self.kind {
            Kind::Worker(_) => {}
            Kind::Supervisor(group) => change(Arc::make_mut(group)),
        }
        self
    }

    /// Its supervisor may end with it: see [`AutoShutdown`].
    pub fn significant(mut self) -> Self {
        self.is_significant = true;
        self
    }

    pub fn restart(mut self, restart: Restart) -> Self {
        self.restart = restart;
        self
    }

    pub fn shutdown(mut self, shutdown: Shutdown) -> Self {
        self.shutdown = shutdown;
        self
    }

    /// A start that takes longer has failed. Without it, as in OTP, a start
    /// may take for ever, and the siblings after it wait.
    pub fn start_timeout(mut self, time: Duration) -> Self {
        self.start_timeout = Some(time);
        self
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn id_shared(&self) -> Arc<str> {
        Arc::clone(&self.id)
    }

    pub fn outline(&self) -> Outline {
        let mut nodes = Vec::new();
        self.outline_into("", 0, &mut nodes);
        Outline { nodes }
    }

    fn outline_into(&self, prefix: &str, depth: usize, nodes: &mut Vec<OutlineNode>) {
        let path = format!("{prefix}{}", self.id);
        let group = self.group();
        let kind = match group.map(|group| &group.members) {
            None => "worker",
            Some(Members::Static(_)) => "supervisor",
            Some(Members::Dynamic(_)) => "dynamic",
        };
        // The root's id is no part of the paths below it.
        let below = if depth == 0 { String::new() } else { format!("{path}/") };
        nodes.push(OutlineNode {
            path,
            id: self.id.to_string(),
            depth,
            kind,
            strategy: group.map(|group| group.strategy.as_str()),
            intensity: group.map(|group| group.intensity.to_string()),
            restart: self.restart.as_str(),
            shutdown: self.shutdown.to_string(),
            significant: self.is_significant,
            auto_shutdown: group.map(|group| group.auto_shutdown.as_str()),
            cool_down: group.and_then(|group| group.cool_down).map(|time| format!("{time:?}")),
        });
        for child in group.map_or(&[][..], Group::children) {
            child.outline_into(&below, depth + 1, nodes);
        }
    }

    /// Ids are parts of paths, and a path means one child.
    pub(crate) fn check(&self) -> Result<(), StartError> {
        let invalid = |id: &str, why| Err(StartError::Invalid { id: id.to_owned(), why });
        if self.id.is_empty() {
            return invalid(&self.id, "an id must not be empty");
        }
        if self.id.contains('/') {
            return invalid(&self.id, "an id must not contain a slash");
        }
        let mut ids = HashSet::new();
        for child in self.group().map_or(&[][..], Group::children) {
            child.check()?;
            child.check_under(
                self.group().map_or(AutoShutdown::Never, |group| group.auto_shutdown),
            )?;
            if !ids.insert(&child.id) {
                return invalid(&child.id, "a sibling has the same id");
            }
        }
        Ok(())
    }

    pub(crate) fn check_under(&self, auto_shutdown: AutoShutdown) -> Result<(), StartError> {
        let invalid = |why| Err(StartError::Invalid { id: self.id.to_string(), why });
        match (self.is_significant, auto_shutdown, self.restart) {
            (false, _, _) => Ok(()),
            (true, AutoShutdown::Never, _) => invalid("significant, but auto_shutdown is never"),
            (true, _, Restart::Permanent) => invalid("significant, but permanent"),
            (true, _, Restart::Transient | Restart::Temporary) => Ok(()),
        }
    }

    pub(crate) fn spec(&self) -> ChildSpec {
        ChildSpec {
            id: self.id.to_string(),
            restart: self.restart,
            shutdown: self.shutdown,
            kind: self.child_kind(),
            significant: self.is_significant,
        }
    }

    pub(crate) fn child_kind(&self) -> ChildKind {
        match self.kind {
            Kind::Worker(_) => ChildKind::Worker,
            Kind::Supervisor(_) => ChildKind::Supervisor,
        }
    }

    pub(crate) fn is_significant(&self) -> bool {
        self.is_significant
    }

    pub(crate) fn group(&self) -> Option<&Arc<Group>> {
        match &self.kind {
            Kind::Worker(_) => None,
            Kind::Supervisor(group) => Some(group),
        }
    }

    pub(crate) fn restart_kind(&self) -> Restart {
        self.restart
    }

    pub(crate) fn shutdown_kind(&self) -> Shutdown {
        self.shutdown
    }

    pub(crate) fn start_limit(&self) -> Option<Duration> {
        self.start_timeout
    }

    pub(crate) fn launch(
        &self,
        slot: &Arc<Slot>,
        life: Arc<Life>,
        watcher: Option<Watcher>,
    ) -> (ActorCell, Starting) {
        match &self.kind {
            Kind::Worker(recipe) => recipe.launch(life, watcher),
            Kind::Supervisor(group) => {
                supervisor::launch(Arc::clone(slot), Arc::clone(group), life, watcher)
            }
        }
    }
}

impl Group {
    fn new(strategy: Strategy, intensity: Intensity, members: Members) -> Self {
        let (auto_shutdown, restart_delay) = (AutoShutdown::default(), RestartDelay::default());
        Self { strategy, intensity, auto_shutdown, restart_delay, cool_down: None, members }
    }

    /// Those written down; none for a dynamic supervisor.
    pub(crate) fn children(self: &Arc<Self>) -> &[Node] {
        match &self.members {
            Members::Static(children) => children,
            Members::Dynamic(_) => &[],
        }
    }

    pub(crate) fn dynamic(&self) -> Option<&Dynamic> {
        match &self.members {
            Members::Static(_) => None,
            Members::Dynamic(dynamic) => Some(dynamic),
        }
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Node");
        debug.field("id", &self.id).field("restart", &self.restart);
        debug.field("shutdown", &self.shutdown).field("group", &self.group());
        debug.finish_non_exhaustive()
    }
}

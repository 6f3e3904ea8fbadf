//! A running tree.
//!
//! Above the root there is a guardian, a supervisor that is no part of the tree:
//! it notices the root's end, and starts a root that cools down again, should
//! the root itself be killed.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::broadcast;

use crate::incarnation::Incarnation;
use crate::node::{self, Node};
use crate::slot::{Forest, Slot};
use crate::spec::{Intensity, Strategy};
use crate::supervisor::{kill, purge};
use crate::tree::Tree;
use crate::{ExitReason, NoSuchPath, Report, StartError, SupervisorHandle, panics, task};

/// The handle on a running tree. Dropping it does not stop the tree.
#[derive(Clone, Debug)]
pub struct Root {
    guardian: Arc<Slot>,
    incarnation: Arc<Incarnation>,
    runtime: Handle,
}

/// Returns when every `pre_start` of the tree has succeeded. When one fails,
/// what had started before it is stopped again.
pub async fn start(root: Node) -> Result<Root, StartError> {
    panics::install_hook();
    root.check()?;
    check_root(&root)?;
    let never_gives_up = root.group().is_some_and(|group| group.cool_down.is_some());
    // Either always again, or never.
    let restarts = if never_gives_up { usize::MAX } else { 0 };
    let id = root.id().to_owned();
    let intensity = Intensity::new(restarts, Duration::from_secs(1));
    let node = node::supervisor("guardian", Strategy::OneForOne, intensity, [root]);
    let guardian = Arc::new(Slot::new(None, 0, node, &Arc::new(Forest::default())));
    let failed = |reason| StartError::Failed { path: id, reason };
    let Some((incarnation, starting)) = guardian.launch(None, 0, None) else {
        return Err(failed(ExitReason::Killed));
    };
    match starting.await {
        Ok(Ok(_)) => Ok(Root { guardian, incarnation, runtime: Handle::current() }),
        Ok(Err(_)) | Err(_) => {
            purge(&guardian).await;
            let reason = guardian.children().first().and_then(|root| root.last_exit());
            let crash = || incarnation.crash().cloned().unwrap_or(ExitReason::Killed);
            Err(failed(reason.unwrap_or_else(crash)))
        }
    }
}

/// The root's own path is its id, so no child of it may have the same.
fn check_root(root: &Node) -> Result<(), StartError> {
    let children = root.group().map_or(&[][..], |group| group.children());
    if children.iter().any(|child| child.id() == root.id()) {
        let why = "a child of the root has the root's id";
        return Err(StartError::Invalid { id: root.id().to_owned(), why });
    }
    Ok(())
}

impl Root {
    pub fn tree(&self) -> Tree {
        Tree::of(&self.guardian)
    }

    /// Kills a worker or a supervisor with all below it, as if from outside: it
    /// counts as a failure. Nothing if it is down at the moment.
    pub fn kill(&self, path: &str) -> Result<(), NoSuchPath> {
        let slot = self.find(path);
        let slot = slot.ok_or_else(|| NoSuchPath { path: path.to_owned() })?;
        if let Some(watch) = kill(&slot) {
            task::spawn_detached(&self.runtime, watch);
        }
        Ok(())
    }

    /// Right to left; returns when every actor is gone or given up on.
    pub async fn stop(self) {
        if let Some(cell) = self.incarnation.cell() {
            cell.stop(Some("shutdown".to_owned()));
        }
        self.incarnation.gone.wait().await;
        purge(&self.guardian).await;
    }

    /// Waits until the root has ended and is not started again.
    pub async fn exited(&self) -> ExitReason {
        self.incarnation.gone.wait().await;
        let reason = self.root().and_then(|root| root.last_exit());
        reason.unwrap_or(ExitReason::Shutdown(None))
    }

    /// Actors that were killed but did not yield, and were given up on.
    pub fn orphan_count(&self) -> u64 {
        self.guardian.forest.orphan_count.load(Ordering::Relaxed)
    }

    /// Every report from now on. Lossy: a follower that is slow loses the oldest,
    /// and is told how many.
    pub fn reports(&self) -> broadcast::Receiver<Report> {
        self.guardian.forest.followers.subscribe()
    }

    /// None if there is no supervisor at this path.
    pub fn supervisor(&self, path: &str) -> Option<SupervisorHandle> {
        SupervisorHandle::new(self.find(path)?, self.runtime.clone())
    }

    fn find(&self, path: &str) -> Option<Arc<Slot>> {
        let root = self.root()?;
        if root.node.id() == path { Some(root) } else { root.find(path) }
    }

    fn root(&self) -> Option<Arc<Slot>> {
        self.guardian.children().into_iter().next()
    }
}

//! Tasks that belong to an actor.
//!
//! The only place that spawns. A task ends with its owner, and its owner counts
//! as gone only when its tasks are.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ractor::{ActorCell, ActorRef};
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;
use tracing::Span;

use crate::incarnation::Life;
use crate::{ExitReason, panics};

#[allow(clippy::disallowed_methods, reason = "the one place that spawns")]
pub(crate) fn spawn(future: impl Future<Output = ()> + Send + 'static) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(future))
}

/// For what ends by itself and soon, and may be asked for outside a runtime.
pub(crate) fn spawn_detached(runtime: &Handle, future: impl Future<Output = ()> + Send + 'static) {
    drop(runtime.spawn(future));
}

/// A task of one actor; aborted when dropped.
#[derive(Debug)]
pub struct Task {
    label: &'static str,
    handle: AbortOnDropHandle<()>,
}

/// Spawns a task whose panic is its owner's: the owner is killed, and its exit
/// reason is the panic. Keep the result in the owner's state.
pub fn task<M>(
    owner: &ActorRef<M>,
    label: &'static str,
    future: impl Future<Output = ()> + Send + 'static,
) -> Task {
    panics::install_hook();
    let owner = Owner::of(owner);
    // One value, so that the future is dropped before the owner's life.
    let mut owned = (Box::pin(future), owner);
    let handle = spawn(async move {
        let (future, owner) = &mut owned;
        if let Err(reason) = panics::catch(&owner.span(), future.as_mut()).await {
            owner.fail(label, reason);
        }
    });
    Task { label, handle }
}

impl Task {
    pub fn label(&self) -> &'static str {
        self.label
    }

    pub fn is_finished(&self) -> bool {
        self.handle.is_finished()
    }
}

/// The actor to which a task or thread belongs.
pub(crate) struct Owner {
    cell: ActorCell,
    /// None for an actor that is not supervised by us.
    life: Option<Arc<Life>>,
}

impl Owner {
    pub(crate) fn of<M>(actor: &ActorRef<M>) -> Self {
        Self { cell: actor.get_cell(), life: Life::of(actor.get_id()) }
    }

    fn span(&self) -> Span {
        self.life.as_ref().map_or_else(Span::none, |life| life.incarnation.span.clone())
    }

    pub(crate) fn fail(&self, label: &str, reason: ExitReason) {
        let mut reason = reason;
        if let ExitReason::Panicked { message, .. } = &mut reason {
            *message = format!("in {label}: {message}");
        }
        match &self.life {
            // ractor's kill carries no reason.
            Some(life) => {
                life.incarnation.crashed(reason);
                self.cell.kill();
            }
            None => self.cell.stop(Some(reason.to_string())),
        }
    }
}

/// Many tasks of one actor, which may fail without it: requests, connections.
/// Aborted when dropped.
#[derive(Default)]
pub struct TaskSet {
    tasks: JoinSet<()>,
    running_count: Arc<AtomicUsize>,
}

impl TaskSet {
    pub fn new() -> Self {
        Self::default()
    }

    /// A panic in the task is logged and ends this task only.
    pub fn spawn(
        &mut self,
        label: &'static str,
        future: impl Future<Output = ()> + Send + 'static,
    ) {
        panics::install_hook();
        // What has finished since, so that the set does not grow.
        while self.tasks.try_join_next().is_some() {}
        let running = Running::new(&self.running_count);
        let span = Span::current();
        let mut future = Box::pin(future);
        self.tasks.spawn(async move {
            let _running = running;
            if let Err(reason) = panics::catch(&span, future.as_mut()).await {
                let _span = span.enter();
                tracing::error!(context = "task", task = label, %reason, "task panicked");
            }
        });
    }

    /// Those still running.
    pub fn len(&self) -> usize {
        self.running_count.load(Ordering::Acquire)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits for the tasks, then aborts the rest. Returns how many those were,
    /// when they have ended too.
    pub async fn drain(&mut self, within: Duration) -> usize {
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(within, all).await.is_ok() {
            return 0;
        }
        let aborted_count = self.len();
        self.tasks.shutdown().await;
        aborted_count
    }
}

impl fmt::Debug for TaskSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskSet").field("len", &self.len()).finish()
    }
}

struct Running(Arc<AtomicUsize>);

impl Running {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(count))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

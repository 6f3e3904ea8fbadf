//! The way to the journal's thread: a channel whose ends are replaced when the
//! journal restarts. What is put in while it is closed is refused, and the
//! session that put it in is over.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use arc_swap::ArcSwapOption;
use change::{Fragment, Lsn};
use storage::Position;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::routing::Targets;

#[derive(Clone, Debug, Default)]
pub(crate) struct Door {
    sender: Arc<ArcSwapOption<Sender<Command>>>,
    /// Beside the channel, so that a thread that waits for a full disk sees it.
    removable: Arc<AtomicU64>,
}

/// What the thread does. Bounded by the permits that ride in `Append`.
#[derive(Debug)]
pub(crate) enum Command {
    /// A new replication session begins. Batches of older ones are refused
    /// from here on (invariant I-3).
    OpenSession {
        reply: oneshot::Sender<(u64, Position)>,
    },
    Append(Batch),
    /// Forget everything: the log begins anew at this position of a new slot.
    Reset {
        start_lsn: Lsn,
        reply: oneshot::Sender<()>,
    },
    /// There are files that may go, see [`Door::removable_lsn`].
    RemoveSettled,
}

/// What the router hands over at once.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) session: u64,
    pub(crate) fragments: Vec<Routed>,
    /// The stream has reached this position and everything before it has been
    /// handed over.
    pub(crate) reached_lsn: Option<Lsn>,
    /// Given back when the batch is durable: this is what slows Postgres down.
    pub(crate) permit: Option<OwnedSemaphorePermit>,
}

/// A fragment's changes to tables with shapes, and those shapes. Without
/// changes only its commit counts, as a position.
#[derive(Debug)]
pub(crate) struct Routed {
    pub(crate) fragment: Fragment,
    pub(crate) targets: Vec<Targets>,
}

/// The journal is not there at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the journal is restarting")]
pub(crate) struct Closed;

impl Door {
    pub(super) fn open(&self) -> Receiver<Command> {
        let (sender, receiver) = channel();
        self.sender.store(Some(Arc::new(sender)));
        receiver
    }

    pub(super) fn close(&self) {
        self.sender.store(None);
    }

    fn send(&self, command: Command) -> Result<(), Closed> {
        let sender = self.sender.load();
        sender.as_ref().ok_or(Closed)?.send(command).map_err(|_| Closed)
    }

    pub(crate) fn append(&self, batch: Batch) -> Result<(), Closed> {
        self.send(Command::Append(batch))
    }

    /// The new session's number, and the durable position it must start from.
    pub(crate) async fn open_session(&self) -> Result<(u64, Position), Closed> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::OpenSession { reply })?;
        answer.await.map_err(|_| Closed)
    }

    pub(crate) async fn reset(&self, start_lsn: Lsn) -> Result<(), Closed> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Reset { start_lsn, reply })?;
        answer.await.map_err(|_| Closed)
    }

    /// Every shape has what is at or before this position in its segment.
    pub(crate) fn remove_before(&self, lsn: Lsn) -> Result<(), Closed> {
        self.removable.fetch_max(lsn.0, Ordering::AcqRel);
        self.send(Command::RemoveSettled)
    }

    pub(super) fn removable_lsn(&self) -> Lsn {
        Lsn(self.removable.load(Ordering::Acquire))
    }

    /// Positions of another source mean nothing.
    pub(super) fn forget_removable(&self) {
        self.removable.store(0, Ordering::Release);
    }
}

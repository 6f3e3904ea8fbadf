//! The handle on a supervisor whose children come and go.
//!
//! As in OTP, the children do not survive a crash of their supervisor; whoever
//! owns them sees [`Dynamic::generation`] change and starts them again.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::node::Node;
use crate::slot::Slot;
use crate::supervisor::Message;
use crate::{Mailbox, NotFound, StartError};

/// Children of one dynamic supervisor. Belongs to one [`crate::dynamic`] node.
#[derive(Clone)]
pub struct Dynamic {
    shared: Arc<Shared>,
}

struct Shared {
    max: usize,
    mailbox: Mailbox<Message>,
    slot: Mutex<Option<Arc<Slot>>>,
    generation: AtomicU64,
}

impl Dynamic {
    pub fn new() -> Self {
        Self::with_max(usize::MAX)
    }

    pub fn with_max(max: usize) -> Self {
        let shared = Shared {
            max,
            mailbox: Mailbox::new(),
            slot: Mutex::new(None),
            generation: AtomicU64::new(0),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Returns when the child's `pre_start` has succeeded. Starts of several
    /// children run side by side. A child of the same id that is ending by
    /// itself is waited for, not an error.
    pub async fn start_child(&self, node: Node) -> Result<(), StartError> {
        node.check()?;
        let (reply, answer) = oneshot::channel();
        let message = Message::StartChild { node: Box::new(node), reply };
        self.shared.mailbox.send(message).map_err(|_| StartError::NotRunning)?;
        answer.await.unwrap_or(Err(StartError::NotRunning))
    }

    /// Returns when the child is gone. Also ends a restart that is pending.
    pub async fn terminate_child(&self, id: &str) -> Result<(), NotFound> {
        let (reply, answer) = oneshot::channel();
        let message = Message::TerminateChild { id: id.into(), reply };
        // A supervisor that is down has no children.
        let sent = self.shared.mailbox.send(message).is_ok();
        let is_found = sent && answer.await.unwrap_or(false);
        if is_found { Ok(()) } else { Err(NotFound { id: id.to_owned() }) }
    }

    /// In start order; those waiting for a restart are included.
    pub fn child_ids(&self) -> Vec<String> {
        let slot = self.shared.slot.lock().clone();
        let children = slot.map(|slot| slot.children()).unwrap_or_default();
        children.iter().map(|child| child.node.id().to_owned()).collect()
    }

    pub fn count(&self) -> usize {
        let slot = self.shared.slot.lock().clone();
        slot.and_then(|slot| Some(slot.lock()?.slots.len())).unwrap_or(0)
    }

    /// How often the supervisor has been started. When it changes, all
    /// children of before are gone.
    pub fn generation(&self) -> u64 {
        self.shared.generation.load(Ordering::SeqCst)
    }

    pub fn is_running(&self) -> bool {
        self.shared.mailbox.is_up()
    }

    pub(crate) fn max(&self) -> usize {
        self.shared.max
    }

    pub(crate) fn mailbox(&self) -> Mailbox<Message> {
        self.shared.mailbox.clone()
    }

    pub(crate) fn begin(&self, slot: &Arc<Slot>) {
        *self.shared.slot.lock() = Some(Arc::clone(slot));
        self.shared.generation.fetch_add(1, Ordering::SeqCst);
    }
}

impl Default for Dynamic {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Dynamic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dynamic")
            .field("generation", &self.generation())
            .field("count", &self.count())
            .finish_non_exhaustive()
    }
}

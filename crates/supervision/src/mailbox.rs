//! The address of an actor; it survives the actor's restarts.
//!
//! Made before the tree, so that wiring does not depend on start order. Up
//! from the moment `pre_start` has succeeded until the actor ends; a message
//! sent in between is refused rather than kept, as in OTP.
//!
//! A shared reference that can change costs two locked instructions per look,
//! a quarter of a whole send. So each thread remembers a few addresses, and
//! looks again when their version has changed.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use ractor::{ActorCell, ActorId, ActorRef, ActorStatus, Message, RpcReplyPort};
use tokio::sync::oneshot;

use crate::{CallError, Undelivered};

/// Mailboxes that one thread remembers; those with ids that collide here take
/// turns, at the price of a lock.
const RECENT_COUNT: usize = 16;

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

thread_local! {
    /// May keep the cells of dead actors, but not their states, and no more
    /// than there are entries.
    static RECENT: RefCell<[Recent; RECENT_COUNT]> = RefCell::default();
}

#[derive(Default)]
struct Recent {
    mailbox_id: u64,
    version: u64,
    actor: Option<ActorCell>,
}

pub struct Mailbox<M> {
    shared: Arc<Shared<M>>,
}

struct Shared<M> {
    id: u64,
    /// Changes after every change of `actor`.
    version: AtomicU64,
    /// Messages that are or were in an actor's queue.
    sent: Arc<AtomicU64>,
    actor: Mutex<Option<ActorRef<M>>>,
}

impl<M> Mailbox<M> {
    pub fn new() -> Self {
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        let shared = Shared {
            id,
            version: AtomicU64::new(0),
            sent: Arc::default(),
            actor: Mutex::new(None),
        };
        Self { shared: Arc::new(shared) }
    }

    pub fn is_up(&self) -> bool {
        let actor = self.shared.actor.lock();
        actor.as_ref().is_some_and(|actor| actor.get_status() < ActorStatus::Draining)
    }

    /// The present incarnation, for owning tasks or monitoring. Do not keep it.
    pub fn actor(&self) -> Option<ActorRef<M>> {
        self.shared.actor.lock().clone()
    }

    pub(crate) fn sent(&self) -> &Arc<AtomicU64> {
        &self.shared.sent
    }

    pub(crate) fn attach(&self, actor: ActorRef<M>) {
        *self.shared.actor.lock() = Some(actor);
        self.shared.version.fetch_add(1, Ordering::Release);
    }

    /// An actor that outlived its supervisor's patience must not take down the
    /// address of its successor.
    pub(crate) fn detach(&self, id: ActorId) {
        let mut actor = self.shared.actor.lock();
        if actor.as_ref().is_some_and(|actor| actor.get_id() == id) {
            *actor = None;
            self.shared.version.fetch_add(1, Ordering::Release);
        }
    }
}

impl<M: Message> Mailbox<M> {
    pub fn send(&self, message: M) -> Result<(), Undelivered> {
        // First, so that the actor does not take more than was sent.
        self.shared.sent.fetch_add(1, Ordering::Relaxed);
        let result = self.deliver(message);
        if result.is_err() {
            self.shared.sent.fetch_sub(1, Ordering::Relaxed);
        }
        result
    }

    fn deliver(&self, message: M) -> Result<(), Undelivered> {
        let mut message = Some(message);
        let sent = RECENT.try_with(|recent| {
            // Borrowed only if sending should ever run code that sends.
            let mut recent = recent.try_borrow_mut().ok()?;
            let actor = self.shared.look(&mut recent);
            actor.zip(message.take()).map(|(actor, message)| actor.send_message(message))
        });
        match (sent, message) {
            (Ok(Some(sent)), _) => sent.map_err(|_| Undelivered),
            // Not looked up, or down.
            (_, Some(message)) => match self.actor() {
                Some(actor) => actor.send_message(message).map_err(|_| Undelivered),
                None => Err(Undelivered),
            },
            (_, None) => Err(Undelivered),
        }
    }

    pub async fn call<T: Send + 'static>(
        &self,
        timeout: Duration,
        message: impl FnOnce(RpcReplyPort<T>) -> M,
    ) -> Result<T, CallError> {
        let (sender, receiver) = oneshot::channel();
        self.send(message((sender, timeout).into())).map_err(|Undelivered| CallError::Down)?;
        match tokio::time::timeout(timeout, receiver).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(CallError::NoReply),
            Err(_) => Err(CallError::Timeout),
        }
    }
}

impl<M> Shared<M> {
    fn look<'a>(&self, recent: &'a mut [Recent; RECENT_COUNT]) -> Option<&'a ActorCell> {
        // First the version: should the actor change in between, the entry is
        // newer than it says, and is looked up once more.
        let version = self.version.load(Ordering::Acquire);
        let entry = &mut recent[self.id as usize % RECENT_COUNT];
        if entry.mailbox_id != self.id || entry.version != version {
            let actor = self.actor.lock().as_ref().map(ActorRef::get_cell);
            *entry = Recent { mailbox_id: self.id, version, actor };
        }
        entry.actor.as_ref()
    }
}

impl<M> Default for Mailbox<M> {
    fn default() -> Self {
        Self::new()
    }
}

impl<M> Clone for Mailbox<M> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<M> fmt::Debug for Mailbox<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox").field("up", &self.is_up()).finish()
    }
}

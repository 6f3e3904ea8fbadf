//! The address of an actor; it survives the actor's restarts.
//!
//! Made before the tree, so that wiring does not depend on start order. Up
//! from the moment `pre_start` has succeeded until the actor ends; a message
//! sent in between is refused rather than kept, as in OTP.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use ractor::{ActorId, ActorRef, ActorStatus, Message, RpcReplyPort};
use tokio::sync::oneshot;

use crate::{CallError, Undelivered};

pub struct Mailbox<M> {
    actor: Arc<ArcSwapOption<ActorRef<M>>>,
}

impl<M> Mailbox<M> {
    pub fn new() -> Self {
        Self { actor: Arc::new(ArcSwapOption::empty()) }
    }

    pub fn is_up(&self) -> bool {
        self.actor.load().as_ref().is_some_and(|actor| actor.get_status() < ActorStatus::Draining)
    }

    /// The present incarnation, for owning tasks or monitoring. Do not keep it.
    pub fn actor(&self) -> Option<ActorRef<M>> {
        self.actor.load().as_deref().cloned()
    }

    pub(crate) fn attach(&self, actor: ActorRef<M>) {
        self.actor.store(Some(Arc::new(actor)));
    }

    /// An actor that outlived its supervisor's patience must not take down the
    /// address of its successor.
    pub(crate) fn detach(&self, id: ActorId) {
        self.actor.rcu(|actor| match actor {
            Some(actor) if actor.get_id() == id => None,
            other => other.clone(),
        });
    }
}

impl<M: Message> Mailbox<M> {
    pub fn send(&self, message: M) -> Result<(), Undelivered> {
        match self.actor.load().as_ref() {
            Some(actor) => actor.send_message(message).map_err(|_| Undelivered),
            None => Err(Undelivered),
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

impl<M> Default for Mailbox<M> {
    fn default() -> Self {
        Self::new()
    }
}

impl<M> Clone for Mailbox<M> {
    fn clone(&self) -> Self {
        Self { actor: Arc::clone(&self.actor) }
    }
}

impl<M> fmt::Debug for Mailbox<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox").field("up", &self.is_up()).finish()
    }
}

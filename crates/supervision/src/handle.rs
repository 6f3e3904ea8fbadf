//! The handle on one supervisor of a running tree: OTP's functions.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::node::Node;
use crate::slot::Slot;
use crate::spec::{Child, ChildCounts, ChildKind, ChildSpec, ChildState};
use crate::supervisor::{Message, kill};
use crate::{ChildError, NoSuchPath, StartError, task};

/// One supervisor, static or dynamic. Survives the supervisor's restarts; like
/// OTP's, those undo what was started, terminated or deleted.
#[derive(Clone, Debug)]
pub struct SupervisorHandle {
    slot: Arc<Slot>,
    runtime: Handle,
}

impl SupervisorHandle {
    pub(crate) fn new(slot: Arc<Slot>, runtime: Handle) -> Option<Self> {
        slot.node.group()?;
        Some(Self { slot, runtime })
    }

    pub fn path(&self) -> &str {
        &self.slot.path
    }

    /// After those that are there. Returns when the child has started; one that
    /// fails is not kept.
    pub async fn start_child(&self, node: Node) -> Result<(), StartError> {
        node.check()?;
        let node = Box::new(node);
        let answer = self.ask(|reply| Message::StartChild { node, reply }).await;
        answer.unwrap_or(Err(StartError::NotRunning))
    }

    /// Returns when the child is gone. A child that is neither temporary nor
    /// dynamic is kept, and can be restarted or deleted.
    pub async fn terminate_child(&self, id: &str) -> Result<(), ChildError> {
        match self.ask(|reply| Message::TerminateChild { id: id.into(), reply }).await {
            Some(true) => Ok(()),
            Some(false) => Err(ChildError::NotFound { id: id.to_owned() }),
            None => Err(ChildError::NotRunning),
        }
    }

    /// Starts a child that has ended or been terminated.
    pub async fn restart_child(&self, id: &str) -> Result<(), ChildError> {
        let answer = self.ask(|reply| Message::RestartChild { id: id.into(), reply }).await;
        answer.unwrap_or(Err(ChildError::NotRunning))
    }

    /// Forgets a child that has ended or been terminated.
    pub async fn delete_child(&self, id: &str) -> Result<(), ChildError> {
        let answer = self.ask(|reply| Message::DeleteChild { id: id.into(), reply }).await;
        answer.unwrap_or(Err(ChildError::NotRunning))
    }

    /// In start order.
    pub async fn which_children(&self) -> Result<Vec<Child>, ChildError> {
        self.ask(|reply| Message::WhichChildren { reply }).await.ok_or(ChildError::NotRunning)
    }

    pub async fn count_children(&self) -> Result<ChildCounts, ChildError> {
        let mut counts = ChildCounts::default();
        for child in self.which_children().await? {
            counts.specs += 1;
            match child.state {
                ChildState::Running => counts.active += 1,
                ChildState::Restarting | ChildState::Stopped => {}
            }
            match child.kind {
                ChildKind::Worker => counts.workers += 1,
                ChildKind::Supervisor => counts.supervisors += 1,
            }
        }
        Ok(counts)
    }

    pub fn get_childspec(&self, id: &str) -> Result<ChildSpec, ChildError> {
        if self.slot.live().is_none() {
            return Err(ChildError::NotRunning);
        }
        let child = self.slot.child(id);
        child.map(|child| child.node.spec()).ok_or_else(|| ChildError::NotFound { id: id.into() })
    }

    /// As [`crate::Root::kill`], of something below this supervisor.
    pub fn kill(&self, path: &str) -> Result<(), NoSuchPath> {
        let slot = self.slot.find(path);
        let slot = slot.ok_or_else(|| NoSuchPath { path: path.to_owned() })?;
        if let Some(watch) = kill(&slot) {
            task::spawn_detached(&self.runtime, watch);
        }
        Ok(())
    }

    /// None if the supervisor is down, or goes down before it answers.
    async fn ask<T>(&self, message: impl FnOnce(oneshot::Sender<T>) -> Message) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        let incarnation = self.slot.live()?;
        incarnation.cell()?.send_message(message(reply)).ok()?;
        answer.await.ok()
    }
}

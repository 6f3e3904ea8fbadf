//! What a supervisor is asked to do with single children, and what becomes of
//! a child that is not started again.
//!
//! As in OTP, a request that meets a group restart, or a child that is on its
//! way out, is answered after it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::children::{Asked, ChildReply, Phase, StartReply, Successor};
use super::state::State;
use super::{Message, end, round};
use crate::node::Node;
use crate::slot::{Slot, Standing};
use crate::spec::{Child, ChildState, Restart};
use crate::{ChildError, ExitReason, StartError, task};

/// What a request finds.
enum Found {
    Running(u64),
    Restarting(u64),
    Stopped(u64),
    /// Asked again when it is over.
    Busy,
    Nothing,
}

impl State {
    /// No report, as in OTP: whoever has asked is told.
    pub(super) fn asked_start_failed(&mut self, key: u64, reason: ExitReason, asked: Asked) {
        let Some(child) = self.children.get_mut(key) else { return };
        let slot = Arc::clone(&child.slot);
        match asked {
            Asked::Start(_) => {
                self.children.remove(key);
                self.context.slot.remove(key);
            }
            Asked::Restart(_) => {
                child.phase = Phase::Down;
                slot.set_standing(Standing::Stopped);
            }
        }
        asked.failed(&slot, reason);
    }

    /// Waits until it is gone; then it is forgotten or stays down.
    pub(super) fn end_child(&mut self, key: u64, reply: Option<oneshot::Sender<bool>>) {
        let Some(child) = self.children.get_mut(key) else { return };
        if let Phase::Ending { replies, .. } = &mut child.phase {
            replies.extend(reply);
            return;
        }
        let mut replaced = None;
        if let Phase::InRound { round } = child.phase
            && let Some(round) = self.rounds.remove(&round)
        {
            replaced = Some(round.task);
            if let Some(asked) = round.asked {
                asked.failed(&child.slot, ExitReason::Shutdown(None));
            }
        }
        let slot = Arc::clone(&child.slot);
        let (actor, life) = (self.context.actor.clone(), Arc::clone(&self.life));
        let task = task::spawn(async move {
            round::settle(replaced.into_iter().collect()).await;
            end(&slot, Standing::Stopped).await;
            let _ = actor.send_message(Message::ChildEnded { key });
            drop(life);
        });
        child.phase = Phase::Ending { task, replies: reply.into_iter().collect() };
    }

    pub(super) fn child_ended(&mut self, key: u64) {
        let Some(child) = self.children.get_mut(key) else { return };
        let Phase::Ending { replies, .. } = &mut child.phase else { return };
        for reply in replies.drain(..) {
            let _ = reply.send(true);
        }
        child.phase = Phase::Down;
        let is_temporary = child.slot.node.restart_kind() == Restart::Temporary;
        if is_temporary || self.group.dynamic().is_some() {
            self.context.slot.remove(key);
            if let Some(successor) = self.children.remove(key).and_then(|child| child.successor) {
                let Successor { node, reply } = *successor;
                self.start_child(node, reply);
            }
        }
        if self.context.slot.depth.is_none() {
            // The guardian has nothing to guard any more.
            self.stop_myself("the root has ended");
        }
        self.resume();
    }

    pub(super) fn start_child(&mut self, node: Node, reply: StartReply) {
        let id = node.id().to_owned();
        if let Err(error) = self.check_new(&node) {
            let _ = reply.send(Err(error));
            return;
        }
        if let Some(dynamic) = self.group.dynamic() {
            let max = dynamic.max();
            if let Some(key) = self.children.key_of(&id) {
                return self.succeed(key, node, reply);
            }
            if self.children.len() >= max {
                let _ = reply.send(Err(StartError::AtCapacity { max }));
                return;
            }
        }
        match self.find(&id) {
            Found::Nothing => {
                let key = self.children.next_key();
                let slot = self.context.slot.insert(key, node);
                self.children.push(slot, Phase::Down);
                self.begin_round(vec![key], Vec::new(), Duration::ZERO, Some(Asked::Start(reply)));
            }
            Found::Busy => {
                self.deferred.push(Message::StartChild { node: Box::new(node), reply });
            }
            Found::Running(_) | Found::Restarting(_) => {
                let _ = reply.send(Err(StartError::AlreadyStarted { id }));
            }
            Found::Stopped(_) => {
                let _ = reply.send(Err(StartError::AlreadyPresent { id }));
            }
        }
    }

    fn check_new(&self, node: &Node) -> Result<(), StartError> {
        let slot = &self.context.slot;
        if slot.depth == Some(0) && slot.node.id() == node.id() {
            let why = "a child of the root has the root's id";
            return Err(StartError::Invalid { id: node.id().to_owned(), why });
        }
        node.check_under(self.group.auto_shutdown)
    }

    /// The new child comes after the old one, if that is ending by itself.
    fn succeed(&mut self, key: u64, node: Node, reply: StartReply) {
        let Some(child) = self.children.get_mut(key) else { return };
        if child.may_be_succeeded() {
            child.successor = Some(Box::new(Successor { node, reply }));
        } else {
            let _ = reply.send(Err(StartError::AlreadyStarted { id: node.id().to_owned() }));
        }
    }

    pub(super) fn terminate_child(&mut self, id: Arc<str>, reply: oneshot::Sender<bool>) {
        let key = self.children.key_of(&id);
        let is_ending = key
            .and_then(|key| self.children.get_mut(key))
            .is_some_and(|child| matches!(child.phase, Phase::Ending { .. }));
        match self.find(&id) {
            Found::Busy if is_ending => {
                if let Some(key) = key {
                    self.end_child(key, Some(reply));
                }
            }
            Found::Busy => self.deferred.push(Message::TerminateChild { id, reply }),
            Found::Running(key) | Found::Restarting(key) => self.end_child(key, Some(reply)),
            Found::Stopped(_) => {
                let _ = reply.send(true);
            }
            Found::Nothing => {
                let _ = reply.send(false);
            }
        }
    }

    pub(super) fn restart_child(&mut self, id: Arc<str>, reply: ChildReply) {
        match self.find(&id) {
            Found::Stopped(key) => {
                self.begin_round(
                    vec![key],
                    Vec::new(),
                    Duration::ZERO,
                    Some(Asked::Restart(reply)),
                );
            }
            Found::Busy => self.deferred.push(Message::RestartChild { id, reply }),
            found @ (Found::Running(_) | Found::Restarting(_) | Found::Nothing) => {
                let _ = reply.send(Err(self.refusal(&found, &id)));
            }
        }
    }

    pub(super) fn delete_child(&mut self, id: Arc<str>, reply: ChildReply) {
        match self.find(&id) {
            Found::Stopped(key) => {
                self.children.remove(key);
                self.context.slot.remove(key);
                let _ = reply.send(Ok(()));
            }
            Found::Busy => self.deferred.push(Message::DeleteChild { id, reply }),
            found @ (Found::Running(_) | Found::Restarting(_) | Found::Nothing) => {
                let _ = reply.send(Err(self.refusal(&found, &id)));
            }
        }
    }

    fn refusal(&self, found: &Found, id: &str) -> ChildError {
        let id = id.to_owned();
        if self.group.dynamic().is_some() {
            return ChildError::Dynamic;
        }
        match found {
            Found::Running(_) => ChildError::Running { id },
            Found::Restarting(_) => ChildError::Restarting { id },
            Found::Stopped(_) | Found::Busy | Found::Nothing => ChildError::NotFound { id },
        }
    }

    fn find(&mut self, id: &str) -> Found {
        let Some(key) = self.children.key_of(id) else { return Found::Nothing };
        let Some(child) = self.children.get_mut(key) else { return Found::Nothing };
        match &child.phase {
            Phase::Up => Found::Running(key),
            Phase::Down => Found::Stopped(key),
            Phase::Ending { .. } => Found::Busy,
            Phase::InRound { round } => match self.rounds.get(round) {
                Some(round) if round.keys.len() > 1 => Found::Busy,
                Some(_) | None => Found::Restarting(key),
            },
        }
    }

    /// Looks again at what had to wait.
    pub(super) fn resume(&mut self) {
        for message in std::mem::take(&mut self.deferred) {
            self.request(message);
        }
    }

    pub(super) fn which_children(&self) -> Vec<Child> {
        let view = |slot: &Slot, state| Child {
            id: slot.node.id().to_owned(),
            state,
            kind: slot.node.child_kind(),
        };
        let is_kept = |slot: &Slot| {
            slot.node.restart_kind() != Restart::Temporary && self.group.dynamic().is_none()
        };
        let children = self.children.from(0).filter_map(|child| match &child.phase {
            Phase::Up => Some(view(&child.slot, ChildState::Running)),
            Phase::InRound { .. } => Some(view(&child.slot, ChildState::Restarting)),
            Phase::Ending { .. } | Phase::Down => {
                is_kept(&child.slot).then(|| view(&child.slot, ChildState::Stopped))
            }
        });
        children.collect()
    }
}

impl Asked {
    pub(super) fn started(self) {
        // The caller may have gone.
        match self {
            Self::Start(reply) => drop(reply.send(Ok(()))),
            Self::Restart(reply) => drop(reply.send(Ok(()))),
        }
    }

    fn failed(self, slot: &Slot, reason: ExitReason) {
        let path = slot.path.to_string();
        match self {
            Self::Start(reply) => drop(reply.send(Err(StartError::Failed { path, reason }))),
            Self::Restart(reply) => drop(reply.send(Err(ChildError::Failed { path, reason }))),
        }
    }
}

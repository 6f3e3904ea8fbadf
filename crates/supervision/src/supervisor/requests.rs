//! Children that come and go: requests of [`crate::Dynamic`], and what becomes
//! of a child that is not started again.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::children::{Child, Phase, StartReply, Successor};
use super::state::State;
use super::{Message, end, round};
use crate::node::Node;
use crate::slot::Standing;
use crate::spec::Restart;
use crate::{ExitReason, StartError, report, task};

impl State {
    pub(super) fn first_start_failed(&mut self, key: u64, reason: ExitReason, reply: StartReply) {
        if let Some(child) = self.children.remove(key) {
            report::start_error(&child.slot, &reason);
            self.context.slot.remove(key);
            let _ = reply.send(Err(child.slot.failed(reason)));
        }
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
            if let Some(first) = round.reply {
                let _ = first.send(Err(child.slot.failed(ExitReason::Shutdown(None))));
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
            if let Some(Child { successor: Some(successor), .. }) = self.children.remove(key) {
                let Successor { node, reply } = *successor;
                self.start_child(node, reply);
            }
        }
        if self.context.slot.depth.is_none() {
            // The guardian has nothing to guard any more.
            self.stop_myself("the root has ended");
        }
    }

    pub(super) fn start_child(&mut self, node: Node, reply: StartReply) {
        let Some(dynamic) = self.group.dynamic() else { return };
        let max = dynamic.max();
        if let Some(child) =
            self.children.key_of(node.id()).and_then(|key| self.children.get_mut(key))
        {
            if child.may_be_succeeded() {
                child.successor = Some(Box::new(Successor { node, reply }));
            } else {
                let id = node.id().to_owned();
                let _ = reply.send(Err(StartError::AlreadyStarted { id }));
            }
            return;
        }
        if self.children.len() >= max {
            let _ = reply.send(Err(StartError::AtCapacity { max }));
            return;
        }
        let key = self.children.next_key();
        let slot = self.context.slot.insert(key, node);
        self.children.push(slot, Phase::Down);
        self.begin_round(vec![key], Vec::new(), Duration::ZERO, Some(reply));
    }

    pub(super) fn terminate_child(&mut self, id: &str, reply: oneshot::Sender<bool>) {
        match self.children.key_of(id) {
            Some(key) => self.end_child(key, Some(reply)),
            None => {
                let _ = reply.send(false);
            }
        }
    }
}

//! The supervisor.
//!
//! Owns       its children's phases, the intensity window, the restart rounds.
//! Receives   exits of its children, ends of rounds, requests of [`crate::Dynamic`].
//! Sends      nothing; what it does to its children, rounds do.
//! Fails      never by its own fault; it ends with `shutdown` when its
//!            intensity is exceeded, and its own supervisor decides.
//!
//! It never waits in a handler, so it can always be asked to stop.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use ractor::{Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::sync::oneshot;

use crate::incarnation::Life;
use crate::node::{Group, Node};
use crate::shell::{self, Launch, Starting};
use crate::slot::Slot;
use crate::spec::Child;
use crate::{ExitReason, Mailbox, StartError};

mod children;
mod requests;
mod restart;
mod round;
mod state;
mod stop;

use children::ChildReply;
pub(crate) use state::State;
pub(crate) use stop::{end, kill, purge};

#[derive(Clone, Debug)]
pub(crate) struct Args {
    pub(crate) slot: Arc<Slot>,
    pub(crate) group: Arc<Group>,
}

#[derive(Debug)]
pub(crate) enum Message {
    RoundEnded {
        round: u64,
        outcome: Result<(), round::Failure>,
    },
    /// A child that is not to be started again is gone.
    ChildEnded {
        key: u64,
    },
    /// A child that was killed does not yield; ractor will not tell.
    ChildGivenUp {
        key: u64,
        generation: u64,
    },
    StartChild {
        node: Box<Node>,
        reply: oneshot::Sender<Result<(), StartError>>,
    },
    /// The answer is whether there was such a child.
    TerminateChild {
        id: Arc<str>,
        reply: oneshot::Sender<bool>,
    },
    RestartChild {
        id: Arc<str>,
        reply: ChildReply,
    },
    DeleteChild {
        id: Arc<str>,
        reply: ChildReply,
    },
    /// In start order.
    WhichChildren {
        reply: oneshot::Sender<Vec<Child>>,
    },
}

/// One incarnation of a supervisor, as its rounds and children see it.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) slot: Arc<Slot>,
    pub(crate) generation: u64,
    actor: ActorRef<Message>,
    /// Which child an actor is. Events name actors only.
    keys: Mutex<HashMap<ActorId, u64>>,
    /// Held by a group round while it works.
    turn: tokio::sync::Mutex<()>,
}

/// Tells a supervisor about the end of a child.
#[derive(Debug)]
pub(crate) struct Watcher {
    context: Arc<Context>,
    key: u64,
}

impl Watcher {
    pub(crate) fn supervisor(&self) -> ActorRef<Message> {
        self.context.actor.clone()
    }

    /// Called by the child before anything of it can fail, so that no exit is
    /// missed.
    pub(crate) fn adopt(&self, child: &ActorCell) {
        self.context.keys.lock().insert(child.get_id(), self.key);
        self.context.actor.monitor(child.clone());
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Supervisor;

pub(crate) fn launch(
    slot: Arc<Slot>,
    group: Arc<Group>,
    life: Arc<Life>,
    watcher: Option<Watcher>,
) -> (ActorCell, Starting) {
    let mailbox = group.dynamic().map_or_else(Mailbox::new, |dynamic| dynamic.mailbox());
    let args = Args { slot, group };
    shell::launch(Launch { actor: Supervisor, args, mailbox: Some(mailbox), watcher, life })
}

impl Actor for Supervisor {
    type Arguments = Args;
    type Msg = Message;
    type State = State;

    async fn pre_start(
        &self,
        myself: ActorRef<Message>,
        args: Args,
    ) -> Result<State, ActorProcessingErr> {
        let life = Life::of(myself.get_id()).ok_or(ExitReason::Killed)?;
        let mut state = State::new(myself, args, life);
        state.start_children().await?;
        Ok(state)
    }

    async fn handle(
        &self,
        _myself: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        state.request(message);
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _myself: ActorRef<Message>,
        event: SupervisionEvent,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorTerminated(child, _, reason) => {
                state.child_exited(child.get_id(), ExitReason::from_stop(reason.as_deref()));
            }
            SupervisionEvent::ActorFailed(child, error) => {
                state.child_exited(child.get_id(), ExitReason::Failed(error.to_string()));
            }
            SupervisionEvent::ActorStarted(_) | SupervisionEvent::ProcessGroupChanged(_) => {}
        }
        Ok(())
    }

    async fn post_stop(
        &self,
        _myself: ActorRef<Message>,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        state.stop_children().await;
        Ok(())
    }
}

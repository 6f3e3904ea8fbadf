//! Lets the journal go where every shape has its data in its own segment.
//!
//! Owns       a timer.
//! Receives   its ticks.
//! Sends      to consumers that they sync, to `store/journal` what may go.
//! Fails      never; a round that comes to nothing is repeated.

use std::sync::Arc;
use std::time::Duration;

use change::Lsn;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use supervision::Task;

use super::journal::Door;
use crate::facts::{Fact, JournalFacts};
use crate::shapes::consumers::consumer;
use crate::shapes::index::Index;

/// Everything the compactor can reach.
#[derive(Clone, Debug)]
pub(crate) struct Args {
    pub(crate) index: Arc<Index>,
    pub(crate) door: Door,
    pub(crate) facts: Fact<JournalFacts>,
    pub(crate) loaded: Fact<bool>,
}

pub(crate) type Mailbox = supervision::Mailbox<Message>;

#[derive(Debug)]
pub(crate) enum Message {
    Tick,
}

#[derive(Debug)]
pub(crate) struct State {
    args: Args,
    _ticks: Task,
}

/// How often the journal is looked at. It is cut at file boundaries only, so
/// oftener would find nothing.
const INTERVAL: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug)]
pub(crate) struct Compactor;

impl Actor for Compactor {
    type Arguments = Args;
    type Msg = Message;
    type State = State;

    async fn pre_start(
        &self,
        myself: ActorRef<Message>,
        args: Args,
    ) -> Result<State, ActorProcessingErr> {
        let owner = myself.clone();
        let ticks = async move {
            loop {
                tokio::time::sleep(INTERVAL).await;
                // The task ends with its owner.
                let _ = owner.send_message(Message::Tick);
            }
        };
        Ok(State { args, _ticks: supervision::task(&myself, "ticks", ticks) })
    }

    async fn handle(
        &self,
        _myself: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Tick => {
                state.args.round();
                Ok(())
            }
        }
    }
}

impl Args {
    fn round(&self) {
        // Before the shapes are known, nothing can be said to be unneeded.
        if !self.loaded.get() {
            return;
        }
        // Creations first: one that becomes a shape meanwhile is in both lists.
        let creations = self.index.creations();
        let dispatched_lsn = self.facts.get().dispatched_lsn;
        let mut settled_lsn = dispatched_lsn;
        for creation in creations {
            settled_lsn = settled_lsn.min(creation.registered_lsn);
        }
        for shape in self.index.shapes() {
            settled_lsn = settled_lsn.min(shape.inbox.settled_lsn(dispatched_lsn));
            if shape.inbox.is_unsynced() {
                // Counts in the next round.
                let _ = shape.inbox.consumer().send(consumer::Message::Sync);
            }
        }
        if settled_lsn > Lsn::ZERO {
            // While the journal restarts there is no hurry.
            let _ = self.door.remove_before(settled_lsn);
        }
    }
}

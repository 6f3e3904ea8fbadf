//! The journal's owner: one thread that appends, syncs and delivers.
//!
//! Owns       the journal files and the thread that writes them.
//! Receives   batches from `postgres/leader/router`, through the [`Door`].
//! Publishes  how far it is durable: the only position confirmed to Postgres.
//! Fails      when the files cannot be written. What was not synced was
//!            neither confirmed nor shown, and Postgres sends it again.

mod door;
mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use storage::Directory;
use supervision::Thread;
use tokio::sync::oneshot;

pub(crate) use door::{Batch, Door, Routed};
use writer::Writer;

use crate::facts::{Fact, JournalFacts};
use crate::routing::Routing;

/// Everything the journal can reach.
#[derive(Clone, Debug)]
pub(crate) struct Args {
    pub(crate) directory: Directory,
    /// A journal file is closed at this size.
    pub(crate) segment_bytes: u64,
    pub(crate) door: Door,
    pub(crate) facts: Fact<JournalFacts>,
    pub(crate) routing: Arc<Routing>,
    /// Held by the thread for its life.
    pub(crate) turn: Arc<Mutex<()>>,
}

pub(crate) type Mailbox = supervision::Mailbox<Message>;

#[derive(Debug)]
pub(crate) enum Message {
    /// From the thread: it has ended, which it does only after the door is
    /// closed or when it cannot go on.
    Ended(Result<(), storage::Error>),
}

#[derive(Debug)]
pub(crate) struct State {
    door: Door,
    alive: Arc<AtomicBool>,
    _thread: Thread,
}

impl Drop for State {
    fn drop(&mut self) {
        // The thread ends when nobody can ask anything of it any more.
        self.alive.store(false, Ordering::Release);
        self.door.close();
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Journal;

impl Actor for Journal {
    type Arguments = Args;
    type Msg = Message;
    type State = State;

    async fn pre_start(
        &self,
        myself: ActorRef<Message>,
        args: Args,
    ) -> Result<State, ActorProcessingErr> {
        let (opened, is_open) = oneshot::channel();
        // Dropped with the actor when it is killed before the thread is up.
        let opened = Mutex::new(Some(opened));
        let commands = args.door.open();
        let door = args.door.clone();
        let owner = myself.clone();
        let alive = Arc::new(AtomicBool::new(true));
        let is_alive = Arc::clone(&alive);
        let body = move || {
            // A thread that was given up on (a disk that does not answer) must
            // have ended before another one touches the files.
            let _turn = args.turn.lock();
            let result = Writer::open(&args, is_alive).map(|writer| {
                if let Some(opened) = opened.lock().take() {
                    // The starter may have been killed meanwhile.
                    let _ = opened.send(());
                }
                writer.run(&commands)
            });
            // The actor may be gone, which is why the thread ended.
            let _ = owner.send_message(Message::Ended(result.flatten()));
        };
        let state =
            State { door, alive, _thread: supervision::owned_thread(&myself, "journal", body)? };
        match is_open.await {
            Ok(()) => Ok(state),
            Err(_) => Err("the journal could not be opened".into()),
        }
    }

    async fn handle(
        &self,
        _myself: ActorRef<Message>,
        message: Message,
        _state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Ended(Ok(())) => Err("the journal's thread ended".into()),
            Message::Ended(Err(error)) => Err(error.into()),
        }
    }
}

//! One accept loop and the connections it has taken.
//!
//! Owns       its connections: they end with it.
//! Receives   connections, from its own loop.
//! Sends      nothing; a connection's requests go straight to the [`Server`].
//! Fails      never by itself; the socket that it takes from outlives it.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use supervision::{Task, TaskSet, task};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;

use super::super::listener::Socket;
use super::connection;
use crate::config::Config;
use crate::server::Server;

/// Within the supervisor's patience, so that what is late is ended by us and
/// counted.
const DRAIN: Duration = Duration::from_millis(450);
/// Out of file descriptors: others must close theirs first.
const EXHAUSTED: Duration = Duration::from_millis(10);

#[derive(Clone, Debug)]
pub(crate) struct Args {
    server: Arc<Server>,
    socket: Socket,
    /// One per connection that may be open here.
    slots: Arc<Semaphore>,
}

pub(crate) type Mailbox = supervision::Mailbox<Message>;

#[derive(Debug)]
pub(crate) enum Message {
    Accepted { stream: TcpStream, slot: OwnedSemaphorePermit },
}

#[derive(Debug)]
pub(crate) struct State {
    server: Arc<Server>,
    accepting: Option<Task>,
    connections: TaskSet,
    /// Tells held requests to answer and idle connections to close.
    drain: CancellationToken,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Acceptor;

impl Actor for Acceptor {
    type Arguments = Args;
    type Msg = Message;
    type State = State;

    async fn pre_start(
        &self,
        myself: ActorRef<Message>,
        args: Args,
    ) -> Result<State, ActorProcessingErr> {
        Ok(State::start(myself, args))
    }

    async fn handle(
        &self,
        _myself: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Accepted { stream, slot } => state.serve(stream, slot),
        }
        Ok(())
    }

    async fn post_stop(
        &self,
        _myself: ActorRef<Message>,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        state.drain().await;
        Ok(())
    }
}

impl Args {
    pub(crate) fn new(server: Arc<Server>, socket: Socket) -> Self {
        let Config { connections_max, acceptors, .. } = &server.config;
        let slots = connections_max.div_ceil((*acceptors).max(1)).clamp(1, Semaphore::MAX_PERMITS);
        Self { server, socket, slots: Arc::new(Semaphore::new(slots)) }
    }
}

impl State {
    fn start(myself: ActorRef<Message>, args: Args) -> Self {
        let Args { server, socket, slots } = args;
        let accept = accept(myself.clone(), socket.watch(), slots);
        Self {
            server,
            accepting: Some(task(&myself, "accept", accept)),
            connections: TaskSet::new(),
            drain: CancellationToken::new(),
        }
    }

    fn serve(&mut self, stream: TcpStream, slot: OwnedSemaphorePermit) {
        let (server, drain) = (Arc::clone(&self.server), self.drain.clone());
        let connection = Box::pin(async move {
            connection::serve(server, stream, drain).await;
            drop(slot);
        });
        self.connections.spawn("connection", connection);
    }

    async fn drain(&mut self) {
        self.accepting = None;
        self.drain.cancel();
        let aborted = self.connections.drain(DRAIN).await;
        if aborted > 0 {
            tracing::info!(connections = aborted, "connections cut off by the stop");
        }
    }
}

/// Takes connections from whatever socket the listener has published last.
async fn accept(
    myself: ActorRef<Message>,
    mut sockets: watch::Receiver<Option<Arc<TcpListener>>>,
    slots: Arc<Semaphore>,
) {
    loop {
        let socket = sockets.borrow_and_update().clone();
        let Some(socket) = socket else {
            match sockets.changed().await {
                Ok(()) => continue,
                Err(_) => return,
            }
        };
        let Ok(listener) = duplicate(&socket) else {
            tokio::time::sleep(EXHAUSTED).await;
            continue;
        };
        drop(socket);
        tokio::select! {
            changed = sockets.changed() => match changed {
                Ok(()) => {}
                Err(_) => return,
            },
            () = accept_from(&myself, &listener, &slots) => return,
        }
    }
}

/// Each loop has a descriptor of its own, so that it waits with its own
/// runtime.
fn duplicate(socket: &TcpListener) -> io::Result<tokio::net::TcpListener> {
    tokio::net::TcpListener::from_std(socket.try_clone()?)
}

async fn accept_from(
    myself: &ActorRef<Message>,
    listener: &tokio::net::TcpListener,
    slots: &Arc<Semaphore>,
) {
    loop {
        // The slot first: without one, connections stay in the backlog.
        let Ok(slot) = Arc::clone(slots).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                if myself.send_message(Message::Accepted { stream, slot }).is_err() {
                    return;
                }
            }
            // The client gave up while it waited in the backlog.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                tracing::debug!(%error, "accept failed");
                tokio::time::sleep(EXHAUSTED).await;
            }
        }
    }
}

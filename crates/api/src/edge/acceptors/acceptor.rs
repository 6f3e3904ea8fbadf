//! One accept loop and the connections it has taken.
//!
//! Owns       its connections: they end with it.
//! Receives   connections, from its own loop.
//! Sends      nothing; a connection's requests go straight to the [`Server`].
//! Fails      never by itself; the socket that it takes from outlives it.

use std::convert::Infallible;
use std::io;
use std::net::TcpListener;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use socket2::{SockRef, TcpKeepalive};
use supervision::{Task, TaskSet, task};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::super::listener::Socket;
use crate::config::Config;
use crate::server::Server;

/// Within the supervisor's patience, so that what is late is ended by us and
/// counted.
const DRAIN: Duration = Duration::from_millis(450);
/// Out of file descriptors: others must close theirs first.
const EXHAUSTED: Duration = Duration::from_millis(10);
const KEEP_ALIVE: Duration = Duration::from_secs(30);

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
            connection(server, stream, drain).await;
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Http1,
    Http2,
}

async fn connection(server: Arc<Server>, stream: TcpStream, drain: CancellationToken) {
    let (send, read) = (server.config.tcp_send_timeout, server.config.tcp_read_timeout);
    let Some(protocol) = set_up(&stream, send, read, &drain).await else { return };
    let requests_drain = drain.clone();
    let service = service_fn(move |request| {
        let answer = Arc::clone(&server).respond(request, requests_drain.clone());
        answer.map(Ok::<_, Infallible>)
    });
    let (stream, timer) = (TokioIo::new(stream), TokioTimer::new());
    // hyper-util's builder for both keeps a buffer more for as long as the
    // connection lives.
    match protocol {
        Protocol::Http1 => {
            let mut builder = http1::Builder::new();
            builder.timer(timer).header_read_timeout(read);
            drive(Box::pin(builder.serve_connection(stream, service)), &drain).await;
        }
        Protocol::Http2 => {
            let mut builder = http2::Builder::new(TokioExecutor::new());
            builder.timer(timer).keep_alive_interval(KEEP_ALIVE).keep_alive_timeout(read);
            drive(Box::pin(builder.serve_connection(stream, service)), &drain).await;
        }
    }
}

async fn drive<C>(mut connection: Pin<Box<C>>, drain: &CancellationToken)
where
    C: GracefulConnection<Error = hyper::Error>,
{
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = drain.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended");
    }
}

/// Nothing when the connection is not worth serving: lost, silent for too long,
/// or too late.
async fn set_up(
    stream: &TcpStream,
    send: Duration,
    read: Duration,
    drain: &CancellationToken,
) -> Option<Protocol> {
    let begun = async {
        set_options(stream, send)?;
        protocol(stream).await
    };
    tokio::select! {
        begun = timeout(read, begun) => match begun {
            Ok(Ok(protocol)) => Some(protocol),
            Ok(Err(error)) => {
                tracing::debug!(%error, "connection lost before its first request");
                None
            }
            Err(_) => None,
        },
        () = drain.cancelled() => None,
    }
}

/// No method of HTTP/1.1 begins like the preface of HTTP/2.
async fn protocol(stream: &TcpStream) -> io::Result<Protocol> {
    const PREFACE: &[u8] = b"PRI";
    let mut first = [0; PREFACE.len()];
    loop {
        let count = stream.peek(&mut first).await?;
        match &first[..count] {
            // The end of the stream is hyper's to deal with, too.
            [] => return Ok(Protocol::Http1),
            PREFACE => return Ok(Protocol::Http2),
            start if !PREFACE.starts_with(start) => return Ok(Protocol::Http1),
            // A first packet of a byte or two. What was peeked at makes the
            // socket readable, so waiting for that would spin.
            [..] => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    }
}

fn set_options(stream: &TcpStream, send_timeout: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEP_ALIVE))?;
    // Ends a connection whose reader has stopped taking bytes, for which hyper
    // has no timeout.
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(send_timeout))?;
    #[cfg(not(target_os = "linux"))]
    let _ = send_timeout;
    Ok(())
}

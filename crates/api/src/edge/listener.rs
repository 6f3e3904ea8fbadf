//! The listening socket.
//!
//! Owns       the bound socket, in a [`Socket`] that survives the actor: a
//!            restart finds it still bound.
//! Receives   nothing.
//! Publishes  the socket to the acceptors, and its address.
//! Fails      when the address cannot be bound.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use socket2::{Domain, Protocol, SockRef, Type};
use thiserror::Error;
use tokio::sync::watch;

use crate::config::Bound;

/// As much as the kernel gives; it cuts to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

#[derive(Clone, Debug)]
pub(crate) struct Args {
    pub(crate) address: SocketAddr,
    pub(crate) bound: Bound,
    pub(crate) socket: Socket,
}

pub(crate) type Mailbox = supervision::Mailbox<Message>;

#[derive(Debug)]
pub(crate) enum Message {}

/// Where acceptors find the socket.
#[derive(Clone, Debug)]
pub(crate) struct Socket(watch::Sender<Option<Arc<TcpListener>>>);

#[derive(Debug)]
pub(crate) struct State {
    socket: Socket,
}

#[derive(Debug, Error)]
#[error("cannot listen on {address}")]
pub(crate) struct Error {
    address: SocketAddr,
    #[source]
    source: io::Error,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Listener;

impl Actor for Listener {
    type Arguments = Args;
    type Msg = Message;
    type State = State;

    async fn pre_start(
        &self,
        _myself: ActorRef<Message>,
        args: Args,
    ) -> Result<State, ActorProcessingErr> {
        Ok(State::open(args)?)
    }

    async fn post_stop(
        &self,
        _myself: ActorRef<Message>,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        // Stopped, not crashed: whoever connects from here on is refused at
        // once instead of waiting in the backlog.
        state.socket.0.send_replace(None);
        Ok(())
    }
}

impl State {
    fn open(args: Args) -> Result<Self, Error> {
        let Args { address, bound, socket } = args;
        if socket.is_listening() {
            return Ok(Self { socket });
        }
        // The port once given stays: clients know it.
        let address = bound.address().unwrap_or(address);
        let failed = |source| Error { address, source };
        let listener = bind(address).map_err(failed)?;
        let actual = listener.local_addr().map_err(failed)?;
        socket.0.send_replace(Some(Arc::new(listener)));
        bound.set(actual);
        tracing::info!(address = %actual, "listening");
        Ok(Self { socket })
    }
}

impl Socket {
    pub(crate) fn watch(&self) -> watch::Receiver<Option<Arc<TcpListener>>> {
        self.0.subscribe()
    }

    fn is_listening(&self) -> bool {
        let socket = self.0.borrow();
        socket
            .as_ref()
            .is_some_and(|socket| SockRef::from(&**socket).is_listener().unwrap_or(false))
    }
}

impl Default for Socket {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket =
        socket2::Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for the connections of the process before it.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args() -> Args {
        Args {
            address: "127.0.0.1:0".parse().unwrap(),
            bound: Bound::default(),
            socket: Socket::default(),
        }
    }

    #[test]
    fn a_restart_finds_the_socket_still_bound_with_its_backlog() {
        let args = args();
        let state = State::open(args.clone()).unwrap();
        let address = args.bound.address().unwrap();
        let _client = std::net::TcpStream::connect(address).unwrap();
        drop(state);
        State::open(args.clone()).unwrap();
        assert_eq!(args.bound.address(), Some(address));
        let socket = args.socket.watch().borrow().clone().unwrap();
        socket.set_nonblocking(false).unwrap();
        socket.accept().unwrap();
    }

    #[test]
    fn a_socket_that_was_closed_is_bound_again_at_the_same_port() {
        let args = args();
        let state = State::open(args.clone()).unwrap();
        let address = args.bound.address().unwrap();
        state.socket.0.send_replace(None);
        State::open(args.clone()).unwrap();
        assert_eq!(args.bound.address(), Some(address));
    }

    #[test]
    fn an_address_in_use_is_said_to_be() {
        let first = args();
        State::open(first.clone()).unwrap();
        let address = first.bound.address().unwrap();
        let error = State::open(Args { address, ..args() }).unwrap_err();
        assert_eq!(error.to_string(), format!("cannot listen on {address}"));
    }
}

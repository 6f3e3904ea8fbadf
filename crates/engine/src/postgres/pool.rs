//! Connections that are lent and given back: the one implementation behind
//! `postgres/admin-pool` and `postgres/snapshot-pool`, which are two actors so
//! that catalog work never waits behind snapshots.
//!
//! Owns       idle connections, attempts to connect, and who waits.
//! Receives   check-outs, and connections that come back or could not be made.
//! Sends      a lease, or why there is none.
//! Fails      never on a network error; that is an answer (architecture §5.1).

use std::collections::VecDeque;
use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use supervision::TaskSet;

/// How one kind of connection is made.
pub(crate) trait Connect: Clone + Send + Sync + 'static {
    type Connection: Send + 'static;

    /// The connection, and what must be polled for it to work.
    fn connect(&self)
    -> impl Future<Output = Result<(Self::Connection, Driver), pg::Error>> + Send;

    fn is_usable(connection: &Self::Connection) -> bool;
}

pub(crate) type Driver = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// Everything a pool can reach.
#[derive(Clone, Debug)]
pub(crate) struct Args<C> {
    pub(crate) connect: C,
    /// Connections at one time, lent ones included.
    pub(crate) size: usize,
}

pub(crate) type Mailbox<C> = supervision::Mailbox<Message<C>>;

/// The outcome of a check-out.
pub(crate) type Checkout<C> = Result<Lease<C>, Arc<pg::Error>>;

pub(crate) enum Message<C: Connect> {
    Checkout {
        reply: RpcReplyPort<Checkout<C>>,
    },
    Connected {
        result: Result<(C::Connection, Driver), pg::Error>,
    },
    /// A lease ended; `None` if its connection is not to be used again.
    Returned {
        connection: Option<C::Connection>,
    },
}

impl<C: Connect> std::fmt::Debug for Message<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Checkout { .. } => "Checkout",
            Self::Connected { .. } => "Connected",
            Self::Returned { .. } => "Returned",
        })
    }
}

/// A lent connection. Dropped, it is closed; [`Lease::give_back`] keeps it.
pub(crate) struct Lease<C: Connect> {
    connection: Option<C::Connection>,
    pool: ActorRef<Message<C>>,
}

impl<C: Connect> std::fmt::Debug for Lease<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lease").finish_non_exhaustive()
    }
}

impl<C: Connect> Lease<C> {
    pub(crate) fn connection(&mut self) -> &mut C::Connection {
        self.connection.as_mut().expect("a lease holds its connection until it ends")
    }

    /// The connection is idle and fit for the next.
    pub(crate) fn give_back(mut self) {
        let connection = self.connection.take();
        // A pool that has died closed its connections' drivers with it.
        let _ = self.pool.send_message(Message::Returned { connection });
    }
}

impl<C: Connect> Drop for Lease<C> {
    fn drop(&mut self) {
        if self.connection.take().is_some() {
            let _ = self.pool.send_message(Message::Returned { connection: None });
        }
    }
}

/// A place in the pool that an attempt to connect takes. Dropped unsettled (the
/// attempt panicked), it is free again.
struct Place<C: Connect> {
    pool: Option<ActorRef<Message<C>>>,
}

impl<C: Connect> Place<C> {
    fn settle(&mut self, result: Result<(C::Connection, Driver), pg::Error>) {
        if let Some(pool) = self.pool.take() {
            // The task ends with the pool.
            let _ = pool.send_message(Message::Connected { result });
        }
    }
}

impl<C: Connect> Drop for Place<C> {
    fn drop(&mut self) {
        self.settle(Err(pg::Error::Closed));
    }
}

pub(crate) struct State<C: Connect> {
    args: Args<C>,
    idle: Vec<C::Connection>,
    /// Idle, lent or being made.
    open_count: usize,
    /// Bounded by the deadline of each call: who has gone is skipped.
    waiting: VecDeque<RpcReplyPort<Checkout<C>>>,
    /// Attempts to connect, and drivers of connections.
    tasks: TaskSet,
}

impl<C: Connect> std::fmt::Debug for State<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("open_count", &self.open_count).finish_non_exhaustive()
    }
}

/// How long an attempt may take in all, whatever its parts do.
const CONNECT_WAIT: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(crate) struct Pool<C>(PhantomData<fn() -> C>);

impl<C> Clone for Pool<C> {
    fn clone(&self) -> Self {
        Self(PhantomData)
    }
}

impl<C> Default for Pool<C> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<C: Connect> Actor for Pool<C> {
    type Arguments = Args<C>;
    type Msg = Message<C>;
    type State = State<C>;

    async fn pre_start(
        &self,
        _myself: ActorRef<Message<C>>,
        args: Args<C>,
    ) -> Result<State<C>, ActorProcessingErr> {
        Ok(State {
            args,
            idle: Vec::new(),
            open_count: 0,
            waiting: VecDeque::new(),
            tasks: TaskSet::new(),
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<Message<C>>,
        message: Message<C>,
        state: &mut State<C>,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Checkout { reply } => state.waiting.push_back(reply),
            Message::Connected { result: Ok((connection, driver)) } => {
                state.tasks.spawn("connection", driver);
                state.idle.push(connection);
            }
            Message::Connected { result: Err(error) } => {
                state.open_count -= 1;
                // Everybody who waits would wait for the same server.
                let error = Arc::new(error);
                for reply in state.waiting.drain(..) {
                    let _ = reply.send(Err(Arc::clone(&error)));
                }
            }
            Message::Returned { connection: Some(connection) } => state.idle.push(connection),
            Message::Returned { connection: None } => state.open_count -= 1,
        }
        state.serve(&myself);
        Ok(())
    }
}

impl<C: Connect> State<C> {
    /// Lends what is idle and makes what is missing.
    fn serve(&mut self, myself: &ActorRef<Message<C>>) {
        let before = self.idle.len();
        self.idle.retain(C::is_usable);
        self.open_count -= before - self.idle.len();
        self.waiting.retain(|reply| !reply.is_closed());
        while !self.waiting.is_empty()
            && let Some(connection) = self.idle.pop()
            && let Some(reply) = self.waiting.pop_front()
        {
            let lease = Lease { connection: Some(connection), pool: myself.clone() };
            // If the asker has gone, the lease comes back by being dropped.
            let _ = reply.send(Ok(lease));
        }
        let missing = self.waiting.len().min(self.args.size.saturating_sub(self.open_count));
        for _ in 0..missing {
            self.open_count += 1;
            let (connect, pool) = (self.args.connect.clone(), myself.clone());
            self.tasks.spawn("connecting", async move {
                let mut place = Place { pool: Some(pool) };
                let attempt = tokio::time::timeout(CONNECT_WAIT, connect.connect()).await;
                place.settle(attempt.unwrap_or(Err(pg::Error::Closed)));
            });
        }
    }
}

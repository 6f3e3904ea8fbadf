//! The lock: one connection whose session-level advisory lock says that this
//! instance may read the slot.
//!
//! Owns       a task that connects, waits for the lock and then watches it.
//! Receives   nothing.
//! Publishes  the state of the lock.
//! Fails      never on a network error: it connects again. A zombie, that is a
//!            connection that does not answer in time, is dropped at once.

use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use supervision::Task;
use tokio::time::timeout;

use crate::config::Config;
use crate::facts::{Fact, LeaderFacts, LockState};
use crate::postgres::leader::replication::Backoff;
use crate::postgres::trouble::trouble;

/// Everything the lock connection can reach.
#[derive(Clone, Debug)]
pub(crate) struct Args {
    pub(crate) config: Arc<Config>,
    pub(crate) leader: Fact<LeaderFacts>,
}

pub(crate) type Mailbox = supervision::Mailbox<Message>;

#[derive(Debug)]
pub(crate) enum Message {}

#[derive(Debug)]
pub(crate) struct State {
    leader: Fact<LeaderFacts>,
    task: Option<Task>,
}

impl Drop for State {
    fn drop(&mut self) {
        // First, so that it does not write after us.
        self.task.take();
        self.leader.update(|leader| leader.lock = LockState::Connecting);
    }
}

/// Between two tries for a lock that another instance holds. Trying instead of
/// blocking proves with every answer that the path is alive, and leaves
/// nothing queued in the server.
const TRY_INTERVAL: Duration = Duration::from_millis(50);
/// Between two proofs that the connection which holds the lock is alive.
const HELD_INTERVAL: Duration = Duration::from_millis(500);
/// An answer that takes longer comes from a zombie.
const ANSWER_MAX: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, Debug)]
pub(crate) struct LockConnection;

impl Actor for LockConnection {
    type Arguments = Args;
    type Msg = Message;
    type State = State;

    async fn pre_start(
        &self,
        myself: ActorRef<Message>,
        args: Args,
    ) -> Result<State, ActorProcessingErr> {
        let leader = args.leader.clone();
        Ok(State { leader, task: Some(supervision::task(&myself, "lock", args.run())) })
    }
}

impl Args {
    async fn run(self) {
        let mut backoff = Backoff::default();
        loop {
            self.leader.update(|leader| leader.lock = LockState::Connecting);
            let error = match self.hold(&mut backoff).await {
                Ok(never) => match never {},
                Err(error) => error,
            };
            let found = trouble(&error);
            tracing::warn!(code = found.code, error = %found.sentence, "lock connection lost");
            let blocked = found.blocked;
            self.leader.update(|leader| {
                leader.lock = LockState::Connecting;
                leader.trouble = Some(found);
            });
            backoff.wait(blocked).await;
        }
    }

    /// Returns when the connection is lost.
    async fn hold(&self, backoff: &mut Backoff) -> Result<std::convert::Infallible, pg::Error> {
        let session = pg::Session {
            application_name: "leyden lock".into(),
            replication: false,
            // A dead client's session, and with it the lock, is gone in a
            // fifth of a second (measured); without this, never.
            settings: vec![("client_connection_check_interval".into(), "200ms".into())],
        };
        let mut connection = pg::dial(&self.config.database, &session).await?;
        answer(pg::session::check_direct(&mut connection)).await?;
        let slot = &self.config.slot;
        while !answer(pg::session::try_advisory_lock(&mut connection, slot)).await? {
            self.leader.update(|leader| {
                leader.lock = LockState::Waiting;
                leader.trouble = None;
            });
            tokio::time::sleep(TRY_INTERVAL).await;
        }
        tracing::info!(slot, "advisory lock held");
        self.leader.update(|leader| {
            leader.lock = LockState::Held;
            leader.trouble = None;
        });
        backoff.reset();
        loop {
            tokio::time::sleep(HELD_INTERVAL).await;
            answer(connection.simple_query("SELECT 1")).await?;
        }
    }
}

async fn answer<T>(query: impl Future<Output = Result<T, pg::Error>>) -> Result<T, pg::Error> {
    timeout(ANSWER_MAX, query).await.unwrap_or(Err(pg::Error::Closed))
}

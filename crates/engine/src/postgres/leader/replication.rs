//! The replication stream's keeper: opens a session, and another when it ends.
//!
//! Owns       the task in which the session lives (`session.rs`).
//! Receives   nothing; what it reads goes to `postgres/leader/router`.
//! Publishes  whether the stream is open, and if not, why.
//! Fails      never on a network error: the next session follows after a
//!            pause. What an operator must heal is tried again every 30 s.

use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use rand::RngExt;
use supervision::Task;

use super::{router, session};
use crate::config::Config;
use crate::facts::{Fact, JournalFacts, LeaderFacts, LockState};
use crate::postgres::admin_pool;
use crate::postgres::trouble::trouble;
use crate::shapes::registry;
use crate::store::catalog;
use crate::store::journal::Door;
use crate::streamed::Streamed;

/// Everything the replication stream can reach.
#[derive(Clone, Debug)]
pub(crate) struct Args {
    pub(crate) config: Arc<Config>,
    pub(crate) leader: Fact<LeaderFacts>,
    pub(crate) journal: Fact<JournalFacts>,
    pub(crate) door: Door,
    pub(crate) router: router::Mailbox,
    pub(crate) registry: registry::Mailbox,
    pub(crate) catalog: catalog::Mailbox,
    pub(crate) admin_pool: admin_pool::Mailbox,
    pub(crate) loaded: Fact<bool>,
    pub(crate) streamed: Arc<Streamed>,
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
        self.leader.update(|leader| leader.session = 0);
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Replication;

impl Actor for Replication {
    type Arguments = Args;
    type Msg = Message;
    type State = State;

    async fn pre_start(
        &self,
        myself: ActorRef<Message>,
        args: Args,
    ) -> Result<State, ActorProcessingErr> {
        let leader = args.leader.clone();
        Ok(State { leader, task: Some(supervision::task(&myself, "replication", args.run())) })
    }
}

impl Args {
    async fn run(self) {
        let mut backoff = Backoff::default();
        loop {
            self.wait_until_allowed().await;
            let end = Box::pin(session::run(&self, &mut backoff)).await;
            self.leader.update(|leader| leader.session = 0);
            let blocked = match end {
                session::End::Elsewhere(why) => {
                    tracing::debug!(why, "replication session ended");
                    false
                }
                session::End::Failed(error) => {
                    let found = trouble(&error);
                    tracing::warn!(
                        code = found.code,
                        error = %found.sentence,
                        "replication session ended"
                    );
                    let blocked = found.blocked;
                    self.leader.update(|leader| leader.trouble = Some(found));
                    blocked
                }
            };
            backoff.wait(blocked).await;
        }
    }

    /// The lock is held, and what is on disk has been read.
    async fn wait_until_allowed(&self) {
        let (mut leader, mut loaded, mut journal) =
            (self.leader.watch(), self.loaded.watch(), self.journal.watch());
        // The senders live as long as the process, so none of these fails.
        let _ = loaded.wait_for(|loaded| *loaded).await;
        let _ = journal.wait_for(|journal| journal.open).await;
        let _ = leader.wait_for(|leader| leader.lock == LockState::Held).await;
    }
}

/// Pauses between attempts: 20 ms doubling to 5 s with full jitter, so that
/// many instances do not come back at once; 30 s in the end for what only an
/// operator can heal.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    attempts: u32,
}

const FIRST_PAUSE: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(5);
const BLOCKED_FIRST_PAUSE: Duration = Duration::from_millis(500);
const BLOCKED_PAUSE_MAX: Duration = Duration::from_secs(30);

impl Backoff {
    pub(crate) fn reset(&mut self) {
        self.attempts = 0;
    }

    pub(crate) async fn wait(&mut self, blocked: bool) {
        tokio::time::sleep(self.pause(blocked)).await;
    }

    fn pause(&mut self, blocked: bool) -> Duration {
        let doubled = 2u32.saturating_pow(self.attempts.min(16));
        self.attempts += 1;
        if blocked {
            return BLOCKED_FIRST_PAUSE.saturating_mul(doubled).min(BLOCKED_PAUSE_MAX);
        }
        let limit = FIRST_PAUSE.saturating_mul(doubled).min(PAUSE_MAX);
        limit.mul_f64(rand::rng().random_range(0.0..=1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_limit_and_begin_anew_after_success() {
        let mut backoff = Backoff::default();
        for _ in 0..40 {
            assert!(backoff.pause(false) <= PAUSE_MAX);
        }
        assert_eq!(backoff.pause(true), BLOCKED_PAUSE_MAX);
        backoff.reset();
        assert!(backoff.pause(false) <= FIRST_PAUSE);
        backoff.reset();
        assert_eq!(backoff.pause(true), BLOCKED_FIRST_PAUSE);
    }
}

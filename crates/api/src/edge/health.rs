//! Whether the service is up, for `/v1/health`.
//!
//! Owns       the published state.
//! Receives   changes of the engine's facts, from its own watch.
//! Publishes  the state and when it was last confirmed.
//! Fails      never; without it the state grows old and reads as starting.

use std::time::Duration;

use engine::{Health, HealthState};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use supervision::{Task, task};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

/// How often the state is confirmed when nothing changes.
const CONFIRM: Duration = Duration::from_secs(1);
/// A state nobody has confirmed for this long is not believed.
const STALE: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
pub(crate) struct Args {
    pub(crate) facts: Health,
    pub(crate) published: Published,
}

pub(crate) type Mailbox = supervision::Mailbox<Message>;

#[derive(Debug)]
pub(crate) enum Message {}

#[derive(Debug)]
pub(crate) struct State {
    _watch: Task,
}

/// The last word on health; it outlives the actor that says it.
#[derive(Clone, Debug)]
pub(crate) struct Published(watch::Sender<Option<(HealthState, Instant)>>);

#[derive(Clone, Copy, Debug)]
pub(crate) struct HealthReporter;

impl Actor for HealthReporter {
    type Arguments = Args;
    type Msg = Message;
    type State = State;

    async fn pre_start(
        &self,
        myself: ActorRef<Message>,
        args: Args,
    ) -> Result<State, ActorProcessingErr> {
        Ok(State { _watch: task(&myself, "watch", report(args)) })
    }
}

async fn report(args: Args) {
    let Args { facts, published } = args;
    loop {
        let state = facts.state();
        published.set(state);
        // Either way the facts are read again, so how it ended does not matter.
        let _ = timeout(CONFIRM, facts.changed_from(state)).await;
    }
}

impl Published {
    pub(crate) fn state(&self) -> HealthState {
        let last = *self.0.borrow();
        let fresh = last.filter(|(_, confirmed)| confirmed.elapsed() < STALE);
        fresh.map_or(HealthState::Starting, |(state, _)| state)
    }

    fn set(&self, state: HealthState) {
        self.0.send_replace(Some((state, Instant::now())));
    }
}

impl Default for Published {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_state_that_nobody_confirms_is_not_believed() {
        let published = Published::default();
        assert_eq!(published.state(), HealthState::Starting);
        published.set(HealthState::Active);
        assert_eq!(published.state(), HealthState::Active);
        tokio::time::advance(STALE).await;
        assert_eq!(published.state(), HealthState::Starting);
    }
}

//! The actor around every actor.
//!
//! It gives the inner actor its span, its address and its [`Life`], and turns
//! panics and errors into exit reasons before ractor makes text of them. ractor
//! sends a dead actor's state to its linked supervisor, where it would live on
//! in a queue; so we do not link, we monitor, and the state dies with the actor.

use std::fmt;
use std::marker::PhantomData;
use std::pin::pin;
use std::sync::Arc;

use ractor::concurrency::JoinHandle;
use ractor::{
    Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, ActorRuntime, SpawnErr,
    SupervisionEvent,
};

use crate::incarnation::{Incarnation, Life};
use crate::panics;
use crate::supervisor::Watcher;
use crate::{ExitReason, Mailbox};

/// Resolves when `pre_start` has ended, with its error if it failed.
pub(crate) type Starting = JoinHandle<Result<JoinHandle<()>, SpawnErr>>;

pub(crate) struct Shell<A>(PhantomData<fn() -> A>);

pub(crate) struct Launch<A: Actor> {
    pub(crate) actor: A,
    pub(crate) args: A::Arguments,
    pub(crate) mailbox: Option<Mailbox<A::Msg>>,
    /// None for the guardian, which nobody supervises.
    pub(crate) watcher: Option<Watcher>,
    pub(crate) life: Arc<Life>,
}

/// The order of the fields is the order of their drop: the life goes last.
pub(crate) struct Held<A: Actor> {
    state: A::State,
    actor: A,
    _address: Option<Attached<A::Msg>>,
    life: Arc<Life>,
}

struct Attached<M> {
    mailbox: Mailbox<M>,
    id: ActorId,
}

impl<M> Drop for Attached<M> {
    fn drop(&mut self) {
        self.mailbox.detach(self.id);
    }
}

/// Returns at once; `pre_start` runs on a task of its own, so that an actor
/// which blocks in it does not take its supervisor along.
pub(crate) fn launch<A: Actor>(launch: Launch<A>) -> (ActorCell, Starting) {
    let (actor, starting) = ActorRuntime::spawn_instant(None, Shell::<A>(PhantomData), launch)
        .expect("an actor without a name has nothing to register");
    (actor.get_cell(), starting)
}

impl<A: Actor> Actor for Shell<A> {
    type Arguments = Launch<A>;
    type Msg = A::Msg;
    type State = Held<A>;

    async fn pre_start(
        &self,
        myself: ActorRef<A::Msg>,
        launch: Launch<A>,
    ) -> Result<Held<A>, ActorProcessingErr> {
        let Launch { life, actor, args, mailbox, watcher } = launch;
        life.begin(myself.get_id());
        if let Some(watcher) = watcher {
            watcher.adopt(&myself);
        }
        let incarnation = &life.incarnation;
        let state = {
            let future = pin!(actor.pre_start(myself.clone(), args));
            outcome(incarnation, panics::catch(&incarnation.span, future).await)?
        };
        let address = mailbox.map(|mailbox| {
            let id = myself.get_id();
            incarnation.figures.begin(mailbox.sent());
            mailbox.attach(myself);
            Attached { mailbox, id }
        });
        incarnation.set_started();
        Ok(Held { state, actor, _address: address, life })
    }

    async fn post_start(
        &self,
        myself: ActorRef<A::Msg>,
        held: &mut Held<A>,
    ) -> Result<(), ActorProcessingErr> {
        let incarnation = &held.life.incarnation;
        let future = pin!(held.actor.post_start(myself, &mut held.state));
        outcome(incarnation, panics::catch(&incarnation.span, future).await)
    }

    async fn handle(
        &self,
        myself: ActorRef<A::Msg>,
        message: A::Msg,
        held: &mut Held<A>,
    ) -> Result<(), ActorProcessingErr> {
        let incarnation = &held.life.incarnation;
        if incarnation.figures.handled() == 0 {
            // ractor has just told the supervisor of the start, and tokio keeps
            // that wake-up for this thread alone. Should the handler block,
            // the supervisor would wait with it.
            tokio::task::yield_now().await;
        }
        let is_timed = incarnation.figures.take_message();
        let future = pin!(held.actor.handle(myself, message, &mut held.state));
        let future = panics::catch_timed(&incarnation.span, future, is_timed);
        let (result, time) = future.await;
        if is_timed {
            incarnation.figures.was_busy(time);
        }
        outcome(incarnation, result)
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<A::Msg>,
        event: SupervisionEvent,
        held: &mut Held<A>,
    ) -> Result<(), ActorProcessingErr> {
        let incarnation = &held.life.incarnation;
        let future = pin!(held.actor.handle_supervisor_evt(myself, event, &mut held.state));
        outcome(incarnation, panics::catch(&incarnation.span, future).await)
    }

    async fn post_stop(
        &self,
        myself: ActorRef<A::Msg>,
        held: &mut Held<A>,
    ) -> Result<(), ActorProcessingErr> {
        let incarnation = &held.life.incarnation;
        let future = pin!(held.actor.post_stop(myself, &mut held.state));
        outcome(incarnation, panics::catch(&incarnation.span, future).await)
    }
}

fn outcome<T>(
    incarnation: &Incarnation,
    result: Result<Result<T, ActorProcessingErr>, ExitReason>,
) -> Result<T, ActorProcessingErr> {
    let reason = match result {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(error)) => failure(error),
        Err(reason) => reason,
    };
    incarnation.crashed(reason.clone());
    Err(reason.into())
}

fn failure(error: ActorProcessingErr) -> ExitReason {
    // An actor may fail with a reason of its own choice.
    let error = match error.downcast::<ExitReason>() {
        Ok(reason) => return *reason,
        Err(error) => error,
    };
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    ExitReason::Failed(text)
}

impl<A> fmt::Debug for Shell<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shell")
    }
}

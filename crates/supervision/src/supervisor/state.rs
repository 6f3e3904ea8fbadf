//! What a supervisor decides: OTP's rules.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::Mutex;
use ractor::{ActorId, ActorRef};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::children::{Asked, Child, Children, Phase};
use super::restart::Window;
use super::round::{self, Failure, Plan, Slotted};
use super::{Args, Context, Message, end};
use crate::incarnation::Life;
use crate::node::Group;
use crate::slot::{Slot, Standing};
use crate::spec::{AutoShutdown, Restart, RestartDelay, Strategy};
use crate::{ExitReason, StartError, report, task};

#[derive(Debug)]
pub(crate) struct State {
    pub(super) context: Arc<Context>,
    pub(super) group: Arc<Group>,
    pub(super) children: Children,
    window: Window,
    pub(super) rounds: BTreeMap<u64, Round>,
    next_round: u64,
    /// Requests that wait until a round or an end is over.
    pub(super) deferred: Vec<Message>,
    /// Held by every task of ours too, so that none of them is left when a
    /// successor starts.
    pub(super) life: Arc<Life>,
}

#[derive(Debug)]
pub(super) struct Round {
    pub(super) task: AbortOnDropHandle<()>,
    pub(super) keys: Vec<u64>,
    /// Children of this round that ended again before it was over.
    exits: Vec<(u64, ExitReason, Duration)>,
    /// Whoever asked for the child, if this is no restart.
    pub(super) asked: Option<Asked>,
}

impl State {
    pub(super) fn new(actor: ActorRef<Message>, args: Args, life: Arc<Life>) -> Self {
        let Args { slot, group } = args;
        let generation = life.incarnation.generation;
        if let Some(dynamic) = group.dynamic() {
            dynamic.begin(&slot);
        }
        slot.set_restarts_in_window(0);
        let mut children = Children::default();
        for child in slot.open(generation, group.children()) {
            children.push(child, Phase::Down);
        }
        Self {
            context: Arc::new(Context {
                slot,
                generation,
                actor,
                keys: Mutex::default(),
                turn: tokio::sync::Mutex::default(),
            }),
            window: Window::new(group.intensity),
            group,
            children,
            rounds: BTreeMap::new(),
            next_round: 1,
            deferred: Vec::new(),
            life,
        }
    }

    pub(super) fn request(&mut self, message: Message) {
        match message {
            Message::RoundEnded { round, outcome } => self.round_ended(round, outcome),
            Message::ChildEnded { key } => self.child_ended(key),
            Message::ChildGivenUp { key, generation } => self.child_given_up(key, generation),
            Message::StartChild { node, reply } => self.start_child(*node, reply),
            Message::TerminateChild { id, reply } => self.terminate_child(id, reply),
            Message::RestartChild { id, reply } => self.restart_child(id, reply),
            Message::DeleteChild { id, reply } => self.delete_child(id, reply),
            Message::WhichChildren { reply } => {
                // The caller may have gone.
                let _ = reply.send(self.which_children());
            }
        }
    }

    /// Left to right; when one fails, those before it are stopped again.
    pub(super) async fn start_children(&mut self) -> Result<(), ExitReason> {
        let incarnation = Arc::clone(&self.life.incarnation);
        let result = tokio::select! {
            biased;
            () = incarnation.is_asked_to_stop.wait() => Err(ExitReason::Shutdown(None)),
            result = self.start_all() => result,
        };
        if result.is_err() {
            for child in self.children.from(0).rev() {
                end(&child.slot, Standing::Stopped).await;
            }
        }
        result
    }

    async fn start_all(&mut self) -> Result<(), ExitReason> {
        for child in self.children.iter_mut() {
            match round::start(&self.context, &child.slot, 0).await {
                Ok(()) => child.phase = Phase::Up,
                Err(Failure::Closed) => return Err(ExitReason::Killed),
                Err(Failure::Start { reason, .. }) => {
                    report::start_error(&child.slot, &reason);
                    let is_nested = child.slot.table.is_some();
                    let path = &child.slot.path;
                    // A supervisor's reason names the child that failed already.
                    let is_named = is_nested && matches!(reason, ExitReason::Failed(_));
                    return Err(if is_named {
                        reason
                    } else {
                        ExitReason::Failed(format!("{path} did not start: {reason}"))
                    });
                }
            }
        }
        Ok(())
    }

    /// Right to left, each given its own time. Dynamic children have no order
    /// and may be many, so they are stopped side by side.
    pub(super) async fn stop_children(&mut self) {
        // A task that is aborted below may have come as far as a start.
        self.context.slot.close(None);
        let mut tasks: Vec<_> =
            std::mem::take(&mut self.rounds).into_values().map(|round| round.task).collect();
        for child in self.children.iter_mut() {
            if let Phase::Ending { task, .. } = std::mem::replace(&mut child.phase, Phase::Down) {
                tasks.push(task);
            }
        }
        round::settle(tasks).await;
        if self.group.dynamic().is_some() {
            join_all(self.children.from(0).map(|child| end(&child.slot, Standing::Stopped))).await;
        } else {
            for child in self.children.from(0).rev() {
                end(&child.slot, Standing::Stopped).await;
            }
        }
    }

    pub(super) fn child_exited(&mut self, id: ActorId, reason: ExitReason) {
        let key = self.context.keys.lock().remove(&id);
        let Some(child) = key.and_then(|key| self.children.get_mut(key)) else { return };
        // None: given up on long ago, and replaced.
        let Some(incarnation) = child.slot.incarnation_of(id) else { return };
        if child.slot.has_noted_exit(&incarnation) {
            return;
        }
        let reason = incarnation.crash().cloned().unwrap_or(reason);
        let uptime = child.slot.note_exit(&incarnation, reason.clone());
        if incarnation.is_asked_to_stop.is_set() {
            return;
        }
        let key = child.slot.key;
        match &child.phase {
            Phase::Up => match self.start_in_turn() {
                // As in OTP, a start that was asked for is no part of a group
                // restart; that comes after it.
                Some(round) => round.exits.push((key, reason, uptime)),
                None => self.failed_or_finished(key, reason, uptime),
            },
            Phase::InRound { round } => match self.rounds.get_mut(round) {
                Some(current) if incarnation.round == *round => {
                    current.exits.push((key, reason, uptime));
                }
                // It failed along with a sibling; their restart is one round.
                Some(_) | None => report_if_abnormal(&child.slot, &reason),
            },
            Phase::Ending { .. } | Phase::Down => {}
        }
    }

    pub(super) fn child_given_up(&mut self, key: u64, generation: u64) {
        let current = self.children.get_mut(key).map(|child| child.slot.incarnation());
        if let Some(Some(incarnation)) = current
            && incarnation.generation == generation
            && let Some(cell) = incarnation.cell()
        {
            self.child_exited(cell.get_id(), ExitReason::Killed);
        }
    }

    fn failed_or_finished(&mut self, key: u64, reason: ExitReason, uptime: Duration) {
        let Some(child) = self.children.get_mut(key) else { return };
        let kind = child.slot.node.restart_kind();
        if kind == Restart::Permanent && !reason.is_abnormal() {
            report::child_ended(&child.slot, &reason);
        }
        report_if_abnormal(&child.slot, &reason);
        let is_restarted = match kind {
            Restart::Permanent => true,
            Restart::Transient => reason.is_abnormal(),
            Restart::Temporary => false,
        };
        if is_restarted {
            self.failed(key, uptime);
        } else {
            let is_significant = child.slot.node.is_significant();
            self.end_child(key, None);
            if is_significant && self.ends_without_significant() {
                self.stop_myself("a significant child has ended");
            }
        }
    }

    /// Asked after a significant child has ended.
    fn ends_without_significant(&self) -> bool {
        let is_active = |child: &Child| match child.phase {
            Phase::Up | Phase::InRound { .. } => child.slot.node.is_significant(),
            Phase::Ending { .. } | Phase::Down => false,
        };
        match self.group.auto_shutdown {
            AutoShutdown::Never => false,
            AutoShutdown::AnySignificant => true,
            AutoShutdown::AllSignificant => !self.children.from(0).any(is_active),
        }
    }

    fn start_in_turn(&mut self) -> Option<&mut Round> {
        let is_group = self.group.strategy != Strategy::OneForOne;
        self.rounds.values_mut().find(|round| is_group && round.asked.is_some())
    }

    /// One restart more, unless that is one too many.
    fn failed(&mut self, key: u64, uptime: Duration) {
        let is_within = self.window.add(Instant::now());
        self.context.slot.set_restarts_in_window(self.window.len());
        let Some(child) = self.children.get_mut(key) else { return };
        if let Some(successor) = child.successor.take() {
            let id = child.slot.node.id().to_owned();
            // The caller may have gone.
            let _ = successor.reply.send(Err(StartError::AlreadyStarted { id }));
        }
        let backoff = match self.group.restart_delay {
            RestartDelay::Backoff => child.backoff.next(uptime),
            RestartDelay::None => Duration::ZERO,
        };
        let delay = match (is_within, self.group.cool_down) {
            (true, _) => backoff,
            (false, Some(time)) => {
                report::cool_down(&self.context.slot, &child.slot, time);
                time.max(backoff)
            }
            (false, None) => {
                report::shutdown(&self.context.slot, &child.slot);
                self.stop_myself("restart intensity exceeded");
                return;
            }
        };
        child.slot.count_restart();
        self.restart(key, delay);
    }

    fn restart(&mut self, key: u64, delay: Duration) {
        let mut keys: Vec<u64> = match self.group.strategy {
            Strategy::OneForOne => vec![key],
            Strategy::OneForAll => self.children.from(0).map(|child| child.slot.key).collect(),
            Strategy::RestForOne => self.children.from(key).map(|child| child.slot.key).collect(),
        };
        // A round that is going on and shares a child with this one becomes a
        // part of it.
        let shared = |round: &Round| round.keys.iter().any(|key| keys.contains(key));
        let replaced: Vec<u64> =
            self.rounds.iter().filter(|(_, round)| shared(round)).map(|(id, _)| *id).collect();
        let mut tasks = Vec::new();
        for id in replaced {
            if let Some(round) = self.rounds.remove(&id) {
                keys.extend(&round.keys);
                round.task.abort();
                tasks.push(round.task);
            }
        }
        keys.sort_unstable();
        keys.dedup();
        self.begin_round(keys, tasks, delay, None);
    }

    pub(super) fn begin_round(
        &mut self,
        mut keys: Vec<u64>,
        mut replaced: Vec<AbortOnDropHandle<()>>,
        delay: Duration,
        asked: Option<Asked>,
    ) {
        let round = self.next_round;
        self.next_round += 1;
        let is_first = asked.is_some();
        let mut slots = Vec::with_capacity(keys.len());
        keys.retain(|key| {
            let Some(child) = self.children.get_mut(*key) else { return false };
            let phase = std::mem::replace(&mut child.phase, Phase::InRound { round });
            let starts_again = is_first || child.slot.node.restart_kind() != Restart::Temporary;
            if let Phase::Ending { task, .. } = phase {
                replaced.push(task);
            }
            if starts_again && !is_first {
                child.slot.set_standing(Standing::Restarting);
            }
            slots.push(Slotted { slot: Arc::clone(&child.slot), starts_again });
            true
        });
        let is_exclusive = self.group.strategy != Strategy::OneForOne;
        let plan = Plan { round, replaced, slots, delay, is_exclusive };
        let (context, life) = (Arc::clone(&self.context), Arc::clone(&self.life));
        let task = task::spawn(async move {
            let outcome = round::run(&context, plan).await;
            // If the supervisor is gone, nobody needs to know.
            let _ = context.actor.send_message(Message::RoundEnded { round, outcome });
            drop(life);
        });
        self.rounds.insert(round, Round { task, keys, exits: Vec::new(), asked });
    }

    pub(super) fn round_ended(&mut self, round: u64, outcome: Result<(), Failure>) {
        // None: it was replaced when its message was on the way.
        let Some(round) = self.rounds.remove(&round) else { return };
        let failure = match outcome {
            Ok(()) => None,
            Err(Failure::Start { key, reason }) => Some((key, reason)),
            Err(Failure::Closed) => {
                self.life.incarnation.kill();
                return;
            }
        };
        if let Some(asked) = round.asked {
            match failure {
                Some((key, reason)) => self.asked_start_failed(key, reason, asked),
                None => {
                    self.set_up(&round.keys);
                    // A caller that has gone does not want its child less.
                    asked.started();
                }
            }
        } else {
            self.forget_temporary(&round.keys);
            self.set_up(&round.keys);
            if let Some((key, reason)) = failure {
                if let Some(child) = self.children.get_mut(key) {
                    report::start_error(&child.slot, &reason);
                }
                self.failed(key, Duration::ZERO);
            }
        }
        for (key, reason, uptime) in round.exits {
            // Else another exit has made it part of a new round.
            if self.children.get_mut(key).is_some_and(|child| matches!(child.phase, Phase::Up)) {
                self.failed_or_finished(key, reason, uptime);
            }
        }
        self.resume();
    }

    fn set_up(&mut self, keys: &[u64]) {
        for key in keys {
            if let Some(child) = self.children.get_mut(*key) {
                child.phase = Phase::Up;
            }
        }
    }

    /// A group restart stops temporary children but does not start them.
    fn forget_temporary(&mut self, keys: &[u64]) {
        for key in keys {
            let child = self.children.get_mut(*key);
            if child.is_some_and(|child| child.slot.node.restart_kind() == Restart::Temporary) {
                self.children.remove(*key);
                self.context.slot.remove(*key);
            }
        }
    }

    /// Ahead of everything that is in the queues; `post_stop` stops the rest.
    pub(super) fn stop_myself(&self, why: &str) {
        self.context.actor.stop(Some(format!("shutdown: {why}")));
    }
}

fn report_if_abnormal(slot: &Slot, reason: &ExitReason) {
    if reason.is_abnormal() {
        report::child_terminated(slot, reason);
    }
}

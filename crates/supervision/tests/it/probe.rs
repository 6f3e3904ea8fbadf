//! A worker that does as it is told and keeps a diary.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use supervision::{Intensity, Mailbox, Node, Restart, Root, Shutdown, worker};

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const MANY: Intensity = Intensity::new(1000, SECOND);
pub(crate) const PATIENT: Shutdown = Shutdown::Timeout(SECOND);

#[derive(Clone, Debug, Default)]
pub(crate) struct Diary(Arc<Mutex<Vec<String>>>);

impl Diary {
    pub(crate) fn note(&self, line: impl Into<String>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line.into());
    }

    /// What was noted since the last call.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    #[track_caller]
    pub(crate) fn check(&self, expected: &[&str]) {
        assert_eq!(self.take(), expected);
    }
}

#[derive(Debug)]
pub(crate) enum Message {
    Ping(RpcReplyPort<()>),
    Panic(&'static str),
    Fail(&'static str),
    Stop(Option<&'static str>),
    /// Keep the reply port for ever.
    Ignore(RpcReplyPort<()>),
    /// Drop the reply port.
    Refuse(RpcReplyPort<()>),
    Wait(Duration),
}

/// One worker of a test's tree, from the test's side.
#[derive(Clone, Debug)]
pub(crate) struct Probe {
    pub(crate) id: &'static str,
    pub(crate) mailbox: Mailbox<Message>,
    pub(crate) diary: Diary,
    /// How many of the next starts fail.
    pub(crate) failing_starts: Arc<AtomicUsize>,
    /// How many of the next starts never end.
    pub(crate) hanging_starts: Arc<AtomicUsize>,
    pub(crate) stop_takes: Duration,
}

#[derive(Clone, Debug)]
pub(crate) struct Worker;

#[derive(Debug)]
pub(crate) struct State {
    probe: Probe,
    ignored: Vec<RpcReplyPort<()>>,
}

impl Probe {
    pub(crate) fn new(id: &'static str, diary: &Diary) -> Self {
        Self {
            id,
            mailbox: Mailbox::new(),
            diary: diary.clone(),
            failing_starts: Arc::default(),
            hanging_starts: Arc::default(),
            stop_takes: Duration::ZERO,
        }
    }

    pub(crate) fn node(&self) -> Node {
        self.node_with(Restart::Permanent, PATIENT)
    }

    pub(crate) fn node_with(&self, restart: Restart, shutdown: Shutdown) -> Node {
        worker(self.id, restart, shutdown, &self.mailbox, Worker, self.clone())
    }

    pub(crate) fn send(&self, message: Message) {
        self.mailbox.send(message).unwrap_or_else(|_| panic!("{} is down", self.id));
    }

    pub(crate) async fn ping(&self) -> bool {
        self.mailbox.call(SECOND, Message::Ping).await.is_ok()
    }

    pub(crate) fn fail_next_starts(&self, count: usize) {
        self.failing_starts.store(count, Ordering::SeqCst);
    }
}

fn take_one(count: &AtomicUsize) -> bool {
    count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |count| count.checked_sub(1)).is_ok()
}

impl Actor for Worker {
    type Arguments = Probe;
    type Msg = Message;
    type State = State;

    async fn pre_start(
        &self,
        _myself: ActorRef<Message>,
        probe: Probe,
    ) -> Result<State, ActorProcessingErr> {
        if take_one(&probe.hanging_starts) {
            probe.diary.note(format!("hang {}", probe.id));
            std::future::pending::<()>().await;
        }
        if take_one(&probe.failing_starts) {
            probe.diary.note(format!("fail {}", probe.id));
            return Err("told to fail".into());
        }
        probe.diary.note(format!("start {}", probe.id));
        tracing::info!("probe started");
        Ok(State { probe, ignored: Vec::new() })
    }

    async fn handle(
        &self,
        myself: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Ping(reply) => {
                let _ = reply.send(());
            }
            Message::Panic(text) => panic!("{text}"),
            Message::Fail(text) => return Err(text.into()),
            Message::Stop(reason) => myself.stop(reason.map(str::to_owned)),
            Message::Ignore(reply) => state.ignored.push(reply),
            Message::Refuse(reply) => drop(reply),
            Message::Wait(time) => tokio::time::sleep(time).await,
        }
        Ok(())
    }

    async fn post_stop(
        &self,
        _myself: ActorRef<Message>,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        tokio::time::sleep(state.probe.stop_takes).await;
        state.probe.diary.note(format!("stop {}", state.probe.id));
        Ok(())
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.probe.diary.note(format!("gone {}", self.probe.id));
    }
}

/// Waits for a condition. Fails after a time in which it must have come true.
#[track_caller]
pub(crate) fn until(what: &'static str, condition: impl Fn() -> bool) -> impl Future<Output = ()> {
    let caller = std::panic::Location::caller();
    async move {
        let wait = async {
            while !condition() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let limit = tokio::time::timeout(Duration::from_secs(60), wait);
        limit.await.unwrap_or_else(|_| panic!("{what}: still not, at {caller}"));
    }
}

pub(crate) fn generation(root: &Root, path: &str) -> u64 {
    root.tree().get(path).unwrap_or_else(|| panic!("no {path}")).generation
}

pub(crate) fn state_of(root: &Root, path: &str) -> &'static str {
    root.tree().get(path).map_or("absent", |node| node.state)
}

/// Waits until this incarnation, or a later one, is running.
pub(crate) async fn until_running(root: &Root, path: &str, least: u64) {
    let is_there = || {
        root.tree()
            .get(path)
            .is_some_and(|node| node.state == "running" && node.generation >= least)
    };
    until("running again", is_there).await;
}

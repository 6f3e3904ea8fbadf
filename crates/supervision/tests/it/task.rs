//! Tasks and threads, and to whom they belong.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use supervision::Strategy::OneForOne;
use supervision::{
    ExitReason, Mailbox, Restart, Root, Shutdown, Task, TaskSet, owned_thread, start, supervisor,
    task, thread, worker,
};
use tokio::time::Instant;

use crate::probe::{MANY, SECOND, until, until_running};

#[derive(Debug)]
enum Message {
    PanicInTask,
    PanicInThread,
    PanicInSet,
    /// Hold this for ever, in a task.
    Hold(Held),
}

/// Counts those of its kind that exist.
#[derive(Debug)]
struct Held(Arc<AtomicUsize>);

impl Held {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(count))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[derive(Clone, Debug)]
struct Owner;

#[derive(Debug, Default)]
struct State {
    tasks: Vec<Task>,
    set: TaskSet,
}

impl Actor for Owner {
    type Arguments = ();
    type Msg = Message;
    type State = State;

    async fn pre_start(
        &self,
        _myself: ActorRef<Message>,
        (): (),
    ) -> Result<State, ActorProcessingErr> {
        Ok(State::default())
    }

    async fn handle(
        &self,
        myself: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::PanicInTask => {
                state.tasks.push(task(&myself, "reader", async { panic!("boom") }));
                // A handler that waits for its task does not keep it from failing.
                std::future::pending::<()>().await;
            }
            Message::PanicInThread => {
                owned_thread(&myself, "disk", || panic!("boom"))?;
            }
            Message::PanicInSet => state.set.spawn("request", async { panic!("boom") }),
            Message::Hold(held) => state.tasks.push(task(&myself, "holder", async move {
                std::future::pending::<()>().await;
                drop(held);
            })),
        }
        Ok(())
    }
}

async fn owner() -> (Root, Mailbox<Message>) {
    let mailbox = Mailbox::new();
    let node = worker("owner", Restart::Permanent, Shutdown::BrutalKill, &mailbox, Owner, ());
    let root = start(supervisor("root", OneForOne, MANY, [node])).await.unwrap();
    (root, mailbox)
}

async fn check_panic_kills_owner(message: Message, text: &str) {
    let (root, mailbox) = owner().await;
    mailbox.send(message).unwrap();
    until_running(&root, "owner", 2).await;
    let reason = root.tree().get("owner").unwrap().last_exit.clone().unwrap().reason;
    assert!(reason.starts_with("panicked at ") && reason.ends_with(text), "{reason}");
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_task_is_its_owners() {
    check_panic_kills_owner(Message::PanicInTask, ": in reader: boom").await;
}

#[tokio::test]
async fn a_panic_in_an_owned_thread_is_its_owners() {
    check_panic_kills_owner(Message::PanicInThread, ": in disk: boom").await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_task_set_ends_only_that_task() {
    let (root, mailbox) = owner().await;
    mailbox.send(Message::PanicInSet).unwrap();
    until("handled", || root.tree().get("owner").unwrap().handled == 1).await;
    tokio::time::sleep(SECOND).await;
    assert_eq!(root.tree().get("owner").unwrap().generation, 1);
    root.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_is_restarted_only_when_its_tasks_are_gone() {
    let (root, mailbox) = owner().await;
    let count = Arc::new(AtomicUsize::new(0));
    for least in 2..200 {
        mailbox.send(Message::Hold(Held::new(&count))).unwrap();
        let handled = || root.tree().get("owner").unwrap().handled == 1;
        until("held", handled).await;
        root.kill("owner").unwrap();
        until("another", || root.tree().get("owner").unwrap().generation >= least).await;
        assert_eq!(count.load(Ordering::SeqCst), 0, "at generation {least}");
        until_running(&root, "owner", least).await;
        if least > 3 {
            break;
        }
    }
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_drained_set_waits_and_then_aborts_the_rest() {
    let mut set = TaskSet::new();
    for seconds in [1, 2, 3, 60] {
        set.spawn("request", tokio::time::sleep(Duration::from_secs(seconds)));
    }
    assert_eq!(set.len(), 4);
    let begin = Instant::now();
    assert_eq!(set.drain(SECOND * 5 / 2).await, 2);
    assert_eq!(begin.elapsed(), SECOND * 5 / 2);
    assert!(set.is_empty());
    assert_eq!(set.drain(SECOND).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_set_aborts_its_tasks() {
    let count = Arc::new(AtomicUsize::new(0));
    let mut set = TaskSet::new();
    let held = Held::new(&count);
    set.spawn("request", async move {
        std::future::pending::<()>().await;
        drop(held);
    });
    drop(set);
    until("aborted", || count.load(Ordering::SeqCst) == 0).await;
}

#[tokio::test]
async fn a_thread_reports_its_panic() {
    let quiet = thread("quiet", || {}).unwrap();
    quiet.ended().await.unwrap();
    assert!(quiet.is_finished());
    quiet.join().unwrap();
    let loud = thread("loud", || panic!("boom")).unwrap();
    let ExitReason::Panicked { message, location } = loud.join().unwrap_err() else {
        panic!("not a panic")
    };
    assert_eq!(message, "boom");
    assert!(location.unwrap().contains("task.rs"));
}

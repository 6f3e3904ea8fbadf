//! The price of supervision, against bare ractor.
//!
//! `cargo bench -p supervision --bench cost`, on a quiet machine. The figures
//! in README.md are from here.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a program that measures, and has nobody to tell but the terminal"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ractor::{Actor, ActorProcessingErr, ActorRef};
use supervision::Strategy::OneForOne;
use supervision::{
    Dynamic, Intensity, Mailbox, Node, Restart, RestartDelay, Root, Shutdown, start, supervisor,
    worker,
};

const MESSAGES: u64 = 500_000;
const BATCH: u64 = 20_000;
const ROUNDS: usize = 15;
const ACTORS: u64 = 10_000;
const RESTARTS: u64 = 2_000;
const SNAPSHOTS: u32 = 50;
const MANY: Intensity = Intensity::new(usize::MAX, Duration::from_secs(1));

#[derive(Clone, Debug, Default)]
struct Counter {
    started: Arc<AtomicU64>,
    handled: Arc<AtomicU64>,
}

#[derive(Clone, Debug)]
struct Sink;

impl Actor for Sink {
    type Arguments = Counter;
    type Msg = u64;
    type State = Counter;

    async fn pre_start(
        &self,
        _myself: ActorRef<u64>,
        counter: Counter,
    ) -> Result<Counter, ActorProcessingErr> {
        counter.started.fetch_add(1, Ordering::Release);
        Ok(counter)
    }

    async fn handle(
        &self,
        _myself: ActorRef<u64>,
        _message: u64,
        counter: &mut Counter,
    ) -> Result<(), ActorProcessingErr> {
        counter.handled.fetch_add(1, Ordering::Release);
        Ok(())
    }
}

fn main() {
    // On one thread, where processor time can be told apart.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(messages());
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(2).enable_all().build();
    runtime.unwrap().block_on(actors());
}

async fn until(counter: &AtomicU64, count: u64) {
    while counter.load(Ordering::Acquire) < count {
        tokio::task::yield_now().await;
    }
}

/// Of one round: nanoseconds of processor a message, to send it and until it is
/// handled. In batches, each sent as a whole and handled as a whole.
async fn round(counter: &Counter, send: &impl Fn(u64)) -> (u64, u64) {
    let mut sent = 0;
    let begin = processor_ns();
    for _ in 0..MESSAGES / BATCH {
        let before = counter.handled.load(Ordering::Acquire);
        let batch_begin = processor_ns();
        for number in 0..BATCH {
            send(number);
        }
        sent += processor_ns() - batch_begin;
        until(&counter.handled, before + BATCH).await;
    }
    (sent / MESSAGES, (processor_ns() - begin) / MESSAGES)
}

/// Of this thread, so that others on the machine count less.
fn processor_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

async fn messages() {
    let (theirs, ours) = (Counter::default(), Counter::default());
    let mailbox = Mailbox::new();
    let node =
        worker("sink", Restart::Permanent, Shutdown::BrutalKill, &mailbox, Sink, ours.clone());
    let root = start(supervisor("root", OneForOne, MANY, [node])).await.unwrap();
    let (bare, _handle) = Sink::spawn(None, Sink, theirs.clone()).await.unwrap();
    let (mut best_bare, mut best_ours) = ((u64::MAX, u64::MAX), (u64::MAX, u64::MAX));
    // In turns, and the best of each, so that a busy machine counts less.
    for _ in 0..ROUNDS {
        let (sent, handled) = round(&theirs, &|number| bare.send_message(number).unwrap()).await;
        best_bare = (best_bare.0.min(sent), best_bare.1.min(handled));
        let (sent, handled) = round(&ours, &|number| mailbox.send(number).unwrap()).await;
        best_ours = (best_ours.0.min(sent), best_ours.1.min(handled));
    }
    row("send", best_bare.0.into(), best_ours.0.into(), "ns");
    row("message, sent and handled", best_bare.1.into(), best_ours.1.into(), "ns");
    bare.stop(None);
    root.stop().await;
}

async fn actors() {
    let counter = Counter::default();
    let mut bare = Vec::new();
    let (before, begin) = (resident_bytes(), Instant::now());
    for _ in 0..ACTORS {
        bare.push(Sink::spawn(None, Sink, counter.clone()).await.unwrap().0);
    }
    let bare_ns = begin.elapsed().as_nanos() / u128::from(ACTORS);
    let bare_bytes = (resident_bytes() - before) / ACTORS;

    let (children, counter) = (Dynamic::new(), Counter::default());
    let node = supervision::dynamic("kids", MANY, &children).restart_delay(RestartDelay::None);
    let root = start(supervisor("root", OneForOne, MANY, [node])).await.unwrap();
    let mut mailboxes = Vec::new();
    let (before, begin) = (resident_bytes(), Instant::now());
    for number in 0..ACTORS {
        let (mailbox, node) = child(number, &counter);
        mailboxes.push(mailbox);
        children.start_child(node).await.unwrap();
    }
    let ours_ns = begin.elapsed().as_nanos() / u128::from(ACTORS);
    let ours_bytes = (resident_bytes() - before) / ACTORS;
    row("spawn", bare_ns, ours_ns, "ns");
    row("memory of an idle child", u128::from(bare_bytes), u128::from(ours_bytes), "B");

    restart(&root, &counter).await;
    let begin = Instant::now();
    for _ in 0..SNAPSHOTS {
        assert_eq!(root.tree().nodes.len() as u64, ACTORS + 2);
    }
    println!("snapshot of {ACTORS}: {:?}", begin.elapsed() / SNAPSHOTS);
    let begin = Instant::now();
    root.stop().await;
    println!("stop of {ACTORS}: {:?}", begin.elapsed());
}

fn child(number: u64, counter: &Counter) -> (Mailbox<u64>, Node) {
    let mailbox = Mailbox::new();
    let node = worker(
        number.to_string(),
        Restart::Permanent,
        Shutdown::BrutalKill,
        &mailbox,
        Sink,
        counter.clone(),
    );
    (mailbox, node)
}

/// From a kill until the successor has started, one after the other.
async fn restart(root: &Root, counter: &Counter) {
    let begin = Instant::now();
    for number in 0..RESTARTS {
        let started = counter.started.load(Ordering::Acquire);
        root.kill(&format!("kids/{}", number % ACTORS)).unwrap();
        until(&counter.started, started + 1).await;
    }
    println!("restart after a kill: {:?}", begin.elapsed() / RESTARTS as u32);
}

fn row(what: &str, bare: u128, ours: u128, unit: &str) {
    let more = ours as i128 - bare as i128;
    let percent = more * 100 / bare as i128;
    println!("{what}: bare {bare} {unit}, ours {ours} {unit} ({more:+} {unit}, {percent:+} %)");
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    status.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

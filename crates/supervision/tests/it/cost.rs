//! What this layer costs. Means something with `--release` only:
//! `cargo test --release -p supervision --test it cost -- --ignored --nocapture`

use std::time::{Duration, Instant};

use ractor::{Actor, ActorProcessingErr, ActorRef};
use supervision::Strategy::OneForOne;
use supervision::{Dynamic, Mailbox, Restart, Shutdown, start, supervisor, worker};

use crate::probe::MANY;

const COUNT: u32 = 500_000;

#[derive(Clone, Debug)]
struct Sink;

impl Actor for Sink {
    type Arguments = ();
    type Msg = u64;
    type State = ();

    async fn pre_start(&self, _myself: ActorRef<u64>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

/// The best of some runs, so that a busy machine counts less.
async fn nanoseconds(mut send: impl FnMut(u64)) -> u128 {
    let mut best = Duration::MAX;
    for _ in 0..7 {
        let begin = Instant::now();
        for number in 0..u64::from(COUNT) {
            send(number);
        }
        best = best.min(begin.elapsed());
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    best.as_nanos() / u128::from(COUNT)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, for an optimised build on a quiet machine"]
async fn a_send_through_a_mailbox_costs_at_most_a_fifth_more() {
    let mailbox = Mailbox::new();
    let node = worker("sink", Restart::Permanent, Shutdown::BrutalKill, &mailbox, Sink, ());
    let root = start(supervisor("root", OneForOne, MANY, [node])).await.unwrap();
    let (bare, _handle) = Sink::spawn(None, Sink, ()).await.unwrap();
    let bare_ns = nanoseconds(|number| bare.send_message(number).unwrap()).await;
    let ours_ns = nanoseconds(|number| mailbox.send(number).unwrap()).await;
    println!("bare {bare_ns} ns, mailbox {ours_ns} ns");
    assert!(ours_ns * 10 <= bare_ns * 12, "bare {bare_ns} ns, mailbox {ours_ns} ns");
    bare.stop(None);
    root.stop().await;
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    status.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, for an optimised build on a quiet machine"]
async fn a_supervised_actor_is_not_much_larger_than_a_bare_one() {
    const ACTORS: u64 = 20_000;
    let before = resident_bytes();
    let mut bare = Vec::new();
    for _ in 0..ACTORS {
        bare.push(Sink::spawn(None, Sink, ()).await.unwrap().0);
    }
    let bare_bytes = (resident_bytes() - before) / ACTORS;
    let children = Dynamic::new();
    let node = supervision::dynamic("kids", MANY, &children);
    let root = start(supervisor("root", OneForOne, MANY, [node])).await.unwrap();
    let before = resident_bytes();
    let begin = Instant::now();
    let mailboxes: Vec<_> = (0..ACTORS).map(|_| Mailbox::new()).collect();
    for (number, mailbox) in mailboxes.iter().enumerate() {
        let id = number.to_string();
        let node = worker(id, Restart::Transient, Shutdown::BrutalKill, mailbox, Sink, ());
        children.start_child(node).await.unwrap();
    }
    let each = begin.elapsed() / 20_000;
    let ours_bytes = (resident_bytes() - before) / ACTORS;
    println!("bare {bare_bytes} B, supervised {ours_bytes} B, start {each:?}");
    let begin = Instant::now();
    root.stop().await;
    println!("stop of all {:?}", begin.elapsed());
    assert!(ours_bytes < 2 * bare_bytes);
}

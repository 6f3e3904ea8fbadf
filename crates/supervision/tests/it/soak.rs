//! Ten thousand children, killed at random, a thousand a second.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ractor::{Actor, ActorProcessingErr, ActorRef};
use supervision::Strategy::OneForOne;
use supervision::{
    Dynamic, Intensity, Mailbox, Report, Restart, RestartDelay, Root, Shutdown, dynamic, start,
    supervisor, task, worker,
};
use tokio::sync::broadcast;

const CHILDREN: usize = 10_000;
const TICK: Duration = Duration::from_millis(10);
const KILLS_PER_TICK: usize = 10;
/// Kills that are not yet answered by a new start. The follower of reports
/// loses none as long as these are few.
const UNANSWERED_MAX: u64 = 300;
const SNAPSHOT_EVERY: usize = 20;
const MANY: Intensity = Intensity::new(usize::MAX, Duration::from_secs(1));

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_soak_leaks_nothing_and_reports_every_kill_once() {
    println!("{}", soak(Duration::from_secs(5)).await);
}

#[derive(Clone, Debug)]
struct Idle;

impl Actor for Idle {
    type Arguments = ();
    type Msg = ();
    type State = ();

    async fn pre_start(&self, _myself: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

/// Follows the reports; a child of the tree it is not, since those die.
#[derive(Clone, Debug)]
struct Follower;

#[derive(Debug)]
struct Child {
    /// Killed, and not started since.
    is_down: AtomicBool,
    kills: AtomicU64,
    reports: AtomicU64,
}

#[derive(Debug)]
struct Tally {
    children: Vec<Child>,
    unanswered: AtomicU64,
    lost: AtomicU64,
}

impl Actor for Follower {
    type Arguments = (Arc<Tally>, Arc<std::sync::Mutex<Option<broadcast::Receiver<Report>>>>);
    type Msg = ();
    type State = supervision::Task;

    async fn pre_start(
        &self,
        myself: ActorRef<()>,
        (tally, reports): Self::Arguments,
    ) -> Result<supervision::Task, ActorProcessingErr> {
        let mut reports = reports.lock().unwrap().take().ok_or("followed once only")?;
        Ok(task(&myself, "follow", async move {
            loop {
                match reports.recv().await {
                    Ok(report) => tally.note(&report),
                    Err(broadcast::error::RecvError::Lagged(count)) => {
                        tally.lost.fetch_add(count, Ordering::SeqCst);
                    }
                    Err(broadcast::error::RecvError::Closed) => break,
                }
            }
        }))
    }
}

impl Tally {
    fn new() -> Self {
        let child = |_| Child {
            is_down: AtomicBool::new(false),
            kills: AtomicU64::new(0),
            reports: AtomicU64::new(0),
        };
        let children = (0..CHILDREN).map(child).collect();
        Self { children, unanswered: AtomicU64::new(0), lost: AtomicU64::new(0) }
    }

    fn note(&self, report: &Report) {
        let number = report.actor.strip_prefix("kids/").and_then(|id| id.parse::<usize>().ok());
        let Some(child) = number.map(|number| &self.children[number]) else { return };
        match report.context {
            "child_terminated" => {
                assert_eq!(report.reason.as_deref(), Some("killed"));
                child.reports.fetch_add(1, Ordering::SeqCst);
            }
            "progress" if child.is_down.swap(false, Ordering::SeqCst) => {
                self.unanswered.fetch_sub(1, Ordering::SeqCst);
            }
            _ => {}
        }
    }

    fn kill_some(&self, root: &Root) -> u64 {
        let numbers = (0..KILLS_PER_TICK).map(|_| rand::random_range(0..CHILDREN));
        numbers.filter(|number| self.kill(root, *number)).count() as u64
    }

    /// Not if it is down already, or too many are.
    fn kill(&self, root: &Root, number: usize) -> bool {
        let child = &self.children[number];
        let is_allowed = self.unanswered.load(Ordering::SeqCst) < UNANSWERED_MAX;
        if !is_allowed || child.is_down.swap(true, Ordering::SeqCst) {
            return false;
        }
        self.unanswered.fetch_add(1, Ordering::SeqCst);
        child.kills.fetch_add(1, Ordering::SeqCst);
        root.kill(&format!("kids/{number}")).unwrap();
        true
    }
}

/// Fails when the promise is broken; else says what was seen.
pub(crate) async fn soak(time: Duration) -> String {
    let kids = Dynamic::new();
    let node = dynamic("kids", MANY, &kids).restart_delay(RestartDelay::None);
    let root = start(supervisor("root", OneForOne, MANY, [node])).await.unwrap();
    for number in 0..CHILDREN {
        let shutdown = Shutdown::BrutalKill;
        let mailbox = Mailbox::new();
        let id = number.to_string();
        let node = worker(id, Restart::Permanent, shutdown, &mailbox, Idle, ());
        kids.start_child(node).await.unwrap();
    }
    let tally = Arc::new(Tally::new());
    let reports = Arc::new(std::sync::Mutex::new(Some(root.reports())));
    let (follower, _handle) =
        Follower::spawn(None, Follower, (Arc::clone(&tally), reports)).await.unwrap();

    kill_all_once(&root, &tally).await;
    let before = resident_bytes();
    let kills = kill_for(time, &root, &tally).await;
    let after = resident_bytes();

    let lost = tally.lost.load(Ordering::SeqCst);
    assert_eq!(lost, 0, "the follower was too slow");
    for (number, child) in tally.children.iter().enumerate() {
        let kills = child.kills.load(Ordering::SeqCst);
        assert_eq!(kills, child.reports.load(Ordering::SeqCst), "of kids/{number}");
    }
    let mut text = String::new();
    let per_second = kills / time.as_secs();
    let _ = write!(text, "{kills} kills in {time:?} ({per_second}/s), each reported once; ");
    let _ = write!(text, "resident {} KiB before, {} KiB after", before / 1024, after / 1024);
    assert!(after * 100 <= before * 105, "{text}");
    follower.stop(None);
    root.stop().await;
    text
}

/// So that what a restart costs for good, if anything, is in the baseline.
async fn kill_all_once(root: &Root, tally: &Tally) {
    for number in 0..CHILDREN {
        while !tally.kill(root, number) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    kill_for(Duration::from_secs(1), root, tally).await;
}

/// Returns the number of kills, when all have been answered.
async fn kill_for(time: Duration, root: &Root, tally: &Tally) -> u64 {
    let mut ticks = tokio::time::interval(TICK);
    let begin = Instant::now();
    let mut kills = 0;
    let mut tick_count = 0;
    while begin.elapsed() < time {
        ticks.tick().await;
        kills += tally.kill_some(root);
        tick_count += 1;
        if tick_count % SNAPSHOT_EVERY == 0 {
            check_snapshot(root);
        }
    }
    let answered = async {
        while tally.unanswered.load(Ordering::SeqCst) > 0 {
            ticks.tick().await;
        }
    };
    let answered = tokio::time::timeout(Duration::from_secs(30), answered).await;
    assert!(
        answered.is_ok(),
        "{} kills without a new start",
        tally.unanswered.load(Ordering::SeqCst)
    );
    check_snapshot(root);
    kills
}

fn check_snapshot(root: &Root) {
    let tree = root.tree();
    assert_eq!(tree.nodes.len(), CHILDREN + 2);
    assert_eq!(tree.orphans, 0);
    let paths: HashSet<&str> = tree.nodes.iter().map(|node| node.path.as_str()).collect();
    assert_eq!(paths.len(), CHILDREN + 2);
    for node in tree.nodes.iter().filter(|node| node.depth == 2) {
        // A restart is counted before it is done.
        let restarts = node.restarts_total;
        assert!(node.generation == restarts + 1 || node.generation == restarts, "{node:?}");
        assert_ne!(node.state, "stopped", "{node:?}");
    }
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    status.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

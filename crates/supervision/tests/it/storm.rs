//! Whatever is killed, whenever: the tree comes back as it was.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use supervision::Strategy::{OneForAll, OneForOne, RestForOne};
use supervision::{Dynamic, Intensity, Node, Restart, Shutdown, start, supervisor};

use crate::probe::{Diary, Message, PATIENT, Probe, until};

const FEW: Intensity = Intensity::new(5, Duration::from_secs(1));

struct Forest {
    probes: Vec<Probe>,
    diary: Diary,
}

impl Forest {
    fn worker(&mut self, id: &'static str, shutdown: Shutdown, stop_takes: u64) -> Node {
        let mut probe = Probe::new(id, &self.diary);
        probe.stop_takes = Duration::from_millis(stop_takes);
        self.probes.push(probe.clone());
        probe.node_with(Restart::Permanent, shutdown)
    }

    fn tree(&mut self) -> Node {
        let brutal = Shutdown::BrutalKill;
        let store = [
            self.worker("disk", PATIENT, 1),
            self.worker("journal", Shutdown::Infinity, 3),
            self.worker("catalog", PATIENT, 0),
        ];
        let leader = [
            self.worker("lock", brutal, 0),
            self.worker("router", brutal, 0),
            self.worker("stream", Shutdown::Timeout(Duration::from_millis(2)), 20),
        ];
        let leader = supervisor("leader", RestForOne, FEW, leader);
        let postgres = [leader, self.worker("pool", brutal, 0), self.worker("janitor", PATIENT, 2)];
        let edge = [self.worker("listener", PATIENT, 1), self.worker("health", brutal, 0)];
        let tree = [
            supervisor("store", RestForOne, FEW, store),
            supervisor("postgres", OneForOne, FEW, postgres).cool_down(Duration::from_millis(200)),
            supervisor("edge", OneForAll, FEW, edge),
        ];
        supervisor("leyden", OneForOne, FEW, tree).cool_down(Duration::from_millis(200))
    }
}

#[allow(clippy::disallowed_methods, reason = "SEED replays a run")]
fn seed() -> u64 {
    let seed = std::env::var("SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(rand::random);
    println!("SEED={seed}");
    seed
}

async fn storm(seed: u64, kill_count: usize, pause_max: Duration) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut forest = Forest { probes: Vec::new(), diary: Diary::default() };
    let tree = forest.tree();
    let paths: Vec<String> = tree.outline().nodes.into_iter().map(|node| node.path).collect();
    let root = start(tree).await.unwrap();
    for _ in 0..kill_count {
        for _ in 0..random.random_range(1..=4) {
            let path = &paths[random.random_range(0..paths.len())];
            let probe = &forest.probes[random.random_range(0..forest.probes.len())];
            match random.random_range(0..8) {
                0 => drop(probe.mailbox.send(Message::Panic("storm"))),
                1 => drop(probe.mailbox.send(Message::Fail("storm"))),
                2 => drop(probe.mailbox.send(Message::Stop(None))),
                3 => probe.fail_next_starts(1),
                _ => root.kill(path).unwrap(),
            }
        }
        if random.random_bool(0.7) {
            tokio::time::sleep(pause_max.mul_f64(random.random())).await;
        }
    }
    for probe in &forest.probes {
        probe.fail_next_starts(0);
    }
    until("all is up", || {
        let tree = root.tree();
        let is_up = tree.nodes.iter().all(|node| node.state == "running");
        is_up && forest.probes.iter().all(|probe| probe.mailbox.is_up())
    })
    .await;
    let tree = root.tree();
    assert_eq!(
        tree.nodes.iter().map(|node| &node.path).collect::<Vec<_>>(),
        paths.iter().collect::<Vec<_>>()
    );
    for probe in &forest.probes {
        assert!(probe.ping().await, "{}: {tree:?}", probe.id);
    }
    assert_eq!(tree.orphans, 0);
    check_single(&forest);
    root.stop().await;
    check_single(&forest);
}

/// At no time were there two incarnations of one worker.
fn check_single(forest: &Forest) {
    let lines = forest.diary.take();
    for line in &lines {
        forest.diary.note(line.clone());
    }
    for probe in &forest.probes {
        let (start, gone) = (format!("start {}", probe.id), format!("gone {}", probe.id));
        let mut live = 0;
        for line in &lines {
            if *line == start {
                live += 1;
            } else if *line == gone {
                live -= 1;
            }
            assert!((0..=1).contains(&live), "{live} of {}", probe.id);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_storm_of_kills_leaves_the_tree_complete() {
    storm(seed(), 400, Duration::from_millis(20)).await;
}

#[tokio::test(start_paused = true)]
async fn a_long_storm_in_paused_time_leaves_the_tree_complete() {
    storm(seed(), 2000, Duration::from_millis(500)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_stop_in_the_middle_of_a_storm_leaves_nothing_running() {
    let mut random = StdRng::seed_from_u64(seed());
    for _ in 0..20 {
        let mut forest = Forest { probes: Vec::new(), diary: Diary::default() };
        let tree = forest.tree();
        let paths: Vec<String> = tree.outline().nodes.into_iter().map(|node| node.path).collect();
        let root = start(tree).await.unwrap();
        for _ in 0..random.random_range(1..40) {
            root.kill(&paths[random.random_range(0..paths.len())]).unwrap();
            tokio::time::sleep(Duration::from_micros(random.random_range(0..3000))).await;
        }
        root.clone().stop().await;
        check_single(&forest);
        let lines = forest.diary.take();
        let count = |word: &str| lines.iter().filter(|line| line.starts_with(word)).count();
        assert_eq!(count("start"), count("gone"));
        assert!(forest.probes.iter().all(|probe| !probe.mailbox.is_up()));
        let tree = root.tree();
        assert!(tree.nodes.iter().all(|node| node.state == "stopped"), "{tree:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_storm_over_dynamic_children_loses_none_and_doubles_none() {
    const IDS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
    let mut random = StdRng::seed_from_u64(seed());
    let diary = Diary::default();
    let probes: Vec<_> = IDS.iter().map(|id| Probe::new(id, &diary)).collect();
    let children = Dynamic::new();
    let node = supervision::dynamic("kids", FEW, &children).cool_down(Duration::from_millis(50));
    let tree = supervisor("leyden", OneForOne, FEW, [node]).cool_down(Duration::from_millis(50));
    let root = start(tree).await.unwrap();
    let kinds = [Restart::Permanent, Restart::Transient, Restart::Temporary];
    let storms = (0..4).map(|_| {
        let (mut random, probes, root, children) =
            (StdRng::seed_from_u64(random.random()), &probes, &root, &children);
        async move {
            for _ in 0..500 {
                let probe = &probes[random.random_range(0..IDS.len())];
                match random.random_range(0..10) {
                    0..4 => {
                        let kind = kinds[random.random_range(0..kinds.len())];
                        drop(children.start_child(probe.node_with(kind, PATIENT)).await);
                    }
                    4 => drop(children.terminate_child(probe.id).await),
                    5 => drop(root.kill(&format!("kids/{}", probe.id))),
                    6 => drop(probe.mailbox.send(Message::Stop(None))),
                    7 => drop(probe.mailbox.send(Message::Panic("storm"))),
                    8 => probe.fail_next_starts(1),
                    _ if random.random_bool(0.1) => root.kill("kids").unwrap(),
                    _ => tokio::time::sleep(Duration::from_millis(1)).await,
                }
            }
        }
    });
    futures_util::future::join_all(storms).await;
    until("the supervisor is up", || children.is_running()).await;
    let forest = Forest { probes, diary };
    for probe in &forest.probes {
        probe.fail_next_starts(0);
        // Not there is as good as ended.
        drop(children.terminate_child(probe.id).await);
        children.start_child(probe.node()).await.unwrap();
        assert!(probe.ping().await);
    }
    assert_eq!(children.count(), IDS.len());
    check_single(&forest);
    root.stop().await;
    let lines = forest.diary.take();
    let count = |word: &str| lines.iter().filter(|line| line.starts_with(word)).count();
    assert_eq!(count("start"), count("gone"));
}

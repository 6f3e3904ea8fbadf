//! Power cuts, dead processes and failing calls, at every call.
//!
//! `disk` is a file system that loses what may be lost, `world` the reference
//! model, which drives the store and says what must be there afterwards. Here
//! are the histories: all short ones with a strike at each call, and random
//! long ones with many.

mod damage;
mod disk;
mod world;

use change::{Lsn, Operation};
use shape::{Handle, Offset, RequestOffset};

use self::disk::{Loss, LossyDisk, Random, Strike};
use self::world::{Op, ROOT, World};
use crate::journal::tests::{row, transaction};
use crate::{Directory, Journal, Limits, Log, SnapshotWriter};

const LOSSES: [Loss; 3] = [Loss::All, Loss::OnlyProcess, Loss::Some];

/// Says what to replay when a test fails.
struct Replay<'a>(&'a dyn std::fmt::Debug);

impl Drop for Replay<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failed with {:?}", self.0);
        }
    }
}

/// The history with a strike at call `at`. False when it has fewer calls.
fn run(ops: &[Op], at: u64, strike: Strike, loss: Loss, seed: u64) -> bool {
    let _replay = Replay(&(ops, at, strike, loss, seed));
    let mut world = World::new(seed, [1, 400][seed as usize % 2]);
    world.disk.arm(at, strike);
    for &op in ops {
        if !world.run(op) {
            world.restart(loss);
        }
    }
    let has_struck = world.disk.has_struck();
    world.disk.disarm();
    // Whatever was read after the strike counts as promised, too.
    world.restart(loss);
    world.restart(Loss::All);
    has_struck
}

/// At each call after the first `passed` operations.
fn strike_everywhere(ops: &[Op], passed: usize) {
    let mut world = World::new(0, 400);
    assert!(ops[..passed].iter().all(|&op| world.run(op)));
    let first = world.disk.calls();
    for strike in [Strike::Crash, Strike::Fail] {
        for at in first.. {
            let losses = LOSSES.iter().zip(at..);
            let runs = losses.map(|(&loss, seed)| run(ops, at, strike, loss, seed));
            if !runs.fold(false, |any, struck| any | struck) {
                break;
            }
        }
    }
}

/// All histories of that length, after `start`.
fn exhaust(start: &[Op], alphabet: &[Op], length: u32) {
    strike_everywhere(start, 0);
    let mut ops = start.to_vec();
    for number in 0..alphabet.len().pow(length) {
        ops.truncate(start.len());
        let mut rest = number;
        for _ in 0..length {
            ops.push(alphabet[rest % alphabet.len()]);
            rest /= alphabet.len();
        }
        strike_everywhere(&ops, start.len());
    }
}

#[test]
fn journal_every_short_history_with_a_strike_at_every_call() {
    let alphabet = [
        Op::Send(1),
        Op::Send(3),
        Op::SendPart(3),
        Op::Mark,
        Op::Sync,
        Op::NewSession,
        Op::ReopenJournal,
    ];
    exhaust(&[Op::SendPart(2), Op::Sync], &alphabet, 2);
}

#[test]
fn catalog_every_short_history_with_a_strike_at_every_call() {
    let alphabet = [Op::Create, Op::Tombstone(0), Op::ReopenCatalog];
    exhaust(&[Op::Create], &alphabet, 2);
}

#[test]
fn snapshot_every_short_history_with_a_strike_at_every_call() {
    let alphabet = [Op::Create, Op::CreateAgain, Op::ReopenCatalog];
    exhaust(&[], &alphabet, 2);
}

#[test]
fn log_every_short_history_with_a_strike_at_every_call() {
    let alphabet = [
        Op::Consume(0),
        Op::WriteLog(0),
        Op::SyncLog(0),
        Op::Release(0),
        Op::Half(0),
        Op::Replace(0),
        Op::Trim,
    ];
    exhaust(&[Op::Create, Op::Send(9), Op::Send(3), Op::Sync], &alphabet, 2);
}

#[test]
fn removal_every_short_history_with_a_strike_at_every_call() {
    let alphabet = [Op::Clean, Op::Forget, Op::ReopenCatalog];
    exhaust(&[Op::Create, Op::Tombstone(0)], &alphabet, 2);
}

#[test]
fn everything_together_with_a_strike_at_every_call() {
    let ops = [
        Op::Create,
        Op::Send(3),
        Op::Sync,
        Op::Consume(0),
        Op::Create,
        Op::Send(9),
        Op::Sync,
        Op::Consume(1),
        Op::SyncLog(0),
        Op::Tombstone(0),
        Op::Clean,
        Op::Forget,
        Op::SyncLog(0),
        Op::Trim,
    ];
    strike_everywhere(&ops, 0);
}

#[test]
fn a_strike_in_the_recovery_from_a_strike_is_recovered_from() {
    let ops = [Op::Create, Op::Send(9), Op::Sync, Op::Consume(0), Op::Send(2)];
    for (first, second) in [(Loss::Some, Loss::Some), (Loss::Nothing, Loss::All)] {
        for at in 0..40 {
            for again in 0.. {
                let _replay = Replay(&(at, again, first));
                let mut world = World::new(at + 1000 * again, 1);
                world.disk.arm(at, Strike::Crash);
                if ops.iter().all(|&op| world.run(op)) {
                    world.run(Op::Sync);
                }
                let _ = world.restart_struck(first, again);
                let struck = world.disk.has_struck();
                world.restart(second);
                world.restart(Loss::All);
                if !struck {
                    break;
                }
            }
        }
    }
}

/// A journal from which the beginning of a transaction was taken back; what is
/// written in its place has the size of that one's first fragment.
fn overwrite_a_beginning(at: u64, loss_seed: u64) {
    let _replay = Replay(&(at, loss_seed));
    let disk = LossyDisk::new(loss_seed);
    let limits = Limits { segment_bytes: 1 << 20 };
    let directory = Directory::open_on(ROOT, disk.files()).unwrap();
    let mut journal = Journal::open(&directory, limits).unwrap();
    let mut discarded = transaction(20, 4);
    // As long as a commit's fields more.
    let new = row(&[Some("value and 16 bytes   "), None]);
    discarded[0].changes[0].operation = Operation::Insert { new };
    for fragment in transaction(10, 1).iter().chain(&discarded[..3]) {
        journal.append(fragment).unwrap();
    }
    let promised = journal.sync().unwrap();
    journal.discard_unfinished();
    journal.append(&transaction(15, 1)[0]).unwrap();
    disk.arm(at, Strike::Crash);
    let _ = journal.sync();
    drop((journal, directory));
    disk.restart(Loss::Some);
    let directory = Directory::open_on(ROOT, disk.files()).unwrap();
    let journal = Journal::open(&directory, limits).unwrap();
    assert!([promised.commit_lsn, Lsn(15)].contains(&journal.position().commit_lsn));
}

#[test]
fn what_was_taken_back_does_not_continue_what_was_written_over_it() {
    for at in 0..5 {
        (0..40).for_each(|seed| overwrite_a_beginning(at, seed));
    }
}

#[test]
fn a_directory_whose_parents_were_missing_survives_a_power_cut() {
    for at in 0..8 {
        let disk = LossyDisk::new(at);
        disk.arm(at, Strike::Crash);
        let _ = Directory::open_on(ROOT, disk.files());
        // The next process finds directories that are not durable yet.
        disk.restart(Loss::OnlyProcess);
        let token = Directory::open_on(ROOT, disk.files()).unwrap().token();
        disk.restart(Loss::All);
        assert!(Directory::open_on(ROOT, disk.files()).unwrap().token() > token, "call {at}");
    }
}

#[test]
fn a_rollback_over_several_chunks_leaves_no_gap_after_a_power_cut() {
    let ops = [Op::Create, Op::Send(9), Op::Send(9), Op::Sync, Op::Half(0)];
    for at in 0.. {
        let runs = (0..20).map(|seed| run(&ops, at, Strike::Crash, Loss::Some, seed));
        if !runs.fold(false, |any, struck| any | struck) {
            break;
        }
    }
}

/// A snapshot whose last sync fails is taken back, and the power goes.
fn take_a_snapshot_back(at: u64, seed: u64) -> bool {
    let _replay = Replay(&(at, seed));
    let disk = LossyDisk::new(seed);
    let handle: Handle = "1-1".parse().unwrap();
    let directory = Directory::open_on(ROOT, disk.files()).unwrap();
    let mut writer = SnapshotWriter::create(&directory, &handle, 4).unwrap();
    for row in ["{1}", "{2}"] {
        writer.row(row.as_bytes()).unwrap();
    }
    disk.arm(at, Strike::Fail);
    let is_complete = writer.finish(&"1:2:".parse().unwrap(), b"{end}").is_ok();
    let has_struck = disk.has_struck();
    drop(directory);
    disk.restart(Loss::Some);
    let directory = Directory::open_on(ROOT, disk.files()).unwrap();
    let reader = Log::open(&directory, &handle, 4).unwrap().reader();
    assert!(reader.snapshot_chunks() == 3 || !is_complete);
    for (index, body) in (0..reader.snapshot_chunks()).zip(["{1}", "{2}", "{end}"]) {
        let after = match index.checked_sub(1) {
            None => RequestOffset::Start,
            Some(last) => RequestOffset::At(Offset::snapshot_chunk(last)),
        };
        assert_eq!(reader.read(after).unwrap().body.concat(), body.as_bytes());
    }
    has_struck
}

#[test]
fn a_snapshot_that_was_taken_back_is_not_half_there_after_a_power_cut() {
    for at in 0.. {
        if !(0..60).fold(false, |any, seed| take_a_snapshot_back(at, seed) | any) {
            break;
        }
    }
}

fn any_op(random: &mut Random) -> Op {
    let choice = random.below(3) as usize;
    let parts = 1 + random.below(8);
    match random.below(33) {
        0..5 => Op::Send(parts),
        5..7 => Op::SendPart(parts),
        7 => Op::Mark,
        8..13 => Op::Sync,
        13 => Op::NewSession,
        14 => Op::ReopenJournal,
        15 => Op::Trim,
        16 => Op::ReopenCatalog,
        17 => Op::Create,
        18..20 => Op::CreateAgain,
        20..24 => Op::Consume(choice),
        24..26 => Op::WriteLog(choice),
        26 => Op::SyncLog(choice),
        27 => Op::Release(choice),
        28 => Op::Half(choice),
        29 => Op::Replace(choice),
        30 => Op::Tombstone(choice),
        31 => Op::Clean,
        _ => Op::Forget,
    }
}

fn run_random(seed: u64) {
    let label = format!("SEED={seed}");
    let _replay = Replay(&label);
    let mut random = Random::new(seed);
    let mut world = World::new(seed, [1, 300, 3000][random.below(3) as usize]);
    let arm = |world: &World, random: &mut Random| {
        let strike = if random.below(3) == 0 { Strike::Fail } else { Strike::Crash };
        world.disk.arm(random.below(60), strike);
    };
    arm(&world, &mut random);
    for _ in 0..random.below(100) {
        let mut is_alive = world.run(any_op(&mut random));
        if is_alive && world.disk.has_struck() {
            arm(&world, &mut random);
        }
        while !is_alive {
            let loss = match random.below(4) {
                0 => Loss::Nothing,
                choice => LOSSES[choice as usize - 1],
            };
            is_alive = world.restart_struck(loss, random.below(60));
        }
    }
    world.disk.disarm();
    world.restart(Loss::Some);
    world.restart(Loss::All);
}

#[allow(clippy::disallowed_methods, reason = "SEED replays a run")]
fn given_seed() -> Option<u64> {
    std::env::var("SEED").ok()?.parse().ok()
}

#[test]
fn long_random_histories() {
    use std::hash::{BuildHasher, RandomState};
    if let Some(seed) = given_seed() {
        return run_random(seed);
    }
    (0..500).for_each(run_random);
    let fresh = RandomState::new().hash_one(0) >> 16;
    println!("fresh seeds from SEED={fresh}");
    (fresh..fresh + 500).for_each(run_random);
}

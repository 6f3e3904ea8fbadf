//! Damage to one file at a time, of every kind, in a store that has everything.

use std::fmt::Debug;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;

use super::Replay;
use super::disk::LossyDisk;
use super::world::{Op, ROOT, World};
use crate::format::HEADER_BYTES;
use crate::record::Records;

/// Two shapes with closed chunks, transactions across them, several journal
/// files of which the first ones are gone, and a tombstone.
fn store(segment_bytes: u64) -> World {
    let mut world = World::new(0, segment_bytes);
    let mut ops = vec![Op::Create, Op::Send(3), Op::Sync, Op::Create, Op::Create];
    ops.extend([Op::Tombstone(2), Op::Send(6), Op::Send(1), Op::Mark, Op::Sync]);
    ops.extend([Op::Consume(0), Op::Consume(1), Op::SyncLog(0), Op::Trim]);
    ops.extend([Op::Send(5), Op::Sync, Op::Consume(0), Op::SyncLog(0)]);
    ops.extend([Op::Send(2), Op::Sync, Op::Consume(1), Op::SyncLog(1)]);
    assert!(ops.into_iter().all(|op| world.run(op)));
    world
}

fn check(world: &World, path: &str, what: &dyn Debug, content: Option<Vec<u8>>) {
    let said = (path, what);
    let _replay = Replay(&said);
    let disk: LossyDisk = world.disk.copy();
    disk.damage(path, content);
    // The others all the time would be most of the work.
    static TURN: AtomicU32 = AtomicU32::new(0);
    world.check_damaged(&disk, path, TURN.fetch_add(1, Ordering::Relaxed).is_multiple_of(64));
}

/// Every file of the store, with what it holds.
fn every_file(mut check: impl FnMut(&World, &str, Vec<u8>)) {
    for segment_bytes in [1, 3000] {
        let world = store(segment_bytes);
        let paths = world.disk.paths();
        assert!(paths.iter().any(|path| path.ends_with("/log.1")), "{paths:?}");
        // How the journal is cut into files is of no matter to the others.
        for path in paths.iter().filter(|path| segment_bytes == 1 || path.contains("/journal/")) {
            check(&world, path, world.disk.content(path));
        }
    }
}

#[test]
fn a_file_cut_at_any_byte_is_noticed_and_harms_no_other() {
    every_file(|world, path, bytes| {
        for cut in 0..bytes.len() {
            check(world, path, &cut, Some(bytes[..cut].to_vec()));
        }
    });
}

#[test]
fn a_flipped_bit_in_any_byte_is_noticed_and_harms_no_other() {
    every_file(|world, path, bytes| {
        for index in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[index] ^= 1 << (index * 5 % 8);
            check(world, path, &index, Some(flipped));
        }
    });
}

#[test]
fn zeros_are_noticed_and_harm_no_other() {
    every_file(|world, path, bytes| {
        for page_bytes in [32, 512, 4096] {
            for start in (0..bytes.len()).step_by(page_bytes) {
                let mut zeroed = bytes.clone();
                let end = zeroed.len().min(start + page_bytes);
                zeroed[start..end].fill(0);
                check(world, path, &(start, end), Some(zeroed));
            }
        }
    });
}

#[test]
fn a_deleted_file_is_noticed_and_harms_no_other() {
    every_file(|world, path, _| check(world, path, &"deleted", None));
    let world = store(1);
    let disk = world.disk.copy();
    disk.damage(&format!("{ROOT}/catalog"), None);
    world.check_missing_catalog(&disk);
}

#[test]
fn a_duplicated_record_is_noticed_or_harmless() {
    every_file(|world, path, bytes| {
        let records = Records::new(Bytes::from(bytes.clone()), HEADER_BYTES);
        for record in records {
            let range = record.pos as usize..record.end_pos() as usize;
            let mut doubled = bytes[..range.end].to_vec();
            doubled.extend_from_slice(&bytes[range.start..]);
            check(world, path, &range, Some(doubled));
        }
    });
}

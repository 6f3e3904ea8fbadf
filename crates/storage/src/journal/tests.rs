use std::fs;
use std::sync::Arc;

use bytes::Bytes;
use change::{Cell, Change, Column, Commit, Operation, Relation, ReplicaIdentity, Row};
use proptest::prelude::*;

use super::*;
use crate::file::tests::Faults;

struct Fixture {
    dir: tempfile::TempDir,
    directory: Directory,
}

fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let directory = Directory::open(dir.path()).unwrap();
    Fixture { dir, directory }
}

impl Fixture {
    fn open(&self, segment_bytes: u64) -> Journal {
        Journal::open(&self.directory, Limits { segment_bytes }).unwrap()
    }

    fn segments(&self) -> Vec<PathBuf> {
        let mut paths: Vec<_> = fs::read_dir(self.dir.path().join("journal"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "journal"))
            .collect();
        paths.sort();
        paths
    }
}

fn read(fixture: &Fixture, after: u64, durable: Lsn) -> Vec<Fragment> {
    let mut reader = JournalReader::open(&fixture.directory, Lsn(after)).unwrap();
    drain(&mut reader, durable)
}

fn drain(reader: &mut JournalReader, durable: Lsn) -> Vec<Fragment> {
    std::iter::from_fn(|| reader.next(durable).unwrap()).collect()
}

pub(crate) fn row(values: &[Option<&str>]) -> Row {
    let mut text = Vec::new();
    let mut cells = Vec::new();
    for value in values {
        // As on the wire, where each value's length lies before it.
        text.extend_from_slice(b"tLLLL");
        let start = text.len() as u32;
        cells.push(match value {
            None => Cell::Null,
            Some(value) => {
                text.extend_from_slice(value.as_bytes());
                Cell::Text { start, end: text.len() as u32 }
            }
        });
    }
    Row::new(text.into(), cells.into())
}

fn relation(oid: u32) -> Arc<Relation> {
    let column = |name: &str| Column { name: name.into(), type_oid: 25, type_mod: -1, key: true };
    Arc::new(Relation {
        oid,
        schema: "public".into(),
        name: format!("t{oid}"),
        identity: ReplicaIdentity::Full,
        columns: vec![column("a"), column("b")],
    })
}

/// One insert per fragment; `parts` fragments.
pub(crate) fn transaction(commit_lsn: u64, parts: u64) -> Vec<Fragment> {
    let relation = relation(7);
    let part = |part| Fragment {
        commit_lsn: Lsn(commit_lsn),
        xid: 42,
        changes: vec![Change {
            relation: Arc::clone(&relation),
            op_index: 2 * part,
            operation: Operation::Insert { new: row(&[Some("value"), None]) },
        }],
        commit: (part + 1 == parts).then_some(Commit { end_lsn: Lsn(commit_lsn + 5), time_us: -1 }),
        first: part == 0,
        byte_count: 20,
    };
    (0..parts).map(part).collect()
}

fn append(journal: &mut Journal, fragments: &[Fragment]) {
    for fragment in fragments {
        assert_eq!(journal.append(fragment).unwrap(), Appended::Kept);
    }
}

#[track_caller]
fn check_position(journal: &Journal, commit_lsn: u64, ack_lsn: u64) {
    let expected = Position { commit_lsn: Lsn(commit_lsn), ack_lsn: Lsn(ack_lsn) };
    assert_eq!(journal.position(), expected);
}

#[test]
fn only_a_sync_moves_the_position_and_it_survives_a_reopen() {
    let fixture = fixture();
    let mut journal = fixture.open(1 << 20);
    append(&mut journal, &transaction(10, 1));
    append(&mut journal, &transaction(20, 2));
    check_position(&journal, 0, 0);
    assert_eq!(journal.sync().unwrap(), journal.position());
    check_position(&journal, 20, 25);
    drop(journal);
    let journal = fixture.open(1 << 20);
    check_position(&journal, 20, 25);
    assert_eq!(journal.first_lsn(), Some(Lsn(1)));
    assert_eq!(read(&fixture, 0, Lsn(20)), [transaction(10, 1), transaction(20, 2)].concat());
    assert_eq!(read(&fixture, 10, Lsn(20)), transaction(20, 2));
}

#[test]
fn a_repeated_transaction_is_written_once() {
    let fixture = fixture();
    let mut journal = fixture.open(1 << 20);
    append(&mut journal, &transaction(10, 2));
    // Before and after it is durable, and after a restart.
    for round in 0..3 {
        for fragment in [transaction(10, 2), transaction(9, 1)].concat() {
            assert_eq!(journal.append(&fragment).unwrap(), Appended::Duplicate, "round {round}");
        }
        journal.sync().unwrap();
        if round == 1 {
            drop(journal);
            journal = fixture.open(1 << 20);
        }
    }
    append(&mut journal, &transaction(11, 1));
    journal.sync().unwrap();
    assert_eq!(read(&fixture, 0, Lsn(11)), [transaction(10, 2), transaction(11, 1)].concat());
}

#[test]
fn an_unfinished_transaction_counts_for_nothing() {
    let fixture = fixture();
    let mut journal = fixture.open(1 << 20);
    append(&mut journal, &transaction(10, 1));
    append(&mut journal, &transaction(20, 3)[..1]);
    journal.sync().unwrap();
    append(&mut journal, &transaction(20, 3)[1..2]);
    journal.sync().unwrap();
    check_position(&journal, 10, 15);
    assert_eq!(read(&fixture, 0, Lsn(10)), transaction(10, 1));
    drop(journal);

    let mut journal = fixture.open(1 << 20);
    check_position(&journal, 10, 15);
    // A fragment that does not continue anything is refused.
    assert!(matches!(journal.append(&transaction(20, 3)[2]), Err(Error::OutOfOrder { .. })));
    append(&mut journal, &transaction(20, 3));
    journal.sync().unwrap();
    assert_eq!(read(&fixture, 10, Lsn(20)), transaction(20, 3));
}

#[test]
fn a_new_session_replaces_an_unfinished_transaction() {
    let fixture = fixture();
    let mut journal = fixture.open(1 << 20);
    // In memory only, written, and written with more in memory.
    for (round, written) in [false, true, true].into_iter().enumerate() {
        let lsn = 100 * (round as u64 + 1);
        append(&mut journal, &transaction(lsn, 1));
        append(&mut journal, &transaction(lsn + 10, 9)[..4]);
        if written {
            journal.sync().unwrap();
        }
        if round == 2 {
            append(&mut journal, &transaction(lsn + 10, 9)[4..6]);
            journal.discard_unfinished();
            assert_eq!(journal.pending_bytes(), 0);
        }
        append(&mut journal, &transaction(lsn + 10, 2));
        journal.sync().unwrap();
    }
    check_position(&journal, 310, 315);
    let expected: Vec<_> = [100, 200, 300]
        .iter()
        .flat_map(|&lsn| [transaction(lsn, 1), transaction(lsn + 10, 2)])
        .collect();
    assert_eq!(read(&fixture, 0, Lsn(310)), expected.concat());
    drop(journal);
    check_position(&fixture.open(1 << 20), 310, 315);
}

#[test]
fn a_mark_moves_only_what_is_confirmed_and_not_inside_a_transaction() {
    let fixture = fixture();
    let mut journal = fixture.open(1 << 20);
    journal.mark(Lsn(50));
    check_position(&journal, 0, 0);
    journal.sync().unwrap();
    check_position(&journal, 0, 50);
    assert_eq!(journal.first_lsn(), None);
    journal.mark(Lsn(40));
    assert_eq!(journal.pending_bytes(), 0);
    append(&mut journal, &transaction(60, 2)[..1]);
    journal.mark(Lsn(70));
    append(&mut journal, &transaction(60, 2)[1..]);
    journal.sync().unwrap();
    check_position(&journal, 60, 65);
    journal.mark(Lsn(80));
    journal.sync().unwrap();
    drop(journal);
    let mut journal = fixture.open(1 << 20);
    check_position(&journal, 60, 80);
    // A commit below a mark is still new: marks do not take part in I-2.
    append(&mut journal, &transaction(79, 1));
    journal.sync().unwrap();
    check_position(&journal, 79, 84);
    assert_eq!(read(&fixture, 0, Lsn(79)), [transaction(60, 2), transaction(79, 1)].concat());
}

#[test]
fn files_rotate_between_transactions_and_are_removed_when_done_with() {
    let fixture = fixture();
    let mut journal = fixture.open(1);
    for lsn in 1..=5 {
        append(&mut journal, &transaction(10 * lsn, 3)[..2]);
        journal.sync().unwrap();
        append(&mut journal, &transaction(10 * lsn, 3)[2..]);
        journal.sync().unwrap();
    }
    assert_eq!(fixture.segments().len(), 5);
    let all: Vec<_> = (1..=5).flat_map(|lsn| transaction(10 * lsn, 3)).collect();
    assert_eq!(read(&fixture, 0, Lsn(50)), all);
    assert_eq!(read(&fixture, 35, Lsn(50)), all[9..]);

    assert_eq!(journal.remove_before(Lsn(9)).unwrap(), 0);
    assert_eq!(journal.remove_before(Lsn(29)).unwrap(), 2);
    assert_eq!(journal.first_lsn(), Some(Lsn(21)));
    assert_eq!(read(&fixture, 20, Lsn(50)), all[6..]);
    let error = JournalReader::open(&fixture.directory, Lsn(19)).unwrap_err();
    assert!(matches!(error, Error::Removed { after: Lsn(19), oldest: Lsn(20) }), "{error}");
    drop(journal);

    let mut journal = fixture.open(1);
    assert_eq!(journal.first_lsn(), Some(Lsn(21)));
    assert_eq!(journal.remove_before(Lsn::MAX).unwrap(), 2);
    check_position(&journal, 50, 55);
    let on_disk: u64 =
        fixture.segments().iter().map(|path| fs::metadata(path).unwrap().len()).sum();
    assert_eq!(journal.byte_count(), on_disk);
    drop(journal);
    check_position(&fixture.open(1), 50, 55);
}

#[test]
fn a_reset_begins_again_and_takes_a_commit_at_its_start() {
    let fixture = fixture();
    let mut journal = fixture.open(1);
    for lsn in [1000, 2000] {
        append(&mut journal, &transaction(lsn, 1));
        journal.sync().unwrap();
    }
    journal.reset(Lsn(500)).unwrap();
    check_position(&journal, 499, 500);
    assert_eq!(fixture.segments().len(), 1);
    drop(journal);
    let mut journal = fixture.open(1);
    check_position(&journal, 499, 500);
    append(&mut journal, &transaction(500, 1));
    journal.sync().unwrap();
    assert_eq!(read(&fixture, 499, Lsn(500)), transaction(500, 1));
}

#[test]
fn a_reader_follows_the_writer_from_file_to_file() {
    let fixture = fixture();
    let mut journal = fixture.open(400);
    let mut reader = JournalReader::open(&fixture.directory, Lsn(0)).unwrap();
    assert_eq!(reader.next(Lsn(0)).unwrap(), None);
    assert_eq!(reader.next(Lsn(9)).unwrap(), None, "nothing is there yet");
    for lsn in (10..600).step_by(10) {
        append(&mut journal, &transaction(lsn, 1 + lsn / 10 % 3));
        if lsn % 20 == 0 {
            journal.mark(Lsn(lsn + 7));
        }
        assert_eq!(reader.next(journal.position().commit_lsn).unwrap(), None);
        let durable = journal.sync().unwrap().commit_lsn;
        assert_eq!(drain(&mut reader, durable), transaction(lsn, 1 + lsn / 10 % 3));
        assert_eq!(reader.position(), durable);
    }
    assert!(fixture.segments().len() > 5);
}

#[test]
fn a_reader_is_not_misled_by_what_is_not_durable() {
    let fixture = fixture();
    let mut journal = fixture.open(1 << 20);
    append(&mut journal, &transaction(10, 1));
    journal.mark(Lsn(16));
    append(&mut journal, &transaction(20, 9)[..8]);
    let durable = journal.sync().unwrap().commit_lsn;
    let mut reader = JournalReader::open(&fixture.directory, Lsn(0)).unwrap();
    // It has read the unfinished transaction, too, which then is replaced.
    assert_eq!(drain(&mut reader, durable), transaction(10, 1));
    journal.discard_unfinished();
    append(&mut journal, &transaction(15, 1));
    append(&mut journal, &transaction(20, 1));
    let durable = journal.sync().unwrap().commit_lsn;
    assert_eq!(drain(&mut reader, durable), [transaction(15, 1), transaction(20, 1)].concat());
}

#[test]
fn a_reader_stops_at_what_it_is_told() {
    let fixture = fixture();
    let mut journal = fixture.open(1);
    for lsn in [10, 20, 30] {
        append(&mut journal, &transaction(lsn, 2));
        journal.sync().unwrap();
    }
    let mut reader = JournalReader::open(&fixture.directory, Lsn(0)).unwrap();
    assert_eq!(drain(&mut reader, Lsn(19)), transaction(10, 2));
    assert_eq!(drain(&mut reader, Lsn(20)), transaction(20, 2));
    assert_eq!(reader.next(Lsn(30)).unwrap(), Some(transaction(30, 2)[0].clone()));
    assert_eq!(reader.next(Lsn(30)).unwrap(), Some(transaction(30, 2)[1].clone()));
    assert_eq!(reader.next(Lsn(99)).unwrap(), None);
}

#[test]
fn relations_are_written_once_per_transaction_and_shared_when_read() {
    let fixture = fixture();
    let mut journal = fixture.open(1 << 20);
    let mut fragments = transaction(10, 3);
    let other = relation(8);
    let extra = fragments[1].changes[0].clone();
    fragments[1].changes.push(Change { relation: other, op_index: 3, ..extra });
    append(&mut journal, &fragments);
    append(&mut journal, &transaction(20, 1));
    journal.sync().unwrap();
    let found = read(&fixture, 0, Lsn(20));
    assert_eq!(found[..3], fragments);
    let shared = &found[0].changes[0].relation;
    assert!(found[1..].iter().all(|part| Arc::ptr_eq(&part.changes[0].relation, shared)));
    let bytes = fs::read(&fixture.segments()[0]).unwrap();
    let count = |name: &[u8]| bytes.windows(name.len()).filter(|window| window == &name).count();
    assert_eq!((count(b"t7"), count(b"t8")), (2, 1));
}

/// Opens the journal on one file with these bytes and reads what it gives.
fn recovered(bytes: &[u8]) -> Option<Vec<Fragment>> {
    let fixture = fixture();
    let path = segment::path(&fixture.directory.journal_path(), Lsn(10));
    fs::write(&path, bytes).unwrap();
    let journal = Journal::open(&fixture.directory, Limits { segment_bytes: 1 << 20 }).ok()?;
    let durable = journal.position().commit_lsn;
    let found = read(&fixture, 0, durable);
    Some(found)
}

fn three_transactions() -> (Vec<u8>, Vec<Fragment>) {
    let fixture = fixture();
    let mut journal = fixture.open(1 << 20);
    append(&mut journal, &transaction(10, 1));
    append(&mut journal, &transaction(20, 2));
    journal.mark(Lsn(27));
    append(&mut journal, &transaction(30, 1));
    journal.sync().unwrap();
    let all = [transaction(10, 1), transaction(20, 2), transaction(30, 1)].concat();
    (fs::read(&fixture.segments()[0]).unwrap(), all)
}

#[test]
fn a_file_cut_anywhere_gives_a_prefix_of_whole_transactions() {
    let (bytes, all) = three_transactions();
    assert_eq!(recovered(&bytes), Some(all.clone()));
    let mut counts = Vec::new();
    for cut in 0..bytes.len() {
        let found = recovered(&bytes[..cut]).unwrap();
        assert!([0, 1, 3].contains(&found.len()), "cut at {cut}");
        assert_eq!(found, all[..found.len()], "cut at {cut}");
        counts.push(found.len());
    }
    assert!(counts.is_sorted() && counts.contains(&3));
}

#[test]
fn a_flipped_bit_in_any_byte_is_noticed() {
    let (bytes, all) = three_transactions();
    for index in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[index] ^= 1 << (index % 8);
        if let Some(found) = recovered(&flipped) {
            assert!(found.len() < all.len(), "byte {index}");
            assert_eq!(found, all[..found.len()], "byte {index}");
        }
    }
}

#[test]
fn a_file_whose_creation_was_interrupted_is_set_aside() {
    let fixture = fixture();
    let mut journal = fixture.open(1);
    append(&mut journal, &transaction(10, 1));
    journal.sync().unwrap();
    drop(journal);
    let path = segment::path(&fixture.directory.journal_path(), Lsn(20));
    fs::write(&path, [0; 100]).unwrap();
    let mut journal = fixture.open(1);
    check_position(&journal, 10, 15);
    append(&mut journal, &transaction(20, 1));
    journal.sync().unwrap();
    assert_eq!(read(&fixture, 0, Lsn(20)), [transaction(10, 1), transaction(20, 1)].concat());
    assert!(path.with_extension("unborn").exists());
}

#[test]
fn damage_in_an_older_file_is_an_error_and_not_a_hole() {
    let fixture = fixture();
    let mut journal = fixture.open(1);
    for lsn in [10, 20, 30] {
        append(&mut journal, &transaction(lsn, 2));
        journal.sync().unwrap();
    }
    let path = &fixture.segments()[1];
    let mut bytes = fs::read(path).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(path, bytes).unwrap();
    let mut reader = JournalReader::open(&fixture.directory, Lsn(0)).unwrap();
    let mut next = || reader.next(Lsn(30));
    for _ in 0..3 {
        next().unwrap().unwrap();
    }
    assert!(next().is_err());
}

fn faulty() -> (Fixture, Faults) {
    let dir = tempfile::tempdir().unwrap();
    let faults = Faults::default();
    let directory = Directory::open_on(dir.path(), Arc::new(faults.clone())).unwrap();
    (Fixture { dir, directory }, faults)
}

#[test]
fn a_failed_write_is_repeated_in_the_same_file() {
    let (fixture, faults) = faulty();
    let mut journal = fixture.open(1 << 20);
    append(&mut journal, &transaction(10, 1));
    journal.sync().unwrap();
    append(&mut journal, &transaction(20, 2)[..1]);
    journal.sync().unwrap();
    append(&mut journal, &transaction(20, 2)[1..]);
    for _ in 0..3 {
        faults.fail_writes(1);
        assert!(journal.sync().unwrap_err().is_no_space());
        check_position(&journal, 10, 15);
    }
    append(&mut journal, &transaction(30, 1));
    journal.sync().unwrap();
    let all = [transaction(10, 1), transaction(20, 2), transaction(30, 1)].concat();
    assert_eq!(read(&fixture, 0, Lsn(30)), all);
    assert_eq!(fixture.segments().len(), 1);
    drop(journal);
    check_position(&fixture.open(1 << 20), 30, 35);
}

#[test]
fn a_file_whose_fsync_failed_is_not_trusted_again() {
    let (fixture, faults) = faulty();
    let mut journal = fixture.open(1 << 20);
    append(&mut journal, &transaction(10, 1));
    journal.sync().unwrap();
    append(&mut journal, &transaction(20, 2));
    faults.fail_syncs(1);
    journal.sync().unwrap_err();
    check_position(&journal, 10, 15);
    // The first file is cut to what is known to be durable; the rest is in a new one.
    journal.sync().unwrap();
    check_position(&journal, 20, 25);
    assert_eq!(fixture.segments().len(), 2);
    assert_eq!(read(&fixture, 0, Lsn(20)), [transaction(10, 1), transaction(20, 2)].concat());
    drop(journal);
    check_position(&fixture.open(1 << 20), 20, 25);
}

#[test]
fn a_failed_fsync_inside_a_transaction_asks_for_a_new_session() {
    let (fixture, faults) = faulty();
    let mut journal = fixture.open(1 << 20);
    append(&mut journal, &transaction(10, 1));
    append(&mut journal, &transaction(20, 3)[..1]);
    journal.sync().unwrap();
    append(&mut journal, &transaction(20, 3)[1..2]);
    faults.fail_syncs(1);
    journal.sync().unwrap_err();
    assert!(matches!(journal.sync(), Err(Error::OutOfOrder { found: Lsn(20) })));
    for fragment in [&transaction(20, 3)[2], &transaction(30, 1)[0]] {
        assert!(matches!(journal.append(fragment), Err(Error::OutOfOrder { .. })));
    }
    journal.discard_unfinished();
    append(&mut journal, &[transaction(20, 3), transaction(30, 1)].concat());
    journal.sync().unwrap();
    let all = [transaction(10, 1), transaction(20, 3), transaction(30, 1)].concat();
    assert_eq!(read(&fixture, 0, Lsn(30)), all);
}

#[test]
fn a_journal_opened_again_after_a_failed_fsync_is_on_disk_what_it_says() {
    use std::os::unix::fs::MetadataExt;

    let (fixture, faults) = faulty();
    let mut journal = fixture.open(1 << 20);
    append(&mut journal, &transaction(10, 1));
    journal.sync().unwrap();
    append(&mut journal, &transaction(20, 1));
    faults.fail_syncs(1);
    journal.sync().unwrap_err();
    drop(journal);
    let inode = || fs::metadata(&fixture.segments()[0]).unwrap().ino();
    let suspect = inode();
    let journal = fixture.open(1 << 20);
    check_position(&journal, 20, 25);
    assert_ne!(inode(), suspect, "its content was synced in another file");
    assert_eq!(read(&fixture, 0, Lsn(20)), [transaction(10, 1), transaction(20, 1)].concat());
}

#[test]
fn a_fragment_that_is_there_twice_is_noticed() {
    let fixture = fixture();
    let mut journal = fixture.open(1 << 20);
    append(&mut journal, &transaction(10, 3));
    journal.sync().unwrap();
    drop(journal);
    let path = &fixture.segments()[0];
    let bytes = fs::read(path).unwrap();
    let records = record::Records::new(bytes.clone().into(), 64);
    let second = records.into_iter().nth(1).unwrap();
    let (start, end) = (second.pos as usize, second.end_pos() as usize);
    fs::write(path, [&bytes[..end], &bytes[start..]].concat()).unwrap();
    let journal = fixture.open(1 << 20);
    let mut reader = JournalReader::open(&fixture.directory, Lsn(0)).unwrap();
    let mut next = || reader.next(journal.position().commit_lsn);
    assert_eq!(next().unwrap(), Some(transaction(10, 3)[0].clone()));
    assert_eq!(next().unwrap(), Some(transaction(10, 3)[1].clone()));
    assert!(matches!(next(), Err(Error::Damaged { .. })));
}

#[test]
fn a_reader_does_not_mind_gaps_between_files_it_is_past() {
    let fixture = fixture();
    let mut journal = fixture.open(1);
    for lsn in [10, 20, 30] {
        append(&mut journal, &transaction(lsn, 1));
        journal.sync().unwrap();
    }
    // A power cut has undone the removal of the first file, not of the second.
    fs::remove_file(&fixture.segments()[1]).unwrap();
    fs::rename(
        segment::path(&fixture.directory.journal_path(), Lsn(21)),
        segment::path(&fixture.directory.journal_path(), Lsn(22)),
    )
    .unwrap();
    let mut reader = JournalReader::open(&fixture.directory, Lsn(21)).unwrap();
    assert_eq!(drain(&mut reader, Lsn(30)), transaction(30, 1));
    let mut reader = JournalReader::open(&fixture.directory, Lsn(10)).unwrap();
    assert!(matches!(reader.next(Lsn(30)), Err(Error::Removed { .. })));
}

#[derive(Clone, Debug)]
enum Event {
    Append { parts: u64, sent: u64 },
    Mark,
    Sync,
    FailWrite,
    FailSync,
    NewSession,
    Reopen,
    Kill { lost: prop::sample::Index },
    Remove,
    Read,
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (1u64..5, 1u64..5).prop_map(|(parts, sent)| Event::Append { parts, sent }),
        1 => Just(Event::Mark),
        6 => Just(Event::Sync),
        1 => Just(Event::FailWrite),
        1 => Just(Event::FailSync),
        1 => Just(Event::NewSession),
        1 => Just(Event::Reopen),
        1 => any::<prop::sample::Index>().prop_map(|lost| Event::Kill { lost }),
        1 => Just(Event::Remove),
        3 => Just(Event::Read),
    ]
}

/// A Postgres that sends everything above the position again after each
/// failure, and a reader that must see every transaction once.
struct Run {
    fixture: Fixture,
    faults: Faults,
    journal: Journal,
    segment_bytes: u64,
    reader: JournalReader,
    seen: Vec<Fragment>,
    /// Parts of each transaction; the n-th has commit LSN 8 (n + 1).
    part_counts: Vec<u64>,
    /// Transactions appended whole, and fragments of the next one.
    whole: usize,
    sent: u64,
}

impl Run {
    fn new(segment_bytes: u64) -> Self {
        let (fixture, faults) = faulty();
        let journal = fixture.open(segment_bytes);
        let reader = JournalReader::open(&fixture.directory, Lsn::ZERO).unwrap();
        let (seen, part_counts) = (Vec::new(), Vec::new());
        Self {
            fixture,
            faults,
            journal,
            segment_bytes,
            reader,
            seen,
            part_counts,
            whole: 0,
            sent: 0,
        }
    }

    fn new_session(&mut self) {
        self.journal.discard_unfinished();
        let position = self.journal.position();
        // Postgres may know less than we have: then it is a duplicate.
        self.whole = (position.commit_lsn.0 / 8).saturating_sub(1) as usize;
        self.sent = 0;
    }

    fn apply(&mut self, event: &Event) {
        match event {
            Event::Append { parts, sent } => self.append(*parts, *sent),
            Event::Mark => {
                let ack_lsn = 8 * self.whole as u64 + 6;
                self.journal.mark(Lsn(ack_lsn));
            }
            Event::Sync => self.sync(),
            Event::FailWrite => self.faults.fail_writes(1),
            Event::FailSync => self.faults.fail_syncs(1),
            Event::NewSession => self.new_session(),
            Event::Reopen => self.reopen(),
            Event::Kill { lost } => self.kill(lost),
            Event::Remove => {
                self.faults.heal();
                self.journal.remove_before(self.reader.position()).unwrap();
            }
            Event::Read => self.read(),
        }
    }

    fn append(&mut self, parts: u64, sent: u64) {
        if self.whole == self.part_counts.len() {
            self.part_counts.push(parts);
        }
        let parts = self.part_counts[self.whole];
        let fragments = transaction(8 * (self.whole as u64 + 1), parts);
        for fragment in fragments.iter().skip(self.sent as usize).take(sent as usize) {
            if self.journal.append(fragment).is_err() {
                return self.new_session();
            }
            self.sent += 1;
        }
        if self.sent == parts {
            (self.whole, self.sent) = (self.whole + 1, 0);
        }
    }

    fn sync(&mut self) {
        let before = self.journal.position();
        match self.journal.sync() {
            Ok(position) => assert!(position.commit_lsn >= before.commit_lsn),
            Err(Error::OutOfOrder { .. }) => self.new_session(),
            Err(_) => assert_eq!(self.journal.position(), before),
        }
    }

    fn reopen(&mut self) {
        self.faults.heal();
        let before = self.journal.position();
        self.journal = self.fixture.open(self.segment_bytes);
        let position = self.journal.position();
        assert!(position.commit_lsn >= before.commit_lsn && position.ack_lsn >= before.ack_lsn);
        self.new_session();
    }

    /// Loses some of what was written to the last file since it was synced.
    fn kill(&mut self, lost: &prop::sample::Index) {
        let durable_bytes = self.journal.current.as_ref().map(|current| {
            let path = segment::path(&self.journal.path, current.name);
            (path, current.byte_count)
        });
        if let Some((path, durable_bytes)) = durable_bytes {
            let file = fs::OpenOptions::new().write(true).open(path).unwrap();
            let written_bytes = file.metadata().unwrap().len();
            if written_bytes > durable_bytes {
                let lost = lost.index((written_bytes - durable_bytes) as usize + 1) as u64;
                file.set_len(written_bytes - lost).unwrap();
            }
        }
        self.reopen();
    }

    fn read(&mut self) {
        let durable = self.journal.position().commit_lsn;
        self.seen.extend(drain(&mut self.reader, durable));
        assert_eq!(self.reader.position(), durable);
        let count = (durable.0 / 8) as usize;
        let sent = self.part_counts[..count].iter().zip(1..);
        let expected: Vec<_> = sent.flat_map(|(&parts, n)| transaction(8 * n, parts)).collect();
        assert_eq!(self.seen, expected);
    }
}

fn any_row() -> impl Strategy<Value = Row> {
    let cell = prop_oneof![
        Just(None),
        Just(Some(None)),
        ("[a-zé ]{0,12}", 0usize..3).prop_map(|(text, gap)| Some(Some((text, gap)))),
    ];
    prop::collection::vec(cell, 0..6).prop_map(|values| {
        let mut text = Vec::new();
        let cells = values.into_iter().map(|value| match value {
            None => Cell::Null,
            Some(None) => Cell::Unchanged,
            Some(Some((value, gap))) => {
                text.extend(std::iter::repeat_n(b'#', gap));
                let start = text.len() as u32;
                text.extend_from_slice(value.as_bytes());
                Cell::Text { start, end: text.len() as u32 }
            }
        });
        let cells = cells.collect();
        Row::new(text.into(), cells)
    })
}

fn any_operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        any_row().prop_map(|new| Operation::Insert { new }),
        (prop::option::of(any_row()), any_row())
            .prop_map(|(old, new)| Operation::Update { old, new }),
        any_row().prop_map(|old| Operation::Delete { old }),
        Just(Operation::Truncate),
    ]
}

fn any_fragment() -> impl Strategy<Value = Fragment> {
    let relations: Vec<_> = (0..3).map(relation).collect();
    let change =
        (0usize..3, any::<u64>(), any_operation()).prop_map(move |(index, op_index, operation)| {
            Change { relation: Arc::clone(&relations[index]), op_index, operation }
        });
    let commit = any::<(u64, i64)>()
        .prop_map(|(end_lsn, time_us)| Commit { end_lsn: Lsn(end_lsn), time_us });
    (any::<(u64, u32, usize)>(), prop::collection::vec(change, 0..6), prop::option::of(commit))
        .prop_map(|((commit_lsn, xid, byte_count), changes, commit)| Fragment {
            commit_lsn: Lsn(commit_lsn),
            xid,
            changes,
            commit,
            first: true,
            byte_count,
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(80))]

    #[test]
    fn a_reader_sees_every_transaction_once_whatever_happens_to_the_writer(
        events in prop::collection::vec(any_event(), 1..60),
        segment_bytes in prop_oneof![Just(1u64), 200u64..2000],
    ) {
        let mut run = Run::new(segment_bytes);
        for event in &events {
            run.apply(event);
        }
        run.reopen();
        run.read();
        // Everything arrives once the faults are over.
        while run.whole < run.part_counts.len() {
            run.append(1, u64::MAX);
        }
        run.journal.sync().unwrap();
        run.read();
        prop_assert_eq!(run.journal.position().commit_lsn, Lsn(8 * run.part_counts.len() as u64));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn fragments_round_trip(fragments in prop::collection::vec(any_fragment(), 1..4)) {
        let (mut encoder, mut decoder) =
            (encoding::Encoder::default(), encoding::Decoder::default());
        for fragment in fragments {
            let mut out = Vec::new();
            encoder.begin();
            encoder.encode(&fragment, &mut out);
            prop_assert_eq!(decoder.decode(out.into()), Ok(fragment));
        }
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(
        fragment in any_fragment(),
        noise in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in any::<prop::sample::Index>(),
        bytes in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let mut out = Vec::new();
        encoding::Encoder::default().encode(&fragment, &mut out);
        for (index, byte) in noise {
            let at = index.index(out.len());
            out[at] = byte;
        }
        out.truncate(cut.index(out.len()) + 1);
        let _ = encoding::Decoder::default().decode(Bytes::from(out));
        let _ = encoding::Decoder::default().decode(bytes.into());
    }
}

use std::fs;
use std::path::PathBuf;

use bytes::Bytes;
use proptest::prelude::*;
use shape::{EntryEnd, RequestOffset};

use super::*;
use crate::SnapshotWriter;
use crate::file::tests::Faults;

struct Fixture {
    _dir: tempfile::TempDir,
    directory: Directory,
    handle: Handle,
}

fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let directory = Directory::open(dir.path()).unwrap();
    Fixture { _dir: dir, directory, handle: "1-1".parse().unwrap() }
}

impl Fixture {
    fn create(&self, chunk_bytes_max: usize) -> Log {
        Log::create(&self.directory, &self.handle, chunk_bytes_max).unwrap()
    }

    fn open(&self) -> Log {
        // What it was created with counts, not this.
        Log::open(&self.directory, &self.handle, 1).unwrap()
    }

    fn path(&self, index: u32) -> PathBuf {
        chunk::path(&self.directory.shape_path(&self.handle), index)
    }

    fn file_count(&self) -> u32 {
        (0..).take_while(|&index| self.path(index).exists()).count() as u32
    }

    fn snapshot(&self, rows: &[&str], chunk_bytes_max: usize) -> Snapshot {
        let mut writer =
            SnapshotWriter::create(&self.directory, &self.handle, chunk_bytes_max).unwrap();
        rows.iter().for_each(|row| writer.row(row.as_bytes()).unwrap());
        writer.finish(&"1:2:".parse().unwrap(), b"{end}").unwrap()
    }
}

pub(crate) fn batch(entries: &[(u64, u64, &str)]) -> Batch {
    let mut batch = Batch::default();
    for &(tx, op, json) in entries {
        if !batch.entries.is_empty() {
            batch.json.push(b',');
        }
        batch.json.extend_from_slice(json.as_bytes());
        let end = batch.json.len() as u32;
        batch.entries.push(EntryEnd { offset: Offset::new(tx, op), end });
    }
    batch
}

fn put(log: &mut Log, tx: u64, entries: &[(u64, &str)]) {
    let entries: Vec<_> = entries.iter().map(|&(op, json)| (tx, op, json)).collect();
    assert_eq!(log.append(&batch(&entries)).unwrap(), Appended::Kept);
    assert_eq!(log.commit(Lsn(tx)), Appended::Kept);
}

fn at(text: &str) -> RequestOffset {
    text.parse().unwrap()
}

/// `flags`: `e` at the end of the log, `c` in a closed chunk.
#[track_caller]
fn check(log: &Log, after: &str, body: &str, end: &str, flags: &str) {
    let slice = log.reader().read(at(after)).unwrap();
    let found = String::from_utf8(slice.body.concat()).unwrap();
    assert_eq!((found.as_str(), slice.end.to_string().as_str()), (body, end), "after {after}");
    assert_eq!(
        (slice.at_end, slice.closed),
        (flags.contains('e'), flags.contains('c')),
        "after {after}"
    );
}

#[test]
fn the_slices_of_the_protocol() {
    let fixture = fixture();
    let mut log = fixture.create(10);
    log.snapshot_complete(fixture.snapshot(&["{1}", "{2}", "{3}"], 8));
    check(&log, "-1", "{1},{2}", "0_0", "c");
    check(&log, "0_0", "{3},{end}", "0_1", "c");
    for last in ["0_1", "0_7", "0_inf"] {
        check(&log, last, "", "0_inf", "e");
    }
    check(&log, "now", "", "0_inf", "e");
    put(&mut log, 5, &[(0, "{aa}"), (2, "{bb}")]);
    check(&log, "0_1", "{aa},{bb}", "5_2", "e");
    check(&log, "5_0", "{bb}", "5_2", "e");
    // Not only at entries' offsets, as for one that only other shapes have.
    check(&log, "5_1", "{bb}", "5_2", "e");
    check(&log, "4_8", "{aa},{bb}", "5_2", "e");
    // 4 + 4 + 4 ≥ 10: the entry that crosses ends the chunk.
    put(&mut log, 9, &[(4, "{cc}"), (6, "{dd}")]);
    for written in [false, true] {
        if written {
            log.write().unwrap();
            log.release_memory();
        }
        check(&log, "0_inf", "{aa},{bb},{cc}", "9_4", "c");
        check(&log, "5_0", "{bb},{cc}", "9_4", "c");
        check(&log, "5_2", "{cc}", "9_4", "c");
        check(&log, "9_4", "{dd}", "9_6", "e");
        check(&log, "9_6", "", "9_6", "e");
        check(&log, "now", "", "9_6", "e");
    }
    let beyond = log.reader().read(at("9_7")).unwrap_err();
    assert!(matches!(beyond, ReadError::OutOfBounds));
}

#[test]
fn a_chunk_that_ends_where_the_log_ends_is_closed() {
    let fixture = fixture();
    let mut log = fixture.create(8);
    put(&mut log, 5, &[(0, "{aa}"), (2, "{bb}")]);
    check(&log, "0_inf", "{aa},{bb}", "5_2", "ec");
    check(&log, "5_2", "", "5_2", "e");
    log.sync().unwrap();
    drop(log);
    let mut log = fixture.open();
    check(&log, "0_inf", "{aa},{bb}", "5_2", "ec");
    put(&mut log, 6, &[(0, "{c}")]);
    check(&log, "0_inf", "{aa},{bb}", "5_2", "c");
    check(&log, "5_2", "{c}", "6_0", "e");
}

#[test]
fn nothing_of_a_snapshot_is_shown_before_it_is_complete() {
    let fixture = fixture();
    let mut log = fixture.create(100);
    let reader = log.reader();
    for after in ["-1", "0_0"] {
        assert!(matches!(reader.read(at(after)), Err(ReadError::OutOfBounds)));
    }
    assert_eq!((reader.snapshot_chunks(), reader.visibility()), (0, None));
    log.snapshot_complete(fixture.snapshot(&[], 100));
    check(&log, "-1", "{end}", "0_0", "c");
    assert_eq!(reader.snapshot_chunks(), 1);
    assert_eq!(reader.visibility(), Some("1:2:".parse().unwrap()));
    drop(log);
    check(&fixture.open(), "-1", "{end}", "0_0", "c");
}

#[test]
fn entries_are_invisible_before_their_commit() {
    let fixture = fixture();
    let mut log = fixture.create(6);
    put(&mut log, 5, &[(0, "{a}")]);
    log.append(&batch(&[(6, 0, "{b}"), (6, 2, "{c}")])).unwrap();
    check(&log, "0_inf", "{a}", "5_0", "e");
    log.append(&batch(&[(6, 4, "{d}")])).unwrap();
    log.rollback().unwrap();
    put(&mut log, 6, &[(0, "{b}")]);
    check(&log, "0_inf", "{a},{b}", "6_0", "ec");
    log.write().unwrap();
    log.append(&batch(&[(7, 0, "{c}")])).unwrap();
    log.write().unwrap();
    drop(log);
    let log = fixture.open();
    assert_eq!((log.position(), log.end()), (Lsn(6), Offset::new(6, 0)));
}

#[test]
fn what_the_log_has_is_left_out() {
    let fixture = fixture();
    let mut log = fixture.create(100);
    put(&mut log, 5, &[(0, "{a}"), (2, "{b}")]);
    for _ in 0..2 {
        let repeated = batch(&[(4, 0, "{z}"), (5, 0, "{a}"), (5, 2, "{b}")]);
        assert_eq!(log.append(&repeated).unwrap(), Appended::Duplicate);
        assert_eq!(log.commit(Lsn(5)), Appended::Duplicate);
        log.sync().unwrap();
        log = fixture.open();
    }
    // A batch may begin with what is there.
    log.append(&batch(&[(5, 2, "{b}"), (6, 0, "{c}"), (6, 2, "{d}")])).unwrap();
    assert_eq!(log.append(&batch(&[(6, 2, "{d}")])).unwrap(), Appended::Duplicate);
    log.commit(Lsn(6));
    check(&log, "0_inf", "{a},{b},{c},{d}", "6_2", "e");
    let disordered = batch(&[(8, 0, "{x}"), (7, 0, "{y}")]);
    assert!(matches!(log.append(&disordered), Err(Error::OutOfOrder { .. })));
}

#[test]
fn a_transaction_without_entries_moves_the_position_durably() {
    let fixture = fixture();
    let mut log = fixture.create(3);
    assert_eq!(log.sync().unwrap(), Lsn::ZERO);
    assert_eq!(fixture.file_count(), 0, "an untouched log has no file");
    log.commit(Lsn(7));
    assert_eq!(log.sync().unwrap(), Lsn(7));
    put(&mut log, 8, &[(0, "{a}")]);
    log.commit(Lsn(9));
    assert_eq!((log.sync().unwrap(), log.end()), (Lsn(9), Offset::new(8, 0)));
    drop(log);
    let mut log = fixture.open();
    assert_eq!((log.position(), log.end()), (Lsn(9), Offset::new(8, 0)));
    assert_eq!(log.sync().unwrap(), Lsn(9));
}

#[test]
fn readers_of_one_commit_share_its_bytes() {
    let fixture = fixture();
    let mut log = fixture.create(1 << 20);
    put(&mut log, 5, &[(0, "{a}")]);
    put(&mut log, 6, &[(0, "{b}")]);
    log.write().unwrap();
    let reader = log.reader();
    let bodies: Vec<Bytes> =
        (0..1000).map(|_| reader.read(at("5_0")).unwrap().body[0].clone()).collect();
    assert!(bodies.iter().all(|body| body.as_ptr() == bodies[0].as_ptr()));
}

#[test]
fn memory_is_bounded_and_what_is_not_written_stays() {
    let fixture = fixture();
    let mut log = fixture.create(1 << 20);
    log.set_memory_bytes_max(10_000);
    let json = format!("{{{}}}", "x".repeat(500));
    for tx in 1..=400 {
        put(&mut log, tx, &[(0, &json)]);
    }
    assert!(log.unwritten_bytes() >= 400 * 500);
    log.write().unwrap();
    assert_eq!(log.unwritten_bytes(), 0);
    assert!(log.memory_bytes() < 10_000 + 2 * 32 * 1024, "{}", log.memory_bytes());
    let slice = log.reader().read(at("0_inf")).unwrap();
    assert_eq!(slice.byte_count(), 400 * 503 - 1);
    log.release_memory();
    assert_eq!(log.memory_bytes(), 0);
    assert_eq!(log.reader().read(at("0_inf")).unwrap().body.concat(), slice.body.concat());
    // An open transaction does not stay in memory as a whole, either.
    for op in 0..400 {
        log.append(&batch(&[(500, op, &json)])).unwrap();
        log.write().unwrap();
        assert!(log.memory_bytes() < 11_000);
    }
    assert_eq!(log.reader().end(), Offset::new(400, 0));
    log.commit(Lsn(500));
    let slice = log.reader().read(at("400_0")).unwrap();
    assert_eq!((slice.byte_count(), slice.end), (400 * 503 - 1, Offset::new(500, 399)));
}

#[test]
fn a_view_taken_before_goes_on_giving_the_same() {
    let fixture = fixture();
    let mut log = fixture.create(1 << 20);
    log.set_memory_bytes_max(0);
    put(&mut log, 1, &[(0, "{a}")]);
    let view = log.shared.view.load_full();
    for tx in 2..200 {
        put(&mut log, tx, &[(0, "{b}")]);
        log.write().unwrap();
    }
    let mut out = Vec::new();
    view.tail.collect(Offset::SNAPSHOT_END, view.end, &mut out);
    assert_eq!(out, ["{a},"]);
}

#[test]
fn a_removed_shape_is_gone_for_its_readers() {
    let fixture = fixture();
    let mut log = fixture.create(1 << 20);
    log.snapshot_complete(fixture.snapshot(&["{1}"], 100));
    put(&mut log, 1, &[(0, "{a}")]);
    log.write().unwrap();
    log.release_memory();
    crate::remove_shape(&fixture.directory, &fixture.handle).unwrap();
    for after in ["-1", "0_inf"] {
        assert!(matches!(log.reader().read(at(after)), Err(ReadError::Gone)));
    }
}

#[test]
fn any_flipped_bit_is_noticed() {
    let fixture = fixture();
    let mut log = fixture.create(1 << 20);
    put(&mut log, 5, &[(0, "{a}"), (2, "{b}")]);
    log.sync().unwrap();
    put(&mut log, 6, &[(0, "{c}")]);
    log.sync().unwrap();
    log.release_memory();
    let reader = log.reader();
    let bytes = fs::read(fixture.path(0)).unwrap();
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        fs::write(fixture.path(0), &flipped).unwrap();
        assert!(matches!(reader.read(at("0_inf")), Err(ReadError::Io(_))), "bit {bit}");
        match Log::open(&fixture.directory, &fixture.handle, 1 << 20) {
            Ok(log) => match log.position() {
                Lsn(5) => check(&log, "0_inf", "{a},{b}", "5_2", "e"),
                position => assert_eq!(position, Lsn::ZERO, "bit {bit}"),
            },
            Err(error) => assert!(matches!(error, Error::Damaged { .. }), "bit {bit}: {error}"),
        }
    }
}

#[test]
fn a_log_on_a_full_disk_shows_nothing_it_could_lose_and_goes_on_later() {
    let faults = Faults::default();
    let dir = tempfile::tempdir().unwrap();
    let directory = Directory::open_on(dir.path(), Arc::new(faults.clone())).unwrap();
    let fixture = Fixture { _dir: dir, directory, handle: "1-1".parse().unwrap() };
    let mut log = fixture.create(12);
    log.set_memory_bytes_max(0);
    put(&mut log, 5, &[(0, "{a}")]);
    faults.fail_writes(1);
    assert!(log.write().unwrap_err().is_no_space());
    check(&log, "0_inf", "{a}", "5_0", "e");
    log.write().unwrap();
    // A part is written, the next part and the commit cannot be.
    log.append(&batch(&[(6, 0, "{b}")])).unwrap();
    log.write().unwrap();
    log.append(&batch(&[(6, 2, "{c}"), (6, 4, "{d}")])).unwrap();
    faults.fail_writes(2);
    assert!(log.write().unwrap_err().is_no_space());
    log.commit(Lsn(6));
    check(&log, "0_inf", "{a}", "5_0", "e");
    put(&mut log, 7, &[(0, "{e}")]);
    log.sync().unwrap();
    for _ in 0..2 {
        check(&log, "0_inf", "{a},{b},{c},{d}", "6_4", "c");
        check(&log, "6_4", "{e}", "7_0", "e");
        log = fixture.open();
    }
}

#[test]
fn a_commit_that_waits_for_its_write_holds_back_the_ones_after_it() {
    let (dir, faults) = (tempfile::tempdir().unwrap(), Faults::default());
    let directory = Directory::open_on(dir.path(), Arc::new(faults.clone())).unwrap();
    let fixture = Fixture { _dir: dir, directory, handle: "1-1".parse().unwrap() };
    let mut log = fixture.create(100);
    log.set_memory_bytes_max(0);
    put(&mut log, 5, &[(0, "{a}")]);
    log.append(&batch(&[(6, 0, "{b}")])).unwrap();
    log.write().unwrap();
    log.append(&batch(&[(6, 2, "{c}")])).unwrap();
    faults.fail_writes(2);
    log.commit(Lsn(6));
    check(&log, "0_inf", "{a}", "5_0", "e");
    // Nor does this one show what the next writer would cut off.
    put(&mut log, 7, &[(0, "{d}")]);
    check(&log, "0_inf", "{a}", "5_0", "e");
    log.write().unwrap();
    check(&log, "0_inf", "{a},{b},{c},{d}", "7_0", "e");
}

#[test]
fn a_log_opened_again_after_a_failed_fsync_is_on_disk_what_it_says() {
    use std::os::unix::fs::MetadataExt;

    let (dir, faults) = (tempfile::tempdir().unwrap(), Faults::default());
    let directory = Directory::open_on(dir.path(), Arc::new(faults.clone())).unwrap();
    let fixture = Fixture { _dir: dir, directory, handle: "1-1".parse().unwrap() };
    let mut log = fixture.create(100);
    put(&mut log, 5, &[(0, "{a}")]);
    faults.fail_syncs(1);
    log.sync().unwrap_err();
    let suspect = fs::metadata(fixture.path(0)).unwrap().ino();
    let mut log = Log::open_with(&log.reader()).unwrap();
    assert_ne!(fs::metadata(fixture.path(0)).unwrap().ino(), suspect);
    assert_eq!(log.sync().unwrap(), Lsn(5));
    check(&log, "0_inf", "{a}", "5_0", "e");
}

#[test]
fn a_frame_that_is_there_twice_in_a_closed_chunk_is_not_served_twice() {
    let fixture = fixture();
    let mut log = fixture.create(9);
    for tx in 5..9 {
        put(&mut log, tx, &[(0, "{a}")]);
        log.sync().unwrap();
    }
    drop(log);
    let bytes = fs::read(fixture.path(0)).unwrap();
    let record = crate::record::Records::new(bytes.clone().into(), 64).next().unwrap();
    let (start, end) = (record.pos as usize, record.end_pos() as usize);
    fs::write(fixture.path(0), [&bytes[..end], &bytes[start..]].concat()).unwrap();
    let log = fixture.open();
    let found = log.reader().read(at("0_inf"));
    assert!(matches!(found, Err(ReadError::Io(Error::Damaged { .. }))), "{found:?}");
    check(&log, "7_0", "{a}", "8_0", "e");
}

#[derive(Clone, Debug)]
struct Step {
    /// Sizes of the entries of the next transaction, by batch.
    batches: Vec<Vec<usize>>,
    /// The transaction is begun, thrown away and begun again.
    rolled_back: bool,
    written_inside: bool,
    then: Then,
}

#[derive(Clone, Debug)]
enum Then {
    Nothing,
    Write,
    Sync,
    Release,
    /// The writer dies; its readers stay.
    Replace,
    /// The process dies; this much of what was not synced is lost.
    Kill {
        lost: prop::sample::Index,
    },
}

fn any_step() -> impl Strategy<Value = Step> {
    let batches = prop::collection::vec(prop::collection::vec(2usize..30, 0..5), 0..4);
    let then = prop_oneof![
        3 => Just(Then::Nothing),
        3 => Just(Then::Write),
        2 => Just(Then::Sync),
        1 => Just(Then::Release),
        2 => Just(Then::Replace),
        2 => any::<prop::sample::Index>().prop_map(|lost| Then::Kill { lost }),
    ];
    (batches, prop::bool::weighted(0.1), prop::bool::weighted(0.3), then).prop_map(
        |(batches, rolled_back, written_inside, then)| Step {
            batches,
            rolled_back,
            written_inside,
            then,
        },
    )
}

/// What the log must be, from the steps alone.
pub(crate) struct Model {
    transactions: Vec<(u64, Vec<Batch>)>,
    entries: Vec<(Offset, String)>,
    /// Ends of closed chunks.
    closed: Vec<Offset>,
}

impl Model {
    fn new(steps: &[Step], chunk_bytes_max: usize) -> Self {
        let mut model = Self { transactions: Vec::new(), entries: Vec::new(), closed: Vec::new() };
        let mut chunk_bytes = 0;
        for (index, step) in steps.iter().enumerate() {
            let tx = 10 * (index as u64 + 1);
            let mut op = 0;
            let mut batches = Vec::new();
            for sizes in &step.batches {
                let first = model.entries.len();
                for &size in sizes {
                    let offset = Offset::new(tx, op);
                    op += 2;
                    let json = format!("{{{:x<1$}}}", format!("{tx}_{op}"), size.saturating_sub(2));
                    chunk_bytes += json.len();
                    if chunk_bytes >= chunk_bytes_max {
                        model.closed.push(offset);
                        chunk_bytes = 0;
                    }
                    model.entries.push((offset, json));
                }
                let new = model.entries[first..].iter();
                let new: Vec<_> =
                    new.map(|(offset, json)| (offset.tx, offset.op, json.as_str())).collect();
                batches.push(batch(&new));
            }
            model.transactions.push((tx, batches));
        }
        model
    }

    pub(crate) fn of_entries(
        entries: impl Iterator<Item = (Offset, String)>,
        chunk_bytes_max: usize,
    ) -> Self {
        let mut model = Self { transactions: Vec::new(), entries: Vec::new(), closed: Vec::new() };
        let mut chunk_bytes = 0;
        for (offset, json) in entries {
            chunk_bytes += json.len();
            if chunk_bytes >= chunk_bytes_max {
                model.closed.push(offset);
                chunk_bytes = 0;
            }
            model.entries.push((offset, json));
        }
        model
    }

    /// The reader shows the first transactions up to some point, not before
    /// `shown`, and all its slices are as the model says.
    pub(crate) fn check(&self, reader: &LogReader, shown: Offset) {
        let end = reader.end();
        assert!(end >= shown, "what was shown is no longer: {end} < {shown}");
        self.check_damaged(reader, true);
    }

    /// As [`Self::check`], where a slice may be refused.
    pub(crate) fn check_damaged(&self, reader: &LogReader, is_whole: bool) {
        let end = reader.end();
        let committed = self.entries.partition_point(|(offset, _)| *offset <= end);
        let boundary = self.entries.get(committed).map(|(offset, _)| offset.tx);
        assert_ne!(boundary, Some(end.tx), "a transaction is visible in part");
        let offsets = self.entries[..committed].iter().map(|(offset, _)| *offset);
        for after in std::iter::once(Offset::SNAPSHOT_END).chain(offsets) {
            let index = self.closed.partition_point(|closed| *closed <= after);
            let closed = self.closed.get(index).filter(|&&closed| closed <= end);
            let until = closed.copied().unwrap_or(end);
            let expected: Vec<_> = self.entries[..committed]
                .iter()
                .filter(|(offset, _)| *offset > after && *offset <= until)
                .map(|(_, json)| json.as_str())
                .collect();
            let slice = match reader.read(RequestOffset::At(after)) {
                Err(_) if !is_whole => continue,
                slice => slice.unwrap(),
            };
            assert_eq!(String::from_utf8(slice.body.concat()).unwrap(), expected.join(","));
            assert_eq!(slice.end, if after == end { after } else { until });
            assert_eq!(slice.at_end, slice.end == end);
            assert_eq!(slice.closed, closed.is_some() && after != end);
        }
    }
}

/// Applies steps to a log, with a replay after every death.
struct Run {
    fixture: Fixture,
    model: Model,
    chunk_bytes_max: usize,
    memory_bytes_max: usize,
    log: Log,
    reader: LogReader,
    durable: Lsn,
    synced: (u32, u64),
}

impl Run {
    fn new(steps: &[Step], chunk_bytes_max: usize, memory_bytes_max: usize) -> Self {
        let fixture = fixture();
        let mut log = fixture.create(chunk_bytes_max);
        log.set_memory_bytes_max(memory_bytes_max);
        let reader = log.reader();
        Self {
            model: Model::new(steps, chunk_bytes_max),
            fixture,
            chunk_bytes_max,
            memory_bytes_max,
            log,
            reader,
            durable: Lsn::ZERO,
            synced: (0, 0),
        }
    }

    /// Where the files end.
    fn written(&self) -> (u32, u64) {
        match self.fixture.file_count().checked_sub(1) {
            Some(index) => (index, fs::metadata(self.fixture.path(index)).unwrap().len()),
            None => (0, 0),
        }
    }

    fn apply(&mut self, index: usize, step: &Step) {
        let (tx, batches) = self.model.transactions[index].clone();
        if step.rolled_back {
            for batch in &batches {
                self.log.append(batch).unwrap();
                self.log.write().unwrap();
            }
            self.log.rollback().unwrap();
        }
        for batch in &batches {
            self.log.append(batch).unwrap();
            if step.written_inside {
                self.log.write().unwrap();
            }
        }
        self.log.commit(Lsn(tx));
    }

    fn replay(&mut self, steps: &[Step], upto: usize) {
        let position = self.log.position();
        assert!(position >= self.durable, "durable transactions are lost");
        for (index, step) in steps.iter().enumerate().take(upto + 1) {
            // From too early at times, which must do no harm.
            if self.model.transactions[index].0 + 10 > position.0 {
                self.apply(index, &Step { rolled_back: false, ..step.clone() });
            }
        }
    }

    fn then(&mut self, steps: &[Step], index: usize) {
        let shown = self.reader.end();
        match &steps[index].then {
            Then::Nothing => {}
            Then::Write => self.log.write().unwrap(),
            Then::Sync => {
                self.durable = self.log.sync().unwrap();
                self.synced = self.written();
            }
            Then::Release => {
                self.log.write().unwrap();
                self.log.release_memory();
            }
            Then::Replace => {
                self.log = Log::open_with(&self.reader).unwrap();
                self.log.set_memory_bytes_max(self.memory_bytes_max);
                self.model.check(&self.reader, shown);
                self.replay(steps, index);
            }
            Then::Kill { lost } => {
                let (last, byte_count) = self.written();
                let kept = if last == self.synced.0 { self.synced.1 } else { 0 };
                if byte_count > kept {
                    let cut = byte_count - lost.index((byte_count - kept) as usize + 1) as u64;
                    let file = fs::OpenOptions::new().write(true).open(self.fixture.path(last));
                    file.unwrap().set_len(cut).unwrap();
                }
                let (directory, handle) = (&self.fixture.directory, &self.fixture.handle);
                self.log = Log::open(directory, handle, self.chunk_bytes_max).unwrap();
                self.log.set_memory_bytes_max(self.memory_bytes_max);
                self.reader = self.log.reader();
                self.model.check(&self.reader, Offset::SNAPSHOT_END);
                self.replay(steps, index);
                self.durable = self.log.sync().unwrap();
                self.synced = self.written();
            }
        }
        self.model.check(&self.reader, shown);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(80))]

    #[test]
    fn a_log_is_the_same_whatever_happens_to_its_writer(
        steps in prop::collection::vec(any_step(), 1..25),
        chunk_bytes_max in prop_oneof![1usize..60, 60usize..400],
        memory_bytes_max in prop_oneof![Just(0usize), 1usize..40, Just(4000usize)],
    ) {
        let mut run = Run::new(&steps, chunk_bytes_max, memory_bytes_max);
        for (index, step) in steps.iter().enumerate() {
            run.apply(index, step);
            run.then(&steps, index);
        }
        let end = run.model.entries.last().map_or(Offset::SNAPSHOT_END, |(offset, _)| *offset);
        prop_assert_eq!(run.reader.end(), end);
        run.log.sync().unwrap();
        run.log.release_memory();
        run.model.check(&run.reader, end);
        let reopened = Log::open(&run.fixture.directory, &run.fixture.handle, 1).unwrap();
        prop_assert_eq!(reopened.position(), Lsn(10 * steps.len() as u64));
        run.model.check(&reopened.reader(), end);
    }
}

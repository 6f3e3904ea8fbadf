//! What the store must do, and the store, given the same operations.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;

use change::{Fragment, Lsn};
use shape::{Handle, Offset, RequestOffset, Visibility};

use super::disk::{Loss, LossyDisk, Strike};
use crate::catalog::tests::shape as shape_record;
use crate::journal::tests::transaction;
use crate::log::tests::{Model as LogModel, batch};
use crate::{
    Appended, Catalog, CatalogChange, Contents, Directory, Error, Journal, JournalReader, Limits,
    Log, LogReader, Position, ShapeRecord, SnapshotWriter, orphans, remove_shape,
};

/// Deep enough that parents are missing, too.
pub(super) const ROOT: &str = "/var/lib/leyden";
const CHUNK_BYTES: usize = 60;
/// Small, so that transactions are written before they are complete.
const MEMORY_BYTES: usize = 40;
/// Transaction n of Postgres has commit LSN 16 (n + 1).
const STEP: u64 = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    /// The rest of the next transaction, which has this many fragments.
    Send(u64),
    /// One more fragment of it.
    SendPart(u64),
    Mark,
    Sync,
    NewSession,
    ReopenJournal,
    /// Deletes what no shape needs.
    Trim,
    ReopenCatalog,
    Create,
    /// The creation that failed is tried again.
    CreateAgain,
    /// The number chooses among the shapes that exist.
    Consume(usize),
    WriteLog(usize),
    SyncLog(usize),
    Release(usize),
    /// Appends the next transaction without its end, and takes it back.
    Half(usize),
    /// The writer dies, its readers stay.
    Replace(usize),
    Tombstone(usize),
    Clean,
    Forget,
}

/// What was promised, in the plainest form.
#[derive(Debug, Default)]
struct Model {
    /// Fragments of every transaction in Postgres.
    parts: Vec<u64>,
    promised: Position,
    removed: Lsn,
    token: u64,
    shapes: BTreeMap<Handle, ShapeRecord>,
    tombstones: BTreeSet<Handle>,
    /// Failed changes, of which a crash may bring back one.
    maybe: Vec<CatalogChange>,
    /// What the catalog has been through.
    history: Vec<Contents>,
    facts: BTreeMap<Handle, Facts>,
}

#[derive(Debug, Default)]
struct Facts {
    number: u64,
    registered: Lsn,
    synced: Lsn,
    shown: Option<Offset>,
    snapshot_attempts: u32,
    is_published: bool,
    gone: bool,
}

#[derive(Debug)]
struct Process {
    directory: Directory,
    journal: Option<Journal>,
    catalog: Option<Catalog>,
    logs: BTreeMap<Handle, (Option<Log>, LogReader)>,
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) disk: LossyDisk,
    segment_bytes: u64,
    model: Model,
    process: Option<Process>,
    /// Transactions sent whole in this session, and fragments of the next one.
    whole: usize,
    sent: u64,
}

fn applied(model: &Model, change: Option<&CatalogChange>) -> Contents {
    let (mut shapes, mut tombstones) = (model.shapes.clone(), model.tombstones.clone());
    match change {
        None | Some(CatalogChange::Source(_)) => {}
        Some(CatalogChange::Created(record)) => {
            shapes.insert(record.handle.clone(), record.clone());
        }
        Some(CatalogChange::SnapshotComplete { handle, visibility }) => {
            if let Some(record) = shapes.get_mut(handle) {
                record.snapshot = Some(visibility.clone());
            }
        }
        Some(CatalogChange::Tombstone(handle)) => {
            shapes.remove(handle);
            tombstones.insert(handle.clone());
        }
        Some(CatalogChange::Removed(handle)) => {
            shapes.remove(handle);
            tombstones.remove(handle);
        }
    }
    let (shapes, tombstones) = (shapes.into_values().collect(), tombstones.into_iter().collect());
    Contents { source: None, shapes, tombstones }
}

impl Model {
    fn take(&mut self, contents: Contents) {
        self.history.push(contents.clone());
        self.shapes =
            contents.shapes.into_iter().map(|record| (record.handle.clone(), record)).collect();
        self.tombstones = contents.tombstones.into_iter().collect();
        self.maybe.clear();
    }

    fn transactions(&self, after: Lsn, until: Lsn) -> Vec<Fragment> {
        let numbered = self.parts.iter().zip(1..).map(|(&parts, n)| (STEP * n, parts));
        numbered
            .filter(|(lsn, _)| *lsn > after.0 && *lsn <= until.0)
            .flat_map(|(lsn, parts)| transaction(lsn, parts))
            .collect()
    }

    fn log(&self, facts: &Facts) -> LogModel {
        let fragments = self.transactions(facts.registered, Lsn::MAX);
        LogModel::of_entries(fragments.iter().flat_map(|f| entries(facts.number, f)), CHUNK_BYTES)
    }

    /// What no shape needs any more.
    fn needed_after(&self) -> Lsn {
        let created = self.maybe.iter().filter_map(|change| match change {
            CatalogChange::Created(record) => Some(&record.handle),
            _ => None,
        });
        let positions = self.shapes.keys().chain(created).map(|handle| {
            let facts = &self.facts[handle];
            facts.synced.max(facts.registered)
        });
        positions.min().unwrap_or(self.promised.commit_lsn)
    }
}

/// What a shape makes of a fragment.
fn entries(number: u64, fragment: &Fragment) -> Vec<(Offset, String)> {
    let lsn = fragment.commit_lsn.0;
    let ops = fragment.changes.iter().map(|change| change.op_index);
    ops.filter(|op| !(lsn / STEP + number + op / 2).is_multiple_of(3))
        .map(|op| {
            let padding = "x".repeat(((lsn + 5 * op) % 20) as usize);
            (Offset::new(lsn, op), format!("{{{number}:{lsn}_{op}{padding}}}"))
        })
        .collect()
}

fn rows(handle: &Handle, attempt: u32) -> Vec<String> {
    (0..4).map(|row| format!("{{{handle} {attempt} {row}}}")).collect()
}

fn visibility(attempt: u32) -> Visibility {
    format!("{}:{}:", attempt + 5, attempt + 5).parse().unwrap()
}

fn consume(log: &mut Log, number: u64, fragment: &Fragment) -> Result<(), Error> {
    if fragment.first {
        log.rollback()?;
    }
    let entries = entries(number, fragment);
    let entries: Vec<_> =
        entries.iter().map(|(offset, json)| (offset.tx, offset.op, json.as_str())).collect();
    log.append(&batch(&entries))?;
    if fragment.commit.is_some() {
        log.commit(fragment.commit_lsn);
    } else if fragment.commit_lsn.0.is_multiple_of(2 * STEP) {
        log.write()?;
    }
    Ok(())
}

impl World {
    pub(super) fn new(seed: u64, segment_bytes: u64) -> Self {
        let (disk, model) = (LossyDisk::new(seed), Model::default());
        Self { disk, segment_bytes, model, process: None, whole: 0, sent: 0 }
    }

    /// Opens what is not open. False when an injected fault does not let it.
    fn ensure(&mut self) -> bool {
        for _ in 0..3 {
            match self.try_ensure() {
                Ok(()) => return true,
                Err(_) if self.disk.is_dead() => return false,
                // There is one fault at a time.
                Err(error) => assert!(self.disk.is_faulty(), "{error}: {:?}", self.disk.paths()),
            }
        }
        panic!("does not open: {:?}", self.try_ensure());
    }

    fn try_ensure(&mut self) -> Result<(), Error> {
        if self.process.is_none() {
            let directory = Directory::open_on(Path::new(ROOT), self.disk.files())?;
            assert!(directory.token() > self.model.token, "a token was given out twice");
            self.model.token = directory.token();
            let (journal, catalog, logs) = (None, None, BTreeMap::new());
            self.process = Some(Process { directory, journal, catalog, logs });
        }
        self.ensure_journal()?;
        self.ensure_catalog()?;
        self.ensure_logs()
    }

    fn ensure_journal(&mut self) -> Result<(), Error> {
        let Some(process) = self.process.as_mut().filter(|process| process.journal.is_none())
        else {
            return Ok(());
        };
        let limits = Limits { segment_bytes: self.segment_bytes };
        let journal = Journal::open(&process.directory, limits)?;
        let (found, promised) = (journal.position(), self.model.promised);
        assert!(
            found.commit_lsn >= promised.commit_lsn && found.ack_lsn >= promised.ack_lsn,
            "acknowledged transactions are lost: {found:?} < {promised:?}"
        );
        let sent = STEP * self.model.parts.len() as u64;
        assert!(found.commit_lsn.0 <= sent && found.commit_lsn.0.is_multiple_of(STEP), "{found:?}");
        assert!(found.ack_lsn.0 < sent + STEP, "{found:?}");
        self.model.promised = found;
        process.journal = Some(journal);
        self.new_session();
        self.check_journal()
    }

    fn check_journal(&self) -> Result<(), Error> {
        let Some(process) = &self.process else { return Ok(()) };
        let durable = self.model.promised.commit_lsn;
        let mut reader = JournalReader::open(&process.directory, self.model.removed)?;
        let mut found = Vec::new();
        while let Some(fragment) = reader.next(durable)? {
            found.push(fragment);
        }
        assert_eq!(found, self.model.transactions(self.model.removed, durable));
        Ok(())
    }

    fn ensure_catalog(&mut self) -> Result<(), Error> {
        let Some(process) = self.process.as_mut().filter(|process| process.catalog.is_none())
        else {
            return Ok(());
        };
        let (catalog, mut contents) = Catalog::open(&process.directory)?;
        contents.tombstones.sort();
        let none = std::iter::once(None);
        let mut possible = none.chain(self.model.maybe.iter().map(Some));
        assert!(
            possible.any(|change| applied(&self.model, change) == contents),
            "the catalog has {contents:?} for {:?}",
            self.model
        );
        self.model.take(contents);
        process.catalog = Some(catalog);
        let known: HashSet<Handle> = self.model.shapes.keys().cloned().collect();
        for orphan in orphans(&process.directory, &known)? {
            assert!(!known.contains(&orphan) || self.model.facts[&orphan].gone);
            remove_shape(&process.directory, &orphan)?;
        }
        Ok(())
    }

    fn ensure_logs(&mut self) -> Result<(), Error> {
        let Some(process) = &mut self.process else { return Ok(()) };
        process.logs.retain(|handle, _| self.model.shapes.contains_key(handle));
        for handle in self.model.shapes.keys() {
            let facts = &self.model.facts[handle];
            let mut log = match process.logs.get(handle) {
                Some((Some(_), _)) => continue,
                Some((None, reader)) => Log::open_with(reader)?,
                None => Log::open(&process.directory, handle, CHUNK_BYTES)?,
            };
            log.set_memory_bytes_max(MEMORY_BYTES);
            assert!(log.position() >= facts.synced, "synced entries are lost");
            let reader = log.reader();
            process.logs.insert(handle.clone(), (Some(log), reader));
        }
        Ok(())
    }

    fn new_session(&mut self) {
        let Some(journal) = self.process.as_mut().and_then(|process| process.journal.as_mut())
        else {
            return;
        };
        journal.discard_unfinished();
        // Postgres may know less than we have: then it is a duplicate.
        self.whole = (journal.position().commit_lsn.0 / STEP).saturating_sub(1) as usize;
        self.sent = 0;
    }

    fn send(&mut self, parts: u64, count: u64) {
        if self.whole == self.model.parts.len() {
            self.model.parts.push(parts);
        }
        let parts = self.model.parts[self.whole];
        let fragments = transaction(STEP * (self.whole as u64 + 1), parts);
        let Some(journal) = self.process.as_mut().and_then(|process| process.journal.as_mut())
        else {
            return;
        };
        for fragment in fragments.iter().skip(self.sent as usize).take(count as usize) {
            match journal.append(fragment) {
                Ok(Appended::Kept | Appended::Duplicate) => self.sent += 1,
                Err(_) => return self.new_session(),
            }
        }
        if self.sent >= parts {
            (self.whole, self.sent) = (self.whole + 1, 0);
        }
    }

    /// One operation. False when the process died of it.
    pub(super) fn run(&mut self, op: Op) -> bool {
        if !self.ensure() {
            return false;
        }
        if let Err(error) = self.apply(op) {
            assert!(self.disk.is_faulty(), "{op:?}: {error}");
        }
        if let Some(process) = &mut self.process {
            for (handle, (_, reader)) in &process.logs {
                let Some(facts) = self.model.facts.get_mut(handle) else { continue };
                let end = reader.end();
                facts.shown = facts.shown.max(Some(end));
            }
        }
        !self.disk.is_dead()
    }

    fn apply(&mut self, op: Op) -> Result<(), Error> {
        match op {
            Op::Send(parts) => self.send(parts, u64::MAX),
            Op::SendPart(parts) => self.send(parts, 1),
            Op::NewSession => self.new_session(),
            Op::Mark | Op::Sync | Op::ReopenJournal | Op::Trim => return self.apply_journal(op),
            Op::ReopenCatalog => self.process.as_mut().unwrap().catalog = None,
            Op::Create => {
                let number = self.model.facts.len() as u64 + 1;
                let handle = shape_record(number).handle;
                self.model.facts.insert(handle.clone(), Facts { number, ..Facts::default() });
                return self.create(handle);
            }
            Op::CreateAgain => {
                let failed = self.model.facts.iter().find(|(_, facts)| !facts.is_published);
                let failed = failed.map(|(handle, _)| handle.clone());
                return failed.map_or(Ok(()), |handle| self.create(handle));
            }
            Op::Clean => {
                let directory = &self.process.as_ref().unwrap().directory;
                for handle in &self.model.tombstones {
                    remove_shape(directory, handle)?;
                    self.model.facts.get_mut(handle).unwrap().gone = true;
                }
            }
            Op::Forget => {
                let is_gone = |handle: &&Handle| self.model.facts[*handle].gone;
                if let Some(handle) = self.model.tombstones.iter().find(is_gone).cloned() {
                    return self.apply_catalog(CatalogChange::Removed(handle));
                }
            }
            Op::Consume(choice)
            | Op::WriteLog(choice)
            | Op::SyncLog(choice)
            | Op::Release(choice)
            | Op::Half(choice)
            | Op::Replace(choice)
            | Op::Tombstone(choice) => {
                let count = self.model.shapes.len().max(1);
                let handle = self.model.shapes.keys().nth(choice % count).cloned();
                return handle.map_or(Ok(()), |handle| self.apply_shape(op, handle));
            }
        }
        Ok(())
    }

    fn apply_journal(&mut self, op: Op) -> Result<(), Error> {
        let Some(process) = &mut self.process else { return Ok(()) };
        let Some(journal) = &mut process.journal else { return Ok(()) };
        match op {
            Op::Mark => journal.mark(Lsn(STEP * self.whole as u64 + 9)),
            Op::Trim => {
                let lsn = self.model.needed_after();
                self.model.removed = self.model.removed.max(lsn);
                journal.remove_before(lsn)?;
            }
            Op::ReopenJournal => process.journal = None,
            _ => match journal.sync() {
                Ok(position) => self.model.promised = position,
                Err(Error::OutOfOrder { .. }) => self.new_session(),
                Err(error) => {
                    assert_eq!(journal.position(), self.model.promised);
                    // It gives up, or its next attempt succeeds.
                    if self.whole.is_multiple_of(2) {
                        process.journal = None;
                    }
                    return Err(error);
                }
            },
        }
        Ok(())
    }

    fn apply_catalog(&mut self, change: CatalogChange) -> Result<(), Error> {
        let Some(process) = &mut self.process else { return Ok(()) };
        let Some(catalog) = &mut process.catalog else { return Ok(()) };
        match catalog.apply(std::slice::from_ref(&change)) {
            Ok(()) => {
                let contents = applied(&self.model, Some(&change));
                self.model.take(contents);
                Ok(())
            }
            Err(error) => {
                match error {
                    Error::Unusable { .. } => process.catalog = None,
                    _ => self.model.maybe.push(change),
                }
                Err(error)
            }
        }
    }

    fn apply_shape(&mut self, op: Op, handle: Handle) -> Result<(), Error> {
        if matches!(op, Op::Tombstone(_)) {
            return self.apply_catalog(CatalogChange::Tombstone(handle));
        }
        let Some(process) = &mut self.process else { return Ok(()) };
        let Some((log_slot, reader)) = process.logs.get_mut(&handle) else { return Ok(()) };
        let Some(log) = log_slot else { return Ok(()) };
        let facts = self.model.facts.get_mut(&handle).unwrap();
        let result = match op {
            Op::WriteLog(_) => log.write(),
            Op::SyncLog(_) => log.sync().map(|lsn| facts.synced = facts.synced.max(lsn)),
            Op::Release(_) => {
                log.release_memory();
                Ok(())
            }
            Op::Replace(_) => {
                *log_slot = None;
                return Ok(());
            }
            _ => {
                let after = log.position().max(facts.registered);
                let mut journal = JournalReader::open(&process.directory, after)?;
                let durable = self.model.promised.commit_lsn;
                let (number, is_half) = (facts.number, matches!(op, Op::Half(_)));
                feed(log, &mut journal, durable, (number, is_half))
            }
        };
        if let Err(error) = result {
            // As the actor does: the next writer goes on from the files.
            *log_slot = None;
            return Err(error);
        }
        if self.disk.is_dead() {
            return Ok(());
        }
        let shown = facts.shown.unwrap_or(Offset::SNAPSHOT_END);
        let reader = reader.clone();
        self.model.log(&self.model.facts[&handle]).check(&reader, shown);
        Ok(())
    }

    /// The snapshot, and then the shape.
    fn create(&mut self, handle: Handle) -> Result<(), Error> {
        let Some(process) = &mut self.process else { return Ok(()) };
        let facts = self.model.facts.get_mut(&handle).unwrap();
        let mut attempt = || {
            let mut writer = SnapshotWriter::create(&process.directory, &handle, CHUNK_BYTES)?;
            facts.snapshot_attempts += 1;
            for row in rows(&handle, facts.snapshot_attempts) {
                writer.row(row.as_bytes())?;
            }
            writer.finish(&visibility(facts.snapshot_attempts), b"{end}")
        };
        match attempt() {
            Ok(_) | Err(Error::SnapshotComplete { .. }) => {}
            Err(error) => return Err(error),
        }
        let registered_lsn = self.model.promised.commit_lsn;
        (facts.registered, facts.is_published) = (registered_lsn, true);
        let snapshot = Some(visibility(facts.snapshot_attempts));
        let record = ShapeRecord { registered_lsn, snapshot, ..shape_record(facts.number) };
        self.apply_catalog(CatalogChange::Created(record))
    }

    /// The process or the machine starts again; what was promised must be there.
    pub(super) fn restart(&mut self, loss: Loss) -> bool {
        self.process = None;
        self.disk.restart(loss);
        self.recover()
    }

    /// As [`Self::restart`], with a crash after so many calls of it.
    pub(super) fn restart_struck(&mut self, loss: Loss, at: u64) -> bool {
        self.process = None;
        self.disk.restart(loss);
        self.disk.arm(at, Strike::Crash);
        self.recover()
    }

    /// False when it died in this.
    pub(super) fn recover(&mut self) -> bool {
        for _ in 0..3 {
            if !self.ensure() {
                return false;
            }
            match self.try_recover() {
                Ok(()) => return true,
                Err(_) if self.disk.is_dead() => return false,
                Err(error) => assert!(self.disk.is_faulty(), "{error}"),
            }
        }
        panic!("does not recover: {:?}", self.try_recover());
    }

    fn try_recover(&mut self) -> Result<(), Error> {
        self.check_journal()?;
        let process = self.process.as_mut().unwrap();
        let durable = self.model.promised.commit_lsn;
        for (handle, (log_slot, reader)) in &mut process.logs {
            let log = log_slot.as_mut().unwrap();
            let facts = &self.model.facts[handle];
            check_snapshot(handle, facts, reader);
            let expected = self.model.log(facts);
            expected.check(reader, Offset::SNAPSHOT_END);
            let after = log.position().max(facts.registered);
            let mut journal = JournalReader::open(&process.directory, after)?;
            let fed = feed(log, &mut journal, durable, (facts.number, false));
            if let Err(error) = fed {
                *log_slot = None;
                return Err(error);
            }
            if self.disk.is_dead() {
                // A commit keeps the error for the next write.
                return log.write();
            }
            expected.check(reader, facts.shown.unwrap_or(Offset::SNAPSHOT_END));
        }
        let paths = self.disk.paths();
        for (handle, facts) in &self.model.facts {
            let prefix = format!("{ROOT}/shapes/{handle}/");
            let is_there = paths.iter().any(|path| path.starts_with(&prefix));
            assert!(!(facts.gone && is_there), "a removed shape is back");
        }
        Ok(())
    }
}

impl World {
    /// Whatever is wrong with this file, nothing false is given out; what does
    /// not depend on it is as it was.
    pub(super) fn check_damaged(&self, disk: &LossyDisk, damaged: &str, is_thorough: bool) {
        let is_in = |part: &str| damaged.starts_with(&format!("{ROOT}/{part}"));
        let directory = match Directory::open_on(Path::new(ROOT), disk.files()) {
            Ok(directory) => directory,
            Err(_) => return assert!(is_in("FORMAT"), "the directory does not open"),
        };
        assert!(directory.token() > self.model.token, "a token is given out twice");
        let (durable, removed) = (self.model.promised.commit_lsn, self.model.removed);
        let found = self.damaged_journal(&directory, is_in("journal/"));
        match Catalog::open(&directory) {
            Ok((_, mut contents)) => {
                contents.tombstones.sort();
                let last = self.model.history.last() == Some(&contents);
                let earlier = self.model.history.contains(&contents);
                assert!(last || is_in("catalog") && earlier, "{contents:?}");
            }
            Err(error) => assert!(is_in("catalog"), "{error}"),
        }
        for handle in self.model.shapes.keys() {
            let is_whole = !is_in(&format!("shapes/{handle}/"));
            if is_whole && !is_thorough && !is_in("journal/") {
                continue;
            }
            let facts = &self.model.facts[handle];
            let mut log = match Log::open(&directory, handle, CHUNK_BYTES) {
                Ok(log) => log,
                Err(error) => {
                    assert!(!is_whole && matches!(error, Error::Damaged { .. }), "{error}");
                    continue;
                }
            };
            log.set_memory_bytes_max(MEMORY_BYTES);
            let reader = log.reader();
            self.model.log(facts).check_damaged(&reader, is_whole);
            if is_whole {
                assert!(log.position() >= facts.synced);
                check_snapshot(handle, facts, &reader);
            } else if reader.snapshot().is_some() {
                check_damaged_snapshot(handle, facts, &reader);
            }
            let after = log.position().max(facts.registered);
            let Ok(mut journal) = JournalReader::open(&directory, after) else {
                assert!(!is_whole || is_in("journal/"));
                continue;
            };
            let fed = feed(&mut log, &mut journal, found, (facts.number, false));
            assert!(fed.is_ok() || !is_whole || is_in("journal/"), "{fed:?}");
            self.model.log(facts).check_damaged(&reader, is_whole);
            let is_found = fed.is_ok() && found == durable && !is_in("journal/");
            assert!(!is_found || log.position() >= durable, "a hole after {removed}");
        }
    }

    pub(super) fn check_missing_catalog(&self, disk: &LossyDisk) {
        let directory = Directory::open_on(Path::new(ROOT), disk.files()).unwrap();
        for _ in 0..2 {
            let error = Catalog::open(&directory).unwrap_err();
            assert!(matches!(error, Error::Damaged { .. }), "{error}");
        }
    }

    /// As far as the journal says that it goes.
    fn damaged_journal(&self, directory: &Directory, is_damaged: bool) -> Lsn {
        let limits = Limits { segment_bytes: self.segment_bytes };
        let journal = match Journal::open(directory, limits) {
            Ok(journal) => journal,
            Err(error) => {
                assert!(is_damaged && matches!(error, Error::Damaged { .. }), "{error}");
                return self.model.promised.commit_lsn;
            }
        };
        let found = journal.position().commit_lsn;
        assert!(found <= self.model.promised.commit_lsn);
        assert!(is_damaged || journal.position() == self.model.promised);
        let mut reader = match JournalReader::open(directory, self.model.removed) {
            Ok(reader) => reader,
            Err(error) => {
                assert!(is_damaged, "{error}");
                return found;
            }
        };
        let expected = self.model.transactions(self.model.removed, found);
        let mut read = Vec::new();
        let is_complete = loop {
            match reader.next(found) {
                Ok(Some(fragment)) => read.push(fragment),
                Ok(None) => break true,
                Err(_) => break false,
            }
        };
        assert_eq!(read, expected[..read.len()]);
        assert!(if is_complete { read.len() == expected.len() } else { is_damaged });
        found
    }
}

fn check_damaged_snapshot(handle: &Handle, facts: &Facts, reader: &LogReader) {
    let mut expected = rows(handle, facts.snapshot_attempts);
    expected.push("{end}".into());
    let expected = expected.join(",");
    let mut after = RequestOffset::Start;
    for index in 0..reader.snapshot_chunks() {
        if let Ok(slice) = reader.read(after) {
            let found = String::from_utf8(slice.body.concat()).unwrap();
            assert!(expected.contains(&found), "{found}");
        }
        after = RequestOffset::At(Offset::snapshot_chunk(index));
    }
    assert_eq!(reader.visibility(), Some(visibility(facts.snapshot_attempts)));
}

fn feed(
    log: &mut Log,
    journal: &mut JournalReader,
    durable: Lsn,
    (number, is_half): (u64, bool),
) -> Result<(), Error> {
    while let Some(fragment) = journal.next(durable)? {
        if is_half && fragment.commit.is_some() {
            log.write()?;
            return log.rollback();
        }
        consume(log, number, &fragment)?;
    }
    Ok(())
}

fn check_snapshot(handle: &Handle, facts: &Facts, reader: &LogReader) {
    let attempt = facts.snapshot_attempts;
    let mut found = Vec::new();
    let mut after = RequestOffset::Start;
    for _ in 0..reader.snapshot_chunks() {
        let slice = reader.read(after).unwrap();
        found.push(String::from_utf8(slice.body.concat()).unwrap());
        after = RequestOffset::At(slice.end);
    }
    let mut expected = rows(handle, attempt);
    expected.push("{end}".into());
    assert_eq!(found.join(","), expected.join(","));
    assert_eq!(reader.visibility(), Some(visibility(attempt)));
}

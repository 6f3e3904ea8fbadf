//! The journal's thread: append what has arrived, sync once, deliver.
//!
//! While a sync runs, more arrives; the next round takes it all (group
//! commit). A transaction is delivered only after the sync that made it
//! durable (invariant I-5), and only whole.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use change::{Fragment, Lsn};
use storage::{Appended, Journal, Limits};
use tokio::sync::OwnedSemaphorePermit;

use super::door::{Batch, Command, Door, Routed};
use super::{Args, Fact, JournalFacts};
use crate::inbox::Inbox;
use crate::routing::Targets;

/// Bytes of WAL messages that one sync takes at most.
const ROUND_BYTES_MAX: usize = 8 << 20;
/// An open transaction is kept for delivery up to this size; the shapes of a
/// larger one read it back from the journal.
const OPEN_BYTES_MAX: usize = 16 << 20;
/// An idle position becomes durable, and is confirmed to Postgres, after so
/// much time or WAL (invariant I-1).
const MARK_INTERVAL: Duration = Duration::from_secs(10);
const MARK_BYTES: u64 = 16 << 20;
/// How long to wait before a failed write is tried again, and how often when
/// the disk is not full.
const SYNC_PAUSE: Duration = Duration::from_millis(200);
const SYNC_TRIES: u32 = 5;

/// Session numbers are never reused within the process, whatever restarts.
static SESSIONS: AtomicU64 = AtomicU64::new(0);

pub(super) struct Writer {
    journal: Journal,
    facts: Fact<JournalFacts>,
    door: Door,
    /// Cleared when the actor that owns the thread has gone.
    alive: Arc<AtomicBool>,
    session: u64,
    reached_lsn: Lsn,
    marked_at: Instant,
    open: Open,
    /// Whole transactions that wait for the next sync.
    closed: Vec<Delivery>,
    permits: Vec<OwnedSemaphorePermit>,
}

/// The transaction of which the commit has not come yet.
#[derive(Default)]
struct Open {
    fragments: Vec<(Arc<Fragment>, Vec<Targets>)>,
    byte_count: usize,
    /// Too large to keep: whom to send to the journal instead.
    spilled: Vec<Targets>,
}

enum Delivery {
    Fragment(Arc<Fragment>, Vec<Targets>),
    ReadBack(Vec<Targets>),
}

impl Writer {
    pub(super) fn open(args: &Args, alive: Arc<AtomicBool>) -> Result<Self, storage::Error> {
        let limits = Limits { segment_bytes: args.segment_bytes };
        let journal = Journal::open(&args.directory, limits)?;
        let mut writer = Self {
            journal,
            facts: args.facts.clone(),
            door: args.door.clone(),
            alive,
            session: 0,
            reached_lsn: Lsn::ZERO,
            marked_at: Instant::now(),
            open: Open::default(),
            closed: Vec::new(),
            permits: Vec::new(),
        };
        writer.publish_position();
        // Whatever was delivered in a former life may not have arrived. Before
        // the next line, which claims that everything durable was.
        args.routing.fall_back();
        writer.facts.update(|facts| {
            facts.session = 0;
            facts.open = true;
            facts.dispatched_lsn = facts.dispatched_lsn.max(facts.durable_lsn);
        });
        writer.reached_lsn = writer.journal.position().ack_lsn;
        Ok(writer)
    }

    /// Works until the door is closed.
    pub(super) fn run(mut self, commands: &Receiver<Command>) -> Result<(), storage::Error> {
        while let Ok(command) = commands.recv() {
            // A successor waits; what is left is sent again by Postgres.
            if !self.alive.load(Ordering::Acquire) {
                break;
            }
            let mut byte_count = self.execute(command)?;
            while byte_count < ROUND_BYTES_MAX {
                match commands.try_recv() {
                    Ok(command) => byte_count += self.execute(command)?,
                    Err(_) => break,
                }
            }
            self.finish_round()?;
        }
        Ok(())
    }

    /// Returns how many bytes the command added to the round.
    fn execute(&mut self, command: Command) -> Result<usize, storage::Error> {
        match command {
            Command::Append(batch) => return self.append(batch),
            Command::OpenSession { reply } => {
                self.finish_round()?;
                self.journal.discard_unfinished();
                self.open = Open::default();
                self.session = SESSIONS.fetch_add(1, Ordering::Relaxed) + 1;
                let session = self.session;
                self.facts.update(|facts| facts.session = session);
                // The session may have been killed while it asked.
                let _ = reply.send((session, self.journal.position()));
            }
            Command::Reset { start_lsn, reply } => {
                self.open = Open::default();
                self.closed.clear();
                self.door.forget_removable();
                self.journal.reset(start_lsn)?;
                self.reached_lsn = start_lsn;
                self.publish_position();
                let _ = reply.send(());
            }
            Command::RemoveSettled => self.remove_settled()?,
        }
        Ok(0)
    }

    fn remove_settled(&mut self) -> Result<(), storage::Error> {
        let lsn = self.door.removable_lsn();
        let removed = self.journal.remove_before(lsn)?;
        if removed > 0 {
            tracing::debug!(removed, before = %lsn, "journal files removed");
        }
        Ok(())
    }

    fn append(&mut self, batch: Batch) -> Result<usize, storage::Error> {
        if batch.session != self.session {
            return Ok(0);
        }
        let mut byte_count = 0;
        for routed in batch.fragments {
            byte_count += routed.fragment.byte_count;
            self.append_fragment(routed)?;
        }
        if let Some(lsn) = batch.reached_lsn {
            self.reached_lsn = self.reached_lsn.max(lsn);
        }
        self.permits.extend(batch.permit);
        Ok(byte_count)
    }

    fn append_fragment(&mut self, routed: Routed) -> Result<(), storage::Error> {
        let Routed { mut fragment, targets } = routed;
        if fragment.first {
            self.open = Open::default();
        }
        let commit = fragment.commit;
        if let Some(commit) = commit {
            self.reached_lsn = self.reached_lsn.max(commit.end_lsn);
        }
        // A transaction that concerns no shape leaves no trace but a position.
        let nothing_kept = self.open.fragments.is_empty() && self.open.spilled.is_empty();
        if fragment.changes.is_empty() && nothing_kept {
            return Ok(());
        }
        // The first one that is kept begins the transaction here.
        fragment.first = nothing_kept;
        match self.journal.append(&fragment)? {
            // Sent again by Postgres after a crash; it is here already.
            Appended::Duplicate => return Ok(()),
            Appended::Kept => {}
        }
        self.open.add(fragment, targets);
        if commit.is_some() {
            self.closed.extend(std::mem::take(&mut self.open).close());
        }
        Ok(())
    }

    /// Makes the round durable, then delivers it.
    fn finish_round(&mut self) -> Result<(), storage::Error> {
        let ack_lsn = self.journal.position().ack_lsn;
        let idle = self.reached_lsn.0.saturating_sub(ack_lsn.0);
        let overdue = idle > 0 && self.marked_at.elapsed() >= MARK_INTERVAL;
        if self.closed.is_empty() && (overdue || idle >= MARK_BYTES) && self.open.is_empty() {
            self.journal.mark(self.reached_lsn);
        }
        self.sync()?;
        self.publish_position();
        self.deliver();
        self.permits.clear();
        let reached_lsn = self.reached_lsn;
        self.facts.update(|facts| facts.dispatched_lsn = reached_lsn);
        Ok(())
    }

    /// A full disk pauses ingest: nothing is confirmed, Postgres keeps the WAL,
    /// and the same bytes are tried again until there is room. Any other error
    /// is tried again a few times as well: the journal then leaves the file that
    /// failed and writes its tail anew, which opening it again would not.
    fn sync(&mut self) -> Result<(), storage::Error> {
        let before = self.journal.position();
        let mut failures = 0;
        loop {
            match self.journal.sync() {
                Ok(position) => {
                    if position != before {
                        self.marked_at = Instant::now();
                    }
                    return Ok(());
                }
                Err(error) if error.is_no_space() || failures < SYNC_TRIES => {
                    if failures == 0 {
                        tracing::warn!(%error, "the journal cannot be written: paused");
                    }
                    failures += 1;
                    std::thread::sleep(SYNC_PAUSE);
                    if !self.alive.load(Ordering::Acquire) {
                        return Err(error);
                    }
                    // Room may be ours to make.
                    self.remove_settled()?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn publish_position(&self) {
        let position = self.journal.position();
        self.facts.update(|facts| {
            facts.durable_lsn = position.commit_lsn;
            facts.ack_lsn = position.ack_lsn;
        });
    }

    fn deliver(&mut self) {
        let mut woken: HashMap<*const Inbox, Arc<Inbox>> = HashMap::new();
        for delivery in self.closed.drain(..) {
            let (fragment, targets) = match delivery {
                Delivery::Fragment(fragment, targets) => (Some(fragment), targets),
                Delivery::ReadBack(targets) => (None, targets),
            };
            for inbox in targets.iter().flat_map(|targets| targets.iter()) {
                match &fragment {
                    Some(fragment) => inbox.deliver(fragment),
                    None => inbox.fall_back(),
                }
                woken.entry(Arc::as_ptr(inbox)).or_insert_with(|| Arc::clone(inbox));
            }
        }
        for inbox in woken.values() {
            inbox.wake();
        }
    }
}

impl Open {
    fn is_empty(&self) -> bool {
        self.fragments.is_empty() && self.spilled.is_empty()
    }

    fn add(&mut self, fragment: Fragment, targets: Vec<Targets>) {
        self.byte_count += fragment.byte_count;
        if self.byte_count > OPEN_BYTES_MAX {
            let kept = std::mem::take(&mut self.fragments);
            self.spilled.extend(kept.into_iter().flat_map(|(_, targets)| targets));
            self.spilled.extend(targets);
            // One list of shapes per table is enough, however many fragments.
            self.spilled.sort_by_key(|targets| Arc::as_ptr(targets).cast::<u8>() as usize);
            self.spilled.dedup_by(|a, b| Arc::ptr_eq(a, b));
        } else {
            self.fragments.push((Arc::new(fragment), targets));
        }
    }

    fn close(self) -> Vec<Delivery> {
        if self.spilled.is_empty() {
            let all = union(self.fragments.iter().flat_map(|(_, targets)| targets));
            let each = |(fragment, _)| Delivery::Fragment(fragment, vec![Arc::clone(&all)]);
            self.fragments.into_iter().map(each).collect()
        } else {
            vec![Delivery::ReadBack(self.spilled)]
        }
    }
}

/// Whoever gets a part of a transaction gets its beginning and its end, and
/// each part once: a table's list that changed meanwhile is there twice.
fn union<'a>(lists: impl Iterator<Item = &'a Targets>) -> Targets {
    let mut distinct: Vec<&Targets> = Vec::new();
    for targets in lists {
        if !distinct.iter().any(|have| Arc::ptr_eq(have, targets)) {
            distinct.push(targets);
        }
    }
    if let [only] = distinct[..] {
        return Arc::clone(only);
    }
    let mut seen = HashSet::new();
    let inboxes = distinct.into_iter().flat_map(|targets| targets.iter());
    inboxes.filter(|inbox| seen.insert(Arc::as_ptr(inbox))).cloned().collect()
}

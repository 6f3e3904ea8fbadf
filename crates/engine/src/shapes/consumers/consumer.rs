//! The consumer of one shape: durable transactions in, log entries out.
//!
//! Owns       the shape's [`Log`]; nobody else writes to it.
//! Receives   wake-ups; the transactions lie in its inbox or in the journal.
//! Publishes  the tail of the log, which HTTP readers wait on.
//! Fails      when its segment cannot be written. It then starts again from
//!            the last valid commit and replays the journal (I-4).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use change::{Fragment, Lsn, Operation, Relation};
use parking_lot::Mutex;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use shape::{Batch, Encoder, Transaction, Visibility};
use storage::{Directory, JournalReader, Log};

use crate::inbox::Work;
use crate::shapes::facade::{LiveShape, Tail};
use crate::shapes::registry;

/// Everything a consumer can reach.
#[derive(Clone, Debug)]
pub(crate) struct Args {
    pub(crate) shape: Arc<LiveShape>,
    pub(crate) directory: Directory,
    pub(crate) registry: registry::Mailbox,
    /// Survives restarts: where earlier incarnations broke off.
    pub(crate) attempts: Arc<Mutex<Attempts>>,
}

/// How often processing a fragment of the same transaction did not return.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    commit_lsn: Lsn,
    count: u32,
}

/// A transaction that breaks the consumer so often is poison: its shape alone
/// is rotated, everybody else goes on.
const ATTEMPTS_MAX: u32 = 3;

pub(crate) type Mailbox = supervision::Mailbox<Message>;

#[derive(Debug)]
pub(crate) enum Message {
    /// There may be work in the inbox.
    Wake,
    /// Entries have been in memory long enough.
    Write,
    /// The journal wants to be cut: make the segment durable.
    Sync,
}

/// Entries reach the file this long after they are visible, or when there are
/// many. They are durable in the journal all the while.
const WRITE_DELAY: Duration = Duration::from_secs(1);
const UNWRITTEN_BYTES_MAX: usize = 256 << 10;
/// Fragments read back from the journal between two looks at the mailbox.
const READ_BACK_COUNT: usize = 16;
/// How often the registry is asked to end the shape.
const ROTATION_RETRY: Duration = Duration::from_millis(200);

#[derive(Debug)]
pub(crate) struct State {
    args: Args,
    log: Log,
    /// What the snapshot already contains.
    visibility: Option<Visibility>,
    /// For the version of the relation seen last.
    encoder: Option<(Arc<Relation>, Encoder)>,
    /// Entries of the open transaction that are not in the log yet.
    pending: Batch,
    /// The last transaction that was processed, whether it left entries or not.
    processed_lsn: Lsn,
    reader: Option<JournalReader>,
    write_is_due: bool,
    /// Last, so that the log is closed before somebody else may open it.
    _turn: Turn,
}

/// The right to write the shape's segment.
#[derive(Debug)]
struct Turn(Arc<LiveShape>);

impl Turn {
    fn take(shape: &Arc<LiveShape>) -> Result<Self, ActorProcessingErr> {
        if shape.is_written.swap(true, Ordering::AcqRel) {
            return Err("a former life of this consumer still writes".into());
        }
        Ok(Self(Arc::clone(shape)))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.is_written.store(false, Ordering::Release);
    }
}

/// What became of a transaction.
enum Step {
    Done,
    /// The shape is over: truncated, or its table is another one.
    Rotate(&'static str),
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Consumer;

impl Actor for Consumer {
    type Arguments = Args;
    type Msg = Message;
    type State = State;

    async fn pre_start(
        &self,
        myself: ActorRef<Message>,
        args: Args,
    ) -> Result<State, ActorProcessingErr> {
        let state = tokio::task::block_in_place(|| State::open(args))?;
        myself.send_message(Message::Wake)?;
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Wake => state.work(&myself).await,
            Message::Write => state.write(),
            Message::Sync => state.sync(),
        }
    }
}

impl State {
    fn open(args: Args) -> Result<Self, ActorProcessingErr> {
        // A predecessor that was given up on may still be writing.
        let turn = Turn::take(&args.shape)?;
        args.shape.inbox.awake();
        let parked = args.shape.parked_log.lock().take();
        let log = match parked {
            Some(log) => log,
            None => Log::open_with(&args.shape.log)?,
        };
        let processed_lsn = log.position().max(args.shape.registered_lsn);
        // Deliveries of a former life are not to be trusted either: it may
        // have taken them and died.
        args.shape.inbox.restart(processed_lsn);
        args.shape.publish_end();
        Ok(Self {
            visibility: log.reader().visibility(),
            args,
            log,
            encoder: None,
            pending: Batch::default(),
            processed_lsn,
            reader: None,
            write_is_due: false,
            _turn: turn,
        })
    }

    /// Does one portion of work and asks for the next, so that a kill or a
    /// stop never waits for a backlog.
    async fn work(&mut self, myself: &ActorRef<Message>) -> Result<(), ActorProcessingErr> {
        if self.args.shape.is_removed() {
            return Ok(());
        }
        let inbox = Arc::clone(&self.args.shape.inbox);
        inbox.awake();
        let step = match inbox.take() {
            Work::Wait => Step::Done,
            Work::Process(fragments) => {
                let mut step = Step::Done;
                for fragment in &fragments {
                    step = self.process(fragment)?;
                    if matches!(step, Step::Rotate(_)) {
                        break;
                    }
                    tokio::task::consume_budget().await;
                }
                if matches!(step, Step::Done) {
                    inbox.processed(self.processed_lsn);
                    inbox.wake();
                }
                step
            }
            Work::ReadJournal => tokio::task::block_in_place(|| self.read_back())?,
        };
        match step {
            Step::Done => {
                self.schedule_write(myself);
                self.write_if_many()
            }
            Step::Rotate(why) => {
                // Nothing past this transaction may be shown or claimed. The
                // registry may die with the request, so it is asked again.
                inbox.fall_back();
                myself.send_after(ROTATION_RETRY, || Message::Wake);
                self.rotate(why)
            }
        }
    }

    /// Reads a portion of the journal; at its end, goes over to deliveries.
    fn read_back(&mut self) -> Result<Step, storage::Error> {
        let inbox = Arc::clone(&self.args.shape.inbox);
        if let Step::Rotate(why) = self.read_journal(READ_BACK_COUNT)? {
            return Ok(Step::Rotate(why));
        }
        if self.reader.is_some() {
            inbox.wake();
            return Ok(Step::Done);
        }
        inbox.want_deliveries();
        // What became durable before that line may not have been delivered.
        let step = self.read_journal(usize::MAX)?;
        if matches!(step, Step::Done) {
            inbox.processed(self.processed_lsn);
            inbox.wake();
        }
        Ok(step)
    }

    /// Processes at most `fragment_count` fragments of whole transactions. The
    /// reader is gone afterwards if the journal's end was reached.
    fn read_journal(&mut self, fragment_count: usize) -> Result<Step, storage::Error> {
        let facts = self.args.shape.journal.get();
        if !facts.open {
            return Ok(Step::Done);
        }
        let mut reader = match self.reader.take() {
            Some(reader) => reader,
            None => self.open_journal()?,
        };
        for _ in 0..fragment_count {
            match reader.next(facts.durable_lsn) {
                Ok(None) => return Ok(Step::Done),
                Err(storage::Error::Removed { .. }) => reader = self.open_journal()?,
                Err(error) => return Err(error),
                Ok(Some(fragment)) => {
                    if let Step::Rotate(why) = self.process(&fragment)? {
                        return Ok(Step::Rotate(why));
                    }
                }
            }
        }
        self.reader = Some(reader);
        Ok(Step::Done)
    }

    /// Journal files go only when they hold nothing of this shape that is not
    /// in its segment, synced. So if the first ones are gone, there was nothing
    /// in them.
    fn open_journal(&mut self) -> Result<JournalReader, storage::Error> {
        loop {
            match JournalReader::open(&self.args.directory, self.processed_lsn) {
                Err(storage::Error::Removed { oldest, .. }) if oldest > self.processed_lsn => {
                    self.processed_lsn = oldest;
                }
                other => return other,
            }
        }
    }

    /// As [`Self::process_whole`], counting the attempts that did not return.
    fn process(&mut self, fragment: &Fragment) -> Result<Step, storage::Error> {
        if self.begin_attempt(fragment.commit_lsn) > ATTEMPTS_MAX {
            return Ok(Step::Rotate("a transaction broke its consumer again and again"));
        }
        let step = self.process_whole(fragment)?;
        self.args.attempts.lock().count -= 1;
        Ok(step)
    }

    /// One fragment: nothing, entries, or the end of the shape.
    fn process_whole(&mut self, fragment: &Fragment) -> Result<Step, storage::Error> {
        let lsn = fragment.commit_lsn;
        if lsn <= self.processed_lsn {
            return Ok(Step::Done);
        }
        if fragment.first {
            self.log.rollback()?;
            self.pending.clear();
        }
        // The LSN as well, because transaction ids come round again.
        let in_snapshot = lsn < self.args.shape.snapshot_lsn
            && self.visibility.as_ref().is_some_and(|bounds| bounds.sees(fragment.xid));
        if !in_snapshot && let Step::Rotate(why) = self.encode(fragment) {
            return Ok(Step::Rotate(why));
        }
        if fragment.commit.is_none() {
            let ready = self.pending.take_all_but_last();
            self.log.append(&ready)?;
            return Ok(Step::Done);
        }
        let left_entries = !self.pending.is_empty();
        if left_entries {
            self.pending.mark_last();
            self.log.append(&self.pending)?;
            self.pending.clear();
            self.args.shape.inbox.dirty();
        }
        // Without entries, too: the position is where a replay begins.
        self.log.commit(lsn);
        self.processed_lsn = lsn;
        if left_entries {
            self.args.shape.publish_end();
        }
        Ok(Step::Done)
    }

    fn encode(&mut self, fragment: &Fragment) -> Step {
        let transaction = Transaction { commit_lsn: fragment.commit_lsn, xid: fragment.xid };
        for change in &fragment.changes {
            if change.relation.oid != self.args.shape.definition.table_oid {
                continue;
            }
            match change.operation {
                Operation::Truncate => return Step::Rotate("the table was truncated"),
                // The next request makes the identity full again.
                Operation::Incomplete => {
                    return Step::Rotate(
                        "its REPLICA IDENTITY is not FULL; leave it so while it has shapes",
                    );
                }
                Operation::Insert { .. } | Operation::Update { .. } | Operation::Delete { .. } => {}
            }
            let known = self.encoder.take_if(|(relation, _)| {
                Arc::ptr_eq(relation, &change.relation) || **relation == *change.relation
            });
            let (_, encoder) = match known {
                Some(known) => self.encoder.insert(known),
                None => {
                    match Encoder::for_relation(&self.args.shape.definition, &change.relation) {
                        Ok(encoder) => self.encoder.insert((Arc::clone(&change.relation), encoder)),
                        Err(shape::SchemaChanged) => return Step::Rotate("its structure changed"),
                    }
                }
            };
            encoder.change(change, transaction, &mut self.pending);
        }
        Step::Done
    }

    fn begin_attempt(&self, lsn: Lsn) -> u32 {
        let mut attempts = self.args.attempts.lock();
        let count = if attempts.commit_lsn == lsn { attempts.count + 1 } else { 1 };
        *attempts = Attempts { commit_lsn: lsn, count };
        count
    }

    fn rotate(&mut self, why: &'static str) -> Result<(), ActorProcessingErr> {
        let handle = self.args.shape.handle.clone();
        tracing::info!(shape = %handle, why, "shape ends");
        self.log.rollback()?;
        // If the registry is down this actor fails, and its next life sees the
        // same transaction again.
        self.args.registry.send(registry::Message::Remove { handle, reply: None })?;
        Ok(())
    }

    fn schedule_write(&mut self, myself: &ActorRef<Message>) {
        if self.log.unwritten_bytes() > 0 && !self.write_is_due {
            self.write_is_due = true;
            myself.send_after(WRITE_DELAY, || Message::Write);
        }
    }

    fn write_if_many(&mut self) -> Result<(), ActorProcessingErr> {
        if self.log.unwritten_bytes() > UNWRITTEN_BYTES_MAX {
            tokio::task::block_in_place(|| self.log.write())?;
            self.args.shape.publish_end();
        }
        Ok(())
    }

    fn write(&mut self) -> Result<(), ActorProcessingErr> {
        self.write_is_due = false;
        tokio::task::block_in_place(|| self.log.write())?;
        self.args.shape.publish_end();
        Ok(())
    }

    fn sync(&mut self) -> Result<(), ActorProcessingErr> {
        tokio::task::block_in_place(|| self.log.sync())?;
        self.args.shape.publish_end();
        self.args.shape.inbox.synced(self.processed_lsn);
        Ok(())
    }
}

impl LiveShape {
    /// What readers can see, which is less than was committed while a large
    /// transaction's end has not reached its file.
    fn publish_end(&self) {
        let end = self.log.end();
        self.tail.send_if_modified(|tail| {
            let changed = tail.end != end;
            *tail = Tail { end, ..*tail };
            changed
        });
    }
}

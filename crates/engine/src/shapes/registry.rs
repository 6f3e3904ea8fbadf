//! The registry: which shapes there are.
//!
//! Owns       the index of shapes; readers share it without asking.
//! Receives   creations and removals, one at a time, and what snapshot
//!            workers bring.
//! Sends      to the catalog before anything is visible; starts consumers.
//! Fails      when the catalog does not answer; the index stays as it is.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use shape::{Definition, Handle};
use storage::{CatalogChange, Contents, Directory, Log, ShapeRecord};
use supervision::{Dynamic, Task};
use tokio::sync::watch;

use super::facade::{LiveShape, ShapeError, Tail};
use super::index::{Index, Outcome, Slot, Ticket};
use super::snapshots::snapshot::Registration;
use super::{consumers, snapshots};
use crate::config::Config;
use crate::facts::{Fact, JournalFacts, LeaderFacts};
use crate::inbox::Inbox;
use crate::postgres::leader::router;
use crate::postgres::{publication, snapshot_pool};
use crate::routing::Routing;
use crate::store::{catalog, cleaner};

/// Everything the registry can reach.
#[derive(Clone, Debug)]
pub(crate) struct Args {
    pub(crate) directory: Directory,
    pub(crate) config: Arc<Config>,
    pub(crate) index: Arc<Index>,
    /// Set once the catalog has been read.
    pub(crate) loaded: Fact<bool>,
    pub(crate) journal: Fact<JournalFacts>,
    pub(crate) leader: Fact<LeaderFacts>,
    /// Counts the sources (slots) that shapes came from.
    pub(crate) generation: Arc<AtomicU64>,
    pub(crate) catalog: catalog::Mailbox,
    pub(crate) cleaner: cleaner::Mailbox,
    pub(crate) router: router::Mailbox,
    pub(crate) routing: Arc<Routing>,
    pub(crate) publication: publication::Mailbox,
    pub(crate) snapshot_pool: snapshot_pool::Mailbox,
    pub(crate) consumers: Dynamic,
    pub(crate) snapshots: Dynamic,
    pub(crate) registry: Mailbox,
}

pub(crate) type Mailbox = supervision::Mailbox<Message>;

#[derive(Debug)]
pub(crate) enum Message {
    /// Answers at once with where the outcome will be.
    Create {
        definition: Box<Definition>,
        reply: RpcReplyPort<Result<watch::Receiver<Outcome>, ShapeError>>,
    },
    /// From a snapshot worker: the snapshot is complete and durable.
    Publish(Box<Publish>),
    /// Answers once nobody can be given the handle any more.
    Remove { handle: Handle, reply: Option<RpcReplyPort<Result<bool, ShapeError>>> },
    /// From the session, when the source is not the one the shapes came from.
    RemoveAll { why: String, reply: RpcReplyPort<()> },
    /// Consumers went with their supervisor: start them again.
    Repopulate,
}

/// A snapshot that wants to be a shape. Whatever ends it before it is one
/// undoes the registration and lets its waiters try again.
#[derive(Debug)]
pub(crate) struct Publish {
    pub(crate) record: ShapeRecord,
    pub(crate) generation: u64,
    pub(crate) registration: Registration,
    pub(crate) ticket: Ticket,
}

#[derive(Debug)]
pub(crate) struct State {
    args: Args,
    /// The largest time part of a handle so far.
    last_micros: u64,
    _repopulation: Task,
}

const CATALOG_WAIT: Duration = Duration::from_secs(10);
/// How soon a new supervisor of consumers is noticed, and how often the number
/// of consumers is compared with that of shapes.
const REPOPULATION_INTERVAL: Duration = Duration::from_millis(20);
const COUNT_INTERVAL: u32 = 50;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Registry;

impl Actor for Registry {
    type Arguments = Args;
    type Msg = Message;
    type State = State;

    async fn pre_start(
        &self,
        myself: ActorRef<Message>,
        args: Args,
    ) -> Result<State, ActorProcessingErr> {
        let load = |reply| catalog::Message::Load { reply };
        let contents = args.catalog.call(CATALOG_WAIT, load).await?;
        if args.loaded.get() {
            args.reconcile(contents).await?;
        } else {
            tokio::task::block_in_place(|| args.load(contents))?;
        }
        let last_micros =
            args.index.shapes().iter().filter_map(|shape| shape.handle.micros()).max();
        let watch =
            watch_consumers(args.consumers.clone(), Arc::clone(&args.index), myself.clone());
        let state = State {
            _repopulation: supervision::task(&myself, "repopulation", watch),
            args,
            last_micros: last_micros.unwrap_or_default(),
        };
        Ok(state)
    }

    async fn handle(
        &self,
        _myself: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Create { definition, reply } => {
                let answer = state.create(*definition).await;
                // Whoever asked may have gone.
                let _ = reply.send(answer);
            }
            Message::Publish(publish) => state.publish(*publish).await?,
            Message::Remove { handle, reply } => {
                let removed = state.args.remove(&handle).await?;
                if let Some(reply) = reply {
                    let _ = reply.send(Ok(removed));
                }
            }
            Message::RemoveAll { why, reply } => {
                state.args.remove_all(&why).await?;
                let _ = reply.send(());
            }
            Message::Repopulate => state.args.start_consumers().await,
        }
        Ok(())
    }
}

/// Notices that the consumers' supervisor was replaced: its children went with
/// it, and OTP's dynamic supervisor forgets them. And, more slowly, that a
/// consumer is missing because its first start failed.
async fn watch_consumers(consumers: Dynamic, index: Arc<Index>, registry: ActorRef<Message>) {
    let mut populated = None;
    for tick in 1u32.. {
        let generation = consumers.is_running().then(|| consumers.generation());
        let replaced = generation.is_some() && generation != populated;
        let missing =
            tick.is_multiple_of(COUNT_INTERVAL) && consumers.count() < index.shape_count();
        if replaced || missing {
            populated = generation;
            // The task ends with its owner.
            let _ = registry.send_message(Message::Repopulate);
        }
        tokio::time::sleep(REPOPULATION_INTERVAL).await;
    }
}

impl State {
    async fn create(
        &mut self,
        definition: Definition,
    ) -> Result<watch::Receiver<Outcome>, ShapeError> {
        match self.args.index.slot(&definition.identity()) {
            Some(Slot::Creating(creation)) => return Ok(creation.outcome()),
            Some(Slot::Live(shape)) => return Ok(watch::channel(Some(Ok(shape))).1),
            None => {}
        }
        if self.args.leader.get().session == 0 {
            // Between two slots a snapshot would have a gap behind it.
            return Err(ShapeError::Unavailable {
                reason: "the replication stream is not open".into(),
                retry_after_s: 1,
            });
        }
        let generation = self.args.generation.load(Ordering::Acquire);
        let handle = self.new_handle(&definition);
        let registered_lsn = self.args.journal.get().durable_lsn;
        let ticket = self.args.index.begin(&definition, &handle, registered_lsn);
        let outcome = ticket.outcome();
        let work =
            snapshots::snapshot::Work { definition, handle, registered_lsn, generation, ticket };
        let node = snapshots::node(work, &self.args);
        // A worker that cannot be started drops its ticket, which frees the slot.
        self.args.snapshots.start_child(node).await.map_err(|error| ShapeError::Unavailable {
            reason: error.to_string(),
            retry_after_s: 1,
        })?;
        Ok(outcome)
    }

    /// Never the same twice, whatever the clock does: later than every handle
    /// that is known, and time has passed since those that are forgotten.
    fn new_handle(&mut self, definition: &Definition) -> Handle {
        #[allow(clippy::disallowed_methods, reason = "a handle must differ from all before it")]
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let now = now.map_or(0, |now| now.as_micros() as u64);
        self.last_micros = now.max(self.last_micros + 1);
        Handle::new(&definition.identity(), self.last_micros)
    }

    async fn publish(&mut self, publish: Publish) -> Result<(), ActorProcessingErr> {
        let Publish { record, generation, registration, ticket } = publish;
        if generation != self.args.generation.load(Ordering::Acquire) {
            ticket.finish(Err(ShapeError::Unavailable {
                reason: "the replication slot was replaced meanwhile".into(),
                retry_after_s: 0,
            }));
            return Ok(());
        }
        self.args.apply(vec![CatalogChange::Created(record.clone())]).await?;
        let inbox = Arc::clone(registration.inbox());
        match tokio::task::block_in_place(|| self.args.open(record, inbox)) {
            Err(error) => {
                tracing::error!(%error, "a new shape cannot be opened");
                let message = format!("the shape's log cannot be opened: {error}");
                ticket.finish(Err(ShapeError::Snapshot { message }));
            }
            Ok(shape) => {
                // Nothing may come between these: the shape is there, routed,
                // and whoever waited has it.
                self.args.index.insert(&shape);
                registration.keep();
                ticket.finish(Ok(Arc::clone(&shape)));
                let (handle, table) = (&shape.handle, &shape.definition.name);
                tracing::info!(shape = %handle, table, "shape created");
                self.args.start_consumer(&shape).await;
            }
        }
        Ok(())
    }
}

impl Args {
    /// Brings back what is on disk, before anybody is served.
    fn load(&self, contents: Contents) -> Result<(), storage::Error> {
        let known: HashSet<Handle> =
            contents.shapes.iter().map(|record| record.handle.clone()).collect();
        for orphan in storage::orphans(&self.directory, &known)? {
            storage::remove_shape(&self.directory, &orphan)?;
        }
        let shape_count = contents.shapes.len();
        for record in contents.shapes {
            let handle = record.handle.clone();
            let table_oid = record.definition.table_oid;
            let inbox = Arc::new(Inbox::new(
                record.registered_lsn,
                consumers::consumer::Mailbox::default(),
            ));
            match self.open(record, inbox) {
                Ok(shape) => {
                    self.index.insert(&shape);
                    self.routing.add(table_oid, &shape.inbox);
                }
                // One unreadable shape costs that shape, not the boot. What may
                // pass, as too many open files, is tried again.
                Err(error) if error.is_not_found() || error.is_damage() => {
                    tracing::error!(shape = %handle, %error, "shape cannot be read and is dropped");
                    let _ = self.cleaner.send(cleaner::Message::Remove(handle));
                }
                Err(error) => return Err(error),
            }
        }
        tracing::info!(shape_count, "shapes loaded");
        self.loaded.update(|loaded| *loaded = true);
        Ok(())
    }

    /// A former life may have ended between catalog and index; the catalog is
    /// right. What it had begun to make has been undone by its own end.
    async fn reconcile(&self, contents: Contents) -> Result<(), ActorProcessingErr> {
        let known: HashSet<Handle> =
            contents.shapes.into_iter().map(|record| record.handle).collect();
        for handle in &known {
            if self.index.by_handle(handle.as_ref()).is_none() {
                self.apply(vec![CatalogChange::Tombstone(handle.clone())]).await?;
                let _ = self.cleaner.send(cleaner::Message::Remove(handle.clone()));
            }
        }
        for shape in self.index.shapes() {
            if !known.contains(&shape.handle) {
                self.forget(&shape).await;
            }
        }
        for handle in contents.tombstones {
            // Its removal may have ended before its consumer did.
            let _ = self.consumers.terminate_child(handle.as_ref()).await;
            let _ = self.cleaner.send(cleaner::Message::Remove(handle));
        }
        Ok(())
    }

    fn open(
        &self,
        record: ShapeRecord,
        inbox: Arc<Inbox>,
    ) -> Result<Arc<LiveShape>, storage::Error> {
        let log = Log::open(&self.directory, &record.handle, self.config.chunk_bytes_max)?;
        let tail = Tail { end: log.end(), removed: false };
        inbox.restart(log.position().max(record.registered_lsn));
        if log.position() > record.registered_lsn {
            // What was read back may be in the page cache only.
            inbox.dirty();
        }
        Ok(Arc::new(LiveShape {
            handle: record.handle,
            schema_header: Mutex::new(record.definition.schema_header().into()),
            definition: Arc::new(record.definition),
            log: log.reader(),
            inbox,
            tail: watch::Sender::new(tail),
            journal: self.journal.clone(),
            registered_lsn: record.registered_lsn,
            snapshot_lsn: record.snapshot_lsn,
            is_written: AtomicBool::new(false),
            parked_log: Mutex::new(Some(log)),
        }))
    }

    async fn start_consumers(&self) {
        let running: HashSet<String> = self.consumers.child_ids().into_iter().collect();
        for shape in self.index.shapes() {
            if !running.contains(shape.handle.as_ref()) {
                self.start_consumer(&shape).await;
            }
        }
    }

    async fn start_consumer(&self, shape: &Arc<LiveShape>) {
        if shape.is_removed() {
            return;
        }
        match self.consumers.start_child(consumers::node(shape, self)).await {
            Ok(()) | Err(supervision::StartError::AlreadyStarted { .. }) => {}
            // The supervisor is being replaced, and its successor is populated.
            Err(supervision::StartError::NotRunning) => {}
            Err(error) => {
                tracing::warn!(shape = %shape.handle, %error, "consumer did not start");
            }
        }
    }

    /// Tombstone, readers told, then the rest, which any restart resumes (I-10).
    async fn remove(&self, handle: &Handle) -> Result<bool, ActorProcessingErr> {
        let Some(shape) = self.index.by_handle(handle.as_ref()) else { return Ok(false) };
        self.apply(vec![CatalogChange::Tombstone(handle.clone())]).await?;
        self.forget(&shape).await;
        Ok(true)
    }

    async fn remove_all(&self, why: &str) -> Result<(), ActorProcessingErr> {
        // What is being made now began on the old source.
        self.generation.fetch_add(1, Ordering::AcqRel);
        let shapes = self.index.shapes();
        if shapes.is_empty() {
            return Ok(());
        }
        tracing::warn!(shape_count = shapes.len(), why, "all shapes end");
        let tombstones = shapes.iter().map(|shape| CatalogChange::Tombstone(shape.handle.clone()));
        self.apply(tombstones.collect()).await?;
        for shape in shapes {
            self.forget(&shape).await;
        }
        Ok(())
    }

    async fn forget(&self, shape: &LiveShape) {
        self.index.remove(shape);
        shape.tail.send_modify(|tail| tail.removed = true);
        self.routing.remove(shape.definition.table_oid, &shape.inbox);
        // Not there if its supervisor is being replaced.
        let _ = self.consumers.terminate_child(shape.handle.as_ref()).await;
        // Undelivered: the tombstone stays for the next start.
        let _ = self.cleaner.send(cleaner::Message::Remove(shape.handle.clone()));
    }

    async fn apply(&self, changes: Vec<CatalogChange>) -> Result<(), ActorProcessingErr> {
        Ok(self
            .catalog
            .call(CATALOG_WAIT, |reply| catalog::Message::Apply { changes, reply })
            .await?)
    }
}

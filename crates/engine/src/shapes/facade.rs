//! What HTTP may reach of the engine: shapes to read, and creation of new ones.
//!
//! No actor sits on the read path: a lookup is a map access, and a shape's log
//! is read through its own lock-free view. Only creation and removal are
//! messages.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use change::Lsn;
use parking_lot::Mutex;
use shape::{Definition, Handle, LogMode, Offset, Replica};
use storage::{Log, LogReader};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::index::{Index, Slot};
use super::registry;
use crate::facts::{Fact, JournalFacts, LeaderFacts, LockState, Trouble};
use crate::inbox::Inbox;
use crate::postgres::inspector::Inspector;

/// A shape in the client's words.
#[derive(Clone, Debug)]
pub struct ShapeRequest {
    pub schema: String,
    pub name: String,
    /// All columns when `None`.
    pub columns: Option<Vec<String>>,
    pub replica: Replica,
    pub log: LogMode,
}

/// The end of a shape's log, which live readers wait on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tail {
    pub end: Offset,
    /// The handle is gone: the client must fetch again.
    pub removed: bool,
}

/// Why a shape cannot be had now. `api` alone turns this into a status code.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    #[error("table {schema:?}.{name:?} does not exist")]
    TableNotFound { schema: String, name: String },
    /// The client's list of columns; the text is for the client.
    #[error("{0}")]
    Columns(String),
    /// Expected to pass.
    #[error("{reason}")]
    Unavailable { reason: String, retry_after_s: u64 },
    /// The initial query failed; the text names cause and remedy.
    #[error("{message}")]
    Snapshot { message: String },
    /// The table changed while its snapshot ran.
    #[error("the table's structure changed")]
    SchemaChanged,
    #[error("{0}")]
    Internal(String),
}

/// A shape that can be read.
#[derive(Debug)]
pub struct LiveShape {
    pub handle: Handle,
    pub definition: Arc<Definition>,
    pub log: LogReader,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) tail: watch::Sender<Tail>,
    pub(crate) journal: Fact<JournalFacts>,
    /// The log begins with what came after this.
    pub(crate) registered_lsn: Lsn,
    /// Taken with the snapshot: what commits later is not in it.
    pub(crate) snapshot_lsn: Lsn,
    /// A consumer has the log open.
    pub(crate) is_written: AtomicBool,
    /// The writer, between its opening by the registry and its consumer's start.
    pub(crate) parked_log: Mutex<Option<Log>>,
    /// Replaced when only nullability changed, which makes no new shape.
    pub(crate) schema_header: Mutex<Arc<str>>,
}

impl LiveShape {
    /// The value of the `electric-schema` header.
    pub fn schema_header(&self) -> Arc<str> {
        Arc::clone(&self.schema_header.lock())
    }

    pub fn tail(&self) -> watch::Receiver<Tail> {
        self.tail.subscribe()
    }

    pub fn is_removed(&self) -> bool {
        self.tail.borrow().removed
    }

    /// The LSN up to which this shape's log is complete: every transaction at
    /// or before it that concerns the shape is in the log and visible.
    ///
    /// Ask before reading the log, so that the log may hold more, never less.
    pub fn seen_lsn(&self) -> u64 {
        // The global position first: what is dispatched after this line may
        // not be claimed.
        let dispatched = self.journal.get().dispatched_lsn;
        self.inbox.complete_lsn(dispatched).0
    }
}

/// How much must work for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Existing shapes can be read.
    Read,
    /// New shapes can be made.
    Write,
}

/// What is being waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotReady {
    pub reason: String,
}

/// How long one request may wait for a snapshot before it is told to come
/// back; the snapshot itself goes on.
const SNAPSHOT_WAIT: Duration = Duration::from_secs(45);
/// How long a request waits for the connection to Postgres.
const READY_WAIT: Duration = Duration::from_secs(5);
/// A snapshot worker that is killed is replaced this many times.
const CREATION_TRIES: usize = 5;

enum Resolved {
    Definition(Definition),
    Shape(Arc<LiveShape>),
}

/// The door to the shapes. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Shapes {
    pub(crate) index: Arc<Index>,
    pub(crate) registry: registry::Mailbox,
    pub(crate) inspector: Inspector,
    pub(crate) journal: Fact<JournalFacts>,
    pub(crate) leader: Fact<LeaderFacts>,
    pub(crate) loaded: Fact<bool>,
}

impl Shapes {
    /// The shape with this handle, if it is what `request` asks for.
    pub fn matching(&self, handle: &str, request: &ShapeRequest) -> Option<Arc<LiveShape>> {
        let shape = self.by_handle(handle)?;
        answers(&shape.definition, request).then_some(shape)
    }

    pub fn by_handle(&self, handle: &str) -> Option<Arc<LiveShape>> {
        self.index.by_handle(handle)
    }

    pub fn is_known(&self, handle: &str) -> bool {
        self.index.by_handle(handle).is_some()
    }

    /// The global last processed LSN.
    pub fn seen_lsn(&self) -> u64 {
        self.journal.get().dispatched_lsn.0
    }

    /// The shape that answers `request`, if there is one already.
    pub async fn find(&self, request: &ShapeRequest) -> Result<Option<Arc<LiveShape>>, ShapeError> {
        match self.resolve(request).await {
            Ok(Resolved::Shape(shape)) => Ok(Some(shape)),
            Ok(Resolved::Definition(definition)) => Ok(self.index.live(&definition.identity())),
            Err(ShapeError::Unavailable { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The shape that answers `request`, made now if need be. Returns when its
    /// snapshot may be read.
    pub async fn find_or_create(
        &self,
        request: &ShapeRequest,
    ) -> Result<Arc<LiveShape>, ShapeError> {
        let deadline = Instant::now() + SNAPSHOT_WAIT;
        let mut last = ShapeError::SchemaChanged;
        let mut other_structure = None;
        for _ in 0..CREATION_TRIES {
            let definition = match self.resolve(request).await? {
                Resolved::Shape(shape) => return Ok(shape),
                Resolved::Definition(definition) => definition,
            };
            if let Some(shape) = self.index.live(&definition.identity()) {
                if shape.definition.same_structure(&definition) {
                    *shape.schema_header.lock() = definition.schema_header().into();
                    return Ok(shape);
                }
                // Either the shape was made after we looked, or the catalog has
                // moved on while no change came by. Looked at twice, it is the
                // second, and the log is not about this table.
                if other_structure.replace(shape.handle.clone()).as_ref() == Some(&shape.handle) {
                    self.remove(&shape.handle).await?;
                }
                continue;
            }
            match self.create(definition, deadline).await {
                Err(ShapeError::Unavailable { retry_after_s: 0, reason }) => {
                    last = ShapeError::Unavailable { reason, retry_after_s: 1 };
                }
                outcome => return outcome,
            }
        }
        Err(last)
    }

    /// What a request means now; without the catalog, an existing shape.
    async fn resolve(&self, request: &ShapeRequest) -> Result<Resolved, ShapeError> {
        let existing = || self.index.find(|definition| answers(definition, request));
        match self.define(request).await {
            Ok(definition) => Ok(Resolved::Definition(definition)),
            // Reading what is on disk must work without Postgres.
            Err(error @ ShapeError::Unavailable { .. }) => {
                existing().map(Resolved::Shape).ok_or(error)
            }
            Err(error @ ShapeError::TableNotFound { .. }) => {
                // A dropped table leaves no message in the stream.
                if let Some(shape) = existing() {
                    self.remove(&shape.handle).await?;
                }
                Err(error)
            }
            Err(error) => Err(error),
        }
    }

    async fn create(
        &self,
        definition: Definition,
        deadline: Instant,
    ) -> Result<Arc<LiveShape>, ShapeError> {
        let identity = definition.identity();
        self.ready(Level::Write, READY_WAIT).await.map_err(|not_ready| {
            ShapeError::Unavailable { reason: not_ready.reason, retry_after_s: 5 }
        })?;
        let mut outcome = match self.index.slot(&identity) {
            Some(Slot::Live(shape)) => return Ok(shape),
            Some(Slot::Creating(creation)) => creation.outcome(),
            None => {
                let definition = Box::new(definition);
                let asked = self
                    .registry
                    .call(READY_WAIT, |reply| registry::Message::Create { definition, reply });
                asked.await.map_err(|_| retry_at_once("the registry is restarting"))??
            }
        };
        let result = timeout_at(deadline, outcome.wait_for(Option::is_some)).await;
        match result {
            Err(_) => Err(ShapeError::Unavailable {
                reason: "the initial snapshot of this shape is still being read".into(),
                retry_after_s: 10,
            }),
            // The worker went without a word: it was killed.
            Ok(Err(_)) => Err(retry_at_once("the snapshot was interrupted")),
            Ok(Ok(result)) => match result.as_ref() {
                Some(result) => result.clone(),
                None => Err(retry_at_once("the snapshot was interrupted")),
            },
        }
    }

    /// Ends a shape: its readers are told to fetch again, then its data goes.
    pub async fn remove(&self, handle: &Handle) -> Result<bool, ShapeError> {
        let handle = handle.clone();
        self.registry
            .call(READY_WAIT, |reply| registry::Message::Remove { handle, reply: Some(reply) })
            .await
            .map_err(|_| ShapeError::Unavailable {
                reason: "the registry is restarting".into(),
                retry_after_s: 1,
            })?
    }

    /// Waits until `level` is reached, at most `wait`.
    pub async fn ready(&self, level: Level, wait: Duration) -> Result<(), NotReady> {
        let deadline = Instant::now() + wait;
        let mut loaded = self.loaded.watch();
        if timeout_at(deadline, loaded.wait_for(|loaded| *loaded)).await.is_err() {
            return Err(NotReady { reason: "waiting for the shape catalog to be read".into() });
        }
        if level == Level::Read {
            return Ok(());
        }
        let mut leader = self.leader.watch();
        match timeout_at(deadline, leader.wait_for(|leader| leader.session != 0)).await {
            Ok(_) => Ok(()),
            Err(_) => Err(NotReady { reason: waiting_for(&self.leader.get()) }),
        }
    }

    async fn define(&self, request: &ShapeRequest) -> Result<Definition, ShapeError> {
        let ShapeRequest { schema, name, columns, replica, log } = request;
        let table = self.inspector.table(schema, name).await?;
        Definition::new(&table, columns.as_deref(), *replica, *log)
            .map_err(|error| ShapeError::Columns(error.to_string()))
    }
}

fn answers(definition: &Definition, request: &ShapeRequest) -> bool {
    let ShapeRequest { schema, name, columns, replica, log } = request;
    definition.answers((schema, name), columns.as_deref(), *replica, *log)
}

fn retry_at_once(reason: &str) -> ShapeError {
    ShapeError::Unavailable { reason: reason.into(), retry_after_s: 0 }
}

fn waiting_for(leader: &LeaderFacts) -> String {
    match (&leader.trouble, leader.lock) {
        (Some(Trouble { sentence, .. }), _) => sentence.clone(),
        (None, LockState::Connecting) => "waiting for a connection to Postgres".into(),
        (None, LockState::Waiting) => {
            "waiting for the advisory lock, which another instance holds".into()
        }
        (None, LockState::Held) => "waiting for the replication stream to start".into(),
    }
}

/// How the service is, computed from facts (invariant I-11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealthState {
    Starting,
    /// Another instance holds the lock; existing shapes can be read.
    Waiting,
    Active,
}

/// The facts that health is made of.
#[derive(Clone, Debug)]
pub struct Health {
    pub(crate) leader: Fact<LeaderFacts>,
    pub(crate) loaded: Fact<bool>,
}

impl Health {
    pub fn state(&self) -> HealthState {
        let leader = self.leader.get();
        match (self.loaded.get(), leader.session, leader.lock) {
            (true, session, _) if session != 0 => HealthState::Active,
            (true, _, LockState::Waiting) => HealthState::Waiting,
            _ => HealthState::Starting,
        }
    }

    /// Why it is not active, in an operator's words.
    pub fn trouble(&self) -> Option<Trouble> {
        self.leader.get().trouble
    }

    /// Returns once the state is another than `seen`.
    pub async fn changed_from(&self, seen: HealthState) -> HealthState {
        // Subscribed before the state is read, so that no change falls between.
        let (mut leader, mut loaded) = (self.leader.watch(), self.loaded.watch());
        loop {
            let state = self.state();
            if state != seen {
                return state;
            }
            let (leader, loaded) = (leader.changed(), loaded.changed());
            futures_util::future::select(std::pin::pin!(leader), std::pin::pin!(loaded)).await;
        }
    }
}

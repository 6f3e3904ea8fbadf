//! The worker of one initial snapshot, from publication to a readable shape.
//!
//! Owns       the query's connection and the unfinished snapshot files.
//! Receives   from its task that it is done.
//! Sends      the finished shape to `shapes/registry`.
//! Fails      harmlessly: the files go, and waiters ask again.
//!
//! The order closes every gap between snapshot and stream: publish the table
//! and wait for its writers (I-8), register with the router, take the snapshot
//! and compare it with what was streamed before (I-7), make its bounds durable,
//! then show it (I-6).

use std::sync::Arc;
use std::time::Duration;

use change::{Lsn, Table};
use parking_lot::Mutex;
use pg::snapshot::CopyParser;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use shape::{Definition, Encoder, Handle, LogMode, Visibility, snapshot_end};
use storage::{Directory, ShapeRecord, SnapshotWriter};
use supervision::Task;
use tokio::time::Instant;

use crate::inbox::Inbox;
use crate::postgres::leader::router;
use crate::postgres::trouble::{snapshot_error, unavailable};
use crate::postgres::{publication, snapshot_pool};
use crate::shapes::consumers::consumer;
use crate::shapes::facade::ShapeError;
use crate::shapes::index::Ticket;
use crate::shapes::registry;
use crate::store::cleaner;
use crate::streamed::unseen;

/// Everything a snapshot worker can reach.
#[derive(Clone, Debug)]
pub(crate) struct Args {
    /// Taken by the worker's first and only life.
    pub(crate) work: Arc<Mutex<Option<Work>>>,
    pub(crate) directory: Directory,
    pub(crate) chunk_bytes_max: usize,
    pub(crate) registry: registry::Mailbox,
    pub(crate) cleaner: cleaner::Mailbox,
    pub(crate) router: router::Mailbox,
    pub(crate) publication: publication::Mailbox,
    pub(crate) snapshot_pool: snapshot_pool::Mailbox,
}

/// What is to be made.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) definition: Definition,
    pub(crate) handle: Handle,
    pub(crate) registered_lsn: Lsn,
    /// Of the source: a shape begun before the slot was replaced is void.
    pub(crate) generation: u64,
    pub(crate) ticket: Ticket,
}

pub(crate) type Mailbox = supervision::Mailbox<Message>;

#[derive(Debug)]
pub(crate) enum Message {
    Done,
}

#[derive(Debug)]
pub(crate) struct State {
    _task: Task,
}

/// For tables whose writers do not end.
const PUBLICATION_WAIT: Duration = Duration::from_secs(30);
const ACTOR_WAIT: Duration = Duration::from_secs(10);
/// How long to wait for a streamed transaction to become visible.
const VISIBILITY_WAIT: Duration = Duration::from_secs(5);
/// For each query before the rows; longer than its own lock timeout.
const QUERY_WAIT: Duration = Duration::from_secs(15);
const VISIBILITY_RETRY: Duration = Duration::from_millis(10);

#[derive(Clone, Copy, Debug)]
pub(crate) struct Snapshot;

impl Actor for Snapshot {
    type Arguments = Args;
    type Msg = Message;
    type State = State;

    async fn pre_start(
        &self,
        myself: ActorRef<Message>,
        args: Args,
    ) -> Result<State, ActorProcessingErr> {
        let work = args.work.lock().take().ok_or("a snapshot is worked on once")?;
        let owner = myself.clone();
        let body = async move {
            Box::pin(run(args, work)).await;
            // The actor may have been stopped meanwhile.
            let _ = owner.send_message(Message::Done);
        };
        Ok(State { _task: supervision::task(&myself, "snapshot", body) })
    }

    async fn handle(
        &self,
        myself: ActorRef<Message>,
        message: Message,
        _state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Done => myself.stop(None),
        }
        Ok(())
    }
}

struct Reading {
    args: Args,
    definition: Definition,
    handle: Handle,
}

/// What must be undone unless the registration became a shape, by whoever holds
/// it last: the worker, or the registry once it was asked to publish.
#[derive(Debug)]
pub(crate) struct Registration {
    router: router::Mailbox,
    cleaner: cleaner::Mailbox,
    handle: Handle,
    table_oid: u32,
    inbox: Arc<Inbox>,
    is_kept: bool,
}

impl Registration {
    pub(crate) fn inbox(&self) -> &Arc<Inbox> {
        &self.inbox
    }

    /// It is a shape now.
    pub(crate) fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        if self.is_kept {
            return;
        }
        let (table_oid, inbox) = (self.table_oid, Arc::clone(&self.inbox));
        // Undelivered, it costs work but nothing else: fragments that nobody
        // takes, files that the next start finds.
        let _ = self.router.send(router::Message::Unregister { table_oid, inbox });
        let _ = self.cleaner.send(cleaner::Message::Remove(self.handle.clone()));
    }
}

/// Everything up to a snapshot that may be shown. The registry shows it: it
/// owns what happens from there on, so that no shape depends on this worker
/// living to hear of it.
async fn run(args: Args, work: Work) {
    let Work { ticket, definition, handle, registered_lsn, generation } = work;
    let registration = Registration {
        router: args.router.clone(),
        cleaner: args.cleaner.clone(),
        handle: handle.clone(),
        table_oid: definition.table_oid,
        inbox: Arc::new(Inbox::new(registered_lsn, consumer::Mailbox::default())),
        is_kept: false,
    };
    let registry = args.registry.clone();
    let created_us = handle.micros().unwrap_or_default() as i64;
    let reading = Reading { args, definition, handle };
    let bounds = match reading.run(&registration).await {
        Ok(bounds) => bounds,
        Err(error) => return ticket.finish(Err(error)),
    };
    let record = ShapeRecord {
        handle: reading.handle,
        definition: reading.definition,
        registered_lsn,
        snapshot_lsn: bounds.1,
        snapshot: Some(bounds.0),
        created_us,
    };
    let publish = registry::Publish { record, generation, registration, ticket };
    // Undelivered, it is dropped and whoever waits tries again.
    let _ = registry.send(registry::Message::Publish(Box::new(publish)));
}

impl Reading {
    async fn run(&self, registration: &Registration) -> Result<(Visibility, Lsn), ShapeError> {
        let table = self.publish_table().await?;
        let (table_oid, inbox) = (self.definition.table_oid, Arc::clone(&registration.inbox));
        let register = |reply| router::Message::Register { table_oid, inbox, reply };
        let streamed = self.args.router.call(ACTOR_WAIT, register).await;
        let streamed = streamed.map_err(|_| interrupted())?;
        self.read(&streamed, &table).await
    }

    async fn publish_table(&self) -> Result<Table, ShapeError> {
        let Definition { table_oid, schema, name, .. } = &self.definition;
        let table =
            publication::TableName { oid: *table_oid, schema: schema.clone(), name: name.clone() };
        let ensure = |reply| publication::Message::Ensure { table, reply };
        match self.args.publication.call(PUBLICATION_WAIT, ensure).await {
            Ok(result) => result,
            Err(supervision::CallError::Timeout) => Err(ShapeError::Snapshot {
                message: format!(
                    "transactions that write to {schema}.{name} and began before it was \
                     published have not ended in {} s",
                    PUBLICATION_WAIT.as_secs()
                ),
            }),
            Err(supervision::CallError::Down | supervision::CallError::NoReply) => {
                Err(interrupted())
            }
        }
    }

    /// Reads the rows into files, complete and durable on return.
    async fn read(&self, streamed: &[u32], table: &Table) -> Result<(Visibility, Lsn), ShapeError> {
        let checkout = |reply| snapshot_pool::Message::Checkout { reply };
        let lease = self.args.snapshot_pool.call(ACTOR_WAIT, checkout).await;
        let mut lease = match lease {
            Ok(Ok(lease)) => lease,
            Ok(Err(error)) => return Err(unavailable(&error)),
            Err(_) => {
                return Err(ShapeError::Snapshot {
                    message: "no connection for a snapshot became free in time".into(),
                });
            }
        };
        let connection = lease.connection();
        let bounds = self.begin(connection, streamed, table).await?;
        self.copy(connection, table, &bounds.0).await?;
        pg::snapshot::end(connection).await.map_err(|e| snapshot_error(&e))?;
        lease.give_back();
        Ok(bounds)
    }

    /// A snapshot that contains everything that was streamed before the
    /// registration (I-7).
    async fn begin(
        &self,
        connection: &mut pg::Connection,
        streamed: &[u32],
        table: &Table,
    ) -> Result<(Visibility, Lsn), ShapeError> {
        let deadline = Instant::now() + VISIBILITY_WAIT;
        loop {
            let begin = pg::snapshot::begin(connection, Some(table));
            let bounds = within(begin).await?;
            let text = bounds.visibility;
            let visibility: Visibility =
                text.parse().map_err(|_| ShapeError::Internal(format!("snapshot {text:?}")))?;
            let Some(xid) = unseen(streamed, &visibility) else {
                self.check_table(connection).await?;
                return Ok((visibility, bounds.wal_lsn));
            };
            if Instant::now() > deadline {
                return Err(ShapeError::Snapshot {
                    message: format!(
                        "transaction {xid} is committed but not visible yet; is a synchronous \
                         standby missing (synchronous_standby_names)?"
                    ),
                });
            }
            within(pg::snapshot::end(connection)).await?;
            tokio::time::sleep(VISIBILITY_RETRY).await;
        }
    }

    /// The name may mean another table by now.
    async fn check_table(&self, connection: &mut pg::Connection) -> Result<(), ShapeError> {
        let Definition { table_oid, schema, name, .. } = &self.definition;
        let oid = within(pg::splice::table_oid(connection, schema, name)).await?;
        if oid == Some(*table_oid) { Ok(()) } else { Err(ShapeError::SchemaChanged) }
    }

    async fn copy(
        &self,
        connection: &mut pg::Connection,
        table: &Table,
        visibility: &Visibility,
    ) -> Result<(), ShapeError> {
        let mut writer =
            SnapshotWriter::create(&self.args.directory, &self.handle, self.args.chunk_bytes_max)
                .map_err(|e| storage_failed(&e))?;
        if self.definition.log == LogMode::Full {
            let columns = self.definition.source_columns();
            let sql = pg::snapshot::copy_sql(table, &columns);
            connection.copy_out(&sql).await.map_err(|e| snapshot_error(&e))?;
            let encoder = Encoder::for_snapshot(&self.definition);
            let (mut parser, mut json) = (CopyParser::new(), Vec::new());
            while let Some(chunk) = connection.next_copy().await.map_err(|e| snapshot_error(&e))? {
                for line in chunk.rows() {
                    let row = parser.row(line).map_err(|e| snapshot_error(&e))?;
                    json.clear();
                    encoder.snapshot_row(row, &mut json);
                    writer.row(&json).map_err(|e| storage_failed(&e))?;
                }
            }
        }
        let end = snapshot_end(visibility);
        tokio::task::block_in_place(|| writer.finish(visibility, end.as_bytes()))
            .map_err(|e| storage_failed(&e))?;
        Ok(())
    }
}

/// A server whose kernel answers while it does not would hold us for ever.
async fn within<T>(query: impl Future<Output = Result<T, pg::Error>>) -> Result<T, ShapeError> {
    match tokio::time::timeout(QUERY_WAIT, query).await {
        Ok(result) => result.map_err(|error| snapshot_error(&error)),
        Err(_) => Err(ShapeError::Snapshot {
            message: "Postgres did not answer in time while the snapshot was begun".into(),
        }),
    }
}

/// Zero seconds: whoever waits tries again by itself.
fn interrupted() -> ShapeError {
    ShapeError::Unavailable { reason: "the snapshot was interrupted".into(), retry_after_s: 0 }
}

fn storage_failed(error: &storage::Error) -> ShapeError {
    tracing::error!(%error, "snapshot cannot be stored");
    ShapeError::Snapshot { message: format!("the snapshot cannot be stored: {error}") }
}

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
use crate::shapes::facade::{LiveShape, ShapeError};
use crate::shapes::index::Ticket;
use crate::shapes::registry;
use crate::streamed::unseen;

/// Everything a snapshot worker can reach.
#[derive(Clone, Debug)]
pub(crate) struct Args {
    /// Taken by the worker's first and only life.
    pub(crate) work: Arc<Mutex<Option<Work>>>,
    pub(crate) directory: Directory,
    pub(crate) chunk_bytes_max: usize,
    pub(crate) registry: registry::Mailbox,
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
            let Work { ticket, definition, handle, registered_lsn, generation } = work;
            let reading = Reading { args, definition, handle, registered_lsn, generation };
            ticket.finish(Box::pin(reading.run()).await);
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
    registered_lsn: Lsn,
    generation: u64,
}

/// Takes the shape out of the routing index unless it became a shape.
struct Registration {
    router: router::Mailbox,
    table_oid: u32,
    inbox: Option<Arc<Inbox>>,
}

impl Drop for Registration {
    fn drop(&mut self) {
        if let Some(inbox) = self.inbox.take() {
            let table_oid = self.table_oid;
            // Undelivered, it costs work but nothing else: a routed fragment
            // that nobody takes.
            let _ = self.router.send(router::Message::Unregister { table_oid, inbox });
        }
    }
}

impl Reading {
    async fn run(self) -> Result<Arc<LiveShape>, ShapeError> {
        let table = self.publish_table().await?;
        let inbox = Arc::new(Inbox::new(self.registered_lsn, consumer::Mailbox::default()));
        let table_oid = self.definition.table_oid;
        let streamed = {
            let inbox = Arc::clone(&inbox);
            let register = |reply| router::Message::Register { table_oid, inbox, reply };
            self.args.router.call(ACTOR_WAIT, register).await.map_err(|_| interrupted())?
        };
        let mut registration = Registration {
            router: self.args.router.clone(),
            table_oid,
            inbox: Some(Arc::clone(&inbox)),
        };
        let visibility = self.read(&streamed, &table).await?;
        let shape = self.show(visibility, inbox).await?;
        registration.inbox = None;
        Ok(shape)
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
    async fn read(&self, streamed: &[u32], table: &Table) -> Result<Visibility, ShapeError> {
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
        let deadline = Instant::now() + VISIBILITY_WAIT;
        let visibility = loop {
            let text = pg::snapshot::begin(connection).await.map_err(|e| snapshot_error(&e))?;
            let visibility: Visibility =
                text.parse().map_err(|_| ShapeError::Internal(format!("snapshot {text:?}")))?;
            let Some(xid) = unseen(streamed, &visibility) else { break visibility };
            if Instant::now() > deadline {
                return Err(ShapeError::Snapshot {
                    message: format!(
                        "transaction {xid} is committed but not visible yet; is a synchronous \
                         standby missing (synchronous_standby_names)?"
                    ),
                });
            }
            pg::snapshot::end(connection).await.map_err(|e| snapshot_error(&e))?;
            tokio::time::sleep(VISIBILITY_RETRY).await;
        };
        self.check_table(connection).await?;
        self.copy(connection, table, &visibility).await?;
        pg::snapshot::end(connection).await.map_err(|e| snapshot_error(&e))?;
        lease.give_back();
        Ok(visibility)
    }

    /// The name may mean another table by now.
    async fn check_table(&self, connection: &mut pg::Connection) -> Result<(), ShapeError> {
        let Definition { table_oid, schema, name, .. } = &self.definition;
        let oid = pg::splice::table_oid(connection, schema, name)
            .await
            .map_err(|e| snapshot_error(&e))?;
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

    async fn show(
        self,
        visibility: Visibility,
        inbox: Arc<Inbox>,
    ) -> Result<Arc<LiveShape>, ShapeError> {
        let Self { args, definition, handle, registered_lsn, generation } = self;
        let created_us = handle.micros().unwrap_or_default() as i64;
        let record = ShapeRecord {
            handle,
            definition,
            registered_lsn,
            snapshot: Some(visibility),
            created_us,
        };
        let publish = |reply| registry::Message::Publish {
            record: Box::new(record),
            inbox,
            generation,
            reply,
        };
        match args.registry.call(ACTOR_WAIT, publish).await {
            Ok(result) => result,
            Err(_) => Err(interrupted()),
        }
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

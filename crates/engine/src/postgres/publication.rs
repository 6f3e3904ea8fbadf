//! The publication's keeper: makes sure that a table is sent to us whole.
//!
//! Owns       the queue of tables to add; one DDL at a time.
//! Receives   tables that a new shape needs.
//! Sends      an answer once the table is published, its replica identity is
//!            full and nobody who began to write before is left (I-8).
//! Fails      never on a refusal by Postgres; that is the answer.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use change::Table;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use supervision::Task;

use super::admin_pool;
use super::inspector::checkout;
use super::trouble::snapshot_error;
use crate::config::Config;
use crate::shapes::facade::ShapeError;

/// Everything the publication's keeper can reach.
#[derive(Clone, Debug)]
pub(crate) struct Args {
    pub(crate) config: Arc<Config>,
    pub(crate) admin_pool: admin_pool::Mailbox,
}

pub(crate) type Mailbox = supervision::Mailbox<Message>;

#[derive(Clone, Debug)]
pub(crate) struct TableName {
    pub(crate) oid: u32,
    pub(crate) schema: String,
    pub(crate) name: String,
}

/// How long a table's former writers may take to end.
const WRITERS_WAIT: Duration = Duration::from_secs(25);

/// For the DDL of one table, its own lock timeouts included: a server that does
/// not answer must not hold up the tables behind it for ever.
const DDL_WAIT: Duration = Duration::from_secs(20);

type Reply = RpcReplyPort<Result<Table, ShapeError>>;

#[derive(Debug)]
pub(crate) enum Message {
    Ensure {
        table: TableName,
        reply: Reply,
    },
    /// From the task at work on the front of the queue: the table, and whether
    /// it was not published before.
    Published {
        table_oid: u32,
        result: Result<(Table, bool), ShapeError>,
    },
    /// From the task that waits for a table's former writers.
    Settled {
        table_oid: u32,
        result: Result<Table, ShapeError>,
    },
}

#[derive(Debug)]
pub(crate) struct State {
    args: Args,
    /// One DDL at a time.
    queue: VecDeque<Job>,
    /// Works on the front of the queue.
    task: Option<Task>,
    /// Waiting for writers is not DDL: a long transaction on one table delays
    /// that table alone.
    waiting: HashMap<u32, Waiting>,
    /// Their former writers have ended since this life began.
    settled: HashSet<u32>,
}

#[derive(Debug)]
struct Job {
    table: TableName,
    replies: Vec<Reply>,
}

#[derive(Debug)]
struct Waiting {
    replies: Vec<Reply>,
    _task: Task,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Publication;

impl Actor for Publication {
    type Arguments = Args;
    type Msg = Message;
    type State = State;

    async fn pre_start(
        &self,
        _myself: ActorRef<Message>,
        args: Args,
    ) -> Result<State, ActorProcessingErr> {
        Ok(State {
            args,
            queue: VecDeque::new(),
            task: None,
            waiting: HashMap::new(),
            settled: HashSet::new(),
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Ensure { table, reply } => state.enqueue(table, reply),
            Message::Published { table_oid, result } => state.published(table_oid, result, &myself),
            Message::Settled { table_oid, result } => state.settled(table_oid, &result),
        }
        state.work(&myself);
        Ok(())
    }
}

impl State {
    fn enqueue(&mut self, table: TableName, reply: Reply) {
        // The job at work may already have looked; a later one looks again.
        let busy = usize::from(self.task.is_some());
        match self.queue.iter_mut().skip(busy).find(|job| job.table.oid == table.oid) {
            Some(job) => job.replies.push(reply),
            None => self.queue.push_back(Job { table, replies: vec![reply] }),
        }
    }

    fn work(&mut self, myself: &ActorRef<Message>) {
        if self.task.is_some() {
            return;
        }
        let Some(job) = self.queue.front() else { return };
        let (args, table, owner) = (self.args.clone(), job.table.clone(), myself.clone());
        self.task = Some(supervision::task(myself, "publishing", async move {
            let publishing = tokio::time::timeout(DDL_WAIT, args.publish(&table)).await;
            let result = publishing.unwrap_or_else(|_| Err(no_answer()));
            // The task ends with its owner.
            let _ = owner.send_message(Message::Published { table_oid: table.oid, result });
        }));
    }

    fn published(
        &mut self,
        table_oid: u32,
        result: Result<(Table, bool), ShapeError>,
        myself: &ActorRef<Message>,
    ) {
        self.task = None;
        let replies = self.queue.pop_front().map(|job| job.replies).unwrap_or_default();
        match result {
            Err(error) => answer(replies, &Err(error)),
            // A table found published may have been added a moment before we
            // last died, so the first look of each life waits as well.
            Ok((table, false)) if self.settled.contains(&table_oid) => {
                answer(replies, &Ok(table));
            }
            // Those who wait now wait for all who began to write before the
            // table was published, and so for those this one must wait for.
            Ok((_, false)) if let Some(waiting) = self.waiting.get_mut(&table_oid) => {
                waiting.replies.extend(replies);
            }
            Ok((table, _)) => {
                let earlier = self.waiting.remove(&table_oid);
                let replies = earlier.into_iter().flat_map(|it| it.replies).chain(replies);
                let (args, owner) = (self.args.clone(), myself.clone());
                let task = supervision::task(myself, "waiting for writers", async move {
                    let waiting = args.wait_for_writers(&table);
                    let waited = tokio::time::timeout(WRITERS_WAIT + DDL_WAIT, waiting).await;
                    let result = waited.unwrap_or_else(|_| Err(no_answer())).map(|()| table);
                    let _ = owner.send_message(Message::Settled { table_oid, result });
                });
                let waiting = Waiting { replies: replies.collect(), _task: task };
                self.waiting.insert(table_oid, waiting);
            }
        }
    }

    fn settled(&mut self, table_oid: u32, result: &Result<Table, ShapeError>) {
        if result.is_ok() {
            self.settled.insert(table_oid);
        }
        if let Some(waiting) = self.waiting.remove(&table_oid) {
            answer(waiting.replies, result);
        }
    }
}

fn no_answer() -> ShapeError {
    ShapeError::Snapshot { message: "Postgres did not answer while a table was published".into() }
}

fn answer(replies: Vec<Reply>, result: &Result<Table, ShapeError>) {
    for reply in replies {
        // Whoever asked may have given up.
        let _ = reply.send(result.clone());
    }
}

impl Args {
    /// The table as it is, and whether the publication changed.
    async fn publish(&self, table: &TableName) -> Result<(Table, bool), ShapeError> {
        let mut lease = checkout(&self.admin_pool).await?;
        let client = lease.connection();
        let TableName { oid, schema, name } = table;
        let current = pg::catalog::table_by_oid(client, *oid).await;
        let current = current.map_err(|error| snapshot_error(&error))?;
        let Some(current) = current.filter(|now| now.schema == *schema && now.name == *name) else {
            return Err(ShapeError::SchemaChanged);
        };
        let changed = pg::publication::add_table(client, &self.config.publication, &current)
            .await
            .map_err(|error| snapshot_error(&error))?;
        lease.give_back();
        Ok((current, changed))
    }

    async fn wait_for_writers(&self, table: &Table) -> Result<(), ShapeError> {
        let mut lease = checkout(&self.admin_pool).await?;
        pg::publication::wait_for_lockers(lease.connection(), table, WRITERS_WAIT)
            .await
            .map_err(|error| snapshot_error(&error))?;
        lease.give_back();
        Ok(())
    }
}

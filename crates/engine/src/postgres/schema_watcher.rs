//! The watcher of tables: DDL leaves nothing in the stream until the next
//! change, and a table that is dropped or no longer published nothing at all,
//! so the catalog is asked.
//!
//! Owns       a timer, and the round that it begins.
//! Receives   its ticks.
//! Sends      shapes that are over to `shapes/registry`.
//! Fails      never; without an answer the next round asks again.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use change::Table;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use supervision::Task;

use super::admin_pool;
use super::inspector::checkout;
use crate::config::Config;
use crate::shapes::facade::LiveShape;
use crate::shapes::index::Index;
use crate::shapes::registry;

/// Everything the watcher can reach.
#[derive(Clone, Debug)]
pub(crate) struct Args {
    pub(crate) config: Arc<Config>,
    pub(crate) index: Arc<Index>,
    pub(crate) admin_pool: admin_pool::Mailbox,
    pub(crate) registry: registry::Mailbox,
}

pub(crate) type Mailbox = supervision::Mailbox<Message>;

#[derive(Debug)]
pub(crate) enum Message {}

#[derive(Debug)]
pub(crate) struct State {
    _rounds: Task,
}

/// A client learns at the latest so long after DDL that its shape is over.
const INTERVAL: Duration = Duration::from_secs(4);
/// For all tables together.
const ROUND_WAIT: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug)]
pub(crate) struct SchemaWatcher;

impl Actor for SchemaWatcher {
    type Arguments = Args;
    type Msg = Message;
    type State = State;

    async fn pre_start(
        &self,
        myself: ActorRef<Message>,
        args: Args,
    ) -> Result<State, ActorProcessingErr> {
        Ok(State { _rounds: supervision::task(&myself, "rounds", args.run()) })
    }
}

impl Args {
    async fn run(self) {
        loop {
            tokio::time::sleep(INTERVAL).await;
            // A server that does not answer is another actor's business.
            let _ = tokio::time::timeout(ROUND_WAIT, self.round()).await;
        }
    }

    async fn round(&self) {
        let mut by_table: HashMap<u32, Vec<Arc<LiveShape>>> = HashMap::new();
        for shape in self.index.shapes() {
            by_table.entry(shape.definition.table_oid).or_default().push(shape);
        }
        if by_table.is_empty() {
            return;
        }
        let Ok(mut lease) = checkout(&self.admin_pool).await else { return };
        let oids: Vec<u32> = by_table.keys().copied().collect();
        let publication = &self.config.publication;
        let unpublished =
            pg::publication::unpublished(lease.connection(), publication, &oids).await;
        let Ok(unpublished) = unpublished else { return };
        for (oid, shapes) in by_table {
            let Ok(table) = pg::catalog::table_by_oid(lease.connection(), oid).await else {
                return;
            };
            for shape in shapes {
                // What was taken out of the publication by hand has a gap; the
                // next request puts it back.
                if unpublished.contains(&oid) || !still_fits(&shape, table.as_ref()) {
                    let handle = shape.handle.clone();
                    let remove = registry::Message::Remove { handle, reply: None };
                    // Undelivered, the next round asks again.
                    let _ = self.registry.send(remove);
                }
            }
        }
        lease.give_back();
    }
}

/// Whether the shape is still about this table. Nullability makes no new shape,
/// but shows in the schema header.
fn still_fits(shape: &LiveShape, table: Option<&Table>) -> bool {
    let Some(table) = table else { return false };
    match shape.definition.renewed(table) {
        Ok(now) if now.same_structure(&shape.definition) => {
            *shape.schema_header.lock() = now.schema_header().into();
            true
        }
        Ok(_) | Err(_) => false,
    }
}

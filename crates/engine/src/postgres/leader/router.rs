//! The router: which changes concern a shape, and whom they wake.
//!
//! Owns       nothing that is lost with it; the routing index and the list of
//!            streamed transactions are kept beside it.
//! Receives   decoded fragments from `postgres/leader/replication`, and shapes
//!            that come and go.
//! Sends      what concerns a shape to `store/journal`, in commit order.
//! Fails      never by itself. With it the session restarts, and Postgres
//!            sends again what the journal lacks.

use std::sync::Arc;
use std::time::Duration;

use change::{Fragment, Lsn};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use supervision::Task;
use tokio::sync::OwnedSemaphorePermit;

use crate::inbox::Inbox;
use crate::postgres::admin_pool;
use crate::postgres::inspector::checkout;
use crate::routing::{Routing, Targets};
use crate::store::journal::{Batch, Door, Routed};
use crate::streamed::Streamed;

/// Everything the router can reach.
#[derive(Clone, Debug)]
pub(crate) struct Args {
    pub(crate) door: Door,
    pub(crate) routing: Arc<Routing>,
    pub(crate) streamed: Arc<Streamed>,
    pub(crate) admin_pool: admin_pool::Mailbox,
}

pub(crate) type Mailbox = supervision::Mailbox<Message>;

#[derive(Debug)]
pub(crate) enum Message {
    /// What one read of the socket gave.
    Route(Incoming),
    /// Routes a table's changes to a shape from here on. Answers with the
    /// transactions that began to pass before and may not be visible yet.
    Register {
        table_oid: u32,
        inbox: Arc<Inbox>,
        reply: RpcReplyPort<Vec<u32>>,
    },
    Unregister {
        table_oid: u32,
        inbox: Arc<Inbox>,
    },
}

#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) session: u64,
    pub(crate) fragments: Vec<Fragment>,
    /// The stream is here and between transactions.
    pub(crate) reached_lsn: Option<Lsn>,
    /// Its bytes' share of the buffer; travels on with them.
    pub(crate) permit: Option<OwnedSemaphorePermit>,
}

#[derive(Debug)]
pub(crate) struct State {
    args: Args,
    _pruning: Task,
}

/// How often streamed transactions are compared with what is visible. It keeps
/// the list short; nothing waits for it.
const PRUNE_INTERVAL: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug)]
pub(crate) struct Router;

impl Actor for Router {
    type Arguments = Args;
    type Msg = Message;
    type State = State;

    async fn pre_start(
        &self,
        myself: ActorRef<Message>,
        args: Args,
    ) -> Result<State, ActorProcessingErr> {
        let pruning = supervision::task(&myself, "pruning", prune(args.clone()));
        Ok(State { args, _pruning: pruning })
    }

    async fn handle(
        &self,
        _myself: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Route(incoming) => state.args.route(incoming),
            Message::Register { table_oid, inbox, reply } => {
                state.args.routing.add(table_oid, &inbox);
                // Whoever asked may have been killed; it unregisters by Drop.
                let _ = reply.send(state.args.streamed.list());
            }
            Message::Unregister { table_oid, inbox } => {
                state.args.routing.remove(table_oid, &inbox);
            }
        }
        Ok(())
    }
}

impl Args {
    fn route(&self, incoming: Incoming) {
        let Incoming { session, fragments, reached_lsn, permit } = incoming;
        let fragments = fragments.into_iter().map(|fragment| self.concerned(fragment)).collect();
        // Closed: the session sees by itself that the journal went away.
        let _ = self.door.append(Batch { session, fragments, reached_lsn, permit });
    }

    /// Drops the changes that no shape is about.
    fn concerned(&self, mut fragment: Fragment) -> Routed {
        if fragment.first {
            self.streamed.add(fragment.xid);
        }
        // Changes of one table come in runs.
        let mut last: Option<(u32, bool)> = None;
        let mut targets: Vec<Targets> = Vec::new();
        fragment.changes.retain(|change| {
            let oid = change.relation.oid;
            if let Some((known, keep)) = last
                && known == oid
            {
                return keep;
            }
            let found = self.routing.targets(oid);
            let keep = found.is_some();
            last = Some((oid, keep));
            if let Some(found) = found
                && !targets.iter().any(|have| Arc::ptr_eq(have, &found))
            {
                targets.push(found);
            }
            keep
        });
        Routed { fragment, targets }
    }
}

async fn prune(args: Args) {
    loop {
        tokio::time::sleep(PRUNE_INTERVAL).await;
        if args.streamed.list().is_empty() {
            continue;
        }
        // Without an answer the list is pruned another time.
        let Ok(mut lease) = checkout(&args.admin_pool).await else { continue };
        let bounds = pg::splice::current_snapshot(lease.connection());
        if let Ok(Ok(text)) = tokio::time::timeout(PRUNE_INTERVAL, bounds).await
            && let Ok(visibility) = text.parse()
        {
            args.streamed.prune(&visibility);
            lease.give_back();
        }
    }
}

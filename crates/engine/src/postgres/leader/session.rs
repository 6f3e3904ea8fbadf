//! One replication session: from the connection to its end.
//!
//! Identify → compare with what the journal holds → slot, new if need be →
//! stream. The session carries a number that the journal gave out; when the
//! journal, the lock or the network goes, the number is void and Postgres sends
//! again what the journal lacks (invariant I-3).

use std::sync::Arc;
use std::time::Duration;

use change::Lsn;
use pg::Condition;
use pg::replication::{Event, Receiver, Sender};
use storage::{CatalogChange, Position, Source};
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};

use super::replication::{Args, Backoff};
use super::router;
use crate::facts::LockState;
use crate::postgres::inspector::checkout;
use crate::shapes::registry;
use crate::store::catalog;

/// Why a session ended.
#[derive(Debug)]
pub(super) enum End {
    Failed(pg::Error),
    /// The lock, the journal or the router went; not an error of this one.
    Elsewhere(&'static str),
}

impl From<pg::Error> for End {
    fn from(error: pg::Error) -> Self {
        Self::Failed(error)
    }
}

/// Postgres hears from us at least so often, whatever happens behind.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);
/// We ask for an answer with every status, so a silence of this length means
/// that the path is dead.
const SILENCE_MAX: Duration = Duration::from_secs(10);
const ACTOR_WAIT: Duration = Duration::from_secs(30);
/// A stream that has lived so long counts as a success.
const LIVED: Duration = Duration::from_secs(5);
/// A slot may be held by our own former connection for a moment.
const SLOT_RETRY: Duration = Duration::from_millis(10);
const SLOT_WAIT: Duration = Duration::from_secs(2);
/// Postgres' text protocol of logical replication without streaming of
/// transactions in progress.
const PROTO_VERSION: u32 = 1;

pub(super) async fn run(args: &Args, backoff: &mut Backoff) -> End {
    match open(args).await {
        Err(end) => end,
        Ok((number, receiver, sender)) => {
            args.leader.update(|leader| {
                leader.session = number;
                leader.trouble = None;
            });
            tracing::info!(session = number, "streaming");
            let since = Instant::now();
            let end = stream(args, number, receiver, sender).await;
            if since.elapsed() > LIVED {
                backoff.reset();
            }
            end
        }
    }
}

async fn open(args: &Args) -> Result<(u64, Receiver, Sender), End> {
    let config = &args.config;
    let settings = pg::Session {
        application_name: "leyden replication".into(),
        replication: true,
        // A frozen holder of the slot is found out in about a second.
        settings: vec![("wal_sender_timeout".into(), "5s".into())],
    };
    let mut connection = pg::dial(&config.database, &settings).await?;
    let identity = pg::session::identify_system(&mut connection).await?;
    let mut lease = match checkout(&args.admin_pool).await {
        Ok(lease) => lease,
        Err(_) => return Err(End::Elsewhere("no connection for queries")),
    };
    let client = lease.connection();
    let facts = pg::session::server_facts(client).await?;
    facts.check()?;
    let published = pg::publication::check_publication(client, &config.publication).await?;
    for xid in pg::splice::stalled_commits(&mut connection).await? {
        args.streamed.add(xid);
    }
    let (_, position) = journal_position(args).await?;
    let slot = pg::slot::slot_state(client, &config.slot).await?;
    let source = Source {
        system_id: identity.system_id,
        timeline: identity.timeline,
        slot: config.slot.clone(),
        publication: config.publication.clone(),
    };
    let former = former_source(args).await?;
    let why = match (&slot, published) {
        // The server looks a publication up as of the WAL it reads, so a slot
        // from before a new one is of no use.
        (_, false) => Some("the publication is missing".to_owned()),
        (None, true) => Some("the replication slot is missing".to_owned()),
        (Some(slot), true) => {
            continuity(former.as_ref(), &source, slot, position, identity.wal_end)
        }
    };
    if let Some(why) = why {
        tracing::info!(slot = config.slot, why, "making a new replication slot");
        // In this order, so that whatever ends it, the next session finds
        // publication or slot missing and begins again.
        remove_all(args, &why).await?;
        pg::slot::drop_slot(client, &config.slot).await?;
        let (name, version_num) = (&config.publication, facts.version_num);
        pg::publication::ensure_publication(client, name, version_num).await?;
        begin_source(args, &mut connection, source, &why).await?;
    }
    lease.give_back();
    let (number, position) = journal_position(args).await?;
    let (receiver, sender) = start(args, connection, &settings, position.ack_lsn).await?;
    Ok((number, receiver, sender))
}

/// Whether what the slot will send follows on what the journal holds
/// (architecture §3, start-of-session check). `None`: it does.
fn continuity(
    former: Option<&Source>,
    source: &Source,
    slot: &pg::slot::SlotState,
    position: Position,
    wal_end: Lsn,
) -> Option<String> {
    let Some(former) = former else {
        return Some("the slot is not known to this storage directory".into());
    };
    if (former.system_id, former.timeline) != (source.system_id, source.timeline) {
        return Some("this is another database server, or another timeline".into());
    }
    if former.slot != source.slot || former.publication != source.publication {
        return Some("another slot or publication is configured".into());
    }
    if slot.wal_status.as_deref() == Some("lost") {
        return Some("the server has removed WAL that the slot needed (wal_status lost)".into());
    }
    let confirmed_lsn = slot.confirmed_flush.unwrap_or_default();
    if confirmed_lsn > position.ack_lsn {
        return Some(format!(
            "the slot was advanced to {confirmed_lsn} by somebody else; the journal ends at {}",
            position.ack_lsn
        ));
    }
    if wal_end < position.ack_lsn {
        return Some(format!(
            "the server has gone back in time: its WAL ends at {wal_end}, the journal at {}",
            position.ack_lsn
        ));
    }
    None
}

/// A new slot begins where it is made, so every shape from before ends.
async fn begin_source(
    args: &Args,
    connection: &mut pg::Connection,
    source: Source,
    why: &str,
) -> Result<(), End> {
    let start_lsn = pg::slot::create_slot(connection, &args.config.slot).await?;
    args.door.reset(start_lsn).await.map_err(|_| End::Elsewhere("the journal restarts"))?;
    // Once more: what a snapshot finished meanwhile belongs to the old slot.
    remove_all(args, why).await?;
    let changes = vec![CatalogChange::Source(source)];
    let apply = |reply| catalog::Message::Apply { changes, reply };
    let applied = args.catalog.call(ACTOR_WAIT, apply).await;
    applied.map_err(|_| End::Elsewhere("the catalog restarts"))
}

async fn remove_all(args: &Args, why: &str) -> Result<(), End> {
    let why = why.to_owned();
    let remove = |reply| registry::Message::RemoveAll { why, reply };
    let removed = args.registry.call(ACTOR_WAIT, remove).await;
    removed.map_err(|_| End::Elsewhere("the registry restarts"))
}

async fn former_source(args: &Args) -> Result<Option<Source>, End> {
    let load = |reply| catalog::Message::Source { reply };
    let source = args.catalog.call(ACTOR_WAIT, load).await;
    source.map_err(|_| End::Elsewhere("the catalog restarts"))
}

async fn journal_position(args: &Args) -> Result<(u64, Position), End> {
    args.door.open_session().await.map_err(|_| End::Elsewhere("the journal restarts"))
}

/// Our own former connection may still hold the slot: the server notices its
/// end a little later than we do.
async fn start(
    args: &Args,
    connection: pg::Connection,
    settings: &pg::Session,
    start_lsn: Lsn,
) -> Result<(Receiver, Sender), End> {
    let pg_config = &args.config;
    let deadline = Instant::now() + SLOT_WAIT;
    let mut connection = connection;
    loop {
        let started = pg::replication::start(
            connection,
            &pg_config.slot,
            &pg_config.publication,
            start_lsn,
            PROTO_VERSION,
        );
        match started.await {
            Ok(halves) => return Ok(halves),
            Err(error)
                if error.condition() == Some(Condition::SlotInUse) && Instant::now() < deadline =>
            {
                tokio::time::sleep(SLOT_RETRY).await;
                connection = pg::dial(&pg_config.database, settings).await?;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Runs both directions until one ends, or something it stands on does.
async fn stream(args: &Args, number: u64, receiver: Receiver, sender: Sender) -> End {
    let asked = Arc::new(Notify::new());
    tokio::select! {
        end = receive(args, number, receiver, Arc::clone(&asked)) => end,
        end = report(args, sender, &asked) => end,
        end = watch(args, number) => end,
    }
}

async fn receive(args: &Args, number: u64, mut receiver: Receiver, asked: Arc<Notify>) -> End {
    let buffered_bytes_max = args.config.buffered_bytes_max;
    let buffer = Arc::new(Semaphore::new(buffered_bytes_max));
    loop {
        let events = match timeout(SILENCE_MAX, receiver.recv()).await {
            Err(_) => return End::Failed(pg::Error::Closed),
            Ok(Err(error)) => return error.into(),
            Ok(Ok(events)) => events,
        };
        let mut incoming = router::Incoming {
            session: number,
            fragments: Vec::new(),
            reached_lsn: None,
            permit: None,
        };
        let mut byte_count = 0;
        for event in events {
            match event {
                Event::Fragment(fragment) => {
                    byte_count += fragment.byte_count;
                    incoming.reached_lsn = None;
                    incoming.fragments.push(fragment);
                }
                Event::KeepAlive { wal_end, reply_requested, in_transaction } => {
                    if !in_transaction {
                        incoming.reached_lsn = Some(wal_end);
                    }
                    if reply_requested {
                        asked.notify_one();
                    }
                }
            }
        }
        let share = byte_count.min(buffered_bytes_max) as u32;
        // The semaphore is never closed.
        incoming.permit = Arc::clone(&buffer).acquire_many_owned(share).await.ok();
        if args.router.send(router::Message::Route(incoming)).is_err() {
            return End::Elsewhere("the router restarts");
        }
    }
}

/// Status updates, by a timer that nothing else can stop.
async fn report(args: &Args, mut sender: Sender, asked: &Notify) -> End {
    let mut journal = args.journal.watch();
    let mut next = Instant::now();
    let mut reported_lsn = Lsn::ZERO;
    loop {
        let due = timeout_at(next, async {
            tokio::select! {
                () = asked.notified() => {}
                _ = journal.wait_for(|facts| facts.ack_lsn > reported_lsn) => {}
            }
        });
        let timer = due.await.is_err();
        let ack_lsn = journal.borrow_and_update().ack_lsn;
        // Only the timer asks back, or each answer would ask for another.
        if let Err(error) = sender.status(ack_lsn, ack_lsn, timer).await {
            return error.into();
        }
        reported_lsn = ack_lsn;
        if timer {
            next = Instant::now() + STATUS_INTERVAL;
        }
    }
}

/// Returns when the session's number is void.
async fn watch(args: &Args, number: u64) -> End {
    let (mut journal, mut leader) = (args.journal.watch(), args.leader.watch());
    tokio::select! {
        _ = journal.wait_for(|facts| facts.session != number) => {
            End::Elsewhere("the journal restarts")
        }
        _ = leader.wait_for(|leader| leader.lock != LockState::Held) => {
            End::Elsewhere("the lock is lost")
        }
    }
}

//! The actors of Leyden and their tree.
//!
//! The folders are the tree: a supervisor is a folder's `mod.rs`, an actor a
//! file of its own name. What is not an actor is shared between them and
//! outlives their restarts: `facts` (what is published), `inbox`, `routing`,
//! `streamed`, `shapes/index`.

mod config;
mod facts;
mod inbox;
mod postgres;
mod routing;
mod shapes;
mod store;
mod streamed;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use storage::Directory;
use supervision::{Dynamic, Node};

pub use config::Config;
pub use facts::Trouble;
pub use shapes::facade::{
    Health, HealthState, Level, LiveShape, NotReady, ShapeError, ShapeRequest, Shapes, Tail,
};

use facts::{Fact, JournalFacts, LeaderFacts};
use postgres::leader::{lock_connection, replication, router};
use postgres::{admin_pool, publication, schema_watcher, snapshot_pool};
use routing::Routing;
use shapes::index::Index;
use shapes::registry;
use store::journal::Door;
use store::{catalog, cleaner, compactor, journal};
use streamed::Streamed;

/// A supervisor whose limit is exceeded waits so long and goes on: the root
/// never gives up (architecture §5.4).
const COOL_DOWN: Duration = Duration::from_secs(5);

/// What the rest of the process may reach.
#[derive(Clone, Debug)]
pub struct Engine {
    pub shapes: Shapes,
    pub health: Health,
}

/// Opens the storage directory and describes the engine's part of the tree,
/// consumers of data before producers.
///
/// # Errors
/// The directory cannot be used: another process has it, it is of another
/// format, or it cannot be written. Nothing in it has been changed then.
pub fn build(config: Config) -> Result<(Vec<Node>, Engine), storage::Error> {
    let directory = Directory::open(&config.storage_dir)?;
    let wiring = Wiring::new(config, directory);
    let engine = Engine {
        shapes: Shapes {
            index: wiring.index.clone(),
            registry: wiring.registry.clone(),
            inspector: postgres::inspector::Inspector { admin_pool: wiring.admin_pool.clone() },
            journal: wiring.journal.clone(),
            leader: wiring.leader.clone(),
            loaded: wiring.loaded.clone(),
        },
        health: Health { leader: wiring.leader.clone(), loaded: wiring.loaded.clone() },
    };
    let nodes = vec![store::tree(&wiring), shapes::tree(&wiring), postgres::tree(&wiring)];
    Ok((nodes, engine))
}

/// Every address and every fact, made before any actor starts, so that wiring
/// does not depend on the order of starts and survives restarts.
#[derive(Debug)]
struct Wiring {
    config: Arc<Config>,
    directory: Directory,

    journal: Fact<JournalFacts>,
    leader: Fact<LeaderFacts>,
    loaded: Fact<bool>,
    generation: Arc<AtomicU64>,
    index: Arc<Index>,
    routing: Arc<Routing>,
    streamed: Arc<Streamed>,

    journal_door: Door,
    journal_mailbox: journal::Mailbox,
    catalog: catalog::Mailbox,
    cleaner: cleaner::Mailbox,
    compactor: compactor::Mailbox,
    registry: registry::Mailbox,
    consumers: Dynamic,
    snapshots: Dynamic,
    lock_connection: lock_connection::Mailbox,
    router: router::Mailbox,
    replication: replication::Mailbox,
    admin_pool: admin_pool::Mailbox,
    snapshot_pool: snapshot_pool::Mailbox,
    publication: publication::Mailbox,
    schema_watcher: schema_watcher::Mailbox,
}

impl Wiring {
    fn new(config: Config, directory: Directory) -> Self {
        Self {
            config: Arc::new(config),
            directory,
            journal: Fact::default(),
            leader: Fact::default(),
            loaded: Fact::default(),
            generation: Arc::default(),
            index: Arc::default(),
            routing: Arc::default(),
            streamed: Arc::default(),
            journal_door: Door::default(),
            journal_mailbox: journal::Mailbox::default(),
            catalog: catalog::Mailbox::default(),
            cleaner: cleaner::Mailbox::default(),
            compactor: compactor::Mailbox::default(),
            registry: registry::Mailbox::default(),
            consumers: Dynamic::default(),
            snapshots: Dynamic::default(),
            lock_connection: lock_connection::Mailbox::default(),
            router: router::Mailbox::default(),
            replication: replication::Mailbox::default(),
            admin_pool: admin_pool::Mailbox::default(),
            snapshot_pool: snapshot_pool::Mailbox::default(),
            publication: publication::Mailbox::default(),
            schema_watcher: schema_watcher::Mailbox::default(),
        }
    }
}

//! Everything between Leyden and Postgres. Losing Postgres restarts nothing
//! here: a connection is a state of an actor, not its lifetime.

pub(crate) mod admin_pool;
pub(crate) mod inspector;
pub(crate) mod leader;
pub(crate) mod pool;
pub(crate) mod publication;
pub(crate) mod schema_watcher;
pub(crate) mod snapshot_pool;
pub(crate) mod trouble;

use std::time::Duration;

use supervision::{Intensity, Node, Restart, Shutdown, Strategy, supervisor, worker};

use crate::Wiring;

const INTENSITY: Intensity = Intensity { restarts: 20, period: Duration::from_secs(10) };

pub(crate) fn tree(wiring: &Wiring) -> Node {
    let database = &wiring.config.database;
    let for_admin_pool = admin_pool::Args {
        connect: admin_pool::Admin { database: database.clone() },
        size: wiring.config.admin_pool_size,
    };
    let for_snapshot_pool = snapshot_pool::Args {
        connect: snapshot_pool::Snapshots { database: database.clone() },
        size: wiring.config.snapshot_pool_size,
    };
    let for_publication =
        publication::Args { config: wiring.config.clone(), admin_pool: wiring.admin_pool.clone() };
    let for_schema_watcher = schema_watcher::Args {
        config: wiring.config.clone(),
        index: wiring.index.clone(),
        admin_pool: wiring.admin_pool.clone(),
        registry: wiring.registry.clone(),
    };
    let children = [
        leader::tree(wiring),
        worker(
            "admin-pool",
            Restart::Permanent,
            Shutdown::BrutalKill,
            &wiring.admin_pool,
            admin_pool::AdminPool::default(),
            for_admin_pool,
        ),
        worker(
            "snapshot-pool",
            Restart::Permanent,
            Shutdown::BrutalKill,
            &wiring.snapshot_pool,
            snapshot_pool::SnapshotPool::default(),
            for_snapshot_pool,
        ),
        worker(
            "publication",
            Restart::Permanent,
            Shutdown::BrutalKill,
            &wiring.publication,
            publication::Publication,
            for_publication,
        ),
        worker(
            "schema-watcher",
            Restart::Permanent,
            Shutdown::BrutalKill,
            &wiring.schema_watcher,
            schema_watcher::SchemaWatcher,
            for_schema_watcher,
        ),
    ];
    supervisor("postgres", Strategy::OneForOne, INTENSITY, children).cool_down(crate::COOL_DOWN)
}

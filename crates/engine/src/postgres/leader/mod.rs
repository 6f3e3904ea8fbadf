//! The one instance that reads the slot: the lock, then the router, then the
//! stream that feeds it. Each restarts what comes after it.

pub(crate) mod lock_connection;
pub(crate) mod replication;
pub(crate) mod router;
mod session;

use std::time::Duration;

use supervision::{Intensity, Node, Restart, Shutdown, Strategy, supervisor, worker};

use crate::Wiring;

const INTENSITY: Intensity = Intensity { restarts: 20, period: Duration::from_secs(10) };

pub(crate) fn tree(wiring: &Wiring) -> Node {
    let for_lock =
        lock_connection::Args { config: wiring.config.clone(), leader: wiring.leader.clone() };
    let for_router = router::Args {
        door: wiring.journal_door.clone(),
        routing: wiring.routing.clone(),
        streamed: wiring.streamed.clone(),
        admin_pool: wiring.admin_pool.clone(),
    };
    let for_replication = replication::Args {
        config: wiring.config.clone(),
        leader: wiring.leader.clone(),
        journal: wiring.journal.clone(),
        door: wiring.journal_door.clone(),
        router: wiring.router.clone(),
        registry: wiring.registry.clone(),
        catalog: wiring.catalog.clone(),
        admin_pool: wiring.admin_pool.clone(),
        loaded: wiring.loaded.clone(),
        streamed: wiring.streamed.clone(),
    };
    let children = [
        worker(
            "lock-connection",
            Restart::Permanent,
            Shutdown::BrutalKill,
            &wiring.lock_connection,
            lock_connection::LockConnection,
            for_lock,
        ),
        worker(
            "router",
            Restart::Permanent,
            Shutdown::BrutalKill,
            &wiring.router,
            router::Router,
            for_router,
        ),
        worker(
            "replication",
            Restart::Permanent,
            Shutdown::Timeout(Duration::from_millis(200)),
            &wiring.replication,
            replication::Replication,
            for_replication,
        ),
    ];
    supervisor("leader", Strategy::RestForOne, INTENSITY, children).cool_down(crate::COOL_DOWN)
}

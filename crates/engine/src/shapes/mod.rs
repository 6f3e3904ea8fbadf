//! The shapes: who may be read, who writes each log, who reads the first rows.

pub(crate) mod consumers;
pub(crate) mod facade;
pub(crate) mod index;
pub(crate) mod registry;
pub(crate) mod snapshots;

use std::time::Duration;

use supervision::{Intensity, Node, Restart, Shutdown, Strategy, dynamic, supervisor, worker};

use crate::Wiring;

const INTENSITY: Intensity = Intensity { restarts: 5, period: Duration::from_secs(10) };
/// Over all shapes: one bad shape is stopped by its own limit (poison), so this
/// only has to be high enough for a thousand shapes that fail together.
const CHILDREN_INTENSITY: Intensity =
    Intensity { restarts: 10_000, period: Duration::from_secs(10) };

pub(crate) fn tree(wiring: &Wiring) -> Node {
    let for_registry = registry::Args {
        directory: wiring.directory.clone(),
        config: wiring.config.clone(),
        index: wiring.index.clone(),
        loaded: wiring.loaded.clone(),
        journal: wiring.journal.clone(),
        leader: wiring.leader.clone(),
        generation: wiring.generation.clone(),
        catalog: wiring.catalog.clone(),
        cleaner: wiring.cleaner.clone(),
        router: wiring.router.clone(),
        routing: wiring.routing.clone(),
        publication: wiring.publication.clone(),
        snapshot_pool: wiring.snapshot_pool.clone(),
        consumers: wiring.consumers.clone(),
        snapshots: wiring.snapshots.clone(),
        registry: wiring.registry.clone(),
    };
    let children = [
        worker(
            "registry",
            Restart::Permanent,
            Shutdown::Timeout(Duration::from_millis(100)),
            &wiring.registry,
            registry::Registry,
            for_registry,
        ),
        dynamic("consumers", CHILDREN_INTENSITY, &wiring.consumers).cool_down(crate::COOL_DOWN),
        dynamic("snapshots", CHILDREN_INTENSITY, &wiring.snapshots).cool_down(crate::COOL_DOWN),
    ];
    supervisor("shapes", Strategy::OneForOne, INTENSITY, children).cool_down(crate::COOL_DOWN)
}

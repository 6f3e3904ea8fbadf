//! One worker per snapshot that is being read.

pub(crate) mod snapshot;

use std::sync::Arc;

use parking_lot::Mutex;
use supervision::{Node, Restart, Shutdown, worker};

use super::registry;

/// A snapshot's child spec. Temporary: a killed one is not started again, its
/// waiters ask for a new one.
pub(crate) fn node(work: snapshot::Work, registry: &registry::Args) -> Node {
    let id = work.handle.to_string();
    let args = snapshot::Args {
        work: Arc::new(Mutex::new(Some(work))),
        directory: registry.directory.clone(),
        chunk_bytes_max: registry.config.chunk_bytes_max,
        registry: registry.registry.clone(),
        cleaner: registry.cleaner.clone(),
        router: registry.router.clone(),
        publication: registry.publication.clone(),
        snapshot_pool: registry.snapshot_pool.clone(),
    };
    let mailbox = snapshot::Mailbox::default();
    worker(id, Restart::Temporary, Shutdown::BrutalKill, &mailbox, snapshot::Snapshot, args)
}

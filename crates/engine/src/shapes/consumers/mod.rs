//! One consumer per live shape, started by the registry.

pub(crate) mod consumer;

use std::sync::Arc;

use supervision::{Node, Restart, Shutdown, worker};

use super::facade::LiveShape;
use super::registry;

/// A consumer's child spec. Transient: it ends normally when its shape is gone.
pub(crate) fn node(shape: &Arc<LiveShape>, registry: &registry::Args) -> Node {
    let args = consumer::Args {
        shape: Arc::clone(shape),
        directory: registry.directory.clone(),
        registry: registry.registry.clone(),
        attempts: Arc::default(),
    };
    worker(
        shape.handle.as_ref(),
        Restart::Transient,
        Shutdown::BrutalKill,
        shape.inbox.consumer(),
        consumer::Consumer,
        args,
    )
}

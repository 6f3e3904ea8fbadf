//! The root of the tree, over the engine and the HTTP edge.
//!
//! It never gives up: past its intensity a failed part cools down and is
//! started again, so that what is on disk stays readable. Consumers of data
//! come before producers, as everywhere in the tree.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use supervision::{Intensity, Node, Root, Strategy, supervisor};

use crate::control;
use crate::settings::Settings;

const INTENSITY: Intensity = Intensity::new(20, Duration::from_secs(10));
const COOL_DOWN: Duration = Duration::from_secs(5);

/// The running tree, for those that are made before it: empty until it runs.
pub(crate) type Running = Arc<OnceLock<Root>>;

/// Opens the storage directory and describes everything that will run.
pub(crate) fn describe(
    settings: Settings,
    running: &Running,
) -> Result<(Node, engine::Engine), storage::Error> {
    let (mut nodes, engine) = engine::build(settings.engine)?;
    let mut api = settings.api;
    if settings.is_testing {
        let routes = control::routes("/_test", Arc::clone(running));
        api.extra = Some(api.extra.unwrap_or_default().merge(routes));
    }
    nodes.push(api::edge(api, engine.shapes.clone(), engine.health.clone()));
    let root = supervisor("leyden", Strategy::OneForOne, INTENSITY, nodes).cool_down(COOL_DOWN);
    Ok((root, engine))
}

//! What must not be lost. Consumers come before producers: nothing is read
//! from Postgres before its journal is there.

pub(crate) mod catalog;
pub(crate) mod cleaner;
pub(crate) mod compactor;
pub(crate) mod journal;

use std::sync::Arc;
use std::time::Duration;

use supervision::{Intensity, Node, Restart, Shutdown, Strategy, supervisor, worker};

use crate::Wiring;

const INTENSITY: Intensity = Intensity { restarts: 3, period: Duration::from_secs(30) };

pub(crate) fn tree(wiring: &Wiring) -> Node {
    let for_journal = journal::Args {
        directory: wiring.directory.clone(),
        segment_bytes: wiring.config.journal_segment_bytes,
        door: wiring.journal_door.clone(),
        facts: wiring.journal.clone(),
        routing: wiring.routing.clone(),
        turn: Arc::default(),
    };
    let for_catalog = catalog::Args { directory: wiring.directory.clone() };
    let for_cleaner =
        cleaner::Args { directory: wiring.directory.clone(), catalog: wiring.catalog.clone() };
    let for_compactor = compactor::Args {
        index: wiring.index.clone(),
        door: wiring.journal_door.clone(),
        facts: wiring.journal.clone(),
        loaded: wiring.loaded.clone(),
    };
    let children = [
        worker(
            "journal",
            Restart::Permanent,
            Shutdown::Timeout(Duration::from_secs(2)),
            &wiring.journal_mailbox,
            journal::Journal,
            for_journal,
        ),
        worker(
            "catalog",
            Restart::Permanent,
            Shutdown::Timeout(Duration::from_secs(1)),
            &wiring.catalog,
            catalog::Catalog,
            for_catalog,
        ),
        worker(
            "cleaner",
            Restart::Transient,
            Shutdown::BrutalKill,
            &wiring.cleaner,
            cleaner::Cleaner,
            for_cleaner,
        ),
        worker(
            "compactor",
            Restart::Transient,
            Shutdown::BrutalKill,
            &wiring.compactor,
            compactor::Compactor,
            for_compactor,
        ),
    ];
    supervisor("store", Strategy::RestForOne, INTENSITY, children).cool_down(crate::COOL_DOWN)
}

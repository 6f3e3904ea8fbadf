//! Which shapes a table's changes concern.
//!
//! Read by the router for every batch. It is kept outside the actor, so that a
//! restart of the router forgets no shape. A shape that is being made enters
//! through the router, so that it knows what had passed before; others come
//! and go directly. It decides who wakes, never what is true: a consumer judges
//! by itself.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::inbox::Inbox;

pub(crate) type Targets = Arc<[Arc<Inbox>]>;

#[derive(Debug, Default)]
pub(crate) struct Routing {
    by_table: ArcSwap<HashMap<u32, Targets>>,
}

impl Routing {
    /// The shapes on a table; `None` when there are none.
    pub(crate) fn targets(&self, table_oid: u32) -> Option<Targets> {
        self.by_table.load().get(&table_oid).cloned()
    }

    pub(crate) fn add(&self, table_oid: u32, inbox: &Arc<Inbox>) {
        self.by_table.rcu(|tables| {
            let mut tables = HashMap::clone(tables);
            let old = tables.get(&table_oid).into_iter().flat_map(|targets| targets.iter());
            let others = old.filter(|have| !Arc::ptr_eq(have, inbox));
            let targets = others.chain([inbox]).cloned().collect();
            tables.insert(table_oid, targets);
            tables
        });
    }

    pub(crate) fn remove(&self, table_oid: u32, inbox: &Arc<Inbox>) {
        self.by_table.rcu(|tables| {
            let mut tables = HashMap::clone(tables);
            let old = tables.remove(&table_oid).unwrap_or_else(|| Arc::new([]));
            let rest: Targets =
                old.iter().filter(|have| !Arc::ptr_eq(have, inbox)).cloned().collect();
            if !rest.is_empty() {
                tables.insert(table_oid, rest);
            }
            tables
        });
    }

    /// Sends every consumer to the journal's files: deliveries may have been lost.
    pub(crate) fn fall_back(&self) {
        for inbox in self.by_table.load().values().flat_map(|targets| targets.iter()) {
            inbox.fall_back();
            inbox.wake();
        }
    }
}

//! What actors publish for others to watch.
//!
//! Data moves down the tree; what goes back up is a watched number (idea 3 of
//! ARCHITECTURE.md). A fact outlives its author: while an actor restarts, its
//! last word stands.

use change::Lsn;
use tokio::sync::watch;

/// How far the journal has come. Written by `store/journal` alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct JournalFacts {
    /// The session whose transactions are accepted. 0 when there is none, and
    /// again after every restart of the journal: the stream must be reopened.
    pub(crate) session: u64,
    /// Commit LSN of the last durable transaction.
    pub(crate) durable_lsn: Lsn,
    /// The only position ever confirmed to Postgres (invariant I-1).
    pub(crate) ack_lsn: Lsn,
    /// Every transaction up to here is in the inbox of each shape that it
    /// concerns, or irrelevant. Not durable when idle, so never confirmed.
    pub(crate) dispatched_lsn: Lsn,
    /// The journal has been opened and may be read.
    pub(crate) open: bool,
}

/// Where the connection to Postgres stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LeaderFacts {
    pub(crate) lock: LockState,
    /// The replication session that streams at present, 0 when none does.
    pub(crate) session: u64,
    /// Why it does not stream, for operators; `None` once it does.
    pub(crate) trouble: Option<Trouble>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum LockState {
    #[default]
    Connecting,
    /// Another instance holds the lock; its server process id where visible.
    Waiting,
    Held,
}

/// Something between Leyden and Postgres that an operator may want to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Stable, for alerts.
    pub code: &'static str,
    /// One sentence: the cause and the remedy.
    pub sentence: String,
    /// It does not heal without an operator.
    pub blocked: bool,
}

/// Both ends of a watched fact, kept apart from any actor's life.
#[derive(Clone, Debug)]
pub(crate) struct Fact<T>(watch::Sender<T>);

impl<T: Default> Default for Fact<T> {
    fn default() -> Self {
        Self(watch::Sender::new(T::default()))
    }
}

impl<T: Clone + PartialEq> Fact<T> {
    pub(crate) fn get(&self) -> T {
        self.0.borrow().clone()
    }

    pub(crate) fn watch(&self) -> watch::Receiver<T> {
        self.0.subscribe()
    }

    /// Changes the fact; watchers wake only if it is another one afterwards.
    pub(crate) fn update(&self, change: impl FnOnce(&mut T)) {
        self.0.send_if_modified(|value| {
            let before = value.clone();
            change(value);
            *value != before
        });
    }
}

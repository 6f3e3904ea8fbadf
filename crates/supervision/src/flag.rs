//! A fact that becomes true once and can be waited for by many.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

#[derive(Debug, Default)]
pub(crate) struct Flag {
    is_set: AtomicBool,
    waiters: Notify,
}

impl Flag {
    pub(crate) fn set(&self) {
        self.is_set.store(true, Ordering::SeqCst);
        self.waiters.notify_waiters();
    }

    pub(crate) fn is_set(&self) -> bool {
        self.is_set.load(Ordering::SeqCst)
    }

    pub(crate) async fn wait(&self) {
        // `notify_waiters` reaches every `Notified` made before it, so making
        // it first and looking second misses nothing.
        let notified = self.waiters.notified();
        if !self.is_set() {
            notified.await;
        }
    }
}

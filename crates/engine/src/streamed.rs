//! Transactions that were streamed and are not yet known to be visible.
//!
//! Postgres decodes a commit as soon as its WAL record is flushed, but shows
//! it to snapshots only when the backend has left the commit, which with a
//! stalled synchronous standby may be never. A shape that registers between
//! the two would have the transaction in neither its snapshot nor its log.
//! So such a snapshot is discarded and taken again (invariant I-7).

use parking_lot::Mutex;
use shape::Visibility;

/// Ids past which whoever adds one asks for a prune.
const MANY: usize = 4096;

#[derive(Debug, Default)]
pub(crate) struct Streamed {
    xids: Mutex<Vec<u32>>,
}

impl Streamed {
    /// Notes the beginning of a transaction in the stream. Returns whether the
    /// list has grown long.
    pub(crate) fn add(&self, xid: u32) -> bool {
        let mut xids = self.xids.lock();
        if xids.last() != Some(&xid) {
            xids.push(xid);
        }
        xids.len() > MANY
    }

    /// Forgets what a snapshot has shown to be visible.
    pub(crate) fn prune(&self, visibility: &Visibility) {
        self.xids.lock().retain(|xid| !visibility.sees(*xid));
    }

    pub(crate) fn list(&self) -> Vec<u32> {
        self.xids.lock().clone()
    }
}

/// The first of `streamed` that a snapshot does not contain.
pub(crate) fn unseen(streamed: &[u32], visibility: &Visibility) -> Option<u32> {
    streamed.iter().copied().find(|xid| !visibility.sees(*xid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_streamed_transaction_is_kept_until_a_snapshot_shows_it() {
        let streamed = Streamed::default();
        for xid in [741, 743, 743, 750] {
            streamed.add(xid);
        }
        streamed.prune(&"743:743:".parse().unwrap());
        assert_eq!(streamed.list(), [743, 750]);
        assert_eq!(unseen(&streamed.list(), &"745:745:".parse().unwrap()), Some(750));
        assert_eq!(unseen(&streamed.list(), &"751:751:".parse().unwrap()), None);
    }
}

//! What one shape's consumer has yet to process.
//!
//! The journal puts transactions in, the consumer takes them out. The queue is
//! bounded (invariant I-12): past the bound it is dropped and the consumer
//! reads the journal's files instead, so a slow consumer never slows the
//! stream. An inbox begins that way too, and is put back to it whenever
//! deliveries may have been lost (its consumer or the journal restarted).

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use change::{Fragment, Lsn};
use parking_lot::Mutex;

use crate::shapes::consumers::consumer;

/// Bytes of WAL messages that wait for one consumer.
const QUEUED_BYTES_MAX: usize = 4 << 20;

#[derive(Debug)]
pub(crate) struct Inbox {
    state: Mutex<State>,
    /// A wake-up is under way, so that a burst is one message.
    woken: AtomicBool,
    consumer: consumer::Mailbox,
}

#[derive(Debug)]
struct State {
    delivery: Delivery,
    /// Everything up to here that concerns the shape is in its log.
    processed_lsn: Lsn,
    /// Everything up to here that concerns the shape is in its segment, synced.
    synced_lsn: Lsn,
    /// Entries are in the log that its last sync did not have.
    unsynced: bool,
}

#[derive(Debug)]
enum Delivery {
    /// Fragments reach the consumer through the queue.
    Queue { fragments: VecDeque<Arc<Fragment>>, byte_count: usize, busy: bool },
    /// The consumer reads the journal; deliveries are not kept.
    Journal,
}

/// What a consumer does next.
#[derive(Debug)]
pub(crate) enum Work {
    Process(Vec<Arc<Fragment>>),
    ReadJournal,
    Wait,
}

impl Inbox {
    /// Of a shape whose log holds everything up to `processed_lsn`.
    pub(crate) fn new(processed_lsn: Lsn, consumer: consumer::Mailbox) -> Self {
        let state = State {
            delivery: Delivery::Journal,
            processed_lsn,
            synced_lsn: processed_lsn,
            unsynced: false,
        };
        Self { state: Mutex::new(state), woken: AtomicBool::new(false), consumer }
    }

    /// Puts a durable fragment in. Call [`Self::wake`] after the last one.
    pub(crate) fn deliver(&self, fragment: &Arc<Fragment>) {
        let mut state = self.state.lock();
        if let Delivery::Queue { fragments, byte_count, .. } = &mut state.delivery {
            *byte_count += fragment.byte_count;
            fragments.push_back(Arc::clone(fragment));
            if *byte_count > QUEUED_BYTES_MAX && fragments.len() > 1 {
                state.delivery = Delivery::Journal;
            }
        }
    }

    /// A consumer begins, with a log that holds everything up to
    /// `processed_lsn`: less than its predecessor had shown, if not all of that
    /// had reached the segment.
    pub(crate) fn restart(&self, processed_lsn: Lsn) {
        let mut state = self.state.lock();
        state.delivery = Delivery::Journal;
        state.processed_lsn = processed_lsn;
    }

    /// From now on the consumer reads the journal, as after a restart.
    pub(crate) fn fall_back(&self) {
        self.state.lock().delivery = Delivery::Journal;
    }

    pub(crate) fn wake(&self) {
        if !self.woken.swap(true, Ordering::AcqRel) {
            // Undelivered means that the consumer is down: it asks when it starts.
            if self.consumer.send(consumer::Message::Wake).is_err() {
                self.woken.store(false, Ordering::Release);
            }
        }
    }

    /// Whoever takes up work after a wake-up says so first, so that what
    /// arrives later wakes it again.
    pub(crate) fn awake(&self) {
        self.woken.store(false, Ordering::Release);
    }

    /// Queued work. The caller ends it with [`Self::processed`].
    pub(crate) fn take(&self) -> Work {
        let mut state = self.state.lock();
        match &mut state.delivery {
            Delivery::Journal => Work::ReadJournal,
            Delivery::Queue { fragments, .. } if fragments.is_empty() => Work::Wait,
            Delivery::Queue { fragments, byte_count, busy } => {
                *byte_count = 0;
                *busy = true;
                Work::Process(std::mem::take(fragments).into())
            }
        }
    }

    /// The consumer has read the journal to its end and wants deliveries. It
    /// must read once more afterwards: what became durable in between was not
    /// delivered.
    pub(crate) fn want_deliveries(&self) {
        // Busy until that last read is done, see `complete_lsn`.
        self.state.lock().delivery =
            Delivery::Queue { fragments: VecDeque::new(), byte_count: 0, busy: true };
    }

    /// The log holds everything that was taken.
    pub(crate) fn processed(&self, lsn: Lsn) {
        let mut state = self.state.lock();
        state.processed_lsn = state.processed_lsn.max(lsn);
        if let Delivery::Queue { busy, .. } = &mut state.delivery {
            *busy = false;
        }
    }

    /// The log has entries that are not yet synced to its segment.
    pub(crate) fn dirty(&self) {
        self.state.lock().unsynced = true;
    }

    /// The segment holds everything up to `lsn`, synced.
    pub(crate) fn synced(&self, lsn: Lsn) {
        let mut state = self.state.lock();
        state.synced_lsn = state.synced_lsn.max(lsn);
        state.unsynced = false;
    }

    /// Up to where the log is complete, given that everything up to
    /// `dispatched_lsn` has been delivered. The caller reads that fact first.
    pub(crate) fn complete_lsn(&self, dispatched_lsn: Lsn) -> Lsn {
        self.state.lock().complete_lsn(dispatched_lsn)
    }

    /// Up to where the journal is not needed for this shape any more.
    pub(crate) fn settled_lsn(&self, dispatched_lsn: Lsn) -> Lsn {
        let state = self.state.lock();
        if state.unsynced { state.synced_lsn } else { state.complete_lsn(dispatched_lsn) }
    }

    pub(crate) fn consumer(&self) -> &consumer::Mailbox {
        &self.consumer
    }

    /// Whether a sync of the segment would let the journal go further.
    pub(crate) fn is_unsynced(&self) -> bool {
        self.state.lock().unsynced
    }
}

impl State {
    fn complete_lsn(&self, dispatched_lsn: Lsn) -> Lsn {
        match &self.delivery {
            // Nothing is under way, so nothing up to there concerns the shape.
            Delivery::Queue { fragments, busy: false, .. } if fragments.is_empty() => {
                self.processed_lsn.max(dispatched_lsn)
            }
            Delivery::Queue { .. } | Delivery::Journal => self.processed_lsn,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fragment(lsn: u64, byte_count: usize) -> Arc<Fragment> {
        Arc::new(Fragment {
            commit_lsn: Lsn(lsn),
            xid: 1,
            changes: Vec::new(),
            commit: None,
            first: true,
            byte_count,
        })
    }

    fn live() -> Inbox {
        let inbox = Inbox::new(Lsn(5), consumer::Mailbox::default());
        assert!(matches!(inbox.take(), Work::ReadJournal));
        inbox.want_deliveries();
        inbox.processed(Lsn(5));
        inbox
    }

    #[test]
    fn nothing_is_claimed_complete_while_work_is_under_way() {
        let inbox = live();
        assert_eq!(inbox.complete_lsn(Lsn(9)), Lsn(9));
        inbox.deliver(&fragment(10, 1));
        assert_eq!(inbox.complete_lsn(Lsn(10)), Lsn(5));
        assert!(matches!(inbox.take(), Work::Process(all) if all.len() == 1));
        assert_eq!(inbox.complete_lsn(Lsn(10)), Lsn(5));
        inbox.processed(Lsn(10));
        assert_eq!(inbox.complete_lsn(Lsn(12)), Lsn(12));
    }

    #[test]
    fn the_journal_is_needed_until_the_segment_is_synced() {
        let inbox = live();
        inbox.deliver(&fragment(10, 1));
        assert!(matches!(inbox.take(), Work::Process(_)));
        inbox.dirty();
        inbox.processed(Lsn(10));
        assert_eq!(inbox.settled_lsn(Lsn(12)), Lsn(5));
        inbox.synced(Lsn(10));
        assert_eq!(inbox.settled_lsn(Lsn(12)), Lsn(12));
    }

    #[test]
    fn a_reborn_consumer_claims_no_more_than_its_segment_holds() {
        let inbox = live();
        inbox.deliver(&fragment(100, 1));
        assert!(matches!(inbox.take(), Work::Process(_)));
        inbox.dirty();
        inbox.processed(Lsn(100));
        // Its successor finds 50 in the segment, and is asked for a sync
        // before it has replayed the rest.
        inbox.restart(Lsn(50));
        inbox.synced(Lsn(50));
        assert_eq!(inbox.settled_lsn(Lsn(200)), Lsn(50));
    }

    #[test]
    fn a_full_queue_sends_the_consumer_to_the_journal() {
        let inbox = live();
        inbox.deliver(&fragment(10, QUEUED_BYTES_MAX));
        inbox.deliver(&fragment(11, 1));
        assert!(matches!(inbox.take(), Work::ReadJournal));
        assert_eq!(inbox.complete_lsn(Lsn(11)), Lsn(5));
    }
}

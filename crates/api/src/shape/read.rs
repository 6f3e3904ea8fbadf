//! Reading a log without holding up the other requests of a worker thread.

use std::sync::Arc;

use engine::LiveShape;
use shape::RequestOffset;
use storage::{ReadError, Slice};
use tokio::sync::Semaphore;

/// What a log holds after an offset.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) slice: Slice,
    /// Asked before the log was read: everything up to here that concerns the
    /// shape is in the log that was read.
    pub(super) seen_lsn: u64,
}

impl Part {
    /// At the end, with nothing to send.
    pub(super) fn is_empty(&self) -> bool {
        self.slice.at_end && self.slice.body.iter().all(|bytes| bytes.is_empty())
    }
}

/// File reads that may go on at once. More would only make more threads.
pub(crate) const READS_MAX: usize = 32;

pub(super) async fn read(
    files: &Semaphore,
    shape: &Arc<LiveShape>,
    after: RequestOffset,
) -> Result<Part, ReadError> {
    let seen_lsn = shape.seen_lsn();
    let slice = if shape.log.is_in_memory(after) {
        shape.log.read(after)?
    } else {
        let _turn = files.acquire().await;
        let shape = Arc::clone(shape);
        let reading = tokio::task::spawn_blocking(move || shape.log.read(after));
        reading.await.unwrap_or_else(|failure| std::panic::resume_unwind(failure.into_panic()))?
    };
    Ok(Part { slice, seen_lsn })
}

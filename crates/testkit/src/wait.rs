//! Waiting on a condition: the only poll loop of the tests.
//!
//! A test never sleeps and hopes. It names what it waits for, and when that
//! does not come it fails with the name.

use std::time::{Duration, Instant};

/// How often a condition is looked at again.
const INTERVAL: Duration = Duration::from_millis(10);

/// Runs `probe` until it gives a value.
///
/// # Panics
/// When that takes longer than `limit`.
pub async fn until<T>(what: &str, limit: Duration, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = probe().await {
            return value;
        }
        assert!(start.elapsed() < limit, "waited {limit:?} in vain for {what}");
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Lets time pass where time itself is the stimulus: the pace of a load, the
/// moment of a kill. Never a way to wait for something to have happened.
pub async fn pace(duration: Duration) {
    tokio::time::sleep(duration).await;
}

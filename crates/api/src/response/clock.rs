//! The wall clock, for the two values that outlive the process: cursors and
//! unique tags.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

#[expect(
    clippy::disallowed_methods,
    reason = "cursors are part of URLs that all servers and clients share"
)]
pub(crate) fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

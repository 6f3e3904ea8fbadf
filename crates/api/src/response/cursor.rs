//! `electric-cursor`: all clients inside one long-poll window get the same one,
//! so that a cache collapses their next requests into one; and it always
//! exceeds the client's, so that no cached reply can send it back to the same
//! URL.

use std::time::Duration;

use super::clock::since_1970;

/// 2024-10-09T00:00:00Z in Unix seconds, from which windows are counted.
const EPOCH_S: u64 = 1_728_432_000;
const JITTER_S_MAX: u64 = 3600;

pub(crate) fn cursor(long_poll_timeout: Duration, previous: u64) -> u64 {
    let now_s = since_1970().as_secs().saturating_sub(EPOCH_S);
    next(now_s, long_poll_timeout, previous, || rand::random_range(1..=JITTER_S_MAX))
}

fn next(now_s: u64, timeout: Duration, previous: u64, jitter: impl FnOnce() -> u64) -> u64 {
    let window_s = timeout.as_secs();
    if window_s == 0 {
        return 0;
    }
    let end_of_window = now_s.div_ceil(window_s) * window_s;
    if end_of_window > previous { end_of_window } else { previous.saturating_add(jitter()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(now_s: u64, timeout_ms: u64, previous: u64, expected: u64) {
        let timeout = Duration::from_millis(timeout_ms);
        assert_eq!(next(now_s, timeout, previous, || 7), expected, "at {now_s} after {previous}");
    }

    #[test]
    fn a_window_has_one_cursor() {
        check(41, 20_000, 0, 60);
        check(59, 20_000, 0, 60);
        check(60, 20_000, 0, 60);
        check(61, 20_000, 60, 80);
        check(61, 20_999, 60, 80);
    }

    #[test]
    fn the_cursor_always_exceeds_the_clients() {
        check(41, 20_000, 60, 67);
        check(41, 20_000, 1000, 1007);
        assert!(cursor(Duration::from_secs(20), 1 << 40) > 1 << 40);
        assert_eq!(cursor(Duration::from_secs(20), 0) % 20, 0);
    }

    #[test]
    fn a_timeout_below_a_second_has_no_windows() {
        check(41, 999, 0, 0);
        check(41, 999, 1000, 0);
    }
}

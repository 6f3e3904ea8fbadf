//! When a restart is one too many, and how long one waits.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::spec::Intensity;

/// An incarnation that lived this long was healthy: the next failure of its
/// child is a first one again.
const HEALTHY_AFTER: Duration = Duration::from_secs(5);

const FIRST_DELAY: Duration = Duration::from_millis(10);
const DELAY_FACTOR: u32 = 5;
const DELAY_MAX: Duration = Duration::from_secs(5);

/// The times of the restarts within the period, oldest first.
#[derive(Debug)]
pub(crate) struct Window {
    intensity: Intensity,
    times: VecDeque<Instant>,
}

impl Window {
    pub(crate) fn new(intensity: Intensity) -> Self {
        Self { intensity, times: VecDeque::new() }
    }

    /// Counts a restart; false if it is one more than the intensity allows.
    pub(crate) fn add(&mut self, now: Instant) -> bool {
        let period = self.intensity.period;
        while self.times.front().is_some_and(|time| now.duration_since(*time) > period) {
            self.times.pop_front();
        }
        // One more than allowed is as good as many more, and a supervisor that
        // cools down stays past its limit for long.
        if self.times.len() > self.intensity.restarts {
            self.times.pop_front();
        }
        self.times.push_back(now);
        self.times.len() <= self.intensity.restarts
    }

    pub(crate) fn len(&self) -> usize {
        self.times.len()
    }
}

/// Failures of one child in a row.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failure_count: u32,
}

impl Backoff {
    /// The delay before the next restart: 0, 10 ms, 50 ms, … 5 s, the latter
    /// ones less up to half at random.
    pub(crate) fn next(&mut self, uptime: Duration) -> Duration {
        if uptime >= HEALTHY_AFTER {
            self.failure_count = 0;
        }
        let delay = Self::full(self.failure_count);
        self.failure_count = self.failure_count.saturating_add(1);
        delay.mul_f64(rand::random_range(0.5..=1.0))
    }

    fn full(failure_count: u32) -> Duration {
        match failure_count {
            0 => Duration::ZERO,
            1..=4 => FIRST_DELAY * DELAY_FACTOR.pow(failure_count - 1),
            5.. => DELAY_MAX,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{Backoff, Window};
    use crate::spec::Intensity;

    #[test]
    fn the_intensity_is_exceeded_by_one_restart_more_than_allowed_in_the_period() {
        let mut window = Window::new(Intensity::new(2, Duration::from_secs(5)));
        let start = Instant::now();
        assert!(window.add(start));
        assert!(window.add(start + Duration::from_secs(1)));
        assert!(!window.add(start + Duration::from_secs(5)), "the edge of the period counts");
        assert!(!window.add(start + Duration::from_secs(6)));
        assert!(window.add(start + Duration::from_secs(20)));
        assert_eq!(window.len(), 1);
    }

    #[test]
    fn an_intensity_of_zero_allows_no_restart() {
        let mut window = Window::new(Intensity::new(0, Duration::from_secs(1)));
        assert!(!window.add(Instant::now()));
    }

    #[test]
    fn the_delay_grows_to_five_seconds_and_starts_again_after_health() {
        let mut backoff = Backoff::default();
        for full in [0, 10, 50, 250, 1250, 5000, 5000] {
            let full = Duration::from_millis(full);
            let delay = backoff.next(Duration::ZERO);
            assert!(delay <= full && delay >= full / 2, "{delay:?} for {full:?}");
        }
        assert_eq!(backoff.next(Duration::from_secs(5)), Duration::ZERO);
    }
}

//! How long others may keep an answer (protocol §3.6).

use std::time::Duration;

use http::header::{CACHE_CONTROL, HeaderMap, HeaderValue};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Freshness {
    /// `offset=-1`: a week in browsers, an hour in shared caches, then
    /// revalidated.
    Start,
    /// Any other reply that was not live: chunks, up-to-date, `now`.
    Log {
        max_age: Duration,
        stale_age: Duration,
    },
    Live,
    Sse {
        timeout: Duration,
    },
    RotatedTo,
    Rotated,
    /// POST and DELETE.
    Never,
    /// The protocol's headers for a failure, `surrogate-control` apart.
    Failure,
}

impl Freshness {
    pub(crate) fn set(self, headers: &mut HeaderMap) {
        let value = HeaderValue::try_from(self.header()).expect("the texts are ASCII");
        headers.insert(CACHE_CONTROL, value);
    }

    fn header(self) -> String {
        match self {
            Self::Start => {
                "public, max-age=604800, s-maxage=3600, stale-while-revalidate=2629746".to_owned()
            }
            Self::Log { max_age, stale_age } => format!(
                "public, max-age={}, stale-while-revalidate={}",
                max_age.as_secs(),
                stale_age.as_secs()
            ),
            Self::Live => "public, max-age=5, stale-while-revalidate=5".to_owned(),
            Self::Sse { timeout } => {
                format!("public, max-age={}", timeout.as_secs().saturating_sub(1).max(1))
            }
            Self::RotatedTo => "public, max-age=60, must-revalidate".to_owned(),
            Self::Rotated => "public, max-age=1, must-revalidate".to_owned(),
            Self::Never => "no-cache".to_owned(),
            Self::Failure => "no-store".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(freshness: Freshness, expected: &str) {
        assert_eq!(freshness.header(), expected);
    }

    #[test]
    fn headers_are_those_of_the_protocols_matrix() {
        let (max_age, stale_age) = (Duration::from_secs(60), Duration::from_secs(300));
        check(
            Freshness::Start,
            "public, max-age=604800, s-maxage=3600, stale-while-revalidate=2629746",
        );
        check(
            Freshness::Log { max_age, stale_age },
            "public, max-age=60, stale-while-revalidate=300",
        );
        check(Freshness::Live, "public, max-age=5, stale-while-revalidate=5");
        check(Freshness::Sse { timeout: Duration::from_secs(60) }, "public, max-age=59");
        check(Freshness::Sse { timeout: Duration::ZERO }, "public, max-age=1");
        check(Freshness::RotatedTo, "public, max-age=60, must-revalidate");
        check(Freshness::Rotated, "public, max-age=1, must-revalidate");
        check(Freshness::Never, "no-cache");
        check(Freshness::Failure, "no-store");
    }
}

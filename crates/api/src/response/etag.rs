//! Entity tags: handle, requested offset and the offset the reply reaches. The
//! same tag means the same bytes.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use shape::{Handle, Offset, RequestOffset};

use super::clock::since_1970;

/// Displays without the quotes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Etag<'a> {
    pub(crate) handle: &'a Handle,
    pub(crate) from: RequestOffset,
    pub(crate) to: Offset,
    /// For a reply without news: it must never be found unchanged, or the
    /// client would not move to a new cursor.
    pub(crate) unique: Option<u64>,
}

impl fmt::Display for Etag<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { handle, from, to, unique } = self;
        write!(f, "{handle}:{from}:{to}")?;
        unique.map_or(Ok(()), |unique| write!(f, ":{unique}"))
    }
}

/// Numbers for replies without news.
#[derive(Clone, Debug)]
pub(crate) struct Etags(Arc<AtomicU64>);

impl Default for Etags {
    /// Starts above what earlier processes handed out.
    fn default() -> Self {
        let micros = u64::try_from(since_1970().as_micros()).unwrap_or_default();
        Self(Arc::new(AtomicU64::new(micros)))
    }
}

impl Etags {
    pub(crate) fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

/// Whether a list as in `If-None-Match` names `tag`. Weak tags and `*` never
/// match.
pub(crate) fn is_match(list: &str, tag: &str) -> bool {
    list.split(',').any(|part| part.trim_matches([' ', '"', '\t']) == tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_names_handle_request_and_reply() {
        let handle: Handle = "7-8".parse().unwrap();
        let (handle, to) = (&handle, Offset::new(0, 0));
        let tag = Etag { handle, from: RequestOffset::Start, to, unique: None };
        assert_eq!(tag.to_string(), "7-8:-1:0_0");
        let tag =
            Etag { from: RequestOffset::Now, to: Offset::SNAPSHOT_END, unique: Some(3), ..tag };
        assert_eq!(tag.to_string(), "7-8:now:0_inf:3");
    }

    #[track_caller]
    fn check(list: &str, expected: bool) {
        assert_eq!(is_match(list, "h:-1:0_0"), expected, "{list:?}");
    }

    #[test]
    fn a_list_matches_by_exact_strong_tags_only() {
        check("\"h:-1:0_0\"", true);
        check("h:-1:0_0", true);
        check("\"x\", \"h:-1:0_0\" ,\"y\"", true);
        check("W/\"h:-1:0_0\"", false);
        check("*", false);
        check("", false);
        check("\"h:-1:0_\"", false);
    }

    #[test]
    fn numbers_never_repeat() {
        let etags = Etags::default();
        assert_ne!(etags.next(), etags.next());
    }
}

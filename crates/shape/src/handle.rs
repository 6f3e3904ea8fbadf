//! The name of one incarnation of a shape.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Names one materialisation of a shape; never reused (invariant I-13).
/// Opaque to clients. It is also a folder name and part of a URL, so its
/// alphabet is ASCII letters, digits and `-`, and at most 64 of them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Handle(Arc<str>);

/// The text is not a handle that Leyden could have given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a shape handle")]
pub struct ParseHandleError;

impl Handle {
    /// `{hash of the definition}-{microseconds}`. Whoever calls sees to it that
    /// the time part never repeats.
    pub fn new(identity: &str, micros: u64) -> Self {
        let hash = xxhash_rust::xxh3::xxh3_64(identity.as_bytes());
        Self(format!("{}-{micros}", hash >> 1).into())
    }

    /// The time part, which later handles must exceed.
    pub fn micros(&self) -> Option<u64> {
        self.0.rsplit_once('-')?.1.parse().ok()
    }
}

impl FromStr for Handle {
    type Err = ParseHandleError;

    fn from_str(text: &str) -> Result<Self, ParseHandleError> {
        let valid = !text.is_empty()
            && text.len() <= 64
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if valid { Ok(Self(text.into())) } else { Err(ParseHandleError) }
    }
}

impl TryFrom<String> for Handle {
    type Error = ParseHandleError;

    fn try_from(text: String) -> Result<Self, ParseHandleError> {
        text.parse()
    }
}

impl From<Handle> for String {
    fn from(handle: Handle) -> Self {
        handle.0.as_ref().into()
    }
}

impl AsRef<str> for Handle {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// A map keyed by handle can be asked with the text of a request.
impl std::borrow::Borrow<str> for Handle {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_is_safe_in_a_path_and_in_a_url() {
        let handle = Handle::new("anything/../\"x\"", 7);
        assert_eq!(handle.to_string().parse(), Ok(handle.clone()));
        assert_eq!(handle.micros(), Some(7));
        for bad in ["", "..", "a/b", "a b", "é", &"x".repeat(65)] {
            assert_eq!(bad.parse::<Handle>(), Err(ParseHandleError), "{bad:?}");
        }
    }
}

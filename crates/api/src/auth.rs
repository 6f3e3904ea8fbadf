//! The shared secret: query parameter `secret`, or the deprecated `api_secret`
//! when that is absent.

use std::hint::black_box;

use crate::config::Secret;
use crate::request::Query;

pub(crate) fn is_authorised(secret: Option<&Secret>, query: &Query) -> bool {
    let Some(secret) = secret else { return true };
    let given = query.get("secret").or_else(|| query.get("api_secret"));
    given.is_some_and(|given| is_equal(secret.as_bytes(), given.as_bytes()))
}

/// Takes a time that depends on the length of what the client sent only.
fn is_equal(secret: &[u8], given: &[u8]) -> bool {
    if secret.is_empty() {
        return false;
    }
    let mut difference = secret.len() ^ given.len();
    for (byte, expected) in given.iter().zip(secret.iter().cycle()) {
        difference = black_box(difference | usize::from(byte ^ expected));
    }
    difference == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(query: &str, expected: bool) {
        let secret = Secret::new("s3cret");
        assert_eq!(is_authorised(Some(&secret), &Query::parse(query)), expected, "{query:?}");
    }

    #[test]
    fn only_the_exact_secret_is_let_in() {
        check("secret=s3cret", true);
        check("table=x&secret=s3%63ret", true);
        check("api_secret=s3cret", true);
        check("secret=s3cret&api_secret=wrong", true);
        check("", false);
        check("secret=", false);
        check("secret=s3cre", false);
        check("secret=s3crets3cret", false);
        check("secret=S3cret", false);
        check("secret=wrong&api_secret=s3cret", false);
        check("secret=&api_secret=s3cret", false);
    }

    #[test]
    fn without_a_secret_everybody_is_let_in_and_an_empty_one_lets_nobody_in() {
        assert!(is_authorised(None, &Query::parse("")));
        assert!(!is_authorised(Some(&Secret::new("")), &Query::parse("secret=")));
    }
}
